"""The `security` controller: users and who they may be (contract/03 §7)."""

from protocol.errors import error
from protocol.messages import Json, Request
from server.actions import action, all_actions
from server.arguments import (
    body_names,
    body_object,
    read_body,
    read_flag,
    read_identifier,
    read_optional_body,
    read_optional_identifier,
    read_text,
)
from server.auth.callers import Caller
from server.auth.defaults import restrict
from server.auth.users import User
from server.services import Services


def show_user(user: User) -> Json:
    """Give a user as the API shows him."""
    return {"_id": user.kuid, "_source": user.source()}


@action(
    "security:createFirstAdmin",
    "POST /_createFirstAdmin/:_id",
    "POST /_createFirstAdmin",
    while_no_admin=True,
    is_audited=True,
)
async def create_first_admin(services: Services, caller: Caller, request: Request) -> Json:
    """Create the first administrator, while there is none: from this machine, or with the setup
    code that `serve` shows at start. With `reset` the built-in roles and profiles become what they
    were at first."""
    address = "" if request.peer is None else request.peer.address
    code = request.args.get("setupCode")
    is_trusted = caller.person.rights.is_admin
    if not is_trusted and not services.first_admin.is_allowed(address, request.headers, code):
        raise error("security.rights.unauthorized", "security", "createFirstAdmin", caller.kuid)
    is_reset = read_flag(request, "reset")
    shown = await _create_user(services, caller, request, ["admin"], is_first_admin=True)
    if is_reset:
        await restrict(services.storage, all_actions(), services.clock_ms)
    return shown


@action("security:createUser", "POST /users/_create", "POST /users/:_id/_create", is_audited=True)
async def create_user(services: Services, caller: Caller, request: Request) -> Json:
    """Create a user with profiles, content and credentials."""
    read_body(request)
    body_object(request, "content")
    profile_ids = body_names(request, "content.profileIds")
    return await _create_user(services, caller, request, profile_ids)


@action(
    "security:createRestrictedUser",
    "POST /users/_createRestricted",
    "POST /users/:_id/_createRestricted",
    is_audited=True,
)
async def create_restricted_user(services: Services, caller: Caller, request: Request) -> Json:
    """Create a user with the profiles of `security.restrictedProfileIds`; the request can't name
    others."""
    profile_ids = list(services.config.security.restricted_profile_ids)
    return await _create_user(services, caller, request, profile_ids)


async def _create_user(
    services: Services,
    caller: Caller,
    request: Request,
    profile_ids: list[str],
    *,
    is_first_admin: bool = False,
) -> Json:
    read_optional_body(request)
    content = dict(body_object(request, "content", {}))
    named = content.pop("profileIds", None)
    if request.action != "createUser" and named is not None:
        raise error("api.assert.forbidden_argument", "body.content.profileIds")
    user = await services.users.create(
        kuid=read_optional_identifier(request),
        kind=read_text(request, "kuid", "human"),
        profile_ids=profile_ids,
        content=content,
        credentials=body_object(request, "credentials", {}),
        author=caller.kuid,
        only_if_no_admin=is_first_admin,
    )
    return show_user(user)


@action("security:getUser", "GET /users/:_id")
async def get_user(services: Services, caller: Caller, request: Request) -> Json:
    """Give a user."""
    kuid = read_identifier(request)
    user = await services.users.get(kuid)
    if user is None:
        raise error("security.user.not_found", kuid)
    return show_user(user)


@action("security:deleteUser", "DELETE /users/:_id", is_audited=True)
async def delete_user(services: Services, caller: Caller, request: Request) -> Json:
    """Delete a user with his credentials, API keys and sessions."""
    kuid = read_identifier(request)
    await services.users.delete(kuid)
    return {"_id": kuid}
