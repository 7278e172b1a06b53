"""A new password for who can't log in: reset tokens over every transport
(docs/api/strategies.md#password-reset; security checks A3, A13)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from protocol.errors import ApiError
from server.app.build import reset_ttl_ms
from server.auth.sessions.one_time import Resets
from server.storage.base import EventKind, Insert, JournalEvent, Update
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.failing_storage import fail_at
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

LOCAL = "kuzzle-plugin-auth-passport-local"
CONTROLLER = f"{LOCAL}/password"
ISSUE, RESET = f"{CONTROLLER}:getResetPasswordToken", f"{CONTROLLER}:reset"
NEW = "battery staple"
INVALID = {"id": f"plugin.{LOCAL}.invalid_token", "code": 67108867, "status": 400}
EXPIRED = {"id": f"plugin.{LOCAL}.expired_token", "code": 67108866, "status": 401}


@pytest.fixture
async def open_server() -> AsyncIterator[Running]:
    """A server where anonymous may ask for everything, with the user `user`."""
    async with running(open_mode=True) as server:
        await server.create_user(await server.create_admin(), "user")
        yield server


async def issue(server: Running, transport: str = "query", kuid: str = "user") -> str:
    answer = await server.call(transport, ISSUE, _id=kuid)
    assert answer["status"] == 200, answer
    return answer["result"]["resetToken"]


async def reset(
    server: Running, token: object, password: object = NEW, transport: str = "query"
) -> dict:
    return await server.call(transport, RESET, body={"password": password, "token": token})


async def log_in(server: Running, password: str) -> dict:
    body = {"username": "user", "password": password}
    return await server.call("query", "auth:login", strategy="local", body=body)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_sets_a_new_password_and_logs_in(
    open_server: Running, transport: str
) -> None:
    """docs/api/strategies.md#password-reset: the result is that of a login."""
    answer = await open_server.call(transport, ISSUE, _id="user")
    assert list(answer["result"]) == ["resetToken"]
    answer = await reset(open_server, answer["result"]["resetToken"], transport=transport)
    result = answer["result"]
    assert list(result) == ["_id", "expiresAt", "jwt", "ttl"]
    assert (result["_id"], result["ttl"]) == ("user", 3_600_000)
    me = await open_server.call(transport, "auth:getCurrentUser", token=result["jwt"])
    assert me["result"]["_id"] == "user"
    assert (await log_in(open_server, PASSWORD))["status"] == 401
    assert (await log_in(open_server, NEW))["status"] == 200


ROUTES = (f"/_plugin/{CONTROLLER}", "/_/password")


@pytest.mark.parametrize("base", ROUTES)
async def test_routes(open_server: Running, base: str) -> None:
    """docs/api/strategies.md#password-reset; docs/api/differences.md#status-401: answers that hold
    a token are not stored."""
    http = await open_server.connect()
    issued = await http.ask("GET", f"{base}/resetToken/user")
    assert (issued.status, issued.json["controller"]) == (200, CONTROLLER)
    body = {"password": NEW, "token": issued.json["result"]["resetToken"]}
    done = await http.ask("POST", f"{base}/reset", body)
    assert (done.status, done.json["action"]) == (200, "reset")
    assert issued.headers["cache-control"] == done.headers["cache-control"] == "no-store"


async def test_tokens_are_random_and_stored_as_a_hash(open_server: Running) -> None:
    """security check A13; docs/api/differences.md#stored-tokens, stored tokens."""
    first, second = await issue(open_server), await issue(open_server)
    assert first != second and len(first) >= 43
    rows = await open_server.app.services.storage.find(Table.ONE_TIME, limit=9, kuid="user")
    assert len(rows) == 1
    assert first not in repr(rows) and second not in repr(rows)


async def test_a_user_has_one_token_at_a_time(open_server: Running) -> None:
    """security check A13."""
    first, second = await issue(open_server), await issue(open_server)
    assert told(await reset(open_server, first)) == INVALID
    assert (await reset(open_server, second))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_is_good_once(open_server: Running, transport: str) -> None:
    """security check A13; the reference let it be used until its end."""
    token = await issue(open_server, transport)
    assert (await reset(open_server, token, transport=transport))["status"] == 200
    assert told(await reset(open_server, token, "again", transport)) == INVALID
    assert (await log_in(open_server, NEW))["status"] == 200


async def test_of_two_who_use_a_token_at_once_one_succeeds(open_server: Running) -> None:
    """security check A13."""
    token = await issue(open_server)
    answers = await asyncio.gather(*(reset(open_server, token, text) for text in ("one", "two")))
    assert sorted(answer["status"] for answer in answers) == [200, 400]


async def test_a_token_replaced_in_the_same_moment_is_over(
    open_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security check A13: the next one ends it until the very end."""
    token = await issue(open_server)
    storage = open_server.app.services.storage
    apply = storage.apply

    async def come_second(changes: object) -> None:
        monkeypatch.setattr(storage, "apply", apply)
        await issue(open_server)
        await apply(changes)

    monkeypatch.setattr(storage, "apply", come_second)
    assert told(await reset(open_server, token)) == INVALID
    assert (await log_in(open_server, PASSWORD))["status"] == 200


async def test_a_token_of_another_kind_resets_nothing(open_server: Running) -> None:
    """security check A13: what is for something else is not for this."""
    token = "another-kind"
    row = {
        "token_hash": hashlib.sha256(token.encode()).digest(),
        "kind": "step",
        "kuid": "user",
        "expires_at": None,
        "data": {},
    }
    await open_server.app.services.storage.apply([Insert(Table.ONE_TIME, row)])
    assert told(await reset(open_server, token)) == INVALID


async def test_a_refused_password_does_not_use_the_token_up(open_server: Running) -> None:
    """docs/api/strategies.md#password-reset: who chose a bad one may choose again."""
    token = await issue(open_server)
    answer = await reset(open_server, token, "x" * 5000)
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_argument", "status": 400}
    assert (await log_in(open_server, PASSWORD))["status"] == 200
    assert (await reset(open_server, token))["status"] == 200


ENDINGS = [  # an action that ends a token, its arguments
    ("auth:updateMyCredentials", {"strategy": "local", "body": {"password": NEW}}, False),
    ("auth:updateMyCredentials", {"strategy": "local", "body": {"username": "me"}}, True),
    ("auth:logout", {"global": True}, True),
]


@pytest.mark.parametrize(("name", "args", "lives"), ENDINGS)
async def test_a_token_dies_with_the_password(
    open_server: Running, name: str, args: dict, lives: bool
) -> None:
    """security check A13: on password change, not on anything else."""
    session, token = await open_server.login("user"), await issue(open_server)
    assert (await open_server.call("query", name, token=session, **args))["status"] == 200
    answer = await reset(open_server, token, "a third")
    assert (answer["status"] == 200) == lives
    assert lives or told(answer) == INVALID


async def test_a_token_dies_with_its_user(open_server: Running) -> None:
    """security check A13."""
    token = await issue(open_server)
    admin = await open_server.login("admin")
    await open_server.call("query", "security:deleteUser", token=admin, _id="user")
    assert told(await reset(open_server, token)) == INVALID
    await open_server.create_user(admin, "user")
    assert told(await reset(open_server, token)) == INVALID


async def stored(server: Running) -> tuple[object, object]:
    """Give the stored password, and the reset tokens."""
    storage = server.app.services.storage
    row = await storage.get(Table.CREDENTIALS, strategy="local", id="user")
    return row, await storage.find(Table.ONE_TIME, limit=9, kuid="user")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("password", [NEW, PASSWORD, "user", "x" * 5000])
async def test_a_disabled_user_resets_nothing(
    demanding: Running, transport: str, password: str
) -> None:
    """docs/api/differences.md#equal-answers: a disabled user does not get in, and is not told
    apart; nor is he told whether a password was his. The token is as good as before once he is
    enabled."""
    storage = demanding.app.services.storage
    disabled = [
        Update(Table.USERS, {"kuid": "user"}, {"disabled": 1}),
        JournalEvent(EventKind.USER, "user"),
    ]
    await storage.apply(disabled)
    token = await issue(demanding, transport)
    before = await stored(demanding)
    assert told(await reset(demanding, token, password, transport)) == INVALID
    assert await stored(demanding) == before
    await storage.apply([Update(Table.USERS, {"kuid": "user"}, {"disabled": 0})])
    assert (await reset(demanding, token, NEW, transport))["status"] == 200


async def test_who_is_disabled_in_the_same_moment_changes_nothing(
    open_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/api/differences.md#equal-answers: until the very end."""
    token = await issue(open_server)
    before = await stored(open_server)
    storage = open_server.app.services.storage
    apply = storage.apply

    async def come_second(changes: object) -> None:
        monkeypatch.setattr(storage, "apply", apply)
        await apply([Update(Table.USERS, {"kuid": "user"}, {"disabled": 1})])
        await apply(changes)

    monkeypatch.setattr(storage, "apply", come_second)
    assert told(await reset(open_server, token)) == INVALID
    assert await stored(open_server) == before


async def test_who_gets_no_session_has_the_old_password(
    open_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails leaves the token good: the new password, the end of the token and the
    session are one transaction."""
    token = await issue(open_server)
    before = await stored(open_server)
    with monkeypatch.context() as patch:
        fail_at(Table.SESSIONS, open_server, patch)
        assert (await reset(open_server, token))["status"] == 503
    assert await stored(open_server) == before
    assert (await reset(open_server, token))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_reset_ends_the_sessions(open_server: Running, transport: str) -> None:
    """security check S3; those of others go on."""
    mine, others = await open_server.login("user"), await open_server.login("admin")
    seen = []
    open_server.app.services.storage.follow(seen.extend)
    await reset(open_server, await issue(open_server), transport=transport)
    for token, status in ((mine, 401), (others, 200)):
        answer = await open_server.call(transport, "auth:getCurrentUser", token=token)
        assert answer["status"] == status
    noted = {(entry.noted, entry.subject) for entry in seen}
    assert {(EventKind.SESSIONS, "user"), (EventKind.USER, "user")} <= noted


FOREIGN = ["x", "x" * 43, "x" * 10_000, "é", "a\0b"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_no_reset_token(open_server: Running, transport: str) -> None:
    """docs/api/strategies.md#password-policies `invalid_token`; a session is no reset token."""
    session = await open_server.login("user")
    for token in (*FOREIGN, session):
        answer = await reset(open_server, token, transport=transport)
        assert told(answer) == INVALID
    assert (await log_in(open_server, PASSWORD))["status"] == 200


MISSING = [None, {}, {"token": "t"}, {"password": "p"}]
BLANK = [None, "", " ", 5, ["x"], {}]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_missing_and_blank_members(open_server: Running, transport: str) -> None:
    """docs/api/strategies.md#password-reset: missing, blank, non-string: 400 without an id."""
    token = await issue(open_server)
    bodies = [*MISSING]
    bodies += [{"password": NEW, "token": blank} for blank in BLANK]
    bodies += [{"password": blank, "token": token} for blank in BLANK]
    for body in bodies:
        answer = await open_server.call(transport, RESET, body=body)
        assert (answer["status"], answer["error"].get("id")) == (400, None), body
    assert (await reset(open_server, token))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_users_there_are_no_tokens_for(open_server: Running, transport: str) -> None:
    """docs/api/strategies.md#password-reset: missing or unknown kuid: 400 without an id."""
    for kuid in ("nobody", " ", "-1", "\u00e9", "a\0b"):
        answer = await open_server.call(transport, ISSUE, _id=kuid)
        assert (answer["status"], answer["error"].get("id")) == (400, None), kuid
    if transport != "http":
        for kuid in ({}, {"_id": 5}, {"_id": None}):
            answer = await open_server.call(transport, ISSUE, **kuid)
            assert (answer["status"], answer["error"].get("id")) == (400, None), kuid


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_neither_action_is_for_everybody(server: Running, transport: str) -> None:
    """docs/api/strategies.md#password-reset: not among the restricted rights; security check A3:
    who exists and who does not is answered alike."""
    user = await server.create_user(await server.create_admin(), "user")
    for token, status in ((None, 401), (user, 403)):
        told_ = []
        for kuid in ("user", "nobody"):
            answer = await server.call(transport, ISSUE, token=token, _id=kuid)
            told_.append(told(answer, "id", "status", "message"))
        assert told_[0] == told_[1] and told_[0]["status"] == status
        body = {"password": NEW, "token": "t"}
        answer = await server.call(transport, RESET, token=token, body=body)
        assert answer["status"] == status


@asynccontextmanager
async def expiring(expires_in_ms: int) -> AsyncIterator[Running]:
    config = cheap_config()
    local = replace(config.plugins.local, reset_password_expires_in_ms=expires_in_ms)
    config = replace(config, plugins=replace(config.plugins, local=local))
    async with running(config, open_mode=True) as server:
        await server.create_user(await server.create_admin(), "user")
        yield server


@pytest.mark.parametrize(("expires_in_ms", "is_over"), [(1, True), (7_200_000, False), (-1, False)])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tokens_end(transport: str, expires_in_ms: int, is_over: bool) -> None:
    """docs/api/strategies.md#local-options `resetPasswordExpiresIn`, -1 for no end; security check
    A13."""
    async with expiring(expires_in_ms) as server:
        token = await issue(server)
        rows = await server.app.services.storage.find(Table.ONE_TIME, limit=1, kuid="user")
        ends_at, now_ms = rows[0]["expires_at"], server.app.services.clock_ms()
        if expires_in_ms == -1:
            assert ends_at is None
        else:
            assert now_ms + expires_in_ms - 60_000 < ends_at <= now_ms + expires_in_ms
        if is_over:
            key = {"token_hash": rows[0]["token_hash"]}
            ended = Update(Table.ONE_TIME, key, {"expires_at": now_ms})
            await server.app.services.storage.apply([ended])
        answer = await reset(server, token, transport=transport)
        assert (answer["status"] == 401) == is_over
        assert not is_over or told(answer) == EXPIRED


@pytest.mark.parametrize(("after_ms", "is_over"), [(0, False), (99, False), (100, True)])
async def test_the_end_to_the_millisecond(
    open_server: Running, after_ms: int, is_over: bool
) -> None:
    """security check A13: over when its time is reached."""
    now_ms = [1_000]
    storage = open_server.app.services.storage
    resets = Resets(storage, clock_ms=lambda: now_ms[0], ttl_ms=100)
    token = await resets.issue("user", {"kuid": "user", "strategy": "local"})
    now_ms[0] += after_ms
    if is_over:
        with pytest.raises(ApiError) as refused:
            await resets.find(token)
        assert refused.value.id == EXPIRED["id"]
    else:
        assert await resets.find(token) == "user"


@pytest.mark.parametrize(
    ("is_strict", "given_ms", "ttl_ms"),
    [(False, -1, -1), (True, -1, 3_600_000), (True, 5_000, 5_000), (False, 5_000, 5_000)],
)
def test_strict_mode_gives_every_token_an_end(is_strict: bool, given_ms: int, ttl_ms: int) -> None:
    """security check A13: short life."""
    config = cheap_config()
    local = replace(config.plugins.local, reset_password_expires_in_ms=given_ms)
    config = replace(
        config,
        plugins=replace(config.plugins, local=local),
        security=replace(config.security, strict=is_strict),
    )
    assert reset_ttl_ms(config) == ttl_ms


@pytest.fixture
async def demanding() -> AsyncIterator[Running]:
    """A server whose users must have a password of their own that is not older than a day."""
    config = cheap_config()
    policy = {
        "appliesTo": "*",
        "mustChangePasswordIfSetByAdmin": True,
        "forbidReusedPasswordCount": 2,
    }
    local = replace(config.plugins.local, password_policies=(policy,))
    config = replace(config, plugins=replace(config.plugins, local=local))
    async with running(config, open_mode=True) as server:
        admin = await server.create_admin()
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "user", "password": PASSWORD}},
        }
        await server.call("query", "security:createUser", token=admin, body=body, _id="user")
        yield server


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_must_change_his_password_can(demanding: Running, transport: str) -> None:
    """docs/api/strategies.md#password-reset: the refused login gives the token, and after the
    reset, done by anonymous, nobody else has set the password."""
    answer = await log_in(demanding, PASSWORD)
    assert told(answer, "id") == {"id": f"plugin.{LOCAL}.must_change_password"}
    token = answer["error"]["resetToken"]
    answer = await reset(demanding, token, PASSWORD, transport)
    assert told(answer, "id", "status") == {
        "id": f"plugin.{LOCAL}.reused_password",
        "status": 400,
    }
    answer = await reset(demanding, token, NEW, transport)
    assert answer["result"]["_id"] == "user"
    assert (await log_in(demanding, NEW))["status"] == 200
    row = await demanding.app.services.storage.get(Table.CREDENTIALS, strategy="local", id="user")
    assert row["data"]["updater"] == "user"


async def test_the_session_list_tells_of_the_reset(open_server: Running) -> None:
    """issue, session list: where from and how."""
    http = await open_server.connect()
    body = {"password": NEW, "token": await issue(open_server)}
    answer = await http.ask("POST", "/_/password/reset", body, headers={"User-Agent": "tester/1"})
    rows = await open_server.app.services.storage.find(Table.SESSIONS, limit=9, kuid="user")
    assert answer.status == 200
    assert [row["data"] for row in rows] == [
        {"address": "127.0.0.1", "userAgent": "tester/1", "strategy": "local"}
    ]
