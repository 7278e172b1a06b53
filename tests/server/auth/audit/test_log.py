"""The audit trail's own bounds, on a clock of the test's own, and how lines get into transactions
(security check X1)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import error
from server.auth.audit.events import Ending, Event, Line, Source, aside, carry, tell
from server.auth.audit.log import DROPPED, MOST_FROM_ONE, MOST_GATHERED, WINDOW_S, AuditLog, Wanted
from server.auth.audit.storage import MOST_SUBJECTS, AuditedStorage
from server.storage.base import (
    Change,
    DeleteAll,
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Unavailable,
)
from server.storage.rows import Row, Table
from server.storage.sqlite.storage import SqliteStorage

NOW_MS = 1_700_000_000_000
REFUSED = error("plugin.strategy.missing_user", "no")


class Failing(SqliteStorage):
    """A store that can be made to fail."""

    writes_left = 1_000_000
    writes = 0

    async def apply(self, changes: list[Change]) -> None:  # type: ignore[override]
        """See `Storage`."""
        if self.writes_left == 0:
            raise Unavailable("on purpose")
        self.writes_left -= 1
        self.writes += 1
        await super().apply(changes)


@dataclass
class Bench:
    """A store, a clock, and the events the log was told."""

    storage: Failing
    now_ms: int = NOW_MS
    logged: list[Event] = field(default_factory=list)

    def trail(self, **wanted: object) -> AuditLog:
        """Give a trail with these bounds."""
        return AuditLog(
            self.storage, clock_ms=lambda: self.now_ms, on_event=self.logged.append, **wanted
        )

    async def rows(self, **where: str) -> list[Row]:
        """Give what is stored, oldest first."""
        return await self.storage.find(Table.AUDIT, limit=100_000, **where)

    async def counts(self) -> list[tuple[str, int]]:
        """Give the stored reasons with their counts."""
        return [(row["reason"], row["count"]) for row in await self.rows()]

    async def fill(self, kind: str, count: int, ending: Ending = Ending.OK) -> None:
        """Store so many events, a second apart."""
        lines = [Line(self.now_ms + 1000 * n, kind, ending=ending) for n in range(count)]
        changes = [Insert(Table.AUDIT, line.event("").row()) for line in lines]
        await self.storage.apply(changes)
        self.now_ms += 1000 * count


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    storage = Failing(":memory:", clock_ms=lambda: NOW_MS)
    await storage.open()
    yield Bench(storage)
    await storage.close()


def refuse(trail: AuditLog, address: str = "203.0.113.1", reason: str = "wrong password") -> None:
    """Note a refused login."""
    line = trail.begin("auth:login", source=Source(address))
    line.reason = reason
    trail.refuse(line, REFUSED)


async def test_the_same_refusal_again_only_counts(bench: Bench) -> None:
    """A guesser costs two writes a minute; his first try is stored at once."""
    trail = bench.trail()
    for _ in range(500):
        refuse(trail)
        await trail.flush()
    assert await bench.counts() == [("wrong password", 1)]
    bench.now_ms += WINDOW_S * 1000
    await trail.flush()
    assert await bench.counts() == [("wrong password", 500)]
    assert bench.storage.writes == 2
    assert sum(event.count for event in bench.logged) == 500
    refuse(trail)
    await trail.flush()
    assert await bench.counts() == [("wrong password", 500), ("wrong password", 1)]


async def test_what_differs_is_kept_apart(bench: Bench) -> None:
    """Except addresses that one IPv6 customer can choose from."""
    trail = bench.trail()
    for address in ("203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2", ""):
        refuse(trail, address)
    refuse(trail, reason="unknown user")
    await trail.flush(is_last=True)
    assert sorted(row["count"] for row in await bench.rows()) == [1, 1, 1, 1, 2]


async def test_a_flood_is_bounded_and_said(bench: Bench) -> None:
    """However many addresses it comes from: so many events a minute, and one that tells the rest.
    What is dropped is counted, never kept in memory."""
    trail = bench.trail()
    for number in range(MOST_GATHERED + 700):
        refuse(trail, f"10.{number >> 8}.{number & 255}.1")
    await trail.flush()
    assert len(await bench.rows()) == MOST_GATHERED
    assert bench.storage.writes <= 10
    bench.now_ms += WINDOW_S * 1000
    await trail.flush()
    (dropped,) = await bench.rows(kind=DROPPED)
    assert (dropped["count"], dropped["outcome"]) == (700, "refused")
    refuse(trail, "192.0.2.1")
    await trail.flush()
    assert len(await bench.rows()) == MOST_GATHERED + 2


async def test_one_address_leaves_room_for_others(bench: Bench) -> None:
    """Whoever makes up subjects by the thousand hides nobody else's attempts among them."""
    trail = bench.trail()
    for number in range(MOST_GATHERED):
        line = trail.begin("security:deleteUser", subject=str(number), source=Source("192.0.2.1"))
        trail.refuse(line, REFUSED)
    refuse(trail, "192.0.2.2")
    await trail.flush(is_last=True)
    rows = await bench.rows()
    assert len(rows) == MOST_FROM_ONE + 2
    assert len(await bench.rows(address="192.0.2.2")) == 1
    assert rows[-1]["count"] == MOST_GATHERED - MOST_FROM_ONE
    for number in range(MOST_FROM_ONE):
        refuse(trail, "192.0.2.1", reason=str(number))
    await trail.flush(is_last=True)
    assert len(await bench.rows()) == 2 * MOST_FROM_ONE + 2


async def test_events_wait_for_the_store(bench: Bench) -> None:
    """Nothing is lost, and nothing written twice, while the store can't be written."""
    trail = bench.trail()
    refuse(trail)
    bench.storage.writes_left = 0
    for number in range(MOST_GATHERED + 5):
        refuse(trail, f"10.{number >> 8}.{number & 255}.1")
        bench.now_ms += 1000
    for is_last in (False, True):
        with pytest.raises(Unavailable):
            await trail.flush(is_last=is_last)
    bench.storage.writes_left = 1_000_000
    refuse(trail)
    await trail.flush(is_last=True)
    rows = await bench.rows()
    assert sum(row["count"] for row in rows) == MOST_GATHERED + 7
    assert len({row["id"] for row in rows}) == len(rows) == MOST_GATHERED + 1


async def test_what_was_dropped_waits_for_the_store(bench: Bench) -> None:
    trail = bench.trail()
    for number in range(MOST_FROM_ONE + 3):
        refuse(trail, reason=str(number))
    await trail.flush()
    bench.storage.writes_left = 0
    with pytest.raises(Unavailable):
        await trail.flush(is_last=True)
    bench.storage.writes_left = 1
    await trail.flush(is_last=True)
    (dropped,) = await bench.rows(kind=DROPPED)
    assert dropped["count"] == 3
    await trail.flush(is_last=True)
    assert len(await bench.rows(kind=DROPPED)) == 1


async def test_a_refusal_while_others_are_stored_is_counted(bench: Bench) -> None:
    trail = bench.trail()
    refuse(trail)
    flushing = asyncio.create_task(trail.flush(is_last=True))
    await asyncio.sleep(0)
    refuse(trail)
    await flushing
    await trail.flush(is_last=True)
    assert await bench.counts() == [("wrong password", 2)]


async def test_an_error_without_an_id_has_its_status(bench: Bench) -> None:
    trail = bench.trail()
    trail.refuse(trail.begin("auth:login"), REFUSED)
    await trail.flush()
    assert await bench.counts() == [("plugin.strategy.missing_user", 1)]


async def test_what_is_old_goes(bench: Bench) -> None:
    """security.audit.retention; a bounded number at a time."""
    await bench.fill("old", 30)
    bench.now_ms += 60_000
    await bench.fill("young", 3)
    trail = bench.trail(retention_ms=60_000)
    await trail.sweep()
    assert [row["kind"] for row in await bench.rows()] == ["young"] * 3
    await bench.trail(retention_ms=-1).sweep()
    assert len(await bench.rows()) == 3
    await bench.fill("many", 11_000)
    bench.now_ms += 120_000
    await trail.sweep()
    assert len(await bench.rows()) == 1_003
    await trail.sweep()
    assert await bench.rows() == []


async def test_a_flood_pushes_out_itself(bench: Bench) -> None:
    """security.audit.maxEvents: of too many, the oldest of the most frequent kind and outcome go;
    what somebody would like to be forgotten stays, though it is older."""
    await bench.fill("security:createUser", 40)
    await bench.fill("auth:login", 40)
    await bench.fill("auth:login", 920, Ending.REFUSED)
    newest = (await bench.rows())[-1]
    await bench.trail(most_events=100).sweep()
    rows = await bench.rows()
    left = {
        (kind, outcome): sum((row["kind"], row["outcome"]) == (kind, outcome) for row in rows)
        for kind in ("security:createUser", "auth:login")
        for outcome in ("ok", "refused")
    }
    assert len(rows) == 100 and newest in rows
    assert left == {
        ("security:createUser", "ok"): 40,
        ("security:createUser", "refused"): 0,
        ("auth:login", "ok"): 40,
        ("auth:login", "refused"): 20,
    }
    await bench.trail(most_events=1000).sweep()
    assert len(await bench.rows()) == 100


@given(texts=st.lists(st.text(st.characters(codec=None), max_size=600), min_size=6, max_size=6))
def test_any_text_can_be_stored_and_none_is_a_line_of_its_own(texts: list[str]) -> None:
    """X1: control characters, line ends, half characters; every size is bounded."""
    subject, target, actor, address, agent, reason = texts
    line = Line(NOW_MS, "kind", actor, Source(address, agent), reason=reason)
    row = line.event(subject, target).row()
    for value in row.values():
        if isinstance(value, str):
            value.encode()
            assert len(value) <= 512
            assert not set(value) & {chr(code) for code in (*range(32), *range(127, 160))}


def user(kuid: str) -> Insert:
    """Give a change about a user."""
    return Insert(Table.USER_PROFILES, {"kuid": kuid, "profile_id": "p"})


async def kept(bench: Bench, work: Callable[[AuditedStorage], object], **line: object) -> list[Row]:
    """Do some work whose line is carried, and give the stored events."""
    recorder = AuditedStorage(bench.storage, on_event=bench.logged.append)
    await carry(Line(NOW_MS, "work", **line), work(recorder))  # type: ignore[arg-type]
    return await bench.rows()


async def test_a_write_takes_the_line_along(bench: Bench) -> None:
    async def work(storage: AuditedStorage) -> None:
        tell(reason="because", actor="boss")
        await storage.apply([user("ann"), JournalEvent(EventKind.USER, "ann")])
        await storage.apply([DeleteAll(Table.SESSIONS, {"kuid": "ann"})])
        assert bench.storage.writes == 2

    (row,) = await kept(bench, work, subject="somebody")
    assert (row["subject"], row["actor"], row["reason"]) == ("ann", "boss", "because")
    assert [event.id for event in bench.logged] == [row["id"]]


async def test_each_subject_of_a_write_has_its_line(bench: Bench) -> None:
    async def work(storage: AuditedStorage) -> None:
        await storage.apply([user("ann"), user("bob"), JournalEvent(EventKind.RIGHTS, "role")])

    assert sorted(row["subject"] for row in await kept(bench, work)) == ["ann", "bob", "role"]


async def test_a_write_about_too_many_has_one_line(bench: Bench) -> None:
    async def work(storage: AuditedStorage) -> None:
        await storage.apply([user(f"u{number}") for number in range(MOST_SUBJECTS + 1)])

    assert [row["subject"] for row in await kept(bench, work, subject="p")] == ["p"]


async def test_a_write_that_names_nobody_is_part_of_what_was_told(bench: Bench) -> None:
    async def work(storage: AuditedStorage) -> None:
        for change in (user("ann"), Insert(Table.SETTINGS, {"name": "n", "value": 1})):
            await storage.apply([change])

    assert [row["subject"] for row in await kept(bench, work)] == ["ann"]


async def test_writes_of_one_action_at_once_keep_their_subjects(bench: Bench) -> None:
    async def work(storage: AuditedStorage) -> None:
        await asyncio.gather(*(storage.apply([user(f"u{number}")]) for number in range(20)))

    subjects = {row["subject"] for row in await kept(bench, work)}
    assert subjects == {f"u{number}" for number in range(20)}


async def test_a_write_that_fails_leaves_no_line(bench: Bench) -> None:
    """The next attempt brings it."""

    async def work(storage: AuditedStorage) -> None:
        with pytest.raises(Exists):
            await storage.apply([user("ann"), user("ann")])
        assert await bench.rows() == [] and bench.logged == []
        await storage.apply([user("bob")])

    assert [row["subject"] for row in await kept(bench, work)] == ["bob"]


async def test_what_is_done_aside_has_no_line_but_may_tell(bench: Bench) -> None:
    """A hash that is renewed while a login is still being checked is not the login."""

    async def check(storage: AuditedStorage) -> None:
        tell(subject="ann")
        await storage.apply([user("x")])

    async def find_out(storage: AuditedStorage) -> None:
        await check(storage)
        await carry(Line(NOW_MS, "other"), storage.apply([user("thief")]))

    async def work(storage: AuditedStorage) -> None:
        await asyncio.create_task(find_out(storage), context=aside())
        assert [row["kind"] for row in await bench.rows()] == ["other"]
        await storage.apply([Insert(Table.SETTINGS, {"name": "n", "value": 1})])

    assert sorted(row["subject"] for row in await kept(bench, work)) == ["ann", "thief"]


async def test_a_line_does_not_get_to_others(bench: Bench) -> None:
    """Neither after the action nor beside it, nor when nothing is recorded."""
    recorder = AuditedStorage(bench.storage)

    async def work(storage: AuditedStorage) -> None:
        await storage.apply([user("ann")])

    await asyncio.gather(
        recorder.apply([user("beside")]),
        kept(bench, work),
    )
    tell(reason="nobody listens")
    await recorder.apply([user("after")])
    is_off = AuditedStorage(bench.storage, is_on=False)
    await carry(Line(NOW_MS, "work"), is_off.apply([user("off")]))
    assert [row["subject"] for row in await bench.rows()] == ["ann"]


async def test_what_was_told_of_an_action_is_not_noted_again(bench: Bench) -> None:
    trail = bench.trail()
    for told, count in (({"ann"}, 0), (set(), 1)):
        line = trail.begin("work")
        line.told = told
        trail.finish(line)
        await trail.flush()
        assert len(await bench.rows()) == count


NAMES = st.sampled_from(["a", "b"])
LINES = st.lists(st.tuples(st.integers(0, 5), NAMES, NAMES, st.sampled_from(Ending)), max_size=12)
TIMES = st.none() | st.integers(0, 6)
WHERE = st.fixed_dictionaries(
    {}, optional={"subject": NAMES, "kind": NAMES, "outcome": st.sampled_from(["ok", "refused"])}
)


@settings(max_examples=60)
@given(LINES, WHERE, TIMES, TIMES, st.integers(0, 3), st.integers(0, 4))
def test_a_search_finds_what_a_look_at_each_event_finds(
    lines: list, where: dict[str, str], since: int | None, until: int | None, start: int, size: int
) -> None:
    events = [Line(at, kind, ending=ending).event(name) for at, kind, name, ending in lines]
    expected = [
        event.id
        for event in sorted(events, key=lambda event: event.id, reverse=True)
        if all(event.row()[name] == value for name, value in where.items())
        and (since is None or event.at_ms >= since)
        and (until is None or event.at_ms < until)
    ]

    async def search() -> tuple[list[dict[str, object]], int]:
        storage = SqliteStorage(":memory:", clock_ms=lambda: 0)
        await storage.open()
        await storage.apply([Insert(Table.AUDIT, event.row()) for event in events])
        trail = AuditLog(storage, clock_ms=lambda: 0)
        try:
            return await trail.search(Wanted(where, since, until), start=start, size=size)
        finally:
            await storage.close()

    found, total = asyncio.run(search())
    assert [hit["_id"] for hit in found] == expected[start : start + size]
    assert total == len(expected)


async def test_a_search_ends_before_an_event(bench: Bench) -> None:
    """Whatever the id says: it may be of an event that was swept, or of none."""
    await bench.fill("kind", 5)
    trail = bench.trail()
    everything, total = await trail.search(Wanted({}), start=0, size=9)
    ids = [hit["_id"] for hit in everything]
    assert total == 5
    for before, expected in ((ids[1], ids[2:]), (ids[1] + "0", ids[1:]), ("zz", ids), ("", [])):
        found, _ = await trail.search(Wanted({}, before=before), start=0, size=9)
        assert [hit["_id"] for hit in found] == expected
