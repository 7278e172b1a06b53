"""Audit storage: writes the audit event of an action in the same transaction as its changes.

The first write of an action for each of its subjects includes the event, so that neither is ever
stored without the other. The users, roles and profiles concerned are derived from the write itself.
"""

from collections.abc import Callable, Iterable, Sequence

from server.auth.audit.events import Event, Line, carried
from server.storage.base import (
    Backend,
    Change,
    Delete,
    DeleteAll,
    EventKind,
    Freshness,
    Insert,
    JournalEvent,
    Listener,
    Page,
    Present,
    Put,
    Storage,
    Update,
)
from server.storage.rows import Row, Table, Value
from server.storage.search import Found, Search

MOST_SUBJECTS = 1000


class AuditedStorage:
    """A `Storage` that adds audit events; `on_event` is called with each event that is stored."""

    def __init__(
        self,
        storage: Storage,
        *,
        is_on: bool = True,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._storage = storage
        self._is_on = is_on
        self._on_event = on_event

    async def apply(self, changes: Iterable[Change]) -> None:
        """See `Storage`."""
        line = carried() if self._is_on else None
        if line is None:
            await self._storage.apply(changes)
            return
        applied = list(changes)
        events = [event for event in _events(line, applied) if event.subject not in line.told]
        await self._storage.apply([*applied, *(Insert(Table.AUDIT, one.row()) for one in events)])
        for event in events:
            line.told.add(event.subject)
            if self._on_event is not None:
                self._on_event(event)

    @property
    def freshness(self) -> Freshness:
        """See `Storage`."""
        return self._storage.freshness

    async def catch_up(self) -> None:
        """See `Storage`."""
        await self._storage.catch_up()

    async def open(self) -> None:
        """See `Storage`."""
        await self._storage.open()

    async def close(self) -> None:
        """See `Storage`."""
        await self._storage.close()

    async def get(self, table: Table, **key: Value) -> Row | None:
        """See `Storage`."""
        return await self._storage.get(table, **key)

    async def find(self, table: Table, *, limit: int, **where: Value) -> list[Row]:
        """See `Storage`."""
        return await self._storage.find(table, limit=limit, **where)

    async def find_each(
        self, table: Table, names: tuple[str, ...], keys: Sequence[tuple[Value, ...]]
    ) -> list[Row]:
        """See `Storage`."""
        return await self._storage.find_each(table, names, keys)

    async def find_after(
        self, table: Table, after: Row | None, where: Row, *, limit: int
    ) -> list[Row]:
        """See `Storage`."""
        return await self._storage.find_after(table, after, where, limit=limit)

    async def latest(
        self, table: Table, where: Row, *, least: str, below: str, start: int, limit: int
    ) -> Page:
        """See `Storage`."""
        return await self._storage.latest(
            table, where, least=least, below=below, start=start, limit=limit
        )

    async def tally(self, table: Table, *columns: str) -> list[Row]:
        """See `Storage`."""
        return await self._storage.tally(table, *columns)

    async def exists(self, table: Table, **where: Value) -> bool:
        """See `Storage`."""
        return await self._storage.exists(table, **where)

    async def count(self, table: Table) -> int:
        """See `Storage`."""
        return await self._storage.count(table)

    async def search(self, search: Search) -> Found:
        """See `Storage`."""
        return await self._storage.search(search)

    async def index_fields(self, fields: Iterable[str]) -> None:
        """See `Storage`."""
        await self._storage.index_fields(fields)

    def follow(self, listener: Listener) -> None:
        """See `Storage`."""
        self._storage.follow(listener)

    def about(self) -> Backend:
        """See `Storage`."""
        return self._storage.about()

    async def check(self) -> bool:
        """See `Storage`."""
        return await self._storage.check()


def _events(line: Line, changes: list[Change]) -> list[Event]:
    """Return one event for each subject the changes name; one for the line's own if they name none
    and nothing was recorded yet, if they name too many, or concern every user."""
    named = dict.fromkeys(found for change in changes if (found := _subject_of(change)))
    if not named and line.told:
        return []
    if len(named) > MOST_SUBJECTS or any(_concerns_every_user(change) for change in changes):
        return [line.event(line.subject)]
    if len(named) > 1:
        return [line.event(subject) for subject in named]
    target = next((found for change in changes if (found := _target_of(change))), "")
    subject = next(iter(named), line.subject)
    return [line.event(subject, "" if target == subject else target)]


def _concerns_every_user(change: Change) -> bool:
    return isinstance(change, JournalEvent) and change.noted is EventKind.ALL_SESSIONS


def _subject_of(change: Change) -> str | None:
    found: Value = None
    match change:
        case JournalEvent(EventKind.USER | EventKind.SESSIONS | EventKind.RIGHTS, subject):
            return subject
        case Insert(_, row) | Put(_, row):
            found = row.get("kuid")
        case Update(_, key) | Delete(_, key):
            found = key.get("kuid")
        case Present(_, where) | DeleteAll(_, where):
            found = where.get("kuid")
    return found if isinstance(found, str) else None


def _target_of(change: Change) -> str | None:
    found: Value = None
    match change:
        case JournalEvent(EventKind.SIGNING_KEYS, kid):
            return kid
        case Insert(_, row) | Put(_, row):
            found = row.get("id")
        case Update(_, key) | Delete(_, key):
            found = key.get("id")
    return found if isinstance(found, str) else None
