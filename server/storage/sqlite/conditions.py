"""SQL conditions of search queries: every external value and name is a bound parameter.

A field is looked up by walking the JSON of its column one name at a time, through the members of
arrays. Old versions of SQLite end a string or a name at its first NUL, so those with one are not
found exactly. Independent of sort order, pages and indexes.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from server.storage.automata import Item, Matcher
from server.storage.query import (
    MOST_SEARCHED_CHARACTERS,
    MOST_SORTED_CHARACTERS,
    AllOf,
    Bound,
    Everything,
    Fits,
    Has,
    Holds,
    InRange,
    InWords,
    IsIn,
    Leaf,
    Not,
    Position,
    Query,
    SomeOf,
    number_of,
    words_of,
)
from server.storage.search import View
from server.storage.sqlite.conversion import SqlValue
from server.storage.sqlite.triggers import is_value, path_of, value_of
from server.storage.tables import SHAPES, Kind

Parameter = SqlValue | float
_CHAIN = 40
_NUMBERED = re.compile(r"\?([0-9]+)")

ANY_VALUE, TEXTS, NUMBERS = (True, True), (True, False), (False, True)
"""Whether an expression can be a string, and whether it can be a number."""


@dataclass(slots=True)
class Bindings:
    """The parameters of one statement by number, and the patterns of its function `fits`.

    Once `is_over` (a timeout), its functions skip further strings: the statement is interrupted."""

    values: list[Parameter] = field(default_factory=list)
    matchers: list[tuple[Matcher, bool]] = field(default_factory=list)
    is_over: Callable[[], bool] = lambda: False
    _last_words: tuple[str, list[str]] = ("", [])

    def bind(self, value: Parameter) -> str:
        """Return the SQL of a parameter with this value."""
        self.values.append(value)
        return f"?{len(self.values)}"

    def run(self, connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
        """Run a statement with its parameters."""
        used = max(map(int, _NUMBERED.findall(sql)), default=0)
        return connection.execute(sql, self.values[:used])

    def words(self, value: object) -> str:
        """The SQL function `words`: the words of a string with a space around each."""
        if not isinstance(value, str) or self.is_over():
            return ""
        return f" {' '.join(self._words_of(value))} "

    def fits(self, value: object, number: int) -> bool:
        """The SQL function `fits`: whether a string, or a word of it, matches a pattern."""
        if not isinstance(value, str) or self.is_over():
            return False
        matcher, by_word = self.matchers[number]
        if len(value) <= MOST_SEARCHED_CHARACTERS and matcher.fits(value):
            return True
        return by_word and any(map(matcher.fits, self._words_of(value)))

    def _words_of(self, text: str) -> list[str]:
        """Return the words of a string, cached: each part of a query uses the same string."""
        known, words = self._last_words
        if text != known:
            words = words_of(text)
            self._last_words = text, words
        return words


@dataclass(frozen=True, slots=True)
class _FitsAny:
    """Several `Fits` of one field, one of which must match: one pass over a string instead of one
    for each."""

    field: str
    patterns: tuple[tuple[Item, ...], ...]
    by_word: bool


@dataclass(frozen=True, slots=True)
class Column:
    """The location of a field: a plain column, as an expression, or the path `names` in a JSON
    column."""

    sql: str
    names: tuple[str, ...] | None = None
    holds: tuple[bool, bool] = ANY_VALUE


def find_column(view: View, path: str) -> Column | None:
    """Return the location of a field; None if no document can have it."""
    shape = SHAPES[view.table]
    name = view.columns.get(path)
    if name is not None:
        sql = f't."{name}"'
        if shape.columns[name] is Kind.BYTES:
            return Column(f"lower(hex({sql}))", holds=TEXTS)
        if name in shape.optional:
            sql = f"coalesce({sql}, {view.never:d})"
        return Column(sql, holds=NUMBERS if shape.columns[name] is Kind.INTEGER else TEXTS)
    first, *rest = path.split(".")
    if first in view.documents:
        return Column(f't."{view.documents[first]}"', tuple(rest))
    return Column(f't."{view.rest}"', (first, *rest)) if view.rest else None


@dataclass(frozen=True, slots=True)
class Walk:
    """FROM and WHERE of a field's values. The value of a name is a row `key` of json_each; if it is
    an array, each row `member` is a value, otherwise there is one `member`, which is ignored.

    Values are never serialized as JSON on the way: SQLite would round them.
    """

    source: str
    key: str
    member: str

    @property
    def opened(self) -> str:
        """The JSON of the rows `member`."""
        return f"CASE {self.key}.type WHEN 'array' THEN {self.key}.value ELSE '[null]' END"

    @property
    def type(self) -> str:
        """The type of a value."""
        return self._column("type")

    @property
    def json(self) -> str:
        """The JSON of a value that is an object."""
        return self._column("value")

    @property
    def value(self) -> str:
        """A value as in `storage.query`."""
        return value_of(self.type, self.atom)

    @property
    def atom(self) -> str:
        """A value as in SQLite, true and false as numbers."""
        return self._column("atom")

    @property
    def is_value(self) -> str:
        """The condition that it is a value: neither null nor an array or object."""
        return is_value(self.type)

    def _column(self, name: str) -> str:
        if self.key == self.member:
            return f"{self.member}.{name}"
        key, member = f"{self.key}.{name}", f"{self.member}.{name}"
        return f"(CASE {self.key}.type WHEN 'array' THEN {member} ELSE {key} END)"


class Conditions:
    """Builds conditions on the rows `t` of a view."""

    def __init__(self, view: View, bindings: Bindings) -> None:
        self._view = view
        self._bindings = bindings

    def of(self, query: Query) -> str:
        """Return the condition that a query matches: 1 or 0, never NULL."""
        match query:
            case Everything():
                return "1"
            case AllOf(parts):
                return joined([self.of(part) for part in parts], "AND") if parts else "1"
            case SomeOf(parts, least):
                return self._some_of(parts, least)
            case Not(part):
                return f"(NOT {self.of(part)})"
            case _:
                return self._of_leaf(query)

    def sort_key(self, path: str, is_descending: bool) -> str:
        """Return the expression of a field's sort value, long strings truncated; NULL without a
        value."""
        column = find_column(self._view, path)
        if column is None:
            return "NULL"
        if column.names is None:
            return column.sql
        first = "max" if is_descending else "min"
        found = self._walk(column.sql, column.names)
        values = f"FROM {found.source} AND {found.is_value}"
        walked = f"(SELECT {first}({_sorted_value(found.type, found.atom)}) {values})"  # noqa: S608
        return self._unless_plain(column, _sorted_value, "NULL", walked)

    def sort_bound(self, path: str, last: str | float) -> str:
        """Return the expression that sort keys are compared with to come after `last`."""
        column, bound = find_column(self._view, path), self._bindings.bind(last)
        is_cut = column is not None and column.names is not None and isinstance(last, str)
        return _start_of(bound) if is_cut else bound

    def _some_of(self, parts: Sequence[Query], least: int) -> str:
        if least <= 0:
            return "1"
        if least > len(parts):
            return "0"
        if least == 1:
            parts, fitting = _united(parts)
            each = [*map(self.of, parts), *map(self._of_leaf, fitting)]
            return joined(each, "OR") if each else "0"
        conditions = [self.of(part) for part in parts]
        # Each bracket counts in deep queries; the sum binds closer than the comparison.
        return f"({joined(conditions, '+')[1:-1]} >= {least:d})"

    def _of_leaf(self, leaf: Leaf | _FitsAny) -> str:
        column = find_column(self._view, leaf.field)
        if column is None:
            return "0"
        if column.names is None:
            return self.test(leaf, column.sql, column.holds)
        found = self._walk(column.sql, column.names)
        if isinstance(leaf, Has):
            has = f"({found.is_value} OR ({found.type} = 'object' AND {found.json} <> '{{}}'))"
            return f"EXISTS (SELECT 1 FROM {found.source} AND {has})"  # noqa: S608
        test = joined([found.is_value, self.test(leaf, f"({found.value})", ANY_VALUE)], "AND")
        walked = f"EXISTS (SELECT 1 FROM {found.source} AND {test})"  # noqa: S608
        return self._unless_plain(
            column,
            lambda kind, atom: self.test(leaf, f"({value_of(kind, atom)})", ANY_VALUE),
            "0",
            walked,
        )

    def _unless_plain(
        self, column: Column, of_value: Callable[[str, str], str], of_nothing: str, walked: str
    ) -> str:
        """Return an expression of a field for the documents, mostly all, that have one value or
        none, which are read in half the time of a walk; `walked` for the others. `of_value` gets
        the type of the value and its atom, as from json_each."""
        path = path_of(column.names or ())
        if path is None:
            return walked
        at = self._bindings.bind(path)
        kind = f"json_type({column.sql}, {at})"
        found = of_value(kind, f"json_extract({column.sql}, {at})")
        # If nothing is found below other names, there may be an array on the path.
        is_deep = len(column.names or ()) > 1
        nothing = f"{kind} = 'null'" if is_deep else f"coalesce({kind}, 'null') = 'null'"
        plain = f"CASE WHEN {is_value(kind)} THEN {found} WHEN {nothing} THEN {of_nothing}"
        return f"({plain} ELSE {walked} END)"

    def _walk(self, column: str, names: Sequence[str]) -> Walk:
        """Walk from a column's JSON to a field's values."""
        tables, conditions, inside = [], ["1"], column
        if not names:
            # Only a complete column: an array, or JSON that is not a value itself.
            return Walk(f"json_each({column}) AS e WHERE json_type({column}) = 'array'", "e", "e")
        for at, name in enumerate(names):
            key, member = f"k{at}", f"e{at}"
            walk = Walk("", key, member)
            tables += [f"json_each({inside}) AS {key}", f"json_each({walk.opened}) AS {member}"]
            conditions.append(f"{key}.key = {self._bindings.bind(name)}")
            inside = f"CASE {walk.type} WHEN 'object' THEN {walk.json} END"
        source = f"{' CROSS JOIN '.join(tables)} WHERE {' AND '.join(conditions)}"
        return Walk(source, key, member)

    def test(self, leaf: Leaf | _FitsAny, value: str, holds: tuple[bool, bool]) -> str:
        """Return the condition that one value, as an expression, matches a leaf."""
        match leaf:
            case Has():
                return "1"
            case IsIn(_, values):
                return self._equals(value, values, holds)
            case InRange():
                return self._lies_between(leaf, value, holds)
            case _:
                return self._test_text(leaf, value) if holds[0] else "0"

    def _test_text(self, leaf: Holds | InWords | Fits | _FitsAny, value: str) -> str:
        bind = self._bindings.bind
        match leaf:
            case Holds(_, text, Position.START):
                return starts_with(value, text, bind)
            case Holds(_, text, Position.END):
                end = bind(text)
                found = f"(substr({value}, -length({end})) = {end} OR {end} = '')"
                return f"({value} >= '' AND {found})"
            case Holds(_, text):
                return f"({value} >= '' AND instr({value}, {bind(text)}) > 0)"
            case InWords(_, words, last_is_start):
                row = f" {' '.join(words)}{'' if last_is_start else ' '}"
                return f"(instr(words({value}), {bind(row)}) > 0)" if words else "0"
            case Fits(_, pattern, by_word):
                return self._fits(value, Matcher(pattern), by_word)
            case _FitsAny(_, patterns, by_word):
                return self._fits(value, Matcher(*patterns), by_word)

    def _fits(self, value: str, matcher: Matcher, by_word: bool) -> str:
        self._bindings.matchers.append((matcher, by_word))
        return f"fits({value}, {len(self._bindings.matchers) - 1:d})"

    def _equals(self, value: str, wanted: frozenset[str], holds: tuple[bool, bool]) -> str:
        same: list[Parameter] = []
        for text in sorted(wanted):
            number = number_of(text)
            if holds[0]:
                same.append(text)
            if holds[1] and number is not None:
                same.append(number)
        if not same:
            return "0"
        return f"({value} IN ({', '.join(map(self._bindings.bind, same))}))"

    def _lies_between(self, leaf: InRange, value: str, holds: tuple[bool, bool]) -> str:
        bounds: list[tuple[str, Bound]] = []
        for sign, bound in ((">", leaf.gt), (">=", leaf.gte), ("<", leaf.lt), ("<=", leaf.lte)):
            if bound is not None:
                bounds.append((sign, bound))
        ways = []
        numbers = [number_of(bound) for _, bound in bounds]
        if holds[1] and None not in numbers:
            ways.append([*zip((sign for sign, _ in bounds), numbers, strict=True), ("<", "")])
        if holds[0] and all(isinstance(bound, str) for _, bound in bounds):
            ways.append([(">=", ""), *bounds])
        written = [
            joined([f"({value} {sign} {self._bindings.bind(bound)})" for sign, bound in way], "AND")
            for way in ways
        ]
        return joined(written, "OR") if written else "0"


def _united(parts: Sequence[Query]) -> tuple[list[Query], list[_FitsAny]]:
    """Return alternative parts, with the patterns for each field combined."""
    rest: list[Query] = []
    patterns: dict[tuple[str, bool], list[tuple[Item, ...]]] = {}
    for part in _flattened(parts):
        if isinstance(part, Fits):
            patterns.setdefault((part.field, part.by_word), []).append(part.pattern)
        else:
            rest.append(part)
    return rest, [_FitsAny(name, tuple(each), word) for (name, word), each in patterns.items()]


def _flattened(parts: Sequence[Query]) -> Iterator[Query]:
    """Yield alternative parts, with nested alternatives flattened."""
    for part in parts:
        if isinstance(part, SomeOf) and part.least == 1:
            yield from _flattened(part.parts)
        else:
            yield part


def _sorted_value(kind: str, atom: str) -> str:
    """Return the sort value of a type and atom."""
    return value_of(kind, atom, f" WHEN 'text' THEN {_start_of(atom)}")


def _start_of(text: str) -> str:
    return f"substr({text}, 1, {MOST_SORTED_CHARACTERS:d})"


def starts_with(value: str, text: str, bind: Callable[[Parameter], str]) -> str:
    """Return the condition that a value begins with a string, as a range, for which an index can be
    used."""
    after = _next_text(text)
    if after is None:
        return f"({value} >= {bind(text)})"
    return f"({value} >= {bind(text)} AND {value} < {bind(after)})"


def _next_text(start: str) -> str | None:
    """Return the first string after all those with this prefix; None if there is none."""
    start = start.rstrip("\U0010ffff")
    if not start:
        return None
    following = ord(start[-1]) + 1
    return start[:-1] + chr(0xE000 if following == 0xD800 else following)  # no surrogates


def joined(conditions: Sequence[str], operator: str) -> str:
    """Join conditions. SQLite limits the depth of an expression, in which each part of a chain is a
    level, and older versions that of brackets: many conditions become a chain of short chains."""
    if len(conditions) == 1:
        return conditions[0]
    if len(conditions) <= _CHAIN:
        return f"({f' {operator} '.join(conditions)})"
    parts = [conditions[at : at + _CHAIN] for at in range(0, len(conditions), _CHAIN)]
    return joined([joined(part, operator) for part in parts], operator)
