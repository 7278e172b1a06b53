"""Byte budget: limit on the buffered bytes of unanswered requests of all connections."""

from collections.abc import Callable

MEBIBYTE = 1024 * 1024
COUNTED_FROM_BYTES = 8 * 1024
"""A connection with no more than this is not counted: nearly every request is smaller and arrives
at once, and the number of connections is limited."""
SMALL_BYTES = 40 * 1024
"""A connection with no more than this is never refused: a body of 16 KiB, the longest head before
it, and the memory of the request itself."""
SHARES = 4
"""Divisor of the total for the limit of one client."""


class ByteBudget:
    """Buffered bytes, in total and of each client, at most `total_bytes`; a client is any key, and
    None is for clients without a limit of their own.

    `on_refusal` is called for each refusal.
    """

    __slots__ = (
        "_by_client",
        "_on_refusal",
        "_share_bytes",
        "_total_bytes",
        "held_bytes",
        "released_bytes",
    )

    def __init__(
        self,
        total_bytes: int = 256 * MEBIBYTE,
        *,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self.held_bytes = 0
        self.released_bytes = 0  # since the start
        self._total_bytes = total_bytes
        self._share_bytes = total_bytes // SHARES
        self._by_client: dict[bytes, int] = {}
        self._on_refusal = on_refusal

    def resize(self, client: bytes | None, held_bytes: int, now_bytes: int) -> bool:
        """Return whether a connection of this client may buffer `now_bytes` instead of the
        `held_bytes` that are counted for it; if not, nothing changes."""
        growth = now_bytes - held_bytes
        if growth > 0 and now_bytes > SMALL_BYTES and not self._has_room(client, growth):
            self._on_refusal()
            return False
        self.held_bytes += growth
        if growth < 0:
            self.released_bytes -= growth
        if client is not None:
            if left := self._by_client.get(client, 0) + growth:
                self._by_client[client] = left
            else:
                self._by_client.pop(client, None)
        return True

    def bytes_of(self, client: bytes) -> int:
        """Return the number of bytes of this client."""
        return self._by_client.get(client, 0)

    def _has_room(self, client: bytes | None, growth: int) -> bool:
        if self.held_bytes + growth > self._total_bytes:
            return False
        return client is None or self.bytes_of(client) + growth <= self._share_bytes
