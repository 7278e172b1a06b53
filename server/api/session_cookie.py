"""Session cookie of browsers: reads the token from it, and checks whether the page that sent the
request may use it (CSRF; security checks S10, S11, H2, H5, H9).

Browsers send cookies with requests of any page, so a cookie alone proves nothing about the page.
Headers that only the browser can set do: `Origin` (RFC 6454) and `Sec-Fetch-Site`.
"""

from collections.abc import Callable
from email.utils import formatdate
from enum import Enum

from protocol.api.request import Origin, Request
from protocol.errors import ApiError, error
from protocol.http11.cookies import read_cookie, write_cookie
from server.api.actions import is_reading
from server.api.arguments import read_flag
from server.auth.sessions.issuer import Issued
from server.core.durations import NEVER
from server.net.client_address import Addresses

_NAME = "authToken"
# Browsers accept a cookie with this prefix only over TLS, for exactly one host and all its paths:
# neither a sibling host nor a plain connection can plant it. Clients never see its name.
_TLS_NAME = f"__Host-{_NAME}"
_ERASED = "null"  # value of a deleted cookie
_LOGOUT = "logout"
# With `cookieAuth` these do not use the token in the cookie, so an invalid one is ignored.
_WITHOUT_TOKEN = ("login", "checkToken")
_IN_COOKIE = (*_WITHOUT_TOKEN, _LOGOUT, "refreshToken")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class _Page(Enum):
    """What the browser's headers show about the page a request comes from."""

    OURS = "our own, or of an origin that is trusted by name"
    FOREIGN = "of another origin"
    UNKNOWN = "nothing: most likely no browser"


class Cookies:
    """Reads and writes the session cookie of one server; `trusts_origin` returns whether another
    origin may use it."""

    __slots__ = ("_addresses", "_is_enabled", "_trusts_origin")

    def __init__(
        self, addresses: Addresses, *, is_enabled: bool, trusts_origin: Callable[[str], bool]
    ) -> None:
        self._addresses = addresses
        self._is_enabled = is_enabled
        self._trusts_origin = trusts_origin

    def choose_token(self, request: Request) -> tuple[str | None, bool]:
        """Return the token that authenticates a request, and whether the request is a logout that
        must succeed even if its cookie is not valid.

        Errors: 500 `security.cookie.unsupported` if cookies are disabled, 401
        `security.cookie.invalid`, 400 `security.token.verification_error` beside another token,
        401 `api.process.unauthorized_origin` when the page may not use the cookie.
        """
        if not self._is_enabled and read_flag(request, "cookieAuth"):
            raise error("security.cookie.unsupported")
        name = request.action if request.controller == "auth" else None
        is_wanted = self.is_wanted(request)
        if name == "login" and "state" in request.args and not is_wanted:
            # It comes from a provider's page, and the state identifies the login: an existing
            # session of the browser is not used.
            return request.token, False
        ignores_token = is_wanted and name in _WITHOUT_TOKEN
        cookie = self._read(request, is_lenient=ignores_token or name == _LOGOUT)
        if cookie is None and not is_wanted:
            return request.token, False
        if not self._is_enabled:
            raise error("security.cookie.unsupported")
        if cookie is not None and request.token is not None:
            raise error("security.token.verification_error", "a cookie came with it", status=400)
        is_logout = name == _LOGOUT and request.token is None
        changes = cookie is not None and not ignores_token and not is_reading(request.action or "")
        self._check_page(request, needs_proof=changes and not is_logout)
        if cookie is None:
            return request.token, is_logout
        return (None if ignores_token else cookie), is_logout

    def is_wanted(self, request: Request) -> bool:
        """Return whether the response puts its token in a cookie, or the request is about the token
        in the cookie: with `cookieAuth`, for the actions that accept it.

        A token refreshed over HTTP by a cookie is always returned in the cookie.
        """
        if request.controller != "auth" or request.action not in _IN_COOKIE:
            return False
        if read_flag(request, "cookieAuth"):
            return True
        is_refresh = request.action == "refreshToken" and request.origin is Origin.HTTP
        return is_refresh and self._read(request) is not None

    def is_from_foreign_page(self, request: Request) -> bool:
        """Return whether the request comes from a page that may not use the cookie."""
        return self._page_of(request) is _Page.FOREIGN

    def token_of(self, request: Request) -> str:
        """Return the token of a request, from its cookie or otherwise; "" for none."""
        return (self._read(request) if request.token is None else request.token) or ""

    def write(self, request: Request, issued: Issued) -> dict[str, str]:
        """Return the header that sets the cookie until the token expires; a token that never
        expires gets a cookie for the browser session."""
        ends_ms = issued.expires_at_ms
        expires = None if ends_ms == NEVER else formatdate(ends_ms // 1000, usegmt=True)
        return self._write(request, issued.token, expires)

    def write_erased(self, request: Request) -> dict[str, str]:
        """Return the header that deletes the cookie, nothing for a request without one."""
        if self.is_wanted(request) or self._read(request, is_lenient=True) is not None:
            return self._write(request, _ERASED, None)
        return {}

    def _write(self, request: Request, value: str, expires: str | None) -> dict[str, str]:
        is_secure = self._addresses.is_secure(request)
        name = _TLS_NAME if is_secure else _NAME
        return {"set-cookie": write_cookie(name, value, expires=expires, is_secure=is_secure)}

    def _read(self, request: Request, *, is_lenient: bool = False) -> str | None:
        """Return the token in the cookie, None if there is none; with `is_lenient` an unreadable
        cookie is an invalid token.

        Over TLS a cookie without the prefix is ignored: any host might have set it.
        """
        header = request.headers.get("cookie")
        if header is None:
            return None
        try:
            value = read_cookie(header, _TLS_NAME)
            if value is None and not self._addresses.is_secure(request):
                value = read_cookie(header, _NAME)
        except ApiError:
            if is_lenient:
                return ""
            raise
        return None if value in ("", _ERASED) else value

    def _check_page(self, request: Request, *, needs_proof: bool) -> None:
        page = self._page_of(request)
        if page is _Page.FOREIGN or (needs_proof and page is _Page.UNKNOWN):
            raise error("api.process.unauthorized_origin", request.headers.get("origin", "unknown"))

    def _page_of(self, request: Request) -> _Page:
        """Any proof is enough: behind a proxy the server may not know its name, but browsers do."""
        origin = request.headers.get("origin", "")
        site = request.headers.get("sec-fetch-site", "none")  # value for a typed address
        is_ours = site == "same-origin" or origin == self._own_origin(request)
        if is_ours or (origin and self._trusts_origin(origin)):
            return _Page.OURS
        return _Page.FOREIGN if origin or site != "none" else _Page.UNKNOWN

    def _own_origin(self, request: Request) -> str:
        scheme = "https" if self._addresses.is_secure(request) else "http"
        address = "" if request.peer is None else request.peer.address
        host = self._addresses.host_of(address, request.headers).lower()
        return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS[scheme])}"
