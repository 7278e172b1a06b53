"""Multi-step logins and account linking over the API: redirects, challenges and posted forms."""

from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

from protocol.api.request import PREVIOUS_TOKEN, Origin, Request
from server.api.actions import Outcome
from server.api.context import AppContext
from server.api.login_cookie import Browser
from server.auth.assurance import Principal
from server.auth.login.flow import Claim
from server.auth.login.mfa import LoginPending
from server.auth.sessions.principal import Caller
from server.auth.strategies.base import LoginAttempt, Redirect, Strategy

_FORM = "application/x-www-form-urlencoded"
_STATE = "state"
_PRESENT_PASSWORD = "currentPassword"  # noqa: S105 (the name of a member, not a password)


def principal_of(services: AppContext, caller: Caller, request: Request) -> Principal:
    """Return the principal of a change, with the current password if the request contains it: the
    member `currentPassword` of the body, or else the argument `password`."""
    body = request.body if isinstance(request.body, dict) else {}
    given = body.get(_PRESENT_PASSWORD)
    if given is None:
        given = request.args.get("password")
    confirm = partial(services.logins.confirm, caller.kuid, services.addresses.of(request))
    return replace(caller.principal, password=given, confirm=confirm)


def read_attempt(services: AppContext, request: Request) -> LoginAttempt:
    """Return the parts of a request that a strategy may see."""
    body = _without_proof(request.body) if isinstance(request.body, dict) else {}
    peer, addresses = request.peer, services.addresses
    certificates = () if peer is None else peer.certificates
    return LoginAttempt(
        body,
        _without_proof(request.args),
        request.headers,
        addresses.of(request),
        certificate=certificates[0] if certificates else None,
        intermediates=certificates[1:],
        is_from_proxy=peer is not None and addresses.is_trusted(peer.address),
        is_from_foreign_page=services.cookies.is_from_foreign_page(request),
    )


def _without_proof(given: dict[str, object]) -> dict[str, object]:
    """Remove the former token that proves a known device: it is not for strategies, which may store
    or forward what they get."""
    if PREVIOUS_TOKEN not in given:
        return given
    return {name: value for name, value in given.items() if name != PREVIOUS_TOKEN}


def strategy_of(services: AppContext, request: Request) -> Strategy | None:
    """Return the strategy that a request names, None if it is unknown."""
    name = request.args.get("strategy")
    known = isinstance(name, str) and name in services.strategies.names()
    return services.strategies.get(str(name)) if known else None


def is_posted_back(services: AppContext, request: Request) -> bool:
    """Return whether a provider's page posts a form to this server (`response_mode=form_post`):
    browsers do not send the login cookie then, which would identify the login."""
    if request.origin is not Origin.HTTP or request.head.method != "POST":
        return False
    if (request.controller, request.action) != ("auth", "login"):
        return False
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    strategy = strategy_of(services, request)
    field = _state_field_of(strategy)
    is_form = kind == _FORM and isinstance(request.body, dict) and field in request.body
    if not is_form or "state" in request.args:
        return False
    # A state under another name means nothing here, with the cookie either.
    if field == _STATE and services.browsers.is_known(request):
        return False
    return getattr(strategy, "takes_forms", False) is True


async def suspend(services: AppContext, request: Request, name: str) -> Outcome:
    """Store a form that a provider's page has posted, and redirect the browser to fetch it with its
    cookie and with a key that is sent to no one else.

    ApiError 401 for an unknown state, or one that has a form already.
    """
    body = request.body if isinstance(request.body, dict) else {}
    state = body[_state_field_of(strategy_of(services, request))]
    key = await services.logins.suspend(name, state, body, services.addresses.of(request))
    # A relative redirect to the same path, whatever prefix a proxy adds (RFC 3986 §5.3).
    headers = {"location": f"?{urlencode({_STATE: str(state), 'form': key})}"}
    return Outcome(None, status=303, headers=headers, is_private=True)


def _state_field_of(strategy: Strategy | None) -> str:
    return str(getattr(strategy, "state_field", _STATE))


def send_on(
    services: AppContext, request: Request, browser: Browser, found: LoginPending
) -> Outcome:
    """Return the response for the next step: a redirect, or a challenge to answer here."""
    cookie = services.browsers.remember(request, browser, found.ends_ms)
    if isinstance(found.what, Redirect):
        headers = {"Location": found.what.url, "Content-Length": "0"}
        return Outcome(
            {"headers": headers, "statusCode": found.what.status},
            status=found.what.status,
            headers={name.lower(): value for name, value in headers.items()} | cookie,
            is_private=True,
        )
    challenge = {"challenge": found.what.data, "expiresAt": found.ends_ms, "state": found.state}
    return Outcome(challenge, headers=cookie, is_private=True)


async def enter_claim(services: AppContext, name: str, claim: Claim) -> dict[str, object]:
    """Create or update the credentials that a user has proved; return what the strategy shows of
    them."""
    linking = claim.linking
    if not linking.is_update:
        return await services.credentials.create(
            name, linking.kuid, claim.credentials, linking.principal, guards=claim.guards
        )
    return await services.credentials.update(
        name,
        linking.kuid,
        claim.credentials,
        linking.principal,
        revokes=linking.revokes,
        asks_with=linking.family,
        guards=claim.guards,
    )
