"""social-auth-core backends adapted to this server: its state, PKCE, and requests with a
timeout."""

import base64
import hashlib
import secrets
from typing import Any, cast
from urllib.parse import quote

import requests
from social_core.backends.base import BaseAuth
from social_core.backends.oauth import BaseOAuth2
from social_core.exceptions import (
    AuthConfigurationError,
    AuthProviderError,
    SocialAuthBaseException,
)
from social_core.utils import http_error, redact_request_error, user_agent

from server.auth.strategies.oauth.catalog import Backend
from server.auth.strategies.oauth.social_adapter import OnlineVisit, Session, Visit

_WRONG_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)
_VERIFIER = "verifier"
_VERIFIER_CHARACTERS = 64  # 43 at least (RFC 7636 §4.1)
_SAFE = "%/:=&?~#+!$,;'@()*[]"


class _Overrides(BaseAuth[Any]):
    """Mixin placed before a backend: methods that replace the backend's own."""

    def state_token(self) -> str:
        """Return the state of the login in progress."""
        return cast(Visit, self.strategy).state

    def get_redirect_uri(self, state: str | None = None) -> str:
        """Return exactly the URL that is registered with the provider."""
        return str(self.redirect_uri)


class _Requests(BaseAuth[Any]):
    """Mixin placed after a backend: how it sends requests in the end."""

    def request(
        self,
        url: str,
        *,
        method: str = "GET",
        timeout: float | None = None,
        stage: Any = "user_info",
        headers: Any = None,
        **parts: Any,
    ) -> requests.Response:
        """Return the provider's response; SocialAuthBaseException if there is none, or if it is an
        error."""
        fields, visit = dict(headers or {}), cast(OnlineVisit, self.strategy)
        if self.SEND_USER_AGENT:
            fields.setdefault("User-Agent", self.setting("USER_AGENT") or user_agent())
        try:
            response = visit.web.send(
                method,
                url,
                headers=fields,
                proxies=self.setting("PROXIES"),
                verify=self.setting("VERIFY_SSL", True),
                **self._with_verifier(parts, visit.session),
            )
            response.raise_for_status()
        except requests.HTTPError as fault:
            raise http_error(self, fault, stage=stage) from None
        except requests.RequestException as fault:
            raise self._failed(fault, url, stage) from None
        return response

    def _with_verifier(self, parts: dict[str, Any], session: Session) -> dict[str, Any]:
        """Return the arguments with the PKCE verifier next to the code, if the code is
        exchanged."""
        verifier, code = session.get(_VERIFIER), self.data.get("code")
        if verifier is None or not code:
            return parts
        return {
            name: {**given, "code_verifier": verifier}
            if isinstance(given, dict) and given.get("code") == code
            else given
            for name, given in parts.items()
        }

    def _failed(
        self, fault: requests.RequestException, url: str, stage: Any
    ) -> SocialAuthBaseException:
        redact_request_error(fault, request_url=url)
        if isinstance(fault, _WRONG_ADDRESS):
            return AuthConfigurationError(
                self, code="invalid_setting", parameter="url", stage=stage
            )
        if isinstance(fault, requests.exceptions.SSLError):
            code = "tls_error"
        elif isinstance(fault, requests.Timeout):
            code = "timeout"
        elif isinstance(fault, requests.ConnectionError):
            code = "connection_failed"
        else:
            code = "http_error"
        return AuthProviderError(self, code=code, stage=stage)


def tame(backend: Backend) -> Backend:
    """Return a subclass, so that what the library caches by class is not shared between
    strategies."""
    ours = {
        "DEFAULT_USE_PKCE": True,
        "PKCE_DEFAULT_CODE_CHALLENGE_METHOD": "S256",
        "PKCE_DEFAULT_CODE_VERIFIER_LENGTH": _VERIFIER_CHARACTERS,
    }
    return type(backend.__name__, (_Overrides, backend, _Requests), ours)


def has_state(backend: Backend) -> bool:
    """Return whether the provider returns the state by itself."""
    return bool(issubclass(backend, BaseOAuth2) and backend.STATE_PARAMETER)


def with_challenge(url: str, session: Session) -> str:
    """Return an authorization URL with a PKCE challenge (RFC 7636), for a backend that does not
    support PKCE; the verifier is stored in the session.

    Providers that do not support PKCE ignore it (RFC 6749 §3.1, §3.2).
    """
    if "code_challenge=" in url:
        return url
    verifier = session[_VERIFIER] = secrets.token_urlsafe(32)
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    address, hash_sign, fragment = url.partition("#")
    sign = "&" if "?" in address else "?"
    added = f"{sign}code_challenge={challenge}&code_challenge_method=S256"
    return address + added + hash_sign + fragment


def clean_url(url: str) -> str:
    """Return a URL that is valid in a header; the library leaves some characters unescaped."""
    return quote(url, safe=_SAFE)
