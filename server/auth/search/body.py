"""The body of a search: what is asked, in which order, and from where on (contract/03 §7.7)."""

from dataclasses import dataclass

from protocol.errors import error
from server.auth.search.terms import (
    MOST_FIELD_CHARACTERS,
    MOST_NAMES,
    array_of,
    as_text,
    malformed,
    options_of,
)
from server.storage.search import Key, Order

MOST_ORDERS = 8
"""Fields to sort by."""

# Those that only change how hits look, or how long one is willing to wait, are read over.
_IGNORED = (
    "explain fields highlight search_timeout _name _source _source_excludes _source_includes"
).split()
_READ = "from post_filter query search_after size sort".split()
_UNANSWERED = "aggregations aggs collapse suggest".split()
_DIRECTIONS = {"asc": False, "desc": True}
_ORDER_OPTIONS = "order", "mode", "missing", "unmapped_type"
_MODES = {"asc": "min", "desc": "max"}
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class SearchBody:
    """What a body says; `query` and `post_filter` are still in their language, None is all."""

    query: object = None
    post_filter: object = None
    sort: tuple[Order, ...] = ()
    after: tuple[Key, ...] = ()
    start: int | None = None
    size: int | None = None


def read_search_body(body: dict[str, object]) -> SearchBody:
    """Read a body. ApiError 400 for a member searches don't have, or one that can't be read."""
    for name, value in body.items():
        if name in _UNANSWERED and value:
            raise malformed(f"{name} is not answered by this server")
        if name not in _READ and name not in _IGNORED and name not in _UNANSWERED:
            raise error("services.storage.invalid_search_query", name)
    sort = read_sort(body.get("sort"))
    return SearchBody(
        query=body.get("query"),
        post_filter=body.get("post_filter"),
        sort=sort,
        after=_read_after(body.get("search_after"), sort),
        start=_read_count("from", body.get("from")),
        size=_read_count("size", body.get("size")),
    )


def read_sort(given: object) -> tuple[Order, ...]:
    """Read an order: a field, an object of fields with directions, or an array of those."""
    entries = [] if given is None else given if isinstance(given, list) else [given]
    orders: list[Order] = []
    for entry in entries[: MOST_ORDERS + 1]:
        members = {entry: "asc"} if isinstance(entry, str) else entry
        if not isinstance(members, dict) or len(members) > MOST_ORDERS:
            raise malformed("sort has fields, or objects with fields and directions")
        orders += [_read_order(field, said) for field, said in members.items()]
    if len(orders) > MOST_ORDERS:
        raise error("api.assert.too_many_arguments", "body.sort", MOST_ORDERS)
    return tuple(orders)


def _read_order(field: str, said: object) -> Order:
    if not field or len(field) > MOST_FIELD_CHARACTERS or field.count(".") >= MOST_NAMES:
        raise malformed("sort names a field that can't be")
    options = options_of("sort", said, _ORDER_OPTIONS) if isinstance(said, dict) else {}
    direction = options.get("order", "asc") if isinstance(said, dict) else said
    if not isinstance(direction, str) or direction.lower() not in _DIRECTIONS:
        raise malformed("sort has the directions asc and desc")
    if options.get("mode", _MODES[direction.lower()]) != _MODES[direction.lower()]:
        raise malformed("sort takes the first of several values: no other mode")
    if options.get("missing", "_last") != "_last":
        raise malformed("sort puts what has no value last")
    return Order(field, _DIRECTIONS[direction.lower()])


def _read_after(given: object, sort: tuple[Order, ...]) -> tuple[Key, ...]:
    if given is None:
        return ()
    values = array_of("search_after", given)
    if not sort or len(values) != len(sort):
        raise malformed("search_after has one value for each field of sort")
    return tuple(map(_read_key, values))


def _read_key(value: object) -> Key:
    if value is None:
        return None
    if isinstance(value, bool):
        return as_text(value)
    if not isinstance(value, str | int | float):
        raise malformed("search_after has texts, numbers, true, false and null")
    # JSON reads integers of up to 64 bits without a sign, the store compares them as floats.
    return float(value) if isinstance(value, int) and value >= _INT64 else value


def _read_count(name: str, given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise error("api.assert.invalid_argument", f"body.{name}", "a number from 0 up")
    return given
