"""SQLite storage backend: one database file, or a database in memory for tests.

One thread writes, one reads, one searches, one follows the journal; the event loop never waits for
the disk. In memory they share one connection and wait for each other. Independent of permissions
and the wire; the SQL is in `statements` and `search`.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from server.storage.base import Backend, Change, Entry, Freshness, Listener, Page, Unavailable
from server.storage.rows import Row, Table, Value
from server.storage.search import Found, Search
from server.storage.sqlite.connections import FilePlace, Link, MemoryPlace, Place
from server.storage.sqlite.field_index import add_older, find_unready, name_fields
from server.storage.sqlite.journal import Audience, Follower, last_sequence
from server.storage.sqlite.searcher import MOST_S, MOST_WAITING, SEARCH_STATEMENTS, Ask, Searcher
from server.storage.sqlite.statements import (
    Query,
    count_rows,
    find_any,
    find_any_of,
    find_by_key,
    find_latest,
    find_where,
    tally_rows,
    write_steps,
)
from server.storage.sqlite.threads import Job, WorkerThread
from server.storage.sqlite.writer import Write, Writer, probe

MEMORY = ":memory:"
BUSY_TIMEOUT_MS = 2_000
"""Busy timeout: how long a write waits for other processes' writes, which take milliseconds."""
_PAUSE_S = 0.003
"""Pause after each transaction of a bulk writer: waiting writers poll every millisecond."""
_KEYS_AT_ONCE = 250
"""Rows looked up in one query, which other readers wait for: some 2 ms."""

_LOG = logging.getLogger(__name__)


class SqliteStorage:
    """`Storage` in the file `path`. Several processes may use the same file; a bulk writer uses
    more memory, and makes pauses (`is_roomy`)."""

    def __init__(
        self,
        path: str,
        *,
        clock_ms: Callable[[], int],
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        is_roomy: bool = False,
    ) -> None:
        self._in_memory = path == MEMORY
        self._place: Place = (
            MemoryPlace()
            if self._in_memory
            else FilePlace(path, busy_timeout_ms, is_roomy=is_roomy)
        )
        self._busy_timeout_ms = busy_timeout_ms
        self._pause_s = _PAUSE_S if is_roomy else 0.0
        self._clock_ms = clock_ms
        self._audience = Audience()
        self._writer: Writer | None = None
        self._writes: WorkerThread[Write, None] | None = None
        self._reads: WorkerThread[Query, list[Row]] | None = None
        self._searches: WorkerThread[Ask, Found] | None = None
        self.indexing: asyncio.Task[None] | None = None  # adds existing values; tests wait for it
        self._follower: Follower | None = None
        self.freshness = Freshness()

    async def open(self) -> None:
        """Open or create the database. `LocalError` if it belongs to another program, is too new or
        unusable."""
        writing, reading, following = (Link(self._place) for _ in range(3))
        searching = Link(self._place, SEARCH_STATEMENTS)
        links = [writing, reading, searching, following]
        self._audience.seen = await asyncio.to_thread(_open, self._place, links)
        writer = Writer(
            writing,
            self._audience,
            self._clock_ms,
            busy_timeout_ms=self._busy_timeout_ms,
            pause_s=self._pause_s,
        )
        deliver = self._audience.deliver
        self._writer = writer
        self._writes = WorkerThread("sqlite-write", writer.work, deliver, writing.close)
        self._reads = WorkerThread("sqlite-read", Reader(reading).work, deliver, reading.close)
        self._searches = WorkerThread(
            "sqlite-search",
            Searcher(searching).work,
            deliver,
            searching.close,
            most_waiting=MOST_WAITING,
            batch=1,
        )
        self._index()
        if not self._in_memory:
            self._follower = Follower(following, self._audience, self.freshness)

    async def close(self) -> None:
        """Finish all accepted writes, then close the database."""
        if self.indexing is not None:
            self.indexing.cancel()
        for part in (self._writes, self._reads, self._searches, self._follower):
            if part is not None:
                await part.close()
        self._place.close()

    async def get(self, table: Table, **key: Value) -> Row | None:
        """Return the row with this key (or unique group), or None."""
        rows = await self._read(find_by_key(table, key))
        return rows[0] if rows else None

    async def find(self, table: Table, *, limit: int, **where: Value) -> list[Row]:
        """Return at most `limit` rows whose columns equal `where`, in key order."""
        return await self._read(find_where(table, where, limit))

    async def find_each(
        self, table: Table, names: tuple[str, ...], keys: Sequence[tuple[Value, ...]]
    ) -> list[Row]:
        """Return the rows with one of these keys, unordered; see `Storage`."""
        found: list[Row] = []
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            found += await self._read(find_any_of(table, names, keys[at : at + _KEYS_AT_ONCE]))
        return found

    async def latest(
        self, table: Table, where: Row, *, least: str, below: str, start: int, limit: int
    ) -> Page:
        """Return a page of rows in descending order of their key; see `Storage`."""
        page, counted = find_latest(
            table, where, least=least, below=below, start=start, limit=limit
        )
        return Page(await self._read(page), await self._read_number(counted))

    async def tally(self, table: Table, *columns: str) -> list[Row]:
        """Count the rows of each combination of values: a scan of the index of the columns."""
        return await self._read(tally_rows(table, columns))

    async def find_after(
        self, table: Table, after: Row | None, where: Row, *, limit: int
    ) -> list[Row]:
        """Return what `find` does, from the row after the key `after` on; see `Storage`."""
        return await self._read(find_where(table, where, limit, after))

    async def exists(self, table: Table, **where: Value) -> bool:
        """Return whether a row's columns equal `where`."""
        return bool(await self._read(find_any(table, where)))

    async def count(self, table: Table) -> int:
        """Count a table's rows: a scan of its smallest index, some 40 ms for a million."""
        return await self._read_number(count_rows(table))

    async def search(self, search: Search) -> Found:
        """Find a page of the rows that a query matches. `TooSlow` after a few seconds, `TooLarge`
        for a page of many megabytes."""
        if self._searches is None:
            raise Unavailable("the database is not open")
        found = await self._searches.ask(Ask(search, time.monotonic() + MOST_S))
        return Found([], None) if found is None else found

    async def index_fields(self, fields: Iterable[str]) -> None:
        """Index these fields of users for searches, once the existing values are added."""
        await self._write(name_fields(fields))
        self._index()

    def _index(self) -> None:
        """Start the addition of existing values in the background, unless it is running."""
        if self.indexing is None or self.indexing.done():
            self.indexing = asyncio.create_task(self._add_older(), name="index")

    async def _add_older(self) -> None:
        try:
            while unready := await self._read(find_unready()):
                await self._write(add_older(cast(int, unready[0]["number"])))
        except Unavailable as reason:
            _LOG.warning("indexing of user fields failed, continues at the next start: %s", reason)

    async def apply(self, changes: Iterable[Change]) -> None:
        """Apply all changes in order, in one durable transaction, or none.

        Raises `Exists` or `Missing`; ValueError for names and values that the columns don't allow.
        """
        await self._write(write_steps(changes, self._clock_ms()))

    async def catch_up(self) -> None:
        """Deliver all journal entries that other processes have written so far."""
        if self._follower is not None:
            await self._follower.catch_up()

    def follow(self, listener: Listener) -> None:
        """Call `listener`, in the event loop, with every journal entry from now on."""
        self._audience.add(listener)

    def about(self) -> Backend:
        """Return the name and version of the database."""
        return Backend("sqlite", sqlite3.sqlite_version)

    async def check(self) -> bool:
        """Return whether the database can be read and written."""
        failing = self._writer is not None and self._writer.failing
        try:
            # Taking the lock is proof enough while writes succeed; after a failure only a write is.
            await self._write(probe() if failing else ())
            await self._read(find_any(Table.SETTINGS, {}))
        except Unavailable:
            return False
        return True

    async def _read_number(self, query: Query) -> int:
        number = (await self._read(query))[0]["rows"]
        return number if isinstance(number, int) else 0

    async def _read(self, query: Query) -> list[Row]:
        if self._reads is None:
            raise Unavailable("the database is not open")
        return await self._reads.ask(query) or []

    async def _write(self, write: Write) -> None:
        if self._writes is None:
            raise Unavailable("the database is not open")
        await self._writes.ask(write)


class Reader:
    """Runs queries, in the reader thread."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def work(self, jobs: Sequence[Job[Query, list[Row]]]) -> Sequence[Entry]:
        """Set the results."""
        for job in jobs:
            try:
                with self._link.lend() as connection:
                    job.answer = job.order.run(connection)
            except Unavailable as exc:
                job.error = exc
        return ()


def _open(place: Place, links: Sequence[Link]) -> int:
    """Prepare the database and connect; return the journal's last number."""
    place.prepare()
    last = 0
    for link in links:
        with link.lend() as connection:
            last = last_sequence(connection)
    return last
