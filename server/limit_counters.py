"""Counters of refusals, one per limit, as `server:metrics` returns them under `limits`."""

from enum import StrEnum

from protocol.bodies import FORM_LIMIT, INFLATION, JSON_LIMIT


class Limit(StrEnum):
    """The limits that are counted; the value is the name in `server:metrics`."""

    IN_FLIGHT = "inFlight"
    CONNECTIONS = "connections"
    CONNECTIONS_PER_ADDRESS = "connectionsPerAddress"
    UNFINISHED_SIZE = "unfinishedSize"
    UNSENT_SIZE = "unsentSize"
    JSON_VALUES = JSON_LIMIT
    FORM_PARTS = FORM_LIMIT
    INFLATION = INFLATION
    MESSAGE_TIME = "messageTime"


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
