"""Breached passwords, looked up by their SHA-1: in a range service (like Have I Been Pwned) or in a
file.

A service learns five of the forty digits, never a password, and padding hides how many it found.
Whatever fails, a password counts as not breached: a user must not be kept from changing their
password because another party's service is down.
"""

import asyncio
import hashlib
import http.client
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from protocol.errors import LocalError

_LOG = logging.getLogger("manykeys.breaches")
TIMEOUT_S = 2.0
_MAX_WAITING = 32
_MAX_ANSWER_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 256
_PREFIX_DIGITS, _DIGITS = 5, 40

Lookup = Callable[[str], bool]
"""Returns whether a SHA-1 in upper-case hexadecimal is known; blocks, and raises OSError,
ValueError or HTTPException."""


class BreachCheck:
    """Looks passwords up in one thread of its own; when too many wait, or at the timeout, the
    password is accepted."""

    def __init__(self, lookup: Lookup, *, timeout_s: float = TIMEOUT_S) -> None:
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, "breaches")
        self._is_failing = False

    async def is_breached(self, password: str) -> bool:
        """See `server.auth.passwords.rules.Breaches`."""
        if self._waiting >= _MAX_WAITING:
            return self._fail_open("too many passwords wait to be checked")
        # Not for security: it is the format of such lists.
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        future = asyncio.wrap_future(self._pool.submit(self._lookup, digest))
        self._waiting += 1
        future.add_done_callback(self._release)
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await asyncio.shield(future)
        except (OSError, ValueError, http.client.HTTPException) as reason:
            return self._fail_open(str(reason) or type(reason).__name__)
        finally:
            del future  # its error's traceback keeps this frame
        self._is_failing = False
        return found

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self, future: asyncio.Future[bool]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # retrieved, since the caller may have given up

    def _fail_open(self, reason: str) -> bool:
        """Log once, until it works again, that passwords are accepted unchecked."""
        if not self._is_failing:
            _LOG.warning("passwords are not checked against breaches: %s", reason)
        self._is_failing = True
        return False


def make_breach_check(file: str, url: str) -> BreachCheck | None:
    """Return the check with a file, else with a service, or None where neither is configured."""
    if file:
        return BreachCheck(file_lookup(Path(file)))
    return BreachCheck(range_lookup(url)) if url else None


def range_lookup(url: str) -> Lookup:
    """Look up in a range service: `<url><five digits>` returns lines `<other digits>:<count>`.
    LocalError for a URL that is not valid."""
    try:
        parts = urlsplit(url)
        host, port, path = parts.hostname or "", parts.port, parts.path or "/"
    except ValueError as reason:
        raise LocalError(f"security.passwords.breachUrl: {reason}") from None
    is_safe = parts.scheme == "https"
    connect = http.client.HTTPSConnection if is_safe else http.client.HTTPConnection

    def is_known(digest: str) -> bool:
        connection = connect(host, port, timeout=TIMEOUT_S)
        try:
            headers = {"Add-Padding": "true", "User-Agent": "manykeys"}
            connection.request("GET", path + digest[:_PREFIX_DIGITS], headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"the service answered {answer.status}")
            body = answer.read(_MAX_ANSWER_BYTES)
            if answer.length or len(body) == _MAX_ANSWER_BYTES:
                raise ValueError("the service's answer is incomplete or too long")
        finally:
            connection.close()
        wanted = digest[_PREFIX_DIGITS:]
        lines = body.decode("ascii", "replace").splitlines()
        return any(_is_hit(line, wanted) for line in lines)

    return is_known


def file_lookup(path: Path) -> Lookup:
    """Look up in a sorted file of lines `<forty digits>:<count>`. LocalError if it cannot be
    read."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as reason:
        raise LocalError(f"security.passwords.breachFile: {path}: {reason.strerror}") from None

    def is_known(digest: str) -> bool:
        with path.open("rb") as file:
            return _is_in(file, digest)

    return is_known


def _is_hit(line: str, digits: str) -> bool:
    """Return whether a line has these digits; a count of 0 is padding."""
    found, _, count = line.partition(":")
    return found.upper() == digits and count.strip() != "0"


def _is_in(file: BinaryIO, digest: str) -> bool:
    """Bisect the file until what is left begins with the line of this digest, if there is one."""
    low, high = 0, file.seek(0, 2)
    while low < high:
        middle = (low + high) // 2
        line = _line_after(file, middle)
        if not line or line[:_DIGITS].upper() >= digest:
            high = middle
        else:
            low = middle + 1
    return _is_hit(_line_after(file, low), digest)


def _line_after(file: BinaryIO, offset: int) -> str:
    """Return the first line that begins at or after an offset; empty at the end of the file."""
    file.seek(max(offset - 1, 0))
    if offset:
        file.readline(_MAX_LINE_BYTES)
    return file.readline(_MAX_LINE_BYTES).decode("ascii", "replace").rstrip()
