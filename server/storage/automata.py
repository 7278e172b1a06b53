"""Patterns of characters, and whether a text has one: in time linear in the text, for any pattern.

A pattern is a sequence of items, so a set of places in it is one integer, whose bit n stands for
"before item n". Each character of the text moves all places at once. Nothing is ever tried twice,
which is what regular expressions of strangers are dangerous for (CWE-1333). Several patterns are
matched together: they lie behind one another in the same integer.
"""

from bisect import bisect_right
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

    @property
    def weight(self) -> int:
        """The work it makes, whatever the text: one for each character or range it lists."""
        return max(1, len(self.ranges))

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
    """Patterns made ready for many texts. One character costs the same whatever is in the patterns:
    two characters between the same two ends of ranges are the same to every item, so what each
    stretch between ends meets is found out once."""

    def __init__(self, *patterns: Sequence[Item]) -> None:
        items: list[Item | None] = []  # None is the place behind the last item of a pattern
        self._starts = self._ends = 0
        for pattern in patterns:
            self._starts |= 1 << len(items)
            items += pattern
            self._ends |= 1 << len(items)
            items.append(None)
        self._items = tuple(items)
        self._staying = _bits(item is not None and item.times is Times.ANY for item in items)
        self._skipped = _bits(item is not None and item.times is not Times.ONCE for item in items)
        ranges = [each for item in items if item is not None for each in item.ranges]
        edges = {ord(first) for first, _ in ranges} | {ord(last) + 1 for _, last in ranges}
        self._edges = sorted(edges)
        self._met: list[int | None] = [None] * (len(edges) + 1)
        self._known: dict[str, int] = {}

    def fits(self, text: str) -> bool:
        """Tell whether the whole text has one of the patterns."""
        places = self._widened(self._starts)
        for character in text:
            met = places & self._met_by(character)
            moved = (met & ~self._staying) << 1
            places = self._widened(moved | (met & self._staying))
            if not places:
                return False
        return bool(places & self._ends)

    def _widened(self, places: int) -> int:
        """Add the places behind items that need not be there: adding to a run of ones carries
        through to its end."""
        skipped = self._skipped
        return places | (((places & skipped) + skipped) ^ skipped)

    def _met_by(self, character: str) -> int:
        """Give the items a character is one of."""
        met = self._known.get(character)
        if met is None:
            stretch = bisect_right(self._edges, ord(character))
            met = self._met[stretch]
            if met is None:
                met = _bits(item is not None and item.has(character) for item in self._items)
                self._met[stretch] = met
            if len(self._known) < _MOST_KNOWN:
                self._known[character] = met
        return met


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << at for at, is_set in enumerate(flags) if is_set)
