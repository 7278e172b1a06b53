"""TLS handshakes in progress: counted like connections from the start, and with a timeout.

Beyond the limit a socket is closed before a byte of it is read: handshakes are expensive.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine
from typing import cast

from server.net.client_connections import ClientConnections
from server.net.connection import LINGER_S, Peer, peer_address, resume_coroutine
from server.net.tls import Tls

_LOG = logging.getLogger("manykeys.tls")


class Handshakes:
    """The handshakes of one listener. Each may take `timeout_s`; `has_room` is called before each,
    and each counts as a connection of its client, whose key `client_of` returns."""

    def __init__(
        self,
        tls: Tls,
        make_peer: Callable[[], Peer],
        has_room: Callable[[], bool],
        clients: ClientConnections,
        client_of: Callable[[str], bytes | None],
        *,
        timeout_s: float,
    ) -> None:
        self.tls = tls
        self._has_room = has_room
        self._clients = clients
        self._client_of = client_of
        self.timeout_s = timeout_s
        self._make_peer = make_peer
        self._begun: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Number of handshakes in progress."""
        return len(self._begun)

    def admit(self) -> "Arrival":
        """Return the first protocol of a new socket."""
        return Arrival(self)

    def begin(self, arrival: "Arrival", transport: asyncio.Transport) -> None:
        """Begin a handshake, if there is room. Its first step runs here: received bytes must be
        handled by TLS, nothing else."""
        client = self._client_of(peer_address(transport))
        if not self._has_room() or not self._clients.add(client):
            transport.abort()
            return
        greeting = self._greet(arrival, transport, client)
        try:
            awaited = greeting.send(None)
        except StopIteration:
            return
        task = asyncio.get_running_loop().create_task(_finish(greeting, awaited))
        self._begun.add(task)
        arrival.task = task
        task.add_done_callback(self._begun.discard)

    def stop(self) -> None:
        """Close all: none has sent a request yet."""
        for task in tuple(self._begun):
            task.cancel()

    async def _greet(
        self, arrival: "Arrival", transport: asyncio.Transport, client: bytes | None
    ) -> None:
        try:
            secured = await self._secure(arrival, transport)
        finally:
            self._clients.remove(client)
        if secured is None:
            return
        if arrival.task is not None:
            self._begun.discard(arrival.task)  # counts as a connection from here on
        arrival.become(self._make_peer(), secured)

    async def _secure(
        self, arrival: "Arrival", transport: asyncio.Transport
    ) -> asyncio.Transport | None:
        """Return the transport above TLS; None, with the socket closed, if the handshake failed."""
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                arrival,
                self.tls.context,
                server_side=True,
                ssl_handshake_timeout=self.timeout_s,
                ssl_shutdown_timeout=LINGER_S,
            )
        except (OSError, RuntimeError) as reason:
            if isinstance(reason, ssl.SSLCertVerificationError):
                address = peer_address(transport) or "unknown client"
                _LOG.info("%s: client certificate rejected: %s", address, reason.verify_message)
            else:  # not TLS, timeout, disconnected; with uvloop maybe half closed
                transport.abort()
            # The loop's own frame, in its traceback, keeps the future that keeps the error: all of
            # it, with the buffers of TLS, would stay.
            reason.__traceback__ = reason.__context__ = None
            return None
        if secured is None or secured.is_closing():
            transport.abort()
            return None
        return secured


class Arrival(asyncio.Protocol):
    """A socket during its handshake; buffers the bytes that follow it."""

    __slots__ = ("_early", "_handshakes", "task")

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._early = b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._handshakes.begin(self, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        """Buffer bytes that came with the end of the handshake: at most one read."""
        self._early += data

    def become(self, peer: Peer, transport: asyncio.Transport) -> None:
        """Hand the socket over to a peer."""
        transport.set_protocol(peer)
        peer.connection_made(transport)
        if self._early and not transport.is_closing():
            peer.data_received(self._early)


async def _finish(greeting: Coroutine[object, object, None], awaited: object) -> None:
    await resume_coroutine(greeting, awaited)
