"""Search service: searches of users, profiles and roles, whole and page by page."""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.errors import error
from server.auth.search.body import SearchBody
from server.auth.search.lookup import look_up
from server.auth.search.mappings import Collection, Mappings
from server.auth.search.parser import parse_query
from server.auth.search.scrolls import Scrolls, unknown_scroll
from server.core.limit_counters import Limit
from server.storage.base import Storage
from server.storage.query import AllOf, Everything, Query
from server.storage.rows import Row
from server.storage.search import Found, Search, View

MOST_SKIPPED = 100_000
"""Maximum offset of a page; beyond it use `search_after` and scrolls."""
_INFO = "_kuzzle_info"


@dataclass(frozen=True, slots=True)
class Page:
    """The requested part of the hits; `scroll_ms` None means no scroll."""

    start: int
    size: int
    lang: str
    scroll_ms: int | None = None


class Searches:
    """Answers searches with at most `most_hits` hits; `on_limit` is called for refused ones."""

    def __init__(
        self,
        storage: Storage,
        mappings: Mappings,
        scrolls: Scrolls,
        *,
        most_hits: int,
        on_limit: Callable[[Limit], None] = lambda limit: None,
    ) -> None:
        self._storage = storage
        self._mappings = mappings
        self._scrolls = scrolls
        self._most_hits = most_hits
        self._on_limit = on_limit

    async def search(
        self,
        collection: Collection,
        body: SearchBody,
        page: Page,
        owner: str,
        demand: Query | None = None,
    ) -> dict[str, object]:
        """Return a page of the hits of a body, and of `demand` with it; `owner` is the kuid of the
        user who may continue it."""
        check_page(page.start, page.size, self._most_hits)
        fields = await self._mappings.fields(collection)
        asked = (body.query, body.post_filter)
        parts = [
            parse_query(query, lang=page.lang, fields=fields, on_limit=self._on_limit)
            for query in asked
        ]
        if demand is not None:
            parts.append(demand)
        search = Search(
            collection.view,
            AllOf(tuple(part for part in parts if part != Everything())),
            sort=body.sort,
            start=page.start,
            size=page.size,
            after=body.after,
        )
        found = await look_up(self._storage, search)
        answer = _answer(collection.view, found)
        if page.scroll_ms is not None:
            answer["scrollId"] = self._scrolls.begin(
                owner,
                search,
                given=page.start + len(found.rows),
                total=found.total or 0,
                last=found.last,
                ttl_ms=page.scroll_ms,
            )
        return answer

    async def scroll(self, collection: Collection, scroll_id: str, owner: str) -> dict[str, object]:
        """Return the next page of a search. ApiError 404 for one that this user has not begun in
        this process, or that has expired."""
        scroll = self._scrolls.get(scroll_id, owner)
        if scroll.search.view is not collection.view:
            raise unknown_scroll(scroll_id)
        found = await look_up(self._storage, scroll.search)
        self._scrolls.go_on(scroll_id, scroll, len(found.rows), found.last)
        return _answer(collection.view, found) | {"scrollId": scroll_id, "total": scroll.total}


def check_page(start: int, size: int, most_hits: int) -> None:
    """Raise ApiError 413 for more hits than allowed, 400 for a page beyond the maximum offset."""
    if size > most_hits:
        raise error("services.storage.get_limit_exceeded")
    if start > MOST_SKIPPED:
        limit = f"at most {MOST_SKIPPED}; use search_after or scroll to go further"
        raise error("api.assert.invalid_argument", "from", limit)


def _answer(view: View, found: Found) -> dict[str, object]:
    hits = [{"_id": row[view.key], "_source": _source(view, row)} for row in found.rows]
    return {"hits": hits, "total": found.total}


def _source(view: View, row: Row) -> dict[str, object]:
    """Return a row as the document the API shows."""
    shown = {name: row[column] for name, column in view.documents.items() if name != _INFO}
    content = row[view.rest]
    return shown | (content if isinstance(content, dict) else {}) | {_INFO: row["info"]}
