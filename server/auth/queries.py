"""Reads a search, in the dialect of Elasticsearch or in Koncorde, into a query tree (contract/02 §5,
contract/03 §7.7).

Whoever sends one may send anything: depth and size are bounded, there are no patterns and no
scripts, and what is not known is refused by name, never ignored.
"""

import re
from collections.abc import Callable

from protocol.bodies import parse_json
from protocol.errors import ApiError, error
from server.auth.querytree import (
    Both,
    Everything,
    Node,
    Order,
    Prefix,
    Present,
    Range,
    Scalar,
    Some,
    Term,
    Without,
    Words,
    split_words,
    write_text,
)

ELASTICSEARCH, KONCORDE = "elasticsearch", "koncorde"
LANGUAGES = (ELASTICSEARCH, KONCORDE)
MOST_LEVELS = 20
MOST_PARTS = 1000
"""Clauses, values and words of one query together."""
MOST_FIELD_CHARACTERS = 256
# They weigh or name a clause; with hits that have no score both mean nothing.
_IGNORED = frozenset({"boost", "_name"})
_VALUE_IN_ARRAY = re.compile(r"([^\[\]]+)\[(.+)\]", re.DOTALL)


def parse_query(query: dict[str, object], lang: str = ELASTICSEARCH) -> Node:
    """Give a query as a tree; an empty one asks for everything.

    ApiError 400 for an unknown language or clause, or a query that is wrong, too deep or too large.
    """
    if lang not in LANGUAGES:
        raise error("api.assert.invalid_argument", "lang", " or ".join(LANGUAGES))
    if not query:
        return Everything()
    reader = _Reader()
    return reader.koncorde(query, 1) if lang == KONCORDE else reader.clause(query, 1)


Read = Callable[[object, int], Node]


class _Reader:
    """Reads one query and counts what it has read. `level` is how deep a clause stands."""

    def __init__(self) -> None:
        self._left = MOST_PARTS
        self._clauses: dict[str, Read] = {
            "match_all": self._match_all,
            "term": self._term,
            "terms": self._terms,
            "match": self._match,
            "bool": self._bool,
            "range": self._range,
            "exists": self._exists,
            "ids": self._ids,
            "prefix": self._prefix,
        }
        self._koncorde_clauses: dict[str, Read] = {
            "equals": self._term,
            "in": self._terms,
            "exists": self._koncorde_exists,
            "missing": lambda content, level: Without(_exists(content)),
            "and": lambda content, level: Both(self._list("and", content, self.koncorde, level)),
            "or": self._or,
            "not": lambda content, level: Without(self.koncorde(content, level + 1)),
        }

    def clause(self, clause: object, level: int) -> Node:
        """Read one clause of Elasticsearch's dialect."""
        self._enter(level)
        if not isinstance(clause, dict) or len(clause) != 1:
            raise _wrong("a clause is an object with one member")
        [(name, content)] = clause.items()
        read = self._clauses.get(name)
        if read is None:
            raise error("services.storage.unknown_query_keyword", name)
        return read(content, level)

    def koncorde(self, clause: object, level: int) -> Node:
        """Read one clause of Koncorde: of its members the first counts, and what Koncorde has no
        word for is read as Elasticsearch's."""
        self._enter(level)
        if not isinstance(clause, dict):
            raise error("api.assert.koncorde_dsl_error", "a clause is an object")
        if not clause:
            return Everything()
        name, content = next(iter(clause.items()))
        if name == "bool":
            raise error("api.assert.koncorde_restricted_keyword", "operator", name)
        read = self._koncorde_clauses.get(name)
        return self.clause({name: content}, level) if read is None else read(content, level)

    def _enter(self, level: int) -> None:
        if level > MOST_LEVELS:
            raise _wrong(f"a query has at most {MOST_LEVELS} levels")
        self._take(1)

    def _take(self, parts: int) -> None:
        self._left -= parts
        if self._left < 0:
            raise _wrong(f"a query has at most {MOST_PARTS} clauses, values and words")

    def _match_all(self, content: object, level: int) -> Node:
        _members("match_all", content, set())
        return Everything()

    def _term(self, content: object, level: int) -> Node:
        field, value = _one_field("term", content)
        return Term(field, (write_text(_scalar("term", _member("term", value, "value"))),))

    def _terms(self, content: object, level: int) -> Node:
        field, values = _one_field("terms", content)
        return Term(field, self._texts("terms", values))

    def _ids(self, content: object, level: int) -> Node:
        values = _members("ids", content, {"values"}).get("values")
        return Term("_id", self._texts("ids", [values] if isinstance(values, str) else values))

    def _texts(self, name: str, values: object) -> tuple[str, ...]:
        if not isinstance(values, list):
            raise _wrong(f'"{name}" takes an array of values')
        self._take(len(values))
        return tuple(write_text(_scalar(name, value)) for value in values)

    def _match(self, content: object, level: int) -> Node:
        field, value = _one_field("match", content)
        operator: object = "or"
        if isinstance(value, dict):
            options = _members("match", value, {"query", "operator"})
            value, operator = options.get("query"), options.get("operator", "or")
        named = operator.lower() if isinstance(operator, str) else ""
        if named not in ("and", "or"):
            raise _wrong('the operator of "match" is "and" or "or"')
        text = write_text(_scalar("match", value))
        words = split_words(text)
        self._take(len(words))
        return Words(field, text, words, needs_all=named == "and")

    def _prefix(self, content: object, level: int) -> Node:
        field, value = _one_field("prefix", content)
        return Prefix(field, write_text(_scalar("prefix", _member("prefix", value, "value"))))

    def _exists(self, content: object, level: int) -> Node:
        return Present(_field(_members("exists", content, {"field"}).get("field")))

    def _range(self, content: object, level: int) -> Node:
        field, limits = _one_field("range", content)
        given = _members("range", limits, {order.value for order in Order})
        bounds = [
            (order, _scalar("range", given[order.value]))
            for order in Order
            if given.get(order.value) is not None
        ]
        return Range(field, tuple(bounds))

    def _bool(self, content: object, level: int) -> Node:
        lists = ("must", "filter", "should", "must_not")
        given = _members("bool", content, {*lists, "minimum_should_match"})
        must, also, should, never = (
            self._list(name, given.get(name, []), self.clause, level) for name in lists
        )
        least = _least(given.get("minimum_should_match"), len(should), bool(must or also))
        parts: list[Node] = [*must, *also, *(Without(part) for part in never)]
        if least > 0:
            parts.append(Some(should, least))
        return Both(tuple(parts))

    def _list(self, name: str, content: object, read: Read, level: int) -> tuple[Node, ...]:
        """Read an array of clauses; a single one need not stand in an array."""
        clauses = [content] if isinstance(content, dict) else content
        if not isinstance(clauses, list):
            raise _wrong(f'"{name}" takes an array of clauses')
        return tuple(read(clause, level + 1) for clause in clauses)

    def _or(self, content: object, level: int) -> Node:
        parts = self._list("or", content, self.koncorde, level)
        return Some(parts, 1) if parts else Everything()

    def _koncorde_exists(self, content: object, level: int) -> Node:
        """`"f[value]"` asks for a value among the members of a list."""
        within = _VALUE_IN_ARRAY.fullmatch(content) if isinstance(content, str) else None
        if within is None:
            return _exists(content)
        try:
            value = parse_json(within[2].encode())
        except ValueError:
            raise error("api.assert.koncorde_dsl_error", "f[value] takes JSON") from None
        return Term(_field(within[1]), (write_text(_scalar("exists", value)),))


def _exists(content: object) -> Node:
    """Read the field of Koncorde's `exists` and `missing`: its name, or an object that names it."""
    if isinstance(content, dict):
        content = _members("exists", content, {"field"}).get("field")
    return Present(_field(content))


def _least(wanted: object, clauses: int, has_others: bool) -> int:
    """Give how many clauses of `should` must hold; a negative number counts those that need not."""
    if wanted is None:
        return 0 if has_others or not clauses else 1
    if isinstance(wanted, str) and re.fullmatch(r"-?[0-9]{1,9}", wanted):
        wanted = int(wanted)
    if isinstance(wanted, bool) or not isinstance(wanted, int):
        raise _wrong('"minimum_should_match" is an integer')
    return wanted if wanted >= 0 else max(clauses + wanted, 0)


def _one_field(name: str, content: object) -> tuple[str, object]:
    """Give the field a clause is about, and what it says of it."""
    given = content if isinstance(content, dict) else {}
    fields = [(field, value) for field, value in given.items() if field not in _IGNORED]
    if len(fields) != 1:
        raise _wrong(f'"{name}" takes an object that names one field')
    return _field(fields[0][0]), fields[0][1]


def _field(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MOST_FIELD_CHARACTERS:
        raise _wrong(f"a field is named by a text of at most {MOST_FIELD_CHARACTERS} characters")
    return name


def _members(name: str, content: object, known: set[str]) -> dict[str, object]:
    """Give the members of an object that has no others than known ones."""
    if not isinstance(content, dict):
        raise _wrong(f'"{name}" takes an object')
    unknown = content.keys() - known - _IGNORED
    if unknown:
        raise _wrong(f'"{name}" has no option "{min(unknown)}"')
    return content


def _member(name: str, value: object, member: str) -> object:
    """Give a value that may be wrapped in an object."""
    return _members(name, value, {member}).get(member) if isinstance(value, dict) else value


def _scalar(name: str, value: object) -> Scalar:
    if not isinstance(value, Scalar):
        raise _wrong(f'"{name}" takes text, numbers and booleans')
    return value


def _wrong(reason: str) -> ApiError:
    return error("services.storage.unexpected_bad_request", reason)
