"""Writer thread: many writes in one commit, each of them atomic."""

import sqlite3
import time
from collections.abc import Callable, Sequence

from server.storage.base import Delete, Entry, Exists, Missing, Put, Unavailable
from server.storage.rows import Row, Table
from server.storage.sqlite.connections import Link, begin
from server.storage.sqlite.journal import KEEP_MS, Audience, prune, read_entries
from server.storage.sqlite.statements import Step, write_steps
from server.storage.sqlite.threads import Job

Write = Sequence[Step]
"""The statements of one `apply`."""

_PROBE_NAME = "storage.probe"
_PROBE_BYTES = 16_384  # more than the free space of a page, so that it needs new ones


class Writer:
    """Executes writes, each transaction `pause_s` or more after the one before, so that other
    processes can write. `failing`: the last attempt found the database unavailable."""

    def __init__(
        self,
        link: Link,
        audience: Audience,
        clock_ms: Callable[[], int],
        *,
        busy_timeout_ms: int,
        pause_s: float = 0.0,
    ) -> None:
        self.failing = False
        self._link = link
        self._audience = audience
        self._clock_ms = clock_ms
        self._busy_timeout_ms = busy_timeout_ms
        self._pause_s = pause_s
        self._ended_s = 0.0

    def work(self, jobs: Sequence[Job[Write, None]]) -> Sequence[Entry]:
        """Execute the writes and set their errors; return the undelivered journal entries."""
        if self._pause_s:
            time.sleep(max(0.0, self._ended_s + self._pause_s - time.monotonic()))
        try:
            with self._link.lend() as connection:
                entries = self._commit(connection, jobs)
        except Unavailable as exc:
            self.failing = True
            for job in jobs:
                job.error = Unavailable(str(exc))
            return ()
        finally:
            self._ended_s = time.monotonic()
        self.failing = False
        return entries

    def _commit(
        self, connection: sqlite3.Connection, jobs: Sequence[Job[Write, None]]
    ) -> Sequence[Entry]:
        begin(connection, self._busy_timeout_ms)
        if len(jobs) == 1:
            jobs[0].error = _refusal(connection, jobs[0].order)
        else:
            for job in jobs:
                job.error = _refusal_apart(connection, job.order)
        done = [job.order for job in jobs if job.error is None]
        if not done:
            return ()  # the lender rolls back
        notes = sum(step.table is None for steps in done for step in steps)
        entries: Sequence[Entry] = ()
        if notes:
            # Pruning twice the number of added entries shrinks the journal at a small, steady cost.
            prune(connection, self._clock_ms() - KEEP_MS, 2 * notes)
            # Before the commit, after which nothing may fail. Includes other processes' entries.
            entries = read_entries(connection, self._audience.seen)
        connection.execute("COMMIT")
        return entries


def probe() -> Write:
    """Return a write that needs space in the file and leaves nothing behind."""
    row: Row = {"name": _PROBE_NAME, "value": "-" * _PROBE_BYTES}
    changes = (Put(Table.SETTINGS, row), Delete(Table.SETTINGS, {"name": _PROBE_NAME}))
    return write_steps(changes, at_ms=0)


def _refusal(connection: sqlite3.Connection, steps: Write) -> Exists | Missing | None:
    """Run the statements; return the error that stopped them, with those before it executed."""
    try:
        for step in steps:
            step.run(connection)
    except (Exists, Missing) as refusal:
        return refusal
    return None


def _refusal_apart(connection: sqlite3.Connection, steps: Write) -> Exists | Missing | None:
    """Run all statements, or none of them, without undoing earlier ones of the transaction."""
    if len(steps) == 1:
        return _refusal(connection, steps)  # one statement is atomic by itself
    connection.execute("SAVEPOINT one")
    refusal = _refusal(connection, steps)
    if refusal is not None:
        connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")
    return refusal
