"""Answers that more than one controller gives."""

from protocol.messages import Json, Request
from server.actions import Outcome
from server.auth.audit import MOST_USER_AGENT_CHARACTERS
from server.auth.callers import Caller
from server.auth.issuing import Issued
from server.auth.lifetimes import NEVER
from server.services import Services


def write_login(services: Services, request: Request, issued: Issued) -> Outcome:
    """Hand out a session token (contract/02 §4 login), in a cookie alone where that is wanted."""
    result: dict[str, Json] = {"_id": issued.kuid, "expiresAt": issued.expires_at_ms}
    headers: dict[str, str] = {}
    if services.cookies.is_wanted(request):
        headers = services.cookies.write(request, issued)
    else:
        result["jwt"] = issued.token
    result["ttl"] = issued.ttl_ms
    return Outcome(result, headers=headers, is_private=True)


def shown_expiry(caller: Caller) -> int:
    """Give when a token expires as the wire says it: ms since 1970, -1 without end."""
    ends = caller.expires_at_ms
    return NEVER if ends == float("inf") else int(ends)


def describe_session(services: Services, request: Request, strategy: str) -> dict[str, object]:
    """Give what the list of sessions tells about one that this request begins."""
    return {
        "address": services.addresses.of(request),
        "userAgent": request.headers.get("user-agent", "")[:MOST_USER_AGENT_CHARACTERS],
        "strategy": strategy,
    }
