"""Counters of refusals, one per limit, as `server:metrics` returns them under `limits`."""

from collections.abc import Callable
from enum import StrEnum

from protocol.http11.body import FORM_LIMIT, INFLATION, JSON_LIMIT


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
    LOG_LINES = "logLines"
    SEARCH_PATTERNS = "searchPatterns"
    HASHING_QUEUE = "hashingQueue"
    HASHING_SHARE = "hashingShare"
    ANONYMOUS_RATE = "anonymousRate"
    REFUSED_CONNECTION = "refusedConnection"
    REFUSED_CLIENT = "refusedClient"
    FAILED_LOGINS = "failedLogins"
    ANONYMOUS_WRITES = "anonymousWrites"


class LimitCounters:
    """Number of refusals by each limit since the start of this process."""

    __slots__ = ("_counts", "_reads")

    def __init__(self) -> None:
        self._counts = {limit: 0 for limit in Limit}
        self._reads: dict[Limit, Callable[[], int]] = {}

    def count(self, limit: Limit) -> None:
        """Count one refusal."""
        self._counts[limit] += 1

    def read_from(self, limit: Limit, read: Callable[[], int]) -> None:
        """Use `read` for the count of a limit that is counted elsewhere."""
        self._reads[limit] = read

    def to_dict(self) -> dict[str, int]:
        """Return the count of each limit by its name."""
        counts = self._counts | {limit: read() for limit, read in self._reads.items()}
        return {limit.value: count for limit, count in counts.items()}
