"""The journal: what the listeners were told, and the thread that sees what other processes wrote.

Entries are told apart by their sequence number alone. The writer and the follower both ask for all
entries after the last one delivered, so whoever comes first delivers and the other's copies are
dropped: nothing is skipped and nothing is told twice.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Sequence

from server.storage.base import Entry, Listener, Noted, Unavailable
from server.storage.sqlite_file import Link

KEEP_MS = 3 * 24 * 3600 * 1000
"""Age from which entries are removed; a process that slept longer must restart."""
_POLL_S = 0.05  # half of what `Storage.follow` promises

_KNOWN = frozenset(noted.value for noted in Noted)

_log = logging.getLogger(__name__)


class Audience:
    """The listeners and the last entry they were told. Only `seen` may be read off the loop."""

    def __init__(self) -> None:
        self.seen = 0
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Tell `listener` too, from the next entry on."""
        self._listeners.append(listener)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Tell the entries not told before. A listener's failure doesn't keep them from others."""
        fresh = [entry for entry in entries if entry.sequence > self.seen]
        if not fresh:
            return
        self.seen = fresh[-1].sequence
        for listener in self._listeners:
            try:
                listener(fresh)
            except Exception:
                _log.exception("a journal listener failed")


class Follower:
    """A thread that looks for other processes' entries; without news that takes microseconds."""

    def __init__(self, link: Link, audience: Audience) -> None:
        self._link = link
        self._audience = audience
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sqlite-follow", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """End the thread."""
        self._stop.set()
        await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        version, failing = -1, False
        try:
            while not self._stop.wait(_POLL_S):
                try:
                    version = self._look(version)
                    failing = False
                except (Unavailable, sqlite3.Error) as exc:
                    if not failing:
                        _log.warning("the journal can't be read: %s", exc)
                    version, failing = -1, True
            self._link.close()
            self._loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:
            self._link.close()  # the loop was closed without us

    def _look(self, known: int) -> int:
        with self._link.lend() as connection:
            version = int(connection.execute("PRAGMA data_version").fetchall()[0][0])
            if version == known:
                return known
            entries = read_entries(connection, self._audience.seen)
        if entries:
            self._loop.call_soon_threadsafe(self._audience.deliver, entries)
        return version


def read_entries(connection: sqlite3.Connection, after: int) -> list[Entry]:
    """Give every entry whose sequence number is above `after`.

    A newer program may write kinds that this one doesn't know and can't act on: those are left out.
    """
    sql = "SELECT sequence, noted, subject FROM journal WHERE sequence > ? ORDER BY sequence"
    return [
        Entry(sequence, Noted(noted), subject)
        for sequence, noted, subject in connection.execute(sql, (after,)).fetchall()
        if noted in _KNOWN
    ]


def last_sequence(connection: sqlite3.Connection) -> int:
    """Give the number of the newest entry, 0 if there is none."""
    sql = "SELECT coalesce(max(sequence), 0) FROM journal"
    return int(connection.execute(sql).fetchall()[0][0])


def prune(connection: sqlite3.Connection, before_ms: int, most: int) -> None:
    """Remove entries written before a time, looking at the `most` oldest ones only."""
    connection.execute(
        "DELETE FROM journal WHERE at < ? AND sequence IN"
        " (SELECT sequence FROM journal ORDER BY sequence LIMIT ?)",
        (before_ms, most),
    )
