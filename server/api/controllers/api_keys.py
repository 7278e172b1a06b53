"""API key actions: for the caller's own keys (`auth`) and other users' keys (`security`)."""

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import Outcome, action
from server.api.arguments import (
    body_text,
    read_identifier,
    read_natural,
    read_optional_body,
    read_optional_identifier,
    read_text,
)
from server.api.context import AppContext
from server.auth.identity.user import User
from server.auth.search.parser import parse_query
from server.auth.sessions.api_keys import SEARCHED, read_key_lifetime
from server.auth.sessions.principal import Caller
from server.core.ids import ANONYMOUS_ID, ANONYMOUS_IDS

_PAGE = 10


@action("auth:createApiKey", "POST /api-keys/_create", is_audited=True, query=("_id", "expiresIn"))
async def create_api_key(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Create an API key for the caller. Its token is returned only once. Users who have a second
    factor, or for whom one is required, need a session that was authenticated with it."""
    ttl_ms = services.api_keys.own_lifetime_ms(request.args.get("expiresIn"))
    return await _create(services, caller, request, caller.person.user, ttl_ms)


@action("auth:searchApiKeys", "POST /api-keys/_search", query=("from", "size", "lang"))
async def search_api_keys(services: AppContext, caller: Caller, request: Request) -> Json:
    """Search the caller's API keys. The body is a query; without one all keys are returned."""
    return await _search(services, caller.kuid, request)


@action("auth:deleteApiKey", "DELETE /api-keys/:_id", is_audited=True)
async def delete_api_key(services: AppContext, caller: Caller, request: Request) -> Json:
    """Revoke an API key of the caller, effective immediately."""
    return await _delete(services, caller.kuid, request)


@action(
    "security:createApiKey",
    "POST /users/:userId/api-keys/_create",
    is_audited=True,
    query=("_id", "expiresIn"),
)
async def create_users_api_key(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Create an API key for a user, with any lifetime. Its token is returned only once."""
    kuid = read_identifier(request, "userId")
    ttl_ms = read_key_lifetime(request.args.get("expiresIn"))
    user = await services.users.get(kuid)
    if user is None:
        raise error("security.user.not_found", kuid)
    return await _create(services, caller, request, user, ttl_ms)


@action(
    "security:searchApiKeys", "POST /users/:userId/api-keys/_search", query=("from", "size", "lang")
)
async def search_users_api_keys(services: AppContext, caller: Caller, request: Request) -> Json:
    """Search a user's API keys. The body is a query; without one all keys are returned."""
    return await _search(services, _user_id(request), request)


@action("security:deleteApiKey", "DELETE /users/:userId/api-keys/:_id", is_audited=True)
async def delete_users_api_key(services: AppContext, caller: Caller, request: Request) -> Json:
    """Revoke an API key of a user, effective immediately."""
    return await _delete(services, _user_id(request), request)


async def _create(
    services: AppContext, caller: Caller, request: Request, user: User, ttl_ms: int
) -> Outcome:
    description = body_text(request, "description")
    key_id = read_optional_identifier(request)
    made = await services.api_keys.create(user, description, ttl_ms, key_id, caller.principal)
    return Outcome(made, is_private=True)


async def _search(services: AppContext, kuid: str, request: Request) -> Json:
    start, size = read_natural(request, "from", 0), read_natural(request, "size", _PAGE)
    lang = read_text(request, "lang", "elasticsearch")
    query = parse_query(
        read_optional_body(request),
        lang=lang,
        fields=SEARCHED,
        on_limit=services.counting.limits.count,
    )
    hits = await services.api_keys.search(kuid, query, start=start, size=size)
    return {"hits": hits, "total": len(hits)}


async def _delete(services: AppContext, kuid: str, request: Request) -> Json:
    key_id = read_identifier(request)
    await services.api_keys.delete(kuid, key_id)
    return {"_id": key_id}


def _user_id(request: Request) -> str:
    kuid = read_identifier(request, "userId")
    return ANONYMOUS_ID if kuid in ANONYMOUS_IDS else kuid
