"""Exponential backoff: tables of failure counters that make the next attempt wait.

From a table's allowance on, each failure doubles the wait, up to a maximum. Failures are forgiven
one by one as time passes, so no block lasts. Each operation costs the same however many counters
there are, and their number is limited.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from protocol.errors import ApiError, error

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 900.0
MOST_WAITING = 1024
"""Attempts that may wait for those in progress under one counter; further ones are refused. Far
more than one account needs: load benchmarks log in with a single one."""
_MAX_DOUBLINGS = 10  # 1,024 s: beyond the longest wait, more failures would only decay later


@dataclass(slots=True, eq=False)
class Counter:
    """The failures counted under one key."""

    key: bytes
    failures: int = 0
    forgiving_from_s: float = 0.0
    blocked_until_s: float = 0.0
    in_progress: int = 0
    waiting: deque[asyncio.Future[None]] | None = None  # most counters never need one

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is lost when it is forgotten."""
        return not self.failures and not self.in_progress and not self.waiting


class BackoffTable:
    """A limited table of counters that share an allowance; one failure is forgiven each
    `forgive_s`.

    Counters that are slowed down are kept apart from the rest: a flood of made-up keys with a
    failure or two cannot push them out.
    """

    __slots__ = (
        "_allowance",
        "_clock_s",
        "_forgive_s",
        "_longest_wait_s",
        "_most",
        "_quiet",
        "_slowed",
    )

    def __init__(
        self,
        allowance: int,
        *,
        forgive_s: float,
        most: int,
        clock_s: Callable[[], float],
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._allowance = allowance
        self._forgive_s = forgive_s
        self._most = most
        self._clock_s = clock_s
        self._longest_wait_s = longest_wait_s
        self._quiet: OrderedDict[bytes, Counter] = OrderedDict()
        self._slowed: OrderedDict[bytes, Counter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._quiet) + len(self._slowed)

    def wait_s(self, key: bytes) -> float:
        """Return how long the next attempt must wait, 0 if it may begin."""
        counter = self._slowed.get(key)  # all others have no block
        return 0.0 if counter is None else max(0.0, counter.blocked_until_s - self._clock_s())

    async def reserve(self, key: bytes) -> Counter:
        """Count an attempt as being in progress, which counts as failed until it is settled; wait
        for others in progress where no more than those may fail. ApiError 429 if it is too early
        for an attempt."""
        while True:
            counter = self._find(key)
            now_s = self._clock_s()
            self._forgive(counter, now_s)
            if counter.blocked_until_s > now_s:
                raise too_many(counter.blocked_until_s - now_s)
            if self._room(counter) > 0:
                counter.in_progress += 1
                self._keep(counter, now_s)
                return counter
            await self._wait(counter)

    def count_failure(self, key: bytes) -> bool:
        """Count a failure of an attempt that was not reserved; see `fail`."""
        counter = self._find(key)
        counter.in_progress += 1
        return self.fail(counter)

    def take_back(self, key: bytes) -> None:
        """Count one failure less, where there is one."""
        counter = self._find(key)
        counter.failures = max(0, counter.failures - 1)
        self._keep(counter, self._clock_s())

    def fail(self, counter: Counter) -> bool:
        """Settle an attempt that failed. Return True if the wait begins with this one."""
        now_s = self._clock_s()
        self._forgive(counter, now_s)
        if counter.failures == 0:
            counter.forgiving_from_s = now_s
        was_slowed = counter.failures >= self._allowance
        doublings = min(counter.failures + 1 - self._allowance, _MAX_DOUBLINGS)
        counter.failures = self._allowance + doublings
        if doublings >= 0:
            wait_s = min(FIRST_WAIT_S * 2.0**doublings, self._longest_wait_s)
            counter.blocked_until_s = max(counter.blocked_until_s, now_s + wait_s)
        self._settle(counter, now_s)
        return doublings >= 0 and not was_slowed

    def clear(self, counter: Counter) -> None:
        """Settle an attempt that succeeded, and forget the failures before it."""
        counter.failures = 0
        counter.blocked_until_s = 0.0
        self._settle(counter, self._clock_s())

    def release(self, counter: Counter) -> None:
        """Settle an attempt that changes nothing."""
        self._settle(counter, self._clock_s())

    def _find(self, key: bytes) -> Counter:
        return self._quiet.get(key) or self._slowed.get(key) or Counter(key)

    def _room(self, counter: Counter) -> int:
        """Return how many more attempts may be in progress: after the limit one at a time."""
        left = self._allowance - counter.failures - counter.in_progress
        return max(left, 0 if counter.in_progress else 1)

    def _forgive(self, counter: Counter, now_s: float) -> None:
        times = int((now_s - counter.forgiving_from_s) / self._forgive_s)
        if times > 0:
            counter.failures = max(0, counter.failures - times)
            counter.forgiving_from_s += times * self._forgive_s

    def _settle(self, counter: Counter, now_s: float) -> None:
        counter.in_progress -= 1
        self._wake(counter, now_s)
        self._keep(counter, now_s)

    async def _wait(self, counter: Counter) -> None:
        """Wait until an attempt in progress is settled."""
        if counter.waiting is None:
            counter.waiting = deque()
        if len(counter.waiting) >= MOST_WAITING:
            raise too_many(FIRST_WAIT_S)
        settled = asyncio.get_running_loop().create_future()
        counter.waiting.append(settled)
        try:
            await settled
        except asyncio.CancelledError:
            if settled in counter.waiting:
                counter.waiting.remove(settled)
            self._wake(counter, self._clock_s())  # the turn may have been this one's
            raise

    def _wake(self, counter: Counter, now_s: float) -> None:
        """Resume as many as there is room for, or all of them, to be refused."""
        waiting = counter.waiting
        if not waiting:
            return
        turns = len(waiting) if counter.blocked_until_s > now_s else self._room(counter)
        while waiting and turns > 0:
            settled = waiting.popleft()
            if not settled.done():
                settled.set_result(None)
                turns -= 1

    def _keep(self, counter: Counter, now_s: float) -> None:
        """Make this the newest counter of its kind, and forget the oldest ones beyond the limit."""
        self._quiet.pop(counter.key, None)
        self._slowed.pop(counter.key, None)
        if not counter.is_idle:
            is_slowed = counter.failures >= self._allowance or counter.blocked_until_s > now_s
            (self._slowed if is_slowed else self._quiet)[counter.key] = counter
        for table in (self._quiet, self._slowed):
            if table:
                oldest = next(iter(table.values()))
                self._forgive(oldest, now_s)
                if oldest.is_idle or len(table) > self._most // 2:
                    del table[oldest.key]


def too_many(wait_s: float, error_id: str = "api.process.too_many_logins_requests") -> ApiError:
    """Return the ApiError 429 with the seconds to wait, rounded up."""
    return error(error_id, retry_after_s=max(1, ceil(wait_s)))
