"""Journal: delivery of entries to listeners, and the thread that reads entries of other processes.

Entries are identified by their sequence number alone. The writer and the follower both read all
entries after the last one delivered; the first one delivers and the other's copies are dropped:
no entry is skipped or delivered twice.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence

from server.storage.base import Entry, EventKind, Freshness, Listener, Unavailable
from server.storage.sqlite.connections import Link

KEEP_MS = 3 * 24 * 3600 * 1000
"""Maximum age of entries; a process that was suspended for longer drops all its caches."""
MOST_STALE_S = 0.2
"""How long caches are valid after the last poll: a process that was paused polls first."""
_POLL_S = 0.05  # half of what `Storage.follow` promises

_KNOWN = frozenset(noted.value for noted in EventKind if noted is not EventKind.LOST)

_log = logging.getLogger(__name__)


class Audience:
    """The listeners and the last entry delivered. Only `seen` may be read off the loop."""

    def __init__(self) -> None:
        self.seen = 0
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Deliver entries to `listener` too, from the next entry on."""
        self._listeners.append(listener)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Deliver new entries. An error in one listener does not affect the others."""
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
    """A thread that polls for other processes' entries; without news that takes microseconds.

    Each poll after which everything is delivered extends `freshness`.
    """

    def __init__(self, link: Link, audience: Audience, freshness: Freshness) -> None:
        self._link = link
        self._audience = audience
        self._freshness = freshness
        freshness.until_s = time.monotonic() + MOST_STALE_S
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Event()
        self._is_stopping = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sqlite-follow", daemon=True)
        self._thread.start()

    async def catch_up(self) -> None:
        """Wait for a poll that begins after this call. `Unavailable` if it fails."""
        done = self._loop.create_future()
        self._waiting.append(done)
        self._wake.set()
        await done

    async def close(self) -> None:
        """Stop the thread."""
        self._is_stopping = True
        self._wake.set()
        await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        version, read, failing = -1, self._audience.seen, False
        try:
            while True:
                self._wake.wait(_POLL_S)
                self._wake.clear()
                if self._is_stopping:
                    break
                waiting, started_s = self._take_waiting(), time.monotonic()
                try:
                    version, entries = self._poll(version)
                except (Unavailable, sqlite3.Error) as exc:
                    if not failing:
                        _log.warning("the journal cannot be read: %s", exc)
                    version, failing = -1, True
                    self._settle(waiting, str(exc))
                    continue
                failing = False
                if entries:
                    read = entries[-1].sequence
                until_s = started_s + MOST_STALE_S
                if entries or waiting or self._audience.seen < read:
                    self._loop.call_soon_threadsafe(self._deliver, entries, until_s, waiting)
                else:
                    self._freshness.until_s = until_s
            self._link.close()
            self._settle(self._take_waiting(), "the database is closed")
            self._loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:
            self._link.close()  # the loop was closed first

    def _take_waiting(self) -> list[asyncio.Future[None]]:
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def _poll(self, known: int) -> tuple[int, list[Entry]]:
        """Return the version of the file, and the new entries unless it is `known`."""
        with self._link.lend() as connection:
            version = int(connection.execute("PRAGMA data_version").fetchall()[0][0])
            if version == known:
                return known, []
            # In one snapshot: an entry written between two reads would be taken for a missing one.
            connection.execute("BEGIN")
            return version, read_entries(connection, self._audience.seen)

    def _deliver(
        self, entries: list[Entry], until_s: float, waiting: list[asyncio.Future[None]]
    ) -> None:
        """Deliver in the event loop, then wake the waiting callers."""
        self._audience.deliver(entries)
        self._freshness.until_s = max(self._freshness.until_s, until_s)
        for done in waiting:
            if not done.done():
                done.set_result(None)

    def _settle(self, waiting: list[asyncio.Future[None]], reason: str) -> None:
        if waiting:
            self._loop.call_soon_threadsafe(_fail, waiting, reason)


def _fail(waiting: list[asyncio.Future[None]], reason: str) -> None:
    for done in waiting:
        if not done.done():
            done.set_exception(Unavailable(reason))


def read_entries(connection: sqlite3.Connection, after: int) -> list[Entry]:
    """Return every entry whose sequence number is above `after`.

    If entries are missing because they were pruned, or a newer program wrote an unknown kind, a
    `EventKind.LOST` replaces them: otherwise numbers have no gaps. Call it within a transaction.
    """
    sql = "SELECT sequence, noted, subject FROM journal WHERE sequence > ? ORDER BY sequence"
    entries: list[Entry] = []
    for sequence, noted, subject in connection.execute(sql, (after,)).fetchall():
        if sequence > after + 1:
            entries.append(Entry(sequence - 1, EventKind.LOST, ""))
        kind = EventKind(noted) if noted in _KNOWN else EventKind.LOST
        entries.append(Entry(sequence, kind, subject))
        after = sequence
    last = last_sequence(connection)
    if last > after:
        entries.append(Entry(last, EventKind.LOST, ""))
    return entries


def last_sequence(connection: sqlite3.Connection) -> int:
    """Return the highest sequence number ever used, 0 before the first entry."""
    sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'journal'), 0)"
    return int(connection.execute(sql).fetchall()[0][0])


def prune(connection: sqlite3.Connection, before_ms: int, most: int) -> None:
    """Delete entries written before a time, among the `most` oldest ones only."""
    connection.execute(
        "DELETE FROM journal WHERE at < ? AND sequence IN"
        " (SELECT sequence FROM journal ORDER BY sequence LIMIT ?)",
        (before_ms, most),
    )
