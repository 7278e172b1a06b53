"""Search query tree, independent of the database backend.

A field is a path of names with dots between them; an array on the path means all its members. The
values of a field are strings, numbers, and true and false as the strings "true" and "false"; null
is not a value. A number equals every string that parses to it as JSON; beyond 64 bits it is a
float. Strings are compared by their characters, numbers sort before strings. Independent of the
query languages.
"""

import re
from dataclasses import dataclass
from enum import Enum

from server.storage.automata import Item

Bound = str | int | float

MOST_SEARCHED_CHARACTERS = 32_766
"""Maximum characters of a value searched by word or pattern, as in Kuzzle's keyword fields."""
MOST_SORTED_CHARACTERS = 256
"""Maximum characters of a sort value: some 100,000 rows are sorted in memory, by several values."""

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?", re.A)
_INT64 = 1 << 63


class Position(Enum):
    """Where in a value a string must occur."""

    START = "start"
    ANYWHERE = "anywhere"
    END = "end"


@dataclass(frozen=True, slots=True)
class Everything:
    """Every document."""


@dataclass(frozen=True, slots=True)
class IsIn:
    """Documents with a value in `field` that equals one of `values`."""

    field: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holds:
    """Documents with a string in `field` that contains this string."""

    field: str
    text: str
    position: Position = Position.START


@dataclass(frozen=True, slots=True)
class InWords:
    """Documents with a string in `field` that contains these words as a phrase; with
    `last_is_start` a prefix of the last word is enough. Words as by `words_of`."""

    field: str
    words: tuple[str, ...]
    last_is_start: bool = False


@dataclass(frozen=True, slots=True)
class Fits:
    """Documents with a string in `field` that matches this pattern completely; with `by_word` one
    matching word is enough."""

    field: str
    pattern: tuple[Item, ...]
    by_word: bool = False


@dataclass(frozen=True, slots=True)
class InRange:
    """Documents with a value in `field` within a range; a None bound is open. Numeric bounds match
    numbers, string bounds match strings and, if they parse as numbers, both."""

    field: str
    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = None


@dataclass(frozen=True, slots=True)
class Has:
    """Documents with a value, or a non-empty object, in `field`."""

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


Leaf = IsIn | Holds | InWords | Fits | InRange | Has
Query = Everything | Leaf | AllOf | SomeOf | Not


def words_of(text: str) -> list[str]:
    """Split a string into lower-case words, as for fields that are searched by word."""
    return _WORD.findall(text[:MOST_SEARCHED_CHARACTERS].lower())


def number_of(value: Bound) -> int | float | None:
    """Return the number that a value is or parses to as JSON; None if unsupported (infinite,
    "1e999", "0x1")."""
    if isinstance(value, str):
        if _NUMBER.fullmatch(value) is None:
            return None
        value = float(value) if set(value) & set(".eE") else int(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return value
    return float(value) if abs(value) < _LARGEST else None


_LARGEST = 1.7e308  # beyond it Python and databases read different numbers, or infinity
