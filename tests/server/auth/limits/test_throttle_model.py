"""A day of guessing against one account, on a clock of the test's own: what gets through, and who
can still log in (security checks A4, A5 and A6; NIST SP 800-63B §3.2.2)."""

import pytest

from protocol.errors import ApiError
from server.auth.limits.throttle import ACCOUNT_FACTOR, FORGIVE_S, NETWORK_FACTORS, LoginThrottle
from tests.server.auth.limits.test_throttle import ALICE, AWAY, PHONE, Clock

DAY_S = 24 * 3600
SIX_HOURS_S = 6 * 3600
MINUTE_S = 60
FAILED_LOGINS = 10
DOUBLINGS = 10
"""Failures counted beyond a limit: the wait is at its maximum then."""
OFFICE = "198.51.100.77"


async def is_looked_at(
    throttle: LoginThrottle, address: str, device: str = "", *, is_right: bool = False
) -> bool:
    """Try a password; tell whether it was looked at."""
    try:
        attempt = await throttle.begin(ALICE, address, device=device)
    except ApiError:
        return False
    attempt.succeeded() if is_right else attempt.failed()
    return True


@pytest.mark.parametrize("addresses", [1, 1000])
@pytest.mark.parametrize(("every_s", "for_s"), [(10.0, DAY_S), (1.0, DAY_S), (0.2, SIX_HOURS_S)])
async def test_throttle_a_day_of_guessing_lets_few_guesses_and_the_owner_through(
    addresses: int, every_s: float, for_s: int
) -> None:
    """The owner logs in once a minute: from a known device always, and from an unknown one, too,
    as long as the stranger has one address only. The stranger has the guesses of the limit, 100 of
    an account, those while waits double, and later one for each failure that is forgiven."""
    clock = Clock()
    throttle = LoginThrottle(FAILED_LOGINS, clock_s=clock)
    started_s, guessed, number = clock.now_s, 0, 0
    for minute in range(for_s // MINUTE_S):
        known = await is_looked_at(throttle, AWAY, PHONE, is_right=True)
        assert known, minute
        if addresses == 1:
            assert await is_looked_at(throttle, OFFICE, is_right=True), minute
        for _ in range(int(MINUTE_S / every_s)):
            at = number % addresses
            guessed += await is_looked_at(throttle, f"10.9.{at // 250}.{at % 250}")
            number += 1
            clock.now_s = started_s + number * every_s
    most = FAILED_LOGINS * (1 if addresses == 1 else ACCOUNT_FACTOR) + DOUBLINGS
    assert guessed <= most + for_s / FORGIVE_S


async def test_throttle_owner_at_the_address_of_a_stranger_logs_in_from_a_known_device() -> None:
    """Behind one proxy with the one who guesses, whose polling makes the whole address wait."""
    clock = Clock()
    throttle = LoginThrottle(FAILED_LOGINS, clock_s=clock)
    for second in range(SIX_HOURS_S):
        await is_looked_at(throttle, OFFICE)
        if second % MINUTE_S == 0:
            assert await is_looked_at(throttle, OFFICE, PHONE, is_right=True), second
        clock.now_s += 1
    with pytest.raises(ApiError):
        await throttle.begin("local\0another", OFFICE)


async def test_throttle_stolen_proof_gives_as_few_guesses_as_an_address() -> None:
    """A day of guessing with the cookie of a device, from a thousand addresses."""
    clock = Clock()
    throttle = LoginThrottle(FAILED_LOGINS, clock_s=clock)
    guessed = 0
    for second in range(DAY_S):
        guessed += await is_looked_at(throttle, f"10.8.{second % 4}.{second % 250}", PHONE)
        clock.now_s += 1
    assert guessed <= FAILED_LOGINS + DOUBLINGS + DAY_S / FORGIVE_S


async def test_throttle_after_an_attack_an_unknown_device_is_let_in_within_the_longest_wait() -> (
    None
):
    """Nothing lasts, and nothing needs an administrator (security check A5)."""
    clock = Clock()
    throttle = LoginThrottle(FAILED_LOGINS, clock_s=clock)
    for number in range(20_000):
        await is_looked_at(throttle, f"10.9.{number // 250 % 4}.{number % 250}")
        clock.now_s += 1
    clock.now_s += 900
    assert await is_looked_at(throttle, AWAY, is_right=True)
    clock.now_s += FORGIVE_S * (FAILED_LOGINS * ACCOUNT_FACTOR + DOUBLINGS)
    for _ in range(FAILED_LOGINS - 1):
        assert await is_looked_at(throttle, AWAY)
    assert await is_looked_at(throttle, AWAY, is_right=True)


async def test_throttle_one_password_on_many_accounts_for_a_day_is_limited() -> None:
    """Security check A6: from one address, a new name each time."""
    clock = Clock()
    throttle = LoginThrottle(FAILED_LOGINS, clock_s=clock)
    guessed = 0
    for second in range(DAY_S):
        try:
            (await throttle.begin(f"local\0{second}", OFFICE)).failed()
        except ApiError:
            pass
        else:
            guessed += 1
        clock.now_s += 1
    factor = NETWORK_FACTORS[0]
    assert guessed <= FAILED_LOGINS * factor + DOUBLINGS + DAY_S / FORGIVE_S * factor
