"""Open file limit: raised as far as allowed, with a reserve for the server itself, and a log line
when it is exhausted.

A socket is an open file. Without free files the event loops continue: new connections wait or are
dropped.
"""

import asyncio
import errno
import logging
import os
import resource
from collections.abc import Callable
from math import inf
from typing import Any

_LOG = logging.getLogger("manykeys.files")
RESERVED_FILES = 64
"""Files besides the connections: the database and its readers, standard streams, the loop's own,
lookups of breached passwords, and connections that are being refused."""
TELL_EVERY_S = 60.0
_LOOK_S = 1.0
_ACCEPTS = "._start_serving("  # the standard loop retries this after a second
# Errors of accept(2) and open(2) when the process, the system or its memory is exhausted.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def make_room(connections: int, *, is_asked_for: bool = True) -> int:
    """Raise this process's limit of open files as far as needed and allowed; return for how many of
    these connections there is room. If fewer, log a warning with `is_asked_for`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVED_FILES
    if _number(soft) < wanted:
        raised = int(min(wanted, _number(hard)))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError) as reason:  # a system with a limit of its own
            _LOG.debug("the limit of open files stays at %d: %s", soft, reason)
    limit = _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if limit >= wanted:
        return connections
    room = int(max(limit - RESERVED_FILES, 1))
    _LOG.log(
        logging.WARNING if is_asked_for else logging.INFO,
        "limits.connections: %d of %d: the limit of open files is %d (ulimit -n)",
        *(room, connections, limit),
    )
    return room


def _number(limit: int) -> float:
    return inf if limit == resource.RLIM_INFINITY else limit


class Exhaustion:
    """Logs when no file can be opened, at most once a minute, and when that is over."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._told_s = -inf
        self._awaits_end = False

    async def watch(self) -> None:
        """Check periodically; the loop's own errors about it are logged here only."""
        asyncio.get_running_loop().set_exception_handler(self.take_loop_error)
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Try to open a file: uvloop does not report that it cannot."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as reason:
            if reason.errno in _EXHAUSTED:
                self._log_exhaustion(reason)
        else:
            if self._awaits_end:
                self._awaits_end = False
                _LOG.warning("files can be opened again")

    def take_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """See `loop.set_exception_handler`. The loop of the standard library calls it a thousand
        times for one failed accept, and as often if the server has stopped since."""
        reason = context.get("exception")
        if isinstance(reason, OSError) and reason.errno in _EXHAUSTED:
            self._log_exhaustion(reason)
        elif not (isinstance(reason, ValueError) and _ACCEPTS in str(context.get("message"))):
            loop.default_exception_handler(context)

    def _log_exhaustion(self, reason: OSError) -> None:
        now_s = self._clock_s()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s, self._awaits_end = now_s, True
            _LOG.error("too many open files, new connections wait or are dropped: %s", reason)
