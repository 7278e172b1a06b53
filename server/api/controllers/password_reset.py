"""Password reset actions (controller `kuzzle-plugin-auth-passport-local/password`)."""

from protocol.api.request import Request
from protocol.errors import ApiError, error, plain_error
from server.api.actions import Outcome, action
from server.api.arguments import read_optional_body
from server.api.context import AppContext
from server.api.login_steps import principal_of, send_on
from server.api.results import describe_session, write_login
from server.auth.assurance import Assurance
from server.auth.audit.events import Ending, tell
from server.auth.audit.notices import CHANGED, RESET_MADE
from server.auth.login.flow import Visit
from server.auth.login.mfa import LoginPending, LoginSucceeded
from server.auth.sessions.pending_ends import end_seconds
from server.auth.sessions.principal import Caller
from server.auth.sessions.sessions import end_all
from server.auth.strategies.local import Local
from server.storage.base import EventKind, JournalEvent

_PREFIX = "plugin.kuzzle-plugin-auth-passport-local"
_CONTROLLER = "kuzzle-plugin-auth-passport-local/password"


@action(
    f"{_CONTROLLER}:getResetPasswordToken",
    "GET /_plugin/kuzzle-plugin-auth-passport-local/password/resetToken/:_id",
    "GET /_/password/resetToken/:_id",
    is_audited=True,
)
async def get_reset_password_token(
    services: AppContext, caller: Caller, request: Request
) -> Outcome:
    """Create a password reset token of a user, valid once. It gives full access to the account."""
    kuid = _read(request.args, "_id")
    tell(strategy="local")
    by = principal_of(services, caller, request)
    token = await services.credentials.make_reset_token("local", kuid, by)
    tell(notice=RESET_MADE)
    return Outcome({"resetToken": token}, is_private=True)


@action(
    f"{_CONTROLLER}:reset",
    "POST /_plugin/kuzzle-plugin-auth-passport-local/password/reset",
    "POST /_/password/reset",
    is_audited=True,
    hashes=True,
)
async def reset(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Set a new `password` with a reset `token`, both in the body. Revokes the user's sessions and
    logs them in, after their second factor if one is required. Nothing changes if the user cannot
    log in."""
    body = read_optional_body(request)
    password, token = _read(body, "password"), _read(body, "token")
    ttl_ms = services.issuer.limits.lifetime_ms(None)
    local = _find_local(services)
    prepared = await local.reset(token, password)
    kuid = str(prepared.shown["kuid"])
    tell(subject=kuid, strategy="local")
    user = await services.users.get(kuid)
    if user is None:
        raise error(f"{_PREFIX}.invalid_token")
    wishes: dict[str, object] = {
        "expiresIn": None,
        "cookieAuth": services.cookies.is_wanted(request),
    }
    ended = [
        *end_all(kuid, services.clock_ms()),
        end_seconds(kuid),
        JournalEvent(EventKind.USER, kuid),
    ]
    found = LoginSucceeded(user, (*prepared.changes, *ended), wishes, "local")
    tell(notice=CHANGED)
    try:
        return await _log_in(services, request, found, ttl_ms)
    except ApiError:
        await local.find_reset(token)  # raises if it was used or has expired meanwhile
        raise


async def _log_in(
    services: AppContext, request: Request, found: LoginSucceeded, ttl_ms: int
) -> Outcome:
    """Log in the user in the transaction that sets the new password: if the login is rejected,
    nothing is changed."""
    browser, address = services.browsers.of(request), services.addresses.of(request)
    visit = Visit(browser.secret, found.wishes)
    next_step = await services.logins.admit(found, visit, address, ending=Ending.OK)
    if isinstance(next_step, LoginPending):
        return send_on(services, request, browser, next_step)
    shown = describe_session(services, request, "local")
    assurance = Assurance(found.amr, services.clock_ms())
    issued = await services.issuer.issue(
        found.user, ttl_ms, assurance=assurance, shown=shown, guards=found.guards
    )
    cookies = await services.devices.remember(request, issued.kuid)
    return write_login(services, request, issued, cookies=cookies)


def _find_local(services: AppContext) -> Local:
    local = services.strategies.get("local")
    if not isinstance(local, Local):
        raise error("security.credentials.unknown_strategy", "local")
    return local


def _read(values: dict[str, object], name: str) -> str:
    """Return a string that is not blank; the error has no ID, as in Kuzzle."""
    value = values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise plain_error(400, f"{name} is required: a string that is not blank")
    return value
