"""Networks by which clients are counted: an IPv4 address, or the IPv6 /64, /56 and /48 it is in.

One IPv6 customer chooses among all addresses of a /64 at least, and often of a /56 or a /48
(RFC 6177), so single IPv6 addresses identify nothing. Wider networks get higher limits.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

IPV6_PREFIX_BITS = (64, 56, 48)
_MAX_CACHED = 4096


@lru_cache(_MAX_CACHED)
def address_groups(address: str) -> tuple[bytes, ...]:
    """Return the keys of the networks an address belongs to, the narrowest first: one for IPv4,
    three for IPv6; none for anything that is not an address, like the peers of a Unix socket.

    An IPv4-mapped IPv6 address is an IPv4 address. Keys of different widths never equal each other.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return ()
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            packed = parsed.packed
            return tuple(bytes([bits]) + packed[: bits // 8] for bits in IPV6_PREFIX_BITS)
        parsed = parsed.ipv4_mapped
    return (parsed.packed,)
