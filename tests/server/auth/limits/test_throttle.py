"""Slowing down guessers, on a clock of the test's own (docs/api/differences.md#failed-logins;
security checks A4 to A6)."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ApiError
from server.auth.limits import throttle as throttle_module
from server.auth.limits.backoff import LONGEST_WAIT_S, MOST_WAITING
from server.auth.limits.throttle import (
    ACCOUNT_FACTOR,
    FORGIVE_S,
    NETWORK_FACTORS,
    Attempt,
    LoginThrottle,
    Slowed,
)
from server.core.addresses import address_key

ALICE = "local\0alice"
HOME = "203.0.113.7"
AWAY = "198.51.100.8"
PHONE = "a device"


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def retry_after(
    throttle: LoginThrottle, account: str | None = ALICE, address: str = "", device: str = ""
) -> int:
    """Give how long an attempt would have to wait, 0 if it may begin; it is given up."""
    try:
        (await throttle.begin(account, address, device=device)).cancelled()
    except ApiError as refused:
        assert (refused.id, refused.status) == ("api.process.too_many_logins_requests", 429)
        assert refused.retry_after_s is not None and refused.retry_after_s >= 1
        return refused.retry_after_s
    return 0


async def fail(
    throttle: LoginThrottle, account: str | None = ALICE, address: str = "", device: str = ""
) -> list[Slowed]:
    """Make an attempt that fails."""
    return (await throttle.begin(account, address, device=device)).failed()


async def guess(throttle: LoginThrottle, account: str, address: str, device: str = "") -> bool:
    """Guess a password wrongly; tell whether it was looked at."""
    try:
        await fail(throttle, account, address, device)
    except ApiError:
        return False
    return True


async def test_waits_double() -> None:
    """1 s after the last allowed failure, twice as much after each further one, up to a bound."""
    clock = Clock()
    throttle = LoginThrottle(3, clock_s=clock)
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
    """A client that is refused learns nothing, and makes nothing worse for the account (security
    check A5)."""
    clock = Clock()
    throttle = LoginThrottle(1, clock_s=clock)
    await fail(throttle)
    for _ in range(50):
        assert await retry_after(throttle) == 1
    clock.now_s += 1
    assert await retry_after(throttle) == 0


async def test_throttle_polling_during_a_block_charges_the_address() -> None:
    """It is not free to ask again and again, and it ends: what an address must wait for is not
    counted once more (security check A5)."""
    clock = Clock()
    throttle = LoginThrottle(1, clock_s=clock)
    await fail(throttle, address=HOME)
    for _ in range(NETWORK_FACTORS[0] - 1):
        assert await retry_after(throttle, "local\0other", HOME) == 0
        assert await retry_after(throttle, address=HOME) == 1
    assert await retry_after(throttle, "local\0other", HOME) == 1
    assert await retry_after(throttle, "local\0other", AWAY) == 0
    for _ in range(1000):
        assert await retry_after(throttle, address=HOME) == 1
    clock.now_s += 1
    assert await retry_after(throttle, "local\0other", HOME) == 0


async def test_throttle_account_blocked_from_one_address_is_open_from_others() -> None:
    """A stranger keeps the owner out of nothing but the stranger's own address (security checks A4
    and A5)."""
    throttle = LoginThrottle(3, clock_s=Clock())
    for number in range(3):
        begun = await fail(throttle, address=HOME)
        assert begun == ([Slowed.FROM_ADDRESS] if number == 2 else [])
    assert await retry_after(throttle, address=HOME) == 1
    (await throttle.begin(ALICE, AWAY)).succeeded()
    assert await retry_after(throttle, address=AWAY) == 0


async def test_throttle_success_elsewhere_gives_a_guesser_no_new_guesses() -> None:
    """Neither at the guesser's address nor of the account in all (security check A6)."""
    throttle = LoginThrottle(2, clock_s=Clock())
    await fail(throttle, address=HOME)
    (await throttle.begin(ALICE, AWAY)).succeeded()
    await fail(throttle, address=HOME)
    assert await retry_after(throttle, address=HOME) == 1
    for number in range(2 * ACCOUNT_FACTOR - 2):
        (await throttle.begin(ALICE, AWAY)).succeeded()
        await fail(throttle, address=f"192.0.2.{number}")
    assert await retry_after(throttle, address=AWAY) == 1


async def test_throttle_known_device_passes_the_waits_of_others() -> None:
    """Of the account and of the address, whoever has used them up (security check A5)."""
    throttle = LoginThrottle(2, clock_s=Clock())
    for number in range(2 * ACCOUNT_FACTOR):
        await fail(throttle, address=f"192.0.2.{number}")
    for number in range(2 * NETWORK_FACTORS[0]):
        await fail(throttle, f"local\0{number}", HOME)
    assert await retry_after(throttle, ALICE, AWAY) == 1
    assert await retry_after(throttle, "local\0other", HOME) == 1
    for _ in range(100):
        (await throttle.begin(ALICE, HOME, device=PHONE)).succeeded()
    assert await retry_after(throttle, ALICE, AWAY) == 1


async def test_throttle_known_device_fails_as_often_as_an_address_may() -> None:
    """A stolen proof gives no more guesses than another address would: from wherever it is shown,
    and however many were stolen (security check A4)."""
    throttle = LoginThrottle(2, clock_s=Clock())
    assert await fail(throttle, ALICE, HOME, PHONE) == []
    (await throttle.begin(ALICE, HOME, device=PHONE)).succeeded()
    assert await fail(throttle, ALICE, HOME, PHONE) == []
    assert await fail(throttle, ALICE, AWAY, PHONE) == [Slowed.FROM_DEVICE]
    assert await retry_after(throttle, ALICE, "192.0.2.1", PHONE) == 1
    assert await retry_after(throttle, ALICE, HOME) == 0
    looked_at = 3
    for number in range(2 * ACCOUNT_FACTOR):
        looked_at += await guess(throttle, ALICE, f"192.0.2.{number}", f"stolen {number}")
    assert looked_at == 2 * ACCOUNT_FACTOR
    assert await retry_after(throttle, ALICE, "", "stolen too") == 1
    assert await retry_after(throttle, ALICE, HOME) == 0


async def test_throttle_failures_of_a_known_device_count_for_its_address() -> None:
    """Known to many accounts, an address would guess on without end."""
    throttle = LoginThrottle(1, clock_s=Clock())
    for number in range(NETWORK_FACTORS[0]):
        await fail(throttle, f"local\0{number}", HOME, PHONE)
    assert await retry_after(throttle, "local\0other", HOME) == 1


async def test_throttle_many_ipv6_networks_of_one_site_are_limited() -> None:
    """Security check A6: 30,000 guesses on as many names, from 300 /64 of one /48 or one /56, where
    each /64 alone stays below its limit."""
    for bits, pattern in ((48, "2001:db8:1:{:x}00::1"), (56, "2001:db8:1:{:x}::1")):
        throttle = LoginThrottle(10, clock_s=Clock())
        places = [pattern.format(number % 256) for number in range(300)]
        looked_at = 0
        for number in range(30_000):
            place = places[number % len(places)]
            looked_at += await guess(throttle, f"local\0{number}", place)
        assert looked_at == 10 * NETWORK_FACTORS[{56: 1, 48: 2}[bits]]
        assert await retry_after(throttle, ALICE, "2001:db8:2::1") == 0


async def test_throttle_names_of_one_entry_share_the_limit_of_an_account() -> None:
    """Security check A6: what a directory takes for one entry has no more guesses for its many
    names. Below that each name is throttled by itself: nothing tells that they are the same."""
    throttle = LoginThrottle(2, clock_s=Clock())
    names = [f"ldap\0name {number}" for number in range(5 * ACCOUNT_FACTOR)]
    for name in names[:3]:
        attempt = await throttle.begin(name, HOME)
        attempt.identify(name, "ldap\0\0the entry")
        assert attempt.failed() == []
        assert await retry_after(throttle, name, HOME) == 0
    failures = 3
    for number, name in enumerate(names[3:]):
        attempt = await throttle.begin(name, f"192.0.2.{number}")
        attempt.identify(name, "ldap\0\0the entry")
        failures += 1
        is_last = failures == 2 * ACCOUNT_FACTOR
        assert attempt.failed() == ([Slowed.ACCOUNT] if is_last else [])
        if is_last:
            break
    for name in names[:failures]:
        assert await retry_after(throttle, name, AWAY) == 1
    assert await retry_after(throttle, "ldap\0of another entry", HOME) == 0


async def test_throttle_unlock_forgets_the_failures_of_an_account_everywhere() -> None:
    """Of every address and device, and of the entry; what addresses have failed stays."""
    throttle = LoginThrottle(1, clock_s=Clock())
    for number in range(ACCOUNT_FACTOR):
        attempt = await throttle.begin(ALICE, f"192.0.2.{number}")
        attempt.identify(ALICE, "local\0\0entry")
        attempt.failed()
    await fail(throttle, ALICE, "192.0.2.0", PHONE)
    await fail(throttle, "local\0bob", "192.0.2.0")
    assert await retry_after(throttle, ALICE, AWAY) == 1
    throttle.unlock([ALICE, "local\0\0entry"])
    for number in range(ACCOUNT_FACTOR):
        assert await retry_after(throttle, ALICE, f"192.0.2.{number}") == 0
    assert await retry_after(throttle, ALICE, AWAY, PHONE) == 0
    assert await retry_after(throttle, "local\0bob", "192.0.2.0") == 1
    await fail(throttle, ALICE, AWAY)
    assert await retry_after(throttle, ALICE, AWAY) == 1
    throttle.unlock([ALICE])
    assert await retry_after(throttle, ALICE, AWAY) == 0


async def test_throttle_remembers_a_limited_number_of_entries_and_of_unlocked_accounts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest are forgotten."""
    for name in ("MOST_ENTRIES", "MOST_UNLOCKED"):
        monkeypatch.setattr(throttle_module, name, 3)
    throttle = LoginThrottle(1, clock_s=Clock())
    for number in range(5):
        throttle.count_entry(f"ldap\0{number}", "ldap\0\0entry")
        await fail(throttle, f"local\0{number}")
    throttle.unlock(f"local\0{number}" for number in range(5))
    known = [throttle.entry_of(f"ldap\0{number}") for number in range(5)]
    assert known == [None, None] + ["ldap\0\0entry"] * 3
    waits = [await retry_after(throttle, f"local\0{number}") for number in range(5)]
    assert waits == [1, 1, 0, 0, 0]


async def test_a_success_clears_the_account_only() -> None:
    """One's own account is no way to go on guessing from an address (security check A6)."""
    clock = Clock()
    throttle = LoginThrottle(2, clock_s=clock)
    await fail(throttle, address=HOME)
    (await throttle.begin(ALICE, HOME)).succeeded()
    await fail(throttle)
    assert await retry_after(throttle) == 0
    for number in range(2 * NETWORK_FACTORS[0] - 2):
        (await throttle.begin(ALICE, HOME)).succeeded()
        await fail(throttle, f"local\0{number}", HOME)
        assert await retry_after(throttle, "local\0other", HOME) == 0
    await fail(throttle, "local\0last", HOME)
    assert await retry_after(throttle, "local\0other", HOME) == 1
    assert await retry_after(throttle, "local\0other", "203.0.113.8") == 0


async def test_many_addresses_on_one_account() -> None:
    """Security check A6: distributed guessing is limited by the account, at a higher limit."""
    throttle = LoginThrottle(5, clock_s=Clock())
    for number in range(5 * ACCOUNT_FACTOR):
        assert await retry_after(throttle, address="198.51.100.99") == 0
        await fail(throttle, address=f"198.51.100.{number}")
    assert await retry_after(throttle, address="198.51.100.99") == 1


async def test_without_an_account_the_address_counts() -> None:
    """A strategy that names none, and the other way round a peer without an address."""
    throttle = LoginThrottle(1, clock_s=Clock())
    for _ in range(NETWORK_FACTORS[0]):
        await fail(throttle, None, HOME)
    assert await retry_after(throttle, None, HOME) == 1
    for _ in range(100):
        await fail(throttle, None, "")
    assert await retry_after(throttle, None, "") == 0


async def test_off() -> None:
    """`limits.failedLogins` 0."""
    throttle = LoginThrottle(0, clock_s=Clock())
    for _ in range(1000):
        await fail(throttle, address=HOME)
    assert await retry_after(throttle, address=HOME) == 0
    assert len(throttle) == 0


async def test_parallel_attempts_do_not_slip_through() -> None:
    """Those in progress count as failed: of many at once no more begin than may fail."""
    throttle = LoginThrottle(4, clock_s=Clock())
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
    throttle = LoginThrottle(2, clock_s=Clock())
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
    throttle = LoginThrottle(2, clock_s=clock)
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
    throttle = LoginThrottle(1, clock_s=Clock())
    begun = [
        await throttle.begin(None, HOME, is_guess=False) for _ in range(3 * NETWORK_FACTORS[0])
    ]
    async with asyncio.timeout(5):
        (await throttle.begin(ALICE, HOME)).succeeded()
    begun[0].succeeded()
    begun[1].cancelled()
    for one in begun[2 : 2 + NETWORK_FACTORS[0]]:
        assert await retry_after(throttle, address=HOME) == 0
        one.failed()
        one.failed()
    assert await retry_after(throttle, address=HOME) == 1
    with pytest.raises(ApiError):
        await throttle.begin(None, HOME, is_guess=False)


async def test_without_a_limit_other_sites_have_none() -> None:
    throttle = LoginThrottle(0, clock_s=Clock())
    for _ in range(NETWORK_FACTORS[0]):
        (await throttle.begin(None, HOME, is_guess=False)).failed()
    assert len(throttle) == 0


async def test_a_waiting_attempt_that_is_given_up_passes_its_turn_on() -> None:
    """Cancelled before or after its turn came: the next one goes on."""
    throttle = LoginThrottle(1, clock_s=Clock())
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
    throttle = LoginThrottle(1, clock_s=Clock())
    attempt = await throttle.begin(ALICE, "")
    attempt.failed()
    attempt.cancelled()
    attempt.succeeded()
    assert await retry_after(throttle) == 1


async def test_an_address_that_must_wait_leaves_the_account_alone() -> None:
    """Counted on both or on neither."""
    throttle = LoginThrottle(1, clock_s=Clock())
    for _ in range(NETWORK_FACTORS[0]):
        await fail(throttle, None, HOME)
    assert await retry_after(throttle, ALICE, HOME) == 1
    assert await retry_after(throttle) == 0
    assert len(throttle) == 1


async def test_made_up_names_push_no_victim_out() -> None:
    """Memory is bounded, and a flood of names does not free an account that is slowed down."""
    throttle = LoginThrottle(2, clock_s=Clock(), most_counters=100)
    await fail(throttle)
    await fail(throttle)
    for number in range(1000):
        await fail(throttle, f"local\0{number}")
        assert len(throttle) <= 2 * 100  # by address, and in all
    assert await retry_after(throttle) == 1


async def test_forgiven_counters_are_given_back() -> None:
    """Nothing is kept of those who failed long ago."""
    clock = Clock()
    throttle = LoginThrottle(2, clock_s=clock)
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
        throttle = LoginThrottle(allowance, clock_s=clock)
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
        throttle = LoginThrottle(allowance, clock_s=clock)
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
