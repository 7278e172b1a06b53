"""Request log: one line for each request."""

import logging

from server.api.actions import is_reading
from server.system.log_limiter import FACTS as _FACTS
from server.system.logs import Facts


class RequestLog:
    """Logs one line for each request that `logs.requests` selects: `none`, `notable` or `all`.

    Notable are logins, changes, refusals and failures: all but successful reads.
    """

    def __init__(self, which: str, logger: logging.Logger | None = None) -> None:
        self._which = which
        self._logger = logger or logging.getLogger("request")

    def log_request(
        self,
        *,
        request_id: str,
        kuid: str | None,
        controller: str | None,
        action: str | None,
        status: int,
        duration_ms: float,
        origin: str,
        address: str,
    ) -> None:
        """Log a request and its outcome; server errors (5xx) at level error."""
        if not self.is_logged(action, status):
            return
        facts: Facts = {
            "controller": controller,
            "action": action,
            "status": status,
            "ms": round(duration_ms, 3),
            "kuid": kuid,
            "origin": origin,
            "address": address,
            "id": request_id,
        }
        level = logging.ERROR if status >= 500 else logging.INFO
        self._logger.log(level, "answered", extra={_FACTS: facts})

    def is_logged(self, action: str | None, status: int) -> bool:
        """Return whether a request with this outcome is logged."""
        if self._which != "notable":
            return self._which == "all"
        return status >= 300 or action is None or not is_reading(action)
