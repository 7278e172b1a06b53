"""API keys of the caller (`auth`, contract/02 §5) and of any user (`security`, contract/03 §7.6).

`refresh` is accepted and changes nothing: what is answered can be searched at once.
"""

from protocol.errors import error
from protocol.messages import Json, Request
from server.actions import Outcome, action
from server.arguments import (
    body_text,
    read_identifier,
    read_integer,
    read_optional_body,
    read_optional_identifier,
    read_text,
)
from server.auth.callers import Caller
from server.auth.queries import ELASTICSEARCH
from server.services import Services

_PAGE = 10


@action("auth:createApiKey", "POST /api-keys/_create")
async def create_api_key(services: Services, caller: Caller, request: Request) -> Outcome:
    """Make an API key of the caller's. Its token is shown this once."""
    ttl_ms = services.api_keys.own_lifetime_ms(request.args.get("expiresIn"))
    return await _create(services, caller, request, caller.kuid, ttl_ms)


@action("auth:searchApiKeys", "POST /api-keys/_search")
async def search_api_keys(services: Services, caller: Caller, request: Request) -> Json:
    """Search the caller's API keys; the body is the query itself. `total` counts the keys of this
    page."""
    return await _search(services, request, caller.kuid)


@action("auth:deleteApiKey", "DELETE /api-keys/:_id")
async def delete_api_key(services: Services, caller: Caller, request: Request) -> Json:
    """Delete an API key of the caller's: its token is refused from now on."""
    return await _delete(services, request, caller.kuid)


@action("security:createApiKey", "POST /users/:userId/api-keys/_create")
async def create_user_api_key(services: Services, caller: Caller, request: Request) -> Outcome:
    """Make an API key of a user's, of any lifetime. Its token is shown this once."""
    kuid = read_identifier(request, "userId")
    body_text(request, "description")
    user = await services.users.get(kuid)
    if user is None:
        raise error("security.user.not_found", kuid)
    ttl_ms = services.api_keys.lifetime_ms(request.args.get("expiresIn"))
    return await _create(services, caller, request, user.kuid, ttl_ms)


@action("security:searchApiKeys", "POST /users/:userId/api-keys/_search")
async def search_user_api_keys(services: Services, caller: Caller, request: Request) -> Json:
    """Search a user's API keys; the body is the query itself. `total` counts the keys of this
    page."""
    return await _search(services, request, read_identifier(request, "userId"))


@action("security:deleteApiKey", "DELETE /users/:userId/api-keys/:_id")
async def delete_user_api_key(services: Services, caller: Caller, request: Request) -> Json:
    """Delete an API key of a user's: its token is refused from now on."""
    return await _delete(services, request, read_identifier(request, "userId"))


async def _create(
    services: Services, caller: Caller, request: Request, kuid: str, ttl_ms: int
) -> Outcome:
    shown = await services.api_keys.create(
        kuid,
        body_text(request, "description"),
        ttl_ms,
        key_id=read_optional_identifier(request),
        author=caller.kuid,
    )
    return Outcome(shown, is_private=True)


async def _search(services: Services, request: Request, kuid: str) -> Json:
    start, size = read_integer(request, "from", 0), read_integer(request, "size", _PAGE)
    if start < 0 or size < 0:
        raise error("services.storage.unexpected_bad_request", "from and size are not negative")
    hits = await services.api_keys.search(
        kuid,
        read_optional_body(request),
        lang=read_text(request, "lang", ELASTICSEARCH),
        start=start,
        size=size,
    )
    return {"hits": hits, "total": len(hits)}


async def _delete(services: Services, request: Request, kuid: str) -> Json:
    key_id = read_identifier(request)
    await services.api_keys.delete(kuid, key_id)
    return {"_id": key_id}
