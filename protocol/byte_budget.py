"""Budget of the bytes that all connections together hold of requests that are not answered yet."""

from collections.abc import Callable

MEBIBYTE = 1024 * 1024
COUNTED_FROM_BYTES = 8 * 1024
"""A connection that holds no more than this is not counted: nearly every request is smaller and
arrives whole, and the number of connections is limited."""
SMALL_BYTES = 40 * 1024
"""A connection that holds no more than this is never refused: a body of 16 KiB, the longest head
before it, and what the request itself takes."""
SHARES = 4
"""One client holds at most this part of the whole."""


class ByteBudget:
    """Bytes held, in all and by each client, of at most `total_bytes`; a client is any key, and
    None stands for those without a share of their own.

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
        """Return whether a connection of this client may hold `now_bytes` instead of the
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
        """Return how many bytes this client holds."""
        return self._by_client.get(client, 0)

    def _has_room(self, client: bytes | None, growth: int) -> bool:
        if self.held_bytes + growth > self._total_bytes:
            return False
        return client is None or self.bytes_of(client) + growth <= self._share_bytes
