"""Sockets: pipelining, deadlines, back-pressure, a graceful stop (RFC 9112, RFC 6455)."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from protocol.api.request import Request, Response
from protocol.config import ConnectionConfig
from protocol.http11.body import BodyLimits
from server.api.router import Router
from server.core.limit_counters import Limit
from server.net.bind import Place
from server.net.connection import BLOCKED, LINGER_S, Peer
from server.net.listener import Listener
from server.net.timeouts import Timeouts
from tests.support.server import WAIT_S, Http, Socket, write_client_frame
from tests.support.waiting import in_time, until

GET = b"GET /_ready HTTP/1.1\r\nHost: x\r\nX-Kuzzle-Request-Id: %d\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Answers:
    """Answers every request with its id; those whose id begins with "wait" when they are
    released."""

    result: object = None
    released: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    def try_cached(self, request: Request) -> None:
        """See `Listener`."""

    async def answer(self, request: Request) -> Response:
        """See `Listener`."""
        name = request.request_id or "none"
        self.asked.append(name)
        if name.startswith("wait"):
            self.waiting.set()
            await self.released.wait()
        error = request.refused
        status = 200 if error is None else error.status
        return Response(name, status=status, error=error, result=self.result)


@dataclass
class Clock:
    """Time that passes when a test says so."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class CountingPeer(Peer):
    """A peer whose bytes are counted, so that a test knows what has arrived."""

    received_bytes = 0

    def data_received(self, data: bytes) -> None:
        """See `Peer`."""
        super().data_received(data)
        self.received_bytes += len(data)


@dataclass
class Under:
    """A listener under test."""

    listener: Listener
    answers: Answers
    port: int
    clock: Clock
    peers: list["CountingPeer"]
    limits: list[Limit]
    opened: list[Http] = field(default_factory=list)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the listener notice."""
        self.clock.now_s += seconds
        self.listener.check_deadlines()

    async def until_received(self, size_bytes: int) -> None:
        """Wait until so much has arrived from all peers."""
        await until(lambda: sum(peer.received_bytes for peer in self.peers) == size_bytes)

    async def connect(self, *, small_buffer: bool = False) -> Http:
        """Open a connection; with `small_buffer` one that takes little unread."""
        opened = socket.socket()
        if small_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", self.port))
        http = Http(*await asyncio.open_connection(sock=opened))
        self.opened.append(http)
        return http

    async def open_socket(self) -> Socket:
        """Open a WebSocket."""
        http = await self.connect()
        await http.send(UPGRADE)
        assert (await http.read()).status == 101
        return Socket(http)

    async def until_alone(self) -> None:
        """Wait until the listener has no peer left."""
        await until(lambda: not self.listener.peers)


@asynccontextmanager
async def listening(
    *,
    in_flight: int = 8,
    connections: int = 100,
    unsent_bytes: int = 1024,
    result: object = None,
    make: Callable[[Listener], Peer] | None = None,
    **timeouts: float,
) -> AsyncIterator[Under]:
    """Run a listener that answers nothing but its own requests."""
    wire = ConnectionConfig(Router(()), "node", in_flight=in_flight, body_limits=BodyLimits())
    wire.set_date("Thu, 01 Jan 1970 00:00:00 GMT")
    answers = Answers(result)
    clock, peers, limits = Clock(), list[CountingPeer](), list[Limit]()

    def make_peer(listener: Listener) -> Peer:
        peers.append(CountingPeer(listener))
        return peers[-1]

    listener = Listener(
        wire,
        answers.answer,
        answers.try_cached,
        Timeouts(**timeouts),
        connections=connections,
        unsent_bytes=unsent_bytes,
        make_peer=make or make_peer,
        on_limit=limits.append,
        clock_s=clock,
    )
    bound = await listener.listen(Place())
    assert isinstance(bound, tuple)
    port = bound[1]
    under = Under(listener, answers, port, clock, peers, limits)
    try:
        yield under
    finally:
        answers.released.set()
        for http in under.opened:
            http.close()
        await listener.stop()


async def test_pipelined_answers_keep_their_order() -> None:
    """RFC 9112 §9.3.2, also when an early one has to wait."""
    async with listening() as under:
        http = await under.connect()
        waiting = GET.replace(b"%d", b"wait") + b"".join(GET % number for number in range(5))
        await http.send(waiting)
        await in_time(under.answers.waiting.wait())
        under.answers.released.set()
        seen = [(await http.read()).json["requestId"] for _ in range(6)]
        assert seen == ["wait", "0", "1", "2", "3", "4"]


async def test_more_requests_than_may_be_in_flight() -> None:
    """All are answered, a bounded number at a time."""
    async with listening(in_flight=4) as under:
        http = await under.connect()
        await http.send(b"".join(GET % number for number in range(100)))
        seen = [(await http.read()).json["requestId"] for _ in range(100)]
        assert seen == [str(number) for number in range(100)]


async def test_no_more_is_read_than_may_be_in_flight() -> None:
    """While answers are awaited, further requests stay unread and are answered later."""
    async with listening(in_flight=2) as under:
        http = await under.connect()
        await http.send(GET.replace(b"%d", b"wait") + b"".join(GET % n for n in range(20)))
        await in_time(under.answers.waiting.wait())
        other = await under.connect()
        await other.send(GET % 99)
        assert (await other.read()).json["requestId"] == "99"
        assert under.answers.asked == ["wait", "0", "99"]
        under.answers.released.set()
        for expected in ["wait", *map(str, range(20))]:
            assert (await http.read()).json["requestId"] == expected


async def test_socket_answers_come_when_they_are_ready() -> None:
    """docs/api/transport.md#websocket: in completion order."""
    async with listening() as under:
        opened = await under.open_socket()
        await opened.send({"controller": "a", "action": "b", "requestId": "wait"})
        await opened.send({"controller": "a", "action": "b", "requestId": "now"})
        assert (await opened.read())["requestId"] == "now"
        under.answers.released.set()
        assert (await opened.read())["requestId"] == "wait"


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begun", "limit_s", "status"),
    [
        (b"GET / HT", 10, 408),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", 20, 408),
        (CHUNKED + b"5\r\nab", 20, 408),
        (GET % 1 + b"GET / HT", 10, 408),
        (b"", 10, None),
        (GET % 1, 30, None),
    ],
)
async def test_slow_peers_meet_a_deadline(begun: bytes, limit_s: int, status: int | None) -> None:
    """RFC 9110 §15.5.9: a request begun is answered 408, silence is ended without a word."""
    async with listening(head_s=10, body_s=20, idle_s=30) as under:
        http = await under.connect()
        await http.send(begun)
        await until(lambda: len(under.listener.peers) == 1)
        await under.until_received(len(begun))
        if begun.startswith(GET % 1):
            assert (await http.read()).status == 200
        under.pass_time(limit_s - 1)
        assert not http.reader.at_eof()
        assert len(under.listener.peers) == 1
        under.pass_time(1)
        if status is not None:
            answer = await http.read()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert answer.json["error"]["id"] == "network.http.unexpected_error"
        try:
            assert await http.read_end() == b""
        except ConnectionResetError:
            pass
        http.close()
        await under.until_alone()


async def test_a_byte_at_a_time_gains_no_time() -> None:
    """Slow loris: the deadline of a head counts from its first byte."""
    async with listening(head_s=10, body_s=60, idle_s=60) as under:
        http = await under.connect()
        for number in range(1, 10):
            await http.send(b"G")
            await under.until_received(number)
            under.pass_time(1)
        assert len(under.listener.peers) == 1
        under.pass_time(1)
        assert (await http.read()).status == 408


async def test_silent_sockets_are_dropped() -> None:
    """docs/api/transport.md#websocket: abruptly; any byte received counts."""
    async with listening(socket_s=10, head_s=20, idle_s=20) as under:
        opened = await under.open_socket()
        for _ in range(5):
            under.pass_time(9)
            await opened.http.send(write_client_frame(0x89, b"x"))
            assert await opened.read_frame() == (0x8A, b"x")
        under.pass_time(10)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await opened.read_frame()


async def test_a_peer_that_does_not_read_is_dropped() -> None:
    """Nothing more of his is understood while answers wait for him, and at last he is let go."""
    async with listening(write_s=10, head_s=20, idle_s=60, result="x" * 100_000) as under:
        http = await under.connect(small_buffer=True)
        http.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
        for number in range(400):
            http.writer.write(GET % number)
        await until(lambda: bool(under.peers) and under.peers[0].deadline_s == 10)
        under.pass_time(10)
        await under.until_alone()
        assert len(under.answers.asked) < 400
        http.close()


async def test_too_many_connections_are_refused_at_once() -> None:
    """RFC 9110 §15.6.4."""
    async with listening(connections=2) as under:
        first, second = await under.connect(), await under.connect()
        for http in (first, second):
            await http.send(GET % 1)
            assert (await http.read()).status == 200
        third = await under.connect()
        answer = await third.read()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert await third.read_end() == b""
        first.close()
        await until(lambda: len(under.listener.peers) < 2)
        fourth = await under.connect()
        await fourth.send(GET % 4)
        assert (await fourth.read()).status == 200


async def test_stop_lets_what_is_in_progress_end() -> None:
    """Answers in progress are delivered, sockets closed with 1001, idle peers at once."""
    async with listening(grace_s=WAIT_S) as under:
        idle, busy = await under.connect(), await under.connect()
        await idle.send(GET % 1)
        assert (await idle.read()).status == 200
        opened, working = await under.open_socket(), await under.open_socket()
        await busy.send(GET.replace(b"%d", b"wait"))
        await working.send({"controller": "a", "action": "b", "requestId": "wait too"})
        await until(lambda: {"wait", "wait too"} <= set(under.answers.asked))
        stopping = asyncio.create_task(under.listener.stop())
        assert await idle.read_end() == b""
        idle.close()
        for peer in (opened,):
            assert await peer.read_frame() == (0x88, b"\x03\xe9shutting down")
            await peer.http.send(write_client_frame(0x88, b"\x03\xe9"))
        under.answers.released.set()
        answer = await busy.read()
        assert (answer.json["requestId"], answer.headers["connection"]) == ("wait", "close")
        assert (await working.read())["requestId"] == "wait too"
        assert await working.read_frame() == (0x88, b"\x03\xe9shutting down")
        await working.http.send(write_client_frame(0x88, b"\x03\xe9"))
        for http in (busy, opened.http, working.http):
            assert await http.read_end() == b""
            http.close()
        await in_time(stopping)


async def test_stop_cuts_off_who_does_not_end() -> None:
    """The grace is bounded."""
    async with listening(grace_s=0.2) as under:
        http = await under.connect()
        await http.send(GET.replace(b"%d", b"wait"))
        await in_time(under.answers.waiting.wait())
        await in_time(under.listener.stop())
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await http.read()


async def test_half_closed_peers_get_their_answers() -> None:
    """RFC 9112 §9.6: a client may close its side after the last request."""
    async with listening() as under:
        http = await under.connect()
        await http.send(GET.replace(b"%d", b"wait") + GET % 2)
        http.writer.write_eof()
        await in_time(under.answers.waiting.wait())
        under.answers.released.set()
        assert [(await http.read()).json["requestId"] for _ in range(2)] == ["wait", "2"]
        assert await http.read_end() == b""


async def test_a_refused_request_is_answered_though_more_is_coming() -> None:
    """The answer to an announced body that is too large arrives although the client keeps
    sending."""
    async with listening() as under:
        http = await under.connect()
        await http.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        for _ in range(50):
            http.writer.write(b"x" * 10_000)
        answer = await http.read()
        assert answer.status == 413
        assert answer.json["error"]["id"] == "network.http.request_too_large"
        assert await http.read_end() == b""


async def test_a_reader_that_stops_meets_the_deadline_for_taking_an_answer() -> None:
    """Security check M4: `timeouts.write` holds where the answer was ready at once, whatever the
    time between two requests is."""
    async with listening(write_s=10, idle_s=1000, result="x" * 2**23) as under:
        http = await under.connect(small_buffer=True)
        http.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
        await http.send(GET % 1)
        await until(lambda: bool(under.answers.asked))
        (peer,) = under.peers
        assert peer._holds & BLOCKED  # noqa: SLF001
        under.pass_time(9)
        assert len(under.listener.peers) == 1
        under.pass_time(1)
        await under.until_alone()


async def test_a_last_answer_has_its_time_to_leave() -> None:
    """Security check M4: an answer with which the connection ends may take `timeouts.write` like
    any other, then the peer has a moment to close."""
    async with listening(write_s=10, result="x" * 2**23) as under:
        http = await under.connect(small_buffer=True)
        http.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
        await http.send((GET % 1).replace(b"Host", b"Connection: close\r\nHost"))
        await until(lambda: bool(under.answers.asked))
        under.pass_time(9)
        assert len(under.listener.peers) == 1
        http.reader._transport.resume_reading()  # type: ignore[attr-defined]  # noqa: SLF001
        assert len((await http.read()).body) > 2**23
        (peer,) = under.peers
        await until(lambda: not peer._holds & BLOCKED)  # noqa: SLF001
        assert peer.deadline_s <= under.clock.now_s + LINGER_S


UNFINISHED = {
    "a fragment": write_client_frame(0x01, b"a"),
    "half a frame": write_client_frame(0x81, b"ab")[:-1],
    "half a frame's head": write_client_frame(0x81, b"ab")[:1],
}
PINGING = write_client_frame(0x89, b"x")


@pytest.mark.parametrize("begun", UNFINISHED)
@pytest.mark.parametrize("pong_s", [0, 5])
async def test_a_message_that_never_ends_is_closed(begun: str, pong_s: int) -> None:
    """Security check M4: a message has `timeouts.body` from its first byte, as a body has; neither
    further fragments nor pings between them renew it."""
    async with listening(body_s=10, socket_s=30, pong_s=pong_s) as under:
        opened = await under.open_socket()
        data = UNFINISHED[begun]
        received = len(UPGRADE)
        for number in range(1, 10):
            await opened.http.send(data)
            received += len(data)
            await under.until_received(received)
            under.pass_time(1)
            data = b""
            if begun == "a fragment":
                data = PINGING if number % 2 else write_client_frame(0x00, b"a")
                if number % 2 == 0:
                    assert await opened.read_frame() == (0x8A, b"x")
        assert len(under.listener.peers) == 1
        under.pass_time(1)
        assert await opened.read_frame() == (0x88, b"\x03\xf0took too long to arrive")
        assert under.limits == [Limit.MESSAGE_TIME]


async def test_messages_in_pieces_have_their_time_each() -> None:
    """One that became whole gives the next its whole time, and silence between them is another
    matter."""
    async with listening(body_s=10, socket_s=30) as under:
        opened = await under.open_socket()
        message = write_client_frame(0x81, b'{"requestId":"a"}')
        received = len(UPGRADE)
        for _ in range(3):
            await opened.http.send(message[:7])
            received += 7
            await under.until_received(received)
            under.pass_time(9)
            await opened.http.send(message[7:])
            received += len(message) - 7
            assert (await opened.read())["requestId"] == "a"
        await under.until_received(received)
        under.pass_time(29)
        assert len(under.listener.peers) == 1
        under.pass_time(1)
        await under.until_alone()
