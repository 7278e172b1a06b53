"""Mapping actions (`security` controller): field types of users, profiles and roles, `refresh`."""

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import action
from server.api.arguments import read_body, read_identifier
from server.api.context import AppContext
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
async def get_user_mapping(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the field types of users for searches."""
    return await _get(services, USER_COLLECTION)


@action("security:getProfileMapping", "GET /profiles/_mapping")
async def get_profile_mapping(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the field types of profiles for searches."""
    return await _get(services, PROFILE_COLLECTION)


@action("security:getRoleMapping", "GET /roles/_mapping")
async def get_role_mapping(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the field types of roles for searches."""
    return await _get(services, ROLE_COLLECTION)


@action("security:updateUserMapping", "PUT /users/_mapping", is_audited=True)
async def update_user_mapping(services: AppContext, caller: Caller, request: Request) -> Json:
    """Declare field types of users: a `text` is searched by word; other simple types are indexed,
    for up to 32 fields."""
    return await services.mappings.update(USER_COLLECTION, read_body(request))


@action("security:updateProfileMapping", "PUT /profiles/_mapping", is_audited=True)
async def update_profile_mapping(services: AppContext, caller: Caller, request: Request) -> Json:
    """Declare field types of profiles; a `text` is searched by word."""
    return await services.mappings.update(PROFILE_COLLECTION, read_body(request))


@action("security:updateRoleMapping", "PUT /roles/_mapping", is_audited=True)
async def update_role_mapping(services: AppContext, caller: Caller, request: Request) -> Json:
    """Declare field types of roles; a `text` is searched by word."""
    return await services.mappings.update(ROLE_COLLECTION, read_body(request))


@action("security:refresh", "POST /_security/:collection/_refresh")
async def refresh(services: AppContext, caller: Caller, request: Request) -> Json:
    """Do nothing: acknowledged writes are always visible to the next search."""
    name = read_identifier(request, "collection")
    known = [collection.name for collection in COLLECTIONS]
    if name not in known:
        raise error("api.assert.unexpected_argument", name, known)
    return None


async def _get(services: AppContext, collection: Collection) -> Json:
    mapping = await services.mappings.get(collection)
    properties = mapping["properties"]
    shown = properties if isinstance(properties, dict) else {}
    return {"mapping": {name: said for name, said in shown.items() if name != _INFO}}
