"""How much one user, connection or socket may ask for in a second (contract/03 §6, contract/01 §7).

Windows are fixed: whole seconds of one clock, the same for everybody. All counts live in this
process only and are forgotten when the second is over; within it there are at most as many as there
were requests.
"""

from collections.abc import Callable

from protocol.errors import error

_NEXT_WINDOW_S = 1  # what Retry-After says: windows are no longer than that


class Windows:
    """Counts events by key within the present second."""

    __slots__ = ("_clock_s", "_counts", "_second")

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._second = 0
        self._counts: dict[object, int] = {}

    def count(self, key: object) -> int:
        """Count one more event and give how many there were in this second."""
        second = int(self._clock_s())
        if second != self._second:
            self._second = second
            self._counts = {}
        counted = self._counts[key] = self._counts.get(key, 0) + 1
        return counted


class RequestLimits:
    """Refuses requests above the limits; to be asked once a caller's rights are checked.

    `logins_per_second` is for each connection, 0 is no limit. Logins count for their connection
    only, all else for its user; everybody without a token is one user. A user can always log out.
    """

    __slots__ = ("_logins", "_requests", "logins_per_second")

    def __init__(self, *, logins_per_second: int, clock_s: Callable[[], float]) -> None:
        self.logins_per_second = logins_per_second
        self._logins = Windows(clock_s)
        self._requests = Windows(clock_s)

    def check(
        self,
        full_name: str,
        kuid: str,
        *,
        rate_limit: int,
        is_anonymous: bool,
        connection: object,
    ) -> None:
        """Count a request for `controller:action`; ApiError 429 above the limit.

        `rate_limit` is the user's, in requests a second, 0 for none. `connection` is anything that
        tells one from another; it is held until the next count in another second.
        """
        if full_name == "auth:login":
            most = self.logins_per_second
            if most and self._logins.count(connection) > most:
                name = "api.process.too_many_logins_requests"
                raise error(name, retry_after_s=_NEXT_WINDOW_S)
        elif full_name == "auth:logout" and not is_anonymous:
            return
        elif rate_limit and self._requests.count(kuid) > rate_limit:
            raise error("api.process.too_many_requests", retry_after_s=_NEXT_WINDOW_S)


class MessageBudget:
    """How many messages a WebSocket has left in this second."""

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
