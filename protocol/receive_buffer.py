"""Receive buffer: bytes received and not yet parsed.

Appending and removing from the front are cheap however the bytes were cut, and a search never reads
a byte twice. The buffer itself has no limit: the parsers check its size against a named limit.
"""

import re
from math import inf

PIECES_AT_ONCE = 512
"""Items parsed for one connection before others have their turn: a millisecond's work, also of the
smallest frames and chunks."""


class Buffer:
    """A queue of bytes that remembers how far it was searched. `held` is public for reading, which
    costs a third of a call of `len`."""

    __slots__ = ("_left", "_line_end", "_line_searched", "_scanned", "_searched", "held")

    def __init__(self) -> None:
        self.held = bytearray()
        self._searched = 0  # where take_through continues
        self._scanned = 0  # where holds_new continues
        self._line_searched = 0  # where line_end continues, while there is none
        self._line_end = -1
        self._left: float = inf  # pieces that may be taken in this turn

    def __len__(self) -> int:
        return len(self.held)

    def append(self, data: bytes) -> None:
        """Add received bytes at the end."""
        self.held += data

    def begin_turn(self) -> None:
        """Limit the items taken from now on to `PIECES_AT_ONCE`; before, there is no limit."""
        self._left = PIECES_AT_ONCE

    @property
    def is_spent(self) -> bool:
        """Whether the turn is over, though bytes may be left."""
        return self._left <= 0

    def peek(self, count: int) -> bytes:
        """Return the first `count` bytes, or fewer if there are fewer, and keep them."""
        return bytes(self.held[:count])

    def take(self, count: int) -> bytes:
        """Remove and return the first `count` bytes, or all if there are fewer."""
        self._left -= 1
        if count < len(self.held):
            taken = bytes(self.held[:count])
            del self.held[:count]
        else:  # a body of a megabyte is copied once
            taken = bytes(self.held)
            self.held.clear()
        self._searched = self._scanned = self._line_searched = 0
        self._line_end = -1
        return taken

    def take_all(self) -> bytes:
        """Remove and return everything."""
        return self.take(len(self.held))

    def take_through(self, mark: bytes) -> bytes | None:
        """Remove and return everything through the first `mark`, or None without one.

        Until something is taken, all calls must use the same mark: only new bytes are searched.
        """
        at = self.held.find(mark, self._searched)
        if at < 0:
            self._searched = max(0, len(self.held) - len(mark) + 1)
            return None
        return self.take(at + len(mark))

    def line_end(self) -> int:
        """Return the place of the first CR LF, or -1; only new bytes are searched."""
        if self._line_end < 0:
            self._line_end = self.held.find(b"\r\n", self._line_searched)
            self._line_searched = max(0, len(self.held) - 1)
        return self._line_end

    def holds_new(self, pattern: re.Pattern[bytes]) -> bool:
        """Return whether `pattern` occurs in the bytes since the last call or the last removal.

        One byte of overlap allows a pattern to match neighbours across a cut.
        """
        found = pattern.search(self.held, max(0, self._scanned - 1)) is not None
        self._scanned = len(self.held)
        return found
