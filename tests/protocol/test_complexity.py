"""The work is linear in what arrives, however it is cut: counted in bytes looked at."""

import re

import pytest

from protocol.api.request import Response
from protocol.config import ConnectionConfig
from protocol.connection import Connection
from protocol.http11.body import BodyLimits
from protocol.receive_buffer import Buffer
from protocol.websocket.messages import MessageLimits
from tests.support.wire_cases import HANDSHAKE, TwoRoutes, frame

MEBIBYTE = 2**20
POST = b"POST /now HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /now HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n"
WIRE = ConnectionConfig(
    TwoRoutes(),
    "node",
    body_limits=BodyLimits(body_bytes=2 * MEBIBYTE),
    message_limits=MessageLimits(message_bytes=2 * MEBIBYTE, frames=1024),
)


class CountingBuffer(Buffer):
    """Counts the bytes looked at: searched, copied out, or matched."""

    looked_at = 0

    def peek(self, count: int) -> bytes:
        """See `Buffer`."""
        peeked = super().peek(count)
        self.looked_at += len(peeked)
        return peeked

    def take(self, count: int) -> bytes:
        """See `Buffer`."""
        taken = super().take(count)
        self.looked_at += len(taken)
        return taken

    def take_through(self, mark: bytes) -> bytes | None:
        """See `Buffer`."""
        held, searched = len(self), self._searched
        taken = super().take_through(mark)
        self.looked_at += (held if taken is None else len(taken)) - searched
        return taken

    def line_end(self) -> int:
        """See `Buffer`."""
        if self._line_end < 0:
            self.looked_at += len(self) - self._line_searched
        return super().line_end()

    def holds_new(self, pattern: re.Pattern[bytes]) -> bool:
        """See `Buffer`."""
        self.looked_at += len(self) - max(0, self._scanned - 1)
        return super().holds_new(pattern)


def looked_at(before: bytes, wire: bytes, piece_bytes: int) -> int:
    """Give how many bytes are looked at to understand `wire` in such pieces; everything in it must
    be understood."""
    connection = Connection(WIRE)
    for request in connection.receive(before):
        connection.send(request, Response("made"))
    buffer = connection._buffer = CountingBuffer()  # noqa: SLF001
    answered = 0
    for at in range(0, len(wire), piece_bytes):
        requests = connection.receive(wire[at : at + piece_bytes])
        while requests or connection.has_unread_input:
            for request in requests:
                assert request.refused is None or request.refused.status == 404
                connection.send(request, Response("made"))
                answered += 1
            requests = connection.receive(b"")
        connection.bytes_to_send()
    assert answered > 0
    assert connection.is_settled
    return buffer.looked_at


MESSAGE = b'{"a":"' + b"x" * (MEBIBYTE - 8) + b'"}'
CHUNKS = (
    b"".join(b"%x\r\n%s\r\n" % (4096, b" " * 4096) for _ in range(32)) + b"2\r\n{}\r\n0\r\n\r\n"
)
LARGE = {
    "a body of known length": (b"", POST + b"Content-Length: %d\r\n\r\n" % MEBIBYTE + MESSAGE),
    "a chunked body": (b"", POST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS),
    "a message": (HANDSHAKE, frame(1, MESSAGE)),
    "a message in fragments": (
        HANDSHAKE,
        frame(1, MESSAGE[:1024], final=False)
        + b"".join(
            frame(0, MESSAGE[at : at + 1024], final=False)
            for at in range(1024, MEBIBYTE // 8, 1024)
        )
        + frame(0, MESSAGE[-1024:]),
    ),
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", LARGE)
def test_a_byte_at_a_time_costs_at_most_twice(name: str) -> None:
    """1 MiB (an eighth of it in chunks or fragments) in single bytes, beside pieces of 64."""
    before, wire = LARGE[name]
    assert looked_at(before, wire, 1) <= 2 * looked_at(before, wire, 64)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 64, 4096])
def test_heads_are_looked_at_a_few_times(piece_bytes: int) -> None:
    """Each byte by what looks for the head's end, for its first line's and for bare line ends, and
    some by overlap with the next piece: a bound that does not grow with the head."""
    for head in (GET % b"x", GET % (b"x" * 8000)):
        wire = head * (MEBIBYTE // 16 // len(head))
        assert looked_at(b"", wire, piece_bytes) <= 10 * len(wire)
