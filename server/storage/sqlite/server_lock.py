"""Lock that tells a server whether other servers use the same database file.

Each server holds a shared lock (flock(2)) on the file for as long as it runs; the kernel drops it
with the process, however that ends. SQLite's own locks are of another kind (fcntl(2)) and are not
touched as long as this descriptor is closed last. Commands take no such lock.
"""

import asyncio
import fcntl
import logging
import os

_LOG = logging.getLogger("manykeys.storage")
_CHECK_S = 60.0


class ServerLock:
    """The lock of one server; to be opened after the database and closed after it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._was_shared = False

    def check(self) -> bool:
        """Return whether another server uses the file; the log says so once, until it has gone."""
        is_shared = False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_shared = True
        except OSError:
            return self._was_shared  # the file system has no such locks
        fcntl.flock(self._fd, fcntl.LOCK_SH)
        if is_shared and not self._was_shared:
            _LOG.warning(
                "another server uses %s: changes and revocations reach it within 200 ms, but rate "
                "limits and counts of failed logins are each server's own",
                self._path,
            )
        elif self._was_shared and not is_shared:
            _LOG.info("no other server uses %s any more", self._path)
        self._was_shared = is_shared
        return is_shared

    async def watch(self) -> None:
        """Check once a minute until cancelled, so that the first server notices the second."""
        while True:
            await asyncio.sleep(_CHECK_S)
            self.check()

    def close(self) -> None:
        """Release the lock."""
        os.close(self._fd)
