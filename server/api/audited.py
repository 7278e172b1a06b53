"""Audited actions: run them, and record the request and its outcome in the audit log.

Knows requests, which `server.auth` does not; an action reports details with
`server.auth.audit.events.tell`.
"""

import logging
from collections.abc import Callable

from protocol.api.request import Json, Request
from protocol.errors import ApiError
from server.api.actions import Action, Outcome
from server.api.context import AppContext
from server.auth.audit.events import Event, Line, Source, carry
from server.auth.audit.log import AuditLog
from server.auth.sessions.principal import Caller
from server.config.model import Config
from server.core.ids import is_id
from server.storage.base import Storage
from server.system.logs import log_facts

_LOG = logging.getLogger("manykeys.audit")


def source_of(services: AppContext, request: Request) -> Source:
    """Return the client address and user agent of a request."""
    return Source(services.addresses.of(request), request.headers.get("user-agent", ""))


async def run_audited(
    services: AppContext, action: Action, caller: Caller, request: Request
) -> Json | Outcome:
    """Run an action, record it in the audit log, however it ends, and send its security
    notifications to the operator's systems."""
    line = _begin(services, action, caller, request)
    try:
        result = await carry(line, action.handler(services, caller, request))
    except ApiError as refused:
        services.trail.refuse(line, refused)
        services.notifier.note(line)
        raise
    services.trail.finish(line)
    services.notifier.note(line)
    return result


def note_refusal(
    services: AppContext, action: Action, caller: Caller, request: Request, refused: ApiError
) -> None:
    """Record a request for an audited action that was rejected before the action ran."""
    services.trail.refuse(_begin(services, action, caller, request), refused)


def make_trail(config: Config, storage: Storage, *, clock_ms: Callable[[], int]) -> AuditLog:
    """Return the configured audit log."""
    given = config.security.audit
    return AuditLog(
        storage,
        clock_ms=clock_ms,
        is_on=given.enabled,
        retention_ms=given.retention_ms,
        most_events=given.max_events,
        on_event=log_event if config.logs.audit else None,
    )


def log_event(event: Event) -> None:
    """Write an audit event to the server log, for operators who collect it elsewhere."""
    log_facts(
        _LOG,
        event.kind,
        {
            "outcome": event.ending.value,
            "reason": event.reason,
            "subject": event.subject,
            "target": event.target,
            "actor": event.actor,
            "address": event.address,
            "userAgent": event.user_agent,
            "strategy": event.strategy,
            "count": event.count,
        },
    )


def _begin(services: AppContext, action: Action, caller: Caller, request: Request) -> Line:
    named = request.args.get("strategy")
    return services.trail.begin(
        action.full_name,
        actor=caller.kuid,
        source=source_of(services, request),
        subject=_subject(action, caller, request),
        # Any other string could be anything, even a password.
        strategy=next((name for name in services.strategies.names() if name == named), ""),
    )


def _subject(action: Action, caller: Caller, request: Request) -> str:
    """Return the subject of an action as far as the request shows it."""
    if action.controller == "auth":
        return "" if "anonymous" in action.granted or caller.is_anonymous else caller.kuid
    named = request.args.get("userId") or request.args.get("_id")
    if not isinstance(named, str) or not is_id(named) or caller.is_anonymous:
        return ""
    return named
