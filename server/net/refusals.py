"""Limits on refused requests: clients that only get refusals are served slower and slower.

Refusing costs the event loop time that other clients need. A connection that has used up its budget
of refusals is not read for a moment (`server.net.connection`); one of a trusted proxy carries the
requests of many clients, so there the client that the proxy names is answered 429 at once, and the
others continue. One success restores the whole budget.
"""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from protocol.api.request import Origin, Request
from protocol.errors import error
from server.core.client_networks import address_groups
from server.core.limit_counters import Limit
from server.net.client_address import Addresses

FREE_REFUSALS = 200
"""Consecutive refusals before the first pause."""
REFUSALS_PER_S = 100
"""Refusals added to the budget each second."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 4.0
"""Maximum pause; each is twice as long as the one before."""
MAX_REFUSED_CLIENTS = 65_536
"""Maximum number of clients of trusted proxies whose refusals are counted: at most some 12 MB."""


def is_refusal(status: int) -> bool:
    """Return whether a status means that the request was the client's mistake."""
    return 400 <= status < 500


class RefusalBudget:
    """Refusals a connection or client may still get before it is paused."""

    __slots__ = ("_at_s", "_left", "_next_pause_s")

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s  # the time of `_left`; during a pause its end, in the future
        self._left = float(FREE_REFUSALS)
        self._next_pause_s = FIRST_PAUSE_S

    def spend(self, now_s: float) -> float:
        """Count one refusal; return how long to pause from now on, in seconds, or 0.0.

        Requests sent before a pause and refused during it do not count.
        """
        if now_s < self._at_s:
            return 0.0
        restored = self._left + (now_s - self._at_s) * REFUSALS_PER_S
        self._at_s = now_s
        if restored >= FREE_REFUSALS:
            restored, self._next_pause_s = float(FREE_REFUSALS), FIRST_PAUSE_S
        self._left = restored - 1
        if self._left >= 0:
            return 0.0
        pause_s = self._next_pause_s
        self._next_pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._left, self._at_s = 0.0, now_s + pause_s
        return pause_s


class RefusedClients:
    """Clients of trusted proxies that only get refusals over HTTP.

    A WebSocket belongs to one client, also behind a proxy, so those are paused like all others.
    """

    __slots__ = ("_addresses", "_budgets", "_clock_s", "_on_limit", "_until_s")

    def __init__(
        self,
        addresses: Addresses,
        *,
        clock_s: Callable[[], float],
        on_limit: Callable[[Limit], None],
    ) -> None:
        self._addresses = addresses
        self._clock_s = clock_s
        self._on_limit = on_limit
        self._budgets: OrderedDict[bytes, RefusalBudget] = OrderedDict()
        self._until_s: dict[bytes, float] = {}

    def __len__(self) -> int:
        """Return how many clients are counted."""
        return len(self._budgets)

    def check(self, request: Request) -> None:
        """Refuse the request of a client that is paused: ApiError 429 with the seconds to wait."""
        if not self._until_s or not self._is_forwarded(request):
            return
        key, now_s = self._key_of(request), self._clock_s()
        until_s = self._until_s.get(key, now_s)
        if until_s > now_s:
            self._on_limit(Limit.REFUSED_CLIENT)
            raise error("api.process.too_many_requests", retry_after_s=ceil(until_s - now_s))
        self._until_s.pop(key, None)

    def note(self, request: Request, status: int) -> None:
        """Count an answer; refusals by `check` itself do not count."""
        if is_refusal(status):
            if self._is_forwarded(request):
                self._spend(self._key_of(request))
        elif self._budgets and self._is_forwarded(request):
            self._forget(self._key_of(request))

    def _spend(self, key: bytes) -> None:
        now_s = self._clock_s()
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = RefusalBudget(now_s)
        self._budgets.move_to_end(key)
        pause_s = budget.spend(now_s)
        if pause_s:
            self._until_s[key] = now_s + pause_s
        if len(self._budgets) > MAX_REFUSED_CLIENTS:
            self._forget(next(iter(self._budgets)))

    def _forget(self, key: bytes) -> None:
        self._budgets.pop(key, None)
        self._until_s.pop(key, None)

    def _is_forwarded(self, request: Request) -> bool:
        peer = request.peer
        is_http = request.origin is Origin.HTTP
        return is_http and peer is not None and self._addresses.is_trusted(peer.address)

    def _key_of(self, request: Request) -> bytes:
        address = self._addresses.of(request)
        groups = address_groups(address)
        return groups[0] if groups else address.encode(errors="surrogatepass")
