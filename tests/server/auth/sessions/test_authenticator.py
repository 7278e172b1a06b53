"""Tokens in time: further ones, single-use ones, refreshed ones, and their ends
(docs/api/auth.md)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from protocol.errors import ApiError
from server.auth.login.flow import LoginSucceeded, Visit
from server.auth.strategies.base import LoginAttempt
from server.storage.base import Delete, Insert
from server.storage.rows import Table
from tests.support.clock import START_MS, Clock
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, Socket, cheap_config, running

INVALID = {"id": "security.token.invalid", "code": 117506049, "status": 401}


@asynccontextmanager
async def configured(**token: object) -> AsyncIterator[Running]:
    """Run a server with other settings in `security.authToken`."""
    config = cheap_config()
    security = replace(config.security, auth_token=replace(config.security.auth_token, **token))
    async with running(replace(config, security=security)) as server:
        yield server


async def who(server: Running, transport: str, token: str) -> str | None:
    """Give whose a token is, None when it is refused as invalid."""
    answer = await server.call(transport, "auth:getCurrentUser", token=token)
    if answer["error"] is None:
        return answer["result"]["_id"]
    assert told(answer) == INVALID
    return None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_for_one_request(server: Running, transport: str) -> None:
    """docs/api/auth.md#verification: used up by the first request, also one that fails."""
    admin = await server.create_admin()
    for full_name in ("auth:getCurrentUser", "security:getUser"):
        made = await server.call(transport, "auth:createToken", token=admin, singleUse=True)
        assert made["result"]["singleUse"] is True
        token = made["result"]["token"]
        used = await server.call(transport, full_name, token=token, _id="nobody")
        assert used["status"] in (200, 404)
        assert await who(server, transport, token) is None
    made = await server.call(transport, "auth:createToken", token=admin, singleUse=True)
    body = {"token": made["result"]["token"]}
    for valid in (True, False):
        checked = await server.call(transport, "auth:checkToken", body=body)
        assert checked["result"]["valid"] is valid


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refresh(clock: Clock, transport: str) -> None:
    """docs/api/auth.md#refreshtoken: the old token goes on for the grace of one second (S7)."""
    async with configured() as server:
        old = await server.create_admin()
        answer = await server.call(transport, "auth:refreshToken", token=old, expiresIn="3h")
        result = answer["result"]
        assert list(result) == ["_id", "expiresAt", "jwt", "ttl"]
        assert (result["_id"], result["ttl"]) == ("admin", 10_800_000)
        new = result["jwt"]
        assert new != old
        clock.now_ms += 999
        assert await who(server, transport, old) == "admin"
        clock.now_ms += 1
        assert await who(server, transport, new) == "admin"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refreshes_at_once_give_one_successor(clock: Clock, transport: str) -> None:
    """Within the grace the same successor, however often it is asked for (S8)."""
    async with configured() as server:
        old = await server.create_admin()
        answers = [await server.call(transport, "auth:refreshToken", token=old) for _ in range(3)]
        assert len({answer["result"]["jwt"] for answer in answers}) == 1


async def chain_of(server: Running, transport: str, first: str, length: int = 3) -> list[str]:
    """Refresh a token, its successor and so on; return all of them, oldest first."""
    chain = [first]
    for _ in range(length - 1):
        answer = await server.call(transport, "auth:refreshToken", token=chain[-1])
        chain.append(answer["result"]["jwt"])
    return chain


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refresh_with_a_spent_token_ends_the_chain(clock: Clock, transport: str) -> None:
    """Security check S8, RFC 9700 §4.14: two clients refresh copies of one token."""
    async with configured() as server:
        first = await server.create_admin()
        other = await server.login("admin")
        chain = await chain_of(server, transport, first)
        assert await who(server, transport, chain[2]) == "admin"
        clock.now_ms += 1000
        answer = await server.call(transport, "auth:refreshToken", token=chain[0])
        assert told(answer) == INVALID
        for token in chain:
            assert await who(server, transport, token) is None
        assert await who(server, transport, other) == "admin"


SPENT_USES = (
    ("auth:getCurrentUser", {}),
    ("auth:logout", {}),
    ("auth:logout", {"global": True}),
    ("auth:createToken", {}),
    ("auth:updateSelf", {"body": {"a": 1}}),
    ("auth:login", {"strategy": "local", "body": {"username": "admin", "password": PASSWORD}}),
    ("security:deleteUser", {"_id": "admin"}),
    ("server:now", {}),
    ("no:such", {}),
)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_spent_token_in_any_other_action_is_401_and_changes_nothing(
    clock: Clock, transport: str
) -> None:
    """Security check S8: only a refresh says that two clients hold copies of one token."""
    async with configured() as server:
        first = await server.create_admin()
        chain = await chain_of(server, transport, first)
        clock.now_ms += 1000
        for full_name, args in SPENT_USES:
            if transport == "http" and full_name == "no:such":
                continue  # no route leads there
            answer = await server.call(transport, full_name, token=chain[0], **args)
            assert told(answer) == INVALID, full_name
        for _ in range(2):
            checked = await server.call(transport, "auth:checkToken", body={"token": chain[1]})
            assert checked["result"]["valid"] is False
        assert await who(server, transport, chain[2]) == "admin"
        assert len(await server.app.services.storage.find(Table.SESSIONS, limit=9)) == 3


async def test_spent_token_in_a_cookie_is_401_and_changes_nothing(clock: Clock) -> None:
    """Security check S8: a browser with an old cookie does not end the session of the others."""
    config = cheap_config()
    http = replace(
        config.http,
        cookie_authentication=True,
        access_control_allow_origin=("https://app.example",),
    )
    async with running(replace(config, http=http)) as server:
        first, second = await chain_of(server, "http", await server.create_admin(), 2)
        clock.now_ms += 1000
        asked = {"Cookie": f"authToken={first}", "Origin": "https://app.example"}
        connection = await server.connect()
        for method, path in (("GET", "/_me"), ("GET", "/_checkToken")):
            await connection.ask(method, path, headers=asked)
        assert await who(server, "http", second) == "admin"


async def test_two_tabs_with_one_token_the_second_is_401_and_the_first_goes_on(
    clock: Clock,
) -> None:
    """Security check S8: until the second tab refreshes itself, which ends both."""
    async with configured() as server:
        stored = await server.create_admin()
        first_tab, second_tab = await server.open_socket(), await server.open_socket()

        async def ask(tab: Socket, action: str, token: str) -> dict[str, object]:
            return await tab.ask({"controller": "auth", "action": action, "jwt": token})

        await ask(second_tab, "getCurrentUser", stored)
        answer = await ask(first_tab, "refreshToken", stored)
        fresh = answer["result"]["jwt"]
        clock.now_ms += 1500
        assert told(await ask(second_tab, "getCurrentUser", stored)) == INVALID
        assert (await ask(first_tab, "getCurrentUser", fresh))["result"]["_id"] == "admin"
        assert first_tab.heard == []
        assert told(await ask(second_tab, "refreshToken", stored)) == INVALID
        assert told(await ask(first_tab, "getCurrentUser", fresh)) == INVALID
        assert [message["type"] for message in first_tab.heard] == ["TokenExpired"]


async def test_the_greatest_age_holds_through_refreshes(clock: Clock) -> None:
    """Security check S6."""
    async with configured(max_age_ms=5_400_000) as server:
        token = await server.create_admin()
        clock.now_ms += 3_500_000
        answer = await server.call("http", "auth:refreshToken", token=token)
        result = answer["result"]
        assert (result["ttl"], result["expiresAt"]) == (1_900_000, START_MS + 5_400_000)
        endless = await server.login("admin", expiresIn=-1)
        claims = jwt.decode(endless, options={"verify_signature": False, "verify_exp": False})
        assert claims["exp"] - claims["iat"] == 5400
        clock.now_ms = START_MS + 5_399_999
        assert await who(server, "http", result["jwt"]) == "admin"
        clock.now_ms += 1
        assert await who(server, "http", result["jwt"]) is None


async def test_unused_sessions_end(clock: Clock) -> None:
    """Security check S6: a session lives as long as it is used."""
    async with configured(idle_ms=600_000) as server:
        token, unused = await server.create_admin(), await server.login("admin")
        for _ in range(5):
            clock.now_ms += 599_999
            assert await who(server, "websocket", token) == "admin"
            await server.app.services.tokens.write_uses()
        assert await who(server, "websocket", unused) is None
        server.app.services.tokens.forget_all()
        clock.now_ms += 400_000
        assert await who(server, "websocket", token) == "admin"
        clock.now_ms += 600_000
        assert await who(server, "websocket", token) is None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tokens_end_to_the_millisecond(clock: Clock, transport: str) -> None:
    """docs/api/auth.md#stored-session, security check T4."""
    async with configured() as server:
        await server.create_admin()
        token = await server.login("admin", expiresIn="90s")
        clock.now_ms += 89_999
        assert await who(server, transport, token) == "admin"
        clock.now_ms += 1
        assert await who(server, transport, token) is None
        clock.now_ms += 1
        await server.app.services.tokens.sweep()
        clock.now_ms -= 2
        assert await who(server, transport, token) is None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_update_self(server: Running, transport: str) -> None:
    """docs/api/auth.md#updateself; docs/api/differences.md#merging, deep merge in the answer and in
    the store."""
    token = await server.create_admin()
    for body in ({"home": {"town": "İzmir", "zip": "35"}, "tags": [1]}, {"home": {"zip": "36"}}):
        answer = await server.call(transport, "auth:updateSelf", token=token, body=body)
        assert answer["status"] == 200, answer
    source = answer["result"]["_source"]
    assert source["home"] == {"town": "İzmir", "zip": "36"}
    assert (source["tags"], source["profileIds"]) == ([1], ["admin"])
    assert source["_kuzzle_info"]["updater"] == "admin"
    assert isinstance(source["_kuzzle_info"]["updatedAt"], int)
    me = await server.call(transport, "auth:getCurrentUser", token=token)
    assert me["result"]["_source"] == source


async def test_the_store_holds_no_token(server: Running) -> None:
    """docs/api/differences.md#stored-tokens, security check T11: nothing in the store can be used
    as a credential."""
    token = await server.create_admin()
    answer = await server.call("http", "auth:refreshToken", token=token)
    rows = await server.app.services.storage.find(Table.SESSIONS, limit=10)
    assert len(rows) == 2
    for secret in (token, answer["result"]["jwt"], PASSWORD):
        assert secret not in str(rows)
        assert secret.rpartition(".")[2] not in str(rows)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("shown", [0, 1])
async def test_logout_ends_the_whole_chain(clock: Clock, transport: str, shown: int) -> None:
    """Security check S1: neither the token that was refreshed nor the one that followed goes on,
    whichever of them logs out."""
    async with configured(grace_period_ms=60_000) as server:
        old = await server.create_admin()
        other = await server.login("admin")
        answer = await server.call(transport, "auth:refreshToken", token=old)
        chain = (old, answer["result"]["jwt"])
        await server.call(transport, "auth:logout", token=chain[shown])
        for token in chain:
            assert await who(server, transport, token) is None
        assert await who(server, transport, other) == "admin"


async def test_a_login_does_not_outlive_the_password_it_showed(server: Running) -> None:
    """Security check S3: credentials that change while a login is in progress end it."""
    admin = await server.create_admin()
    services = server.app.services
    shown = LoginAttempt({"username": "admin", "password": PASSWORD})
    found = await services.logins.attempt("local", shown, Visit("", {}))
    assert isinstance(found, LoginSucceeded)
    changed = await server.call(
        "query",
        "auth:updateMyCredentials",
        token=admin,
        strategy="local",
        body={"password": "another one"},
    )
    assert changed["status"] == 200, changed
    with pytest.raises(ApiError) as refused:
        await services.issuer.issue(found.user, 1000, guards=found.guards)
    assert (refused.value.id, refused.value.status) == ("plugin.strategy.missing_user", 401)


async def test_documents_do_not_grow_without_end(server: Running) -> None:
    """Each update is within the limit of a request; what they make together is bounded too."""
    token = await server.create_admin()
    for name, status in (("a", 200), ("b", 400), ("a", 200)):
        body = {name: "x" * 600_000}
        answer = await server.call("query", "auth:updateSelf", token=token, body=body)
        assert answer["status"] == status
    me = await server.call("query", "auth:getCurrentUser", token=token)
    assert set(me["result"]["_source"]) == {"profileIds", "a", "_kuzzle_info"}


async def test_uses_are_known_after_a_restart(clock: Clock, tmp_path: Path) -> None:
    """A session in use does not end because the server was stopped."""
    config = cheap_config()
    token_settings = replace(config.security.auth_token, idle_ms=600_000)
    config = replace(config, security=replace(config.security, auth_token=token_settings))
    data = str(tmp_path / "keys.db")
    async with running(config, data=data) as server:
        token = await server.create_admin()
        clock.now_ms += 30_000
        assert await who(server, "http", token) == "admin"
    clock.now_ms += 599_999
    async with running(config, data=data) as server:
        assert await who(server, "http", token) == "admin"


async def test_expired_one_time_tokens_are_swept(clock: Clock) -> None:
    """Nothing that has an end stays for ever, and nothing without one goes."""
    async with configured() as server:
        storage = server.app.services.storage
        for number, ends_ms in enumerate((clock.now_ms - 1, clock.now_ms + 1, None)):
            row = {"token_hash": bytes([number]), "kind": "x", "kuid": None, "data": {}}
            await storage.apply([Insert(Table.ONE_TIME, {**row, "expires_at": ends_ms})])
        await server.app.services.tokens.sweep()
        left = await storage.find(Table.ONE_TIME, limit=10)
        assert [row["token_hash"] for row in left] == [b"\x01", b"\x02"]


async def create_token(server: Running, transport: str, token: str, **args: object) -> str:
    """Create a further token with this one."""
    answer = await server.call(transport, "auth:createToken", token=token, **args)
    assert answer["status"] == 200, answer
    return answer["result"]["token"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_create_token_with_a_single_use_token_is_refused(
    server: Running, transport: str
) -> None:
    """Security check F5: what is valid once does not turn into something that lasts."""
    admin = await server.create_admin()
    for single_use in (True, False):
        token = await create_token(server, transport, admin, singleUse=True)
        answer = await server.call(transport, "auth:createToken", token=token, singleUse=single_use)
        assert told(answer, "id", "status") == {
            "id": "security.rights.forbidden",
            "status": 403,
        }
    assert len(await server.app.services.storage.find(Table.SESSIONS, limit=9)) == 1


async def key_of(server: Running, token: str, **args: object) -> tuple[str, str]:
    """Create an API key; return its id and its token."""
    body = {"description": "for a service"}
    made = await server.call("query", "auth:createApiKey", token=token, body=body, **args)
    assert made["status"] == 200, made
    return made["result"]["_id"], made["result"]["_source"]["token"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_session_created_with_an_api_key_ends_with_the_key(
    server: Running, transport: str
) -> None:
    """Security check F5: also one created with such a session, and one refreshed since; sockets are
    notified."""
    admin = await server.create_admin()
    key_id, key = await key_of(server, admin)
    child = await create_token(server, transport, key)
    grandchild = await create_token(server, transport, child)
    answer = await server.call(transport, "auth:refreshToken", token=child)
    tokens = (child, answer["result"]["jwt"], grandchild)
    socket = await server.open_socket()
    await socket.ask({"controller": "auth", "action": "getCurrentUser", "jwt": grandchild})
    for token in tokens:
        assert await who(server, transport, token) == "admin"
    deleted = await server.call("query", "auth:deleteApiKey", token=admin, _id=key_id)
    assert deleted["status"] == 200, deleted
    for token in tokens:
        assert await who(server, transport, token) is None
    assert (await socket.read())["type"] == "TokenExpired"
    assert await who(server, transport, admin) == "admin"


async def test_session_created_with_a_deleted_api_key_stays_refused_after_a_restart(
    tmp_path: Path,
) -> None:
    """Security check F5: even if only the key was deleted before the process was killed."""
    data = str(tmp_path / "keys.db")
    async with running(data=data) as server:
        admin = await server.create_admin()
        key_id, key = await key_of(server, admin)
        child = await create_token(server, "http", key)
        await server.app.services.storage.apply([Delete(Table.API_KEYS, {"id": key_id})])
    async with running(data=data) as server:
        assert await who(server, "http", child) is None
        assert await who(server, "http", admin) == "admin"


async def test_session_created_with_an_expiring_api_key_ends_with_it(clock: Clock) -> None:
    """Security check F5: its lifetime is the key's at most, also through refreshes."""
    async with configured() as server:
        admin = await server.create_admin()
        _, key = await key_of(server, admin, expiresIn="10m")
        child = await create_token(server, "http", key, expiresIn="2h")
        clock.now_ms += 599_000
        assert await who(server, "http", child) == "admin"
        answer = await server.call("http", "auth:refreshToken", token=child, expiresIn="2h")
        clock.now_ms += 1_000
        assert await who(server, "http", child) is None
        assert await who(server, "http", answer["result"]["jwt"]) is None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_session_created_with_a_reused_token_ends_with_its_chain(
    clock: Clock, transport: str
) -> None:
    """Security checks F5, S8: who stole a token keeps nothing that was created with it."""
    async with configured() as server:
        stolen = await server.create_admin()
        child = await create_token(server, transport, stolen)
        (_, successor) = await chain_of(server, transport, stolen, 2)
        clock.now_ms += 1000
        assert told(await server.call(transport, "auth:refreshToken", token=stolen)) == INVALID
        for token in (stolen, child, successor):
            assert await who(server, transport, token) is None


async def test_session_created_with_a_revoked_session_ends_with_it(server: Running) -> None:
    """Security check F5: a user who revokes a stolen session revokes what was created with it; a
    logout ends only itself."""
    mine = await server.create_admin()
    stolen, left = await server.login("admin"), await server.login("admin")
    children = [await create_token(server, "http", token) for token in (stolen, left)]
    listed = await server.call("http", "auth:getMySessions", token=stolen)
    (own,) = [one["_id"] for one in listed["result"]["hits"] if one["_source"]["current"]]
    revoked = await server.call("http", "auth:deleteMySession", token=mine, _id=own)
    assert revoked["status"] == 200, revoked
    await server.call("http", "auth:logout", token=left)
    assert await who(server, "http", children[0]) is None
    assert await who(server, "http", children[1]) == "admin"
