"""Device cookie: proves that a request comes from a known device
(`server.auth.sessions.known_devices`).

The cookie is set by each login over HTTP: HttpOnly, `SameSite=Strict`, over TLS `Secure` and with
the prefix `__Host-`. Clients without cookies, and all WebSocket clients, send a former token as
`previousToken` instead, in the body or beside it; in a query string it would end up in logs.
"""

from email.utils import formatdate

from protocol.api.request import PREVIOUS_TOKEN, Origin, Request
from protocol.errors import ApiError, error
from protocol.http11.cookies import read_cookie, write_cookie
from server.api.session_cookie import Cookies
from server.auth.sessions.known_devices import LIFE_MS, Device, KnownDevices
from server.net.client_address import Addresses

_NAME = "loginDevice"
# Only this host can set a cookie with this prefix, and only over TLS.
_TLS_NAME = f"__Host-{_NAME}"


class Devices:
    """Reads device proofs from requests, and writes device cookies."""

    __slots__ = ("_addresses", "_cookies", "_known")

    def __init__(self, known: KnownDevices, addresses: Addresses, cookies: Cookies) -> None:
        self._known = known
        self._addresses = addresses
        self._cookies = cookies

    async def shown_by(self, request: Request) -> tuple[Device, ...]:
        """Return the known devices a request proves to come from. ApiError 400 for a
        `previousToken` that is not a string; an unknown one is ignored."""
        token = _previous_token(request)
        cookie = self._read(request)
        return await self._known.verify(cookie, token) if cookie or token else ()

    async def remember(self, request: Request, kuid: str) -> tuple[str, ...]:
        """Return the Set-Cookie line that marks a browser as a known device of the user who has
        just logged in; none on WebSocket, and none for a page of another origin."""
        if request.origin is Origin.WEBSOCKET or self._cookies.is_from_foreign_page(request):
            return ()
        is_secure = self._addresses.is_secure(request)
        ends_s = (self._known.now_ms() + LIFE_MS) // 1000
        line = write_cookie(
            _TLS_NAME if is_secure else _NAME,
            await self._known.issue(kuid, self._read(request)),
            expires=formatdate(ends_s, usegmt=True),
            is_secure=is_secure,
        )
        return (line,)

    def _read(self, request: Request) -> str:
        """Return the cookie, "" if absent; a page that may not use the session cookie must not be
        able to guess passwords from its visitors' devices either."""
        header = request.headers.get("cookie", "")
        if not header or self._cookies.is_from_foreign_page(request):
            return ""
        name = _TLS_NAME if self._addresses.is_secure(request) else _NAME
        try:
            return read_cookie(header, name) or ""
        except ApiError:
            return ""


def _previous_token(request: Request) -> str:
    body = request.body if isinstance(request.body, dict) else {}
    token = body.get(PREVIOUS_TOKEN) or request.args.get(PREVIOUS_TOKEN) or ""
    if not isinstance(token, str):
        raise error("api.assert.invalid_type", PREVIOUS_TOKEN, "string")
    return token
