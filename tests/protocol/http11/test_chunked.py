"""Chunked bodies: every cut gives the same, and every bound holds at the limit and one past it."""

import pytest

from protocol.errors import ProtocolError
from protocol.http11.chunked import ChunkedBody, ChunkLimits
from protocol.receive_buffer import Buffer
from tests.support.wire_cases import cuts

LIMITS = ChunkLimits(chunks=6, line_bytes=24, trailer_bytes=32, trailer_fields=2)
MOST_BYTES = 64


def read(parts: list[bytes]) -> tuple[bytes | int | None, bytes]:
    """Give the body (None: not whole, a status: refused) and what was left behind it."""
    buffer, body, whole = Buffer(), ChunkedBody(MOST_BYTES, LIMITS), False
    try:
        for part in parts:
            buffer.append(part)
            whole = whole or body.feed(buffer)
    except ProtocolError as broken:
        return broken.status, b""
    return (bytes(body.body) if whole else None), buffer.take_all()


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n2\r\n\r\n\r\n0\r\n\r\n", b"abc\r\n"),
        (b"0000000A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"1;a\r\nx\r\n0\r\n\r\n", b"x"),
        (b'1;a=b;c="d;\\"e"\r\nx\r\n0;z\r\n\r\n', b"x"),
        (b"1 ; a = b\r\nx\r\n0\r\n\r\n", b"x"),
        (b"1;" + b"a" * 20 + b"\r\nx\r\n0\r\n\r\n", b"x"),
        (b"0\r\nA: b\r\nC: d\r\n\r\n", b""),
        (b"0\r\nA: " + b"b" * 25 + b"\r\n\r\n", b""),
        (b"40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n", b"x" * 64),
        (b"1\r\nx\r\n" * 6 + b"0\r\n\r\n", b"x" * 6),
    ],
)
def test_whole_bodies(wire: bytes, body: bytes) -> None:
    for parts in cuts(wire + b"GET"):
        assert read(parts) == (body, b"GET")


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"\r\n", 400),
        (b"+1\r\nx", 400),
        (b"-1\r\nx", 400),
        (b"0x1\r\nx", 400),
        (b"1_0\r\nx", 400),
        (b" 1\r\nx", 400),
        (b"1 \r\nx", 400),
        (b"\t1\r\nx", 400),
        (b"g\r\n", 400),
        (b"100000000\r\n", 400),
        (b"ffffffffffffffff1\r\n", 400),
        (b"1,2\r\nx", 400),
        (b"1;\r\nx", 400),
        (b"1;=b\r\nx", 400),
        (b"1;a=\r\nx", 400),
        (b'1;a="b\r\nx', 400),
        (b"1;a\x00\r\nx", 400),
        (b"1;a\nb\r\nx", 400),
        (b"1;a\rb\r\nx", 400),
        (b"1;a\n\r\nx", 400),
        (b"1;a\nb", 400),
        (b"0\r\nA\rb", 400),
        (b"1\nx\r\n0\r\n\r\n", 400),
        (b"1\rx\r\n0\r\n\r\n", 400),
        (b"1\r\r\nx", 400),
        (b"1\r\nxy", 400),
        (b"1\r\nx\n0", 400),
        (b"1\r\nx\r0", 400),
        (b"1\r\nx0\r\n\r\n", 400),
        (b"1;" + b"a" * 21 + b"\r\nx", 400),
        (b"1" * 25, 400),
        (b"41\r\nx", 413),
        (b"40\r\n" + b"x" * 64 + b"\r\n1\r\n", 413),
        (b"1\r\nx\r\n" * 7, 400),
        (b"0\r\nA b\r\n\r\n", 400),
        (b"0\r\nContent-Length: 1\r\n\r\n", 400),
        (b"0\r\ntransfer-encoding: x\r\n\r\n", 400),
        (b"0\r\nHost: a\r\n\r\n", 400),
        (b"0\r\n A: b\r\n\r\n", 400),
        (b"0\r\nA : b\r\n\r\n", 400),
        (b"0\r\nA: \x00\r\n\r\n", 400),
        (b"0\r\nA: b\nC: d\r\n\r\n", 400),
        (b"0\r\nA: b\n\r\n", 400),
        (b"0\r\nA: b\r\nC: d\r\nE: f\r\n", 431),
        (b"0\r\nA: " + b"b" * 28 + b"\r\n", 431),
        (b"0\r\nA: " + b"b" * 40, 431),
    ],
)
def test_refused_bodies(wire: bytes, status: int) -> None:
    for parts in cuts(wire):
        assert read(parts) == (status, b"")


def test_parts_are_not_whole() -> None:
    for size in range(len(wire := b"3;a\r\nabc\r\n0\r\nA: b\r\n\r\n")):
        assert read([wire[:size]])[0] is None
