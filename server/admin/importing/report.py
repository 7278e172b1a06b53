"""Import report: outcomes counted by kind, and the rejected documents with reasons."""

from collections import Counter
from dataclasses import dataclass
from typing import TextIO

from server.admin.importing.bulk_writer import Ending
from server.admin.importing.formats import Kind
from server.admin.importing.reader import Entry
from server.core.text import printable

MOST_LISTED = 20
"""Number of rejections printed at the end; the errors file contains all of them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rejected line, and the reason."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class Report:
    """Counts outcomes; rejections are also written to `errors` immediately."""

    def __init__(self, errors: TextIO | None = None) -> None:
        self.endings: Counter[tuple[Kind, Ending]] = Counter()
        self.refused: Counter[Kind] = Counter()
        self.bad_lines = 0
        self.left_out = 0
        self.first: list[Refusal] = []
        self._errors = errors

    @property
    def failed(self) -> int:
        """Number of rejected documents and lines."""
        return self.bad_lines + self.refused.total()

    def end(self, entry: Entry, ending: Ending | str) -> None:
        """Count a document, or record why it is rejected."""
        if isinstance(ending, str):
            self.refused[entry.kind] += 1
            name = printable(entry.id)
            self._refuse(entry.line, f"{entry.kind.value} {name}: {printable(ending)}")
        else:
            self.endings[entry.kind, ending] += 1

    def refuse_line(self, line: int, reason: str) -> None:
        """Record an invalid line."""
        self.bad_lines += 1
        self._refuse(line, reason)

    def _refuse(self, line: int, text: str) -> None:
        refusal = Refusal(line, text)
        if len(self.first) < MOST_LISTED:
            self.first.append(refusal)
        if self._errors is not None:
            self._errors.write(f"{refusal}\n")
