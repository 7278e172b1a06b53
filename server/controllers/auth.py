"""The `auth` controller: logging in and out, and what a caller may know of himself (contract/02
§4)."""

from protocol.errors import ApiError
from protocol.messages import Json, Request
from server.actions import Outcome, action
from server.answers import shown_expiry, write_login
from server.arguments import body_text, read_flag, read_text
from server.auth.callers import Caller, TokenKind
from server.auth.strategies import Challenge, LoginAttempt, Redirect
from server.services import Services

_USER_AGENT_CHARACTERS = 256


@action("auth:login", "GET /_login/:strategy", "POST /_login/:strategy", granted=("anonymous",))
async def login(services: Services, caller: Caller, request: Request) -> Outcome:
    """Log in with a strategy; the credentials stand in the body or among the arguments. Gives a
    token."""
    name = read_text(request, "strategy")
    ttl_ms = services.tokens.lifetime_ms(request.args.get("expiresIn"))
    address = services.addresses.of(request)
    body = request.body if isinstance(request.body, dict) else {}
    attempt = LoginAttempt(body, request.args, request.headers, address)
    result = await services.logins.attempt(name, attempt)
    if isinstance(result, Redirect):
        headers = {"Location": result.url, "Content-Length": "0"}
        return Outcome(
            {"headers": headers, "statusCode": result.status},
            status=result.status,
            headers={name.lower(): value for name, value in headers.items()},
        )
    if isinstance(result, Challenge):
        return Outcome(result.data, is_private=True)
    shown: dict[str, object] = {
        "address": address,
        "userAgent": request.headers.get("user-agent", "")[:_USER_AGENT_CHARACTERS],
        "strategy": name,
    }
    return write_login(await services.tokens.issue(result, ttl_ms, shown=shown))


@action("auth:logout", "POST /_logout", granted=("default",), needs_user=True)
async def logout(services: Services, caller: Caller, request: Request) -> Json:
    """Revoke the token of this request; with `global` every session of its user. API keys stay."""
    if read_flag(request, "global"):
        await services.tokens.revoke_all(caller.kuid)
    elif caller.kind is TokenKind.SESSION:
        await services.tokens.revoke(caller)
    return {"acknowledged": True}


@action("auth:checkToken", "POST /_checkToken", granted=("default", "anonymous"))
async def check_token(services: Services, caller: Caller, request: Request) -> Json:
    """Tell whether the token in the body is valid, whose it is and when it expires."""
    token = body_text(request, "token", "")
    if not token:
        return {"expiresAt": None, "kuid": "-1", "valid": True}
    try:
        found = await services.tokens.verify(token)
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
async def get_current_user(services: Services, caller: Caller, request: Request) -> Json:
    """Give the caller's own document and the strategies he can log in with."""
    strategies = await services.users.strategies_of(caller.kuid)
    user = caller.person.user
    return {"_id": user.kuid, "_source": user.source(), "strategies": strategies}


@action(
    "auth:getMyRights",
    "GET /_me/_rights",
    deprecated=("GET /users/_me/_rights",),
    granted=("default", "anonymous"),
    is_personal=True,
)
async def get_my_rights(services: Services, caller: Caller, request: Request) -> Json:
    """List what the caller may do: one item for each controller, action, index and collection."""
    hits = caller.person.rights.listed()
    return {"hits": hits, "total": len(hits)}


@action("auth:getStrategies", "GET /strategies", granted=("default",))
async def get_strategies(services: Services, caller: Caller, request: Request) -> Json:
    """List the strategies users can log in with."""
    return services.strategies.names()
