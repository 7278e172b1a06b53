"""Connections of each client address, and the keys that clients are counted under."""

from collections.abc import Callable, Mapping
from functools import lru_cache

from server.core.addresses import address_key, is_loopback
from server.net.client_address import Addresses

_CACHED_ADDRESSES = 4096


class ClientKeys:
    """The key of a client: its IPv4 address, or the /64 of its IPv6 address.

    None for a client without limits of its own: one on this machine, on a Unix socket, without an
    address, and a trusted proxy, which speaks for many.
    """

    __slots__ = ("_addresses", "of_address")

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self.of_address = lru_cache(_CACHED_ADDRESSES)(self._of_address)

    def _of_address(self, address: str) -> bytes | None:
        if is_loopback(address) or self._addresses.is_trusted(address):
            return None
        return address_key(address)

    def of_request(self, peer_address: str, headers: Mapping[str, str]) -> bytes | None:
        """Return the key of the client of a request, whom a trusted proxy names in its headers."""
        return self.of_address(self._addresses.client_of(peer_address, headers))


class ClientConnections:
    """The number of connections of each client, of at most `limit`; a None client has no limit.

    TLS handshakes in progress count. `on_refusal` is called for each refusal.
    """

    __slots__ = ("_by_client", "_limit", "_on_refusal")

    def __init__(self, limit: int, *, on_refusal: Callable[[], None] = lambda: None) -> None:
        self._limit = limit
        self._by_client: dict[bytes, int] = {}
        self._on_refusal = on_refusal

    def __len__(self) -> int:
        """How many clients have connections."""
        return len(self._by_client)

    def add(self, client: bytes | None) -> bool:
        """Count one more connection of a client; return False, and count nothing, beyond the
        limit."""
        if client is None:
            return True
        count = self._by_client.get(client, 0)
        if count >= self._limit:
            self._on_refusal()
            return False
        self._by_client[client] = count + 1
        return True

    def remove(self, client: bytes | None) -> None:
        """Subtract a connection that was added."""
        if client is None:
            return
        count = self._by_client[client] - 1
        if count:
            self._by_client[client] = count
        else:
            del self._by_client[client]
