"""Chunked transfer coding parser (RFC 9112 §7.1).

Extensions and trailers are validated, then dropped.
"""

import re
from dataclasses import dataclass
from enum import Enum

from protocol.errors import ProtocolError
from protocol.http11.head import BARE, TOKEN, parse_fields
from protocol.receive_buffer import Buffer

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_VALUE = rb"(?:" + TOKEN + rb"|" + _QUOTED + rb")"
_EXTENSION = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*" + _VALUE + rb")?"
# Sixteen to the eighth is more than any limit: a longer number is refused, not wrapped.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:" + _EXTENSION + rb")*")


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """Limits of the framing of a chunked body; `line_bytes` is for one size line.

    `chunks` keeps a body of one-byte chunks, or of long extensions, from costing much more than
    its bytes do: clients cut a megabyte into 16 to 256.
    """

    chunks: int = 320
    line_bytes: int = 64
    trailer_bytes: int = 4 * 1024
    trailer_fields: int = 32


class _Part(Enum):
    SIZE = "size line"
    DATA = "chunk data"
    DATA_END = "line end after chunk data"
    TRAILER = "trailer section"
    DONE = "done"


# Framing and routing fields must precede a message (RFC 9110 §6.5.1). Stricter: refused, since a
# parser that does not ignore them would disagree with one that does (request smuggling).
_FRAMING = frozenset({"content-length", "transfer-encoding", "host", "connection", "upgrade"})


class ChunkedBody:
    """Reads one chunked body from a buffer; `body` contains the received data."""

    __slots__ = (
        "_chunks",
        "_left",
        "_limits",
        "_most_bytes",
        "_part",
        "_trailers",
        "_trailers_bytes",
        "body",
    )

    def __init__(self, most_bytes: int, limits: ChunkLimits) -> None:
        self.body = bytearray()
        self._most_bytes = most_bytes
        self._limits = limits
        self._part = _Part.SIZE
        self._chunks = 0
        self._left = 0
        self._trailers = 0
        self._trailers_bytes = 0

    def feed(self, buffer: Buffer) -> bool:
        """Consume the body's bytes from `buffer`, as far as its turn goes; True once the body is
        complete."""
        while self._part is not _Part.DONE:
            if buffer.is_spent:
                return False
            if self._part is _Part.DATA and self._left + 2 <= len(buffer.held):
                # Nearly always the complete chunk is there, with its line break.
                data = buffer.take(self._left + 2)
                if data[-2:] != b"\r\n":
                    raise ProtocolError("chunk longer than its size")
                self.body += data[:-2]
                self._left, self._part = 0, _Part.SIZE
            elif self._part is _Part.DATA:
                self.body += (data := buffer.take(self._left))
                self._left -= len(data)
                if self._left:
                    return False
                self._part = _Part.DATA_END
            elif (line := self._take_line(buffer)) is None:
                return False
            elif self._part is _Part.SIZE:
                self._begin_chunk(line)
            elif self._part is _Part.DATA_END:
                self._part = _Part.SIZE
            else:
                self._read_trailer(line)
        return True

    def _take_line(self, buffer: Buffer) -> bytes | None:
        if self._part is _Part.DATA_END and not b"\r\n".startswith(buffer.peek(2)):
            raise ProtocolError("chunk longer than its size")
        line = buffer.take_through(b"\r\n")
        if line is None and buffer.holds_new(BARE):
            raise ProtocolError("bare CR, LF or NUL in a chunked body's lines")
        held = len(buffer) if line is None else len(line)
        if self._part is _Part.SIZE and held > self._limits.line_bytes:
            raise ProtocolError("chunk size line too long")
        if self._part is _Part.TRAILER and held + self._trailers_bytes > self._limits.trailer_bytes:
            raise ProtocolError("trailer section too large", status=431)
        return None if line is None else line[:-2]

    def _begin_chunk(self, line: bytes) -> None:
        size = _SIZE_LINE.fullmatch(line)
        if size is None:
            raise ProtocolError("malformed chunk size")
        self._left = int(size[1], 16)
        if len(self.body) + self._left > self._most_bytes:
            raise ProtocolError("body too large", status=413)
        self._chunks += self._left > 0
        if self._chunks > self._limits.chunks:
            raise ProtocolError("body in too many chunks")
        self._part = _Part.DATA if self._left else _Part.TRAILER

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self._part = _Part.DONE
            return
        if parse_fields([line]).keys() & _FRAMING:
            raise ProtocolError("a trailer that frames the message")
        self._trailers += 1
        self._trailers_bytes += len(line) + 2
        if self._trailers > self._limits.trailer_fields:
            raise ProtocolError("too many trailer fields", status=431)
