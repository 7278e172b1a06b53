"""The two languages of searches, a part of Elasticsearch's and Koncorde, read into one kind of tree
(contract/03 §7.7).

Every tree is bounded in depth and in size, and no clause takes a regular expression.
"""

import re
from collections.abc import Callable

from protocol.bodies import parse_json
from protocol.errors import ApiError, error
from server.auth.queries import (
    AllOf,
    Bound,
    Everything,
    Has,
    InRange,
    IsIn,
    Not,
    Query,
    SomeOf,
    StartsWith,
    as_text,
    words_of,
)

MOST_LEVELS = 20
"""Clauses inside of one another."""
MOST_PARTS = 1000
"""Clauses and values of one query, together."""

_ELEMENT = re.compile(r"([^\[\]]+)\[(.*)\]", re.DOTALL)
_KINDS = "must", "filter", "should", "must_not"
_BOUNDS = "gt", "gte", "lt", "lte"
# Options that change the order of hits, never which ones there are.
_NO_MATTER = frozenset({"boost", "_name"})
_SHARE = re.compile(r"(-?[0-9]{1,4})(%?)")

_Reader = Callable[[str, object, int], Query]  # of a clause's name, what it says, and its level


def parse_query(body: object, *, lang: str, full_text: frozenset[str] = frozenset()) -> Query:
    """Give the tree of a query; nothing or an empty object is every document.

    `lang` is "elasticsearch" or "koncorde"; `full_text` names the fields that are searched by word.
    ApiError 400 for an unknown clause, a malformed or an oversized query.
    """
    if lang not in ("elasticsearch", "koncorde"):
        raise error("api.assert.invalid_argument", "lang", "elasticsearch or koncorde")
    parser = _Parser(full_text)
    given = {} if body is None else body
    return parser.koncorde(given, 1) if lang == "koncorde" else parser.elasticsearch(given, 1)


class _Parser:
    """Reads one query, counting its parts."""

    def __init__(self, full_text: frozenset[str]) -> None:
        self._full_text = full_text
        self._parts = 0
        self._clauses: dict[str, _Reader] = {
            "bool": self._bool,
            "exists": self._exists,
            "ids": self._ids,
            "match": self._match,
            "match_all": self._match_all,
            "prefix": self._prefix,
            "range": self._range,
            "term": self._term,
            "terms": self._terms,
        }
        self._filters: dict[str, _Reader] = {
            "and": self._and,
            "equals": self._term,
            "exists": self._has,
            "in": self._terms,
            "missing": self._lacks,
            "not": self._not,
            "or": self._or,
        }

    def elasticsearch(self, given: object, level: int) -> Query:
        """Read a clause: an object with one member, which names it."""
        clause = self._enter(given, level)
        if len(clause) > 1:
            raise _malformed(f"only one clause can stand here, not {', '.join(clause)}")
        return self._read(clause, self._clauses, level)

    def koncorde(self, given: object, level: int) -> Query:
        """Read a filter, of which only the first member counts; what is no operator of Koncorde is
        a clause of the other language."""
        clause = self._enter(given, level)
        if next(iter(clause), None) == "bool":
            raise error("api.assert.koncorde_restricted_keyword", "operator", "bool")
        return self._read(clause, self._clauses | self._filters, level)

    def _read(self, clause: dict[str, object], readers: dict[str, _Reader], level: int) -> Query:
        for name, value in clause.items():
            if name not in readers:
                raise error("services.storage.unknown_query_keyword", name)
            return readers[name](name, value, level)
        return Everything()

    def _enter(self, given: object, level: int) -> dict[str, object]:
        if level > MOST_LEVELS:
            accepted = f"at most {MOST_LEVELS} clauses inside of one another"
            raise error("api.assert.invalid_argument", "body", accepted)
        self._count(1)
        return _object("a query", given)

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MOST_PARTS:
            raise error("api.assert.too_many_arguments", "body", MOST_PARTS)

    def _match_all(self, name: str, given: object, level: int) -> Query:
        _options(name, given, ())
        return Everything()

    def _term(self, name: str, given: object, level: int) -> Query:
        field, value = _field(name, given)
        return self._is_in(field, [_option(name, value, "value")])

    def _terms(self, name: str, given: object, level: int) -> Query:
        field, values = _field(name, given)
        return self._is_in(field, _array(name, values))

    def _ids(self, name: str, given: object, level: int) -> Query:
        values = _options(name, given, ("values",)).get("values")
        return self._is_in("_id", [values] if isinstance(values, str) else _array(name, values))

    def _is_in(self, field: str, values: list[object]) -> Query:
        self._count(len(values))
        return IsIn(field, frozenset(map(_scalar, values)), field in self._full_text)

    def _match(self, name: str, given: object, level: int) -> Query:
        field, value = _field(name, given)
        options = _options(
            name,
            value if isinstance(value, dict) else {"query": value},
            ("query", "operator", "minimum_should_match"),
        )
        wanted = _scalar(options.get("query"))
        operator = str(options.get("operator", "or")).lower()
        if operator not in ("and", "or"):
            raise _malformed(f"the operator of {name} is and, or or")
        if field not in self._full_text:
            return self._is_in(field, [wanted])
        words = words_of(wanted)
        self._count(len(words))
        least = len(words)
        if operator == "or":
            least = _least(options.get("minimum_should_match"), len(words), default=1)
        parts = tuple(IsIn(field, frozenset({word}), by_word=True) for word in words)
        return SomeOf(parts, max(least, 1))

    def _prefix(self, name: str, given: object, level: int) -> Query:
        field, value = _field(name, given)
        start = _scalar(_option(name, value, "value"))
        return StartsWith(field, start, field in self._full_text)

    def _range(self, name: str, given: object, level: int) -> Query:
        field, value = _field(name, given)
        bounds = _options(name, value, _BOUNDS)
        read = {end: _bound(bounds[end]) for end in _BOUNDS if bounds.get(end) is not None}
        return InRange(field, **read)

    def _exists(self, name: str, given: object, level: int) -> Query:
        return Has(_field_name(name, _options(name, given, ("field",))))

    def _bool(self, name: str, given: object, level: int) -> Query:
        groups = _options(name, given, (*_KINDS, "minimum_should_match"))
        must, also, should, must_not = (self._group(groups.get(kind), level) for kind in _KINDS)
        parts = (*must, *also, *map(Not, must_not))
        if should:
            least = groups.get("minimum_should_match")
            default = 0 if must or also else 1
            parts += (SomeOf(should, _least(least, len(should), default)),)
        return AllOf(parts)

    def _group(self, given: object, level: int) -> tuple[Query, ...]:
        """Read the clauses of one member of `bool`: an array, or a clause alone."""
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
        return tuple(self.koncorde(part, level + 1) for part in _array(name, given))

    def _has(self, name: str, given: object, level: int) -> Query:
        """Read `"field"`, `{"field": "field"}` or `"field[value]"`, an array with this value."""
        field = _field_name(name, given)
        element = _ELEMENT.fullmatch(field)
        if element is None:
            return Has(field)
        try:
            value = parse_json(element[2].encode())
        except ValueError:
            raise error("api.assert.koncorde_dsl_error", f"no JSON in {field}") from None
        return self._is_in(element[1], [value])

    def _lacks(self, name: str, given: object, level: int) -> Query:
        return Not(Has(_field_name(name, given)))


def _object(name: str, given: object) -> dict[str, object]:
    if not isinstance(given, dict):
        raise _malformed(f"{name} is an object")
    return given


def _array(name: str, given: object) -> list[object]:
    if not isinstance(given, list):
        raise _malformed(f"{name} wants an array")
    return given


def _field(name: str, given: object) -> tuple[str, object]:
    """Give the one field a clause is about, with what is asked of it."""
    members = _object(name, given).items()
    fields = [member for member in members if member[0] not in _NO_MATTER]
    if len(fields) != 1:
        raise _malformed(f"{name} wants one field")
    return fields[0]


def _field_name(name: str, given: object) -> str:
    """Give a field that stands alone or as the member `field`."""
    field = _object(name, given).get("field") if not isinstance(given, str) else given
    if not isinstance(field, str) or not field:
        raise _malformed(f"{name} wants the name of a field")
    return field


def _options(name: str, given: object, accepted: tuple[str, ...]) -> dict[str, object]:
    """Give an object without other members than are accepted."""
    options = _object(name, given)
    for option in options:
        if option not in accepted and option not in _NO_MATTER:
            raise _malformed(f"{name} has no option {option}")
    return options


def _option(name: str, given: object, option: str) -> object:
    """Give what stands alone or as a member of an object of options."""
    return _options(name, given, (option,)).get(option) if isinstance(given, dict) else given


def _least(given: object, parts: int, default: int) -> int:
    """Read how many of some clauses must match: a number, or text such as "2", "-1" or "75%"; a
    negative one counts those that need not."""
    if given is None:
        return default
    is_number = isinstance(given, int) and not isinstance(given, bool)
    found = _SHARE.fullmatch(str(given)) if is_number or isinstance(given, str) else None
    if found is None:
        raise _malformed('minimum_should_match is a number, or text such as "75%"')
    count = int(found[1])
    wanted = parts * count / 100 if found[2] else count
    return max(parts + int(wanted), 0) if wanted < 0 else int(wanted)


def _scalar(given: object) -> str:
    if not isinstance(given, str | int | float):
        raise _malformed("a value is a text, a number, true or false")
    return as_text(given)


def _bound(given: object) -> Bound:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise _malformed("a bound is a number or a text")
    return given


def _malformed(reason: str) -> ApiError:
    return error("services.storage.unexpected_bad_request", reason)
