"""Rate limits per user, connection and WebSocket, in requests per second.

Windows are fixed: whole seconds of one clock, the same for all. All counts live in this process
only and are forgotten when the second is over, those of unauthenticated clients a second later;
within it there are at most as many as there were requests.
"""

from collections.abc import Callable

from protocol.errors import error
from server.core.client_networks import address_groups
from server.core.limit_counters import Limit

_NEXT_WINDOW_S = 1  # the value of Retry-After: windows are no longer than that


class Windows:
    """Counts events by key within the present second."""

    __slots__ = ("_clock_s", "_counts", "_second")

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._second = 0
        self._counts: dict[object, int] = {}

    def count(self, key: object) -> int:
        """Count one more event and return how many there were in this second."""
        second = int(self._clock_s())
        if second != self._second:
            self._second = second
            self._counts = {}
        counted = self._counts[key] = self._counts.get(key, 0) + 1
        return counted


class SharedWindow:
    """The limit that all unauthenticated clients share, divided among their addresses.

    In each whole second an address gets as much as it asked for in the second before, as far as
    that goes when all are given equal amounts until nothing is left (max-min fairness); what is
    left over goes to the first requests. An address whose requests so far are fewer than its equal
    share of the limit is served in any case: in the second in which others had used up everything
    before it came, that is more than the limit, and never more than twice the limit. IPv6 addresses
    are counted by /48, which one customer may have in full.
    """

    __slots__ = (
        "_addresses",
        "_asked",
        "_before",
        "_clock_s",
        "_granted",
        "_guaranteed",
        "_reserved",
        "_second",
    )

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._second = 0
        self._asked: dict[object, int] = {}
        self._before: dict[object, int] = {}
        self._addresses = 0  # that asked in this second or the one before
        self._granted = 0
        self._guaranteed = 0  # what each address gets at least, as far as it asked for it before
        self._reserved = 0  # what of that has not been asked for yet, of all addresses together

    def is_within(self, address: str, limit: int) -> bool:
        """Count a request, and return whether it is within a limit of so many per second."""
        self._follow_clock(limit)
        key: object = address_groups(address)[-1:] or address
        before, asked = self._before.get(key, 0), self._asked.get(key, 0)
        self._asked[key] = asked + 1
        if not before and not asked:
            self._addresses += 1
        if asked < min(before, self._guaranteed):
            self._reserved -= 1
        elif self._granted + self._reserved >= limit:
            is_above_share = asked * self._addresses >= limit
            if is_above_share or self._granted + self._reserved >= 2 * limit:
                return False
        self._granted += 1
        return True

    def _follow_clock(self, limit: int) -> None:
        second = int(self._clock_s())
        if second == self._second:
            return
        self._before = self._asked if second == self._second + 1 else {}
        self._second, self._asked, self._granted = second, {}, 0
        self._addresses = len(self._before)
        self._guaranteed = _fair_level(sorted(self._before.values()), limit)
        self._reserved = sum(min(one, self._guaranteed) for one in self._before.values())


def _fair_level(demands: list[int], limit: int) -> int:
    """Return the greatest whole number such that the demands, in ascending order, each cut to it,
    add up to no more than the limit."""
    left = limit
    for at, demand in enumerate(demands):
        level = left // (len(demands) - at)
        if demand > level:
            return level
        left -= demand
    return limit


class RateLimits:
    """Refuses requests above the limits; checked once a caller's rights are.

    `logins_per_second` is for each connection, 0 means no limit. Logins count for their connection
    only, all else for its user; clients without a token are one user, whose limit is shared by
    address. A user can always log out. `on_limit` is called for refusals of the latter.
    """

    __slots__ = ("_anonymous", "_logins", "_on_limit", "_requests", "logins_per_second")

    def __init__(
        self,
        *,
        logins_per_second: int,
        clock_s: Callable[[], float],
        on_limit: Callable[[Limit], None] = lambda limit: None,
    ) -> None:
        self.logins_per_second = logins_per_second
        self._logins = Windows(clock_s)
        self._requests = Windows(clock_s)
        self._anonymous = SharedWindow(clock_s)
        self._on_limit = on_limit

    def check(
        self,
        full_name: str,
        kuid: str,
        *,
        rate_limit: int,
        is_anonymous: bool,
        connection: object,
        address: str = "",
    ) -> None:
        """Count a request for `controller:action`; ApiError 429 above the limit.

        `rate_limit` is the user's, in requests per second, 0 for none. `connection` is anything
        that distinguishes one from another; it is held until the next count in another second.
        `address` is the client's, for those without a token.
        """
        if full_name == "auth:login":
            limit = self.logins_per_second
            if limit and self._logins.count(connection) > limit:
                name = "api.process.too_many_logins_requests"
                raise error(name, retry_after_s=_NEXT_WINDOW_S)
        elif full_name == "auth:logout" and not is_anonymous:
            return
        elif rate_limit and is_anonymous:
            if not self._anonymous.is_within(address, rate_limit):
                self._on_limit(Limit.ANONYMOUS_RATE)
                raise error("api.process.too_many_requests", retry_after_s=_NEXT_WINDOW_S)
        elif rate_limit and self._requests.count(kuid) > rate_limit:
            raise error("api.process.too_many_requests", retry_after_s=_NEXT_WINDOW_S)


class MessageBudget:
    """Budget of messages that a WebSocket may send in this second."""

    __slots__ = ("_clock_s", "_left", "_most", "_second")

    def __init__(self, most_per_second: int, clock_s: Callable[[], float]) -> None:
        self._most = self._left = most_per_second
        self._clock_s = clock_s
        self._second = int(clock_s())

    def __call__(self) -> bool:
        """Take one message out of the budget; False when nothing is left."""
        second = int(self._clock_s())
        if second != self._second:
            self._second, self._left = second, self._most
        if self._left == 0:
            return False
        self._left -= 1
        return True
