"""What logins and linkings of several steps have in common on the wire (contract/05 §4)."""

from protocol.messages import Request
from server.actions import Outcome
from server.auth.callers import Caller
from server.auth.logins import Claim
from server.auth.mfa import NextStep
from server.auth.strategies import LoginAttempt, Redirect
from server.browsers import Browser
from server.services import Services


def read_attempt(services: Services, request: Request) -> LoginAttempt:
    """Give what a strategy may know of a request."""
    body = request.body if isinstance(request.body, dict) else {}
    return LoginAttempt(body, request.args, request.headers, services.addresses.of(request))


def send_on(services: Services, request: Request, browser: Browser, found: NextStep) -> Outcome:
    """Answer that it goes on elsewhere, or here with another request."""
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


async def enter_claim(
    services: Services, caller: Caller, name: str, claim: Claim
) -> dict[str, object]:
    """Give a user the credentials he has proved, and what the strategy shows of them."""
    linking = claim.linking
    if not linking.is_update:
        return await services.credentials.create(
            name, linking.kuid, claim.credentials, linking.kuid, guards=claim.guards
        )
    return await services.credentials.update(
        name,
        linking.kuid,
        claim.credentials,
        caller,
        revokes=linking.revokes,
        by=linking.kuid,
        guards=claim.guards,
    )
