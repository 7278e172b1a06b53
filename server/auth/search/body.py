"""Search request body: query, sort order, and page."""

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

# Members that only change how hits are shown, or the client's timeout, are ignored.
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
    """A parsed body; `query` and `post_filter` are not parsed yet, None means all."""

    query: object = None
    post_filter: object = None
    sort: tuple[Order, ...] = ()
    after: tuple[Key, ...] = ()
    start: int | None = None
    size: int | None = None


def read_search_body(body: dict[str, object]) -> SearchBody:
    """Parse a body. ApiError 400 for an unknown or unsupported member, or one that is not valid."""
    for name, value in body.items():
        if name in _UNANSWERED and value:
            raise malformed(f"{name} is not supported by this server")
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
    """Parse a sort order: a field, an object of fields with directions, or an array of those."""
    entries = [] if given is None else given if isinstance(given, list) else [given]
    orders: list[Order] = []
    for entry in entries[: MOST_ORDERS + 1]:
        members = {entry: "asc"} if isinstance(entry, str) else entry
        if not isinstance(members, dict) or len(members) > MOST_ORDERS:
            raise malformed("sort must contain fields, or objects of fields with directions")
        orders += [_read_order(field, said) for field, said in members.items()]
    if len(orders) > MOST_ORDERS:
        raise error("api.assert.too_many_arguments", "body.sort", MOST_ORDERS)
    return tuple(orders)


def _read_order(field: str, said: object) -> Order:
    if not field or len(field) > MOST_FIELD_CHARACTERS or field.count(".") >= MOST_NAMES:
        raise malformed("sort contains a field name that is not valid")
    options = options_of("sort", said, _ORDER_OPTIONS) if isinstance(said, dict) else {}
    direction = options.get("order", "asc") if isinstance(said, dict) else said
    if not isinstance(direction, str) or direction.lower() not in _DIRECTIONS:
        raise malformed('the direction of sort must be "asc" or "desc"')
    if options.get("mode", _MODES[direction.lower()]) != _MODES[direction.lower()]:
        raise malformed("sort uses the first of several values: no other mode is supported")
    if options.get("missing", "_last") != "_last":
        raise malformed('sort supports missing: "_last" only')
    return Order(field, _DIRECTIONS[direction.lower()])


def _read_after(given: object, sort: tuple[Order, ...]) -> tuple[Key, ...]:
    if given is None:
        return ()
    values = array_of("search_after", given)
    if not sort or len(values) != len(sort):
        raise malformed("search_after must have one value for each field of sort")
    return tuple(map(_read_key, values))


def _read_key(value: object) -> Key:
    if value is None:
        return None
    if isinstance(value, bool):
        return as_text(value)
    if not isinstance(value, str | int | float):
        raise malformed("search_after must contain only strings, numbers, true, false and null")
    # JSON has unsigned integers of up to 64 bits, the store compares them as floats.
    return float(value) if isinstance(value, int) and value >= _INT64 else value


def _read_count(name: str, given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise error("api.assert.invalid_argument", f"body.{name}", "a number from 0 up")
    return given
