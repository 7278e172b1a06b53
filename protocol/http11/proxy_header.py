"""PROXY protocol header parser, versions 1 and 2: the client's address, sent by a load balancer
before the first byte of the connection itself.

Independent of which peers are trusted. Source: the HAProxy project's proxy-protocol.txt, §2.1 and
§2.2.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from protocol.errors import ProtocolError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_START = b"PROXY "
_V1_MOST_BYTES = 107  # §2.1, with CR LF
_V2_HEAD_BYTES = 16
# §2.2 has 16 bits; addresses need at most 216 bytes, and 536 bytes must always be accepted.
_V2_MOST_BYTES = 4096
_LOCAL, _PROXY = 0, 1
# The families with the sizes of their addresses and ports.
_INET, _INET6, _UNIX = 1, 2, 3
_FAMILY_BYTES = {_INET: 12, _INET6: 36, _UNIX: 216}
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")


class Proxied(NamedTuple):
    """A parsed header. `address` is the client's, "" if the proxy does not know or send it, None if
    the proxy itself is the client; `size_bytes` is the header's length."""

    address: str | None
    size_bytes: int


def parse_proxy(data: bytes) -> Proxied | None:
    """Parse the header at the start of a connection; None while it is incomplete."""
    if data.startswith(SIGNATURE):
        return _parse_v2(data)
    if SIGNATURE.startswith(data):
        return None
    if data.startswith(_V1_START):
        return _parse_v1(data)
    if _V1_START.startswith(data):
        return None
    raise ProtocolError("expected a PROXY header")


def _parse_v1(data: bytes) -> Proxied | None:
    end = data.find(b"\r\n", 0, _V1_MOST_BYTES)
    if end < 0:
        if len(data) >= _V1_MOST_BYTES:
            raise ProtocolError("PROXY header too long")
        return None
    try:
        words = data[:end].decode("ascii").split(" ")[1:]
    except UnicodeDecodeError:
        raise ProtocolError("PROXY header is not ASCII") from None
    if words[0] == "UNKNOWN":  # the rest of the line is ignored
        return Proxied("", end + 2)
    if len(words) != 5 or words[0] not in ("TCP4", "TCP6"):
        raise ProtocolError("malformed PROXY header")
    kind = IPv4Address if words[0] == "TCP4" else IPv6Address
    try:
        source, _ = kind(words[1]), kind(words[2])
    except ValueError:
        raise ProtocolError("malformed address in a PROXY header") from None
    for port in words[3:]:
        if not _PORT.fullmatch(port) or int(port) > 65_535:
            raise ProtocolError("malformed port in a PROXY header")
    return Proxied(_written(source), end + 2)


def _parse_v2(data: bytes) -> Proxied | None:
    """Parse version 2; TLVs after the addresses are skipped."""
    if len(data) > 12 and data[12] >> 4 != 2:
        raise ProtocolError("unknown version of the PROXY protocol")
    if len(data) > 12 and data[12] & 0x0F not in (_LOCAL, _PROXY):
        raise ProtocolError("unknown PROXY command")
    if len(data) < _V2_HEAD_BYTES:
        return None
    size = int.from_bytes(data[14:16], "big")
    if size > _V2_MOST_BYTES:
        raise ProtocolError("PROXY header too long")
    end = _V2_HEAD_BYTES + size
    if len(data) < end:
        return None
    if data[12] & 0x0F == _LOCAL:
        return Proxied(None, end)
    family = data[13] >> 4
    if family > _UNIX or data[13] & 0x0F > 2:
        raise ProtocolError("unknown address family in a PROXY header")
    if size < _FAMILY_BYTES.get(family, 0):
        raise ProtocolError("PROXY header too short for its addresses")
    if family == _INET:
        return Proxied(str(IPv4Address(data[16:20])), end)
    if family == _INET6:
        return Proxied(_written(IPv6Address(data[16:32])), end)
    return Proxied("", end)


def _written(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
