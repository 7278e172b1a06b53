"""Searches of the strategy `local`: users by their names, and by nothing else that it keeps
(contract/05 §1.5)."""

from collections.abc import Iterator

from protocol.errors import ApiError, plain_error
from server.auth.search.lookup import look_up
from server.storage.base import Storage
from server.storage.query import AllOf, Everything, Holds, IsIn, Leaf, Not, Position, Query, SomeOf
from server.storage.search import CREDENTIALS, Order, Search

_SEARCHED = "username"
_SORTED = frozenset({"username", "kuid"})
_KEPT = frozenset({"_id", "kuid", "userPassword", "userSalt"})


async def search_usernames(
    storage: Storage, strategy: str, query: Query, sort: tuple[Order, ...], start: int, size: int
) -> dict[str, object]:
    """Give a page of user names with their kuids. ApiError 403 for other fields that are kept, 400
    for what is no clause here."""
    for leaf in _leaves_of(query):
        if leaf.field != _SEARCHED:
            raise _refusal(leaf.field)
        if not isinstance(leaf, IsIn) and not _is_prefix(leaf):
            raise plain_error(400, "a username is found by term, terms, match and prefix")
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
    """Give the parts of a query that are about fields."""
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
    if field in _KEPT:
        return plain_error(403, f"users can't be found by {field}")
    return plain_error(400, f"credentials have no {field}")
