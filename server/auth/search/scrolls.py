"""Scrolls: searches that are continued page by page.

Only the position of a search is kept, never its hits: changes in between are visible. Scrolls live
in this process only, and are lost when it stops.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from protocol.errors import ApiError, error
from server.storage.search import Key, Search

MOST_SCROLLS = 500
"""Scrolls of all users; a further one replaces the oldest of the same user, or is refused."""
MOST_OF_ONE = 20
"""Scrolls of one user; a further one replaces their oldest."""
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Scroll:
    """A search in progress. `owner` is the kuid of the user who began it; `given` counts the hits
    returned so far, of `total`."""

    owner: str
    search: Search
    given: int
    total: int
    ends_at_ms: int


class Scrolls:
    """Keeps scrolls until they expire; each page extends them by `ttl_ms`."""

    def __init__(self, *, clock_ms: Callable[[], int], ttl_ms: int) -> None:
        self._clock_ms = clock_ms
        self._ttl_ms = ttl_ms
        self._by_id: dict[str, Scroll] = {}  # oldest first

    def begin(
        self,
        owner: str,
        search: Search,
        *,
        given: int,
        total: int,
        last: tuple[Key, ...],
        ttl_ms: int,
    ) -> str:
        """Keep a search after its first page, whose last row has the sort keys `last`; return the
        ID to continue it with. ApiError 503 when other users keep too many."""
        self._drop_expired()
        own = [scroll_id for scroll_id, kept in self._by_id.items() if kept.owner == owner]
        is_full = len(self._by_id) >= MOST_SCROLLS
        if own and (is_full or len(own) >= MOST_OF_ONE):
            del self._by_id[own[0]]
        elif is_full:
            raise error("api.process.overloaded", retry_after_s=_RETRY_AFTER_S)
        scroll_id = secrets.token_urlsafe(24)
        begun = replace(search, sort=search.orders(), start=0, after=last, is_counted=False)
        ends_at_ms = self._clock_ms() + ttl_ms
        self._by_id[scroll_id] = Scroll(owner, begun, given, total, ends_at_ms)
        return scroll_id

    def get(self, scroll_id: str, owner: str) -> Scroll:
        """Return a scroll. ApiError 404 if this user has begun none with this ID."""
        scroll = self._by_id.get(scroll_id)
        if scroll is None or scroll.owner != owner or scroll.ends_at_ms <= self._clock_ms():
            raise unknown_scroll(scroll_id)
        return scroll

    def go_on(self, scroll_id: str, scroll: Scroll, hits: int, last: tuple[Key, ...]) -> None:
        """Record that a further page was returned; the last page deletes the scroll."""
        if self._by_id.get(scroll_id) is not scroll:
            return  # another request was faster, or it has expired
        given = scroll.given + hits
        if not hits or given >= scroll.total:
            del self._by_id[scroll_id]
            return
        ends_at_ms = self._clock_ms() + self._ttl_ms
        search = replace(scroll.search, after=last)
        self._by_id[scroll_id] = replace(scroll, search=search, given=given, ends_at_ms=ends_at_ms)

    def _drop_expired(self) -> None:
        now_ms = self._clock_ms()
        over = [name for name, kept in self._by_id.items() if kept.ends_at_ms <= now_ms]
        for scroll_id in over:
            del self._by_id[scroll_id]


def unknown_scroll(scroll_id: str) -> ApiError:
    """Return the error for an unknown ID."""
    return error("services.storage.unknown_scroll_id", scroll_id)
