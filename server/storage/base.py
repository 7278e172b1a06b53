"""Storage interface of database backends: tables, transactional changes, reads and the journal.

Independent of SQL, permissions and the wire. A write is a list of changes in one transaction; when
`apply` returns it is durable and the journal's listeners have been called. A row is a dict whose
keys are the columns of its table in `storage.tables`; times are milliseconds since 1970.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Protocol

from server.storage.rows import Row, Table, Value

if TYPE_CHECKING:
    from server.storage.search import Found, Search

MOST_COUNTED = 10_000
"""Maximum total that `Storage.latest` counts to."""


class EventKind(Enum):
    """The type of a journal entry; `subject` identifies the object."""

    USER = "user"  # subject: kuid; their document, profiles or state changed, or they were deleted
    RIGHTS = "rights"  # subject: role or profile id
    SESSION = "session"  # subject: hexadecimal token hash of a session that is no longer valid
    REFRESHED = "refreshed"  # subject: hashes of a session and of its successor, its expiry
    SESSIONS = "sessions"  # subject: kuid; all their sessions are no longer valid
    ALL_SESSIONS = "all_sessions"  # subject: hashes of tokens that stay valid; others are revoked
    API_KEY = "api_key"  # subject: hexadecimal token hash of a key that is no longer valid
    UNLOCKED = "unlocked"  # subject: kuid; failed login counters of their accounts are reset
    STRATEGY = "strategy"  # subject: strategy name
    SIGNING_KEYS = "signing_keys"  # subject: kid of a key that was added or retired
    LOST = "lost"  # never stored: entries are missing or unknown, so all caches are invalid


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row. `Exists` if its key or a unique group exists."""

    table: Table
    row: Row = field(repr=False)


Written = tuple[str | int | bytes | None, ...]
"""A row as the values of all columns in their order, with documents as JSON."""


@dataclass(frozen=True, slots=True)
class InsertAll:
    """Add many rows. `Exists` if the key or a unique group of any of them exists."""

    table: Table
    rows: Sequence[Written] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Put:
    """Add a row or replace the one with its key. `Exists` if another key has its unique group."""

    table: Table
    row: Row = field(repr=False)


@dataclass(frozen=True, slots=True)
class Update:
    """Set some columns of the row with this key. `Missing` if there is none, `Exists` as for
    `Insert`."""

    table: Table
    key: Row
    values: Row = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row with this key. `Missing` if there is none."""

    table: Table
    key: Row


@dataclass(frozen=True, slots=True)
class DeleteAll:
    """Delete all rows whose columns equal `where`, if any. `below` adds `column < value`
    conditions, which None never meets; `most` limits the number of rows, 0 for no limit."""

    table: Table
    where: Row
    below: dict[str, int] = field(default_factory=dict)
    most: int = 0


@dataclass(frozen=True, slots=True)
class Absent:
    """Guard: change nothing; `Exists` if there is a row whose columns equal `where`."""

    table: Table
    where: Row


@dataclass(frozen=True, slots=True)
class Present:
    """Guard: change nothing; `Missing` if there is no row whose columns equal `where`."""

    table: Table
    where: Row


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Guard: change nothing; `Missing` unless the row with this key is still as `get` returned it
    (optimistic locking)."""

    table: Table
    row: Row = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoveProfile:
    """Remove a profile from the first `most` users who have it; a user left without a profile gets
    `instead`, which must be another profile."""

    profile_id: str
    instead: str
    most: int


@dataclass(frozen=True, slots=True)
class JournalEvent:
    """Write a journal entry in the same transaction."""

    noted: EventKind
    subject: str


Change = (
    Insert
    | InsertAll
    | Put
    | Update
    | Delete
    | DeleteAll
    | Absent
    | Present
    | Unchanged
    | RemoveProfile
    | JournalEvent
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry; `sequence` grows by at least one and never repeats."""

    sequence: int
    noted: EventKind
    subject: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of rows, and their `total`, counted up to `MOST_COUNTED`."""

    rows: list[Row]
    total: int


Listener = Callable[[Sequence[Entry]], None]


class Exists(Exception):
    """A key or unique group exists already, or an `Absent` guard failed, in `table`."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.value)
        self.table = table


class Missing(Exception):
    """The row to update or delete, or that of a `Present` or `Unchanged` guard, does not exist in
    `table`."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.value)
        self.table = table


class Unavailable(Exception):
    """The database cannot be read or written now (locked, full, removed). Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Description of the database: its name, and the version of the library or server."""

    name: str
    version: str


@dataclass(slots=True)
class Freshness:
    """Until when caches are valid, by `time.monotonic`: up to then no other process can have
    changed their rows without a journal entry delivered here."""

    until_s: float = inf


class Storage(Protocol):
    """A database. Every method may raise `Unavailable`."""

    @property
    def freshness(self) -> Freshness:
        """Until when caches are valid; after that, call `catch_up` first."""

    async def catch_up(self) -> None:
        """Deliver all journal entries that other processes have written so far."""

    async def open(self) -> None:
        """Open or create the database, migrate its schema, start the background threads."""

    async def close(self) -> None:
        """Finish all accepted writes, then close the database."""

    async def get(self, table: Table, **key: Value) -> Row | None:
        """Return the row with this key (or unique group), or None."""

    async def find(self, table: Table, *, limit: int, **where: Value) -> list[Row]:
        """Return at most `limit` rows whose columns equal `where`, in key order."""

    async def find_each(
        self, table: Table, names: tuple[str, ...], keys: Sequence[tuple[Value, ...]]
    ) -> list[Row]:
        """Return the rows with one of these keys, in no order; `names` are the columns of the key
        or of a unique group."""

    async def latest(
        self, table: Table, where: Row, *, least: str, below: str, start: int, limit: int
    ) -> Page:
        """Return at most `limit` rows, after the first `start`, whose columns equal `where` and
        whose key, one string, is in [`least`, `below`); in descending order of the key. The first
        column of `where` should be the most selective."""

    async def find_after(
        self, table: Table, after: Row | None, where: Row, *, limit: int
    ) -> list[Row]:
        """Return what `find` does, from the row after the key `after` on; None for the first."""

    async def exists(self, table: Table, **where: Value) -> bool:
        """Return whether a row's columns equal `where`."""

    async def count(self, table: Table) -> int:
        """Count a table's rows."""

    async def tally(self, table: Table, *columns: str) -> list[Row]:
        """Count the rows of each combination of values of indexed columns, as `rows`."""

    async def search(self, search: "Search") -> "Found":
        """Find a page of the rows that a query matches; see `storage.search`. Raises `TooSlow` or
        `TooLarge`."""

    async def index_fields(self, fields: Iterable[str]) -> None:
        """Index these fields of users for searches, in the background. The number is limited;
        fields beyond the limit are searched without an index."""

    async def apply(self, changes: Iterable[Change]) -> None:
        """Apply all changes in order, in one durable transaction, or none. Raises `Exists` or
        `Missing`."""

    def follow(self, listener: Listener) -> None:
        """Call `listener`, in the event loop, with every journal entry from now on: those of this
        process before `apply` returns, those of other processes within 100 ms."""

    def about(self) -> Backend:
        """Return the name and version of the database."""

    async def check(self) -> bool:
        """Return whether the database can be read and written."""
