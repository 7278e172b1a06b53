"""Statistics and metrics actions (`server` controller)."""

from datetime import UTC, datetime
from math import inf, isfinite

from protocol.api.request import Json, Request
from protocol.errors import ApiError, error
from server.api.actions import action
from server.api.context import AppContext
from server.api.metrics import Counting
from server.auth.sessions.principal import Caller

_MAX_TIME_CHARACTERS = 64


@action("server:metrics", "GET /_metrics")
async def metrics(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the numbers of requests in progress and of open connections."""
    return services.counting.metrics()


@action("server:getLastStats", deprecated=("GET /_getLastStats",))
async def get_last_stats(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the last statistics frame: requests completed and failed during the frame, requests in
    progress and open connections at its end."""
    return _find_counting(services).last()


@action("server:getAllStats", deprecated=("GET /_getAllStats",))
async def get_all_stats(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return all stored statistics frames, oldest first, the present one last."""
    hits = _find_counting(services).between(-inf, inf)
    return {"hits": hits, "total": len(hits)}


@action("server:getStats", deprecated=("GET /_getStats",), query=("startTime", "stopTime"))
async def get_stats(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the statistics frames from `startTime` to `stopTime`, as ms since 1970 or ISO 8601
    dates; without them all stored frames."""
    start_ms = _read_time_ms(request, "startTime", -inf)
    stop_ms = _read_time_ms(request, "stopTime", inf)
    hits = _find_counting(services).between(start_ms, stop_ms)
    return {"hits": hits, "total": len(hits)}


def _find_counting(services: AppContext) -> Counting:
    if not services.config.stats.enabled:
        raise error("core.fatal.service_unavailable", "stats.enabled is false")
    return services.counting


def _read_time_ms(request: Request, name: str, default: float) -> float:
    value = request.args.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str):
        value = _parse_time_ms(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _no_time(name)
    return value


def _parse_time_ms(text: str) -> float | None:
    """Parse a number of ms or a date, in UTC unless it has a time zone."""
    if len(text) > _MAX_TIME_CHARACTERS:
        return None
    try:
        number_ms = float(text)
    except ValueError:
        pass
    else:
        return number_ms if isfinite(number_ms) else None
    try:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1000
    except (ValueError, OverflowError):
        return None


def _no_time(name: str) -> ApiError:
    message = f'"{name}" is not valid: expected ms since 1970, or an ISO 8601 date'
    return error("api.assert.invalid_argument", name, "number", message=message)
