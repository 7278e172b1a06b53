"""Tells the browser or socket that began a login from all others (security check O1).

A socket is known by itself. A browser is given a cookie that comes back with the page it is sent to
by the provider: `SameSite=Lax`, since that page is entered from another site (RFC 6265bis §5.5).
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
# Nobody but this host can set one with this prefix, and only over TLS.
_TLS_NAME = f"__Host-{_NAME}"
_SECRET_BYTES = 24
_SECRET = re.compile(r"[A-Za-z0-9_-]{32}")


@dataclass(frozen=True, slots=True)
class Browser:
    """Who begins a login or goes on with it: the secret that nobody else knows."""

    secret: str = field(repr=False)


class Browsers:
    """Knows the browsers and sockets that log in; nothing of a browser is kept here."""

    __slots__ = ("_addresses", "_of_sockets")

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._of_sockets: WeakKeyDictionary[Connected, Browser] = WeakKeyDictionary()

    def of(self, request: Request) -> Browser:
        """Give who sent a request; a browser that is not known yet is given a new secret."""
        peer = request.peer
        if request.origin is not Origin.WEBSOCKET or peer is None:
            return Browser(self._read(request) or _make_secret())
        known = self._of_sockets.get(peer)
        if known is None:
            known = self._of_sockets[peer] = Browser(_make_secret())
        return known

    def is_known(self, request: Request) -> bool:
        """Tell whether a browser has shown what it was given."""
        return self._read(request) is not None

    def remember(self, request: Request, browser: Browser, ends_ms: int) -> dict[str, str]:
        """Give the header that has a browser known until then; sockets need none."""
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
        """Give the secret in the cookie; what is no secret of ours counts as none."""
        header = request.headers.get("cookie", "")
        name = _TLS_NAME if self._addresses.is_secure(request) else _NAME
        try:
            value = read_cookie(header, name)
        except ApiError:
            return None
        return value if value is not None and _SECRET.fullmatch(value) else None


def _make_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)
