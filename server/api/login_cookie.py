"""Login cookie: binds a login to the browser or socket that started it (security check O1).

A socket identifies itself. A browser gets a cookie that it sends when the provider redirects it
back: `SameSite=Lax`, since that request comes from another site (RFC 6265bis §5.5).
"""

import re
import secrets
from dataclasses import dataclass, field
from email.utils import formatdate
from weakref import WeakKeyDictionary

from protocol.api.request import Connected, Origin, Request
from protocol.errors import ApiError
from protocol.http11.cookies import read_cookie, write_cookie
from server.net.client_address import Addresses

_NAME = "loginState"
# Only this host can set a cookie with this prefix, and only over TLS.
_TLS_NAME = f"__Host-{_NAME}"
_SECRET_BYTES = 24
_SECRET = re.compile(r"[A-Za-z0-9_-]{32}")


@dataclass(frozen=True, slots=True)
class Browser:
    """The browser or socket of a login, identified by a secret that only it knows."""

    secret: str = field(repr=False)


class LoginBindings:
    """Identifies the browsers and sockets that log in; nothing is stored for browsers."""

    __slots__ = ("_addresses", "_of_sockets")

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._of_sockets: WeakKeyDictionary[Connected, Browser] = WeakKeyDictionary()

    def of(self, request: Request) -> Browser:
        """Return the sender of a request; an unknown browser gets a new secret."""
        peer = request.peer
        if request.origin is not Origin.WEBSOCKET or peer is None:
            return Browser(self._read(request) or _make_secret())
        known = self._of_sockets.get(peer)
        if known is None:
            known = self._of_sockets[peer] = Browser(_make_secret())
        return known

    def is_known(self, request: Request) -> bool:
        """Return whether a request has the login cookie."""
        return self._read(request) is not None

    def remember(self, request: Request, browser: Browser, ends_ms: int) -> dict[str, str]:
        """Return the header that sets the cookie until `ends_ms`; sockets need none."""
        if request.origin is Origin.WEBSOCKET:
            return {}
        is_secure = self._addresses.is_secure(request)
        cookie = write_cookie(
            _TLS_NAME if is_secure else _NAME,
            browser.secret,
            expires=formatdate(ends_ms // 1000, usegmt=True),
            is_secure=is_secure,
            same_site="Lax",
        )
        return {"set-cookie": cookie}

    def _read(self, request: Request) -> str | None:
        """Return the secret in the cookie; an invalid one counts as absent."""
        header = request.headers.get("cookie", "")
        name = _TLS_NAME if self._addresses.is_secure(request) else _NAME
        try:
            value = read_cookie(header, name)
        except ApiError:
            return None
        return value if value is not None and _SECRET.fullmatch(value) else None


def _make_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)
