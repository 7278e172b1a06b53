"""Actions for credentials of users (`security` controller)."""

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import action
from server.api.arguments import read_body, read_flag, read_identifier, read_optional_identifier
from server.api.context import AppContext
from server.api.login_steps import principal_of
from server.api.results import read_credential_id, read_strategy
from server.auth.sessions.principal import Caller
from server.core.ids import ANONYMOUS_IDS, is_id


@action(
    "security:createCredentials",
    "POST /credentials/:strategy/:_id/_create",
    is_audited=True,
    hashes=True,
)
async def create_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Create credentials of a further strategy for a user."""
    name, kuid, given = _read(services, request)
    await _check_user(services, kuid)
    by = principal_of(services, caller, request)
    return await services.credentials.create(name, kuid, given, by)


@action(
    "security:updateCredentials",
    "PUT /credentials/:strategy/:_id/_update",
    is_audited=True,
    query=("revokeTokens",),
    hashes=True,
)
async def update_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Update a user's credentials. `revokeTokens` revokes their sessions, except the session of
    this request; API keys stay valid."""
    name, kuid, given = _read(services, request)
    revokes = read_flag(request, "revokeTokens")
    await _check_user(services, kuid)
    by = principal_of(services, caller, request)
    return await services.credentials.update(name, kuid, given, by, revokes=revokes)


@action("security:validateCredentials", "POST /credentials/:strategy/:_id/_validate", hashes=True)
async def validate_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Validate credentials for a user, or without `_id` for a new one; nothing is changed."""
    name = read_strategy(services, request)
    kuid, given = read_optional_identifier(request), read_body(request)
    if kuid is not None:
        _check_id(kuid)
    await services.strategies.get(name).validate(given, kuid, False)
    return True


@action("security:hasCredentials", "GET /credentials/:strategy/:_id/_exists")
async def has_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Check whether a user has credentials of a strategy."""
    name, kuid = read_strategy(services, request), read_identifier(request)
    return is_id(kuid) and await services.strategies.get(name).exists(kuid)


@action("security:getCredentials", "GET /credentials/:strategy/:_id")
async def get_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return a user's credentials of a strategy, without secrets."""
    name, kuid = read_strategy(services, request), read_identifier(request)
    _check_id(kuid)
    return await services.credentials.show(name, kuid)


@action("security:getCredentialsById", "GET /credentials/:strategy/:_id/_byId")
async def get_credentials_by_id(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the credentials with this strategy-specific ID, such as a username, without
    secrets."""
    name, identifier = read_strategy(services, request), read_identifier(request)
    return await services.credentials.show_by_id(name, identifier)


@action(
    "security:deleteCredentials",
    "DELETE /credentials/:strategy/:_id",
    is_audited=True,
    query=("credentialId",),
)
async def delete_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Delete a user's credentials of a strategy, even their last ones; with `credentialId` only one
    of several keys. Sessions stay valid."""
    name, kuid = read_strategy(services, request), read_identifier(request)
    _check_id(kuid)
    one = read_credential_id(request)
    by = principal_of(services, caller, request)
    await services.credentials.delete(name, kuid, by, one=one, keeps_a_method=False)
    return {"acknowledged": True}


@action("security:getCredentialFields", "GET /credentials/:strategy/_fields")
async def get_credential_fields(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the credential fields of a strategy."""
    return list(services.strategies.get(read_strategy(services, request)).fields)


@action("security:getAllCredentialFields", "GET /credentials/_fields")
async def get_all_credential_fields(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the credential fields of all strategies."""
    strategies = services.strategies
    return {name: list(strategies.get(name).fields) for name in strategies.names()}


def _read(services: AppContext, request: Request) -> tuple[str, str, dict[str, object]]:
    """Return the strategy, the user ID and the credentials, checked in this order."""
    return read_strategy(services, request), read_identifier(request), read_body(request)


async def _check_user(services: AppContext, kuid: str) -> None:
    """Raise ApiError 404 for an unknown user, and the anonymous one, who cannot log in."""
    if kuid in ANONYMOUS_IDS or await services.users.get(kuid) is None:
        raise error("security.user.not_found", kuid)


def _check_id(kuid: str) -> None:
    """Reject an invalid ID before it reaches a strategy."""
    if not is_id(kuid):
        raise error("security.user.not_found", kuid)
