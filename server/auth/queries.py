"""Search queries as trees of plain nodes, and which documents they match (contract/03 §7.7).

Read by `querylanguages`. Values are compared as text: a number and its text are the same, as in a
`keyword` field. No node holds a regular expression, so that evaluating one is linear.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

Scalar = str | int | float | bool
Bound = str | int | float


@dataclass(frozen=True, slots=True)
class Everything:
    """Every document."""


@dataclass(frozen=True, slots=True)
class IsIn:
    """Documents one of whose values in `field` is, as text, among `values`; with `by_word` a word
    of it will do."""

    field: str
    values: frozenset[str]
    by_word: bool = False


@dataclass(frozen=True, slots=True)
class StartsWith:
    """Documents one of whose values in `field` starts with a text; with `by_word` a word of it will
    do."""

    field: str
    start: str
    by_word: bool = False


@dataclass(frozen=True, slots=True)
class InRange:
    """Documents one of whose values in `field` lies between bounds; None is no bound."""

    field: str
    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = None


@dataclass(frozen=True, slots=True)
class Has:
    """Documents with a value in `field`."""

    field: str


@dataclass(frozen=True, slots=True)
class AllOf:
    """Documents that all of these queries match."""

    parts: tuple["Query", ...]


@dataclass(frozen=True, slots=True)
class SomeOf:
    """Documents that at least `least` of these queries match."""

    parts: tuple["Query", ...]
    least: int = 1


@dataclass(frozen=True, slots=True)
class Not:
    """Documents that a query does not match."""

    part: "Query"


Query = Everything | IsIn | StartsWith | InRange | Has | AllOf | SomeOf | Not

_WORD = re.compile(r"\w+")


def matches(query: Query, document: Mapping[str, object]) -> bool:
    """Tell whether a document is one that a query asks for; a dot in a field leads into objects."""
    return _is_met(query, _Values(document))


class _Values:
    """The values of one document by field, each looked up once however often a query names it."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._document = document
        self._found: dict[str, list[Scalar]] = {}
        self._texts: dict[tuple[str, bool], frozenset[str]] = {}

    def of(self, field: str) -> list[Scalar]:
        """Give the values in a field."""
        if field not in self._found:
            self._found[field] = _look_up(self._document, field)
        return self._found[field]

    def texts(self, field: str, by_word: bool) -> frozenset[str]:
        """Give the values in a field as text, and with `by_word` their words beside them."""
        key = (field, by_word)
        if key not in self._texts:
            texts = [as_text(value) for value in self.of(field)]
            words = [word for text in texts for word in words_of(text)] if by_word else []
            self._texts[key] = frozenset((*texts, *words))
        return self._texts[key]


def _is_met(query: Query, values: _Values) -> bool:
    match query:
        case Everything():
            return True
        case IsIn(field, wanted, by_word):
            return not wanted.isdisjoint(values.texts(field, by_word))
        case StartsWith(field, start, by_word):
            return any(text.startswith(start) for text in values.texts(field, by_word))
        case InRange(field):
            return any(_is_between(value, query) for value in values.of(field))
        case Has(field):
            return bool(values.of(field))
        case AllOf(parts):
            return all(_is_met(part, values) for part in parts)
        case SomeOf(parts, least):
            met = (part for part in parts if _is_met(part, values))
            return least <= 0 or any(True for _ in islice(met, least - 1, None))
        case Not(part):
            return not _is_met(part, values)


def _look_up(document: object, path: str) -> list[Scalar]:
    """Give the values a path leads to; every member of an array counts, null never does."""
    if isinstance(document, list):
        return [value for member in document for value in _look_up(member, path)]
    if not path:
        is_value = isinstance(document, str | int | float)
        return [cast(Scalar, document)] if is_value else []
    if not isinstance(document, Mapping):
        return []
    name, _, rest = path.partition(".")
    return _look_up(document.get(name), rest)


def _is_between(value: Scalar, wanted: InRange) -> bool:
    return (
        _stands(value, operator.gt, wanted.gt)
        and _stands(value, operator.ge, wanted.gte)
        and _stands(value, operator.lt, wanted.lt)
        and _stands(value, operator.le, wanted.lte)
    )


def _stands(value: Scalar, relation: Callable[[Any, Any], bool], bound: Bound | None) -> bool:
    """Tell whether a value stands in a relation to a bound: texts by their characters, numbers by
    size, true and false to none."""
    if bound is None:
        return True
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return relation(value, as_text(bound))
    try:
        return relation(value, float(bound))
    except ValueError:
        return False


def as_text(value: Scalar) -> str:
    """Give a value as its JSON has it, a text without its quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def words_of(text: str) -> list[str]:
    """Give the words of a text in lower case, as fields that are searched by word are cut."""
    return _WORD.findall(text.lower())
