"""SQLite connections, to a file or in memory, and their recovery after errors.

Independent of the tables. If the file was removed or replaced, everything is `Unavailable` until
the very same file is back: the server's caches belong to it, so another file needs a restart.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol
from urllib.parse import quote

from protocol.errors import LocalError
from server.storage.base import Unavailable
from server.storage.sqlite.migrations import bring_up_to_date, check_ours

CACHED_STATEMENTS = 256
"""Prepared statements cached per connection; those of requests are few and small."""
_ROOMY_CACHE_KIB = 65_536
_ROOMY_LOG_PAGES = 40_000  # 160 MiB: pages that change often are copied back less often
_TRY_AGAIN_S = 0.001
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_PASSING = _BUSY | {sqlite3.SQLITE_FULL}
"""Errors that do not break the connection."""
_BROKEN = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors that a new connection may recover from. Any other error is a programming error."""

Marks = tuple[tuple[int, int] | None, ...]


class Place(Protocol):
    """The location of a database."""

    lock: AbstractContextManager[object]
    """Held while a connection is used."""

    def prepare(self) -> None:
        """Make or migrate the database. `LocalError` if it cannot be, `Unavailable` if only now."""

    def connect(self, cached_statements: int = CACHED_STATEMENTS) -> sqlite3.Connection:
        """Return a connection. `Unavailable` if the database isn't the one that was prepared."""

    def marks(self) -> Marks:
        """Return the identities of the database's present files."""

    def release(self, connection: sqlite3.Connection) -> None:
        """Release a connection."""

    def close(self) -> None:
        """Close the database, after every connection was released."""


class FilePlace:
    """A database file, its write-ahead log and the log's index. Each thread has a connection. One
    that `is_roomy` keeps more of the file in memory and lets the log grow longer."""

    def __init__(self, path: str, busy_timeout_ms: int, *, is_roomy: bool = False) -> None:
        self.lock: AbstractContextManager[object] = nullcontext()
        self._name = path
        self._path = os.path.realpath(path)
        self._busy_timeout_ms = busy_timeout_ms
        self._is_roomy = is_roomy
        self._main: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make or migrate the database. `LocalError` if it cannot be, `Unavailable` if only now."""
        try:
            _check_log(self._path, self._name)
            _create(self._path)
            _restrict_permissions(self._path)
            self._main = _mark(self._path)
            connection = self.connect()
            try:
                # Before anything changes in a file of another program.
                is_up_to_date = check_ours(connection, self._name)
                if self._turn_on_log(connection) != "wal":
                    raise LocalError(f"{self._name}: the file system does not support WAL")
                if not is_up_to_date:  # otherwise readers would wait for a writer
                    bring_up_to_date(connection, self._name)
            finally:
                connection.close()
        except OSError as exc:
            raise LocalError(f"{self._name} cannot be created: {exc.strerror}") from exc
        except sqlite3.Error as exc:
            if _code(exc) in _BUSY:
                raise Unavailable(f"{self._name}: {exc}") from exc
            cause = _explain_unwritable(self._path) or exc
            raise LocalError(f"{self._name} cannot be used as the database: {cause}") from exc

    def _turn_on_log(self, connection: sqlite3.Connection) -> str:
        """Return the journal's mode. Of several that turn it on at once SQLite refuses all but one
        without a wait, whatever the busy timeout says."""
        return str(insist(connection, "PRAGMA journal_mode = WAL", self._busy_timeout_ms)[0][0])

    def connect(self, cached_statements: int = CACHED_STATEMENTS) -> sqlite3.Connection:
        """Return a connection. `Unavailable` if the file isn't the one that was prepared."""
        if self._main is None or _mark(self._path) != self._main:
            raise Unavailable(f"{self._name} was removed or replaced")
        # mode=rw: SQLite itself would create a missing file readable by all.
        connection = _connect(f"file:{quote(self._path)}?mode=rw", cached_statements)
        connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")
        connection.execute("PRAGMA synchronous = FULL")
        if self._is_roomy:
            connection.execute(f"PRAGMA cache_size = -{_ROOMY_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_ROOMY_LOG_PAGES}")
        return connection

    def marks(self) -> Marks:
        """Return the identities of the database's files; they stay while a connection is open."""
        return tuple(_mark(self._path + suffix) for suffix in ("", "-wal", "-shm"))

    def release(self, connection: sqlite3.Connection) -> None:
        """Close the connection."""
        connection.close()

    def close(self) -> None:
        """Do nothing: the last connection took care of the log."""


class MemoryPlace:
    """A database in memory: one connection, used by one thread at a time."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[object] = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def prepare(self) -> None:
        """Create the tables."""
        self._connection = _connect("file::memory:")
        bring_up_to_date(self._connection, ":memory:")

    def connect(self, cached_statements: int = CACHED_STATEMENTS) -> sqlite3.Connection:
        """Return the one connection, with the same statement cache for all callers."""
        if self._connection is None:
            raise Unavailable("the database is closed")
        return self._connection

    def marks(self) -> Marks:
        """There are no files."""
        return ()

    def release(self, connection: sqlite3.Connection) -> None:
        """Keep the connection: without it the database would be gone."""

    def close(self) -> None:
        """Drop the database."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Link:
    """One thread's connection; reopened after an error that broke it."""

    def __init__(self, place: Place, cached_statements: int = CACHED_STATEMENTS) -> None:
        self._place = place
        self._cached_statements = cached_statements
        self._connection: sqlite3.Connection | None = None
        self._marks: Marks = ()

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection; a transaction that is open at the end is rolled back.

        What SQLite cannot do now comes out as `Unavailable`.
        """
        with self._place.lock:
            try:
                yield self._ready()
            except sqlite3.Error as exc:
                code = _code(exc)
                if code not in _PASSING:
                    self._drop()
                if code in _PASSING | _BROKEN:
                    raise Unavailable(str(exc)) from exc
                raise
            finally:
                self._roll_back()

    def close(self) -> None:
        """Release the connection."""
        with self._place.lock:
            self._drop()

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = self._place.connect(self._cached_statements)
            try:
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # opens the log
            except sqlite3.Error:
                self._place.release(connection)
                raise
            self._connection, self._marks = connection, self._place.marks()
        elif self._place.marks() != self._marks:
            raise Unavailable("the database's files were removed or replaced")
        return self._connection

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # a broken one may fail even at this
                self._place.release(connection)


def begin(connection: sqlite3.Connection, busy_timeout_ms: int) -> None:
    """Begin a write transaction, as soon as no other process writes. SQLite's own busy handler
    polls every 100 ms in the end, and would hardly ever hit the pauses of a permanent writer."""
    connection.execute("PRAGMA busy_timeout = 0")
    insist(connection, "BEGIN IMMEDIATE", busy_timeout_ms)


def insist(
    connection: sqlite3.Connection, sql: str, busy_timeout_ms: int
) -> list[tuple[object, ...]]:
    """Run a statement, with retries up to a timeout while other processes keep the database
    busy."""
    deadline_s = time.monotonic() + busy_timeout_ms / 1000
    while True:
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError as exc:
            if _code(exc) not in _BUSY or time.monotonic() >= deadline_s:
                raise
            time.sleep(_TRY_AGAIN_S)


def _create(path: str) -> None:
    """Create the file for its owner alone; SQLite gives the log and its index the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _check_log(path: str, name: str) -> None:
    """Raise `LocalError` for a log beside an empty or missing database: SQLite would silently
    delete it, with the latest writes. A database of this program is never empty once it has a
    log."""
    log = path + "-wal"
    if _size_bytes(log) and not _size_bytes(path):
        raise LocalError(
            f"{name} is empty or missing, but its log {log} is not: put the database back, or move "
            "the log away to begin with a new one"
        )


def _size_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _explain_unwritable(path: str) -> str | None:
    """Return why a database cannot be written, as SQLite's error does not; None if it can."""
    folder = os.path.dirname(path)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "its file system is mounted read-only"
    for place in (path, folder):  # the log is made in the folder
        if not os.access(place, os.R_OK | os.W_OK):
            return f"this user cannot read and write {place}"
    return None


def _restrict_permissions(path: str) -> None:
    """Remove file permissions of the log and its index beyond those of the database: they have the
    mode that the database had when they were created."""
    allowed = os.stat(path).st_mode & 0o777
    for beside in (path + suffix for suffix in ("-wal", "-shm")):
        with suppress(OSError):  # it does not exist, or belongs to another user
            mode = os.stat(beside).st_mode & 0o777
            if mode & ~allowed:
                os.chmod(beside, mode & allowed)


def _connect(uri: str, cached_statements: int = CACHED_STATEMENTS) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=cached_statements,
    )
    # Sorting must not leave rows in a temporary file that other users may read.
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _mark(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _code(exc: sqlite3.Error) -> int:
    """Return the primary result code; 0 for errors that are the Python module's own."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF
