"""Actions for the caller's own credentials (`auth` controller)."""

from dataclasses import replace
from functools import partial

from protocol.api.request import Json, Request
from server.api.actions import Outcome, action
from server.api.arguments import read_body, read_flag
from server.api.context import AppContext
from server.api.login_steps import enter_claim, principal_of, read_attempt, send_on
from server.api.results import read_credential_id, read_strategy
from server.auth.assurance import Principal, TokenKind
from server.auth.login.flow import Visit
from server.auth.login.mfa import LoginPending
from server.auth.login.pending import Linking
from server.auth.sessions.principal import Caller


@action(
    "auth:createMyCredentials",
    "POST /_me/credentials/:strategy/_create",
    deprecated=("POST /credentials/:strategy/_me/_create",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
    hashes=True,
)
async def create_my_credentials(
    services: AppContext, caller: Caller, request: Request
) -> Json | Outcome:
    """Create credentials of a further strategy for the caller. If the strategy requires proof, this
    continues in steps as a login does."""
    name, given = read_strategy(services, request), read_body(request)
    by = principal_of(services, caller, request)
    if services.logins.proves(name):
        by = await services.credentials.check(name, caller.kuid, by)
        return await _link(services, request, await _linking_by(services, caller, by))
    create = partial(services.credentials.create, name, caller.kuid, given, by)
    return await services.logins.probe(caller.kuid, services.addresses.of(request), create)


@action(
    "auth:updateMyCredentials",
    "PUT /_me/credentials/:strategy/_update",
    deprecated=("PUT /credentials/:strategy/_me/_update",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
    query=("revokeTokens",),
    hashes=True,
)
async def update_my_credentials(
    services: AppContext, caller: Caller, request: Request
) -> Json | Outcome:
    """Update the caller's credentials. `revokeTokens` revokes their other sessions, API keys stay
    valid. If the server requires it, `currentPassword` in the body is the current password. If the
    strategy requires proof, this continues in steps as a login does."""
    name, revokes = read_strategy(services, request), read_flag(request, "revokeTokens")
    given, by = read_body(request), principal_of(services, caller, request)
    if services.logins.proves(name):
        by = await services.credentials.check(name, caller.kuid, by, is_present=True)
        linking = replace(await _linking_by(services, caller, by), is_update=True, revokes=revokes)
        return await _link(services, request, linking)
    update = partial(services.credentials.update, name, caller.kuid, given, by, revokes=revokes)
    return await services.logins.probe(caller.kuid, services.addresses.of(request), update)


@action(
    "auth:validateMyCredentials",
    "POST /_me/credentials/:strategy/_validate",
    deprecated=("POST /credentials/:strategy/_me/_validate",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
    hashes=True,
)
async def validate_my_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Validate credentials for the caller; nothing is changed. Usernames in use count as failed
    attempts: after a few of them the caller has to wait."""
    strategy = services.strategies.get(read_strategy(services, request))
    check = partial(strategy.validate, read_body(request), caller.kuid, False)
    await services.logins.probe(caller.kuid, services.addresses.of(request), check)
    return True


@action(
    "auth:credentialsExist",
    "GET /_me/credentials/:strategy/_exists",
    deprecated=("GET /credentials/:strategy/_me/_exists",),
    granted=("default",),
    needs_user=True,
)
async def credentials_exist(services: AppContext, caller: Caller, request: Request) -> Json:
    """Check whether the caller has credentials of a strategy."""
    return await services.strategies.get(read_strategy(services, request)).exists(caller.kuid)


@action(
    "auth:getMyCredentials",
    "GET /_me/credentials/:strategy",
    deprecated=("GET /credentials/:strategy/_me",),
    granted=("default",),
    needs_user=True,
)
async def get_my_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the caller's credentials of a strategy, without secrets."""
    return await services.credentials.show(read_strategy(services, request), caller.kuid)


@action(
    "auth:deleteMyCredentials",
    "DELETE /_me/credentials/:strategy",
    deprecated=("DELETE /credentials/:strategy/_me",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
    query=("credentialId",),
    hashes=True,
)
async def delete_my_credentials(services: AppContext, caller: Caller, request: Request) -> Json:
    """Delete the caller's credentials of a strategy, unless they are their last; with
    `credentialId` only one of several keys. If the server requires it, the argument `password` is
    the current password."""
    name, one = read_strategy(services, request), read_credential_id(request)
    by = principal_of(services, caller, request)
    await services.credentials.delete(name, caller.kuid, by, one=one, keeps_a_method=True)
    return {"acknowledged": True}


async def _linking_by(services: AppContext, caller: Caller, by: Principal) -> Linking:
    """Return a linking by the checked principal `by`, which expires with the session or API key of
    the request."""
    family, key = "", caller.token_hash.hex()
    if caller.kind is not TokenKind.API_KEY:
        # A single-use token has no session any more: later steps need another one.
        family = await services.tokens.family_of(caller.token_hash) or caller.session_id
        key = ""
    return Linking(
        caller.kuid,
        family,
        key,
        amr=by.assurance.amr,
        authenticated_at_ms=by.assurance.authenticated_at_ms,
        asked_at_ms=services.clock_ms(),
        is_confirmed=by.is_confirmed,
    )


async def _link(services: AppContext, request: Request, linking: Linking) -> Json | Outcome:
    """Let the caller prove credentials, and store them after the last step."""
    name = read_strategy(services, request)
    browser = services.browsers.of(request)
    visit = Visit(browser.secret, {})
    found = await services.logins.link(name, read_attempt(services, request), visit, linking)
    if isinstance(found, LoginPending):
        return send_on(services, request, browser, found)
    return Outcome(await enter_claim(services, name, found), is_private=True)
