"""Counters of refusals, one per limit, as `server:metrics` returns them under `limits`."""

from enum import StrEnum


class Limit(StrEnum):
    """The limits that are counted; the value is the name in `server:metrics`."""

    IN_FLIGHT = "inFlight"
    FAILED_LOGINS = "failedLogins"
    ANONYMOUS_WRITES = "anonymousWrites"


class LimitCounters:
    """How often each limit refused something since the start of this process."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = {limit: 0 for limit in Limit}

    def count(self, limit: Limit) -> None:
        """Count one refusal."""
        self._counts[limit] += 1

    def to_dict(self) -> dict[str, int]:
        """Return the count of each limit by its name."""
        return {limit.value: count for limit, count in self._counts.items()}
