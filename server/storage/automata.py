"""Patterns of characters, and whether a text has one: in time linear in the text, for any pattern.

A pattern is a sequence of items, so a set of places in it is one integer, whose bit n stands for
"before item n". Each character of the text moves all places at once. Nothing is ever tried twice,
which is what regular expressions of strangers are dangerous for (CWE-1333).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

MOST_ITEMS = 256
_MOST_KNOWN = 4096


class Times(Enum):
    """How often an item may be there."""

    ONCE = "once"
    MAYBE = "maybe"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Item:
    """One character of those in `ranges` (first and last), or none of them with `is_negated`."""

    ranges: tuple[tuple[str, str], ...] = ()
    is_negated: bool = False
    times: Times = Times.ONCE

    def has(self, character: str) -> bool:
        """Tell whether a character is one of these."""
        is_listed = any(first <= character <= last for first, last in self.ranges)
        return is_listed is not self.is_negated


def literal(character: str) -> Item:
    """Give the item for one character, once."""
    return Item(((character, character),))


ONE = Item(is_negated=True)
"""Any one character."""
MANY = Item(is_negated=True, times=Times.ANY)
"""Any characters, or none."""


class Matcher:
    """A pattern made ready for many texts."""

    def __init__(self, pattern: Sequence[Item]) -> None:
        self._items = tuple(pattern)
        self._staying = _bits(item.times is Times.ANY for item in self._items)
        self._skipped = _bits(item.times is not Times.ONCE for item in self._items)
        self._end = 1 << len(self._items)
        self._known: dict[str, int] = {}

    def fits(self, text: str) -> bool:
        """Tell whether the whole text has this pattern."""
        places = self._widened(1)
        for character in text:
            met = places & self._met_by(character)
            moved = (met & ~self._staying) << 1
            places = self._widened(moved | (met & self._staying))
            if not places:
                return False
        return bool(places & self._end)

    def _widened(self, places: int) -> int:
        """Add the places behind items that need not be there: adding to a run of ones carries
        through to its end."""
        skipped = self._skipped
        return places | (((places & skipped) + skipped) ^ skipped)

    def _met_by(self, character: str) -> int:
        """Give the items a character is one of."""
        met = self._known.get(character)
        if met is None:
            met = _bits(item.has(character) for item in self._items)
            if len(self._known) < _MOST_KNOWN:
                self._known[character] = met
        return met


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << at for at, is_set in enumerate(flags) if is_set)
