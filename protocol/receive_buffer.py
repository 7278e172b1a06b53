"""Bytes received and not yet understood.

Appending and taking from the front are cheap however the bytes were cut, and a search never looks
at a byte twice. The buffer itself sets no bound: whoever waits for more checks the size of what is
held against a named limit.
"""

import re
from math import inf

PIECES_AT_ONCE = 512
"""What is taken out for one connection before others have their turn: a millisecond's work, also of
the smallest frames and chunks."""


class Buffer:
    """A queue of bytes with a memory of how far it was searched. `held` is for a look from outside,
    which costs a third of what asking for the length does."""

    __slots__ = ("_left", "_line_end", "_line_searched", "_scanned", "_searched", "held")

    def __init__(self) -> None:
        self.held = bytearray()
        self._searched = 0  # where take_through goes on
        self._scanned = 0  # where holds_new goes on
        self._line_searched = 0  # where line_end goes on, while there is none
        self._line_end = -1
        self._left: float = inf  # pieces that may be taken in this turn

    def __len__(self) -> int:
        return len(self.held)

    def append(self, data: bytes) -> None:
        """Add received bytes at the end."""
        self.held += data

    def begin_turn(self) -> None:
        """Let no more than `PIECES_AT_ONCE` be taken from now on; before that, any number may."""
        self._left = PIECES_AT_ONCE

    @property
    def is_spent(self) -> bool:
        """Whether the turn is over, though more may be held."""
        return self._left <= 0

    def peek(self, count: int) -> bytes:
        """Give the first `count` bytes, or fewer when fewer are held, and keep them."""
        return bytes(self.held[:count])

    def take(self, count: int) -> bytes:
        """Remove and give the first `count` bytes, or all there are."""
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
        """Remove and give everything."""
        return self.take(len(self.held))

    def take_through(self, mark: bytes) -> bytes | None:
        """Remove and give everything up to and with the first `mark`, or None without one.

        Between two takings all calls must ask for the same mark: only new bytes are searched.
        """
        at = self.held.find(mark, self._searched)
        if at < 0:
            self._searched = max(0, len(self.held) - len(mark) + 1)
            return None
        return self.take(at + len(mark))

    def line_end(self) -> int:
        """Give the place of the first CR LF, or -1; only new bytes are searched."""
        if self._line_end < 0:
            self._line_end = self.held.find(b"\r\n", self._line_searched)
            self._line_searched = max(0, len(self.held) - 1)
        return self._line_end

    def holds_new(self, pattern: re.Pattern[bytes]) -> bool:
        """Tell whether `pattern` occurs in what arrived since the last call or the last taking.

        One byte of overlap lets a pattern look at its neighbours across a cut.
        """
        found = pattern.search(self.held, max(0, self._scanned - 1)) is not None
        self._scanned = len(self.held)
        return found
