"""Rate limit of writes to the store caused by unauthenticated clients, by address.

A login step that waits for the next one, like a passkey challenge or the redirect to an identity
provider, is a row in the store, and so is a user who registers. An address may cause so many per
minute; beyond that the wait doubles with each one, up to a minute. IPv6 counts by /64, /56 and /48.
"""

from collections.abc import Callable

from server.auth.limits.backoff import BackoffTable, too_many
from server.core.client_networks import address_groups
from server.core.limit_counters import Limit

NETWORK_FACTORS = (1, 2, 5)
"""Of an IPv4 address or an IPv6 /64, of a /56, of a /48."""
LONGEST_WAIT_S = 60.0
MOST_ADDRESSES = 65_536
"""Networks of each width whose writes are counted; beyond it the oldest are forgotten."""
_MINUTE_S = 60.0


class AnonymousWrites:
    """Counts writes; `per_minute` is the limit of an address, 0 for none."""

    __slots__ = ("_on_limit", "_tables")

    def __init__(
        self,
        per_minute: int,
        *,
        clock_s: Callable[[], float],
        on_limit: Callable[[Limit], None] = lambda limit: None,
    ) -> None:
        self._on_limit = on_limit
        self._tables = [
            BackoffTable(
                per_minute * factor,
                forgive_s=_MINUTE_S / (per_minute * factor),
                most=MOST_ADDRESSES,
                clock_s=clock_s,
                longest_wait_s=LONGEST_WAIT_S,
            )
            for factor in NETWORK_FACTORS
            if per_minute
        ]

    def count(self, address: str, error_id: str = "api.process.too_many_logins_requests") -> None:
        """Count a write before it is made; ApiError 429 for one too many, which does not count."""
        counted = list(zip(self._tables, address_groups(address), strict=False))
        wait_s = max((table.wait_s(key) for table, key in counted), default=0.0)
        if wait_s > 0:
            self._on_limit(Limit.ANONYMOUS_WRITES)
            raise too_many(wait_s, error_id)
        for table, key in counted:
            table.count_failure(key)

    def take_back(self, address: str) -> None:
        """Count one write less: it was not made, or it led to a login."""
        for table, key in zip(self._tables, address_groups(address), strict=False):
            table.take_back(key)
