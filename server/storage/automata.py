"""Pattern matching in linear time, for any pattern (wildcards, regular expressions of searches).

A pattern is a sequence of items, so a set of positions in it is one integer, whose bit n means
"before item n". Each character of the text moves all positions at once. There is no backtracking,
which makes untrusted regular expressions dangerous (CWE-1333). Several patterns are matched
together, in consecutive bits of the same integer.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

MOST_ITEMS = 256
_MAX_KNOWN = 4096


class Times(Enum):
    """How often an item may occur."""

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
        """The cost of the item for any text: one for each character or range it lists."""
        return max(1, len(self.ranges))

    def has(self, character: str) -> bool:
        """Return whether a character is one of these."""
        is_listed = any(first <= character <= last for first, last in self.ranges)
        return is_listed is not self.is_negated


def literal(character: str) -> Item:
    """Return the item for one character, once."""
    return Item(((character, character),))


ONE = Item(is_negated=True)
"""Any one character."""
MANY = Item(is_negated=True, times=Times.ANY)
"""Any characters, or none."""


class Matcher:
    """Compiled patterns, for many texts. Each character costs the same, whatever the patterns: all
    characters between two adjacent ends of ranges match the same items, so the items of each such
    interval are computed once."""

    def __init__(self, *patterns: Sequence[Item]) -> None:
        items: list[Item | None] = []  # None is the position behind the last item of a pattern
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
        """Return whether the whole text matches one of the patterns."""
        places = self._widened(self._starts)
        for character in text:
            met = places & self._met_by(character)
            moved = (met & ~self._staying) << 1
            places = self._widened(moved | (met & self._staying))
            if not places:
                return False
        return bool(places & self._ends)

    def _widened(self, places: int) -> int:
        """Add the positions behind optional items: adding to a run of ones carries through to its
        end."""
        skipped = self._skipped
        return places | (((places & skipped) + skipped) ^ skipped)

    def _met_by(self, character: str) -> int:
        """Return the items that a character matches."""
        met = self._known.get(character)
        if met is None:
            stretch = bisect_right(self._edges, ord(character))
            met = self._met[stretch]
            if met is None:
                met = _bits(item is not None and item.has(character) for item in self._items)
                self._met[stretch] = met
            if len(self._known) < _MAX_KNOWN:
                self._known[character] = met
        return met


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << at for at, is_set in enumerate(flags) if is_set)
