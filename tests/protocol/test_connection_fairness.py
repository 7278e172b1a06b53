"""One connection's turn is bounded, whatever it sends: what is left waits for the next one."""

from collections.abc import Callable

import pytest

from protocol.api.request import Response
from protocol.config import ConnectionConfig
from protocol.connection import Connection
from protocol.http11.chunked import ChunkLimits
from protocol.receive_buffer import PIECES_AT_ONCE
from protocol.state import State
from tests.support.wire_cases import HANDSHAKE, TwoRoutes, frame, small_wire

TEXT, PING, PONG = 1, 9, 10
READ_BYTES = 256 * 1024  # what a loop gives at once
GET = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY_PARTS = frame(TEXT, b"", final=False) + frame(0, b"", final=False) * 100 + frame(0, b"{}")
FLOODS = {
    "pings": (HANDSHAKE, frame(PING)),
    "pongs": (HANDSHAKE, frame(PONG)),
    "empty messages": (HANDSHAKE, frame(TEXT)),
    "the API's pings": (HANDSHAKE, frame(TEXT, b'{"p":1}')),
    "empty fragments": (HANDSHAKE, EMPTY_PARTS),
    "small messages": (HANDSHAKE, frame(TEXT, b"{}")),
    "requests": (b"", GET),
    "chunks of one byte": (CHUNKED, b"1\r\n \r\n"),
}


def answer_all(connection: Connection, data: bytes) -> int:
    """Answer what one turn gives; give how many requests that was."""
    requests = connection.receive(data)
    for request in requests:
        connection.send(request, Response("made"))
    connection.bytes_to_send()
    return len(requests)


@pytest.mark.parametrize("name", FLOODS)
def test_a_turn_is_bounded(name: str) -> None:
    """Of a flood that comes in one read only some is understood at once; nothing is lost."""
    before, piece = FLOODS[name]
    wire = ConnectionConfig(TwoRoutes(), "node", chunk_limits=ChunkLimits(chunks=READ_BYTES))
    connection = Connection(wire)
    answer_all(connection, before)
    times = READ_BYTES // len(piece)
    answered, turns, held = answer_all(connection, piece * times), 1, [0]
    while connection.has_unread_input:
        held.append(len(connection._buffer))  # noqa: SLF001
        answered += answer_all(connection, b"")
        turns += 1
    assert not connection.holds_input
    assert turns > 10
    per_turn = max(earlier - later for earlier, later in zip(held[1:], held[2:], strict=False))
    assert per_turn <= PIECES_AT_ONCE * len(GET)
    if piece in (GET, frame(TEXT, b"{}"), EMPTY_PARTS):
        assert answered == times


def budget(most: int) -> Callable[[], Callable[[], bool]]:
    """Give what makes budgets of so many."""

    def make() -> Callable[[], bool]:
        left = iter([True] * most)
        return lambda: next(left, False)

    return make


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_control_frames_have_a_budget(opcode: int) -> None:
    """As many as there are in it, and the next one closes the socket with 1008; each socket has its
    own."""
    wire = small_wire(control_budget=budget(3))
    for _ in range(2):
        connection = Connection(wire)
        answer_all(connection, HANDSHAKE)
        connection.receive(frame(opcode, b"a") * 3)
        assert connection.phase is State.SOCKET
        assert connection.bytes_to_send() == (b"\x8a\x01a" * 3 if opcode == PING else b"")
        connection.receive(frame(opcode, b"a") + frame(TEXT, b"{}"))
        assert connection.bytes_to_send() == b"\x88\x19\x03\xf0too many control frames"
        assert connection.is_finished


def test_messages_have_no_part_in_that_budget() -> None:
    connection = Connection(small_wire(control_budget=budget(0)))
    answer_all(connection, HANDSHAKE)
    assert answer_all(connection, frame(TEXT, b"{}") * 3) == 3
