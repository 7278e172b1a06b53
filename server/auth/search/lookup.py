"""Search execution in the store, with the errors of searches that cannot be finished."""

from protocol.errors import error
from server.auth.search.terms import malformed
from server.storage.base import Storage
from server.storage.search import Found, Search, TooLarge, TooSlow


async def look_up(storage: Storage, search: Search) -> Found:
    """Find a page. ApiError 400 for a search that takes too long, 413 for a page that is too
    large."""
    try:
        return await storage.search(search)
    except TooSlow:
        raise malformed(
            "the search takes too long: narrow it down, or declare its fields in the mapping"
        ) from None
    except TooLarge:
        raise error("services.storage.get_limit_exceeded") from None
