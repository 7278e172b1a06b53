"""Users who are disabled and enabled, and sessions that an administrator ends: of one user, of
everybody (docs/api/security.md#sessions-and-tokens revokeTokens;
docs/api/differences.md#tokenexpired; security checks S2, S4)."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from server.core.ids import ANONYMOUS_IDS
from server.storage.base import Missing
from server.storage.rows import Table
from tests.server.auth.audit.test_events import events
from tests.server.auth.sessions.test_expiry_push import EXPIRED, ask, hears_nothing, linked
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running
from tests.support.waiting import until

DISABLE, ENABLE = "security:disableUser", "security:enableUser"
REVOKE, REVOKE_ALL = "security:revokeTokens", "security:revokeAllTokens"
NOT_FOUND = {"id": "security.user.not_found", "code": 117702658, "status": 404}
INVALID = {"id": "security.token.invalid", "status": 401}


async def make_key(server: Running, admin: str, kuid: str) -> str:
    """Give a new API key of a user's."""
    made = await server.call(
        "query", "security:createApiKey", token=admin, userId=kuid, body={"description": "x"}
    )
    return made["result"]["_source"]["token"]


async def status(server: Running, token: str, transport: str = "query") -> object:
    """Give how a request with this token ends."""
    return (await server.call(transport, "auth:getCurrentUser", token=token))["status"]


async def login(server: Running, username: str, password: str = PASSWORD) -> dict:
    """Try to log in."""
    body = {"username": username, "password": password}
    return await server.call("query", "auth:login", strategy="local", body=body)


# Disabled users


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_disabled_user_is_refused_at_once(server: Running, transport: str) -> None:
    """S2: tokens, keys, logins and further keys; the login as any other wrong one (A1)."""
    admin = await server.create_admin()
    token, key = await server.create_user(admin, "ann"), await make_key(server, admin, "ann")
    for used in (token, key):
        for way in TRANSPORTS:
            assert await status(server, used, way) == 200
    answer = await server.call(transport, DISABLE, token=admin, _id="ann")
    assert answer["result"] == {"_id": "ann", "disabled": True}
    for used in (token, key):
        for way in TRANSPORTS:
            refused = await server.call(way, "auth:getCurrentUser", token=used)
            assert told(refused, "id", "status") == INVALID
    right, wrong = await login(server, "ann"), await login(server, "nobody")
    assert right["error"] == wrong["error"]
    made = await server.call(
        "query", "security:createApiKey", token=admin, userId="ann", body={"description": "x"}
    )
    assert told(made) == NOT_FOUND
    assert await status(server, admin) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_enabled_user_comes_in_again(server: Running, transport: str) -> None:
    """S2: with his password and his keys; what his sessions were stays over."""
    admin = await server.create_admin()
    token, key = await server.create_user(admin, "ann"), await make_key(server, admin, "ann")
    shown = await server.call(transport, "security:getUser", token=admin, _id="ann")
    assert "disabled" not in shown["result"]
    for _ in range(2):  # once more changes nothing
        await server.call(transport, DISABLE, token=admin, _id="ann")
    got = await server.call(transport, "security:getUser", token=admin, _id="ann")
    assert got["result"]["disabled"] is True
    assert got["result"]["_source"]["_kuzzle_info"]["updater"] == "admin"
    for _ in range(2):
        answer = await server.call(transport, ENABLE, token=admin, _id="ann")
        assert answer["result"] == {"_id": "ann", "disabled": False}
    assert await status(server, token) == 401
    assert await status(server, key) == 200
    assert await status(server, await server.login("ann")) == 200
    got = await server.call(transport, "security:getUser", token=admin, _id="ann")
    assert "disabled" not in got["result"]
    assert got["result"]["_source"]["profileIds"] == shown["result"]["_source"]["profileIds"]


async def test_no_change_lets_a_disabled_user_in(server: Running) -> None:
    """S2: his document and his password may change, he stays out."""
    admin = await server.create_admin()
    await server.create_user(admin, "ann")
    await server.call("query", DISABLE, token=admin, _id="ann")
    document = {"profileIds": ["default"], "name": "x"}
    for name, body in (
        ("updateUser", document),
        ("replaceUser", document),
        ("upsertUser", {"content": document}),
    ):
        answer = await server.call("query", f"security:{name}", token=admin, _id="ann", body=body)
        assert answer["result"]["disabled"] is True
    await server.call(
        "query",
        "security:updateCredentials",
        token=admin,
        strategy="local",
        _id="ann",
        body={"password": "another one"},
    )
    assert (await login(server, "ann", "another one"))["status"] == 401


async def test_the_sockets_of_a_disabled_user_are_told(server: Running) -> None:
    """S2, docs/api/differences.md#tokenexpired TokenExpired: those that use a session and those
    that use a key."""
    admin = await server.create_admin()
    tokens = [await server.create_user(admin, "ann"), await make_key(server, admin, "ann")]
    his = [await linked(server, token) for token in tokens]
    stranger = await linked(server, admin)
    await server.call("http", DISABLE, token=admin, _id="ann")
    for opened in his:
        assert await opened.read() == EXPIRED
        await hears_nothing(opened)
    await hears_nothing(stranger)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", [DISABLE, ENABLE])
async def test_who_can_not_be_disabled(server: Running, transport: str, name: str) -> None:
    """404 for who is not there and for the anonymous user, 400 for oneself: the last administrator
    must not shut himself out."""
    admin = await server.create_admin()
    for kuid in ("nobody", "x" * 600, *ANONYMOUS_IDS):
        answer = await server.call(transport, name, token=admin, _id=kuid)
        assert told(answer) == NOT_FOUND
    answer = await server.call(transport, DISABLE, token=admin, _id="admin")
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_argument", "status": 400}
    assert await status(server, admin) == 200
    user = await server.create_user(admin, "ann")
    answer = await server.call(transport, name, token=user, _id="admin")
    assert told(answer, "id", "status") == {"id": "security.rights.forbidden", "status": 403}


async def test_a_login_in_the_same_moment_gives_no_living_token() -> None:
    """S2: whoever is first, no token is good once the user is disabled."""
    limits = replace(cheap_config().limits, failed_logins=0)
    async with running(cheap_config(limits=limits)) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        for _ in range(5):
            logins = [login(server, "ann") for _ in range(3)]
            *answers, _ = await asyncio.gather(
                *logins, server.call("query", DISABLE, token=admin, _id="ann")
            )
            for answer in answers:
                assert answer["status"] in (200, 401)
                if answer["status"] == 200:
                    assert await status(server, answer["result"]["jwt"]) == 401
            await server.call("query", ENABLE, token=admin, _id="ann")


async def test_another_process_hears_of_it(tmp_path: Path) -> None:
    """S1, S2, S4: by the journal."""
    data = str(tmp_path / "manykeys.db")
    async with running(data=data) as one, running(data=data) as two:
        admin = await one.create_admin()
        token, bob = await one.create_user(admin, "ann"), await one.create_user(admin, "bob")
        key = await make_key(one, admin, "ann")
        opened = [await linked(two, used) for used in (token, key, bob)]
        own = await linked(two, admin)
        await one.call("query", DISABLE, token=admin, _id="ann")
        for told_socket in opened[:2]:
            assert await told_socket.read() == EXPIRED
        assert [await status(two, used) for used in (token, key, bob)] == [401, 401, 200]
        await one.call("query", REVOKE_ALL, token=admin)
        assert await opened[2].read() == EXPIRED
        assert await status(two, bob) == 401
        assert await status(two, admin) == 200
        await hears_nothing(own)


# Sessions of one user


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_all_sessions_of_a_user_end(server: Running, transport: str) -> None:
    """docs/api/security.md#sessions-and-tokens revokeTokens,
    docs/api/security.md#sessions-and-tokens: `null`; API keys are kept; S4."""
    admin = await server.create_admin()
    tokens = [await server.create_user(admin, "ann"), await server.login("ann")]
    key = await make_key(server, admin, "ann")
    answer = await server.call(transport, REVOKE, token=admin, _id="ann")
    assert (answer["status"], answer["result"], "result" in answer) == (200, None, True)
    assert [await status(server, token) for token in tokens] == [401, 401]
    assert [await status(server, token) for token in (key, admin)] == [200, 200]
    assert (await login(server, "ann"))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kuid", ["nobody", "x" * 600, "-1", "anonymous"])
async def test_whose_sessions_is_not_asked(server: Running, transport: str, kuid: str) -> None:
    """docs/api/security.md#user-actions: user existence is not checked."""
    admin = await server.create_admin()
    answer = await server.call(transport, REVOKE, token=admin, _id=kuid)
    assert (answer["status"], answer["result"]) == (200, None)
    assert await status(server, admin) == 200


async def test_who_ends_his_own_sessions_is_not_told(server: Running) -> None:
    """docs/api/differences.md#tokenexpired TokenExpired: every socket but the one that asked."""
    admin = await server.create_admin()
    asker, other = await linked(server, admin), await linked(server, admin)
    answer = await ask(asker, REVOKE, admin, _id="admin")
    assert answer["result"] is None
    assert await other.read() == EXPIRED
    await hears_nothing(asker)
    assert await status(server, admin) == 401


# Everybody's sessions


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_everybodys_sessions_end_but_ones_own(server: Running, transport: str) -> None:
    """S4: also the caller's others and tokens for one request; API keys stay."""
    admin = await server.create_admin()
    tokens = [await server.create_user(admin, kuid) for kuid in ("ann", "bob")]
    tokens.append(await server.login("admin"))
    once = await server.call("query", "auth:createToken", token=admin, singleUse=True)
    tokens.append(once["result"]["token"])
    key = await make_key(server, admin, "ann")
    opened = [await linked(server, token) for token in tokens[:3]]
    own = [await linked(server, token) for token in (admin, key)]
    answer = await server.call(transport, REVOKE_ALL, token=admin)
    assert (answer["status"], answer["result"], "result" in answer) == (200, None, True)
    assert [await status(server, token) for token in tokens] == [401] * 4
    assert [await status(server, token) for token in (admin, key)] == [200, 200]
    for told_socket in opened:
        assert await told_socket.read() == EXPIRED
        await hears_nothing(told_socket)
    for untold in own:
        await hears_nothing(untold)
    assert await server.app.services.storage.count(Table.SESSIONS) == 1
    listed = await server.call("query", "auth:getMySessions", token=admin)
    assert [hit["_source"]["current"] for hit in listed["result"]["hits"]] == [True]


async def test_a_session_goes_on_with_its_chain(server: Running) -> None:
    """S4, RFC 9700 §4.14: it can be refreshed, and old tokens of it still give a thief away."""
    first = await server.create_admin()
    refreshed = await server.call("query", "auth:refreshToken", token=first)
    second = refreshed["result"]["jwt"]
    storage = server.app.services.storage
    before = await storage.find(Table.SESSIONS, limit=9)
    await server.call("query", REVOKE_ALL, token=second)
    after = await storage.find(Table.SESSIONS, limit=9)
    assert [row["token_hash"] for row in after] == [row["token_hash"] for row in before]
    assert {row["refreshed_at"] is None for row in after} == {True, False}
    assert await status(server, second) == 200
    assert (await server.call("query", "auth:refreshToken", token=second))["status"] == 200


async def test_who_asks_with_a_key_keeps_no_session(server: Running) -> None:
    """S4: a key is no session, and goes on."""
    admin = await server.create_admin()
    key = await make_key(server, admin, "admin")
    answer = await server.call("query", REVOKE_ALL, token=key)
    assert answer["status"] == 200
    assert [await status(server, token) for token in (admin, key)] == [401, 200]
    assert await server.app.services.storage.count(Table.SESSIONS) == 0


async def test_a_session_that_is_refreshed_meanwhile_goes_on(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4: what was read before is not what is kept."""
    token = await server.create_admin()
    storage, apply = server.app.services.storage, server.app.services.storage.apply
    successor = []

    async def come_second(changes: object) -> None:
        monkeypatch.setattr(storage, "apply", apply)
        answer = await server.call("query", "auth:refreshToken", token=token)
        successor.append(answer["result"]["jwt"])
        await apply(changes)

    monkeypatch.setattr(storage, "apply", come_second)
    answer = await server.call("query", REVOKE_ALL, token=token)
    assert answer["status"] == 200
    assert await status(server, successor[0]) == 200


async def test_a_session_that_never_holds_still_is_given_up(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/api/errors.md `services.storage.too_many_changes`, and nobody's session has ended."""
    admin = await server.create_admin()
    user = await server.create_user(admin, "ann")
    storage = server.app.services.storage
    with monkeypatch.context() as patched:

        async def lose(changes: object) -> None:
            raise Missing(Table.SESSIONS)

        patched.setattr(storage, "apply", lose)
        answer = await server.call("query", REVOKE_ALL, token=admin)
    assert told(answer, "id") == {"id": "services.storage.too_many_changes"}
    assert [await status(server, token) for token in (admin, user)] == [200, 200]


async def test_the_way_to_all_sessions_is_no_users(server: Running) -> None:
    """A user may have any id: deleting him over HTTP never means everybody's sessions."""
    admin = await server.create_admin()
    user = await server.create_user(admin, "ann")
    for kuid in ("_tokens", "tokens", "_revokeAll"):
        await server.call("query", "security:createRestrictedUser", token=admin, _id=kuid)
        answer = await server.call("http", "security:deleteUser", token=admin, _id=kuid)
        assert answer["result"] == {"_id": kuid}
    assert await status(server, user) == 200
    answer = await server.call("http", REVOKE_ALL)
    assert told(answer, "id", "status") == {"id": "security.rights.unauthorized", "status": 401}
    answer = await server.call("http", REVOKE_ALL, token=user)
    assert told(answer, "id", "status") == {"id": "security.rights.forbidden", "status": 403}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_trail_tells_whom_it_was_about(server: Running, transport: str) -> None:
    """Security check X1: each user by himself, and nobody in particular where all are meant."""
    admin = await server.create_admin()
    for kuid in ("ann", "bob", "eve"):
        await server.create_user(admin, kuid)
    for name, args in (
        ("disableUser", {"_id": "ann"}),
        ("enableUser", {"_id": "ann"}),
        ("revokeTokens", {"_id": "bob"}),
        ("updateUser", {"_id": "bob", "body": {"n": 1}}),
        ("deleteCredentials", {"_id": "eve", "strategy": "local"}),
        ("revokeAllTokens", {}),
        ("mDeleteUsers", {"body": {"ids": ["ann", "bob"]}}),
    ):
        answer = await server.call(transport, f"security:{name}", token=admin, **args)
        assert answer["status"] == 200
    told_of: dict[str, set[tuple[object, object]]] = {}
    for event in await events(server, admin):
        told_of.setdefault(event["kind"], set()).add((event["actor"], event["subject"]))
    for name, subjects in (
        ("disableUser", {"ann"}),
        ("enableUser", {"ann"}),
        ("revokeTokens", {"bob"}),
        ("updateUser", {"bob"}),
        ("deleteCredentials", {"eve"}),
        ("revokeAllTokens", {""}),
        ("mDeleteUsers", {"ann", "bob"}),
    ):
        assert told_of[f"security:{name}"] == {("admin", subject) for subject in subjects}


async def test_everybody_may_be_many(server: Running) -> None:
    """S4: the store needs one statement for them all, and everybody is told."""
    admin = await server.create_admin()
    tokens = [await server.create_user(admin, f"u{number}") for number in range(20)]
    sockets = [await linked(server, token) for token in tokens]
    await server.call("query", REVOKE_ALL, token=admin)
    links = server.app.services.links
    await until(lambda: not links._unnotified)
    assert [await opened.read() for opened in sockets] == [EXPIRED] * 20
