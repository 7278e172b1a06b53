"""Listener: accepts connections, limits their number, enforces deadlines and shuts down.

A single connection is `server.net.connection`.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from protocol.api.envelope import PreparedJson
from protocol.api.request import Request
from protocol.config import ConnectionConfig
from server.core.limit_counters import Limit
from server.net.bind import Place
from server.net.client_address import Addresses
from server.net.client_connections import ClientConnections, ClientKeys
from server.net.connection import Answering, Peer
from server.net.timeouts import Timeouts
from server.net.tls import Tls
from server.net.tls_handshake import Handshakes
from server.net.unsent_answers import UnsentAnswers


@dataclass(frozen=True, slots=True)
class Connections:
    """Numbers of open connections."""

    http: int = 0
    websocket: int = 0


_LOG = logging.getLogger("manykeys.net")
_LONGEST_TICK_S = 1.0
_BACKLOG = 1024
_ACCEPTED_PER_TURN = 16
"""Connections accepted in one turn of the event loop at most, where it accepts one per socket."""
_DROPPED_AT_ONCE = 64
_MEBIBYTE = 1024 * 1024


class Listener:
    """All connections of one server."""

    def __init__(
        self,
        wire: ConnectionConfig,
        answer: Callable[[Request], Answering],
        try_cached: Callable[[Request], tuple[str, PreparedJson] | None],
        timeouts: Timeouts,
        *,
        connections: int,
        unsent_bytes: int = 1024 * 1024,
        make_peer: Callable[["Listener"], Peer] | None = None,
        unlink: Callable[[Peer], None] = lambda peer: None,
        on_limit: Callable[[Limit], None] = lambda limit: None,
        connections_per_client: int = 0,
        client_keys: ClientKeys | None = None,
        unsent_total_bytes: int = 256 * _MEBIBYTE,
        unsent_bytes_per_connection: int = 64 * 1024,
        clock_s: Callable[[], float] | None = None,
        is_proxy: Callable[[str], bool] = lambda address: False,
    ) -> None:
        self.unlink = unlink
        self.on_limit = on_limit
        self.wire = wire
        self.answer = answer
        self.try_cached = try_cached
        self.timeouts = timeouts
        self.loop = asyncio.get_running_loop()
        self.peers: set[Peer] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.paused: set[Peer] = set()  # not read at present, see `server.net.refusals`
        self.is_proxy = is_proxy
        self.clock_s = clock_s or self.loop.time
        self.now_s = self.clock_s()  # at the last tick, precise enough for deadlines
        self.unsent_bytes = unsent_bytes
        self.unsent_bytes_per_connection = unsent_bytes_per_connection
        self.unsent: UnsentAnswers[Peer] = UnsentAnswers(unsent_total_bytes, drop=self._drop_unread)
        self.client_keys = client_keys or ClientKeys(Addresses(()))
        self._clients = ClientConnections(
            connections_per_client or max(1, connections // 4),
            on_refusal=partial(on_limit, Limit.CONNECTIONS_PER_ADDRESS),
        )
        self._connections = connections
        self._make_peer = make_peer or Peer
        self._servers: list[asyncio.Server] = []
        self._place: Place | None = None
        self._handshakes: Handshakes | None = None
        self._late: list[Peer] = []
        self._empty = asyncio.Event()
        self._tick_s = min(_LONGEST_TICK_S, timeouts.head_s / 4, timeouts.idle_s / 4)
        self._ticking: asyncio.TimerHandle | None = None

    async def listen(self, place: Place, tls: Tls | None = None) -> object:
        """Start to accept connections, with `tls` if given; return the socket name.

        OSError or LocalError if the address cannot be used.
        """
        opened = place.open()

        def make_peer() -> Peer:
            return self._make_peer(self)

        make: Callable[[], asyncio.Protocol] = make_peer
        if tls is not None:
            self._handshakes = Handshakes(
                tls,
                make_peer,
                self._has_room,
                self._clients,
                self.client_keys.of_address,
                timeout_s=self.timeouts.head_s,
            )
            make = self._handshakes.admit
        if opened is None:
            server = await self.loop.create_server(make, place.host, place.port, backlog=_BACKLOG)
        elif opened.family == socket.AF_UNIX:
            server = await self.loop.create_unix_server(make, sock=opened, backlog=_BACKLOG)
        else:
            server = await self.loop.create_server(make, sock=opened, backlog=_BACKLOG)
        self._servers = [server, *await self._accept_more(make, server)]
        self._place = place
        self._tick()
        bound: object = server.sockets[0].getsockname()
        return bound

    async def _accept_more(
        self, make: Callable[[], asyncio.Protocol], server: asyncio.Server
    ) -> list[asyncio.Server]:
        """Listen on copies of the same sockets too, where the event loop accepts one connection for
        each of them in a turn (uvloop, libuv): beside busy clients turns are long, and a few idle
        connections a second would keep everyone else waiting."""
        if not type(self.loop).__module__.startswith("uvloop"):
            return []
        more = []
        for opened in server.sockets:
            for _ in range(_ACCEPTED_PER_TURN - 1):
                copy = socket.socket(fileno=os.dup(opened.fileno()))
                is_unix = copy.family == socket.AF_UNIX
                create = self.loop.create_unix_server if is_unix else self.loop.create_server
                more.append(await create(make, sock=copy, backlog=_BACKLOG))
        return more

    async def stop(self) -> None:
        """Stop accepting, let all requests in progress finish, then disconnect the rest after the
        graceful shutdown timeout."""
        for server in self._servers:
            server.close()
        if self._place is not None:
            self._place.close()
        if self._handshakes is not None:
            self._handshakes.stop()
        for peer in tuple(self.peers):
            peer.finish()
        try:
            async with asyncio.timeout(self.timeouts.grace_s):
                while self.peers:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            _LOG.warning("%d connections were cut off after the grace", len(self.peers))
        self.close_all()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._ticking is not None:
            self._ticking.cancel()

    def close_all(self) -> None:
        """Drop all connections now."""
        for peer in tuple(self.peers):
            peer.abort()

    def admit(self, peer: Peer) -> bool:
        """Count a new connection, unless there are too many, in total or of its client."""
        client = self.client_keys.of_address(peer.address)
        if not self._has_room() or not self.count_client(peer, client):
            return False
        self.peers.add(peer)
        return True

    def count_client(self, peer: Peer, client: bytes | None) -> bool:
        """Count a connection, which was not counted yet, for a client; return False if the client
        has too many."""
        if not self._clients.add(client):
            return False
        peer.client = client
        return True

    def released_bytes(self) -> int:
        """Return how many buffered bytes of requests and answers were released since the start."""
        return self.wire.received.released_bytes + self.unsent.released_bytes

    def _has_room(self) -> bool:
        begun = 0 if self._handshakes is None else len(self._handshakes)
        if len(self.peers) + begun < self._connections:
            return True
        self.on_limit(Limit.CONNECTIONS)
        return False

    def _drop_unread(self, peer: Peer) -> None:
        """Drop a peer that does not read, in a later turn of the loop: this may be called while
        something is written to it."""
        self.on_limit(Limit.UNSENT_SIZE)
        self.loop.call_soon(peer.abort)

    def forget(self, peer: Peer) -> None:
        """Subtract a closed connection."""
        self.peers.discard(peer)
        self.unsent.resize(peer, None, 0)
        self._clients.remove(peer.client)
        peer.client = None
        self.paused.discard(peer)
        self._empty.set()

    def count(self) -> Connections:
        """Return the numbers of open connections: a pass over all of them, so that opening and
        upgrading one costs nothing."""
        sockets = sum(peer.is_socket for peer in self.peers)
        return Connections(len(self.peers) - sockets, sockets)

    def check_deadlines(self) -> None:
        """Disconnect the peers whose deadline has passed. One pass over all is cheaper than a timer
        for each."""
        now_s = self.now_s = self.clock_s()
        for peer in [one for one in self.paused if one.paused_until_s <= now_s]:
            self.paused.discard(peer)
            peer.read_again()
        is_dropping = bool(self._late)
        self._late = [peer for peer in self.peers if peer.deadline_s <= now_s]
        if not is_dropping:
            self._drop_some()

    def _drop_some(self) -> None:
        """Disconnect some: thousands may time out at the same moment, and other tasks must run in
        between."""
        some = self._late[-_DROPPED_AT_ONCE:]
        del self._late[-_DROPPED_AT_ONCE:]
        for peer in some:
            if peer.deadline_s <= self.now_s:
                peer.on_timeout()
        if self._late:
            self.loop.call_soon(self._drop_some)

    def _tick(self) -> None:
        self.check_deadlines()
        self._ticking = self.loop.call_later(self._tick_s, self._tick)
