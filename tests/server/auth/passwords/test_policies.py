"""Password policies: what is read from the configuration, whom each is for, and what it demands at
login and at a change (docs/api/strategies.md#password-policies)."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from protocol.errors import ApiError
from server.auth.passwords.hasher import PasswordHasher
from server.auth.passwords.patterns import Matcher, Pattern, read_pattern
from server.auth.passwords.policies import SETTING, Demands, Policies, read_policies
from server.auth.strategies.local import Local
from server.config.model import load
from server.core.config_file import ConfigError
from server.storage.base import EventKind, JournalEvent, Put, Update
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

ERRORS = "plugin.kuzzle-plugin-auth-passport-local."
CODES = {  # docs/api/errors.md
    "expired_password": (67108865, 401),
    "login_in_password": (67108868, 400),
    "must_change_password": (67108869, 401),
    "reused_password": (67108870, 400),
    "weak_password": (67108871, 400),
}
DAY_MS = 86_400_000


def refusal(name: str) -> dict[str, object]:
    """Give what is told of an error of the strategy `local`."""
    code, status = CODES[name]
    return {"id": ERRORS + name, "code": code, "status": status}


@asynccontextmanager
async def under(*policies: Mapping[str, object]) -> AsyncIterator[Running]:
    """Run a server with these policies."""
    config = cheap_config()
    local = replace(config.plugins.local, password_policies=tuple(map(dict, policies)))
    async with running(replace(config, plugins=replace(config.plugins, local=local))) as server:
        yield server


async def log_in(server: Running, transport: str, name: str, password: str = PASSWORD) -> dict:
    body = {"username": name, "password": password}
    return await server.call(transport, "auth:login", strategy="local", body=body)


async def change(server: Running, transport: str, token: str, **body: object) -> dict:
    return await server.call(
        transport, "auth:updateMyCredentials", token=token, strategy="local", body=body
    )


async def make_user(server: Running, admin: str, kuid: str, *profile_ids: str, **given: str):
    """Ask for a user and give the answer."""
    body = {
        "content": {"profileIds": list(profile_ids or ("default",))},
        "credentials": {"local": {"username": kuid, "password": PASSWORD, **given}},
    }
    return await server.call("query", "security:createUser", token=admin, body=body, _id=kuid)


BAD = [  # policies, what the refusal names
    ([{}], r"\[0\]\.appliesTo: expected"),
    ([{"appliesTo": "all"}], r"\[0\]\.appliesTo: expected"),
    ([{"appliesTo": {}}], r"\[0\]\.appliesTo: expected"),
    ([{"appliesTo": ["users"]}], r"\[0\]\.appliesTo: expected"),
    ([{"appliesTo": {"user": ["x"]}}], r"\[0\]\.appliesTo: expected"),
    ([{"appliesTo": {"users": "x"}}], r"\[0\]\.appliesTo\.users: 'x' is not accepted"),
    ([{"appliesTo": {"roles": [1]}}], r"\[0\]\.appliesTo\.roles: "),
    ([{"appliesTo": "*"}, {"appliesTo": "*", "expires": "1d"}], r"\[1\]\.expires: there is no"),
    ([{"appliesTo": "*", "expiresAfter": "soon"}], r"\[0\]\.expiresAfter: 'soon'"),
    ([{"appliesTo": "*", "expiresAfter": 90}], r"\[0\]\.expiresAfter: "),
    ([{"appliesTo": "*", "expiresAfter": "-1"}], r"\[0\]\.expiresAfter: "),
    ([{"appliesTo": "*", "expiresAfter": "0"}], r"\[0\]\.expiresAfter: "),
    ([{"appliesTo": "*", "mustChangePasswordIfSetByAdmin": "yes"}], r"IfSetByAdmin: 'yes'"),
    ([{"appliesTo": "*", "forbidLoginInPassword": 1}], r"forbidLoginInPassword: 1"),
    ([{"appliesTo": "*", "forbidReusedPasswordCount": -1}], r"forbidReusedPasswordCount: -1"),
    ([{"appliesTo": "*", "forbidReusedPasswordCount": 25}], r"whole number from 0 to 24"),
    ([{"appliesTo": "*", "forbidReusedPasswordCount": 1.5}], r"forbidReusedPasswordCount: 1.5"),
    ([{"appliesTo": "*", "forbidReusedPasswordCount": True}], r"Count: True"),
    ([{"appliesTo": "*", "passwordRegex": "("}], r"passwordRegex: '\('"),
    ([{"appliesTo": "*", "passwordRegex": 5}], r"passwordRegex: 5"),
    ([{"appliesTo": "*", "passwordRegex": "/x/q"}], r"passwordRegex: '/x/q'"),
]


@pytest.mark.parametrize(("written", "said"), BAD)
def test_bad_policies_refuse_to_start(written: list[dict], said: str) -> None:
    """docs/api/strategies.md#local-options; docs/architecture.md: naming key, value and what is
    accepted."""
    with pytest.raises(ConfigError, match=said) as raised:
        load(None, {}, {SETTING: written})
    assert str(raised.value).startswith(SETTING)


def test_policies_are_read() -> None:
    """docs/api/strategies.md#password-policies."""
    everything = {
        "appliesTo": {"users": ["a"], "profiles": [], "roles": ["b", "c"]},
        "expiresAfter": "90d",
        "mustChangePasswordIfSetByAdmin": True,
        "forbidLoginInPassword": True,
        "forbidReusedPasswordCount": 3,
        "passwordRegex": "/^.{6,}$/i",
    }
    first, second = read_policies([everything, {"appliesTo": "*"}])
    assert (first.scope.users, first.scope.roles) == ({"a"}, {"b", "c"})
    assert not first.scope.includes_all and second.scope.includes_all
    assert first.demands.expires_after_ms == 90 * DAY_MS
    assert first.demands.must_be_set_by_user and first.demands.forbids_login
    assert first.demands.remembered == 3
    assert [pattern.text for pattern in first.demands.patterns] == ["^.{6,}$"]
    assert second.demands == Demands()


SCOPES = [  # appliesTo, kuid, whether the policy is for him
    ("*", "admin", True),
    ("*", "user", True),
    ("*", None, True),
    ({"users": ["user"]}, "user", True),
    ({"users": ["user"]}, "admin", False),
    ({"users": ["user"]}, None, False),
    ({"profiles": ["default"]}, "user", True),
    ({"profiles": ["default"]}, "admin", False),
    ({"roles": ["admin"]}, "admin", True),
    ({"roles": ["admin"]}, "user", False),
    ({"users": ["x"], "profiles": ["y"], "roles": ["default"]}, "user", True),
    ({"users": []}, "user", False),
    ({"users": ["gone"]}, "gone", True),
    ({"profiles": ["default"]}, "gone", False),
]


@pytest.mark.parametrize(("written", "kuid", "is_his"), SCOPES)
async def test_whom_a_policy_is_for(
    server: Running, written: object, kuid: str | None, is_his: bool
) -> None:
    """docs/api/strategies.md#password-policies `appliesTo`."""
    await server.create_user(await server.create_admin(), "user")
    policies = read_policies([{"appliesTo": written, "forbidLoginInPassword": True}])
    demands = await Policies(server.app.services.storage, policies).demands_of(kuid)
    assert demands.forbids_login == is_his


async def test_all_policies_of_a_user_apply(server: Running) -> None:
    """docs/api/strategies.md#password-policies: all matching ones; of two the harder one counts."""
    policies = read_policies(
        [
            {"appliesTo": "*", "expiresAfter": "2d", "forbidReusedPasswordCount": 1},
            {"appliesTo": "*", "expiresAfter": "1d", "passwordRegex": "a"},
            {"appliesTo": "*", "forbidReusedPasswordCount": 5, "passwordRegex": "b"},
            {"appliesTo": {"users": ["other"]}, "expiresAfter": "1ms"},
        ]
    )
    demands = await Policies(server.app.services.storage, policies).demands_of("user")
    assert demands.expires_after_ms == DAY_MS
    assert demands.remembered == 5
    assert [pattern.text for pattern in demands.patterns] == ["a", "b"]


async def test_without_policies_nothing_is_read() -> None:
    """docs/architecture.md: a login costs no more than it must; security check P10."""
    assert await Policies(None).demands_of("anybody") == Demands()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_expired_passwords(transport: str) -> None:
    """docs/api/strategies.md#password-policies `expiresAfter`, §1.7: `error.resetToken`; only for
    the right password."""
    async with under({"appliesTo": {"users": ["user"]}, "expiresAfter": "1d"}) as server:
        user = await server.create_user(await server.create_admin(), "user")
        await age(server, "user", DAY_MS - 60_000)
        assert (await log_in(server, transport, "user"))["status"] == 200
        await age(server, "user", DAY_MS + 60_000)
        answer = await log_in(server, transport, "user")
        assert told(answer) == refusal("expired_password")
        assert answer["result"] is None
        assert len(answer["error"]["resetToken"]) >= 43
        wrong = await log_in(server, transport, "user", "wrong")
        assert told(wrong, "id") == {"id": "plugin.strategy.missing_user"}
        assert "resetToken" not in wrong["error"]
        assert (await change(server, transport, user, password="fresh"))["status"] == 200
        assert (await log_in(server, transport, "user", "fresh"))["status"] == 200


async def age(server: Running, name: str, by_ms: int) -> None:
    """Let credentials be this old."""
    services = server.app.services
    when = {"created_at": services.clock_ms() - by_ms}
    change_ = Update(Table.CREDENTIALS, {"strategy": "local", "id": name}, when)
    await services.storage.apply([change_])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_passwords_set_by_others(transport: str) -> None:
    """docs/api/strategies.md#password-policies `mustChangePasswordIfSetByAdmin`; who has the role
    admin is exempt."""
    async with under({"appliesTo": "*", "mustChangePasswordIfSetByAdmin": True}) as server:
        admin = await server.create_admin()
        assert (await make_user(server, admin, "user"))["status"] == 200
        answer = await log_in(server, transport, "user")
        assert told(answer) == refusal("must_change_password")
        assert answer["error"]["resetToken"]
        services = server.app.services
        prepared = await services.strategies.get("local").update(
            {"password": "his own"}, "user", "user"
        )
        await services.storage.apply(prepared.changes)
        assert (await log_in(server, transport, "user", "his own"))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_name_within_the_password(transport: str) -> None:
    """docs/api/strategies.md#password-policies `forbidLoginInPassword`: whatever the case; only
    with a password."""
    async with under({"appliesTo": "*", "forbidLoginInPassword": True}) as server:
        token = await server.create_admin()
        for body in ({"password": "my ADMIN word"}, {"username": "Bob", "password": "bobby"}):
            answer = await change(server, transport, token, **body)
            assert told(answer) == refusal("login_in_password")
        assert (await change(server, transport, token, username="correct"))["status"] == 200
        assert (await change(server, transport, token, password="admin"))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_passwords_used_before(transport: str) -> None:
    """docs/api/strategies.md#password-policies `forbidReusedPasswordCount`: the present one and
    those before it."""
    async with under({"appliesTo": "*", "forbidReusedPasswordCount": 3}) as server:
        token = await server.create_admin()
        for password, is_reused in (
            (PASSWORD, True),
            ("second", False),
            ("second", True),
            (PASSWORD, True),
            ("third", False),
            (PASSWORD, True),
            ("second", True),
            ("fourth", False),
            ("second", True),
            (PASSWORD, False),
        ):
            answer = await change(server, transport, token, password=password)
            assert (answer["status"] == 400) == is_reused, password
            if is_reused:
                assert told(answer) == refusal("reused_password")
        row = await server.app.services.storage.get(Table.CREDENTIALS, strategy="local", id="admin")
        assert len(row["data"]["history"]) == 2


async def test_a_new_name_keeps_the_history() -> None:
    """docs/api/strategies.md#local-errors: the record is recreated, not begun again."""
    async with under({"appliesTo": "*", "forbidReusedPasswordCount": 2}) as server:
        token = await server.create_admin()
        for body, status in (
            ({"password": "second"}, 200),
            ({"username": "chief"}, 200),
            ({"password": PASSWORD}, 400),
            ({"username": "admin", "password": PASSWORD}, 400),
        ):
            assert (await change(server, "query", token, **body))["status"] == status


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_passwords_against_a_pattern(transport: str) -> None:
    """docs/api/strategies.md#password-policies `passwordRegex`, at a change and at validation."""
    async with under({"appliesTo": "*", "passwordRegex": "/[0-9]$|horse/"}) as server:
        token = await server.create_admin()
        assert told(await change(server, transport, token, password="none")) == refusal(
            "weak_password"
        )
        answer = await server.call(
            transport,
            "auth:validateMyCredentials",
            token=token,
            strategy="local",
            body={"username": "admin", "password": "none"},
        )
        assert told(answer) == refusal("weak_password")
        assert (await change(server, transport, token, password="some 1"))["status"] == 200


PLACES = [{"users": ["user"]}, {"profiles": ["default"]}, {"roles": ["default"]}]


@pytest.mark.parametrize("place", PLACES)
async def test_policies_hold_for_users_who_are_being_created(place: object) -> None:
    """docs/api/strategies.md#password-policies: a policy for a profile is for those who get it,
    from the first password on."""
    async with under({"appliesTo": place, "forbidLoginInPassword": True}) as server:
        admin = await server.create_admin()
        answer = await make_user(server, admin, "user", password="user 1")
        assert told(answer) == refusal("login_in_password")
        assert (await make_user(server, admin, "user", "admin", password="user 1"))["status"] == (
            400 if "users" in place else 200
        )
        assert (await make_user(server, admin, "other"))["status"] == 200


async def test_roles_that_change_change_whom_a_policy_is_for() -> None:
    """docs/api/auth.md#revocation: profile and role changes are effective at once."""
    async with under({"appliesTo": {"roles": ["watched"]}, "passwordRegex": "x"}) as server:
        token = await server.create_admin()
        assert (await change(server, "query", token, password="second"))["status"] == 200
        storage = server.app.services.storage
        profile = await storage.get(Table.PROFILES, id="admin")
        profile["body"]["policies"].append({"roleId": "watched"})
        role = {"id": "watched", "body": {"controllers": {}}, "info": {}}
        noted = JournalEvent(EventKind.RIGHTS, "admin")
        await storage.apply([Put(Table.ROLES, role), Put(Table.PROFILES, profile), noted])
        assert (await change(server, "query", token, password="third"))["status"] == 400


async def test_whoever_knows_a_password_of_before_gets_no_reset_token(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security check A13: a reset token dies on password change, also if it is issued in the same
    moment."""
    await server.create_admin()
    services = server.app.services
    policies = read_policies([{"appliesTo": "*", "expiresAfter": "1d"}])
    local = Local(services.storage, services.passwords, clock_ms=services.clock_ms)
    expiring = Local(
        services.storage, services.passwords, clock_ms=services.clock_ms, policies=policies
    )
    services.strategies.register("local", expiring)
    await age(server, "admin", 2 * DAY_MS)
    verify = PasswordHasher.verify

    async def verify_and_change(
        passwords: PasswordHasher, password: str, stored: object, **owner: object
    ) -> bool:
        is_same = await verify(passwords, password, stored, **owner)
        prepared = await local.update({"password": "second"}, "admin", "admin")
        await services.storage.apply(prepared.changes)
        return is_same

    monkeypatch.setattr(PasswordHasher, "verify", verify_and_change)
    answer = await log_in(server, "query", "admin")
    assert told(answer, "id", "status") == {"id": "plugin.strategy.missing_user", "status": 401}
    assert "resetToken" not in answer["error"]
    assert await services.storage.count(Table.ONE_TIME) == 0


PATTERNS = [  # written, text, whether it is found
    ("^.{6,}$", "abcdef", True),
    ("^.{6,}$", "abcde", False),
    ("/ABC/i", "xabcx", True),
    ("/ABC/", "xabcx", False),
    ("/^b$/m", "a\nb\nc", True),
    ("/a.b/s", "a\nb", True),
    ("/a.b/", "a\nb", False),
    (r"^\d+$", "٣٤", False),
    (r"^\w+$", "é", False),
    ("é", "né", True),
    ("a/b", "xa/by", True),
    (r"/a\/b/", "xa/by", True),
    ("x", "a\0x", True),
    ("(?=.*[a-z])(?=.*[0-9])", "a1", True),
    ("", "anything", True),
]


@pytest.mark.parametrize(("written", "text", "is_found"), PATTERNS)
async def test_patterns(written: str, text: str, is_found: bool) -> None:
    """docs/api/strategies.md#password-policies `passwordRegex`: pattern text, or `/pattern/flags`;
    found anywhere."""
    pattern = read_pattern(written)
    assert pattern is not None
    assert await Matcher().is_found(pattern, text) is is_found


@pytest.mark.parametrize("written", ["(", "[", "/x/q", "a\0b", "\ud800", "a{1}{2}", r"\p{L}"])
def test_what_is_no_pattern(written: str) -> None:
    """docs/api/strategies.md#local-options: validated at start."""
    assert read_pattern(written) is None


HANGS = Pattern("(a+)+$")
TRAP = "a" * 64 + "!"


async def test_a_pattern_that_takes_for_ever_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """CONTRIBUTING.md: nothing blocks the loop, every wait is bounded. The log says the pattern,
    not the password."""
    with pytest.raises(ApiError) as refused:
        await Matcher(most_s=0.05).is_found(HANGS, TRAP)
    assert (refused.value.id, refused.value.status) == ("api.process.overloaded", 503)
    assert HANGS.text in caplog.text and TRAP not in caplog.text


async def test_the_loop_goes_on_while_a_pattern_hangs() -> None:
    """CONTRIBUTING.md, review question 10: the matching is cancelled from the loop it runs
    beside."""
    matcher = Matcher(most_s=60)
    hanging = asyncio.create_task(matcher.is_found(HANGS, TRAP))
    assert await matcher.is_found(Pattern("x"), "x") is True
    assert not hanging.done()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging


async def test_only_so_many_wait_for_patterns() -> None:
    """CONTRIBUTING.md: the queue is bounded; who finds it full is refused at once."""
    matcher = Matcher(most_s=60)
    waiting = [asyncio.create_task(matcher.is_found(HANGS, TRAP)) for _ in range(32)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refused:
        await matcher.is_found(Pattern("x"), "x")
    assert refused.value.status == 503
    await cancel(waiting)
    assert await matcher.is_found(Pattern("x"), "x") is True


async def cancel(tasks: Iterable[asyncio.Task[bool]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_pattern_that_fails_lets_nobody_pass(caplog: pytest.LogCaptureFixture) -> None:
    """Not found out is neither yes nor no: 503."""
    with pytest.raises(ApiError) as refused:
        await Matcher().is_found(Pattern("(", 0), "x")
    assert refused.value.status == 503
    assert "failed with 1" in caplog.text
