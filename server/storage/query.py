"""Search queries as trees of plain nodes, the same for every backend (contract/03 §7.7).

A field is a path of names with dots between them; an array on the way stands for its members. A
field's values are texts, numbers, and true and false as the texts "true" and "false"; null is no
value. A number equals every text that reads as it in JSON; beyond 64 bits it is a float. Texts are
compared by their characters, numbers come before texts. Knows nothing of the languages queries are
written in.
"""

import re
from dataclasses import dataclass
from enum import Enum

from server.storage.automata import Item

Bound = str | int | float

MOST_SEARCHED_CHARACTERS = 32_766
"""Of one value, by word or by pattern: the reference's keyword fields end there too."""
MOST_SORTED_CHARACTERS = 256
"""Of one value that is sorted by: some 100,000 rows are sorted in memory, by several values."""

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?", re.A)
_INT64 = 1 << 63


class Position(Enum):
    """Where in a value a text must be."""

    START = "start"
    ANYWHERE = "anywhere"
    END = "end"


@dataclass(frozen=True, slots=True)
class Everything:
    """Every document."""


@dataclass(frozen=True, slots=True)
class IsIn:
    """Documents one of whose values in `field` equals one of `values`."""

    field: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holds:
    """Documents one of whose texts in `field` has this text in it."""

    field: str
    text: str
    position: Position = Position.START


@dataclass(frozen=True, slots=True)
class InWords:
    """Documents one of whose texts in `field` has these words in a row; of the last one its start
    is enough with `last_is_start`. Words as by `words_of`."""

    field: str
    words: tuple[str, ...]
    last_is_start: bool = False


@dataclass(frozen=True, slots=True)
class Fits:
    """Documents one of whose texts in `field` has this pattern from end to end; with `by_word` one
    of its words will do."""

    field: str
    pattern: tuple[Item, ...]
    by_word: bool = False


@dataclass(frozen=True, slots=True)
class InRange:
    """Documents one of whose values in `field` lies between bounds; None is no bound. Bounds that
    are numbers are for numbers, texts for texts and, where they read as numbers, for both."""

    field: str
    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = None


@dataclass(frozen=True, slots=True)
class Has:
    """Documents with a value, or an object that has members, in `field`."""

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
    """Give the words of a text in lower case, as fields that are searched by word are cut."""
    return _WORD.findall(text[:MOST_SEARCHED_CHARACTERS].lower())


def number_of(value: Bound) -> int | float | None:
    """Give the number that a value is or reads as in JSON; None where it is none of ours (infinite,
    "1e999", "0x1")."""
    if isinstance(value, str):
        if _NUMBER.fullmatch(value) is None:
            return None
        value = float(value) if set(value) & set(".eE") else int(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return value
    return float(value) if abs(value) < _LARGEST else None


_LARGEST = 1.7e308  # beyond it Python and databases read different numbers, or infinity
