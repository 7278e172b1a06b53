"""The `security` controller's part about mappings, and `refresh` (contract/03 §7.9)."""

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import action
from server.api.arguments import read_body, read_identifier
from server.api.context import Services
from server.auth.search.mappings import (
    COLLECTIONS,
    PROFILE_COLLECTION,
    ROLE_COLLECTION,
    USER_COLLECTION,
    Collection,
)
from server.auth.sessions.principal import Caller

_INFO = "_kuzzle_info"


@action("security:getUserMapping", "GET /users/_mapping")
async def get_user_mapping(services: Services, caller: Caller, request: Request) -> Json:
    """Give what the fields of users are to searches."""
    return await _get(services, USER_COLLECTION)


@action("security:getProfileMapping", "GET /profiles/_mapping")
async def get_profile_mapping(services: Services, caller: Caller, request: Request) -> Json:
    """Give what the fields of profiles are to searches."""
    return await _get(services, PROFILE_COLLECTION)


@action("security:getRoleMapping", "GET /roles/_mapping")
async def get_role_mapping(services: Services, caller: Caller, request: Request) -> Json:
    """Give what the fields of roles are to searches."""
    return await _get(services, ROLE_COLLECTION)


@action("security:updateUserMapping", "PUT /users/_mapping", is_audited=True)
async def update_user_mapping(services: Services, caller: Caller, request: Request) -> Json:
    """Declare fields of users: a `text` is searched by word, and the other simple types, of up to
    32 fields, are found fast."""
    return await services.mappings.update(USER_COLLECTION, read_body(request))


@action("security:updateProfileMapping", "PUT /profiles/_mapping", is_audited=True)
async def update_profile_mapping(services: Services, caller: Caller, request: Request) -> Json:
    """Declare fields of profiles; a `text` is searched by word."""
    return await services.mappings.update(PROFILE_COLLECTION, read_body(request))


@action("security:updateRoleMapping", "PUT /roles/_mapping", is_audited=True)
async def update_role_mapping(services: Services, caller: Caller, request: Request) -> Json:
    """Declare fields of roles; a `text` is searched by word."""
    return await services.mappings.update(ROLE_COLLECTION, read_body(request))


@action("security:refresh", "POST /_security/:collection/_refresh")
async def refresh(services: Services, caller: Caller, request: Request) -> Json:
    """Do nothing: whatever was acknowledged is found by the next search."""
    name = read_identifier(request, "collection")
    known = [collection.name for collection in COLLECTIONS]
    if name not in known:
        raise error("api.assert.unexpected_argument", name, known)
    return None


async def _get(services: Services, collection: Collection) -> Json:
    mapping = await services.mappings.get(collection)
    properties = mapping["properties"]
    shown = properties if isinstance(properties, dict) else {}
    return {"mapping": {name: said for name, said in shown.items() if name != _INFO}}
