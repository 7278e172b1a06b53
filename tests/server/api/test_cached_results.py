"""What is kept between requests never answers what a server that has just been started would refuse
or answer otherwise (docs/architecture.md; security checks S1, S2, S9)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.api.envelope import format_envelope, format_prepared
from protocol.api.request import Origin, Request
from protocol.errors import error
from protocol.http11.head import NO_HEAD
from server.api.context import AppContext
from server.api.dispatcher import Dispatcher
from server.api.request_log import RequestLog
from server.app.application import build_services
from server.app.build import make_wire
from server.auth.sessions.issuer import hash_token
from server.config.model import Config
from server.storage.base import (
    Change,
    DeleteAll,
    Entry,
    EventKind,
    Insert,
    JournalEvent,
    Listener,
    Missing,
    Put,
    Storage,
    Update,
)
from server.storage.rows import Row, Table, Value
from server.storage.sqlite.storage import SqliteStorage
from tests.support.errors import told
from tests.support.keyrings import NOW_MS, clock_ms
from tests.support.server import PASSWORD, Envelope, cheap_config
from tests.support.step_up import OPERATOR, operator_as
from tests.support.waiting import until

PEOPLE = ("ann", "bob")
TOKENS = ("ann's", "ann's other", "bob's", "ann's key")
ACTIONS = ("getCurrentUser", "getMyRights", "getStrategies")
ASKING = "asking"
HERE, ELSEWHERE = "https://here.example", "https://elsewhere.example"


class Forgets(Enum):
    """What a server reads again."""

    NOTHING = "nothing"
    PEOPLE = "people"
    ALL = "all"


class Deaf:
    """A store as a server has it that never hears of a change."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def follow(self, listener: Listener) -> None:
        """Tell nothing."""


class Slow(SqliteStorage):
    """A store whose answers about one table can be held back from the tasks that ask questions."""

    held: Table | None = None
    waiting = 0

    async def get(self, table: Table, **key: Value) -> Row | None:
        """Read now, answer later."""
        row = await super().get(table, **key)
        await self._hold(table)
        return row

    async def exists(self, table: Table, **where: Value) -> bool:
        """Read now, answer later."""
        is_there = await super().exists(table, **where)
        await self._hold(table)
        return is_there

    async def _hold(self, table: Table) -> None:
        task = asyncio.current_task()
        if table is self.held and task is not None and task.get_name() == ASKING:
            self.waiting += 1
            await until(lambda: self.held is None)
            self.waiting -= 1


@dataclass(frozen=True)
class Server:
    """All of a server but its sockets."""

    services: AppContext
    dispatcher: Dispatcher

    async def answer(self, request: Request) -> Envelope:
        """Answer as `net.py` does: at once from what is kept, if that can be."""
        ready = self.dispatcher.try_cached(request)
        if ready is not None:
            return json.loads(format_prepared(request, "the same", ready[1], "node"))
        response = await self.dispatcher.answer(request)
        response.request_id = "the same"
        return json.loads(format_envelope(request, response, "node"))

    def forget(self, what: Forgets) -> None:
        """Make it read again what it knows of tokens, or of people and their rights."""
        if what is Forgets.ALL:
            self.services.tokens.forget_all()
        if what is not Forgets.NOTHING:
            self.services.rulebook.notice(Entry(1, EventKind.RIGHTS, "all"))

    def keeps(self, request: Request) -> bool:
        """Tell whether a request is answered at once."""
        return self.dispatcher.try_cached(request) is not None


async def put_together(storage: Storage, **limits: int) -> Server:
    """Give a server on a store, perhaps with other `[limits]`; pages from `HERE` may use it."""
    http = replace(Config().http, access_control_allow_origin=(HERE,))
    config = cheap_config(http=http, limits=replace(Config().limits, **limits))
    services = await build_services(config, storage, open_mode=False)
    log = RequestLog(config.logs.requests)
    return Server(services, Dispatcher(services, make_wire(config, "node"), log))


@dataclass(frozen=True)
class World:
    """A server that goes on through all changes, and the tokens it gave out."""

    storage: Slow
    server: Server
    tokens: dict[str, str]

    def requests(self) -> list[Request]:
        """Give everything that is asked after each change."""
        return [
            ask(token, action, **fields)
            for token in (*self.tokens.values(), None)
            for action in ACTIONS
            for fields in QUESTIONS
        ]


@asynccontextmanager
async def new_world() -> AsyncIterator[World]:
    """Open a store with two people; nobody is limited in the number of his requests."""
    storage = Slow(":memory:", clock_ms=clock_ms)
    await storage.open()
    server = await put_together(storage)
    services, tokens = server.services, {}
    await storage.apply([document(Table.PROFILES, "default", policies_of("default"))])
    await storage.apply([document(Table.PROFILES, "anonymous", policies_of("anonymous"))])
    for kuid in PEOPLE:
        user = await services.users.create(
            kuid=kuid,
            kind="human",
            profile_ids=["default"],
            content={},
            credentials={"local": {"username": kuid, "password": PASSWORD}},
            author="-1",
        )
        tokens[f"{kuid}'s"] = (await services.issuer.issue(user, 3_600_000)).token
        if kuid == "ann":
            tokens["ann's other"] = (await services.issuer.issue(user, 3_600_000)).token
            made = await services.api_keys.create(user, "a key", -1, None, operator_as(kuid))
            tokens["ann's key"] = str(made["_source"]["token"])
    try:
        yield World(storage, server, tokens)
    finally:
        services.passwords.close()
        await storage.close()


def ask(
    token: str | None,
    action: str = "getCurrentUser",
    *,
    origin: str | None = None,
    args: dict[str, object] | None = None,
    volatile: dict[str, object] | None = None,
) -> Request:
    """Make a request for an action of the controller `auth`."""
    head = NO_HEAD
    if origin is not None:
        head = replace(NO_HEAD, headers={"origin": origin}, needs_check=True)
    return Request(
        Origin.WEBSOCKET,
        head,
        controller="auth",
        action=action,
        token=token,
        volatile=volatile,
        args=args or {},
    )


QUESTIONS: tuple[dict, ...] = (
    {},
    {"args": {"index": "shop", "collection": "orders"}},
    {"args": {"targets": [{"index": "shop", "collections": ["orders"]}]}},
    {"origin": ELSEWHERE},
)


# What can change, each with what the program notes in the same transaction


def document(table: Table, name: str, body: dict[str, object]) -> Change:
    """Give the change that enters a role or profile."""
    return Put(table, {"id": name, "body": body, "info": {}})


def policies_of(*role_ids: str, index: str | None = None) -> dict[str, object]:
    """Give a profile of these roles, perhaps good for one place only."""
    places = {} if index is None else {"restrictedTo": [{"index": index}]}
    return {"policies": [{"roleId": role_id, **places} for role_id in role_ids]}


def set_role(role_id: str, allowed: list[str]) -> list[Change]:
    """Let a role allow these actions and no others."""
    body = {"controllers": {"auth": {"actions": {name: name in allowed for name in ACTIONS}}}}
    return [document(Table.ROLES, role_id, body), JournalEvent(EventKind.RIGHTS, role_id)]


def set_profile(profile_id: str, role_ids: list[str], index: str | None) -> list[Change]:
    """Give a profile these roles."""
    body = policies_of(*role_ids, index=index)
    return [document(Table.PROFILES, profile_id, body), JournalEvent(EventKind.RIGHTS, profile_id)]


def remove(table: Table, name: str) -> list[Change]:
    """Remove a role or profile."""
    return [DeleteAll(table, {"id": name}), JournalEvent(EventKind.RIGHTS, name)]


def set_user(kuid: str, values: Row) -> list[Change]:
    """Change a user: his profiles, his content, whether he is disabled."""
    return [Update(Table.USERS, {"kuid": kuid}, values), JournalEvent(EventKind.USER, kuid)]


def set_credentials(kuid: str, has_some: bool) -> list[Change]:
    """Give a user credentials, or take them."""
    row: Row = {
        "strategy": "local",
        "id": kuid,
        "kuid": kuid,
        "data": {},
        "created_at": NOW_MS,
        "updated_at": None,
    }
    added = [Insert(Table.CREDENTIALS, row)] if has_some else []
    removed = DeleteAll(Table.CREDENTIALS, {"kuid": kuid, "strategy": "local"})
    return [removed, *added, JournalEvent(EventKind.USER, kuid)]


def some(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """Draw some of these names."""
    return st.lists(st.sampled_from(names), unique=True)


KUIDS = st.sampled_from(PEOPLE)
ROLES = ("default", "anonymous", "extra")
VALUES = st.one_of(
    st.builds(lambda ids: {"profile_ids": ids}, some(ROLES)),
    st.builds(lambda number: {"content": {"number": number}}, st.integers(0, 9)),
    st.builds(lambda is_on: {"disabled": int(is_on)}, st.booleans()),
)
DOCUMENTS = st.sampled_from((Table.ROLES, Table.PROFILES))
CHANGES = st.one_of(
    st.builds(set_role, st.sampled_from(ROLES), some(ACTIONS)),
    st.builds(
        set_profile,
        st.sampled_from(ROLES),
        some(ROLES),
        st.sampled_from((None, "shop", "elsewhere")),
    ),
    st.builds(remove, DOCUMENTS, st.sampled_from(ROLES)),
    st.builds(set_user, KUIDS, VALUES),
    st.builds(set_credentials, KUIDS, st.booleans()),
)
# What the program does itself: the name of a step, and whom or what it is done to.
STEPS = st.one_of(
    CHANGES,
    st.tuples(st.sampled_from(("delete", "disable", "enable", "end all")), KUIDS),
    st.tuples(st.sampled_from(("end", "end all but")), st.sampled_from(TOKENS)),
)
Step = list[Change] | tuple[str, str]


async def do(world: World, step: Step) -> None:
    """Make a change; one to somebody who is gone changes nothing."""
    services = world.server.services
    with suppress(Missing):
        match step:
            case ("delete", kuid) if await world.storage.exists(Table.USERS, kuid=kuid):
                await services.users.delete(kuid)
            case ("disable", kuid) if await world.storage.exists(Table.USERS, kuid=kuid):
                await services.user_changes.disable(kuid, OPERATOR)
            case ("enable", kuid) if await world.storage.exists(Table.USERS, kuid=kuid):
                await services.user_changes.enable(kuid, OPERATOR)
            case ("end all", kuid):
                await services.tokens.revoke_all(kuid)
            case ("end all but", name):
                await services.sessions.end_everybodys(hash_token(world.tokens[name]))
            case ("end", name):
                await world.storage.apply(end(name, world.tokens[name]))
            case list(changes):
                await world.storage.apply(changes)


def end(name: str, token: str) -> list[Change]:
    """Give what ends a session, or an API key."""
    is_key = name.endswith("key")
    table, noted = (
        (Table.API_KEYS, EventKind.API_KEY) if is_key else (Table.SESSIONS, EventKind.SESSION)
    )
    hashed = hash_token(token)
    return [DeleteAll(table, {"token_hash": hashed}), JournalEvent(noted, hashed.hex())]


async def compare(world: World) -> None:
    """Ask for everything twice, then ask a server that keeps nothing from one request to the
    next."""
    requests = world.requests()
    first = [await world.server.answer(request) for request in requests]
    again = [await world.server.answer(request) for request in requests]
    fresh = await put_together(Deaf(world.storage))
    wanted = []
    for request in requests:
        fresh.forget(Forgets.ALL)
        wanted.append(await fresh.answer(request))
    fresh.services.passwords.close()
    assert first == wanted
    assert again == wanted


@dataclass(frozen=True)
class Moment:
    """A change while requests wait for what they have read of a table. With `forgets` they read
    everything again, or only people and their rights; with `goes_on` others ask meanwhile."""

    step: Step
    held: Table | None
    forgets: Forgets
    goes_on: bool


async def live_through(world: World, moment: Moment) -> None:
    """Compare after a change, whether or not those who asked before it have their answers."""
    storage, server = world.storage, world.server
    server.forget(moment.forgets)
    storage.held = moment.held
    asking = [
        asyncio.create_task(server.answer(request), name=ASKING) for request in world.requests()
    ]
    await until(lambda: storage.waiting + sum(task.done() for task in asking) == len(asking))
    await do(world, moment.step)
    if moment.goes_on:
        await compare(world)
    storage.held = None
    await asyncio.gather(*asking)
    await compare(world)


async def go_through(course: list[Moment]) -> None:
    """Begin with everything kept, then change it."""
    async with new_world() as world:
        await compare(world)
        for moment in course:
            await live_through(world, moment)


READ = (
    *(Table.SESSIONS, Table.API_KEYS, Table.USERS),
    *(Table.PROFILES, Table.ROLES, Table.CREDENTIALS),
)
RACES: list[tuple[Step, tuple[Table, ...]]] = [
    (set_role("default", []), (Table.USERS, Table.PROFILES, Table.ROLES)),
    (set_profile("default", ["default"], "else"), (Table.USERS, Table.PROFILES, Table.ROLES)),
    (remove(Table.ROLES, "default"), (Table.ROLES,)),
    (set_user("ann", {"profile_ids": ["extra"]}), (Table.SESSIONS, Table.USERS, Table.ROLES)),
    (set_user("ann", {"disabled": 1}), (Table.SESSIONS, Table.USERS, Table.PROFILES)),
    (set_user("ann", {"content": {"number": 1}}), (Table.USERS, Table.ROLES)),
    (set_credentials("ann", False), (Table.SESSIONS, Table.USERS, Table.CREDENTIALS)),
    (("end", "ann's"), (Table.SESSIONS, Table.USERS)),
    (("end", "ann's key"), (Table.API_KEYS, Table.USERS)),
    (("end all", "ann"), (Table.SESSIONS, Table.USERS)),
    (("end all but", "ann's"), (Table.SESSIONS, Table.USERS)),
    (("disable", "ann"), (Table.SESSIONS, Table.API_KEYS, Table.USERS, Table.PROFILES)),
    (("delete", "ann"), (Table.SESSIONS, Table.API_KEYS, Table.USERS, Table.ROLES)),
]


@pytest.mark.parametrize(("forgets", "goes_on"), [(Forgets.ALL, False), (Forgets.PEOPLE, True)])
@pytest.mark.parametrize(
    ("step", "held"), [(step, held) for step, tables in RACES for held in tables]
)
async def test_what_was_read_before_a_change_is_not_kept(
    step: Step, held: Table, forgets: Forgets, goes_on: bool
) -> None:
    """S1, S2, S9: the worst moment of each change is between reading and keeping."""
    await go_through([Moment(step, held, forgets, goes_on)])


MOMENTS = st.builds(
    Moment, STEPS, st.sampled_from((None, *READ)), st.sampled_from(Forgets), st.booleans()
)


@settings(max_examples=15, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=4))
def test_nothing_outlives_a_change(course: list[Moment]) -> None:
    """S1, S2, S9: whatever changes, in whatever order, however many requests are in progress."""
    asyncio.run(go_through(course))


async def asked(world: World, request: Request) -> Envelope:
    """Answer a request and expect that it can't be answered at once."""
    assert not world.server.keeps(request)
    return await world.server.answer(request)


async def test_what_is_kept_is_used() -> None:
    """Otherwise these tests would show nothing: the second request is answered at once."""
    async with new_world() as world:
        token = world.tokens["ann's"]
        assert not world.server.keeps(ask(token))
        await world.server.answer(ask(token))
        assert world.server.keeps(ask(token))
        for other in ("ann's key", "bob's"):
            assert not world.server.keeps(ask(world.tokens[other]))


async def test_requests_that_need_a_check_get_it() -> None:
    """docs/api/transport.md#cors, #request-pipeline, #sdk-versions: a page from elsewhere, an old
    SDK, a malformed message, a token that nobody has, an action nobody may do; each after the same
    request was answered well."""
    async with new_world() as world:
        token = world.tokens["ann's"]
        await world.server.answer(ask(token))
        assert world.server.keeps(ask(token))
        elsewhere = await asked(world, ask(token, origin=ELSEWHERE))
        assert told(elsewhere, "id") == {"id": "api.process.unauthorized_origin"}
        assert (await asked(world, ask(token, origin=HERE)))["status"] == 200
        old = await asked(world, ask(token, volatile={"sdkName": "js@6.0.0"}))
        assert told(old, "id") == {"id": "api.process.incompatible_sdk_version"}
        both = {"index": "shop", "targets": []}
        args = await asked(world, ask(token, args=both))
        assert told(args, "id") == {"id": "api.assert.mutually_exclusive"}
        malformed = ask(token)
        malformed.refused = error("api.assert.invalid_type", "body", "object")
        assert (await asked(world, malformed))["status"] == 400
        unread = ask(token)
        unread.unread = b'{"controller":"auth","action":"getCurrentUser","body":3}'
        assert (await asked(world, unread))["status"] == 400
        for other in (token + "A", token[:-1], "", "kauth-" + token + "."):
            assert (await asked(world, ask(other)))["status"] == 401
        assert (await asked(world, ask(token, "createApiKey")))["status"] == 403


async def test_a_token_for_one_request_is_good_for_one() -> None:
    """docs/api/auth.md#verification, also while its user's answer is kept."""
    async with new_world() as world:
        services, answer = world.server.services, world.server.answer
        await answer(ask(world.tokens["ann's"]))
        user = await services.users.get("ann")
        assert user is not None
        once = (await services.issuer.issue(user, 60_000, single_use=True)).token
        answers = await asyncio.gather(*(answer(ask(once)) for _ in range(5)))
        assert sorted(one["status"] for one in answers) == [200, 401, 401, 401, 401]


async def test_an_expired_token_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/api/auth.md#verification: to the millisecond, and nothing has to tell the server."""
    now_ms = NOW_MS
    monkeypatch.setattr("server.app.application.clock_ms", lambda: now_ms)
    async with new_world() as world:
        token = world.tokens["ann's"]
        await world.server.answer(ask(token))
        now_ms += 3_600_000 - 1
        assert world.server.keeps(ask(token))
        now_ms += 1
        gone = await asked(world, ask(token))
        assert told(gone, "id") == {"id": "security.token.invalid"}


async def test_a_user_with_a_limit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/api/security.md#rate-limits: on every path, from the moment his profile has a limit."""
    monkeypatch.setattr("server.app.application.clock_s", lambda: 1000.0)
    async with new_world() as world:
        answer, token = world.server.answer, world.tokens["ann's"]
        for _ in range(20):
            assert (await answer(ask(token)))["status"] == 200
        body = {**policies_of("default"), "rateLimit": 2}
        limit = [
            document(Table.PROFILES, "default", body),
            JournalEvent(EventKind.RIGHTS, "default"),
        ]
        await world.storage.apply(limit)
        same = [ask(token), ask(world.tokens["ann's key"]), ask(world.tokens["ann's other"])]
        statuses = [(await answer(request))["status"] for request in same * 2]
        assert statuses == [200, 200, 429, 429, 429, 429]
        assert (await answer(ask(token, "logout")))["status"] == 200
        assert (await answer(ask(token)))["status"] == 401
        assert (await answer(ask(world.tokens["bob's"])))["status"] == 200


@pytest.mark.parametrize("is_reading", [True, False])
async def test_many_sessions_end_at_once(monkeypatch: pytest.MonkeyPatch, is_reading: bool) -> None:
    """S1: all are refused from that moment on, though they are forgotten little by little; also
    those whose user is being read again. His key and a new session go on."""
    async with new_world() as world:
        storage, server, tokens = world.storage, world.server, world.server.services.tokens
        his = [ask(world.tokens[name]) for name in ("ann's", "ann's other")]
        others = [ask(world.tokens[name]) for name in ("ann's key", "bob's")]
        for request in (*his, *others):
            assert (await server.answer(request))["status"] == 200
        forget_some = tokens._forget_some
        monkeypatch.setattr(tokens, "_forget_some", lambda: None)
        if is_reading:
            await storage.apply([JournalEvent(EventKind.USER, "ann")])
            storage.held = Table.USERS
        asking = [asyncio.create_task(server.answer(one), name=ASKING) for one in his]
        if is_reading:
            await until(lambda: storage.waiting == len(asking))
        else:
            await asyncio.gather(*asking)
        await tokens.revoke_all("ann")
        storage.held = None
        if is_reading:
            assert [(await one)["status"] for one in asking] == [401, 401]
        for request in others:
            assert (await server.answer(request))["status"] == 200
        assert [(await asked(world, one))["status"] for one in his] == [401, 401]
        forget_some()
        assert len(tokens._live) == len(tokens._tokens) == len(others)
        assert set(tokens._sessions_of) == {"bob"}


async def test_sessions_are_forgotten_a_few_at_a_time() -> None:
    """Whoever ends thousands of sessions at once keeps nobody else waiting."""
    async with new_world() as world:
        services = world.server.services
        tokens, user = services.tokens, await services.users.get("ann")
        assert user is not None
        for _ in range(250):
            issued = await services.issuer.issue(user, 60_000)
            await world.server.answer(ask(issued.token))
        tokens.notice([Entry(1, EventKind.SESSIONS, "ann")])
        left = [250]
        while tokens._live:
            await asyncio.sleep(0)
            if left[-1] != len(tokens._live):
                left.append(len(tokens._live))
        assert left == list(range(250, -1, -25))


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_few_sessions_in_memory(most: int) -> None:
    """`limits.liveSessions` bounds what is kept, not who may come, and everybody without a token
    takes nobody's place."""
    async with new_world() as world:
        small = await put_together(world.storage, live_sessions=most)
        for token in (None, *world.tokens.values()) * 3:
            assert (await small.answer(ask(token)))["status"] == 200
        kept = [token for token in world.tokens.values() if small.keeps(ask(token))]
        assert len(kept) == most
        assert small.keeps(ask(None))
        small.services.passwords.close()
