"""WebSocket compression (RFC 7692, permessage-deflate): negotiation, compression, decompression.

Each message is compressed separately, without context takeover. An idle socket then costs no more
than without compression, and an attacker cannot infer one message from the size of another one that
they wrote themselves.
"""

import re
import zlib
from dataclasses import dataclass

from protocol.errors import ProtocolError
from protocol.http11.head import TOKEN

NAME = "permessage-deflate"
COMPRESS_FROM_BYTES = 1024
"""Smaller messages and bodies are sent as they are."""
COMPRESS_UP_TO_BYTES = 256 * 1024
"""Larger ones, too: a megabyte blocks the event loop for 25 ms."""
_TAIL = b"\x00\x00\xff\xff"  # end of every compressed message, which is not sent (§7.2.1)
_LEVEL = 4  # most of level 9's gain at a quarter of its time
_MAX_BITS = 15
_TOKEN = TOKEN.decode()
_PARAMETER = re.compile(rf'\s*;\s*({_TOKEN})(?:\s*=\s*(?:({_TOKEN})|"({_TOKEN})"))?')
_EXTENSION = re.compile(rf"\s*({_TOKEN})((?:{_PARAMETER.pattern})*)\s*(?:,|$)")
# zlib has no raw stream with the smallest window, 8.
_BITS = {str(bits): bits for bits in range(9, _MAX_BITS + 1)}
_ANY_BITS = {"8", *_BITS}
# Final blocks within a message: one is unusual, many are an attack, since each costs a new stream.
_MAX_STREAMS = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """The negotiated parameters; `bits` is the size of the server's window as a power of two, None
    for the maximum if the client did not ask for less."""

    bits: int | None = None

    def __str__(self) -> str:
        asked = "" if self.bits is None else f"; server_max_window_bits={self.bits}"
        return f"{NAME}; server_no_context_takeover; client_no_context_takeover{asked}"


def choose_offer(offered: str) -> Agreement | None:
    """Return the first acceptable offer in a Sec-WebSocket-Extensions field, None without one.

    An offer with an unknown, duplicate or invalid parameter is skipped (§7.1). ProtocolError for a
    field that is not a list of extensions (RFC 6455 §9.1).
    """
    at = 0
    while at < len(offered) or at == 0:
        found = _EXTENSION.match(offered, at)
        if found is None or found.end() == at:
            raise ProtocolError("malformed Sec-WebSocket-Extensions")
        at = found.end()
        agreement = _read_offer(found[2]) if found[1] == NAME else None
        if agreement is not None:
            return agreement
    return None


def _read_offer(parameters: str) -> Agreement | None:
    bits = None
    seen = set()
    for parameter in _PARAMETER.finditer(parameters):
        name, value = parameter[1], parameter[2] or parameter[3]
        if name in seen:
            return None
        seen.add(name)
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover" if value is None:
                pass
            case "client_max_window_bits" if value is None or value in _ANY_BITS:
                pass
            case "server_max_window_bits" if value in _BITS:
                bits = _BITS[value]
            case _:
                return None
    return Agreement(bits)


def deflate(payload: bytes, agreement: Agreement) -> bytes:
    """Compress a message (§7.2.1)."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -(agreement.bits or _MAX_BITS))
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(_TAIL)


@dataclass(frozen=True, slots=True)
class InflateLimits:
    """Limits of one message: its decompressed size, and its compression ratio beyond
    `free_bytes`."""

    inflated_bytes: int
    ratio: int
    free_bytes: int = 65536


class Inflating:
    """Decompressor of one message (§7.2.2)."""

    __slots__ = ("_given_bytes", "_limits", "_stream", "_streams", "_taken_bytes")

    def __init__(self, limits: InflateLimits) -> None:
        self._limits = limits
        self._stream = zlib.decompressobj(-_MAX_BITS)
        self._streams = 1
        self._taken_bytes = self._given_bytes = 0

    def feed(self, part: bytes, *, is_last: bool) -> bytes:
        """Decompress a part of the payload. ProtocolError 1009 beyond the limits, 1007 for invalid
        DEFLATE data."""
        self._taken_bytes += len(part)
        rest, pieces = part + _TAIL if is_last else part, []
        while rest:
            pieces.append(self._inflate(rest))
            rest = self._stream.unconsumed_tail
            if self._stream.eof:
                rest = self._begin_anew()
        return b"".join(pieces)

    def _begin_anew(self) -> bytes:
        """Continue after a final block (§7.2.3.4): there is at least the tail; return its data."""
        self._streams += 1
        if self._streams > _MAX_STREAMS:
            raise ProtocolError("too many final blocks in a message", close_code=1007)
        rest, self._stream = self._stream.unused_data, zlib.decompressobj(-_MAX_BITS)
        return rest

    def _inflate(self, data: bytes) -> bytes:
        limits = self._limits
        most = min(limits.inflated_bytes, max(limits.free_bytes, self._taken_bytes * limits.ratio))
        try:
            piece = self._stream.decompress(data, most - self._given_bytes + 1)
        except zlib.error:
            raise ProtocolError("not a compressed message", close_code=1007) from None
        self._given_bytes += len(piece)
        if self._given_bytes > most:
            raise ProtocolError("decompressed message too big", close_code=1009)
        return piece
