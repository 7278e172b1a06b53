"""Password policies: how they are read, whom they are for, and what they refuse (contract/05
§1.6)."""

import asyncio
from dataclasses import replace

import pytest

from protocol.errors import ApiError
from server import app as app_module
from server.auth import patterns as patterns_module
from server.auth.patterns import Matcher, Pattern, read_pattern
from server.auth.policies import Demands, Policies, read_policies
from server.config import Config, load
from server.configtree import ConfigError
from server.storage.base import Insert, Table
from server.storage.sqlite import SqliteStorage
from tests.server.errors import told
from tests.server.running import PASSWORD, TRANSPORTS, Running, cheap_config, running

PLUGIN = "plugins.kuzzle-plugin-auth-passport-local"
PREFIX = "plugin.kuzzle-plugin-auth-passport-local."
DAY_MS = 86_400_000
NEW = "battery staple"


def with_policies(*policies: dict[str, object]) -> Config:
    config = cheap_config()
    local = replace(config.plugins.local, password_policies=policies)
    return replace(config, plugins=replace(config.plugins, local=local))


# Written, the key that is named, what is accepted there.
UNREADABLE = [
    ({}, "appliesTo", '"*"'),
    ({"appliesTo": "all"}, "appliesTo", '"*"'),
    ({"appliesTo": {}}, "appliesTo", "profiles, roles, users"),
    ({"appliesTo": {"groups": ["a"]}}, "appliesTo", "profiles, roles, users"),
    ({"appliesTo": {"users": "a"}}, "appliesTo.users", "a list of ids"),
    ({"appliesTo": {"profiles": [5]}}, "appliesTo.profiles", "a list of ids"),
    ({"appliesTo": "*", "expiresAfter": "soon"}, "expiresAfter", "a duration"),
    ({"appliesTo": "*", "expiresAfter": "-1d"}, "expiresAfter", "a duration"),
    ({"appliesTo": "*", "expiresAfter": 90}, "expiresAfter", "a duration"),
    (
        {"appliesTo": "*", "mustChangePasswordIfSetByAdmin": 1},
        "mustChangePasswordIfSetByAdmin",
        "true or false",
    ),
    ({"appliesTo": "*", "forbidLoginInPassword": "yes"}, "forbidLoginInPassword", "true or false"),
    (
        {"appliesTo": "*", "forbidReusedPasswordCount": -1},
        "forbidReusedPasswordCount",
        "from 0 to 24",
    ),
    (
        {"appliesTo": "*", "forbidReusedPasswordCount": 25},
        "forbidReusedPasswordCount",
        "from 0 to 24",
    ),
    (
        {"appliesTo": "*", "forbidReusedPasswordCount": True},
        "forbidReusedPasswordCount",
        "from 0 to 24",
    ),
    ({"appliesTo": "*", "passwordRegex": "("}, "passwordRegex", "a regular expression"),
    ({"appliesTo": "*", "passwordRegex": "/a/x"}, "passwordRegex", "a regular expression"),
    ({"appliesTo": "*", "passwordRegex": 5}, "passwordRegex", "a regular expression"),
    ({"appliesTo": "*", "expireAfter": "1d"}, "expireAfter", "expiresAfter"),
]


@pytest.mark.parametrize(("written", "key", "accepted"), UNREADABLE)
def test_unreadable_policies_refuse_to_start(
    written: dict[str, object], key: str, accepted: str
) -> None:
    policies = [{"appliesTo": "*"}, written]
    with pytest.raises(ConfigError) as refused:
        load(None, {}, {f"{PLUGIN}.passwordPolicies": policies})
    assert str(refused.value).startswith(f"{PLUGIN}.passwordPolicies[1].{key}: ")
    assert accepted in str(refused.value)


LEAST = {"expiresAfter": "1d", "forbidReusedPasswordCount": 2}
SCOPES = [
    ("*", {"alice", "bob", "boss", None}),
    ({"users": ["bob"]}, {"bob"}),
    ({"profiles": ["staff"]}, {"bob"}),
    ({"roles": ["editor"]}, {"bob", "alice"}),
    ({"users": ["alice"], "profiles": ["admins"]}, {"alice", "boss"}),
    ({"users": ["nobody"], "profiles": ["none"], "roles": ["none"]}, set()),
]
PEOPLE = {"alice": ["writers"], "bob": ["staff"], "boss": ["admins", "gone"]}
PROFILES = {"writers": ["editor"], "staff": ["clerk", "editor"], "admins": ["admin"]}


@pytest.fixture
async def storage():
    made = SqliteStorage(":memory:", clock_ms=lambda: 0)
    await made.open()
    for profile, roles in PROFILES.items():
        body = {"policies": [{"roleId": role} for role in roles]}
        await made.apply([Insert(Table.PROFILES, {"id": profile, "body": body, "info": {}})])
    for kuid, profiles in PEOPLE.items():
        row = {"kuid": kuid, "profile_ids": profiles, "content": {}, "info": {}, "disabled": 0}
        await made.apply([Insert(Table.USERS, row)])
    yield made
    await made.close()


@pytest.mark.parametrize(("scope", "covered"), SCOPES)
async def test_whom_a_policy_is_for(
    storage: SqliteStorage, scope: object, covered: set[str | None]
) -> None:
    policies = Policies(storage, read_policies([{"appliesTo": scope, **LEAST}]))
    found = {kuid for kuid in (*PEOPLE, None) if (await policies.demands_of(kuid)).remembered == 2}
    assert found == covered


async def test_all_policies_for_a_user_count(storage: SqliteStorage) -> None:
    written = [
        {"appliesTo": "*", "expiresAfter": "2d", "passwordRegex": "a"},
        {"appliesTo": {"users": ["alice"]}, "expiresAfter": "1d", "forbidReusedPasswordCount": 5},
        {"appliesTo": {"roles": ["editor"]}, "passwordRegex": "/B/i", **LEAST},
        {"appliesTo": "*", "mustChangePasswordIfSetByAdmin": True, "forbidLoginInPassword": True},
        {"appliesTo": "*"},
    ]
    policies = Policies(storage, read_policies(written))
    demands = await policies.demands_of("alice")
    assert (demands.expires_after_ms, demands.remembered) == (DAY_MS, 5)
    assert (demands.must_be_his_own, demands.forbids_login) == (True, True)
    assert [pattern.text for pattern in demands.patterns] == ["a", "B"]
    boss = await policies.demands_of("boss")
    assert (boss.must_be_his_own, boss.forbids_login) == (False, True)


async def test_without_policies_nothing_is_demanded_or_read() -> None:
    """Security checks P5, P10: no composition, no rotation by default."""
    assert await Policies(None).demands_of("alice") == Demands()  # type: ignore[arg-type]
    assert Demands() == Demands(float("inf"), False, False, 0, ())


# Written, a password that passes, one that does not.
PATTERNS = [
    ("[0-9]", "a1b", "abc"),
    ("^.{8,}$", "12345678", "1234567"),
    ("^(?=.*[A-Z])(?=.*\\d).+$", "aB1", "ab1"),
    ("/secret/i", "my SECRET", "my secre"),
    ("/^b$/m", "a\nb", "ab"),
    ("/a.b/s", "a\nb", "a\rc"),
    ("/a/gu", "xax", "xxx"),
    ("/", "a/b", "ab"),
    ("/a", "x/a", "xa"),
    ("\\W", "pässword", "password"),
    ("^é$", "é", "e\u0301"),
]


@pytest.mark.parametrize(("written", "fitting", "other"), PATTERNS)
async def test_patterns(written: str, fitting: str, other: str) -> None:
    pattern = read_pattern(written)
    assert pattern is not None
    assert await Matcher().is_found(pattern, fitting)
    assert not await Matcher().is_found(pattern, other)


@pytest.mark.parametrize("written", ["(", "/a/q", "a\0b", "\ud800", "[b-a]", "x{2,1}"])
def test_what_is_no_pattern(written: str) -> None:
    assert read_pattern(written) is None


EXPLODING = Pattern("^(a+)+$")
LONG = "a" * 64 + "!"


async def test_an_exploding_pattern_ends_and_does_not_hold_the_loop() -> None:
    """The loop goes on: it is the loop that ends the match."""
    with pytest.raises(ApiError) as refused:
        await Matcher(most_s=0.2).is_found(EXPLODING, LONG)
    assert (refused.value.id, refused.value.status) == ("api.process.overloaded", 503)
    assert refused.value.retry_after_s == 1


async def test_only_so_many_wait_for_a_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns_module, "_MOST_WAITING", 1)
    matcher = Matcher()
    first = asyncio.create_task(matcher.is_found(Pattern("a"), "a"))
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refused:
        await matcher.is_found(Pattern("a"), "a")
    assert refused.value.id == "api.process.overloaded"
    assert await first
    assert await matcher.is_found(Pattern("a"), "a")


async def test_who_gives_up_leaves_no_process_and_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[asyncio.subprocess.Process] = []
    is_begun = asyncio.Event()
    create = asyncio.create_subprocess_exec

    async def begin(*given: object, **named: object) -> asyncio.subprocess.Process:
        begun.append(await create(*given, **named))  # type: ignore[arg-type]
        is_begun.set()
        return begun[-1]

    monkeypatch.setattr(patterns_module.asyncio, "create_subprocess_exec", begin)
    monkeypatch.setattr(patterns_module, "_MOST_WAITING", 1)
    matcher = Matcher(most_s=20)
    task = asyncio.create_task(matcher.is_found(EXPLODING, LONG))
    async with asyncio.timeout(20):
        await is_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun[0].returncode is not None
    assert await matcher.is_found(Pattern("a"), "a")


@pytest.mark.parametrize("ending", ["sys.exit(1)", "raise MemoryError", "import os; os.abort()"])
async def test_a_match_that_fails_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(patterns_module, "_SEARCH", "import sys\n" + ending)
    with pytest.raises(ApiError) as refused:
        await Matcher().is_found(Pattern("a"), "a")
    assert refused.value.status == 503


async def change(server: Running, transport: str, token: str, **body: str) -> dict:
    return await server.call(
        transport, "auth:updateMyCredentials", token=token, strategy="local", body=body
    )


async def log_in(server: Running, transport: str, username: str, password: str) -> dict:
    body = {"username": username, "password": password}
    return await server.call(transport, "auth:login", strategy="local", body=body)


STRICT = {
    "appliesTo": {"profiles": ["default"]},
    "forbidLoginInPassword": True,
    "passwordRegex": "/^.{6,}$/",
    "forbidReusedPasswordCount": 3,
}
# A password for the user alice, and how it is refused.
REFUSED = [
    ("short", "weak_password", 67108871),
    ("my ALICE password", "login_in_password", 67108868),
    (PASSWORD, "reused_password", 67108870),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refused_at_change(transport: str) -> None:
    async with running(with_policies(STRICT)) as server:
        alice = await server.create_user(await server.create_admin(), "alice")
        for password, suffix, code in REFUSED:
            answer = await change(server, transport, alice, password=password)
            assert told(answer) == {"id": PREFIX + suffix, "code": code, "status": 400}
        # Without a password the policies are not asked.
        assert (await change(server, transport, alice, username="correct"))["status"] == 200
        both = await change(server, transport, alice, username="clara", password="to clara")
        assert told(both)["id"] == PREFIX + "login_in_password"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refused_at_creation_by_the_profiles_to_come(transport: str) -> None:
    async with running(with_policies(STRICT)) as server:
        admin = await server.create_admin()

        async def create(profile: str, kuid: str) -> dict:
            body = {
                "content": {"profileIds": [profile]},
                "credentials": {"local": {"username": kuid, "password": "short"}},
            }
            return await server.call(
                transport, "security:createUser", token=admin, body=body, _id=kuid
            )

        answer = await create("default", "alice")
        assert told(answer) == {"id": PREFIX + "weak_password", "code": 67108871, "status": 400}
        assert (await create("admin", "root"))["status"] == 200


async def test_earlier_passwords_come_back_only_after_so_many() -> None:
    async with running(with_policies(STRICT)) as server:
        alice = await server.create_user(await server.create_admin(), "alice")
        for password in ("second one", "third one", "fourth one"):
            assert (await change(server, "http", alice, password=password))["status"] == 200
        storage = server.app.services.storage
        row = await storage.get(Table.CREDENTIALS, strategy="local", id="alice")
        history = row["data"]["history"]
        # Two earlier ones beside the present one, hashed like all others (security check P11).
        assert len(history) == 2
        assert all(known["hash"].startswith("mk1$$2b$") for known in history)
        for password in ("second one", "third one", "fourth one"):
            answer = await change(server, "http", alice, password=password)
            assert told(answer)["id"] == PREFIX + "reused_password"
        assert (await change(server, "http", alice, password=PASSWORD))["status"] == 200
        assert (await change(server, "http", alice, password="second one"))["status"] == 200


async def test_nothing_is_remembered_where_nothing_asks_for_it(server: Running) -> None:
    admin = await server.create_admin()
    assert (await change(server, "http", admin, password=NEW))["status"] == 200
    assert (await change(server, "http", admin, password=PASSWORD))["status"] == 200
    storage = server.app.services.storage
    row = await storage.get(Table.CREDENTIALS, strategy="local", id="admin")
    assert row["data"].keys() == {"hash", "updater"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_passwords_grow_too_old(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = app_module.clock_ms()
    later_ms = 0
    monkeypatch.setattr(app_module, "clock_ms", lambda: now_ms + later_ms)
    policy = {"appliesTo": "*", "expiresAfter": "90d"}
    async with running(with_policies(policy)) as server:
        await server.create_admin()
        later_ms = 90 * DAY_MS
        assert (await log_in(server, transport, "admin", PASSWORD))["status"] == 200
        later_ms += 1
        answer = await log_in(server, transport, "admin", PASSWORD)
        expected = {"id": PREFIX + "expired_password", "code": 67108865, "status": 401}
        assert told(answer) == expected
        assert len(answer["error"]["resetToken"]) >= 43
        # Security check A1: who does not know the password learns nothing of its age.
        wrong = await log_in(server, transport, "admin", "wrong")
        assert told(wrong, "id") == {"id": "plugin.strategy.missing_user"}
        assert "resetToken" not in wrong["error"]


OWN = {"appliesTo": "*", "mustChangePasswordIfSetByAdmin": True}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_password_of_ones_own(transport: str) -> None:
    async with running(with_policies(OWN)) as server:
        admin = await server.create_admin()  # exempt: he has the role admin
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "alice", "password": PASSWORD}},
        }
        made = await server.call(
            transport, "security:createUser", token=admin, body=body, _id="alice"
        )
        assert made["status"] == 200
        answer = await log_in(server, transport, "alice", PASSWORD)
        expected = {"id": PREFIX + "must_change_password", "code": 67108869, "status": 401}
        assert told(answer) == expected
        again = await log_in(server, transport, "alice", PASSWORD)
        # The newest token is the only one, so that logins leave nothing behind.
        tokens = [one["error"]["resetToken"] for one in (answer, again)]
        assert tokens[0] != tokens[1]
        rows = await server.app.services.storage.find(
            Table.ONE_TIME, limit=10, kuid="alice", kind="reset"
        )
        assert len(rows) == 1
