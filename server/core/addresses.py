"""IP address helpers: parse, format, test for loopback, and the key a client is counted by."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from server.core.client_networks import address_groups


def address_key(address: str) -> bytes | None:
    """Return the narrowest network an address is counted by: an IPv4 address, an IPv6 /64; None
    for anything else."""
    groups = address_groups(address)
    return groups[0] if groups else None


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address; an IPv4-mapped IPv6 address becomes an IPv4 address. None if invalid."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def write_address(text: str) -> str:
    """Return an address in canonical form, anything else unchanged."""
    if ":" not in text:
        return text
    return str(read_address(text) or text)


def is_loopback(address: str) -> bool:
    """Return whether an address is this machine's own."""
    parsed = read_address(address)
    return parsed is not None and parsed.is_loopback
