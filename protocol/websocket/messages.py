"""WebSocket messages (RFC 6455): reassembly of fragments, ping, pong and close.

Independent of message contents. `feed` gets the received bytes and returns the events in them.
"""

import codecs
import struct
from dataclasses import dataclass
from typing import NamedTuple

from protocol.errors import ProtocolError
from protocol.receive_buffer import Buffer
from protocol.websocket.deflate import (
    COMPRESS_FROM_BYTES,
    COMPRESS_UP_TO_BYTES,
    Agreement,
    InflateLimits,
    Inflating,
    deflate,
)
from protocol.websocket.frames import (
    FIRST_CONTROL,
    FrameHead,
    Opcode,
    parse_frame_head,
    unmask,
    write_frame,
)

_TEXT = int(Opcode.TEXT)
_UTF8 = codecs.getincrementaldecoder("utf-8")
# RFC 6455 §7.4.1 and the registry: codes a peer may put in a Close frame.
_SENDABLE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})

NORMAL, GOING_AWAY, PROTOCOL_ERROR = 1000, 1001, 1002
NOT_UTF8, POLICY_VIOLATION, TOO_BIG, INTERNAL_ERROR = 1007, 1008, 1009, 1011
TRY_AGAIN_LATER = 1013  # of the IANA registry, after RFC 6455
_INFLATING_BYTES = 48 * 1024  # what zlib holds for a stream with the greatest window


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Limits of one message: its size in bytes, its number of frames, and its compression ratio."""

    message_bytes: int = 1024 * 1024
    frames: int = 128
    ratio: int = 100


class Message(NamedTuple):
    """A complete message; a text message is valid UTF-8."""

    payload: bytes
    is_text: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, to be answered by a Pong with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, solicited or not, which needs no answer (RFC 6455 §5.5.3)."""


@dataclass(frozen=True, slots=True)
class Close:
    """The peer closes; `code` is None if its frame had none."""

    code: int | None
    reason: str


Event = Message | Ping | Pong | Close


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a Close frame; the reason is truncated to 123 bytes, between characters."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return write_frame(Opcode.CLOSE, struct.pack("!H", code) + text)


def write_text(payload: bytes, agreement: Agreement | None) -> bytes:
    """Return a text message in one frame, compressed if negotiated and worth it."""
    is_compressible = COMPRESS_FROM_BYTES <= len(payload) <= COMPRESS_UP_TO_BYTES
    if agreement is None or not is_compressible:
        return write_frame(_TEXT, payload)
    return write_frame(_TEXT, deflate(payload, agreement), is_compressed=True)


class WebSocket:
    """Reads one client's frames. After a Close event or a ProtocolError nothing more is read."""

    __slots__ = (
        "_decoder",
        "_frame",
        "_frames",
        "_inflating",
        "_is_text",
        "_limits",
        "_read",
        "_received",
        "_size_bytes",
        "agreement",
        "is_between_messages",
    )

    def __init__(self, limits: MessageLimits, agreement: Agreement | None = None) -> None:
        self.agreement = agreement
        self.is_between_messages = True  # the next byte begins a message or a control frame
        self._limits = limits
        self._frame: FrameHead | None = None
        self._read = 0  # bytes consumed of the current frame's payload
        self._is_text: bool | None = None  # None: no message begun
        # Data of an incomplete message: one block, which is freed as a whole.
        self._received = bytearray()
        self._frames = 0
        self._size_bytes = 0  # of the message's frames so far
        self._inflating: Inflating | None = None  # the message, if it is compressed
        self._decoder: codecs.IncrementalDecoder | None = None  # of text that is not all ASCII

    @property
    def held_bytes(self) -> int:
        """Buffered bytes of an incomplete message."""
        return len(self._received) + (_INFLATING_BYTES if self._inflating is not None else 0)

    def drop_message(self) -> None:
        """Drop the data of a message; nothing more is read then."""
        self._received = bytearray()
        self._decoder = self._inflating = None

    def feed(self, buffer: Buffer) -> Event | None:
        """Return the next event in `buffer`, or None if more bytes, or another turn, are needed."""
        event = self._take_event(buffer)
        self.is_between_messages = self._frame is None and self._is_text is None
        return event

    def _take_event(self, buffer: Buffer) -> Event | None:
        while not buffer.is_spent:
            frame = self._frame
            if frame is None:
                frame = self._frame = parse_frame_head(
                    buffer, compresses=self.agreement is not None
                )
                if frame is None:
                    return None
                self._read = 0
                if frame.opcode < FIRST_CONTROL:
                    self._begin_data_frame(frame)
            if frame.opcode >= FIRST_CONTROL:
                if len(buffer) < frame.length:
                    return None
                self._frame = None
                event: Event | None = _control_event(
                    frame, unmask(buffer.take(frame.length), frame.mask)
                )
            else:
                event = self._take_data(frame, buffer)
                if event is None and self._frame is not None:
                    return None
            if event is not None:
                return event
        return None

    def _begin_data_frame(self, frame: FrameHead) -> None:
        if frame.opcode == Opcode.CONTINUATION:
            if self._is_text is None:
                raise ProtocolError("continuation without a message")
        elif self._is_text is not None:
            raise ProtocolError("a message inside a message")
        else:
            self._is_text = frame.opcode == Opcode.TEXT
            if frame.is_compressed:
                limits = InflateLimits(self._limits.message_bytes, self._limits.ratio)
                self._inflating = Inflating(limits)
        self._frames += 1
        self._size_bytes += frame.length
        if self._size_bytes > self._limits.message_bytes:
            raise ProtocolError("message too big", close_code=TOO_BIG)
        if self._frames > self._limits.frames:
            raise ProtocolError("message in too many frames", close_code=TOO_BIG)

    def _take_data(self, frame: FrameHead, buffer: Buffer) -> Message | None:
        """Consume the received part of the frame's payload, and return the message if complete.

        Text is validated as it arrives: invalid UTF-8 closes the connection at once (§8.1).
        """
        part = unmask(buffer.take(frame.length - self._read), frame.mask, self._read)
        self._read += len(part)
        is_whole = self._read == frame.length
        is_last = is_whole and frame.is_final
        if self._inflating is not None:
            part = self._inflating.feed(part, is_last=is_last)
        if self._is_text:
            self._check_text(part, is_last)
        if is_whole:
            self._frame = None
        if is_last and not self._received:
            return self._finish(part)
        self._received += part
        return self._finish(bytes(self._received)) if is_last else None

    def _check_text(self, part: bytes, is_last: bool) -> None:
        if self._decoder is None and part.isascii():
            return
        if self._decoder is None:
            self._decoder = _UTF8("strict")
        try:
            self._decoder.decode(part, is_last)
        except UnicodeDecodeError:
            raise ProtocolError("text that is not UTF-8", close_code=NOT_UTF8) from None

    def _finish(self, payload: bytes) -> Message:
        message = Message(payload, bool(self._is_text))
        self._is_text = None
        if self._received:
            self._received = bytearray()
        self._decoder = self._inflating = None
        self._frames = self._size_bytes = 0
        return message


def _control_event(frame: FrameHead, payload: bytes) -> Ping | Pong | Close:
    if frame.opcode == Opcode.PING:
        return Ping(payload)
    if frame.opcode == Opcode.PONG:
        return Pong()
    if not payload:
        return Close(None, "")
    if len(payload) == 1:
        raise ProtocolError("truncated close code")
    code = int.from_bytes(payload[:2], "big")
    if code not in _SENDABLE and not 3000 <= code < 5000:
        raise ProtocolError("invalid close code")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise ProtocolError("close reason that is not UTF-8", close_code=NOT_UTF8) from None
