"""Limit of log lines per second and kind, so that a client cannot fill a disk with them.

A kind is a logger, a level and the text of a message before values are put into it, with the status
where a request was answered. Lines beyond the limit are counted; one line per kind and second says
how many there were. Independent of streams and, except for its lock, of threads.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

FACTS = "facts"
"""The attribute of a log record that contains its facts, a dict."""
MAX_KINDS = 1000
"""Maximum number of kinds; further ones are counted as one kind."""
_WINDOW_S = 1.0
_ADDRESS_SHARE = 5  # an address may use one fifth of a kind's lines, so that others are seen, too
_MAX_KIND_CHARACTERS = 128
_REFUSED = 400
_SUCCESS = "ok"

Kind = tuple[str, int, str, int]
_OTHERS: Kind = ("logs", logging.WARNING, "other messages", 0)


@dataclass(slots=True)
class _Window:
    """The lines of one kind since `began_s`, those of each address, and how many were left out."""

    began_s: float
    lines: int = 0
    of_address: dict[str, int] = field(default_factory=dict)
    left_out: int = 0


class LineLimiter:
    """Decides which log records are written, at most `per_second` of a kind; 0 for no limit.

    `left_out` counts the suppressed ones since the start.
    """

    def __init__(self, per_second: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.left_out = 0
        self._per_second = per_second
        self._per_address = max(1, per_second // _ADDRESS_SHARE)
        self._clock_s = clock_s
        self._windows: dict[Kind, _Window] = {}
        self._unreported: dict[Kind, int] = {}
        self._lock = Lock()

    def allows(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written. Successful requests and events always are: the
        operator has chosen to log them."""
        facts = getattr(record, FACTS, {})
        status = facts.get("status", 0)
        if not self._per_second or 0 < status < _REFUSED or facts.get("outcome") == _SUCCESS:
            return True
        with self._lock:
            window = self._window_of(_kind_of(record, status))
            address = facts.get("address")
            is_allowed = window.lines < self._per_second
            if is_allowed and isinstance(address, str):
                used = window.of_address.get(address, 0)
                window.of_address[address] = used + 1
                is_allowed = used < self._per_address
            if is_allowed:
                window.lines += 1
            else:
                window.left_out += 1
                self.left_out += 1
        return is_allowed

    @property
    def has_left_out(self) -> bool:
        """Whether lines were suppressed that no record of `take_summaries` has reported yet."""
        with self._lock:
            return bool(self._unreported) or any(
                window.left_out for window in self._windows.values()
            )

    def take_summaries(self, *, is_last: bool = False) -> list[logging.LogRecord]:
        """Return a record for each kind with suppressed lines in a past second; with `is_last`, in
        the present one too."""
        with self._lock:
            now_s = self._clock_s()
            for kind, window in list(self._windows.items()):
                if is_last or now_s - window.began_s >= _WINDOW_S:
                    self._close(kind)
            unreported, self._unreported = self._unreported, {}
        return [_summary(kind, count) for kind, count in unreported.items()]

    def _window_of(self, kind: Kind) -> _Window:
        window, now_s = self._windows.get(kind), self._clock_s()
        if window is not None and now_s - window.began_s >= _WINDOW_S:
            self._close(kind)
            window = None
        if window is None:
            if len(self._windows) >= MAX_KINDS and kind != _OTHERS:
                return self._window_of(_OTHERS)
            window = self._windows[kind] = _Window(now_s)
        return window

    def _close(self, kind: Kind) -> None:
        left_out = self._windows.pop(kind).left_out
        if left_out:
            self._unreported[kind] = self._unreported.get(kind, 0) + left_out


def _kind_of(record: logging.LogRecord, status: int) -> Kind:
    # asyncio writes addresses into its messages, from their second line on.
    text = str(record.msg).partition("\n")[0][:_MAX_KIND_CHARACTERS]
    return record.name, record.levelno, text, status


def _summary(kind: Kind, count: int) -> logging.LogRecord:
    name, level, message, status = kind
    facts: dict[str, str | int] = {"count": count}
    if status:
        text = f"{count} more refused requests were not logged"
        facts["status"] = status
    else:
        text = f"{count} more lines not logged: {message}"
    record = logging.LogRecord(name, level, "", 0, text, None, None)
    setattr(record, FACTS, facts)
    return record
