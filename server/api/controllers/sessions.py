"""Session actions: list and revoke the caller's own sessions (`auth`) and other users'
(`security`)."""

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import action
from server.api.arguments import read_identifier
from server.api.context import AppContext
from server.auth.sessions.principal import Caller
from server.core.ids import ANONYMOUS_ID, ANONYMOUS_IDS, is_id


@action("auth:getMySessions", "GET /_me/sessions", granted=("default",), needs_user=True)
async def get_my_sessions(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the caller's sessions, newest first, with login time, address and strategy; `current`
    marks the session of this request."""
    hits = await services.sessions.of(caller.kuid, caller.session_id)
    return {"hits": hits, "total": len(hits)}


@action(
    "auth:deleteMySession",
    "DELETE /_me/sessions/:_id",
    granted=("default",),
    needs_user=True,
    is_audited=True,
)
async def delete_my_session(services: AppContext, caller: Caller, request: Request) -> Json:
    """Revoke one of the caller's sessions, effective immediately."""
    session_id = read_identifier(request)
    await services.sessions.end(caller.kuid, session_id)
    return {"_id": session_id}


@action("security:getUserSessions", "GET /users/:_id/sessions")
async def get_user_sessions(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the sessions of a user, newest first."""
    kuid = read_identifier(request)
    user = await services.users.get(kuid)
    if user is None:
        raise error("security.user.not_found", kuid)
    hits = await services.sessions.of(user.kuid, caller.session_id)
    return {"hits": hits, "total": len(hits)}


@action("security:deleteUserSession", "DELETE /users/:_id/sessions/:sessionId", is_audited=True)
async def delete_user_session(services: AppContext, caller: Caller, request: Request) -> Json:
    """Revoke a session of a user, effective immediately."""
    kuid, session_id = read_identifier(request), read_identifier(request, "sessionId")
    await services.sessions.end(kuid, session_id)
    return {"_id": session_id}


@action("security:revokeTokens", "DELETE /users/:_id/tokens", is_audited=True)
async def revoke_tokens(services: AppContext, caller: Caller, request: Request) -> Json:
    """Revoke all sessions of a user, effective immediately; their API keys stay valid."""
    kuid = read_identifier(request)
    kuid = ANONYMOUS_ID if kuid in ANONYMOUS_IDS else kuid
    if kuid == caller.kuid and request.peer is not None:
        services.links.unlink(request.peer)  # the caller needs no notification
    if is_id(kuid):
        await services.tokens.revoke_all(kuid)
    return None


# Not below /users: a user may have any ID, and deleting them must never mean this.
@action("security:revokeAllTokens", "DELETE /_tokens", is_audited=True)
async def revoke_all_tokens(services: AppContext, caller: Caller, request: Request) -> Json:
    """Revoke all sessions of all users, except the session of this request; API keys stay valid."""
    await services.sessions.end_everybodys(caller.token_hash)
    return None
