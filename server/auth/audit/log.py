"""Audit log: record events beside the writes of actions, delete old ones, and search them.

Actions that change nothing, above all refusals, have no transaction to go with. Such events are
aggregated: the same one again within `WINDOW_S` only counts, and no more than `MOST_GATHERED`
different ones are kept apart, `MOST_FROM_ONE` from one address; what is beyond is counted as well.
So a flood of refused logins costs the login path nothing and the disk little. A crash may lose the
events of the last second and the counts of the last minute.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from protocol.errors import ApiError
from server.auth.audit.events import NOWHERE, Ending, Event, Line, Source, first_id
from server.core.addresses import address_key
from server.core.durations import NEVER
from server.core.ids import ANONYMOUS_ID
from server.storage.base import DeleteAll, Put, Storage
from server.storage.rows import Row, Table

WINDOW_S = 60
MOST_GATHERED = 1000
MOST_FROM_ONE = 100
BLOCKED = "login:blocked"
"""The kind of the event that an account, or an address, must wait after a failed login."""
DROPPED = "audit:dropped"
"""The kind of the event that contains the number of events that were not kept."""
_WRITTEN_AT_ONCE = 200
_SWEPT_AT_ONCE = 200  # some 15 ms of the writing thread, for which logins wait
_STEPS = 50  # of one sweep: more than can be added until the next
_ENDLESS_ID = "g"  # above every ID, which are hexadecimal


@dataclass(frozen=True, slots=True)
class Wanted:
    """Search criteria: columns that equal these values, times in ms since 1970 from `since` on and
    before `until`, and only events older than the event `before`."""

    where: dict[str, str]
    since_ms: int | None = None
    until_ms: int | None = None
    before: str | None = None


@dataclass(slots=True, eq=False)
class _Gathered:
    """One event and how much of its count is stored."""

    event: Event
    count: int = 1
    stored: int = 0

    def change(self) -> Put:
        """Return the change that stores it as it is now."""
        return Put(Table.AUDIT, replace(self.event, count=self.count).row())


class AuditLog:
    """Records, deletes and finds events. With `retention_ms` -1 they are kept as long as there are
    no more than `most_events`."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock_ms: Callable[[], int],
        is_on: bool = True,
        retention_ms: float = NEVER,
        most_events: int = 500_000,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.is_on = is_on
        self._storage = storage
        self._clock_ms = clock_ms
        self._retention_ms = retention_ms
        self._most_events = most_events
        self.on_event = on_event
        self._gathered: dict[tuple[object, ...], _Gathered] = {}
        self._from_one: Counter[object] = Counter()
        self._window_ends_ms = 0
        self._dropped = 0

    def begin(
        self,
        kind: str,
        *,
        actor: str = ANONYMOUS_ID,
        source: Source = NOWHERE,
        subject: str = "",
        strategy: str = "",
    ) -> Line:
        """Begin the line of an action."""
        return Line(self._clock_ms(), kind, actor, source, subject, strategy)

    def refuse(self, line: Line, refused: ApiError) -> None:
        """Record that an action was refused, with the reason that was reported, or else the error's
        ID."""
        line.ending = Ending.REFUSED
        line.reason = line.reason or refused.id or f"status {refused.status}"
        self._gather(line.event(line.subject))
        for reason in line.slowed:
            self._gather(replace(line, kind=BLOCKED, reason=reason).event(line.subject))

    def finish(self, line: Line) -> None:
        """Record a successful action, unless one of its writes included the line."""
        if not line.told:
            self._gather(line.event(line.subject))

    async def flush(self, *, is_last: bool = False) -> None:
        """Store events that were aggregated and are not stored yet; counts when their window
        ends."""
        is_over = is_last or self._clock_ms() >= self._window_ends_ms
        late = [
            one
            for one in self._gathered.values()
            if not one.stored or (is_over and one.stored < one.count)
        ]
        for at in range(0, len(late), _WRITTEN_AT_ONCE):
            some = late[at : at + _WRITTEN_AT_ONCE]
            counts = [one.count for one in some]
            await self._storage.apply([one.change() for one in some])
            for one, count in zip(some, counts, strict=True):
                self._tell_log(one, count)
                one.stored = count
        if is_over:
            await self._close_window()

    async def sweep(self) -> None:
        """Delete events that are too old or too many, a limited number at a time.

        Of too many, those of the most frequent kind and outcome go first: a flood displaces itself,
        not what it is meant to hide.
        """
        if self._retention_ms != NEVER:
            await self._remove(before_ms=int(self._clock_ms() - self._retention_ms))
        sizes = {
            (row["kind"], row["outcome"]): cast(int, row["rows"])
            for row in await self._storage.tally(Table.AUDIT, "kind", "outcome")
        }
        surplus = sum(sizes.values()) - self._most_events
        for _ in range(_STEPS):
            if surplus <= 0:
                break
            largest = max(sizes, key=lambda key: sizes[key])
            kind, outcome = largest
            rows = await self._storage.find(
                Table.AUDIT, limit=min(surplus, _SWEPT_AT_ONCE), kind=kind, outcome=outcome
            )
            await self._delete(rows)
            surplus -= len(rows)
            sizes[largest] -= len(rows)

    async def search(
        self, wanted: Wanted, *, start: int, size: int
    ) -> tuple[list[dict[str, object]], int]:
        """Return a page of events as the API shows them, newest first, and the total number,
        counted up to a limit."""
        below = _ENDLESS_ID if wanted.until_ms is None else first_id(wanted.until_ms)
        found = await self._storage.latest(
            Table.AUDIT,
            dict(wanted.where),
            least="" if wanted.since_ms is None else first_id(wanted.since_ms),
            below=below if wanted.before is None else min(below, wanted.before),
            start=start,
            limit=size,
        )
        return [_shown(row) for row in found.rows], found.total

    def _gather(self, event: Event) -> None:
        if not self.is_on:
            return
        place = address_key(event.address) or event.address
        key = (
            *(event.kind, event.ending, event.reason, event.subject, event.actor, event.strategy),
            place,
        )
        known = self._gathered.get(key)
        if known is not None:
            known.count += 1
        elif len(self._gathered) >= MOST_GATHERED or self._from_one[place] >= MOST_FROM_ONE:
            self._dropped += 1
        else:
            if not self._gathered:
                self._window_ends_ms = event.at_ms + WINDOW_S * 1000
            self._gathered[key] = _Gathered(event)
            self._from_one[place] += 1

    async def _close_window(self) -> None:
        """Forget what is stored as it is, and record how many events were not kept."""
        self._gathered = {key: one for key, one in self._gathered.items() if one.stored < one.count}
        self._from_one.clear()
        dropped = self._dropped
        if dropped:
            line = self.begin(DROPPED)
            line.ending, line.reason = Ending.REFUSED, "too many different refusals at once"
            last = _Gathered(line.event(""), dropped)
            await self._storage.apply([last.change()])
            self._dropped -= dropped
            self._tell_log(last, dropped)

    def _tell_log(self, one: _Gathered, count: int) -> None:
        if self.on_event is not None:
            self.on_event(replace(one.event, count=count - one.stored))

    async def _remove(self, before_ms: int) -> None:
        for _ in range(_STEPS):
            rows = await self._storage.find(Table.AUDIT, limit=_SWEPT_AT_ONCE)
            old = [row for row in rows if cast(int, row["at"]) < before_ms]
            await self._delete(old)
            if len(old) < _SWEPT_AT_ONCE:
                break

    async def _delete(self, rows: list[Row]) -> None:
        if rows:
            await self._storage.apply([DeleteAll(Table.AUDIT, {"id": row["id"]}) for row in rows])


def _shown(row: Row) -> dict[str, object]:
    source = {
        "at": row["at"],
        "kind": row["kind"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "subject": row["subject"],
        "target": row["target"],
        "actor": row["actor"],
        "address": row["address"],
        "userAgent": row["user_agent"],
        "strategy": row["strategy"],
        "count": row["count"],
    }
    return {"_id": row["id"], "_source": source}
