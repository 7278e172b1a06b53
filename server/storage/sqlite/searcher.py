"""Search thread: each search is one read transaction with a time limit.

Independent of the event loop. A search without an index may take seconds, so searches have their
own thread and connection, and the short reads of requests never wait for them.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.storage.base import Entry, Unavailable
from server.storage.rows import Row
from server.storage.search import Found, Key, Search, TooLarge, TooSlow
from server.storage.sqlite.conditions import Bindings
from server.storage.sqlite.connections import Link
from server.storage.sqlite.field_index import usable_fields
from server.storage.sqlite.migrations import quoted
from server.storage.sqlite.search import Statements, indexes_of
from server.storage.sqlite.statements import Query
from server.storage.sqlite.threads import Job
from server.storage.tables import SHAPES, Kind

MOST_S = 5.0
"""Maximum duration of a search, waiting included."""
MOST_WAITING = 64
"""Maximum number of waiting searches; further ones are refused."""
SEARCH_STATEMENTS = 16
"""Cached statements: those of a search may be of any length, and take megabytes; this is enough for
the statements common to all searches."""
MOST_PAGE_CHARACTERS = 16 * 1024 * 1024
"""Maximum size of JSON in the rows of one page."""
_LOOK_EVERY = 20_000  # of SQLite's steps, some of which take microseconds


@dataclass(frozen=True, slots=True)
class Ask:
    """A search and its deadline, by the clock of the searcher."""

    search: Search
    deadline_s: float


class Searcher:
    """Runs searches, in the search thread."""

    def __init__(self, link: Link, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._clock_s = clock_s

    def work(self, jobs: Sequence[Job[Ask, Found]]) -> Sequence[Entry]:
        """Set the results; `TooSlow`, `TooLarge` and `Unavailable` are errors of one search."""
        for job in jobs:
            try:
                with self._link.lend() as connection:
                    job.answer = self._timed(connection, job.order)
            except (TooSlow, TooLarge, Unavailable) as exc:
                job.error = exc
        return ()

    def _timed(self, connection: sqlite3.Connection, ask: Ask) -> Found:
        def is_over() -> bool:
            return self._clock_s() >= ask.deadline_s

        if is_over():
            raise TooSlow
        connection.set_progress_handler(is_over, _LOOK_EVERY)
        try:
            connection.execute("BEGIN")  # the lender ends it
            found = _answer(connection, ask.search, is_over)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise TooSlow from None
        finally:
            connection.set_progress_handler(None, 0)
        if is_over():  # texts may not have been looked at any more
            raise TooSlow
        return found


def _answer(connection: sqlite3.Connection, search: Search, is_over: Callable[[], bool]) -> Found:
    statements = Statements(search, indexes_of(search.view, usable_fields(connection)))
    statements.bindings.is_over = is_over
    _add_functions(connection, statements.bindings)
    statements.lead(connection)
    run = statements.bindings.run
    places: list[int] = []
    last: tuple[Key, ...] = ()
    for place, *keys in run(connection, statements.page()):
        places.append(place)
        last = tuple(keys)
    rows = _rows(connection, search, places)
    is_rest = bool(places) or not search.start
    if not search.is_counted:
        total = None
    elif is_rest and len(places) < search.size and not search.after:
        total = search.start + len(places)  # the page's end is the end of all
    else:
        total = int(run(connection, statements.count()).fetchone()[0])
    return Found(rows, total, last)


def _add_functions(connection: sqlite3.Connection, bindings: Bindings) -> None:
    connection.create_function("words", 1, bindings.words, deterministic=True)
    connection.create_function("fits", 2, bindings.fits, deterministic=True)


def _rows(connection: sqlite3.Connection, search: Search, places: Sequence[int]) -> list[Row]:
    """Read the rows of the page, after sorting: sorting complete rows would need their size in
    memory."""
    table = search.view.table
    columns = SHAPES[table].columns
    source = f'FROM "{table.value}" WHERE rowid = ?'
    documents = [name for name, kind in columns.items() if kind is Kind.JSON]
    weighing = " + ".join(f'coalesce(length("{name}"), 0)' for name in documents)
    rows: list[Row] = []
    weight = 0
    for place in places:
        weight += connection.execute(f"SELECT {weighing} {source}", (place,)).fetchone()[0]
        if weight > MOST_PAGE_CHARACTERS:
            raise TooLarge
        sql = f"SELECT {quoted(tuple(columns))} {source}"
        rows += Query(sql, (place,), columns).run(connection)
    return rows
