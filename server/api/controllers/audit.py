"""Audit log search (`security` controller)."""

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import action
from server.api.arguments import (
    body_text,
    read_integer,
    read_optional_body,
    read_optional_identifier,
)
from server.api.context import AppContext
from server.auth.audit.events import Ending
from server.auth.audit.log import Wanted
from server.auth.sessions.principal import Caller

# The most selective first: they are used for the index lookup.
_TEXTS = ("subject", "actor", "address", "kind", "outcome")
_TIMES = ("since", "until")
_OUTCOMES = tuple(ending.value for ending in Ending)
_PAGE = 10
_MAX_MS = 2**47 - 1  # limit of event IDs: some 4,000 years


@action("security:searchAudit", "POST /_audit/_search")
async def search_audit(services: AppContext, caller: Caller, request: Request) -> Json:
    """Search the audit log, newest events first. The body may filter by `subject`, `actor`, `kind`
    (like "auth:login"), `outcome` (ok, refused, pending), `address`, and times in ms since 1970:
    `since`, and `until`, which is not included. `search_after` is the `_id` of an event; only older
    events are returned."""
    start, size = _read_count(request, "from", 0), _read_count(request, "size", _PAGE)
    if start + size > services.config.limits.documents_fetch_count:
        raise error("services.storage.get_limit_exceeded")
    hits, total = await services.trail.search(_read_wanted(request), start=start, size=size)
    return {"hits": hits, "total": total}


def _read_wanted(request: Request) -> Wanted:
    for name in read_optional_body(request):
        if name not in (*_TEXTS, *_TIMES):
            raise error("api.assert.invalid_argument", f"body.{name}", ", ".join(_TEXTS + _TIMES))
    where = {name: _read_text(request, name) for name in _TEXTS if _is_given(request, name)}
    if where.get("outcome", Ending.OK.value) not in _OUTCOMES:
        raise error("api.assert.invalid_argument", "body.outcome", ", ".join(_OUTCOMES))
    since_ms, until_ms = (_read_time(request, name) for name in _TIMES)
    before = read_optional_identifier(request, "search_after")
    if before is not None:
        _check_text("search_after", before)
    return Wanted(where, since_ms, until_ms, before)


def _is_given(request: Request, name: str) -> bool:
    return read_optional_body(request).get(name) is not None


def _read_text(request: Request, name: str) -> str:
    return _check_text(f"body.{name}", body_text(request, name))


def _check_text(name: str, text: str) -> str:
    """Reject lone surrogates: the database cannot compare them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise error("api.assert.invalid_argument", name, "whole Unicode characters") from None
    return text


def _read_time(request: Request, name: str) -> int | None:
    value = read_optional_body(request).get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_MS:
        raise error("api.assert.invalid_argument", f"body.{name}", "milliseconds since 1970")
    return value


def _read_count(request: Request, name: str, default: int) -> int:
    count = read_integer(request, name, default)
    if count < 0:
        raise error("api.assert.invalid_argument", name, "a number from 0 up")
    return count
