"""What a storage backend promises: tables, changes, reads and the journal.

Knows nothing of SQL, of rights or of the wire. A write is a list of changes that happens whole or
not at all; when `apply` returns it is durable and the journal's listener has seen it. A row is a
dict whose keys are the columns that `shapes` gives its table; times are milliseconds since 1970.
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
"""How far `Storage.latest` counts."""


class Noted(Enum):
    """What a journal entry is about; `subject` says which one."""

    USER = "user"  # subject: kuid; his document, profiles or state changed, or he is gone
    RIGHTS = "rights"  # subject: role or profile id
    SESSION = "session"  # subject: hexadecimal token hash of a session that is no longer valid
    REFRESHED = "refreshed"  # subject: hashes of a session and of the one that follows it, its end
    SESSIONS = "sessions"  # subject: kuid; every session of his is no longer valid
    ALL_SESSIONS = "all_sessions"  # subject: hashes of tokens that go on; every other session ended
    API_KEY = "api_key"  # subject: hexadecimal token hash of a key that is no longer valid
    UNLOCKED = "unlocked"  # subject: kuid; failed logins of his accounts are forgotten
    STRATEGY = "strategy"  # subject: strategy name
    SIGNING_KEYS = "signing_keys"  # subject: kid of a key that was added or retired
    LOST = "lost"  # never stored: entries are missing or not understood, so nothing kept is sure


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row. `Exists` if its key or a unique group is taken."""

    table: Table
    row: Row = field(repr=False)


Written = tuple[str | int | bytes | None, ...]
"""A row as the values of all columns in their order, with documents as JSON."""


@dataclass(frozen=True, slots=True)
class InsertAll:
    """Add many rows. `Exists` if the key or a unique group of any of them is taken."""

    table: Table
    rows: Sequence[Written] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Put:
    """Add a row or replace the one with its key. `Exists` if a unique group is taken by another
    key."""

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
    """Remove every row whose columns equal `where`; none is fine. `below` adds `column < bound`
    conditions, which None never meets; `most` stops after that many rows, 0 does not."""

    table: Table
    where: Row
    below: dict[str, int] = field(default_factory=dict)
    most: int = 0


@dataclass(frozen=True, slots=True)
class Absent:
    """Change nothing; `Exists` if a row's columns equal `where`. The guard of "only while there is
    none"."""

    table: Table
    where: Row


@dataclass(frozen=True, slots=True)
class Present:
    """Change nothing; `Missing` if no row's columns equal `where`. The guard of "only if it is
    still there"."""

    table: Table
    where: Row


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Change nothing; `Missing` unless the row with this one's key is still what `get` gave. The
    guard of "only if nobody wrote since I read"."""

    table: Table
    row: Row = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unassign:
    """Take a profile off the first `most` users who have it; one left with none gets `instead`,
    which must be another profile."""

    profile_id: str
    instead: str
    most: int


@dataclass(frozen=True, slots=True)
class Note:
    """Write a journal entry in the same transaction."""

    noted: Noted
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
    | Unassign
    | Note
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry; `sequence` grows by at least one and never repeats."""

    sequence: int
    noted: Noted
    subject: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows out of `total`, which is counted up to `MOST_COUNTED`."""

    rows: list[Row]
    total: int


Listener = Callable[[Sequence[Entry]], None]


class Exists(Exception):
    """A key, a unique group or an `Absent` guard is taken. `table` says where."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.value)
        self.table = table


class Missing(Exception):
    """The row to update or delete, or the one a `Present` or `Unchanged` guard wants, is not there.
    `table` says where."""

    def __init__(self, table: Table) -> None:
        super().__init__(table.value)
        self.table = table


class Unavailable(Exception):
    """The database can't be read or written now (locked, full, gone). Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What keeps the rows, for people: its name, and the version of the library or server."""

    name: str
    version: str


@dataclass(slots=True)
class Freshness:
    """Until when what was kept may be believed, by `time.monotonic`: up to then no other process
    can have changed it without a journal entry delivered here."""

    until_s: float = inf


class Storage(Protocol):
    """A place for rows. Every method may raise `Unavailable`."""

    @property
    def freshness(self) -> Freshness:
        """Until when kept things may be believed; after that, `catch_up` first."""

    async def catch_up(self) -> None:
        """Deliver every journal entry that other processes have written so far."""

    async def open(self) -> None:
        """Open or create the database, bring its schema up to date, start what works in the
        background."""

    async def close(self) -> None:
        """Finish every write already taken, then let go of the database."""

    async def get(self, table: Table, **key: Value) -> Row | None:
        """Give the row with this key (or unique group), or None."""

    async def find(self, table: Table, *, limit: int, **where: Value) -> list[Row]:
        """Give at most `limit` rows whose columns equal `where`, in key order."""

    async def find_each(
        self, table: Table, names: tuple[str, ...], keys: Sequence[tuple[Value, ...]]
    ) -> list[Row]:
        """Give the rows with one of these keys, in no order; `names` are the columns of the key or
        of a unique group."""

    async def latest(
        self, table: Table, where: Row, *, least: str, below: str, start: int, limit: int
    ) -> Page:
        """Give at most `limit` rows, behind the first `start`, whose columns equal `where` and
        whose key, one text, lies from `least` to before `below`; in falling order of the key. The
        first column named should be the one that tells the most."""

    async def find_after(
        self, table: Table, after: Row | None, where: Row, *, limit: int
    ) -> list[Row]:
        """Give what `find` does from the row behind the key `after` on; None is the beginning."""

    async def exists(self, table: Table, **where: Value) -> bool:
        """Tell whether a row's columns equal `where`."""

    async def count(self, table: Table) -> int:
        """Count a table's rows."""

    async def tally(self, table: Table, *columns: str) -> list[Row]:
        """Count the rows of each combination of values of indexed columns, as `rows`."""

    async def search(self, search: "Search") -> "Found":
        """Find a page of the rows that a query matches; see `storage.search`. Raises `TooSlow` or
        `TooLarge`."""

    async def index_fields(self, fields: Iterable[str]) -> None:
        """Make searches of users by these fields of theirs fast, from some time later on. There is
        a bound; those beyond it are searched as before."""

    async def apply(self, changes: Iterable[Change]) -> None:
        """Make all changes in order, in one transaction, durably; or none. Raises `Exists` or
        `Missing`."""

    def follow(self, listener: Listener) -> None:
        """Call `listener`, in the event loop, with every journal entry from now on: our own before
        `apply` returns, those of other processes within 100 ms."""

    def about(self) -> Backend:
        """Tell which database this is."""

    async def check(self) -> bool:
        """Tell whether the database answers a read and could take a write."""
