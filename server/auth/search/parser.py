"""Query parser: the two query languages, subsets of Elasticsearch's and Koncorde, parsed into one
kind of tree.

Every tree is limited in depth, in clauses and in characters.
"""

import re
from collections.abc import Callable

from protocol.errors import error
from protocol.http11.body import parse_json
from server.auth.search.clauses import Clauses, Fields
from server.auth.search.terms import (
    MOST_LEAVES,
    MOST_LEVELS,
    Budget,
    array_of,
    malformed,
    object_of,
    options_of,
    read_least,
)
from server.core.limit_counters import Limit
from server.storage.query import AllOf, Everything, Has, Not, Query, SomeOf

_ELEMENT = re.compile(r"([^\[\]]+)\[(.*)\]", re.DOTALL)
_KINDS = "must", "filter", "should", "must_not"
_ANY_FIELDS = Fields()


def parse_query(
    body: object,
    *,
    lang: str,
    fields: Fields = _ANY_FIELDS,
    on_limit: Callable[[Limit], None] = lambda limit: None,
) -> Query:
    """Return the tree of a query; nothing or an empty object matches every document.

    `lang` is "elasticsearch" or "koncorde". ApiError 400 for an unknown clause, a malformed or an
    oversized query.
    """
    if lang not in ("elasticsearch", "koncorde"):
        raise error("api.assert.invalid_argument", "lang", "elasticsearch or koncorde")
    parser = _Parser(fields, on_limit)
    given = {} if body is None else body
    query = parser.koncorde(given, 1) if lang == "koncorde" else parser.elasticsearch(given, 1)
    if count_leaves(query) > MOST_LEAVES:
        raise error("api.assert.too_many_arguments", "body", MOST_LEAVES)
    return query


def count_leaves(query: Query) -> int:
    """Count the leaves of a tree, which are about a field."""
    match query:
        case AllOf(parts) | SomeOf(parts):
            return sum(map(count_leaves, parts))
        case Not(part):
            return count_leaves(part)
        case Everything():
            return 0
        case _:
            return 1


class _Parser:
    """Parses one query, counting its clauses."""

    def __init__(self, fields: Fields, on_limit: Callable[[Limit], None]) -> None:
        self._budget = Budget(on_limit)
        self._clause = Clauses(fields, self._budget)

    def elasticsearch(self, given: object, level: int) -> Query:
        """Parse a clause: an object with one member, which names it."""
        clause = self._enter(given, level)
        if len(clause) > 1:
            raise malformed(f"expected an object with one clause, not {len(clause)}")
        return self._read(clause, _CLAUSES, level)

    def koncorde(self, given: object, level: int) -> Query:
        """Parse a filter, of which only the first member counts; a name that is not an operator of
        Koncorde is a clause of the other language."""
        clause = self._enter(given, level)
        if next(iter(clause), None) == "bool":
            raise error("api.assert.koncorde_restricted_keyword", "operator", "bool")
        return self._read(clause, _FILTERS, level)

    def _read(self, clause: dict[str, object], own: "dict[str, OwnReader]", level: int) -> Query:
        for name, value in clause.items():
            if name in own:
                return own[name](self, name, value, level)
            return self._clause.read(name, value, level)
        return Everything()

    def _equals(self, name: str, given: object, level: int) -> Query:
        return self._clause.term(name, given, level)

    def _in(self, name: str, given: object, level: int) -> Query:
        return self._clause.terms(name, given, level)

    def _enter(self, given: object, level: int) -> dict[str, object]:
        if level > MOST_LEVELS:
            accepted = f"at most {MOST_LEVELS} nested clauses"
            raise error("api.assert.invalid_argument", "body", accepted)
        self._budget.count(1)
        return object_of("a query", given)

    def _bool(self, name: str, given: object, level: int) -> Query:
        options = options_of(name, given, (*_KINDS, "minimum_should_match"))
        parts = {kind: self._clauses_in(options.get(kind), level) for kind in _KINDS}
        needed = [*parts["must"], *parts["filter"], *map(Not, parts["must_not"])]
        if parts["should"]:
            default = 0 if parts["must"] or parts["filter"] else 1
            given = options.get("minimum_should_match")
            minimum = read_least(given, len(parts["should"]), default)
            needed.append(SomeOf(parts["should"], minimum))
        return AllOf(tuple(needed))

    def _clauses_in(self, given: object, level: int) -> tuple[Query, ...]:
        """Parse the clauses of one member of `bool`: an array, or a single clause."""
        clauses = [] if given is None else given if isinstance(given, list) else [given]
        return tuple(self.elasticsearch(clause, level + 1) for clause in clauses)

    def _and(self, name: str, given: object, level: int) -> Query:
        return AllOf(self._filters_in(name, given, level))

    def _or(self, name: str, given: object, level: int) -> Query:
        parts = self._filters_in(name, given, level)
        return SomeOf(parts, min(len(parts), 1))

    def _not(self, name: str, given: object, level: int) -> Query:
        return Not(self.koncorde(given, level + 1))

    def _filters_in(self, name: str, given: object, level: int) -> tuple[Query, ...]:
        return tuple(self.koncorde(part, level + 1) for part in array_of(name, given))

    def _has(self, name: str, given: object, level: int) -> Query:
        """Parse `"field"`, `{"field": "field"}` or `"field[value]"`, an array with this value."""
        field = self._field_name(name, given)
        element = _ELEMENT.fullmatch(field)
        if element is None:
            return Has(field)
        try:
            value = parse_json(element[2].encode())
        except ValueError:
            raise error("api.assert.koncorde_dsl_error", f"value of {field} is not JSON") from None
        return self._clause.is_in(element[1], [value])

    def _lacks(self, name: str, given: object, level: int) -> Query:
        return Not(Has(self._field_name(name, given)))

    def _field_name(self, name: str, given: object) -> str:
        """Return a field given alone or as the member `field`."""
        field = given if isinstance(given, str) else object_of(name, given).get("field")
        return self._budget.field(field)


OwnReader = Callable[[_Parser, str, object, int], Query]
"""Parses a clause: its name, its value, and its level."""

_CLAUSES: dict[str, OwnReader] = {"bool": _Parser._bool}
_FILTERS: dict[str, OwnReader] = _CLAUSES | {
    "and": _Parser._and,
    "equals": _Parser._equals,
    "exists": _Parser._has,
    "in": _Parser._in,
    "missing": _Parser._lacks,
    "not": _Parser._not,
    "or": _Parser._or,
}
