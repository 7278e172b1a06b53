"""`auth` controller: login, logout, tokens, and the caller's own user and rights."""

from math import inf

from protocol.api.request import Json, Origin, Request
from protocol.errors import ApiError, error
from server.api.actions import Outcome, action
from server.api.arguments import body_text, check_retries, read_body, read_flag, read_text
from server.api.audited import source_of
from server.api.context import AppContext
from server.api.login_steps import enter_claim, is_posted_back, read_attempt, send_on, suspend
from server.api.results import describe_session, shown_expiry, write_check, write_login, write_user
from server.auth.assurance import Assurance
from server.auth.login.flow import Claim, Visit
from server.auth.login.mfa import LoginPending, LoginSucceeded
from server.auth.sessions.principal import Caller, TokenKind
from server.core.secrets import SESSION_PREFIX, hash_token


@action(
    "auth:login",
    "GET /_login/:strategy",
    "POST /_login/:strategy",
    granted=("anonymous",),
    is_audited=True,
    query=("cookieAuth", "expiresIn", "form", "state"),
    hashes=True,
)
async def login(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Log in with a strategy; the credentials are in the body or among the arguments. Returns a
    token, with `cookieAuth` in a cookie, or the next step, identified by `state`.

    After failed logins further attempts on an account must wait. Clients that have logged in to the
    account before are exempt: browsers by a cookie set at each login, other clients by the argument
    `previousToken`, in the body or beside it, a former token of the account, expired or not."""
    name = read_text(request, "strategy")
    if is_posted_back(services, request):
        return await suspend(services, request, name)
    services.issuer.limits.lifetime_ms(request.args.get("expiresIn"))
    browser = services.browsers.of(request)
    devices = await services.devices.shown_by(request)
    visit = Visit(browser.secret, _wishes(services, request), devices)
    found = await services.logins.attempt(name, read_attempt(services, request), visit)
    if isinstance(found, LoginPending):
        return send_on(services, request, browser, found)
    if isinstance(found, Claim):
        return Outcome(await enter_claim(services, name, found), is_private=True)
    return await _begin_session(services, request, found)


def _wishes(services: AppContext, request: Request) -> dict[str, Json]:
    """Return the requested options of a login; a browser that returns from a provider does not send
    them again."""
    is_in_cookie = services.cookies.is_wanted(request)
    return {"expiresIn": request.args.get("expiresIn"), "cookieAuth": is_in_cookie}


async def _begin_session(services: AppContext, request: Request, found: LoginSucceeded) -> Outcome:
    """Create the session of a user who has logged in, and return the response."""
    own = request.args.get("expiresIn")
    wished = found.wishes["expiresIn"] if own is None else own
    ttl_ms = services.issuer.limits.lifetime_ms(wished)
    shown = describe_session(services, request, found.strategy, found.factor)
    assurance = Assurance(found.amr, services.clock_ms())
    issued = await services.issuer.issue(
        found.user, ttl_ms, assurance=assurance, shown=shown, guards=found.guards
    )
    if request.origin is Origin.WEBSOCKET and request.peer is not None:
        token_hash = hash_token(issued.token.removeprefix(SESSION_PREFIX))
        services.links.link_login(request.peer, issued.kuid, token_hash, issued.expires_at_ms)
    in_cookie = found.wishes["cookieAuth"] is True
    cookies = await services.devices.remember(request, issued.kuid)
    return write_login(
        services, request, issued, in_cookie=in_cookie, more=found.shown, cookies=cookies
    )


@action(
    "auth:logout",
    "POST /_logout",
    granted=("default",),
    needs_user=True,
    is_audited=True,
    query=("global",),
)
async def logout(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Revoke the session of this request, with all its refreshed tokens; with `global` all sessions
    of the user. API keys stay valid. The session cookie is deleted, even if it is not valid."""
    is_global = read_flag(request, "global")
    if not caller.is_anonymous:
        if request.peer is not None:
            services.links.unlink(request.peer)  # the caller needs no notification
        if is_global:
            await services.tokens.revoke_all(caller.kuid)
        elif caller.kind is TokenKind.SESSION:
            await services.sessions.try_to_end(caller.kuid, caller.session_id)
    return Outcome({"acknowledged": True}, headers=services.cookies.write_erased(request))


@action("auth:checkToken", "POST /_checkToken", granted=("default", "anonymous"))
async def check_token(services: AppContext, caller: Caller, request: Request) -> Json:
    """Check whether the token in the body, or with `cookieAuth` the one in the cookie, is valid;
    return its user ID and expiry."""
    is_in_cookie = services.cookies.is_wanted(request)
    try:
        shown = services.cookies.token_of(request) if is_in_cookie else ""
        token = shown if is_in_cookie else body_text(request, "token", "")
        if not token:
            return {"expiresAt": None, "kuid": "-1", "valid": True}
        found = await services.tokens.verify(token, source_of(services, request))
    except ApiError as refused:
        if refused.status != 401:
            raise
        return {"state": refused.message, "valid": False}
    return {"expiresAt": shown_expiry(found), "kuid": found.kuid, "valid": True}


@action(
    "auth:getCurrentUser",
    "GET /_me",
    deprecated=("GET /users/_me",),
    granted=("default", "anonymous"),
    is_personal=True,
)
async def get_current_user(
    services: AppContext, caller: Caller, request: Request
) -> Json | Outcome:
    """Return the caller's own user document and the strategies they can log in with."""
    methods = await services.strategies.ways_of(caller.kuid)
    user = caller.person.user
    shown = {"_id": user.kuid, "_source": user.source(), "strategies": methods.names}
    return shown if methods.is_certain else Outcome(shown)


@action(
    "auth:getMyRights",
    "GET /_me/_rights",
    deprecated=("GET /users/_me/_rights",),
    granted=("default", "anonymous"),
    is_personal=True,
)
async def get_my_rights(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the caller's rights: one item for each controller, action, index and collection."""
    hits = caller.person.rights.listed()
    return {"hits": hits, "total": len(hits)}


@action("auth:getStrategies", "GET /strategies", granted=("default",))
async def get_strategies(services: AppContext, caller: Caller, request: Request) -> Json:
    """List the strategies users can log in with."""
    return services.strategies.names()


@action(
    "auth:refreshToken",
    "POST /_refreshToken",
    granted=("default",),
    needs_user=True,
    query=("cookieAuth", "expiresIn", "strategy"),
)
async def refresh_token(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Exchange the token of this request for a new one, with `cookieAuth` in a cookie. The old
    token stays valid for a short grace period. A `strategy` other than local is asked first, and
    may set the lifetime."""
    ttl_ms = await _refreshed_lifetime_ms(services, caller, request)
    token = services.cookies.token_of(request).removeprefix(SESSION_PREFIX)
    issued = await services.issuer.refresh(caller, token, ttl_ms)
    return write_login(services, request, issued)


async def _refreshed_lifetime_ms(services: AppContext, caller: Caller, request: Request) -> int:
    limits = services.issuer.limits
    ttl_ms = limits.stated_lifetime_ms(request.args)
    name = read_text(request, "strategy", "local")
    if name == "local":
        return ttl_ms
    given = await services.logins.refresh(name, caller.kuid)
    try:
        return limits.stated_lifetime_ms(given) if "expiresIn" in given else ttl_ms
    except ApiError:
        reason = f"strategy {name!r} returned an invalid lifetime"
        raise error("security.token.refresh_forbidden", reason) from None


@action("auth:createToken", "POST /_createToken", is_audited=True, query=("expiresIn", "singleUse"))
async def create_token(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Create a further token of the caller; with `singleUse` one that is valid for one request. It
    is revoked with the API key it was created with, and when the session it was created with is
    revoked or its refreshed token is used again. A single-use token cannot create tokens."""
    if caller.kind is TokenKind.SINGLE_USE:
        message = "a single-use token cannot create further tokens"
        raise error("security.rights.forbidden", message=message)
    single_use = read_flag(request, "singleUse")
    ttl_ms = services.issuer.limits.stated_lifetime_ms(request.args, must_end=True)
    parent, guards = await services.tokens.parent_of(caller)
    if caller.kind is TokenKind.API_KEY and caller.expires_at_ms < inf:
        ttl_ms = min(ttl_ms, int(caller.expires_at_ms) - services.clock_ms())
    issued = await services.issuer.issue(
        caller.person.user,
        ttl_ms,
        single_use=single_use,
        assurance=caller.assurance.derived(by_key=caller.kind is TokenKind.API_KEY),
        shown=describe_session(services, request, ""),
        parent=parent,
        guards=guards,
    )
    result: dict[str, Json] = {
        "expiresAt": issued.expires_at_ms,
        "singleUse": single_use,
        "token": issued.token,
        "ttl": issued.ttl_ms,
    }
    return Outcome(result, is_private=True)


@action("auth:checkRights", "POST /_checkRights", granted=("default",))
async def check_rights(services: AppContext, caller: Caller, request: Request) -> Json:
    """Check whether the caller may send the request in the body."""
    return write_check(caller.person.rights, request)


@action(
    "auth:updateSelf",
    "PUT /_me",
    deprecated=("PUT /_updateSelf",),
    granted=("default",),
    needs_user=True,
    is_audited=True,
    query=("retryOnConflict",),
)
async def update_self(services: AppContext, caller: Caller, request: Request) -> Json:
    """Update the caller's own user document with the body; ID and profiles cannot be changed."""
    content = read_body(request)
    for name in ("_id", "profileIds"):
        if content.get(name) not in (None, "", 0):  # an empty array is a value, too
            raise error("api.assert.forbidden_argument", f"body.{name}")
    check_retries(request)
    return write_user(await services.user_changes.update(caller.kuid, content, caller.principal))
