"""The session list over every transport (docs/api/differences.md#default-role, default role; issue
3 point 7), and the chain of tokens a session is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from protocol.errors import ApiError
from server.auth.sessions.sessions import MOST_LISTED, Sessions
from server.storage.base import Entry, EventKind, Insert, Update
from server.storage.rows import Row, Table
from server.storage.sqlite.storage import SqliteStorage
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

INVALID = {"id": "security.token.invalid", "code": 117506049, "status": 401}
FORBIDDEN = {"id": "security.rights.forbidden", "code": 117637122, "status": 403}
NOT_FOUND = {"id": "services.storage.not_found", "code": 16842763, "status": 404}
NOW_MS = 1_700_000_000_000


async def listed(server: Running, transport: str, token: str) -> dict[str, dict]:
    """Give the caller's own sessions by id."""
    answer = await server.call(transport, "auth:getMySessions", token=token)
    assert answer["status"] == 200, answer
    hits = answer["result"]["hits"]
    assert answer["result"]["total"] == len(hits)
    return {hit["_id"]: hit["_source"] for hit in hits}


async def current_id(server: Running, token: str) -> str:
    """Give the id of the session a token belongs to."""
    found = await listed(server, "query", token)
    (session_id,) = [one for one, source in found.items() if source["current"]]
    return session_id


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_user_sees_his_sessions(server: Running, transport: str) -> None:
    """Security check S5: created, last used, address, user agent, strategy,
    current."""
    user = await server.create_user(await server.create_admin(), "ann")
    http = await server.connect()
    login = await http.ask(
        "POST",
        "/_login/local?expiresIn=-1",
        {"username": "ann", "password": PASSWORD},
        headers={"User-Agent": "teapot/1"},
    )
    token = login.json["result"]["jwt"]
    answer = await server.call(transport, "auth:getMySessions", token=token)
    assert list(answer["result"]) == ["hits", "total"]
    for hit in answer["result"]["hits"]:
        assert list(hit) == ["_id", "_source"]
        assert list(hit["_source"]) == [
            "createdAt",
            "expiresAt",
            "ttl",
            "lastUsedAt",
            "address",
            "userAgent",
            "strategy",
            "amr",
            "authenticatedAt",
            "current",
        ]
    mine = await listed(server, transport, token)
    assert len(mine) == 2
    (own,) = [source for source in mine.values() if source["current"]]
    (first,) = [source for source in mine.values() if not source["current"]]
    assert (own["userAgent"], own["address"], own["strategy"]) == ("teapot/1", "127.0.0.1", "local")
    assert (own["amr"], own["authenticatedAt"]) == (["local"], own["createdAt"])
    assert (own["ttl"], own["expiresAt"]) == (-1, -1)
    assert (first["ttl"], first["expiresAt"]) == (3_600_000, first["createdAt"] + 3_600_000)
    assert first["createdAt"] <= own["createdAt"] <= own["lastUsedAt"]
    other_way = await listed(server, transport, user)
    assert {one: source["current"] for one, source in other_way.items()} == {
        one: not source["current"] for one, source in mine.items()
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tokens_never_appear(server: Running, transport: str) -> None:
    """Security check T11."""
    token = await server.create_admin()
    for full_name, args in (
        ("auth:getMySessions", {}),
        ("security:getUserSessions", {"_id": "admin"}),
    ):
        answer = await server.call(transport, full_name, token=token, **args)
        (hit,) = answer["result"]["hits"]
        row = await server.app.services.storage.get(Table.SESSIONS, id=hit["_id"])
        assert row is not None
        for secret in (token, token.rpartition(".")[2], row["token_hash"].hex()):
            assert secret not in str(answer)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_user_ends_one_of_his_sessions(server: Running, transport: str) -> None:
    """Security checks S1 and S5: refused on every transport, the others live on."""
    user = await server.create_user(await server.create_admin(), "ann")
    other = await server.login("ann")
    session_id = await current_id(server, other)
    args = {"token": user, "_id": session_id}
    answer = await server.call(transport, "auth:deleteMySession", **args)
    assert answer["result"] == {"_id": session_id}
    for again in TRANSPORTS:
        assert told(await server.call(again, "auth:getCurrentUser", token=other)) == INVALID
        assert (await server.call(again, "auth:getCurrentUser", token=user))["status"] == 200
    assert session_id not in await listed(server, transport, user)
    answer = await server.call(transport, "auth:deleteMySession", **args)
    assert told(answer) == NOT_FOUND


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_user_ends_the_session_he_asks_with(server: Running, transport: str) -> None:
    """As a logout does."""
    user = await server.create_user(await server.create_admin(), "ann")
    session_id = await current_id(server, user)
    answer = await server.call(transport, "auth:deleteMySession", token=user, _id=session_id)
    assert answer["result"] == {"_id": session_id}
    assert told(await server.call(transport, "auth:getMySessions", token=user)) == INVALID


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_other_users_sessions_are_not_there(server: Running, transport: str) -> None:
    """404 for unknown and for somebody else's, whoever asks through `auth`."""
    admin = await server.create_admin()
    user = await server.create_user(admin, "ann")
    foreign = await current_id(server, admin)
    for session_id in (foreign, "unknown", "x" * 600):
        answer = await server.call(transport, "auth:deleteMySession", token=user, _id=session_id)
        assert told(answer) == NOT_FOUND
        assert answer["error"]["props"] == [session_id]
    assert foreign not in await listed(server, transport, user)
    assert foreign in await listed(server, transport, admin)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_administrator_ends_a_session_of_a_user(server: Running, transport: str) -> None:
    """Security check S4."""
    admin = await server.create_admin()
    user = await server.create_user(admin, "ann")
    session_id = await current_id(server, user)
    answer = await server.call(transport, "security:getUserSessions", token=admin, _id="ann")
    (hit,) = answer["result"]["hits"]
    assert (hit["_id"], hit["_source"]["current"]) == (session_id, False)
    assert answer["result"]["total"] == 1
    args = {"token": admin, "sessionId": session_id}
    mistaken = await server.call(transport, "security:deleteUserSession", _id="admin", **args)
    assert told(mistaken) == NOT_FOUND
    ended = await server.call(transport, "security:deleteUserSession", _id="ann", **args)
    assert ended["result"] == {"_id": session_id}
    for again in TRANSPORTS:
        assert told(await server.call(again, "auth:getCurrentUser", token=user)) == INVALID
    answer = await server.call(transport, "security:getUserSessions", token=admin, _id="ann")
    assert answer["result"] == {"hits": [], "total": 0}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_sessions_of_unknown_users(server: Running, transport: str) -> None:
    """As getUserStrategies (docs/api/security.md#user-actions): 404."""
    admin = await server.create_admin()
    answer = await server.call(transport, "security:getUserSessions", token=admin, _id="nobody")
    assert told(answer, "id", "status") == {"id": "security.user.not_found", "status": 404}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_may_see_sessions(server: Running, transport: str) -> None:
    """docs/api/differences.md#default-role, default role: one's own for every user, nobody's for
    anonymous."""
    user = await server.create_user(await server.create_admin(), "ann")
    session_id = await current_id(server, user)
    for full_name, args in (
        ("security:getUserSessions", {"_id": "ann"}),
        ("security:deleteUserSession", {"_id": "ann", "sessionId": session_id}),
    ):
        answer = await server.call(transport, full_name, token=user, **args)
        assert told(answer) == FORBIDDEN, full_name
    for full_name, args in (
        ("auth:getMySessions", {}),
        ("auth:deleteMySession", {"_id": session_id}),
    ):
        answer = await server.call(transport, full_name, **args)
        assert told(answer, "id") == {"id": "security.rights.unauthorized"}, full_name


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_refreshed_session_ends_by_the_id_it_had(server: Running, transport: str) -> None:
    """docs/api/auth.md#refreshtoken: the old token would go on for its grace period."""
    old = await server.create_user(await server.create_admin(), "ann")
    old_id = await current_id(server, old)
    new = (await server.call("query", "auth:refreshToken", token=old))["result"]["jwt"]
    assert old_id not in await listed(server, transport, new)
    answer = await server.call(transport, "auth:deleteMySession", token=new, _id=old_id)
    assert answer["result"] == {"_id": old_id}
    for token in (old, new):
        assert told(await server.call(transport, "auth:getCurrentUser", token=token)) == INVALID


async def test_arguments_are_checked(server: Running) -> None:
    """docs/api/transport.md#arguments `_id`."""
    token = await server.create_admin()
    asked = [
        ("auth:deleteMySession", {}, "_id"),
        ("security:getUserSessions", {}, "_id"),
        ("security:deleteUserSession", {"_id": "admin"}, "sessionId"),
    ]
    for full_name, args, name in asked:
        for transport in ("query", "websocket"):
            answer = await server.call(transport, full_name, token=token, **args)
            assert told(answer, "id", "props") == {
                "id": "api.assert.missing_argument",
                "props": [name],
            }
            answer = await server.call(transport, full_name, token=token, **(args | {name: 5}))
            assert told(answer, "id", "props") == {
                "id": "api.assert.invalid_type",
                "props": [name, "string"],
            }


@dataclass
class Bench:
    """Sessions on a store at a fixed time, with the journal's entries."""

    storage: SqliteStorage
    sessions: Sessions
    noted: list[Entry]

    async def add(self, session_id: str, **changed: object) -> Row:
        """Store a session of Ann's."""
        row = stored_session(session_id) | changed
        await self.storage.apply([Insert(Table.SESSIONS, row)])
        return row

    async def ids(self) -> list[str]:
        """Give the ids of the sessions Ann is shown."""
        return [str(hit["_id"]) for hit in await self.sessions.of("ann", "")]

    async def stored(self) -> set[str]:
        """Give the ids of all stored sessions."""
        return {str(row["id"]) for row in await self.storage.find(Table.SESSIONS, limit=9999)}

    async def refusal(self, kuid: str, session_id: str) -> str | None:
        """Give the id of the error that ending a session is refused with."""
        with pytest.raises(ApiError) as refused:
            await self.sessions.end(kuid, session_id)
        return refused.value.id


def stored_session(session_id: str) -> Row:
    """Give a row of Ann's."""
    return {
        "token_hash": session_id.encode().rjust(32, b"\0"),
        "id": session_id,
        "kuid": "ann",
        "created_at": NOW_MS,
        "expires_at": NOW_MS + 1000,
        "ttl": 1000,
        "single_use": 0,
        "refreshed_at": None,
        "family": session_id,
        "started_at": NOW_MS,
        "used_at": NOW_MS,
        "data": {},
    }


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A store in memory."""
    storage = SqliteStorage(":memory:", clock_ms=lambda: NOW_MS)
    await storage.open()
    noted: list[Entry] = []
    storage.follow(noted.extend)
    yield Bench(storage, Sessions(storage, clock_ms=lambda: NOW_MS), noted)
    await storage.close()


async def test_only_live_sessions_are_listed(bench: Bench) -> None:
    """Neither expired ones nor tokens that were refreshed away; newest first."""
    await bench.add("older", started_at=NOW_MS - 2, expires_at=None)
    await bench.add("newer", started_at=NOW_MS - 1)
    await bench.add("expired", expires_at=NOW_MS)
    await bench.add("refreshed", refreshed_at=NOW_MS)
    await bench.add("bobs", kuid="bob")
    assert await bench.ids() == ["newer", "older"]
    for session_id in ("expired", "refreshed", "bobs"):
        assert await bench.refusal("ann", session_id) == "services.storage.not_found"
    assert len(await bench.stored()) == 5


async def test_a_session_began_with_its_login(bench: Bench) -> None:
    """However often it was refreshed since."""
    await bench.add("a", started_at=NOW_MS - 60_000, used_at=NOW_MS - 5, expires_at=None, ttl=-1)
    assert await bench.sessions.of("ann", "a") == [
        {
            "_id": "a",
            "_source": {
                "createdAt": NOW_MS - 60_000,
                "expiresAt": -1,
                "ttl": -1,
                "lastUsedAt": NOW_MS - 5,
                "address": "",
                "userAgent": "",
                "strategy": "",
                "amr": [],
                "authenticatedAt": None,
                "current": True,
            },
        }
    ]


async def test_what_the_store_keeps_besides_is_not_shown(bench: Bench) -> None:
    """Security check T11: `data` may hold a sealed successor."""
    await bench.add("a", data={"address": "::1", "successor": "5ea1ed"})
    (hit,) = await bench.sessions.of("ann", "")
    assert hit["_source"]["address"] == "::1"
    assert "5ea1ed" not in str(hit)


async def test_a_session_ends_with_its_whole_chain(bench: Bench) -> None:
    """A refreshed token in its grace period goes as well; by the id of any of its tokens."""
    for asked in ("old", "new"):
        old = await bench.add("old", family="f", refreshed_at=NOW_MS)
        new = await bench.add("new", family="f")
        other = await bench.add(f"other-{asked}")
        bench.noted.clear()
        await bench.sessions.end("ann", asked)
        assert await bench.stored() & {"old", "new", other["id"]} == {other["id"]}
        assert {(entry.noted, entry.subject) for entry in bench.noted} == {
            (EventKind.SESSION, row["token_hash"].hex()) for row in (old, new)
        }


class Refreshing(SqliteStorage):
    """A store in which somebody refreshes a session just before it is ended."""

    successor: Row | None = None

    async def apply(self, changes):
        successor, self.successor = self.successor, None
        if successor is not None:
            replaced = Update(
                Table.SESSIONS,
                {"token_hash": stored_session("a")["token_hash"]},
                {"refreshed_at": NOW_MS},
            )
            await super().apply([replaced, Insert(Table.SESSIONS, successor)])
        await super().apply(changes)


async def test_a_refresh_in_the_same_moment_saves_nobody() -> None:
    """A thief who refreshes while his session is ended keeps nothing."""
    storage = Refreshing(":memory:", clock_ms=lambda: NOW_MS)
    await storage.open()
    bench = Bench(storage, Sessions(storage, clock_ms=lambda: NOW_MS), [])
    await bench.add("a")
    storage.successor = stored_session("b") | {"family": "a"}
    await bench.sessions.end("ann", "a")
    assert await bench.stored() == set()
    await storage.close()


async def test_of_two_who_end_a_session_one_finds_it(bench: Bench) -> None:
    """The other one is 404."""
    await bench.add("a")
    ended = await asyncio.gather(
        bench.sessions.end("ann", "a"), bench.sessions.end("ann", "a"), return_exceptions=True
    )
    refused = [one for one in ended if one is not None]
    assert [one.id for one in refused] == ["services.storage.not_found"]


async def test_the_list_is_bounded(bench: Bench) -> None:
    """CONTRIBUTING.md, limits."""
    rows = [stored_session(f"s{number}") for number in range(MOST_LISTED + 1)]
    await bench.storage.apply([Insert(Table.SESSIONS, row) for row in rows])
    assert len(await bench.ids()) == MOST_LISTED


async def test_an_api_key_is_no_session(server: Running) -> None:
    """Not even one that has the id of a session; security check T6."""
    admin = await server.create_admin()
    session_id = await current_id(server, admin)
    made = await server.call(
        "query", "auth:createApiKey", token=admin, _id=session_id, body={"description": "x"}
    )
    found = await listed(server, "query", made["result"]["_source"]["token"])
    assert {one: source["current"] for one, source in found.items()} == {session_id: False}


async def test_a_further_login_ends_the_oldest_session() -> None:
    """security check S12, `security.authToken.maxSessions`: by option; a session that was refreshed
    is as old as its login."""
    security = cheap_config().security
    token = replace(security.auth_token, max_sessions=2)
    async with running(cheap_config(security=replace(security, auth_token=token))) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        ends = await server.call(
            "http", "auth:logout", token=await server.login("ann"), **{"global": "true"}
        )
        assert ends["status"] == 200
        first, second = await server.login("ann"), await server.login("ann")
        refreshed = await server.call("http", "auth:refreshToken", token=first)
        third = await server.login("ann")
        tokens = (str(refreshed["result"]["jwt"]), second, third, admin)
        answers = [await server.call("http", "auth:getCurrentUser", token=one) for one in tokens]
        assert [answer["status"] for answer in answers] == [401, 200, 200, 200]
