"""Sockets that begin with a PROXY header, apart from `net.py` so that all others pay nothing for
it."""

import asyncio

from protocol.errors import ProtocolError
from protocol.proxy import parse_proxy
from server.addresses import Addresses, is_loopback
from server.listener import Listener
from server.net import Peer, peer_address


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
        if rest:
            super().data_received(rest)

    def _believed(self, address: str) -> str:
        """Who is local to a proxy on another machine is not local to us."""
        return "" if is_loopback(address) and not is_loopback(self._address) else address
