"""Sockets are told when the token they use ends (docs/api/transport.md#notifications;
docs/api/differences.md#tokenexpired, TokenExpired)."""

import asyncio
from dataclasses import replace

import pytest

from server.auth.access.permissions import Rights
from server.auth.identity.user import User
from server.auth.sessions.expiry_push import ExpiryNotifier
from server.auth.sessions.principal import Caller, Person, TokenKind
from server.storage.base import Entry, EventKind
from tests.support.server import (
    PASSWORD,
    Running,
    Socket,
    cheap_config,
    running,
    write_client_frame,
)
from tests.support.waiting import until

EXPIRED = {
    "status": 200,
    "info": "This is an automated server notification",
    "message": "Authentication Token Expired",
    "type": "TokenExpired",
    "node": "manykeys",
    "room": "kuzzle:notification:server",
}


async def linked(server: Running, token: str) -> Socket:
    """Open a socket and use a token on it."""
    opened = await server.open_socket()
    answer = await ask(opened, "auth:getCurrentUser", token)
    assert answer["status"] == 200
    return opened


async def ask(opened: Socket, full_name: str, token: str | None = None, **args: object) -> dict:
    """Ask for an action on this socket."""
    controller, _, action = full_name.partition(":")
    payload = {"controller": controller, "action": action, **args}
    return await opened.ask(payload if token is None else {**payload, "jwt": token})


async def hears_nothing(opened: Socket) -> None:
    """See that the next message is the answer to the next question."""
    await ask(opened, "auth:getCurrentUser")
    assert opened.heard == []


async def test_logout_elsewhere_is_told(server: Running) -> None:
    """docs/api/differences.md#tokenexpired: every other socket of the token, once, with the keys in
    this order; they stay open."""
    token = await server.create_admin()
    first, second = await linked(server, token), await linked(server, token)
    stranger = await linked(server, await server.login("admin"))
    await server.call("http", "auth:logout", token=token)
    for opened in (first, second):
        heard = await opened.read()
        assert heard == EXPIRED
        assert list(heard) == list(EXPIRED)
        await hears_nothing(opened)
    await hears_nothing(stranger)


async def test_who_logs_out_is_not_told(server: Running) -> None:
    """docs/api/differences.md#tokenexpired: except the one that asked."""
    token = await server.create_admin()
    asker, other = await linked(server, token), await linked(server, token)
    answer = await ask(asker, "auth:logout", token)
    assert answer["result"] == {"acknowledged": True}
    assert await other.read() == EXPIRED
    await hears_nothing(asker)


async def test_global_logout_reaches_all_sessions(server: Running) -> None:
    """docs/api/differences.md#tokenexpired."""
    token = await server.create_admin()
    others = [await linked(server, await server.login("admin")) for _ in range(3)]
    await server.call("query", "auth:logout", token=token, **{"global": True})
    for opened in others:
        assert await opened.read() == EXPIRED


async def test_a_deleted_user_is_told(server: Running) -> None:
    """docs/api/differences.md#tokenexpired; security check S2."""
    admin = await server.create_admin()
    opened = await linked(server, await server.create_user(admin, "user"))
    await server.call("http", "security:deleteUser", token=admin, _id="user")
    assert await opened.read() == EXPIRED


async def test_a_deleted_key_is_told(server: Running) -> None:
    """docs/api/differences.md#tokenexpired."""
    admin = await server.create_admin()
    made = await server.call(
        "http", "auth:createApiKey", token=admin, body={"description": "x"}, _id="key"
    )
    opened = await linked(server, made["result"]["_source"]["token"])
    await server.call("http", "auth:deleteApiKey", token=admin, _id="key")
    assert await opened.read() == EXPIRED


async def test_the_end_by_the_clock_is_told_once(server: Running) -> None:
    """docs/api/transport.md#notifications: the socket stays open."""
    await server.create_admin()
    opened = await linked(server, await server.login("admin", expiresIn=300))
    assert await opened.read() == EXPIRED
    await hears_nothing(opened)


async def test_a_login_on_a_socket_links_it(server: Running) -> None:
    """docs/api/transport.md#notifications: no further request is needed."""
    await server.create_admin()
    opened = await server.open_socket()
    body = {"username": "admin", "password": PASSWORD}
    answer = await ask(opened, "auth:login", strategy="local", body=body)
    await server.call("http", "auth:logout", token=answer["result"]["jwt"])
    assert await opened.read() == EXPIRED


async def test_sockets_move_along_with_a_refresh(server: Running) -> None:
    """docs/api/transport.md#notifications: nothing is told at the refresh, only when the new token
    ends."""
    token = await server.create_admin()
    first, second = await linked(server, token), await linked(server, token)
    answer = await ask(first, "auth:refreshToken", token)
    for opened in (first, second):
        await hears_nothing(opened)
    await server.call("http", "auth:logout", token=answer["result"]["jwt"])
    for opened in (first, second):
        assert await opened.read() == EXPIRED


async def test_a_socket_that_is_closing_keeps_nobody_else_from_being_told(server: Running) -> None:
    """Our side of its connection has ended already, its own has not: who does that on purpose must
    not silence the server."""
    await server.create_admin()
    closing, last = await server.login("admin"), await server.login("admin")
    opened, other = await linked(server, closing), await linked(server, last)
    await opened.http.send(write_client_frame(0x88, (1000).to_bytes(2)))
    assert await opened.read_frame() == (0x88, (1000).to_bytes(2))
    for token in (closing, last):
        assert (await server.call("http", "auth:logout", token=token))["status"] == 200
    assert await other.read() == EXPIRED
    assert await opened.http.reader.read() == b""


async def test_http_is_never_linked(server: Running) -> None:
    """docs/api/transport.md#notifications."""
    token = await server.create_admin()
    http = await server.connect()
    assert (await http.ask("GET", "/_me", token=token)).status == 200
    await server.call("query", "auth:logout", token=token)
    assert (await http.ask("GET", "/_healthcheck")).status == 200


async def test_a_warning_before_the_end() -> None:
    """By option, a notification of its own type."""
    config = cheap_config()
    token_settings = replace(config.security.auth_token, warn_before_ms=3_599_900)
    security = replace(config.security, auth_token=token_settings)
    async with running(replace(config, security=security)) as server:
        token = await server.create_admin()
        opened = await linked(server, token)
        heard = await opened.read()
        assert heard["type"] == "TokenExpiring"
        assert heard["room"] == EXPIRED["room"]
        assert isinstance(heard["expiresAt"], int)
        await hears_nothing(opened)


class FakeSocket:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.linked = b""
        self.told = 0

    def push(self, text: bytes) -> None:
        """See `Linkable`."""
        self.told += 1


def make_caller(number: int, ends_ms: float) -> Caller:
    """Give the caller of a made-up token."""
    person = Person(User(f"user-{number % 7}", ("default",)), Rights(), 0)
    return Caller(person, TokenKind.SESSION, token_hash=number.to_bytes(32), expires_at_ms=ends_ms)


async def test_links_cost_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 tokens with an end, and a warning before it, set no timer of the loop; all
    that end at once share one."""
    timers = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_at", lambda *args, **kwargs: timers.append(args))
    monkeypatch.setattr(loop, "call_later", lambda *args, **kwargs: timers.append(args))
    now = [0]
    links = ExpiryNotifier("node", clock_ms=lambda: now[0], warn_before_ms=500)
    sockets = [FakeSocket() for _ in range(100_000)]
    for number, opened in enumerate(sockets):
        links.link(opened, make_caller(number, 1000 + number))
    now[0] = 1000
    links.tick()
    assert timers == []
    await asyncio.sleep(0)  # the turn that begins
    for delay_s, tell_more in timers:  # grows as it goes
        assert 0 < delay_s < 0.01
        tell_more()
    assert sockets[0].told == 2


async def test_a_socket_that_fails_silences_nobody_else() -> None:
    """The loop is told of the failure; everybody else of the end, also of those after it."""

    class Broken(FakeSocket):
        def push(self, text: bytes) -> None:
            raise RuntimeError("broken")

    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: failures.append(what))
    now = [0]
    links = ExpiryNotifier("node", clock_ms=lambda: now[0])
    for round_ in (1, 2):
        sockets = [Broken(), *(FakeSocket() for _ in range(30))]
        for opened in sockets:
            links.link(opened, make_caller(round_, 1000 * round_))
        now[0] = 1000 * round_
        links.tick()
        await until(lambda: all(opened.told for opened in sockets[1:]))  # noqa: B023
        assert len(failures) == round_


async def test_many_links_come_and_go_without_a_trace() -> None:
    """What is gone is forgotten."""
    now = [0]
    links = ExpiryNotifier("node", clock_ms=lambda: now[0])
    sockets = [FakeSocket() for _ in range(20_000)]
    for number, opened in enumerate(sockets):
        links.link(opened, make_caller(number, 1000 + number % 10))
    for opened in sockets[:10_000]:
        links.unlink(opened)
    now[0] = 2000
    links.tick()
    await until(lambda: all(opened.told for opened in sockets[10_000:]))
    assert [opened.told for opened in sockets] == [0] * 10_000 + [1] * 10_000
    assert not links._links and not links._sessions_of and len(links._ends) <= 1024


class Told(FakeSocket):
    """Notes in which turn of the loop it was told."""

    turns: dict[int, int]
    turn = 0

    def push(self, text: bytes) -> None:
        """See `Linkable`."""
        super().push(text)
        Told.turns[Told.turn] = Told.turns.get(Told.turn, 0) + 1


@pytest.mark.parametrize("sessions", [1, 1000])
async def test_others_have_their_turns_while_many_are_told(sessions: int) -> None:
    """However many sockets hear of an end, and of however many tokens, none of the loop's
    turns tells more than a few."""
    links = ExpiryNotifier("node", clock_ms=lambda: 0)
    person = make_caller(0, float("inf")).person
    sockets = [Told() for _ in range(1000)]
    for number, opened in enumerate(sockets):
        token_hash = (number % sessions).to_bytes(32)
        links.link(opened, Caller(person, TokenKind.SESSION, token_hash=token_hash))
    Told.turns, Told.turn = {}, 0
    links.notice([Entry(1, EventKind.SESSIONS, person.kuid)])
    while sum(Told.turns.values()) < len(sockets):
        await asyncio.sleep(0)
        Told.turn += 1
    assert {opened.told for opened in sockets} == {1}
    assert max(Told.turns.values()) <= 16
    assert not links._links and not links._sessions_of


async def test_a_login_saves_no_socket_from_being_told() -> None:
    """docs/api/differences.md#tokenexpired: a login moves the sockets of the token before along,
    but not those of one that has ended and whose sockets are still to be told."""
    links = ExpiryNotifier("node", clock_ms=lambda: 0)
    person = make_caller(0, float("inf")).person
    sockets = [FakeSocket() for _ in range(100)]
    for opened in sockets:
        links.link(opened, Caller(person, TokenKind.SESSION, token_hash=b"old"))
    links.notice([Entry(1, EventKind.SESSIONS, person.kuid)])
    links.link_login(sockets[0], person.kuid, b"new", 1000)
    await until(lambda: all(opened.told for opened in sockets[1:]))
    assert [opened.linked for opened in sockets] == [b"new"] + [b""] * 99
    links.notice([Entry(2, EventKind.SESSIONS, person.kuid)])
    await until(lambda: sockets[0].told == 1)


async def test_a_login_moves_no_socket_of_a_token_that_is_over() -> None:
    """By the clock, though nobody has looked at it since: the others are told."""
    now = [0]
    links = ExpiryNotifier("node", clock_ms=lambda: now[0])
    caller = make_caller(1, 1000)
    first, second = FakeSocket(), FakeSocket()
    links.link(first, caller)
    links.link(second, caller)
    now[0] = 1000
    links.link_login(first, caller.kuid, b"new", 5000)
    links.tick()
    await until(lambda: second.told == 1)
    assert (first.told, first.linked, second.linked) == (0, b"new", b"")


async def test_a_socket_that_uses_another_token_by_then_is_not_told() -> None:
    """Of two programs behind one socket, or after a new login: that of its token has not ended."""
    links = ExpiryNotifier("node", clock_ms=lambda: 0, warn_before_ms=500)
    old, new = make_caller(1, 500), make_caller(2, float("inf"))
    sockets = [FakeSocket() for _ in range(100)]
    for begin in (
        links.tick,  # a warning
        lambda: links.notice([Entry(1, EventKind.SESSION, old.token_hash.hex())]),
    ):
        for opened in sockets:
            opened.told = 0
            links.link(opened, old)
        begin()
        await asyncio.sleep(0)  # the first are told, the others wait
        late = [opened for opened in sockets if not opened.told]
        assert len(late) > 50
        for opened in late:
            links.link(opened, new)
        await until(lambda: not links._is_notifying)
        assert {opened.told for opened in late} == {0}
        assert {opened.linked for opened in late} == {new.token_hash}


@pytest.mark.parametrize("noted", [EventKind.SESSION, EventKind.SESSIONS, EventKind.API_KEY])
async def test_keys_outlive_sessions(noted: EventKind) -> None:
    """docs/api/auth.md#logout: the end of all sessions ends no API key; each ends by its own
    entry."""
    links = ExpiryNotifier("node", clock_ms=lambda: 0)
    person = make_caller(0, float("inf")).person
    kinds = {b"session": TokenKind.SESSION, b"key": TokenKind.API_KEY}
    sockets = {token_hash: FakeSocket() for token_hash in kinds}
    for token_hash, kind in kinds.items():
        links.link(sockets[token_hash], Caller(person, kind, token_hash=token_hash))
    ended = b"key" if noted is EventKind.API_KEY else b"session"
    subject = person.kuid if noted is EventKind.SESSIONS else ended.hex()
    links.notice([Entry(1, noted, subject)])
    await until(lambda: sockets[ended].told == 1)
    assert [token_hash for token_hash, opened in sockets.items() if opened.linked] == [
        token_hash for token_hash in kinds if token_hash != ended
    ]


@pytest.mark.parametrize("count", [1, 200])
async def test_one_token_on_many_sockets(count: int) -> None:
    """All are told, a bounded number in each turn."""
    links = ExpiryNotifier("node", clock_ms=lambda: 0)
    caller = make_caller(1, float("inf"))
    sockets = [FakeSocket() for _ in range(count)]
    for opened in sockets:
        links.link(opened, caller)
    links.notice([Entry(1, EventKind.SESSION, caller.token_hash.hex())])
    await until(lambda: all(opened.told for opened in sockets))
    assert {opened.told for opened in sockets} == {1}


async def test_a_message_that_repeats_itself_is_refused_once_its_token_is(server: Running) -> None:
    """S1: what a connection knows of its last message says nothing about its token."""
    await server.create_user(await server.create_admin(), "ann")
    token = await server.login("ann")
    opened = await server.open_socket()
    payload = {"controller": "auth", "action": "getCurrentUser", "jwt": token}
    for number in range(5):
        answer = await opened.ask({**payload, "requestId": f"id-{number}"})
        assert (answer["status"], answer["requestId"]) == (200, f"id-{number}")
    assert (await server.call("http", "auth:logout", token=token))["status"] == 200
    told = await opened.read()
    assert told["type"] == "TokenExpired"
    answer = await opened.ask({**payload, "requestId": "id-9"})
    assert (answer["status"], answer["requestId"]) == (401, "id-9")
    assert answer["error"]["id"] == "security.token.invalid"
