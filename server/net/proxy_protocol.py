"""Connections with a PROXY protocol header, apart from `connection` so that others pay nothing for
it."""

import asyncio

from protocol.errors import ProtocolError
from protocol.http11.proxy_header import parse_proxy
from server.core.addresses import is_loopback
from server.net.client_address import Addresses
from server.net.connection import Peer, peer_address
from server.net.listener import Listener


class ProxiedConnection(Peer):
    """A connection that a trusted proxy opened for a client, whose address is then the peer's."""

    __slots__ = ("_addresses", "_header")

    def __init__(self, listener: Listener, addresses: Addresses) -> None:
        super().__init__(listener)
        self._addresses = addresses
        self._header: bytes | None = b""  # received so far; None once it is parsed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Disconnect a peer that is not a trusted proxy: it could claim any address."""
        if self._addresses.is_trusted(peer_address(transport)):
            super().connection_made(transport)
        elif isinstance(transport, asyncio.Transport):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read the header, within the header read timeout, then the rest."""
        if self._header is None:
            super().data_received(data)
            return
        self._header += data
        try:
            proxied = parse_proxy(self._header)
        except ProtocolError:
            self.abort()
            return
        if proxied is None:
            return
        rest, self._header = self._header[proxied.size_bytes :], None
        if proxied.address is not None:
            self._address = self._trusted_address(proxied.address)
            client = self._listener.client_keys.of_address(self._address)
            if not self._listener.count_client(self, client):
                self._turn_away()
                return
        if rest:
            super().data_received(rest)

    def _trusted_address(self, address: str) -> str:
        """Return the address, unless it is local to a proxy on another machine: it is not local to
        this server."""
        return "" if is_loopback(address) and not is_loopback(self._address) else address
