"""User actions (`security` controller)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import Outcome, action, all_actions
from server.api.arguments import (
    body_names,
    body_object,
    check_retries,
    read_body,
    read_flag,
    read_identifier,
    read_names,
    read_optional_body,
    read_optional_identifier,
    read_text,
)
from server.api.context import AppContext
from server.api.results import delete_each, limit_ids, write_check, write_user
from server.auth.access.builtin import restrict
from server.auth.assurance import Principal
from server.auth.identity.user import User
from server.auth.sessions.principal import Caller
from server.core.documents import Weight
from server.storage.base import Change

_NO_INFO: dict[str, object] = {
    "author": None,
    "createdAt": None,
    "updatedAt": None,
    "updater": None,
}
"""`_kuzzle_info` of the anonymous user, who has no author; clients read it in every hit."""


@action(
    "security:createFirstAdmin",
    "POST /_createFirstAdmin/:_id",
    "POST /_createFirstAdmin",
    while_no_admin=True,
    is_audited=True,
    query=("_id", "kuid", "reset", "setupCode"),
    hashes=True,
)
async def create_first_admin(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create the first administrator, while there is none: by a program on this machine, or with
    the setup code that `serve` prints. The body must contain credentials that can log in. With
    `reset` the built-in roles and profiles are reset to their initial state."""
    if await services.users.admin_exists():
        raise error("api.process.admin_exists")
    await _check_may_set_up(services, caller, request)
    read_optional_body(request)
    await services.first_admin.check_credentials(body_object(request, "credentials", {}))
    rights: list[Change] = []
    if read_flag(request, "reset"):
        rights = restrict(all_actions(), services.clock_ms())
    created = await _create_user(services, caller, request, ["admin"], rights)
    services.first_admin.spend()
    return created


async def _check_may_set_up(services: AppContext, caller: Caller, request: Request) -> None:
    """Raise ApiError 401 unless this request may create the first administrator; 429 for a setup
    code after too many wrong ones."""
    first_admin, code = services.first_admin, request.args.get("setupCode")
    await first_admin.refresh()
    if code is None:
        peer_address = "" if request.peer is None else request.peer.address
        first_admin.check_local(caller.kuid, peer_address, request.headers)
        return
    address = services.addresses.of(request)
    # Per address: a guessing client must not prevent the operator from using the code.
    account = f"_setupCode {address}"
    check = partial(first_admin.check_code, caller.kuid, code)
    await services.logins.confirm(account, address, check)


@action(
    "security:createUser",
    "POST /users/_create",
    "POST /users/:_id/_create",
    is_audited=True,
    query=("_id", "kuid"),
    hashes=True,
)
async def create_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create a user with profiles, content and credentials."""
    read_body(request)
    body_object(request, "content")
    profile_ids = body_names(request, "content.profileIds")
    return await _create_user(services, caller, request, profile_ids, granted_by=caller.principal)


@action(
    "security:createRestrictedUser",
    "POST /users/_createRestricted",
    "POST /users/:_id/_createRestricted",
    is_audited=True,
    query=("_id", "kuid"),
    hashes=True,
)
async def create_restricted_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create a user with the profiles of `security.restrictedProfileIds`; the request cannot name
    others. Unauthenticated clients cannot register credentials that are proved by logging in, like
    those of an identity provider: they might belong to another person."""
    read_optional_body(request)
    if not caller.person.rights.allows("security", "createCredentials", {}):
        for name in body_object(request, "credentials", {}):
            if services.logins.proves(name):
                raise error("api.assert.forbidden_argument", f"body.credentials.{name}")
    if caller.is_anonymous:
        services.logins.count_registration(services.addresses.of(request))
    profile_ids = list(services.config.security.restricted_profile_ids)
    return await _create_user(services, caller, request, profile_ids)


async def _create_user(
    services: AppContext,
    caller: Caller,
    request: Request,
    profile_ids: list[str],
    rights: Sequence[Change] | None = None,
    *,
    granted_by: Principal | None = None,
) -> Json:
    """Create a user; with `rights`, changes in the same transaction, the first administrator.
    `granted_by` chose the profiles, None if the configuration did."""
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
        granted_by=granted_by,
        only_if_no_admin=rights is not None,
        more=rights or (),
    )
    return write_user(user)


@action("security:getUser", "GET /users/:_id")
async def get_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return a user."""
    return write_user(await _find(services, read_identifier(request)))


@action("security:mGetUsers", "GET /users/_mGet", "POST /users/_mGet", query=("ids",))
async def m_get_users(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the users in the body's `ids`, or else in the argument `ids`; unknown ones are
    skipped."""
    ids = body_names(request, "ids", []) or read_names(request, "ids")
    if not ids:
        raise error("api.assert.missing_argument", "ids")
    most = services.config.limits.documents_fetch_count
    users = await services.users.get_all(
        limit_ids(ids, most, "services.storage.get_limit_exceeded"), Weight()
    )
    hits: list[Json] = [
        write_user(user if user.info else replace(user, info=_NO_INFO)) for user in users
    ]
    return {"hits": hits}


@action(
    "security:updateUser",
    "PUT /users/:_id/_update",
    is_audited=True,
    query=("retryOnConflict",),
)
async def update_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Update a user's document with the body: objects are merged, everything else is replaced.
    Profiles are kept unless `profileIds` is given."""
    kuid, content = read_identifier(request), read_body(request)
    check_retries(request)
    has_profiles = content.get("profileIds") is not None
    profile_ids = body_names(request, "profileIds") if has_profiles else None
    by = caller.principal
    return write_user(await services.user_changes.update(kuid, content, by, profile_ids))


@action("security:replaceUser", "PUT /users/:_id/_replace", is_audited=True)
async def replace_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Replace a user's document and profiles by the body completely. Credentials are kept."""
    kuid, content = read_identifier(request), read_body(request)
    profile_ids = body_names(request, "profileIds")
    by = caller.principal
    return write_user(await services.user_changes.replace(kuid, content, profile_ids, by))


@action(
    "security:upsertUser",
    "POST /users/:_id/_upsert",
    is_audited=True,
    query=("retryOnConflict",),
    hashes=True,
)
async def upsert_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Update a user with the body's `content`, or create the user. Only when created, `default`
    completes `content`, and `credentials` are created."""
    kuid = read_identifier(request)
    check_retries(request)
    user = await services.user_changes.upsert(
        kuid,
        content=body_object(request, "content"),
        profile_ids=body_names(request, "content.profileIds"),
        defaults=body_object(request, "default", {}),
        credentials=body_object(request, "credentials", {}),
        by=caller.principal,
    )
    return write_user(user)


@action("security:deleteUser", "DELETE /users/:_id", is_audited=True)
async def delete_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Delete a user and their credentials, API keys and sessions."""
    kuid = read_identifier(request)
    await services.users.delete(kuid)
    return {"_id": kuid}


@action("security:mDeleteUsers", "POST /users/_mDelete", is_audited=True)
async def m_delete_users(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Delete the users in the body's `ids`, and report those that could not be deleted."""
    return await delete_each(services, request, services.users.delete)


@action("security:disableUser", "POST /users/:_id/_disable", is_audited=True)
async def disable_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Disable a user: their tokens, API keys and logins are rejected, their sessions are revoked,
    and `disabled` is shown beside their document. Callers cannot disable themselves."""
    kuid = read_identifier(request)
    if kuid == caller.kuid:
        raise error("api.assert.invalid_argument", "_id", "another user than the caller")
    await services.user_changes.disable(kuid, caller.principal)
    return {"_id": kuid, "disabled": True}


@action("security:enableUser", "POST /users/:_id/_enable", is_audited=True)
async def enable_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Re-enable a disabled user; their API keys are valid again, revoked sessions stay revoked."""
    kuid = read_identifier(request)
    await services.user_changes.enable(kuid, caller.principal)
    return {"_id": kuid, "disabled": False}


@action("security:unlockUser", "POST /users/:_id/_unlock", is_audited=True)
async def unlock_user(services: AppContext, caller: Caller, request: Request) -> Json:
    """Reset the failed login counters of a user for all client addresses, so that the next attempt
    need not wait. The counters of addresses are kept."""
    kuid = read_identifier(request)
    await services.user_changes.unlock(kuid)
    await services.logins.unlock(kuid)  # other processes are notified
    return {"_id": kuid}


@action("security:getUserRights", "GET /users/:_id/_rights")
async def get_user_rights(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the rights of a user: one item for each controller, action, index and collection."""
    user = await _find(services, read_identifier(request))
    hits = (await services.rulebook.rights_of(user.profile_ids)).listed()
    return {"hits": hits, "total": len(hits)}


@action("security:getUserStrategies", "GET /users/:_id/_strategies")
async def get_user_strategies(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the strategies a user has credentials for."""
    user = await _find(services, read_identifier(request))
    strategies = await services.users.strategies_of(user.kuid)
    return {"strategies": strategies, "total": len(strategies)}


@action("security:checkRights", "POST /_checkRights/:userId")
async def check_user_rights(services: AppContext, caller: Caller, request: Request) -> Json:
    """Check whether a user may send the request in the body."""
    kuid = read_identifier(request, "userId")
    read_body(request)
    user = await _find(services, kuid)
    return write_check(await services.rulebook.rights_of(user.profile_ids), request)


async def _find(services: AppContext, kuid: str) -> User:
    user = await services.users.get(kuid)
    if user is None:
        raise error("security.user.not_found", kuid)
    return user
