"""Detects other servers on the same database file, with a lock that ends with its process.

Every server holds a shared lock on a small file beside the database; one that gets an exclusive
lock for a moment is alone. The kernel drops the lock of a process however it ends. The database
file itself is not locked this way: closing it would drop the locks of SQLite.
"""

import logging
import os
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from server.storage.sqlite import MEMORY

LOCK_SUFFIX = "-servers"
"""The name of the lock file is the database's with this behind it."""
_LOG = logging.getLogger("manykeys.app")


class ServerLock:
    """Held while a server runs on a database; nothing for one in memory. Where the file cannot be
    locked, other servers are not detected, and the log says so."""

    def __init__(self, data: str) -> None:
        self._data = data
        self._file = -1
        self._is_shared = False
        if data == MEMORY:
            return
        path = os.path.realpath(data) + LOCK_SUFFIX
        try:
            self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as reason:
            _LOG.warning("other servers on %s are not detected: %s", data, reason.strerror)

    def check(self) -> bool:
        """Return whether other servers run on the database; log when that has changed."""
        is_shared = self._file >= 0 and not self._is_alone()
        if is_shared and not self._is_shared:
            _LOG.warning(
                "another server uses %s too: each has its own limits, counters and setup code "
                "(see docs/operating.md)",
                self._data,
            )
        elif self._is_shared and not is_shared:
            _LOG.info("no other server uses %s any more", self._data)
        self._is_shared = is_shared
        return is_shared

    def close(self) -> None:
        """Release the lock."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _is_alone(self) -> bool:
        is_alone = True
        try:
            flock(self._file, LOCK_EX | LOCK_NB)
        except OSError:
            is_alone = False
        with suppress(OSError):  # a server that tries right now has it for a moment: next time
            flock(self._file, LOCK_SH | LOCK_NB)
        return is_alone
