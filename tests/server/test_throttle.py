"""Slowing down guessers, on a clock of the test's own (design §4; security checks A4 to A6)."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ApiError
from server.auth.throttle import (
    ADDRESS_FACTOR,
    FORGIVE_S,
    LONGEST_WAIT_S,
    MOST_WAITING,
    Attempt,
    Throttle,
    address_key,
)

ALICE = "local\0alice"
HOME = "203.0.113.7"


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def retry_after(throttle: Throttle, account: str | None = ALICE, address: str = "") -> int:
    """Give how long an attempt would have to wait, 0 if it may begin; it changes nothing."""
    try:
        (await throttle.begin(account, address)).cancelled()
    except ApiError as refused:
        assert (refused.id, refused.status) == ("api.process.too_many_logins_requests", 429)
        assert refused.retry_after_s is not None and refused.retry_after_s >= 1
        return refused.retry_after_s
    return 0


async def fail(throttle: Throttle, account: str | None = ALICE, address: str = "") -> None:
    """Make an attempt that fails."""
    (await throttle.begin(account, address)).failed()


async def test_waits_double() -> None:
    """1 s after the last allowed failure, twice as much after each further one, up to a bound."""
    clock = Clock()
    throttle = Throttle(3, clock_s=clock)
    for _ in range(2):
        await fail(throttle)
        assert await retry_after(throttle) == 0
    waits = []
    for _ in range(13):
        await fail(throttle)
        waits.append(await retry_after(throttle))
        clock.now_s += waits[-1] - 0.001
        assert await retry_after(throttle) == 1
        clock.now_s += 0.001
        assert await retry_after(throttle) == 0
    assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert max(waits) <= LONGEST_WAIT_S
    assert await retry_after(throttle, "local\0bob") == 0


async def test_refused_attempts_do_not_count() -> None:
    """Who is refused learns nothing, and makes nothing worse (security check A5)."""
    clock = Clock()
    throttle = Throttle(1, clock_s=clock)
    await fail(throttle)
    for _ in range(50):
        assert await retry_after(throttle) == 1
    clock.now_s += 1
    assert await retry_after(throttle) == 0


async def test_a_success_clears_the_account_only() -> None:
    """One's own account is no way to go on guessing from an address (security check A6)."""
    clock = Clock()
    throttle = Throttle(2, clock_s=clock)
    await fail(throttle, address=HOME)
    (await throttle.begin(ALICE, HOME)).succeeded()
    await fail(throttle)
    assert await retry_after(throttle) == 0
    for number in range(2 * ADDRESS_FACTOR - 2):
        (await throttle.begin(ALICE, HOME)).succeeded()
        await fail(throttle, f"local\0{number}", HOME)
        assert await retry_after(throttle, "local\0other", HOME) == 0
    await fail(throttle, "local\0last", HOME)
    assert await retry_after(throttle, "local\0other", HOME) == 1
    assert await retry_after(throttle, "local\0other", "203.0.113.8") == 0


async def test_many_addresses_on_one_account() -> None:
    """Security check A6: distributed guessing is limited by the account."""
    throttle = Throttle(5, clock_s=Clock())
    for number in range(5):
        await fail(throttle, address=f"198.51.100.{number}")
    assert await retry_after(throttle, address="198.51.100.99") == 1


async def test_without_an_account_the_address_counts() -> None:
    """A strategy that names none, and the other way round a peer without an address."""
    throttle = Throttle(1, clock_s=Clock())
    for _ in range(ADDRESS_FACTOR):
        await fail(throttle, None, HOME)
    assert await retry_after(throttle, None, HOME) == 1
    for _ in range(100):
        await fail(throttle, None, "")
    assert await retry_after(throttle, None, "") == 0


async def test_off() -> None:
    """`limits.failedLogins` 0."""
    throttle = Throttle(0, clock_s=Clock())
    for _ in range(1000):
        await fail(throttle, address=HOME)
    assert await retry_after(throttle, address=HOME) == 0
    assert len(throttle) == 0


async def test_parallel_attempts_do_not_slip_through() -> None:
    """Those in progress count as failed: of many at once no more begin than may fail."""
    throttle = Throttle(4, clock_s=Clock())
    begun: list[Attempt] = []
    refused: list[int | None] = []

    async def one() -> None:
        try:
            begun.append(await throttle.begin(ALICE, ""))
        except ApiError as reason:
            refused.append(reason.retry_after_s)

    tasks = [asyncio.create_task(one()) for _ in range(4 + MOST_WAITING + 9)]
    await settle()
    assert (len(begun), len(refused)) == (4, 9)
    for number in range(4):
        begun[number].failed()
        await settle()
        assert len(begun) == 4
    await asyncio.gather(*tasks)
    assert (len(begun), len(refused)) == (4, MOST_WAITING + 9)


async def test_parallel_attempts_that_succeed_take_turns() -> None:
    """A crowd that logs in to one account is not refused."""
    throttle = Throttle(2, clock_s=Clock())
    in_progress = most = 0

    async def one() -> None:
        nonlocal in_progress, most
        attempt = await throttle.begin(ALICE, "")
        in_progress += 1
        most = max(most, in_progress)
        await asyncio.sleep(0)
        in_progress -= 1
        attempt.succeeded()

    await asyncio.gather(*(one() for _ in range(40)))
    assert most == 2
    assert len(throttle) == 0


async def test_after_the_limit_one_attempt_at_a_time() -> None:
    """When the wait is over, a burst gets one guess, not all of them."""
    clock = Clock()
    throttle = Throttle(2, clock_s=clock)
    await fail(throttle)
    await fail(throttle)
    clock.now_s += 1
    first = await throttle.begin(ALICE, "")
    second = asyncio.create_task(throttle.begin(ALICE, ""))
    await settle()
    assert not second.done()
    first.failed()
    with pytest.raises(ApiError):
        await second


async def test_what_waits_for_another_site_keeps_nobody_waiting() -> None:
    """X3: however many of them are in progress; what fails there counts, and slows both down."""
    throttle = Throttle(1, clock_s=Clock())
    begun = [await throttle.begin(None, HOME, is_guess=False) for _ in range(3 * ADDRESS_FACTOR)]
    async with asyncio.timeout(5):
        (await throttle.begin(ALICE, HOME)).succeeded()
    begun[0].succeeded()
    begun[1].cancelled()
    for one in begun[2 : 2 + ADDRESS_FACTOR]:
        assert await retry_after(throttle, address=HOME) == 0
        one.failed()
        one.failed()
    assert await retry_after(throttle, address=HOME) == 1
    with pytest.raises(ApiError):
        await throttle.begin(None, HOME, is_guess=False)


async def test_without_a_limit_other_sites_have_none() -> None:
    throttle = Throttle(0, clock_s=Clock())
    for _ in range(ADDRESS_FACTOR):
        (await throttle.begin(None, HOME, is_guess=False)).failed()
    assert len(throttle) == 0


async def test_a_waiting_attempt_that_is_given_up_passes_its_turn_on() -> None:
    """Cancelled before or after its turn came: the next one goes on."""
    throttle = Throttle(1, clock_s=Clock())
    first = await throttle.begin(ALICE, "")
    waiting = [asyncio.create_task(throttle.begin(ALICE, "")) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    await settle()
    first.succeeded()
    waiting[1].cancel()
    attempt = await waiting[2]
    attempt.cancelled()
    assert [task.cancelled() for task in waiting] == [True, True, False]
    assert len(throttle) == 0


async def test_an_attempt_ends_once() -> None:
    """The first end counts, so that a last `cancelled` is always safe."""
    throttle = Throttle(1, clock_s=Clock())
    attempt = await throttle.begin(ALICE, "")
    attempt.failed()
    attempt.cancelled()
    attempt.succeeded()
    assert await retry_after(throttle) == 1


async def test_an_address_that_must_wait_leaves_the_account_alone() -> None:
    """Counted on both or on neither."""
    throttle = Throttle(1, clock_s=Clock())
    for _ in range(ADDRESS_FACTOR):
        await fail(throttle, None, HOME)
    assert await retry_after(throttle, ALICE, HOME) == 1
    assert await retry_after(throttle) == 0
    assert len(throttle) == 1


async def test_made_up_names_push_no_victim_out() -> None:
    """Memory is bounded, and a flood of names does not free an account that is slowed down."""
    throttle = Throttle(2, clock_s=Clock(), most_counters=100)
    await fail(throttle)
    await fail(throttle)
    for number in range(1000):
        await fail(throttle, f"local\0{number}")
        assert len(throttle) <= 100
    assert await retry_after(throttle) == 1


async def test_forgiven_counters_are_given_back() -> None:
    """Nothing is kept of those who failed long ago."""
    clock = Clock()
    throttle = Throttle(2, clock_s=clock)
    for number in range(50):
        await fail(throttle, f"local\0{number}")
    clock.now_s += FORGIVE_S
    for _ in range(50):
        (await throttle.begin(ALICE, "")).succeeded()
    assert len(throttle) == 0


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 2000), st.booleans()), max_size=60),
)
def test_nobody_is_locked_out_for_good(allowance: int, past: list[tuple[float, bool]]) -> None:
    """Whatever has happened: no wait is longer than the bound, and in the end all is forgotten
    (security check A5)."""

    async def check() -> None:
        clock = Clock()
        throttle = Throttle(allowance, clock_s=clock)
        for pause_s, fails in past:
            clock.now_s += pause_s
            before_s = await retry_after(throttle)
            assert before_s <= LONGEST_WAIT_S
            if before_s == 0:
                attempt = await throttle.begin(ALICE, "")
                attempt.failed() if fails else attempt.succeeded()
        clock.now_s += await retry_after(throttle)
        assert await retry_after(throttle) == 0
        clock.now_s += FORGIVE_S * (allowance + 11)
        for _ in range(allowance - 1):
            await fail(throttle)
            assert await retry_after(throttle) == 0

    asyncio.run(check())


@given(st.integers(1, 5), st.integers(1, 30))
def test_waits_only_grow_with_failures(allowance: int, failures: int) -> None:
    """One after the other as soon as may be, each wait is no shorter, till forgiving sets in."""

    async def check() -> None:
        clock = Clock()
        throttle = Throttle(allowance, clock_s=clock)
        waits = [0]
        started_s = clock.now_s
        for _ in range(failures):
            await fail(throttle)
            waits.append(await retry_after(throttle))
            if clock.now_s + waits[-1] >= started_s + FORGIVE_S:
                break
            clock.now_s += waits[-1]
        assert waits == sorted(waits)

    asyncio.run(check())


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("2001:db8:1:2::1", "2001:DB8:1:2:0::5", True),
    ],
)
def test_address_keys(one: str, other: str, are_same: bool) -> None:
    """IPv4 by address, IPv6 by /64: a customer can choose among all the addresses in one."""
    assert (address_key(one) == address_key(other)) is are_same


@pytest.mark.parametrize("address", ["", "/run/socket", "203.0.113.07", "localhost", "\ud800"])
def test_no_address(address: str) -> None:
    """What is no address is not counted as one."""
    assert address_key(address) is None


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)
