"""Credential search of the strategy `local`: users by username, and by no other stored field."""

from collections.abc import Iterator

from protocol.errors import ApiError, plain_error
from server.auth.search.lookup import look_up
from server.storage.base import Storage
from server.storage.query import AllOf, Everything, Holds, IsIn, Leaf, Not, Position, Query, SomeOf
from server.storage.search import CREDENTIALS, Order, Search

_SEARCHED = "username"
_SORTED = frozenset({"username", "kuid"})
_NOT_SEARCHABLE = frozenset({"_id", "kuid", "userPassword", "userSalt"})


async def search_usernames(
    storage: Storage, strategy: str, query: Query, sort: tuple[Order, ...], start: int, size: int
) -> dict[str, object]:
    """Return a page of usernames with their kuids. ApiError 403 for other stored fields, 400 for a
    clause that is not supported here."""
    for leaf in _leaves_of(query):
        if leaf.field != _SEARCHED:
            raise _refusal(leaf.field)
        if not isinstance(leaf, IsIn) and not _is_prefix(leaf):
            raise plain_error(400, "username can be searched with term, terms, match and prefix")
    for order in sort:
        if order.field not in _SORTED:
            raise _refusal(order.field)
    search = Search(
        CREDENTIALS, query, where={"strategy": strategy}, sort=sort, start=start, size=size
    )
    found = await look_up(storage, search)
    hits = [{"username": row["id"], "kuid": row["kuid"]} for row in found.rows]
    return {"hits": hits, "total": found.total}


def _leaves_of(query: Query) -> Iterator[Leaf]:
    """Return the parts of a query that refer to fields."""
    match query:
        case AllOf(parts) | SomeOf(parts):
            for part in parts:
                yield from _leaves_of(part)
        case Not(part):
            yield from _leaves_of(part)
        case Everything():
            return
        case _:
            yield query


def _is_prefix(leaf: Leaf) -> bool:
    return isinstance(leaf, Holds) and leaf.position is Position.START


def _refusal(field: str) -> ApiError:
    if field in _NOT_SEARCHABLE:
        return plain_error(403, f"{field} cannot be searched")
    return plain_error(400, f"credentials have no field {field}")
