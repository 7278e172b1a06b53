"""The `auth` controller's part about the caller's own credentials (contract/02 §4, contract/05
§1.5)."""

from functools import partial
from typing import Protocol, runtime_checkable

from protocol.errors import ApiError, error, plain_error
from protocol.messages import Json, Request
from server.actions import action
from server.arguments import read_body, read_flag, read_text
from server.auth.callers import Caller
from server.auth.strategies import Strategy
from server.services import Services
from server.storage.base import Change, Exists, Missing, Note, Noted, Present, Row, Table

# Each is lost only to somebody else who changes the same credentials in the same moment.
_ATTEMPTS = 5
_PRESENT_PASSWORD = "currentPassword"  # noqa: S105 (the name of a member, not a password)


@runtime_checkable
class Informs(Protocol):
    """A strategy that can show what it keeps of a user."""

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Give it, without secrets."""


@runtime_checkable
class AsksForPassword(Protocol):
    """A strategy that may want the present password before it is changed or removed."""

    async def check_present_password(self, kuid: str, password: object) -> None:
        """Raise ApiError unless it is right, or is not wanted."""


@action(
    "auth:createMyCredentials",
    "POST /_me/credentials/:strategy/_create",
    deprecated=("POST /credentials/:strategy/_me/_create",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
)
async def create_my_credentials(services: Services, caller: Caller, request: Request) -> Json:
    """Give the caller credentials of a further strategy."""
    strategy = _find_strategy(services, request)
    credentials = read_body(request)
    for _ in range(_ATTEMPTS):
        await strategy.validate(credentials, caller.kuid, False)
        prepared = await strategy.create(credentials, caller.kuid, caller.kuid)
        if await _is_applied(services, caller, prepared.changes):
            return prepared.shown
    raise _too_many_changes()


@action(
    "auth:updateMyCredentials",
    "PUT /_me/credentials/:strategy/_update",
    deprecated=("PUT /credentials/:strategy/_me/_update",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
    query=("revokeTokens",),
)
async def update_my_credentials(services: Services, caller: Caller, request: Request) -> Json:
    """Change the caller's credentials. `revokeTokens` ends his other sessions, API keys stay; where
    the server asks for it, `currentPassword` in the body is the present password."""
    strategy = _find_strategy(services, request)
    revokes = read_flag(request, "revokeTokens")
    credentials = read_body(request)
    await _check_present_password(services, strategy, caller, request)
    for _ in range(_ATTEMPTS):
        await strategy.validate(credentials, caller.kuid, True)
        prepared = await strategy.update(credentials, caller.kuid, caller.kuid)
        ends = await services.tokens.ends_of_others(caller) if revokes else []
        if await _is_applied(services, caller, [*prepared.changes, *ends]):
            if revokes:
                # Those that began since, or were too many for one transaction. With the old
                # password none can begin any more.
                await services.tokens.revoke_others(caller)
            return prepared.shown
    raise _too_many_changes()


@action(
    "auth:validateMyCredentials",
    "POST /_me/credentials/:strategy/_validate",
    deprecated=("POST /credentials/:strategy/_me/_validate",),
    granted=("default",),
    needs_user=True,
)
async def validate_my_credentials(services: Services, caller: Caller, request: Request) -> Json:
    """Tell whether the body could be the caller's credentials; nothing is changed."""
    strategy = _find_strategy(services, request)
    await strategy.validate(read_body(request), caller.kuid, False)
    return True


@action(
    "auth:credentialsExist",
    "GET /_me/credentials/:strategy/_exists",
    deprecated=("GET /credentials/:strategy/_me/_exists",),
    granted=("default",),
    needs_user=True,
)
async def credentials_exist(services: Services, caller: Caller, request: Request) -> Json:
    """Tell whether the caller has credentials of a strategy."""
    return await _find_strategy(services, request).exists(caller.kuid)


@action(
    "auth:getMyCredentials",
    "GET /_me/credentials/:strategy",
    deprecated=("GET /credentials/:strategy/_me",),
    granted=("default",),
    needs_user=True,
)
async def get_my_credentials(services: Services, caller: Caller, request: Request) -> Json:
    """Show the caller's credentials of a strategy, without secrets."""
    strategy = _find_strategy(services, request)
    return await strategy.get_info(caller.kuid) if isinstance(strategy, Informs) else {}


@action(
    "auth:deleteMyCredentials",
    "DELETE /_me/credentials/:strategy",
    deprecated=("DELETE /credentials/:strategy/_me",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
)
async def delete_my_credentials(services: Services, caller: Caller, request: Request) -> Json:
    """Remove the caller's credentials of a strategy, unless they are his last. Where the server
    asks for it, the argument `password` is the present password."""
    strategy = _find_strategy(services, request)
    await _check_present_password(services, strategy, caller, request)
    for _ in range(_ATTEMPTS):
        prepared = await strategy.delete(caller.kuid)
        guards = await _other_way_in(services, caller, read_text(request, "strategy"))
        if await _is_applied(services, caller, [*guards, *prepared.changes]):
            return {"acknowledged": True}
    raise _too_many_changes()


async def _other_way_in(services: Services, caller: Caller, name: str) -> list[Change]:
    """Give what makes sure that the caller can still log in without this strategy; ApiError 412 if
    he could not.

    API keys don't count: they can't be renewed without logging in.
    """
    for other in services.strategies.names():
        kept: Row = {"kuid": caller.kuid, "strategy": other}
        if other != name and await services.storage.exists(Table.CREDENTIALS, **kept):
            return [Present(Table.CREDENTIALS, kept)]
    # A strategy may keep its credentials elsewhere; only it can tell.
    if all(other == name for other in await services.users.strategies_of(caller.kuid)):
        raise plain_error(412, "these are the last credentials: add others before removing them")
    return []


def _find_strategy(services: Services, request: Request) -> Strategy:
    return services.strategies.get(read_text(request, "strategy"))


async def _check_present_password(
    services: Services, strategy: Strategy, caller: Caller, request: Request
) -> None:
    if not isinstance(strategy, AsksForPassword):
        return
    body = request.body if isinstance(request.body, dict) else {}
    given = body.get(_PRESENT_PASSWORD)
    if given is None:
        given = request.args.get("password")
    check = partial(strategy.check_present_password, caller.kuid, given)
    await services.logins.confirm(caller.kuid, services.addresses.of(request), check)


async def _is_applied(services: Services, caller: Caller, changes: list[Change]) -> bool:
    """Make changes to the caller's credentials; False if somebody else has changed them since they
    were looked at."""
    try:
        await services.storage.apply([*changes, Note(Noted.USER, caller.kuid)])
    except Exists:
        return False
    except Missing as missing:
        if missing.table is Table.USERS:
            raise error("security.user.not_found", caller.kuid) from None
        return False
    return True


def _too_many_changes() -> ApiError:
    return error("services.storage.too_many_changes")
