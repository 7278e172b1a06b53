"""Client address of a request behind trusted proxies (RFC 7239 `Forwarded`, `X-Forwarded-For`,
`X-Forwarded-Host`, `X-Forwarded-Proto`). Headers of other peers are ignored.

Every proxy appends the address of its peer to the list, so the list is trusted from the right, as
long as the entries are trusted proxies: the first other address is the client's. Entries left of it
may be forged.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

from protocol.api.request import Request
from server.core.addresses import read_address, write_address
from server.core.settings import UNIX_PEERS

_MAX_PROXIES = 32  # in a chain; entries beyond are not read
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = rf'({_WORD})=({_WORD}|"[^"\\]*")'
_PAIRS = re.compile(rf"{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*")
_ONE_PAIR = re.compile(_PAIR)
# An address may have a port; an IPv6 address is then in brackets (RFC 7239 §6).
_NODE = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)"
)


class Addresses:
    """The trusted proxies: their networks, and whether Unix socket peers are among them."""

    __slots__ = ("_is_any", "_networks", "_trusts_unix")

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = tuple(
            ip_network(name, strict=False) for name in trusted if name != UNIX_PEERS
        )
        self._trusts_unix = UNIX_PEERS in trusted
        self._is_any = bool(trusted)

    def is_trusted(self, address: str) -> bool:
        """Return whether a peer is a trusted proxy."""
        if address == UNIX_PEERS:
            return self._trusts_unix
        parsed = read_address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_of(self, peer_address: str, headers: Mapping[str, str]) -> str:
        """Return the client's address: the peer's own, or the one a trusted proxy names.

        At an invalid entry the search stops with the proxy that sent it.
        """
        address = write_address(peer_address)
        if not self._is_any:
            return address
        entries = _forwarded_for(headers)
        while self.is_trusted(address):
            node = read_node(next(entries, ""))
            if node is None:
                break
            address = str(node)
        return address

    def of(self, request: Request) -> str:
        """Return the address of a request's client, "" without one."""
        return "" if request.peer is None else self.client_of(request.peer.address, request.headers)

    def is_secure(self, request: Request) -> bool:
        """Return whether the client uses TLS, to this server or to a trusted proxy."""
        peer = request.peer
        return peer is not None and (
            peer.is_encrypted or self.is_https(peer.address, request.headers)
        )

    def is_https(self, peer_address: str, headers: Mapping[str, str]) -> bool:
        """Return whether a trusted proxy reports that its client uses TLS."""
        if not self._is_any or not self.is_trusted(peer_address):
            return False
        # Some proxies report `wss` for a WebSocket.
        return _nearest(headers, "proto").lower() in ("https", "wss")

    def host_of(self, peer_address: str, headers: Mapping[str, str]) -> str:
        """Return the host and port of the client's request, from its headers or a trusted proxy."""
        named = ""
        if self._is_any and self.is_trusted(peer_address):
            named = _nearest(headers, "host")
        return named or headers.get("host", "")


def read_node(text: str) -> IPv4Address | IPv6Address | None:
    """Parse one entry of a list of proxies, with or without a port; None for names and garbage."""
    found = _NODE.fullmatch(text)
    return None if found is None else read_address(found[1] or found[2] or found[3])


def _nearest(headers: Mapping[str, str], name: str) -> str:
    """Return the value that the nearest proxy appended, "" if absent."""
    named = headers.get(f"x-forwarded-{name}")
    if named is None:
        named = next(_forwarded(headers, name), "")
    return named.rpartition(",")[2].strip(" \t")


def _forwarded_for(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the entries of the list of addresses, from the right."""
    listed = headers.get("x-forwarded-for")
    if listed is None:
        return _forwarded(headers, "for")
    return (entry.strip(" \t") for entry in _from_the_right(listed))


def _forwarded(headers: Mapping[str, str], name: str) -> Iterator[str]:
    """Yield a parameter of each element of `Forwarded`, from the right; "" where it is absent.

    Stricter than RFC 7239: a comma within quotes ends an element, which is then invalid. No value
    used here contains one, and so a client cannot hide the element of a proxy behind an open quote.
    """
    for element in _from_the_right(headers.get("forwarded", "")):
        text, value = element.strip(" \t"), ""
        if _PAIRS.fullmatch(text):
            values = [pair[2] for pair in _ONE_PAIR.finditer(text) if pair[1].lower() == name]
            value = values[0].strip('"') if len(values) == 1 else ""
        yield value


def _from_the_right(listed: str) -> Iterator[str]:
    return reversed(listed.rsplit(",", _MAX_PROXIES)[-_MAX_PROXIES:])
