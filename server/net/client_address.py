"""Where a request really comes from: what trusted proxies say of it, and nobody else
(RFC 7239, `X-Forwarded-For`, `X-Forwarded-Host`, `X-Forwarded-Proto`).

Every proxy adds the address it was called from at the right of the list, so the list is believed
from the right, as long as proxies of ours speak: the first address that is none of theirs is the
client's. What stands left of it anybody may have written.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

from protocol.api.request import Request
from server.core.addresses import read_address, write_address
from server.core.settings import UNIX_PEERS

_MOST_PROXIES = 32  # one behind the other; entries beyond are not read
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = rf'({_WORD})=({_WORD}|"[^"\\]*")'
_PAIRS = re.compile(rf"{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*")
_ONE_PAIR = re.compile(_PAIR)
# An address may come with its port; an IPv6 address then stands in brackets (RFC 7239 §6).
_NODE = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)"
)


class Addresses:
    """Knows the networks of our own proxies, and whether those on a Unix socket are."""

    __slots__ = ("_is_any", "_networks", "_trusts_unix")

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = tuple(
            ip_network(name, strict=False) for name in trusted if name != UNIX_PEERS
        )
        self._trusts_unix = UNIX_PEERS in trusted
        self._is_any = bool(trusted)

    def is_trusted(self, address: str) -> bool:
        """Tell whether a peer is a proxy of ours."""
        if address == UNIX_PEERS:
            return self._trusts_unix
        parsed = read_address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_of(self, peer_address: str, headers: Mapping[str, str]) -> str:
        """Give the client's address: the peer's own unless that is a proxy of ours which names it.

        An entry that can't be read ends the search at the proxy that sent it.
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
        """Give the address of a request's client, "" when he has none."""
        return "" if request.peer is None else self.client_of(request.peer.address, request.headers)

    def is_secure(self, request: Request) -> bool:
        """Tell whether the client uses TLS, with us or with a proxy of ours."""
        peer = request.peer
        return peer is not None and (
            peer.is_encrypted or self.is_https(peer.address, request.headers)
        )

    def is_https(self, peer_address: str, headers: Mapping[str, str]) -> bool:
        """Tell whether a proxy of ours says that it was called over TLS."""
        if not self._is_any or not self.is_trusted(peer_address):
            return False
        # Some proxies name what a WebSocket came over by its own scheme.
        return _nearest(headers, "proto").lower() in ("https", "wss")

    def host_of(self, peer_address: str, headers: Mapping[str, str]) -> str:
        """Give the name and port a client called us by, from the request or a proxy of ours."""
        named = ""
        if self._is_any and self.is_trusted(peer_address):
            named = _nearest(headers, "host")
        return named or headers.get("host", "")


def read_node(text: str) -> IPv4Address | IPv6Address | None:
    """Read one entry of a list of proxies, port or not; None for names and nonsense."""
    found = _NODE.fullmatch(text)
    return None if found is None else read_address(found[1] or found[2] or found[3])


def _nearest(headers: Mapping[str, str], name: str) -> str:
    """Give what the proxy next to us says of the request it got, "" for nothing."""
    named = headers.get(f"x-forwarded-{name}")
    if named is None:
        named = next(_forwarded(headers, name), "")
    return named.rpartition(",")[2].strip(" \t")


def _forwarded_for(headers: Mapping[str, str]) -> Iterator[str]:
    """Give the entries of the list of addresses, from the right."""
    listed = headers.get("x-forwarded-for")
    if listed is None:
        return _forwarded(headers, "for")
    return (entry.strip(" \t") for entry in _from_the_right(listed))


def _forwarded(headers: Mapping[str, str], name: str) -> Iterator[str]:
    """Give a parameter of each element of `Forwarded`, from the right; "" where it is not there.

    Stricter than RFC 7239: a comma within quotes ends an element, which then can't be read. Nothing
    that is asked for here has one, and so nobody hides what a proxy adds behind an open quote.
    """
    for element in _from_the_right(headers.get("forwarded", "")):
        text, value = element.strip(" \t"), ""
        if _PAIRS.fullmatch(text):
            values = [pair[2] for pair in _ONE_PAIR.finditer(text) if pair[1].lower() == name]
            value = values[0].strip('"') if len(values) == 1 else ""
        yield value


def _from_the_right(listed: str) -> Iterator[str]:
    return reversed(listed.rsplit(",", _MOST_PROXIES)[-_MOST_PROXIES:])
