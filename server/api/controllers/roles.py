"""Role actions (`security` controller), and the initial rights."""

from protocol.api.request import Json, Request
from server.api.actions import Outcome, action, all_actions
from server.api.arguments import check_retries, read_body, read_flag, read_identifier
from server.api.context import AppContext
from server.api.results import delete_each, give_each, write_document
from server.auth.access.builtin import restrict
from server.auth.sessions.principal import Caller


@action("security:createRole", "POST /roles/:_id/_create", is_audited=True, query=("force",))
async def create_role(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create a role: the actions it allows, by controller. With `force` unknown controllers are
    accepted."""
    await services.step_up.check_access(caller.principal)
    role_id, force = read_identifier(request), read_flag(request, "force")
    return write_document(
        await services.roles.create(role_id, read_body(request), caller.kuid, force=force)
    )


@action("security:createOrReplaceRole", "PUT /roles/:_id", is_audited=True, query=("force",))
async def create_or_replace_role(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create a role, or replace an existing one."""
    await services.step_up.check_access(caller.principal)
    role_id, force, body = read_identifier(request), read_flag(request, "force"), read_body(request)
    role = await services.roles.create_or_replace(role_id, body, caller.kuid, force=force)
    return write_document(role)


@action(
    "security:updateRole",
    "PUT /roles/:_id/_update",
    is_audited=True,
    query=("force", "retryOnConflict"),
)
async def update_role(services: AppContext, caller: Caller, request: Request) -> Json:
    """Replace an existing role completely."""
    await services.step_up.check_access(caller.principal)
    role_id, force, body = read_identifier(request), read_flag(request, "force"), read_body(request)
    check_retries(request)
    return write_document(await services.roles.replace(role_id, body, caller.kuid, force=force))


@action("security:getRole", "GET /roles/:_id")
async def get_role(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return a role."""
    return write_document(await services.roles.get(read_identifier(request)))


@action("security:mGetRoles", "POST /roles/_mGet")
async def m_get_roles(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the roles in the body's `ids`, all of them or none."""
    return await give_each(services, request, services.roles.get_all)


@action("security:deleteRole", "DELETE /roles/:_id", is_audited=True)
async def delete_role(services: AppContext, caller: Caller, request: Request) -> Json:
    """Delete a role that no profile uses."""
    await services.step_up.check_access(caller.principal)
    role_id = read_identifier(request)
    await services.roles.delete(role_id)
    return {"_id": role_id}


@action("security:mDeleteRoles", "POST /roles/_mDelete", is_audited=True)
async def m_delete_roles(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Delete the roles in the body's `ids`, and report those that could not be deleted."""
    await services.step_up.check_access(caller.principal)
    return await delete_each(services, request, services.roles.delete)


@action("security:restrictDefaultRights", "POST /_restrictDefaultRights", is_audited=True)
async def restrict_default_rights(
    services: AppContext, caller: Caller, request: Request
) -> Outcome:
    """Reset the built-in roles and profiles to their initial state."""
    await services.step_up.check_access(caller.principal)
    await services.storage.apply(restrict(all_actions(), services.clock_ms()))
    return Outcome(has_result=False)
