"""Compressed WebSocket messages (RFC 7692, permessage-deflate): the agreement at the handshake, and
the two directions.

Each message stands by itself: neither side keeps a window from one to the next. An idle socket then
costs no more than without compression, and nobody learns what one message says from the size of
another that he wrote himself.
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
"""Larger ones, too: a megabyte takes the loop 25 ms, for which everybody waits."""
_TAIL = b"\x00\x00\xff\xff"  # what every compressed message ends with, and leaves away (§7.2.1)
_LEVEL = 4  # most of level 9's gain at a quarter of its time
_MOST_BITS = 15
_TOKEN = TOKEN.decode()
_PARAMETER = re.compile(rf'\s*;\s*({_TOKEN})(?:\s*=\s*(?:({_TOKEN})|"({_TOKEN})"))?')
_EXTENSION = re.compile(rf"\s*({_TOKEN})((?:{_PARAMETER.pattern})*)\s*(?:,|$)")
# zlib has no raw stream with the smallest window, 8.
_BITS = {str(bits): bits for bits in range(9, _MOST_BITS + 1)}
_ANY_BITS = {"8", *_BITS}
# Last blocks within a message: one is an odd client, many are made to cost us a new stream each.
_MOST_STREAMS = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides will do; `bits` is the size of our window as a power of two, None for the
    greatest where the client did not ask for less."""

    bits: int | None = None

    def __str__(self) -> str:
        asked = "" if self.bits is None else f"; server_max_window_bits={self.bits}"
        return f"{NAME}; server_no_context_takeover; client_no_context_takeover{asked}"


def choose_offer(offered: str) -> Agreement | None:
    """Give the first offer in a Sec-WebSocket-Extensions field that we can meet, None without one.

    An offer with an unknown, doubled or impossible parameter is passed over (§7.1). ProtocolError
    for a field that is no list of extensions (RFC 6455 §9.1).
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
    """Give a message as it is sent compressed (§7.2.1)."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -(agreement.bits or _MOST_BITS))
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(_TAIL)


@dataclass(frozen=True, slots=True)
class InflateLimits:
    """Bounds of one message: its inflated size, and how many times its compressed size that may be,
    beyond `free_bytes`."""

    inflated_bytes: int
    ratio: int
    free_bytes: int = 65536


class Inflating:
    """One compressed message while it arrives (§7.2.2)."""

    __slots__ = ("_given_bytes", "_limits", "_stream", "_streams", "_taken_bytes")

    def __init__(self, limits: InflateLimits) -> None:
        self._limits = limits
        self._stream = zlib.decompressobj(-_MOST_BITS)
        self._streams = 1
        self._taken_bytes = self._given_bytes = 0

    def feed(self, part: bytes, *, is_last: bool) -> bytes:
        """Give what a part of the payload inflates to. ProtocolError 1009 beyond the bounds, 1007
        for what was not made by DEFLATE."""
        self._taken_bytes += len(part)
        rest, pieces = part + _TAIL if is_last else part, []
        while rest:
            pieces.append(self._inflate(rest))
            rest = self._stream.unconsumed_tail
            if self._stream.eof:
                rest = self._begin_anew()
        return b"".join(pieces)

    def _begin_anew(self) -> bytes:
        """Go on behind a last block (§7.2.3.4): there is at least the tail; give what is there."""
        self._streams += 1
        if self._streams > _MOST_STREAMS:
            raise ProtocolError("a message of many streams", close_code=1007)
        rest, self._stream = self._stream.unused_data, zlib.decompressobj(-_MOST_BITS)
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
            raise ProtocolError("inflated message too big", close_code=1009)
        return piece
