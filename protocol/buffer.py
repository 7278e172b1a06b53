"""Bytes received and not yet understood.

Appending and taking from the front are cheap however the bytes were cut, and a search never looks at a byte twice.
The buffer itself sets no bound: whoever waits for more checks the size of what is held against his named limit.
"""

import re


class Buffer:
    """A queue of bytes with a memory of how far it was searched."""

    __slots__ = ("_bytes", "_scanned", "_searched")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._searched = 0
        self._scanned = 0

    def __len__(self) -> int:
        return len(self._bytes)

    def append(self, data: bytes) -> None:
        """Add received bytes at the end."""
        self._bytes += data

    def peek(self, count: int) -> bytes:
        """Give the first `count` bytes, or fewer when fewer are held, and keep them."""
        return bytes(self._bytes[:count])

    def take(self, count: int) -> bytes:
        """Remove and give the first `count` bytes; they must be held."""
        taken = bytes(self._bytes[:count])
        del self._bytes[:count]
        self._searched = self._scanned = 0
        return taken

    def find(self, mark: bytes) -> int:
        """Give the place of the first `mark`, or -1."""
        return self._bytes.find(mark)

    def put_back(self, data: bytes) -> None:
        """Hold again, in front, what was just taken."""
        self._bytes[:0] = data
        self._searched = self._scanned = 0

    def take_all(self) -> bytes:
        """Remove and give everything."""
        return self.take(len(self._bytes))

    def take_through(self, mark: bytes) -> bytes | None:
        """Remove and give everything up to and with the first `mark`, or None while it has not arrived."""
        at = self._bytes.find(mark, self._searched)
        if at < 0:
            self._searched = max(0, len(self._bytes) - len(mark) + 1)
            return None
        return self.take(at + len(mark))

    def holds_new(self, pattern: re.Pattern[bytes]) -> bool:
        """Tell whether `pattern` occurs in what arrived since the last call (or the last taking). One byte of
        overlap lets a pattern look at its neighbours across a cut."""
        found = pattern.search(self._bytes, max(0, self._scanned - 1)) is not None
        self._scanned = len(self._bytes)
        return found
