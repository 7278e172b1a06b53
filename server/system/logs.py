"""Logging to stderr, plain or JSON, by a separate thread.

Only that thread waits for stderr: above a limit, lines are dropped and counted. The lines of one
kind per second are limited (`log_limiter`). Client data is escaped, so that clients cannot forge
log lines. Tokens, cookies, passwords and query strings must never be passed to this module.
"""

import json
import logging
import re
import threading
import time
from collections import deque
from typing import TextIO

from server.system.log_limiter import FACTS as _FACTS
from server.system.log_limiter import LineLimiter

MOST_WAITING_LINES = 10_000
MOST_LINE_CHARACTERS = 8192
MOST_VALUE_CHARACTERS = 256
_ROOT = logging.getLogger()
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN_VALUE = re.compile(r"[!-~]+")
_SUMMARY_S = 1.0
Facts = dict[str, str | int | float | None]


class PlainLines(logging.Formatter):
    """`time LEVEL logger message key=value …`, and lines that begin with `| ` for a stack trace."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        written = f"{_time(record)} {record.levelname} {record.name} {_escape(record.getMessage())}"
        for name, value in _facts(record).items():
            written += f" {name}={_write_value(value)}"
        for line in _trace(record).splitlines():
            written += f"\n| {_escape(line)}"
        return written


class JsonLines(logging.Formatter):
    """One JSON object in a line, ASCII only: time, level, logger, message, then the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        written: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage(), MOST_LINE_CHARACTERS),
        }
        for name, value in _facts(record).items():
            written[name] = _cut(value, MOST_VALUE_CHARACTERS) if isinstance(value, str) else value
        if trace := _trace(record):
            written["trace"] = _cut(trace, MOST_LINE_CHARACTERS)
        return json.dumps(written).replace("\x7f", "\\u007f")


class Writer(logging.Handler):
    """Queues lines without waiting and writes them from a thread.

    `dropped` counts the lines lost because the queue was full or stderr was closed.
    """

    def __init__(
        self,
        stream: TextIO,
        most_lines: int = MOST_WAITING_LINES,
        limiter: LineLimiter | None = None,
    ) -> None:
        super().__init__()
        self.dropped = 0
        self.limiter = limiter or LineLimiter(0)
        self._told = 0
        self._most = most_lines
        self._stream = stream
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._write_all, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        if not self.limiter.allows(record):
            with self._changed:
                self._changed.notify()
            return
        line = self.format(record)
        with self._changed:
            if len(self._waiting) >= self._most or not self._is_open:
                self.dropped += 1
                return
            self._waiting.append(line)
            self._changed.notify()

    def finish(self, within_s: float = 1.0) -> None:
        """Write the queued lines, as far as stderr accepts them in this time, and stop."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join(within_s)

    def _write_all(self) -> None:
        while (lines := self._take()) is not None:
            try:
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()
            except BlockingIOError:  # another program made stderr non-blocking, and it is full
                self._lose(len(lines))
            except (OSError, ValueError):  # stderr is closed for good
                self._lose(len(lines), for_good=True)

    def _take(self) -> list[str] | None:
        """Wait for lines; None after the last one."""
        with self._changed:
            summaries: list[logging.LogRecord] = []
            while self._is_open and not self._waiting:
                self._changed.wait(_SUMMARY_S if self.limiter.has_left_out else None)
                if summaries := self.limiter.take_summaries():
                    break
            summaries += self.limiter.take_summaries(is_last=not self._is_open)
            if not self._waiting and not summaries:
                return None
            lines = [*self._waiting, *map(self.format, summaries)]
            self._waiting.clear()
            lost, self._told = self.dropped - self._told, self.dropped
        if lost:
            lines.append(self.format(_record_of_loss(lost)))
        return lines

    def _lose(self, lines: int, *, for_good: bool = False) -> None:
        with self._changed:
            self.dropped += lines
            self._is_open = self._is_open and not for_good


def start_logs(form: str, level: str, stream: TextIO, per_second: int = 0) -> Writer:
    """Send the lines of all loggers to the stream, in the format `plain` or `json`, at most
    `per_second` of a kind; 0 for no limit."""
    writer = Writer(stream, limiter=LineLimiter(per_second))
    writer.setFormatter(JsonLines() if form == "json" else PlainLines())
    _ROOT.addHandler(writer)
    _ROOT.setLevel(level.upper())
    return writer


def stop_logs(writer: Writer) -> None:
    """Write the queued lines and detach the writer."""
    _ROOT.removeHandler(writer)
    writer.finish()


def log_facts(logger: logging.Logger, message: str, facts: Facts) -> None:
    """Log a message with facts appended."""
    logger.info(message, extra={_FACTS: facts})


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.created * 1000) % 1000:03d}Z"


def _facts(record: logging.LogRecord) -> Facts:
    facts: Facts = getattr(record, _FACTS, {})
    return facts


def _trace(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _escape(text: str) -> str:
    """Escape control characters, line breaks of all kinds and changes of text direction."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", _cut(text, MOST_LINE_CHARACTERS))


def _write_value(value: str | int | float | None) -> str:
    """Return a value, in quotes if it could be read as more than one."""
    if not isinstance(value, str):
        return "-" if value is None else str(value)
    value = _cut(value, MOST_VALUE_CHARACTERS)
    if _PLAIN_VALUE.fullmatch(value) and not set(value) & set('"=\\'):
        return value
    return _escape(json.dumps(value, ensure_ascii=False))


def _record_of_loss(lines: int) -> logging.LogRecord:
    text = f"{lines} log lines were dropped: stderr is too slow"
    return logging.LogRecord("logs", logging.WARNING, "", 0, text, None, None)
