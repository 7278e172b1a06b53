"""Output of commands: tables, and progress on stderr (a bar on a terminal, elsewhere a line every
few seconds)."""

import os
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TextIO

from protocol.errors import LocalError
from server.admin.operations import Operations
from server.core.text import printable

Work = Callable[[Operations, Namespace], Awaitable[None]]
"""The function of a command, with its flags; `data` is always the database file."""


def write_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with columns as wide as their contents."""
    lines = [tuple(headings), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def check_apart(path: Path, data: str, *others: Path) -> None:
    """Raise LocalError if the output file is one of the input files; the database `data` has its
    latest writes in a second file."""
    place = os.path.realpath(data)
    others += tuple(Path(place + suffix) for suffix in ("", "-wal", "-shm"))
    if path.exists() and any(other.exists() and path.samefile(other) for other in others):
        raise LocalError(f"{path}: expected another file, this one is in use")


_BAR_CHARACTERS = 30
_DRAW_S = 0.1
_LINE_S = 5.0


class Progress:
    """Shows the progress towards `total`; `clock_s` is monotonic."""

    def __init__(self, stream: TextIO, total: int, *, clock_s: Callable[[], float]) -> None:
        self._stream = stream
        self._total = max(total, 1)
        self._clock_s = clock_s
        self._is_terminal = stream.isatty()
        self._began_s = clock_s()
        self._every_s = _DRAW_S if self._is_terminal else _LINE_S
        self._next_s = self._began_s + self._every_s
        self._width = 0

    def show(self, done: int, text: str) -> None:
        """Print the progress `done`, if the last output is long enough ago."""
        now_s = self._clock_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        part = min(done / self._total, 1.0)
        shown = f"{part:4.0%}  {text}, {now_s - self._began_s:.0f} s"
        if self._is_terminal:
            full = round(part * _BAR_CHARACTERS)
            shown = f"[{'#' * full:{_BAR_CHARACTERS}}] {shown}"
            self._draw(shown)
        else:
            self._stream.write(f"{shown}\n")
        self._stream.flush()

    def end(self) -> None:
        """Remove the bar."""
        if self._width:
            self._draw("")
            self._stream.write("\r")
            self._stream.flush()
            self._width = 0

    def _draw(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width))
        self._width = len(text)
