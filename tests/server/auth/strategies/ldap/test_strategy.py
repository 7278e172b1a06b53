"""Users of an OpenLDAP directory, a real one (security checks D1, D2, D4)."""

import asyncio
import importlib
import logging
import re
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.app.strategies import check
from server.auth.identity.user import User
from server.auth.login.flow import LoginFlow
from server.auth.strategies.ldap.settings import LdapSettings
from server.config.model import Config
from server.core.config_file import shown_tree
from server.storage.rows import Table
from tests.server.auth.audit.test_events import events
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.providers.ldap import BASE, GROUPS, ODD, PEOPLE, SECRET, Slapd, slapd
from tests.support.server import TRANSPORTS, Envelope, Running, cheap_config, running

PAGE = Path(__file__).parents[5] / "docs/strategies/ldap.md"
REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
TOO_MANY = {"id": "api.process.too_many_logins_requests", "code": 33685517, "status": 429}
UNAVAILABLE = {"id": "core.fatal.service_unavailable", "code": 2, "status": 500}
WRONG = "wrong user or password"
CREATE = "auth:createMyCredentials"
ADMINS, STAFF = f"cn=admins,{GROUPS}", f"cn=staff,{GROUPS}"
MAPPED = {"groupProfiles": {ADMINS: "admin", STAFF: ["default", "staff"]}}
BY_MEMBER = {**MAPPED, "groupFilter": "(member={dn})"}


def example(name: str) -> dict[str, object]:
    """Give a table of the page about directories."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [one for one in blocks if f"# {name}" in one]
    table: dict[str, object] = tomllib.loads(block)["strategies"]["staff"]
    return table


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A directory with Ann and Bob."""
    with slapd(tmp_path_factory.mktemp("slapd")) as started:
        started.add_person("bob")
        started.add_person("nopass", password="")
        yield started


@pytest.fixture
def ann(directory: Slapd) -> str:
    """Ann's entry, as it is at first."""
    directory.remove(f"uid=anna,{PEOPLE}")
    return directory.add_person("ann", mail="ann@example.test")


def config_of(**table: object) -> Config:
    """Give a configuration with such a strategy, `ldap`."""
    return cheap_config(strategies={"ldap": table})


@pytest.fixture
async def server(directory: Slapd, ann: str) -> AsyncIterator[Running]:
    """A server that asks the directory."""
    async with running(config_of(**directory.settings())) as started:
        yield started


async def login(
    server: Running, username: object = "ann", password: object = SECRET, transport: str = "query"
) -> Envelope:
    """Log in."""
    body = {"username": username, "password": password}
    return await server.call(transport, "auth:login", strategy="ldap", body=body)


async def kuid_of(server: Running, username: str = "ann", password: str = SECRET) -> str:
    """Log in and give who that is."""
    answer = await login(server, username, password)
    assert answer["status"] == 200, answer
    return answer["result"]["_id"]


async def source_of(server: Running, username: str = "ann") -> dict:
    """Log in and give the user's document."""
    answer = await login(server, username)
    assert answer["status"] == 200, answer
    shown = await server.call("query", "auth:getCurrentUser", token=answer["result"]["jwt"])
    return shown["result"]["_source"]


async def count(server: Running) -> list[int]:
    """Count users and credentials."""
    storage = server.app.services.storage
    return [await storage.count(table) for table in (Table.USERS, Table.CREDENTIALS)]


async def reasons(server: Running, admin: str) -> list[str]:
    """Give why logins were refused, oldest first."""
    found = await events(server, admin, kind="auth:login", outcome="refused")
    return [one["reason"] for one in reversed(found)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_first_login_makes_a_user(directory: Slapd, ann: str, transport: str) -> None:
    """With a kuid of his own, the profiles of everybody and the attributes to keep."""
    kept = {"persist": ["mail", "cn", "userPassword"], "kuzzleAttributesMapping": {"mail": "email"}}
    async with running(config_of(**directory.settings(**kept))) as server:
        first = await login(server, transport=transport)
        assert first["status"] == 200, first
        token, kuid = first["result"]["jwt"], first["result"]["_id"]
        shown = (await server.call(transport, "auth:getCurrentUser", token=token))["result"]
        assert shown["strategies"] == ["ldap"]
        source = shown["_source"]
        assert (source["profileIds"], source["email"], source["cn"]) == (
            ["default"],
            "ann@example.test",
            "ann",
        )
        mine = await server.call(transport, "auth:getMyCredentials", token=token, strategy="ldap")
        attributes = {"email": "ann@example.test", "cn": "ann"}
        assert mine["result"] | {"identifier": ""} == {
            **{"identifier": "", "dn": ann, "username": "ann"},
            **{"attributes": attributes, "kuid": kuid},
        }
        assert (await login(server, transport=transport))["result"]["_id"] == kuid
        assert await count(server) == [1, 1]


async def test_two_first_logins_at_once_make_one_user(server: Running) -> None:
    found = await asyncio.gather(*(kuid_of(server) for _ in range(4)))
    assert len(set(found)) == 1
    assert await count(server) == [1, 1]


async def test_identity_is_what_never_changes(directory: Slapd, ann: str) -> None:
    """A new name is the same user, and what is kept follows; the old name, given to somebody else,
    is somebody else."""
    async with running(config_of(**directory.settings(persist=["mail"]))) as server:
        kuid = await kuid_of(server)
        directory.rename(ann, "uid=anna")
        directory.change(f"uid=anna,{PEOPLE}", mail="anna@example.test")
        assert await kuid_of(server, "anna") == kuid
        row = await server.app.services.storage.get(Table.CREDENTIALS, kuid=kuid, strategy="ldap")
        assert row is not None
        assert row["data"] == {
            "dn": f"uid=anna,{PEOPLE}",
            "username": "anna",
            "attributes": {"mail": "anna@example.test"},
        }
        directory.add_person("ann")
        assert await kuid_of(server, "ann") != kuid


@pytest.mark.parametrize("mode", ["settings", "direct"])
@pytest.mark.parametrize("spelled", ["ANN", "  ann ", "Ann", "\uff41\uff4e\uff4e"])
async def test_other_spellings_are_the_same_user(
    directory: Slapd, ann: str, mode: str, spelled: str
) -> None:
    """What the directory takes for the same name: case, blanks, widths."""
    async with running(config_of(**getattr(directory, mode)())) as server:
        assert await kuid_of(server, spelled) == await kuid_of(server)
        assert await count(server) == [1, 1]


INJECTED = [
    *("*", "a*", "ann)(uid=*", "*)(uid=*))(|(uid=*", "ann\0", "\0", "\\2a", "ann\\", "\\61nn"),
    *("ann,ou=people", "ann+cn=x", f"ann,{PEOPLE}", "#616e6e", '"ann"', "<ann>", "{username}"),
    *("x" * 2000, "\u0430nn", "ann\u200b", "ann\u0301", " ", "a\nn", "(", ")", "&", "|"),
]


@pytest.mark.parametrize("mode", ["settings", "direct"])
async def test_nothing_typed_becomes_a_question(directory: Slapd, ann: str, mode: str) -> None:
    """D1: as filters and as names; one answer to all, nothing is made, a line for each."""
    config = config_of(**getattr(directory, mode)())
    config = replace(config, limits=replace(config.limits, failed_logins=0))
    async with running(config) as server:
        admin = await server.create_admin()
        before = await count(server)
        for name in INJECTED:
            answer = await login(server, name)
            assert (told(answer), answer["error"]["message"]) == (REFUSED, WRONG), name
            assert await count(server) == before
        lines = await events(server, admin, kind="auth:login", outcome="refused")
        assert sum(line["count"] for line in lines) >= len(INJECTED)
        assert "\0" not in repr(lines)


@pytest.mark.parametrize("mode", ["settings", "direct"])
async def test_names_may_hold_anything(directory: Slapd, mode: str) -> None:
    """D1: what is escaped is found again."""
    directory.add_person(ODD)
    async with running(config_of(**getattr(directory, mode)())) as server:
        assert (await login(server, ODD))["status"] == 200
        assert told(await login(server, ODD, "wrong")) == REFUSED


@pytest.mark.parametrize("password", ["", None, "\0", f"{SECRET}\0", 7, ["x"], "x" * 5000])
@pytest.mark.parametrize("username", ["ann", "", None, "nobody"])
async def test_an_empty_password_never_reaches_the_directory(
    directory: Slapd, password: object, username: object
) -> None:
    """D2: which has no server here, and nobody notices."""
    table = directory.settings(servers=["ldap://127.0.0.1:1"])
    async with running(config_of(**table)) as server:
        answer = await login(server, username, password)
        assert answer["error"]["status"] in (400, 401), answer
        assert await count(server) == [0, 0]
        if not password:
            message = "username and password are required"
            assert (told(answer), answer["error"]["message"]) == (REFUSED, message)


async def test_strangers_learn_nothing(directory: Slapd, ann: str) -> None:
    """D4, A1, A3: an unknown name, a wrong password, an entry without one, several entries, a user
    disabled here; the audit trail knows, and whom it was about."""
    directory.add(f"cn=other,{PEOPLE}", "inetOrgPerson", uid="twin", cn="other", sn="x")
    directory.add_person("twin")
    config = config_of(**directory.settings())
    async with running(replace(config, limits=replace(config.limits, failed_logins=0))) as server:
        admin = await server.create_admin()
        kuid, off = await kuid_of(server), await kuid_of(server, "bob")
        await server.call("query", "security:disableUser", token=admin, _id=off)
        answers = [
            await login(server, *given)
            for given in [
                *(("nobody", SECRET), ("ann", "wrong"), ("nopass", SECRET), ("twin", SECRET)),
                *(("bob", SECRET), ("service", SECRET)),
            ]
        ]
        errors = [{**told(answer), "m": answer["error"]["message"]} for answer in answers]
        assert errors == [{**REFUSED, "m": WRONG}] * 6
        lines = await events(server, admin, kind="auth:login", outcome="refused")
        assert {(line["reason"], line["subject"], line["count"]) for line in lines} == {
            ("unknown user", "", 2),
            ("wrong password", kuid, 1),
            ("wrong password", "", 1),
            ("several entries", "", 1),
            ("disabled user", off, 1),
        }
        assert SECRET not in repr(lines)


async def test_unknown_names_cost_a_bind_too(
    directory: Slapd, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A2: as many questions of the same kind, whether there is somebody or not."""
    link = sys.modules["server.auth.strategies.ldap.pool"].Link
    asked: list[str] = []
    for name in ("bind", "search"):
        was = getattr(link, name)

        def noted(self: object, *given: object, was=was, name=name) -> object:
            asked.append(name)
            return was(self, *given)

        monkeypatch.setattr(link, name, noted)
    await login(server, "ann", "wrong")  # opens the connections
    asked.clear()
    for username in ("ann", "nobody", "twin"):
        assert told(await login(server, username, "wrong")) == REFUSED
    assert asked == ["search", "bind"] * 3


async def test_guesses_are_counted_by_account(directory: Slapd, ann: str) -> None:
    """A4: however it is spelled; an unknown one alike."""
    config = config_of(**directory.settings())
    limits = replace(config.limits, failed_logins=3)
    async with running(replace(config, limits=limits)) as server:
        for names in (("ann", "ANN ", "\uff41nn"), ("who", "Who", "w\u200bho")):
            for name in names:
                assert told(await login(server, name, "wrong")) == REFUSED
            assert told(await login(server, names[0])) == TOO_MANY


async def test_guesses_are_counted_by_entry_whatever_its_name(
    directory: Slapd, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A6: an entry found by user name, number and several mail addresses has the limit of one
    account; names of nobody count each for themselves, and before that all answer alike."""
    monkeypatch.setattr("server.app.application.clock_s", lambda: 1000.0)
    mails = [f"ann{number}@example.test" for number in range(20)]
    directory.remove(ann)
    directory.add_person("ann", mail=mails)
    people = "(&(objectClass=inetOrgPerson)(|(uid={username})(mail={username})))"
    config = config_of(**directory.settings(filter=people))
    server_settings = replace(config.server, trusted_proxies=("127.0.0.1",))
    limits = replace(config.limits, failed_logins=2)
    async with running(replace(config, server=server_settings, limits=limits)) as server:
        http = await server.connect()

        async def guess(name: str, number: int, *, is_right: bool = False) -> int:
            headers = {"X-Forwarded-For": f"192.0.2.{number}"}
            body = {"username": name, "password": SECRET if is_right else "wrong"}
            return (await http.ask("POST", "/_login/ldap", body, headers=headers)).status

        for number, name in enumerate(mails):
            assert await guess(name, number) == 401
            assert await guess(f"who{number}", number) == 401
        assert await guess(mails[0], 100, is_right=True) == 429
        assert await guess(mails[-1], 101, is_right=True) == 429
        assert await guess("who0", 102) == 401
        # A name that was never tried is found to be hers only by trying it, once.
        assert await guess("ann", 103) == 401
        assert await guess("ann", 104) == 429


async def test_known_device_of_a_directory_passes_the_wait_of_its_account(
    directory: Slapd, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5: by the user name, and by another name of the same entry."""
    monkeypatch.setattr("server.app.application.clock_s", lambda: 1000.0)
    people = "(&(objectClass=inetOrgPerson)(|(uid={username})(mail={username})))"
    config = config_of(**directory.settings(filter=people))
    limits = replace(config.limits, failed_logins=2)
    async with running(replace(config, limits=limits)) as server:
        token = (await login(server))["result"]["jwt"]
        for name in ("ANN", "ann@example.test"):
            for _ in range(2):
                assert told(await login(server, name, "wrong")) == REFUSED
            assert told(await login(server, name)) == TOO_MANY
            body = {"username": name, "password": SECRET, "previousToken": token}
            answer = await server.call("query", "auth:login", strategy="ldap", body=body)
            assert answer["status"] == 200, answer


async def test_a_password_that_must_be_changed(directory: Slapd) -> None:
    """D4: OpenLDAP lets him in to change it, and nothing else; a locked account."""
    policy = f"cn=policy,{BASE}"
    directory.add(
        *(policy, "device", "pwdPolicy"),
        **{"cn": "policy", "pwdAttribute": "userPassword", "pwdMustChange": "TRUE"},
        **{"pwdLockout": "TRUE", "pwdMaxFailure": "2", "pwdLockoutDuration": "0"},
    )
    try:
        late = directory.add_person("late")
        directory.add_person("shut")
        directory.change(late, pwdReset="TRUE")
        async with running(config_of(**directory.settings())) as server:
            admin = await server.create_admin()
            answers = [await login(server, "late")]
            answers += [await login(server, "shut", "wrong") for _ in range(2)]
            answers += [await login(server, "shut")]
            assert [told(one) for one in answers] == [REFUSED] * 4
            found = await reasons(server, admin)
            assert found[0] == "password must be changed"
            assert (await count(server))[1] == 1
    finally:
        directory.remove(policy)


@pytest.mark.parametrize("how", [MAPPED, BY_MEMBER])
async def test_groups_give_profiles(directory: Slapd, ann: str, how: dict[str, object]) -> None:
    """By his own `memberOf`, in whatever spelling, or by a question to each group."""
    directory.add_group("admins", ann)
    spelled = {ADMINS.upper().replace(",", " , "): "admin"} if how is MAPPED else {ADMINS: "admin"}
    table = directory.settings(**{**how, "groupProfiles": spelled})
    async with running(config_of(**table)) as server:
        assert (await source_of(server))["profileIds"] == ["default", "admin"]
        assert (await source_of(server, "bob"))["profileIds"] == ["default"]


async def test_groups_of_user_names(directory: Slapd, ann: str) -> None:
    """`memberUid`, asked with the name as the directory writes it."""
    group = f"cn=posix,{GROUPS}"
    directory.add(group, "posixGroup", cn="posix", gidNumber="1", memberUid="ann")
    table = directory.settings(groupProfiles={group: "admin"}, groupFilter="(memberUid={username})")
    async with running(config_of(**table)) as server:
        assert (await source_of(server, "ANN"))["profileIds"] == ["default", "admin"]


async def test_a_group_of_a_similar_name_is_another(directory: Slapd, ann: str) -> None:
    """What Unicode takes for the same letters in two cases is two names to a directory."""
    named, similar = f"cn=gross admins,{GROUPS}", f"cn=gro\u00df admins,{GROUPS}"
    directory.add_group("gross admins", f"uid=bob,{PEOPLE}")
    directory.add_group("gro\u00df admins", ann)
    table = directory.settings(groupProfiles={named: "admin"})
    try:
        async with running(config_of(**table)) as server:
            assert (await source_of(server))["profileIds"] == ["default"]
            assert (await source_of(server, "bob"))["profileIds"] == ["default", "admin"]
    finally:
        directory.remove(named)
        directory.remove(similar)


async def test_an_identifier_in_two_languages_is_none(
    directory: Slapd, ann: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 4512 §2.5: an attribute with an option is a further value of the same attribute."""
    directory.change(f"uid=bob,{PEOPLE}", employeeNumber="7")
    directory.change(ann, **{"employeeNumber": "5", "employeeNumber;lang-de": "7"})
    table = directory.settings(identifierAttribute="employeeNumber")
    async with running(config_of(**table)) as server:
        bob = await kuid_of(server, "bob")
        answer = await login(server)
        assert told(answer) == UNAVAILABLE
        assert "identifierAttribute: an entry has no readable employeeNumber" in caplog.text
        directory.change(ann, **{"employeeNumber;lang-de": None})
        assert await kuid_of(server) != bob


async def test_an_entry_that_can_not_be_used_is_not_told_from_none(
    directory: Slapd, ann: str
) -> None:
    """A1: that it has no identifier shows after its password only."""
    table = directory.settings(identifierAttribute="departmentNumber")
    async with running(config_of(**table)) as server:
        assert told(await login(server)) == UNAVAILABLE
        wrong, nobody = await login(server, "ann", "no"), await login(server, "nobody", "no")
        assert told(wrong) == REFUSED
        assert wrong["error"] == nobody["error"]


async def test_credentials_removed_in_the_same_moment_give_no_token(
    directory: Slapd, ann: str, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an administrator takes away while a password is on its way lets nobody in."""
    admin, kuid = await server.create_admin(), await kuid_of(server)
    sessions = await server.app.services.storage.count(Table.SESSIONS)
    find_user = LoginFlow._find_user

    async def find_late(self: LoginFlow, name: str, found: object) -> User:
        asked = {"token": admin, "strategy": "ldap", "_id": kuid}
        gone = await server.call("query", "security:deleteCredentials", **asked)
        assert gone["status"] == 200
        return await find_user(self, name, found)

    monkeypatch.setattr(LoginFlow, "_find_user", find_late)
    assert told(await login(server)) == REFUSED
    assert await server.app.services.storage.count(Table.SESSIONS) == sessions


async def test_an_entry_replaced_in_the_same_moment_is_another(
    directory: Slapd, ann: str, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was found is who must have bound: his name may have become somebody else's."""
    admin = await server.create_admin()
    await kuid_of(server)
    before = await count(server)
    links = importlib.import_module("server.auth.strategies.ldap.pool").Link
    bind = links.bind

    def bind_and_lose(self: object, name: str, password: str) -> str:
        refused: str = bind(self, name, password)
        if name == ann:
            directory.add_person("ann")
        return refused

    monkeypatch.setattr(links, "bind", bind_and_lose)
    assert told(await login(server)) == REFUSED
    assert await count(server) == before
    assert await reasons(server, admin) == ["entry was moved"]


async def test_profiles_follow_the_directory(directory: Slapd, ann: str) -> None:
    """Who is no administrator there is none here, at his next login; tokens he has lose it too."""
    directory.add_group("admins", ann)
    async with running(config_of(**directory.settings(**BY_MEMBER, syncProfiles=True))) as server:
        token = (await login(server))["result"]["jwt"]
        ask = "security:getUser"
        kuid = await kuid_of(server)
        assert (await server.call("query", ask, token=token, _id=kuid))["status"] == 200
        directory.add_group("admins", f"uid=bob,{PEOPLE}")
        assert (await source_of(server))["profileIds"] == ["default"]
        assert (await server.call("query", ask, token=token, _id=kuid))["status"] == 403
        storage = server.app.services.storage
        rows = await storage.find(Table.USER_PROFILES, limit=9, kuid=kuid)
        assert [row["profile_id"] for row in rows] == ["default"]
        directory.add_group("admins", ann)
        found = await asyncio.gather(*(source_of(server) for _ in range(4)))
        assert [one["profileIds"] for one in found] == [["default", "admin"]] * 4


async def test_profiles_stay_unless_they_follow(directory: Slapd, ann: str) -> None:
    directory.add_group("admins", ann)
    async with running(config_of(**directory.settings(**BY_MEMBER))) as server:
        await kuid_of(server)
        directory.add_group("admins", f"uid=bob,{PEOPLE}")
        assert (await source_of(server))["profileIds"] == ["default", "admin"]


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_profile_that_is_not_there(
    directory: Slapd, ann: str, is_known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused, and the operator is told: for a new user as for one whose profiles follow."""
    directory.add_group("staff", f"uid=bob,{PEOPLE}" if is_known else ann)
    async with running(config_of(**directory.settings(**BY_MEMBER, syncProfiles=True))) as server:
        admin = await server.create_admin()
        if is_known:
            await kuid_of(server)
            directory.add_group("staff", ann)
        before = await count(server)
        assert told(await login(server)) == REFUSED
        assert await count(server) == before
        assert await reasons(server, admin) == ["unknown profile"]
        assert "profile" in caplog.text
        assert "staff" in caplog.text


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ["settings", "direct"])
async def test_linking_wants_the_password(
    directory: Slapd, ann: str, transport: str, mode: str
) -> None:
    """O6: who is logged in adds an entry that he can bind as, and nothing he only claims."""
    async with running(config_of(**getattr(directory, mode)())) as server:
        token = await server.create_user(await server.create_admin(), "carl")

        async def link(**body: object) -> Envelope:
            return await server.call(transport, CREATE, token=token, strategy="ldap", body=body)

        claimed = {"identifier": "0" * 36, "dn": ann}
        for body in (claimed, {"username": "ann"}, {"username": "ann", "password": "no"}):
            assert told(await link(**body)) == REFUSED
        made = await link(username="ann", password=SECRET)
        assert made["status"] == 200, made
        assert (made["result"]["kuid"], made["result"]["username"]) == ("carl", "ann")
        assert await kuid_of(server) == "carl"
        assert (await link(username="bob", password=SECRET))["status"] == 412
        other = await server.create_user(await server.login("admin"), "dora")
        token = other
        assert (await link(username="ann", password=SECRET))["status"] == 412


async def test_an_administrator_asserts_an_entry(
    directory: Slapd, server: Running, ann: str
) -> None:
    """By user name, by DN or by identifier; not one nobody has, nor somebody else's."""
    admin = await server.create_admin()
    for kuid in ("carl", "dora"):
        await server.create_user(admin, kuid)

    async def give(kuid: str, **body: object) -> Envelope:
        return await server.call(
            "query", "security:createCredentials", token=admin, strategy="ldap", _id=kuid, body=body
        )

    for body in ({}, {"username": 7}, {"identifier": ""}, {"username": "*"}, {"dn": "x"}):
        assert (await give("carl", **body))["status"] == 400, body
    assert (await give("carl", dn=f"uid=nobody,{PEOPLE}"))["status"] == 400
    made = await give("carl", username="ann")
    assert made["status"] == 200, made
    assert await kuid_of(server) == "carl"
    assert (await give("dora", dn=ann))["status"] == 412
    assert (await give("dora", identifier=made["result"]["identifier"]))["status"] == 412
    assert (await give("dora", dn=f"uid=bob,{PEOPLE}"))["result"]["username"] == "bob"
    changed = await server.call(
        *("query", "security:deleteCredentials"), token=admin, strategy="ldap", _id="dora"
    )
    assert changed["status"] == 200
    by_id = {"strategy": "ldap", "_id": made["result"]["identifier"]}
    shown = await server.call("query", "security:getCredentialsById", token=admin, **by_id)
    assert (shown["result"]["kuid"], shown["result"]["dn"]) == ("carl", ann)


async def test_a_session_goes_on_while_the_entry_is_there(
    directory: Slapd, server: Running, ann: str
) -> None:
    """`auth:refreshToken` with the strategy."""
    token = (await login(server))["result"]["jwt"]
    ask = "auth:refreshToken"
    answer = await server.call("query", ask, token=token, strategy="ldap")
    assert answer["status"] == 200, answer
    directory.remove(ann)
    token = answer["result"]["jwt"]
    answer = await server.call("query", ask, token=token, strategy="ldap")
    assert answer["error"]["id"] == "security.token.refresh_forbidden"


async def test_the_example_of_the_page(directory: Slapd, ann: str) -> None:
    """docs/strategies/ldap.md shows what works."""
    directory.add_group("admins", ann)
    table = example("OpenLDAP")
    table |= {"servers": [directory.url], "caFile": str(directory.authority.cert)}
    async with running(config_of(**table)) as server:
        source = await source_of(server)
        assert (source["profileIds"], source["email"]) == (["default", "admin"], "ann@example.test")


BROKEN: list[tuple[dict[str, object], str]] = [
    ({"servers": []}, "servers"),
    ({"servers": ["http://127.0.0.1"]}, "http://127.0.0.1 is not valid"),
    ({"servers": ["ldap://user@127.0.0.1"]}, "is not valid"),
    ({"servers": ["ldaps://127.0.0.1:x"]}, "is not valid"),
    ({"servers": [f"ldap://127.0.0.{host}" for host in range(9)]}, "at most 8"),
    ({"servers": ["ldap://ldap.example.test"]}, "insecure = true"),
    ({"servers": ["ldaps://127.0.0.1"], "startTls": True}, "startTls"),
    ({"caFile": "/nowhere"}, "caFile: /nowhere: FileNotFoundError"),
    ({"bindPassword": ""}, "bindPassword: not set"),
    ({"bindDn": ""}, "bindDn: not set"),
    ({"base": ""}, "base: not set"),
    ({"userDn": "uid={username},x"}, "userDn: cannot be combined with bindDn"),
    ({"filter": "(uid=ann)"}, "filter: must contain {username}"),
    ({"filter": "uid={username}"}, "filter: expected"),
    ({"groupFilter": "(member={dn}"}, "groupFilter: expected"),
    ({"groupProfiles": {"admins": "admin"}}, "groupProfiles: admins is not a DN"),
    ({"groupProfiles": {ADMINS: 7}}, "groupProfiles"),
    ({"groupProfiles": {ADMINS: [f"p{at}" for at in range(100)]}}, "at most 100 profiles"),
    (
        {"groupProfiles": {f"cn={at},{GROUPS}": "default" for at in range(65)}},
        "at most 64 group DNs",
    ),
    ({"nestedGroups": True}, "nestedGroups: requires activeDirectory"),
    ({"activeDirectory": True, "bindDn": "", "bindPassword": ""}, "domain: not set"),
    ({"identifierAttribute": "a b"}, "identifierAttribute"),
    ({"connections": 0}, "connections"),
]


@pytest.mark.parametrize(("table", "said"), BROKEN)
async def test_what_refuses_to_start(directory: Slapd, table: dict[str, object], said: str) -> None:
    """D3: also what would send passwords in clear. The password of the service is never shown."""
    with pytest.raises(LocalError) as refused:
        async with running(config_of(**directory.settings(**table))):
            pass
    assert said in str(refused.value)
    assert str(refused.value).startswith("strategies.ldap")
    assert SECRET not in str(refused.value)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it is loaded for who does not use it."""
    for module in [one for one in sys.modules if one.startswith("server.auth.strategies.ldap.")]:
        if not module.endswith("settings"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "ldap", None)
    check(cheap_config(strategies={"mail": {"use": "magic", "command": ["x"]}}))
    with pytest.raises(LocalError, match=r"strategies.ldap.use: .*pip install 'manykeys\[ldap\]'"):
        check(config_of(use="ldap"))


def test_the_password_of_the_service_is_shown_nowhere(directory: Slapd) -> None:
    """X4."""
    table = directory.settings()
    assert SECRET not in repr(LdapSettings(bind_password=SECRET))
    assert SECRET not in repr(shown_tree(config_of(**table)))


async def test_secrets_stay_out_of_log_and_trail(
    directory: Slapd, server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """X1, X2: passwords right and wrong."""
    caplog.set_level(logging.DEBUG)
    admin = await server.create_admin()
    await login(server)
    await login(server, "ann", "Another-Secret")
    await login(server, "Typed-Into-The-Name", "x")
    shown = caplog.text + repr(await events(server, admin))
    for secret in (SECRET, "Another-Secret", "Typed-Into-The-Name"):
        assert secret not in shown


async def test_the_clock_of_the_server_counts(directory: Slapd, ann: str, clock: Clock) -> None:
    """When credentials were made, and when they changed."""
    async with running(config_of(**directory.settings(persist=["mail"]))) as server:
        kuid = await kuid_of(server)
        made_ms, clock.now_ms = clock.now_ms, clock.now_ms + 1000
        directory.change(ann, mail="new@example.test")
        await kuid_of(server)
        row = await server.app.services.storage.get(Table.CREDENTIALS, kuid=kuid, strategy="ldap")
        assert row is not None
        assert (row["created_at"], row["updated_at"]) == (made_ms, clock.now_ms)
