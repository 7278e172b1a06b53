"""Limit on unsent answers of all connections, for clients that do not read."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from protocol.byte_budget import SHARES

COUNTED_FROM_BYTES = 16 * 1024
"""A connection with no more unsent bytes than this is not counted."""
C = TypeVar("C", bound=Hashable)


class _Waiting(Generic[C]):
    """Connections with their unsent bytes, the longest waiting first."""

    __slots__ = ("_most_bytes", "held_bytes", "released_bytes", "sizes_bytes")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0
        self.released_bytes = 0
        self.sizes_bytes: dict[C, int] = {}

    def resize(self, connection: C, size_bytes: int) -> None:
        growth = size_bytes - self.sizes_bytes.get(connection, 0)
        self.held_bytes += growth
        if growth < 0:
            self.released_bytes -= growth
        if size_bytes:
            self.sizes_bytes[connection] = size_bytes
        else:
            self.sizes_bytes.pop(connection, None)

    def find_excess(self) -> C | None:
        """Return the connection that has waited longest, if the limit is exceeded; a single one is
        never dropped."""
        if self.held_bytes <= self._most_bytes or len(self.sizes_bytes) < 2:
            return None
        return next(iter(self.sizes_bytes))


class UnsentAnswers(Generic[C]):
    """Unsent bytes of each connection, at most `total_bytes` in total and a quarter of that for
    each client, whose key is as for `ByteBudget`.

    Beyond it, `drop` is called with the connections that have waited longest, of that client or of
    all, until the rest is within the limit.
    """

    __slots__ = ("_all", "_by_client", "_client_of", "_drop", "_share_bytes")

    def __init__(self, total_bytes: int, *, drop: Callable[[C], None]) -> None:
        self._drop = drop
        self._share_bytes = total_bytes // SHARES
        self._all: _Waiting[C] = _Waiting(total_bytes)
        self._by_client: dict[bytes, _Waiting[C]] = {}
        self._client_of: dict[C, bytes | None] = {}

    @property
    def held_bytes(self) -> int:
        """Total of unsent bytes."""
        return self._all.held_bytes

    @property
    def released_bytes(self) -> int:
        """Total of bytes released since the start."""
        return self._all.released_bytes

    def resize(self, connection: C, client: bytes | None, size_bytes: int) -> bool:
        """Set the unsent bytes of a connection; return whether any are counted now: not for a few,
        and not for a connection that is dropped."""
        if size_bytes <= COUNTED_FROM_BYTES:
            self._remove(connection)
            return False
        client = self._client_of.setdefault(connection, client)
        self._all.resize(connection, size_bytes)
        if client is not None:
            mine = self._by_client.get(client)
            if mine is None:
                mine = self._by_client[client] = _Waiting(self._share_bytes)
            mine.resize(connection, size_bytes)
            self._drop_excess(mine)
        self._drop_excess(self._all)
        return connection in self._client_of

    def _drop_excess(self, waiting: _Waiting[C]) -> None:
        while (connection := waiting.find_excess()) is not None:
            self._remove(connection)
            self._drop(connection)

    def _remove(self, connection: C) -> None:
        if connection not in self._client_of:
            return
        client = self._client_of.pop(connection)
        self._all.resize(connection, 0)
        if client is not None:
            mine = self._by_client[client]
            mine.resize(connection, 0)
            if not mine.sizes_bytes:
                del self._by_client[client]
