"""WebSocket frame parser and writer (RFC 6455 §5).

Independent of messages, the handshake and connections.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from protocol.errors import ProtocolError
from protocol.receive_buffer import Buffer


class Opcode(IntEnum):
    """RFC 6455 §5.2; everything else is reserved and refused."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


# Plain integers: enum members take several times as long to compare, for every frame.
FIRST_CONTROL = 0x8
_KNOWN = frozenset(int(opcode) for opcode in Opcode)
_FIN = 0x80
_COMPRESSED = 0x40  # the first reserved bit (RFC 7692 §6)
_RESERVED = 0x70
_MASKED = 0x80
_MAX_CONTROL_BYTES = 125
_WHOLE_TEXT = _FIN | 0x1
_UNMASKED_AT_ONCE = 32 * 1024  # a multiple of the mask's length
_MIDDLE_HEAD = struct.Struct("!HH").pack


@dataclass(slots=True)
class FrameHead:
    """The header of a frame; `length` in bytes, `mask` 4 bytes."""

    opcode: int
    is_final: bool
    length: int
    mask: bytes
    is_compressed: bool = False


def parse_frame_head(buffer: Buffer, *, compresses: bool = False) -> FrameHead | None:
    """Consume a client's frame header from `buffer`, or return None while it is incomplete. With
    `compresses` the first frame of a message may be marked as compressed.

    Reserved bits and opcodes, unmasked frames, fragmented or long control frames and lengths that
    are not in their shortest form (RFC 6455 §5.1, §5.2, §5.5) close the connection with 1002.
    """
    start = buffer.peek(14)
    if len(start) < 2:
        return None
    first, second = start[0], start[1]
    opcode, short = first & 0x0F, second & 0x7F
    is_compressed = bool(first & _COMPRESSED)
    if opcode not in _KNOWN or first & (_RESERVED ^ _COMPRESSED):
        raise ProtocolError("reserved bits or opcode")
    if is_compressed and not (compresses and 0 < opcode < FIRST_CONTROL):
        raise ProtocolError("compressed, which was not agreed or cannot be")
    if not second & _MASKED:
        raise ProtocolError("unmasked frame")
    if opcode >= FIRST_CONTROL and (short > _MAX_CONTROL_BYTES or not first & _FIN):
        raise ProtocolError("long or fragmented control frame")
    size = 6 if short < 126 else 8 if short == 126 else 14
    if len(start) < size:
        return None
    length = short if short < 126 else int.from_bytes(start[2 : size - 4], "big")
    if (short == 126 and length < 126) or (short == 127 and not 65536 <= length < 1 << 63):
        raise ProtocolError("length not in its shortest form")
    buffer.take(size)
    return FrameHead(opcode, bool(first & _FIN), length, start[size - 4 : size], is_compressed)


def take_whole_text(data: bytes) -> bytes | None:
    """Return the payload if `data` is one complete text message in one frame below 64 KiB, as
    nearly all are; None for anything else, whether it is a frame or not."""
    size = len(data)
    if size < 8 or data[0] != _WHOLE_TEXT:
        return None
    short = data[1] ^ _MASKED
    if short < 126:
        return unmask(data[6:], data[2:6]) if size == 6 + short else None
    if short == 126 and size == 8 + (data[2] << 8 | data[3]) and size >= 8 + 126:
        return unmask(data[8:], data[4:8])
    return None


def unmask(payload: bytes, mask: bytes, offset: int = 0) -> bytes:
    """Unmask a client's payload (RFC 6455 §5.3); `offset` is its position in the frame.

    One exclusive-or of two big integers: the fastest the interpreter has, as long as they stay in
    the processor's cache.
    """
    size = len(payload)
    if offset & 3:  # only if a frame arrives in pieces
        mask = mask[offset & 3 :] + mask[: offset & 3]
    if size > _UNMASKED_AT_ONCE:
        return _unmask_large(payload, mask)
    key = (mask * ((size >> 2) + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(
        size, "little"
    )


def _unmask_large(payload: bytes, mask: bytes) -> bytes:
    at_once = _UNMASKED_AT_ONCE
    key = int.from_bytes(mask * (at_once >> 2), "little")
    rest = len(payload) % at_once
    pieces = [
        (int.from_bytes(payload[at : at + at_once], "little") ^ key).to_bytes(at_once, "little")
        for at in range(0, len(payload) - rest, at_once)
    ]
    return b"".join(pieces) + unmask(payload[len(payload) - rest :], mask)


def write_frame(opcode: int, payload: bytes, *, is_compressed: bool = False) -> bytes:
    """Return one complete, unmasked frame, as a server sends it."""
    size = len(payload)
    first = _FIN | opcode | (_COMPRESSED if is_compressed else 0)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _MIDDLE_HEAD(first << 8 | 126, size) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload
