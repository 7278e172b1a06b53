"""Field clauses of the query language (Elasticsearch's), parsed into the leaves of a query tree.

A keyword field is compared as a whole; a `text` field is also searched by word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocol.errors import error
from server.auth.search.patterns import Pattern, plain_text, read_expressions, read_wildcard
from server.auth.search.query_string import Term, read_terms
from server.auth.search.terms import (
    Budget,
    array_of,
    malformed,
    only_member,
    option_of,
    options_of,
    read_least,
    text_of,
)
from server.storage.automata import MANY
from server.storage.query import (
    AllOf,
    Everything,
    Fits,
    Has,
    Holds,
    InRange,
    InWords,
    IsIn,
    Not,
    Position,
    Query,
    SomeOf,
    words_of,
)
from server.storage.search import ID

_BOUNDS = "gt", "gte", "lt", "lte"
_MATCH_OPTIONS = "query", "operator", "minimum_should_match"
_MULTI_OPTIONS = (*_MATCH_OPTIONS, "fields", "type", "lenient", "tie_breaker")
_STRING_OPTIONS = "query", "fields", "default_field", "default_operator", "lenient"
_PHRASES = {"phrase": False, "phrase_prefix": True}
_TYPES = ("best_fields", "most_fields", "cross_fields", "bool_prefix", *_PHRASES)


@dataclass(frozen=True, slots=True)
class Fields:
    """What a mapping says of fields: which are searched by word, and the default fields of clauses
    without any."""

    by_word: frozenset[str] = frozenset()
    listed: tuple[str, ...] = (ID,)


class Clauses:
    """Parses clauses about fields; their size is counted in `budget`."""

    def __init__(self, fields: Fields, budget: Budget) -> None:
        self._fields = fields
        self._budget = budget

    def read(self, name: str, given: object, level: int) -> Query:
        """Parse a clause by its name; ApiError 400 for an unknown one."""
        if name not in _READERS:
            raise error("services.storage.unknown_query_keyword", name)
        return _READERS[name](self, name, given, level)

    def term(self, name: str, given: object, level: int) -> Query:
        """Parse one value of a field."""
        field, value = only_member(name, given)
        return self.is_in(field, [option_of(name, value, "value")])

    def terms(self, name: str, given: object, level: int) -> Query:
        """Parse several values of a field, one of which must match."""
        field, values = only_member(name, given)
        return self.is_in(field, array_of(name, values))

    def is_in(self, name: str, values: Sequence[object]) -> Query:
        """Return the query for one of several values; in a field searched by word a word matches
        too."""
        field = self._budget.field(name)
        self._budget.count(len(values))
        wanted = frozenset(map(self._budget.scalar, values))
        whole = IsIn(field, wanted)
        if field not in self._fields.by_word:
            return whole
        words = [value for value in sorted(wanted) if words_of(value) == [value]]
        return SomeOf((whole, *(InWords(field, (word,)) for word in words)))

    def _match_all(self, name: str, given: object, level: int) -> Query:
        options_of(name, given, ())
        return Everything()

    def _ids(self, name: str, given: object, level: int) -> Query:
        values = options_of(name, given, ("values",)).get("values")
        return self.is_in(ID, [values] if isinstance(values, str) else array_of(name, values))

    def _exists(self, name: str, given: object, level: int) -> Query:
        field = options_of(name, given, ("field",)).get("field")
        return Has(self._budget.field(field))

    def _range(self, name: str, given: object, level: int) -> Query:
        field, value = only_member(name, given)
        bounds = options_of(name, value, _BOUNDS)
        ends = [end for end in _BOUNDS if bounds.get(end) is not None]
        read = {end: self._budget.bound(bounds[end]) for end in ends}
        return InRange(self._budget.field(field), **read)

    def _prefix(self, name: str, given: object, level: int) -> Query:
        field, value = only_member(name, given)
        return self._starts(self._budget.field(field), option_of(name, value, "value"))

    def _starts(self, field: str, given: object) -> Query:
        start = self._budget.scalar(given)
        whole = Holds(field, start)
        if field not in self._fields.by_word or words_of(start) != [start]:
            return whole
        return SomeOf((whole, InWords(field, (start,), last_is_start=True)))

    def _wildcard(self, name: str, given: object, level: int) -> Query:
        field, value = only_member(name, given)
        written = self._budget.scalar(option_of(name, value, "value", "wildcard"))
        return self._fits(self._budget.field(field), read_wildcard(written))

    def _regexp(self, name: str, given: object, level: int) -> Query:
        field, value = only_member(name, given)
        if isinstance(value, dict):
            value = options_of(name, value, ("value", "flags")).get("value")
        patterns = read_expressions(self._budget.scalar(value))
        self._budget.count(len(patterns) - 1)
        field = self._budget.field(field)
        return SomeOf(tuple(self._fits(field, pattern) for pattern in patterns))

    def _fits(self, field: str, pattern: Pattern) -> Query:
        """Return the query for a pattern, in the form that is cheapest to search for."""
        if field in self._fields.by_word:
            self._budget.pattern(pattern)
            return Fits(field, pattern, by_word=True)
        is_open_before, is_open_behind = pattern[:1] == (MANY,), pattern[-1:] == (MANY,)
        text = plain_text(pattern[is_open_before : len(pattern) - is_open_behind])
        if text is None:
            self._budget.pattern(pattern)
            return Fits(field, pattern)
        if is_open_before and is_open_behind:
            return Holds(field, text, Position.ANYWHERE)
        if is_open_before or is_open_behind:
            return Holds(field, text, Position.END if is_open_before else Position.START)
        return IsIn(field, frozenset({text}))

    def _match(self, name: str, given: object, level: int) -> Query:
        field, value = only_member(name, given)
        given = value if isinstance(value, dict) else {"query": value}
        return self._matching(name, field, options_of(name, given, _MATCH_OPTIONS))

    def _matching(self, name: str, field: str, options: dict[str, object]) -> Query:
        operator = read_operator(name, options.get("operator"))
        if field not in self._fields.by_word:
            return self.is_in(field, [options.get("query")])
        words = words_of(self._budget.scalar(options.get("query")))
        self._budget.count(len(words))
        field = self._budget.field(field)
        minimum = len(words)
        if operator == "or":
            minimum = read_least(options.get("minimum_should_match"), len(words), default=1)
        return SomeOf(tuple(InWords(field, (word,)) for word in words), max(minimum, 1))

    def _match_phrase(self, name: str, given: object, level: int) -> Query:
        field, value = only_member(name, given)
        if isinstance(value, dict):
            value = options_of(name, value, ("query", "max_expansions")).get("query")
        return self._phrase(field, value, last_is_start=name.endswith("prefix"))

    def _phrase(self, name: str, given: object, *, last_is_start: bool) -> Query:
        field = self._budget.field(name)
        if field not in self._fields.by_word:
            text = self._budget.scalar(given)
            return Holds(field, text) if last_is_start else IsIn(field, frozenset({text}))
        words = words_of(self._budget.scalar(given))
        self._budget.count(len(words))
        return InWords(field, tuple(words), last_is_start)

    def _multi_match(self, name: str, given: object, level: int) -> Query:
        options = options_of(name, given, _MULTI_OPTIONS)
        kind = options.get("type", "best_fields")
        if kind not in _TYPES:
            raise malformed(f"the type of {name} must be one of: {', '.join(_TYPES)}")
        fields = self._named(name, options.get("fields"))
        if isinstance(kind, str) and kind in _PHRASES:
            wanted, is_start = options.get("query"), _PHRASES[kind]
            parts = [self._phrase(field, wanted, last_is_start=is_start) for field in fields]
        else:
            parts = [self._matching(name, field, options) for field in fields]
        return SomeOf(tuple(parts))

    def _query_string(self, name: str, given: object, level: int) -> Query:
        options = options_of(name, given, _STRING_OPTIONS)
        fields = self._named(name, options.get("fields", options.get("default_field")))
        written = self._budget.weigh(text_of(name, options.get("query")))
        operator = read_operator(name, options.get("default_operator"))
        terms, is_all = read_terms(written, is_all=operator == "and")
        wanted = [self._term_of(term, fields) for term in terms if not term.is_needed]
        needed = [self._term_of(term, fields) for term in terms if term.is_needed]
        if wanted:
            needed.append(
                AllOf(tuple(wanted)) if is_all else SomeOf(tuple(wanted), 0 if needed else 1)
            )
        return AllOf(tuple(needed))

    def _term_of(self, term: Term, fields: Sequence[str]) -> Query:
        """Return the query for one term of a query_string."""
        if term.field:
            fields = [term.field]
        if term.text == "*" and not term.is_phrase:
            part = SomeOf(tuple(map(Has, map(self._budget.field, fields))))
            found: Query = part if term.field else Everything()
        else:
            found = SomeOf(tuple(self._term_in(term, field) for field in fields))
        return Not(found) if term.is_refused else found

    def _term_in(self, term: Term, field: str) -> Query:
        self._budget.count(1)
        if term.is_phrase:
            return self._phrase(field, term.text, last_is_start=False)
        if set(term.text) & set("*?\\"):
            pattern = read_wildcard(self._budget.weigh(term.text))
            return self._fits(self._budget.field(field), pattern)
        return self._matching("query_string", field, {"query": term.text})

    def _named(self, name: str, given: object) -> list[str]:
        """Return the fields a clause names, without their weights; `*` is all of the mapping."""
        given = "*" if given is None else given
        names = [given] if isinstance(given, str) else array_of(name, given)
        self._budget.count(len(names))
        fields: list[str] = []
        for written in names:
            field = text_of(name, written).partition("^")[0]
            if "*" in field:
                start = field.partition("*")[0]
                fields += [listed for listed in self._fields.listed if listed.startswith(start)]
            else:
                fields.append(field)
        self._budget.count(len(fields))
        return fields


def read_operator(name: str, given: object) -> str:
    """Return "and" or "or", which is the default."""
    operator = "or" if given is None else str(given).lower()
    if operator not in ("and", "or"):
        raise malformed(f'the operator of {name} must be "and" or "or"')
    return operator


Reader = Callable[[Clauses, str, object, int], Query]
"""Parses a clause: its name, its value, and its level."""

_READERS: dict[str, Reader] = {
    "exists": Clauses._exists,
    "ids": Clauses._ids,
    "match": Clauses._match,
    "match_all": Clauses._match_all,
    "match_phrase": Clauses._match_phrase,
    "match_phrase_prefix": Clauses._match_phrase,
    "multi_match": Clauses._multi_match,
    "prefix": Clauses._prefix,
    "query_string": Clauses._query_string,
    "range": Clauses._range,
    "regexp": Clauses._regexp,
    "term": Clauses.term,
    "terms": Clauses.terms,
    "wildcard": Clauses._wildcard,
}
