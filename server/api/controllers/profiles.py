"""Profile actions (`security` controller)."""

from protocol.api.request import Json, Request
from server.api.actions import Outcome, action
from server.api.arguments import (
    body_array,
    check_retries,
    read_body,
    read_flag,
    read_identifier,
    read_text,
)
from server.api.context import AppContext
from server.api.results import delete_each, give_each, write_document
from server.auth.sessions.principal import Caller


@action("security:createProfile", "POST /profiles/:_id/_create", is_audited=True, query=("strict",))
async def create_profile(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create a profile: roles, each valid everywhere or restricted to indexes and collections, and
    a rate limit in requests per second."""
    await services.step_up.check_access(caller.principal)
    profile_id, strict = read_identifier(request), read_flag(request, "strict")
    body = _read_profile(request)
    return write_document(
        await services.profiles.create(profile_id, body, caller.kuid, strict=strict)
    )


@action("security:createOrReplaceProfile", "PUT /profiles/:_id", is_audited=True, query=("strict",))
async def create_or_replace_profile(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create a profile, or replace an existing one."""
    await services.step_up.check_access(caller.principal)
    profile_id, strict = read_identifier(request), read_flag(request, "strict")
    body = _read_profile(request)
    profiles = services.profiles
    return write_document(
        await profiles.create_or_replace(profile_id, body, caller.kuid, strict=strict)
    )


@action(
    "security:updateProfile",
    "PUT /profiles/:_id/_update",
    is_audited=True,
    query=("strict", "retryOnConflict"),
)
async def update_profile(services: AppContext, caller: Caller, request: Request) -> Json:
    """Update a profile with the members of the body; arrays are replaced as a whole."""
    await services.step_up.check_access(caller.principal)
    profile_id, strict = read_identifier(request), read_flag(request, "strict")
    check_retries(request)
    body = read_body(request)
    return write_document(
        await services.profiles.update(profile_id, body, caller.kuid, strict=strict)
    )


@action("security:getProfile", "GET /profiles/:_id")
async def get_profile(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return a profile."""
    return write_document(await services.profiles.get(read_identifier(request)))


@action("security:mGetProfiles", "POST /profiles/_mGet")
async def m_get_profiles(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the profiles in the body's `ids`, all of them or none."""
    return await give_each(services, request, services.profiles.get_all)


@action("security:getProfileRights", "GET /profiles/:_id/_rights")
async def get_profile_rights(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the rights of a profile: one item for each controller, action, index and collection."""
    profile = await services.profiles.get(read_identifier(request))
    hits = (await services.rulebook.rights_of([profile.id])).listed()
    return {"hits": hits, "total": len(hits)}


@action(
    "security:deleteProfile", "DELETE /profiles/:_id", is_audited=True, query=("onAssignedUsers",)
)
async def delete_profile(services: AppContext, caller: Caller, request: Request) -> Json:
    """Delete a profile that no user has. With `onAssignedUsers` = `remove` it is removed from its
    users first; users without another profile get the anonymous one."""
    await services.step_up.check_access(caller.principal)
    profile_id = read_identifier(request)
    takes_away = read_text(request, "onAssignedUsers", "fail") == "remove"
    await services.profiles.delete(profile_id, takes_away=takes_away)
    return {"_id": profile_id}


@action("security:mDeleteProfiles", "POST /profiles/_mDelete", is_audited=True)
async def m_delete_profiles(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Delete the profiles in the body's `ids`, and report those that could not be deleted."""
    await services.step_up.check_access(caller.principal)
    return await delete_each(services, request, services.profiles.delete)


def _read_profile(request: Request) -> dict[str, object]:
    """Return the body of a complete profile."""
    body = read_body(request)
    body_array(request, "policies")
    return body
