"""Single frames: RFC 6455 §5.2 and §5.7, and every head a client may not send (H7)."""

import pytest

from protocol.errors import ProtocolError
from protocol.receive_buffer import Buffer
from protocol.websocket.frames import FrameHead, Opcode, parse_frame_head, unmask, write_frame
from tests.support.wire_cases import MASK, cuts


def read(parts: list[bytes]) -> FrameHead | None | int:
    """Give the head, None when it is not whole, or the close code of a refusal."""
    buffer, found = Buffer(), None
    try:
        for part in parts:
            buffer.append(part)
            found = found or parse_frame_head(buffer)
    except ProtocolError as broken:
        return broken.close_code
    return found


@pytest.mark.parametrize(
    ("wire", "opcode", "is_final", "length"),
    [
        (b"\x81\x80", Opcode.TEXT, True, 0),
        (b"\x01\x83", Opcode.TEXT, False, 3),
        (b"\x00\x83", Opcode.CONTINUATION, False, 3),
        (b"\x82\xfd", Opcode.BINARY, True, 125),
        (b"\x82\xfe\x00\x7e", Opcode.BINARY, True, 126),
        (b"\x82\xfe\xff\xff", Opcode.BINARY, True, 65535),
        (b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00", Opcode.BINARY, True, 65536),
        (b"\x82\xff\x7f" + b"\xff" * 7, Opcode.BINARY, True, 2**63 - 1),
        (b"\x88\x82", Opcode.CLOSE, True, 2),
        (b"\x89\xfd", Opcode.PING, True, 125),
        (b"\x8a\x80", Opcode.PONG, True, 0),
    ],
)
def test_heads(wire: bytes, opcode: int, is_final: bool, length: int) -> None:
    for parts in cuts(wire + MASK):
        assert read(parts) == FrameHead(opcode, is_final, length, MASK)
        assert read(parts[:-1]) is None


@pytest.mark.parametrize(
    "wire",
    [
        b"\x81\x00",  # no mask
        b"\xc1\x80",  # RSV1, which only an extension may set
        b"\xa1\x80",  # RSV2
        b"\x91\x80",  # RSV3
        *(bytes((0x80 | opcode, 0x80)) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        b"\x09\x80",  # fragmented ping
        b"\x08\x80",
        b"\x89\xfe",  # 126 bytes of ping
        b"\x8a\xff",
        b"\x81\xfe\x00\x7d" + MASK,  # 125 in two bytes
        b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff" + MASK,  # 65535 in eight
        b"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00" + MASK,  # the high bit
        b"\x81\xff" + b"\xff" * 8 + MASK,
    ],
)
def test_refused_heads(wire: bytes) -> None:
    for parts in cuts(wire):
        assert read(parts) == 1002


def test_unmasking_is_rfc_6455_5_7() -> None:
    assert unmask(b"\x7f\x9f\x4d\x51\x58", b"\x37\xfa\x21\x3d") == b"Hello"


def test_unmasking_goes_on_at_any_place() -> None:
    masked = bytes(byte ^ MASK[at & 3] for at, byte in enumerate(b"some longer text"))
    for at in range(len(masked) + 1):
        assert unmask(masked[:at], MASK) + unmask(masked[at:], MASK, at) == b"some longer text"


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_written_frames_use_the_shortest_length(size: int, head: bytes) -> None:
    assert write_frame(Opcode.TEXT, b"x" * size) == head + b"x" * size
