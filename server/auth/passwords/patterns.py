"""Regular expressions of an operator, matched against passwords of users.

Some patterns take exponential time on some strings (ReDoS), and while Python matches, nothing else
runs in the process. So each match runs in a short-lived process of its own, which is killed at its
timeout.
"""

import asyncio
import logging
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass

from protocol.errors import error

_LOG = logging.getLogger("manykeys.patterns")
_TIMEOUT_S = 2.0
_MAX_PROCESSES, _MAX_WAITING = 2, 32
_RETRY_AFTER_S = 1
_FOUND, _NOT_FOUND = 10, 11  # exit codes that Python does not use by itself
_SEPARATOR = b"\0"
# ASCII as in JavaScript, Kuzzle's language: there \d and \w match no other characters.
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "u": 0, "g": 0, "y": 0}
_BASE = re.ASCII
_DELIMITED = re.compile(r"/(.+)/([a-z]*)", re.DOTALL)
_SEARCH = f"""
import re, sys
flags, pattern, text = sys.stdin.buffer.read().split({_SEPARATOR!r}, 2)
found = re.search(pattern.decode(), text.decode(), int(flags))
sys.exit({_FOUND} if found else {_NOT_FOUND})
"""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression with the flags of `re`."""

    text: str
    flags: int = 0


def read_pattern(written: str) -> Pattern | None:
    """Parse a pattern, bare or as `/pattern/flags`; None for one that is not valid."""
    delimited = _DELIMITED.fullmatch(written)
    text, flag_names = (delimited[1], delimited[2]) if delimited else (written, "")
    if "\0" in text or not _is_unicode(text) or not set(flag_names) <= _FLAGS.keys():
        return None
    flags = int(_BASE)
    for flag_name in flag_names:
        flags |= _FLAGS[flag_name]
    try:
        re.compile(text, flags)
    except (re.error, RecursionError, OverflowError):
        return None
    return Pattern(text, flags)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


class Matcher:
    """Searches strings for patterns, a limited number at a time and each within a time limit."""

    def __init__(self, *, most_s: float = _TIMEOUT_S) -> None:
        self._most_s = most_s
        self._places = asyncio.Semaphore(_MAX_PROCESSES)
        self._waiting = 0

    async def is_found(self, pattern: Pattern, text: str) -> bool:
        """Return whether the string contains a match. ApiError 503 if that was not found out in
        time."""
        if self._waiting >= _MAX_WAITING:
            raise error("api.process.overloaded", retry_after_s=_RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with self._places:
                return await self._search(pattern, text)
        finally:
            self._waiting -= 1

    async def _search(self, pattern: Pattern, text: str) -> bool:
        said = _SEPARATOR.join((b"%d" % pattern.flags, pattern.text.encode(), text.encode()))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", _SEARCH, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            async with asyncio.timeout(self._most_s):
                await process.communicate(said)
        except TimeoutError:
            _LOG.error("matching a password with the pattern %r timed out", pattern.text)
            raise error("api.process.overloaded", retry_after_s=_RETRY_AFTER_S) from None
        finally:
            await _end(process)
        if process.returncode not in (_FOUND, _NOT_FOUND):
            _LOG.error("matching the pattern %r failed with %s", pattern.text, process.returncode)
            raise error("api.process.overloaded", retry_after_s=_RETRY_AFTER_S)
        return process.returncode == _FOUND


async def _end(process: Process) -> None:
    """Make sure that a process has exited."""
    if process.returncode is None:
        process.kill()
        await process.wait()
