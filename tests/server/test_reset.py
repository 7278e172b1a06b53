"""The reset flow: a new password for who can't log in (contract/05 §1.7, repaired by design §4)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from server import app as app_module
from server.storage.base import Table, Update
from tests.server.errors import told
from tests.server.running import PASSWORD, TRANSPORTS, Running, cheap_config, running

CONTROLLER = "kuzzle-plugin-auth-passport-local/password"
GIVE, RESET = f"{CONTROLLER}:getResetPasswordToken", f"{CONTROLLER}:reset"
PREFIX = "plugin.kuzzle-plugin-auth-passport-local."
INVALID = {"id": PREFIX + "invalid_token", "code": 67108867, "status": 400}
EXPIRED = {"id": PREFIX + "expired_token", "code": 67108866, "status": 401}
NEW = "battery staple"


@pytest.fixture
async def opened() -> AsyncIterator[Running]:
    """A server where everybody may reset passwords, with the user `admin`."""
    async with running(open_mode=True, config=cheap_config()) as server:
        await server.create_admin()
        yield server


async def give_token(server: Running, transport: str = "query", kuid: str = "admin") -> str:
    answer = await server.call(transport, GIVE, _id=kuid)
    assert answer["status"] == 200, answer
    assert list(answer["result"]) == ["resetToken"]
    return answer["result"]["resetToken"]


async def reset(server: Running, transport: str, token: object, password: object = NEW) -> dict:
    return await server.call(transport, RESET, body={"token": token, "password": password})


async def status_of_login(server: Running, password: str, username: str = "admin") -> int:
    body = {"username": username, "password": password}
    return (await server.call("query", "auth:login", strategy="local", body=body))["status"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_reset_sets_the_password_and_logs_in(opened: Running, transport: str) -> None:
    """Security checks A13, S3: other sessions end."""
    before = await opened.login("admin")
    token = await give_token(opened, transport)
    answer = await reset(opened, transport, token)
    result = answer["result"]
    assert list(result) == ["_id", "expiresAt", "jwt", "ttl"]
    assert (result["_id"], result["ttl"]) == ("admin", 3_600_000)
    me = await opened.call(transport, "auth:getCurrentUser", token=result["jwt"])
    assert me["result"]["_id"] == "admin"
    ended = await opened.call(transport, "auth:getCurrentUser", token=before)
    assert told(ended, "id") == {"id": "security.token.invalid"}
    assert await status_of_login(opened, PASSWORD) == 401
    assert await status_of_login(opened, NEW) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_is_good_once(opened: Running, transport: str) -> None:
    """Security check A13."""
    token = await give_token(opened)
    assert (await reset(opened, transport, token))["status"] == 200
    assert told(await reset(opened, transport, token, "another")) == INVALID
    assert await status_of_login(opened, NEW) == 200


async def test_of_two_resets_at_once_one_wins(opened: Running) -> None:
    token = await give_token(opened)
    answers = await asyncio.gather(
        *(reset(opened, "http", token, f"password {number}") for number in range(4))
    )
    assert sorted(answer["status"] for answer in answers) == [200, 400, 400, 400]
    winner = [answer["status"] for answer in answers].index(200)
    assert await status_of_login(opened, f"password {winner}") == 200


async def test_only_a_hash_is_stored(opened: Running) -> None:
    token = await give_token(opened)
    assert len(token) >= 43  # 256 random bits
    digest = hashlib.sha256(token.encode()).digest()
    (row,) = await opened.app.services.storage.find(
        Table.ONE_TIME, limit=10, kuid="admin", kind="reset"
    )
    assert row["token_hash"] == digest and token not in str(row)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_ends(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`resetPasswordExpiresIn`; security check A13."""
    now_ms = app_module.clock_ms()
    later_ms = 0
    monkeypatch.setattr(app_module, "clock_ms", lambda: now_ms + later_ms)
    config = cheap_config()
    local = replace(config.plugins.local, reset_password_expires_in_ms=1000)
    config = replace(config, plugins=replace(config.plugins, local=local))
    async with running(config, open_mode=True) as server:
        await server.create_admin()
        token = await give_token(server)
        later_ms = 1000
        assert told(await reset(server, transport, token)) == EXPIRED
        token = await give_token(server)
        later_ms += 999
        assert (await reset(server, transport, token))["status"] == 200


async def test_without_a_lifetime_a_token_does_not_end(
    opened: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give_token(opened)
    (row,) = await opened.app.services.storage.find(
        Table.ONE_TIME, limit=10, kuid="admin", kind="reset"
    )
    assert row["expires_at"] is None


async def test_a_changed_password_ends_the_token(opened: Running) -> None:
    """Security check A13."""
    session = await opened.login("admin")
    token = await give_token(opened)
    change = {"token": session, "strategy": "local"}
    update = "auth:updateMyCredentials"
    renamed = await opened.call("http", update, body={"username": "root"}, **change)
    assert renamed["status"] == 200
    changed = await opened.call("http", update, body={"password": "own choice"}, **change)
    assert changed["status"] == 200
    assert told(await reset(opened, "http", token)) == INVALID
    assert await status_of_login(opened, "own choice", "root") == 200


async def test_the_next_token_ends_the_one_before(opened: Running) -> None:
    first, second = await give_token(opened), await give_token(opened)
    assert told(await reset(opened, "http", first)) == INVALID
    assert (await reset(opened, "http", second))["status"] == 200


async def test_a_refused_password_leaves_the_token(opened: Running) -> None:
    token = await give_token(opened)
    refused = await reset(opened, "http", token, "x" * 4097)
    assert told(refused, "id", "status") == {"id": "api.assert.invalid_argument", "status": 400}
    assert (await reset(opened, "http", token))["status"] == 200


async def test_disabled_and_deleted_users_are_not_let_in(opened: Running) -> None:
    admin = await opened.login("admin")
    for kuid in ("alice", "bob"):
        await opened.create_user(admin, kuid)
    alice, bob = await give_token(opened, kuid="alice"), await give_token(opened, kuid="bob")
    disabled = Update(Table.USERS, {"kuid": "alice"}, {"disabled": 1})
    await opened.app.services.storage.apply([disabled])
    gone = await opened.call("http", "security:deleteUser", token=admin, _id="bob")
    assert gone["status"] == 200
    assert told(await reset(opened, "http", alice)) == INVALID
    assert (await reset(opened, "http", bob))["status"] in (400, 412)
    row = await opened.app.services.storage.get(Table.CREDENTIALS, strategy="local", id="alice")
    assert await opened.app.services.passwords.verify(PASSWORD, row["data"]["hash"])


async def test_tokens_of_one_kind_are_not_tokens_of_another(opened: Running) -> None:
    """Security check T6."""
    token, session = await give_token(opened), await opened.login("admin")
    as_session = await opened.call("http", "auth:getCurrentUser", token=token)
    assert told(as_session, "id", "status") == {"id": "security.token.invalid", "status": 401}
    for transport in TRANSPORTS:
        for foreign in (session, token + "x", token[:-1], "é", "x" * 10_000):
            assert told(await reset(opened, transport, foreign)) == INVALID


# A body for reset with `password` or `token` missing, blank, or no text.
INCOMPLETE = [
    None,
    {},
    {"token": "x"},
    {"password": NEW},
    {"token": "", "password": NEW},
    {"token": " ", "password": NEW},
    {"token": "x", "password": ""},
    {"token": "x", "password": " \t"},
    {"token": "x", "password": 5},
    {"token": ["x"], "password": NEW},
    {"token": "x", "password": None},
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("body", INCOMPLETE)
async def test_incomplete_resets(opened: Running, transport: str, body: object) -> None:
    answer = await opened.call(transport, RESET, body=body)
    assert answer["error"].keys() == {"message", "status"}
    assert answer["status"] == 400


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kuid", ["nobody", "-1", " "])
async def test_tokens_for_nobody(opened: Running, transport: str, kuid: str) -> None:
    answer = await opened.call(transport, GIVE, _id=kuid)
    assert answer["error"].keys() == {"message", "status"}
    assert answer["status"] == 400


@pytest.mark.parametrize("transport", ["query", "websocket"])
@pytest.mark.parametrize("args", [{}, {"_id": None}, {"_id": 5}])
async def test_tokens_without_an_id(opened: Running, transport: str, args: dict) -> None:
    answer = await opened.call(transport, GIVE, **args)
    assert (answer["status"], answer["error"].keys()) == (400, {"message", "status"})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nobody_may_do_it_at_first(server: Running, transport: str) -> None:
    """Security check A3: a stranger learns nothing, whether there is such a user or not."""
    admin = await server.create_admin()
    alice = await server.create_user(admin, "alice")
    answers = []
    for kuid in ("alice", "nobody"):
        answers.append(await server.call(transport, GIVE, _id=kuid))
        assert told(answers[-1], "id", "status") == {
            "id": "security.rights.unauthorized",
            "status": 401,
        }
    assert answers[0]["error"] == answers[1]["error"]
    forbidden = {"id": "security.rights.forbidden", "status": 403}
    assert (
        told(await server.call(transport, GIVE, token=alice, _id="alice"), *forbidden) == forbidden
    )
    body = {"token": "x", "password": NEW}
    assert (await server.call(transport, RESET, body=body))["status"] == 401
    assert (await server.call(transport, RESET, token=alice, body=body))["status"] == 403
    allowed = await server.call(transport, GIVE, token=admin, _id="alice")
    assert allowed["status"] == 200


ROUTES = ("/_plugin/kuzzle-plugin-auth-passport-local/password", "/_/password")


@pytest.mark.parametrize("route", ROUTES)
async def test_routes_and_caches(opened: Running, route: str) -> None:
    """Security check H4: answers that hold a token are not kept."""
    http = await opened.connect()
    given = await http.ask("GET", f"{route}/resetToken/admin")
    assert (given.status, given.headers["cache-control"]) == (200, "no-store")
    body = {"token": given.json["result"]["resetToken"], "password": NEW}
    done = await http.ask("POST", f"{route}/reset", body)
    assert (done.status, done.headers["cache-control"]) == (200, "no-store")
    assert (done.json["controller"], done.json["action"]) == (CONTROLLER, "reset")


async def test_the_actions_are_shown(opened: Running) -> None:
    answer = await opened.call("http", "server:publicApi")
    shown = answer["result"][CONTROLLER]
    assert shown.keys() == {"getResetPasswordToken", "reset"}
    assert [one["url"] for one in shown["reset"]["http"]] == [f"{path}/reset" for path in ROUTES]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_refused_login_leads_to_a_password_of_ones_own(transport: str) -> None:
    """design §4: `error.resetToken` is sent, and the reset counts as the user's own change."""
    config = cheap_config()
    policy = {"appliesTo": "*", "mustChangePasswordIfSetByAdmin": True}
    local = replace(config.plugins.local, password_policies=(policy,))
    config = replace(config, plugins=replace(config.plugins, local=local))
    async with running(config, open_mode=True) as server:
        admin = await server.create_admin()
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "alice", "password": PASSWORD}},
        }
        made = await server.call("http", "security:createUser", token=admin, body=body, _id="alice")
        assert made["status"] == 200
        login = {"username": "alice", "password": PASSWORD}
        refused = await server.call(transport, "auth:login", strategy="local", body=login)
        assert refused["status"] == 401
        answer = await reset(server, transport, refused["error"]["resetToken"])
        assert answer["result"]["_id"] == "alice"
        assert await status_of_login(server, NEW, "alice") == 200
        assert await status_of_login(server, PASSWORD, "alice") == 401


async def test_a_refusal_with_a_token_is_not_kept_by_caches() -> None:
    """Security check H4."""
    config = cheap_config()
    policy = {"appliesTo": {"users": ["admin"]}, "expiresAfter": "1ms"}
    local = replace(config.plugins.local, password_policies=(policy,))
    config = replace(config, plugins=replace(config.plugins, local=local))
    async with running(config) as server:
        credentials = {"local": {"username": "admin", "password": PASSWORD}}
        body = {"credentials": credentials}
        made = await server.call("http", "security:createFirstAdmin", body=body, _id="admin")
        assert made["status"] == 200
        key = {"strategy": "local", "id": "admin"}
        old = Update(Table.CREDENTIALS, key, {"created_at": 0})
        await server.app.services.storage.apply([old])
        http = await server.connect()
        answer = await http.ask("POST", "/_login/local", credentials["local"])
        assert answer.status == 401 and "resetToken" in answer.json["error"]
        assert answer.headers.get("cache-control") == "no-store"
