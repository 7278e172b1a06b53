"""How many logins wait for their next step, and which give way (security checks O1, A6)."""

import sys
from collections.abc import AsyncIterator
from types import FrameType

import pytest

from protocol.errors import ApiError
from server.auth.login import pending
from server.auth.login.pending import PendingLogins, Step, make_state
from server.storage.rows import Row, Table
from server.storage.sqlite.storage import SqliteStorage
from tests.support.clock import Clock

STEP = Step({}, None, {})
TTL_MS = 1000


@pytest.fixture
async def storage() -> AsyncIterator[SqliteStorage]:
    made = SqliteStorage(":memory:", clock_ms=lambda: 0)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def logins(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> PendingLogins:
    """Three for an address, five for all."""
    monkeypatch.setattr(pending, "MOST_OF_ADDRESS", 3)
    monkeypatch.setattr(pending, "MOST_PENDING", 5)
    return PendingLogins(storage, clock_ms=Clock(), ttl_ms=TTL_MS)


async def keep(logins: PendingLogins, address: str) -> str:
    """Keep one, and give its state."""
    state = make_state()
    await logins.keep(state, "steps", STEP, binding=None, address=address)
    return state


async def alive(logins: PendingLogins, states: list[str]) -> list[bool]:
    """Tell which of them may go on."""
    found = []
    for state in states:
        try:
            await logins.find(state, "steps", binding="")
            found.append(True)
        except ApiError:
            found.append(False)
    return found


async def test_the_oldest_of_an_address_gives_way(logins: PendingLogins) -> None:
    """Whoever floods drops his own."""
    mine = [await keep(logins, "192.0.2.1")]
    his = [await keep(logins, "192.0.2.2") for _ in range(4)]
    assert await alive(logins, mine + his) == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::2"), ("::ffff:192.0.2.1", "192.0.2.1"), ("", "no address")],
)
async def test_neighbours_are_one_address(logins: PendingLogins, one: str, other: str) -> None:
    states = [await keep(logins, one), *[await keep(logins, other) for _ in range(3)]]
    assert await alive(logins, states) == [False, True, True, True]


async def test_who_has_most_gives_way_to_others(
    logins: PendingLogins, storage: SqliteStorage
) -> None:
    mine = [await keep(logins, "192.0.2.1")]
    his = [await keep(logins, "192.0.2.2") for _ in range(3)]
    more = [await keep(logins, f"192.0.2.{at}") for at in (3, 4)]
    assert await alive(logins, mine + his + more) == [True, False, True, True, True, True]
    assert await storage.count(Table.ONE_TIME) == 5


def test_a_full_table_costs_no_look_at_all_of_it() -> None:
    """X3: whoever has a network of his own fills it from as many addresses. What is looked at is
    counted, not timed."""
    counts = pending._Counts(10, 2000)
    for at in range(2000):
        assert counts.enter(b"%d" % at, b"step %d" % at, 1000, 0) == []
    looked: list[str] = []

    def look(frame: FrameType, event: str, given: object) -> None:
        looked.append(event)

    sys.setprofile(look)
    dropped = counts.enter(b"new", b"step", 1000, 0)
    sys.setprofile(None)
    assert dropped == [b"step 0"]
    assert len(looked) < 100


def test_a_step_that_is_entered_again_counts_once() -> None:
    """A form that came too early for the store, say, and comes again from another address."""
    counts = pending._Counts(1, 2)
    for key in (b"one", b"one", b"other"):
        assert counts.enter(key, b"step", 1000, 0) == []
    assert counts.enter(b"one", b"next", 1000, 0) == []
    counts.leave(b"step")
    counts.leave(b"next")
    assert not any((counts._of, counts._where, counts._by_count))


async def test_what_is_over_takes_no_room(storage: SqliteStorage, logins: PendingLogins) -> None:
    clock = logins._clock_ms
    assert isinstance(clock, Clock)
    for address in ("192.0.2.1", "192.0.2.2"):
        for _ in range(2):
            await keep(logins, address)
    used = await keep(logins, "192.0.2.3")
    await logins.use_up(await logins.find(used, "steps", binding=""))
    early = await keep(logins, "192.0.2.3")
    clock.now_ms += TTL_MS - 1
    assert await alive(logins, [early]) == [True]
    clock.now_ms += 1
    late = [await keep(logins, "192.0.2.1") for _ in range(3)]
    late += [await keep(logins, "192.0.2.4") for _ in range(2)]
    assert await alive(logins, late) == [True] * 5
    counts = logins._counts
    assert sum(map(len, counts._of.values())) == len(counts._where) == 5


async def test_a_form_does_not_give_tries_back(
    logins: PendingLogins, storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code that is tried while a form comes in counts all the same."""
    state, look = await keep(logins, "192.0.2.1"), logins._find_valid

    async def try_meanwhile(*given: object, **more: object) -> Row:
        row = await look(*given, **more)  # type: ignore[arg-type]
        await logins.count_try(Step({}, None, {}, token_hash=row["token_hash"]))  # type: ignore[arg-type]
        return row

    monkeypatch.setattr(logins, "_find_valid", try_meanwhile)
    with pytest.raises(ApiError):
        await logins.suspend(state, "steps", {"code": "x"}, address="192.0.2.1")
    (row,) = await storage.find(Table.ONE_TIME, limit=2)
    assert row["data"]["tries"] == 1  # type: ignore[index,call-overload]
