"""Slows down whoever guesses: failed logins are counted per account and per address (design §4).

An account is a strategy with the identifier as it was given, whether anybody has it or not, so that
being slowed down tells nothing. From `limits.failedLogins` failures on, each makes the next attempt
wait twice as long, up to `LONGEST_WAIT_S`. Who comes too early is refused before any password is
looked at, and that is not counted. Failures are forgiven one by one: nobody is locked out for good.

An attempt in progress counts as a failed one: the last ones before the limit are made one after the
other, however many come at once. Those that wait for another site, where nothing can be guessed,
count when they have failed: a site that hangs would keep everybody behind one address from logging
in. All counts live in this process only.

Known limits: whoever keeps guessing keeps the account slow for its owner too (no device is known),
and people behind one address share its count; that is why it may fail `ADDRESS_FACTOR` times as
often. A success does not clear an address: one account of his own would let a guesser go on.
"""

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from math import ceil

from protocol.errors import ApiError, error

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 900.0
FORGIVE_S = 600.0
"""After so long one failure of an account is forgotten; of an address, `ADDRESS_FACTOR` are."""
ADDRESS_FACTOR = 10
MOST_COUNTERS = 65_536
"""Accounts, and as many addresses, whose failures are kept: some 20 MB of each at the very most."""
MOST_WAITING = 1024
"""Attempts on one account, or from one address, that may wait for those in progress; further ones
are refused. Far more than one account needs: load benchmarks log in with a single one."""
_MOST_DOUBLINGS = 10  # 1,024 s: beyond the longest wait, more failures would only be slower to go
_IPV6_SITE_BITS = 64  # what one customer is given at least: he can choose among all these addresses


@dataclass(slots=True, eq=False)
class _Counter:
    """The failures of one account or address."""

    key: bytes
    failures: int = 0
    forgiving_from_s: float = 0.0
    blocked_until_s: float = 0.0
    in_progress: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def is_idle(self) -> bool:
        return not self.failures and not self.in_progress and not self.waiting


class _Counters:
    """A bounded table of counters, for all accounts or for all addresses.

    Those that are slowed down are kept apart from the rest: a flood of made-up names with a failure
    or two can't push them out.
    """

    __slots__ = ("_allowance", "_clock_s", "_forgive_s", "_most", "_quiet", "_slowed")

    def __init__(
        self, allowance: int, *, forgive_s: float, most: int, clock_s: Callable[[], float]
    ) -> None:
        self._allowance = allowance
        self._forgive_s = forgive_s
        self._most = most
        self._clock_s = clock_s
        self._quiet: OrderedDict[bytes, _Counter] = OrderedDict()
        self._slowed: OrderedDict[bytes, _Counter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._quiet) + len(self._slowed)

    async def reserve(self, key: bytes) -> _Counter:
        """Count an attempt as being in progress; ApiError 429 when it is too early for one."""
        while True:
            counter = self.check(key)
            if self._room(counter) > 0:
                counter.in_progress += 1
                self._keep(counter, self._clock_s())
                return counter
            await self._wait(counter)

    def check(self, key: bytes) -> _Counter:
        """Give the counter; ApiError 429 when it is too early for an attempt."""
        counter = self._quiet.get(key) or self._slowed.get(key) or _Counter(key)
        now_s = self._clock_s()
        self._forgive(counter, now_s)
        if counter.blocked_until_s > now_s:
            raise _too_many(counter.blocked_until_s - now_s)
        return counter

    def count_failure(self, key: bytes) -> None:
        """Count an attempt that was not reserved."""
        counter = self._quiet.get(key) or self._slowed.get(key) or _Counter(key)
        counter.in_progress += 1
        self.fail(counter)

    def fail(self, counter: _Counter) -> None:
        """Settle an attempt that failed."""
        now_s = self._clock_s()
        self._forgive(counter, now_s)
        if counter.failures == 0:
            counter.forgiving_from_s = now_s
        doublings = min(counter.failures + 1 - self._allowance, _MOST_DOUBLINGS)
        counter.failures = self._allowance + doublings
        if doublings >= 0:
            wait_s = min(FIRST_WAIT_S * 2.0**doublings, LONGEST_WAIT_S)
            counter.blocked_until_s = max(counter.blocked_until_s, now_s + wait_s)
        self._settle(counter, now_s)

    def clear(self, counter: _Counter) -> None:
        """Settle an attempt that succeeded, and forget the failures before it."""
        counter.failures = 0
        counter.blocked_until_s = 0.0
        self._settle(counter, self._clock_s())

    def release(self, counter: _Counter) -> None:
        """Settle an attempt that changes nothing."""
        self._settle(counter, self._clock_s())

    def _room(self, counter: _Counter) -> int:
        """How many more attempts may be in progress: after the limit it is one at a time."""
        left = self._allowance - counter.failures - counter.in_progress
        return max(left, 0 if counter.in_progress else 1)

    def _forgive(self, counter: _Counter, now_s: float) -> None:
        times = int((now_s - counter.forgiving_from_s) / self._forgive_s)
        if times > 0:
            counter.failures = max(0, counter.failures - times)
            counter.forgiving_from_s += times * self._forgive_s

    def _settle(self, counter: _Counter, now_s: float) -> None:
        counter.in_progress -= 1
        self._wake(counter, now_s)
        self._keep(counter, now_s)

    async def _wait(self, counter: _Counter) -> None:
        """Wait until an attempt in progress is settled."""
        if len(counter.waiting) >= MOST_WAITING:
            raise _too_many(FIRST_WAIT_S)
        settled = asyncio.get_running_loop().create_future()
        counter.waiting.append(settled)
        try:
            await settled
        except asyncio.CancelledError:
            if settled in counter.waiting:
                counter.waiting.remove(settled)
            self._wake(counter, self._clock_s())  # the turn may have been this one's
            raise

    def _wake(self, counter: _Counter, now_s: float) -> None:
        """Let go on who has room now, or everybody to be refused."""
        is_blocked = counter.blocked_until_s > now_s
        turns = len(counter.waiting) if is_blocked else self._room(counter)
        while counter.waiting and turns > 0:
            settled = counter.waiting.popleft()
            if not settled.done():
                settled.set_result(None)
                turns -= 1

    def _keep(self, counter: _Counter, now_s: float) -> None:
        """Make this the newest counter of its kind, and forget the oldest ones beyond the bound."""
        self._quiet.pop(counter.key, None)
        self._slowed.pop(counter.key, None)
        if not counter.is_idle:
            is_slowed = counter.failures >= self._allowance
            (self._slowed if is_slowed else self._quiet)[counter.key] = counter
        for table in (self._quiet, self._slowed):
            if table:
                oldest = next(iter(table.values()))
                self._forgive(oldest, now_s)
                if oldest.is_idle or len(table) > self._most // 2:
                    del table[oldest.key]


class Attempt:
    """One login in progress; the first of its three ends counts."""

    __slots__ = ("_account", "_accounts", "_address", "_addresses", "_unreserved")

    def __init__(self, accounts: _Counters, addresses: _Counters) -> None:
        self._accounts = accounts
        self._addresses = addresses
        self._account: _Counter | None = None
        self._address: _Counter | None = None
        self._unreserved: bytes | None = None

    def check(self, address: bytes | None) -> None:
        """See that it is not too early, and count nothing before it has failed. ApiError 429."""
        if address is not None:
            self._addresses.check(address)
            self._unreserved = address

    async def reserve(self, account: bytes | None, address: bytes | None) -> None:
        """Count it in, on both or not at all. ApiError 429."""
        with ExitStack() as undo:
            undo.callback(self.cancelled)
            if account is not None:
                self._account = await self._accounts.reserve(account)
            if address is not None:
                self._address = await self._addresses.reserve(address)
            undo.pop_all()

    def failed(self) -> None:
        """The credentials were refused."""
        if self._unreserved is not None:
            self._addresses.count_failure(self._unreserved)
        self._end(self._accounts.fail, self._addresses.fail)

    def succeeded(self) -> None:
        """The credentials were right."""
        self._end(self._accounts.clear, self._addresses.release)

    def cancelled(self) -> None:
        """It was not found out."""
        self._end(self._accounts.release, self._addresses.release)

    def _end(
        self, end_account: Callable[[_Counter], None], end_address: Callable[[_Counter], None]
    ) -> None:
        account, address = self._account, self._address
        self._account = self._address = self._unreserved = None
        if account is not None:
            end_account(account)
        if address is not None:
            end_address(address)


class Throttle:
    """Lets login attempts begin, or not yet; `failed_logins` is an account's limit, 0 for none."""

    __slots__ = ("_accounts", "_addresses", "_is_on")

    def __init__(
        self,
        failed_logins: int,
        *,
        clock_s: Callable[[], float],
        most_counters: int = MOST_COUNTERS,
    ) -> None:
        self._is_on = failed_logins > 0
        self._accounts = _Counters(
            failed_logins, forgive_s=FORGIVE_S, most=most_counters, clock_s=clock_s
        )
        self._addresses = _Counters(
            failed_logins * ADDRESS_FACTOR,
            forgive_s=FORGIVE_S / ADDRESS_FACTOR,
            most=most_counters,
            clock_s=clock_s,
        )

    def __len__(self) -> int:
        """How many accounts and addresses have failures or attempts in progress."""
        return len(self._accounts) + len(self._addresses)

    async def begin(self, account: str | None, address: str, *, is_guess: bool = True) -> Attempt:
        """Begin an attempt, whose end must be told; waits for others on the same account if there
        are as many in progress as may still fail. One that is no guess waits for nobody, and nobody
        for it: the address alone counts, once it has failed.

        Without an account, or an address that can be read, the other one alone counts. ApiError 429
        with the seconds to wait.
        """
        attempt = Attempt(self._accounts, self._addresses)
        if self._is_on and not is_guess:
            attempt.check(address_key(address))
        elif self._is_on:
            await attempt.reserve(
                None if account is None else _account_key(account), address_key(address)
            )
        return attempt


def _account_key(account: str) -> bytes:
    """Names are as long as their senders like, keys are not."""
    return hashlib.blake2b(account.encode(errors="surrogatepass"), digest_size=16).digest()


def address_key(address: str) -> bytes | None:
    """Give what addresses are counted by: an IPv4 address, an IPv6 /64; None for anything else."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return parsed.packed[: _IPV6_SITE_BITS // 8]
        parsed = parsed.ipv4_mapped
    return parsed.packed


def _too_many(wait_s: float) -> ApiError:
    return error("api.process.too_many_logins_requests", retry_after_s=max(1, ceil(wait_s)))
