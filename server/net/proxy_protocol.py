"""Sockets that begin with a PROXY header, apart from `net.py` so that all others pay nothing for
it."""

import asyncio

from protocol.errors import ProtocolError
from protocol.http11.proxy_header import parse_proxy
from server.core.addresses import is_loopback
from server.net.client_address import Addresses
from server.net.connection import Peer, peer_address
from server.net.listener import Listener


class ProxiedPeer(Peer):
    """One socket a proxy of ours opened for a client, whose address is then the peer's."""

    __slots__ = ("_addresses", "_header")

    def __init__(self, listener: Listener, addresses: Addresses) -> None:
        super().__init__(listener)
        self._addresses = addresses
        self._header: bytes | None = b""  # what has arrived of it; None once it is read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Anybody but a proxy of ours could call himself what he likes: he is cut off."""
        if self._addresses.is_trusted(peer_address(transport)):
            super().connection_made(transport)
        elif isinstance(transport, asyncio.Transport):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read the header, within the time there is for a request's head, then the rest."""
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
            self._address = self._believed(proxied.address)
            client = self._listener.client_keys.of_address(self._address)
            if not self._listener.count_client(self, client):
                self._turn_away()
                return
        if rest:
            super().data_received(rest)

    def _believed(self, address: str) -> str:
        """Who is local to a proxy on another machine is not local to us."""
        return "" if is_loopback(address) and not is_loopback(self._address) else address
