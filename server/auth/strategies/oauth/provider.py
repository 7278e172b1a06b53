"""Identity provider of one strategy, called through its backend: where to redirect, and the profile
of the user who returns.

All methods block, and are called in threads of the strategy. Errors are `Declined`, whose texts are
safe to log: they never come from the provider or the client.
"""

import hmac
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from social_core.backends.base import BaseAuth
from social_core.backends.open_id import OpenIdAuth
from social_core.backends.utils import OIDCDiscoveryMixin
from social_core.exceptions import AuthCanceled, SocialAuthBaseException

from server.auth.strategies.attributes import find, without_secrets
from server.auth.strategies.federated import DENIED, Declined, Profile
from server.auth.strategies.oauth.catalog import exchanges_code
from server.auth.strategies.oauth.catalog import find as find_backend
from server.auth.strategies.oauth.http_client import Web, openid_by
from server.auth.strategies.oauth.openid_backend import quicker
from server.auth.strategies.oauth.settings import OAuthSettings
from server.auth.strategies.oauth.social_adapter import (
    Answer,
    Away,
    OnlineVisit,
    Session,
    Told,
    Visit,
    settings_by_name,
)
from server.auth.strategies.oauth.social_backend import clean_url, has_state, tame, with_challenge
from server.core.config_file import ConfigError
from server.core.ids import is_id

# If the provider did not respond, nothing was disproved: it does not count as a failed login.
_UNAVAILABLE = frozenset(
    {"timeout", "connection_failed", "tls_error", "unavailable", "rate_limited"}
)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Addresses can be reassigned, and some providers do not verify them (security check O6).
_ADDRESS = re.compile(r"(?:^|[._])(?:e-?mail|mail)s?(?:$|[._\[])", re.IGNORECASE)
_ASYMMETRIC = frozenset(
    {*("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), *("ES256", "ES384", "ES512", "EdDSA")}
)
# RFC 9207 for backends without discovery: what these providers are known to send.
_ISSUERS = {"google-oauth2": "https://accounts.google.com"}
_BY_ISSUER = "authorization_response_iss_parameter_supported"


class Provider:
    """The provider that a strategy's settings name. ConfigError for settings that cannot work."""

    def __init__(self, settings: OAuthSettings) -> None:
        kind = find_backend(settings.backend)
        self._settings = settings
        self.values: dict[str, object] = _read_settings(kind.name, settings)
        self._backend = tame(quicker(kind, settings, self.values))
        self._has_state = has_state(kind)
        self._has_code = exchanges_code(kind)
        self._openid_host = _host_of(kind)
        self.name: str = kind.name
        self.id_name = settings.identifier_attribute or str(kind.ID_KEY or "id")
        if _ADDRESS.search(str(self.values.get("ID_KEY", self.id_name))) or _ADDRESS.search(
            self.id_name
        ):
            raise ConfigError(
                f"identifierAttribute: {self.id_name} must not be an email address: it can be "
                "reassigned"
            )
        self.web = Web(timeout_s=settings.timeout_ms / 1000, connections=settings.threads)

    def close(self) -> None:
        """Close idle connections."""
        self.web.close()

    def has(self, name: str) -> bool:
        """Return whether a setting of the backend is set."""
        return bool(self.values.get(name))

    def begin(self, state: str, data: Mapping[str, str]) -> tuple[str, Session]:
        """Return the URL to redirect to, and what to store until the browser returns."""
        visit, backend = self._visit(state, data, {})
        with _declining(), self._opened():
            answer: Answer = backend.start()
        if not isinstance(answer, Away):
            raise Declined("the provider requires a page instead of a redirect")
        url = clean_url(answer.url)
        if self._has_code and self.values.get("USE_PKCE", True):
            url = with_challenge(url, visit.session)
        return url, visit.session

    def complete(self, state: str, data: Mapping[str, str], session: Session) -> Profile:
        """Return the profile of the user who has returned."""
        _, backend = self._visit(state, data, session)
        with _declining(), self._opened():
            self._check_issuer(backend, data)
            answer = backend.complete()
            if not isinstance(answer, Told) or answer.response is None:
                raise Declined("the provider's response does not identify a user")
            return self._read(backend, answer.response)

    def discover(self) -> str:
        """Read the provider's discovery document, and return its URL; "" if it has none."""
        _, backend = self._visit("check", {}, {})
        if not isinstance(backend, OIDCDiscoveryMixin) or not _is_described(backend):
            return ""
        with _declining():
            backend.oidc_config()
            return str(backend.oidc_config_url())

    def _visit(
        self, state: str, data: Mapping[str, str], session: Session
    ) -> tuple[Visit, BaseAuth[Any]]:
        home = self._settings.callback_url
        back = home if self._has_state else f"{home}?{urlencode({'state': state})}"
        visit = OnlineVisit(self.web, self.values, back, state, data, session)
        return visit, self._backend(visit, back)

    def _opened(self) -> AbstractContextManager[None]:
        return openid_by(self.web, self._openid_host) if self._openid_host else nullcontext()

    def _check_issuer(self, backend: BaseAuth[Any], data: Mapping[str, str]) -> None:
        """Check that a response comes from this provider, against mix-up attacks (RFC 9207)."""
        given, known = data.get("iss"), self._settings.issuer or _ISSUERS.get(self.name, "")
        is_wanted = bool(self._settings.issuer)
        if isinstance(backend, OIDCDiscoveryMixin) and _is_described(backend):
            description = backend.oidc_config()
            is_wanted = is_wanted or description.get(_BY_ISSUER) is True
            known = self._settings.issuer or str(description.get("issuer") or "")
        if given is None and is_wanted:
            raise Declined("the response has no issuer")
        # Some providers have one document for many tenants, with a placeholder in the issuer.
        if given is not None and known and "{" not in known and not _is_same(given, known):
            raise Declined("the response is from another issuer")

    def _read(self, backend: BaseAuth[Any], response: Any) -> Profile:
        """Return the profile in a verified response, if the settings of the backend allow this user
        to log in."""
        details = backend.get_user_details(response)
        if not backend.auth_allowed(response, details):
            raise Declined("the settings of the backend do not allow this user")
        attributes: dict[str, object] = {}
        for claims in (details, getattr(backend, "id_token", None), response):
            clean = without_secrets(claims) if isinstance(claims, Mapping) else None
            attributes |= clean if isinstance(clean, dict) else {}
        wanted = self._settings.identifier_attribute
        ask: Callable[[object, object], object] = backend.get_user_id
        uid = find(attributes, wanted) if wanted else ask(details, response)
        if isinstance(uid, int) and not isinstance(uid, bool):
            uid = str(uid)
        if not isinstance(uid, str) or not is_id(uid):
            raise Declined("the provider's response has no valid user id")
        return Profile(uid, attributes)


def _read_settings(backend: str, given: OAuthSettings) -> dict[str, object]:
    """Return the backend's settings by name; ConfigError for those that would disable a check."""
    if not given.callback_url:
        raise ConfigError("callbackUrl: not set; expected the URL that the provider redirects to")
    values: dict[str, object] = {"SCOPE": list(given.scope)} if given.scope else {}
    if given.key:
        values["KEY"] = given.key
    if given.secret is not None:
        values["SECRET"] = given.secret
    values |= settings_by_name(backend, given.settings)
    algorithms = values.get("JWT_ALGORITHMS", ["RS256"])
    if not isinstance(algorithms, list) or not algorithms or not set(algorithms) <= _ASYMMETRIC:
        raise ConfigError(
            f"settings.JWT_ALGORITHMS: expected some of {', '.join(sorted(_ASYMMETRIC))}"
        )
    if values.get("JWT_DECODE_OPTIONS"):
        raise ConfigError(
            "settings.JWT_DECODE_OPTIONS: not allowed; ID tokens are always fully verified"
        )
    if values.get("PKCE_CODE_CHALLENGE_METHOD", "S256") != "S256":
        raise ConfigError("settings.PKCE_CODE_CHALLENGE_METHOD: expected S256")
    return values


def _host_of(kind: type[BaseAuth[Any]]) -> str:
    return (urlsplit(str(kind.URL)).hostname or "") if issubclass(kind, OpenIdAuth) else ""


def _is_described(backend: OIDCDiscoveryMixin[Any]) -> bool:
    """Return whether the backend uses a discovery document; all its URLs may be set instead."""
    return backend.oidc_config_url().startswith(("https://", "http://"))


def _is_same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), known.encode(errors="replace"))


@contextmanager
def _declining() -> Iterator[None]:
    """Convert any exception of a backend into `Declined`."""
    try:
        yield
    except Declined:
        raise
    except Exception as fault:
        raise _declined(fault) from None


def _declined(fault: Exception) -> Declined:
    if isinstance(fault, AuthCanceled):
        return Declined(DENIED, is_denied=True)
    if isinstance(fault, SocialAuthBaseException):
        parts = [fault.code, f"at {fault.stage}"]
        # The provider's own text is only used if it looks like a code.
        for name in (fault.parameter, fault.claim, fault.provider_code, fault.status_code):
            if name is not None and _CODE.fullmatch(str(name)):
                parts.append(f"({name})")
        return Declined(" ".join(parts), is_unavailable=fault.code in _UNAVAILABLE)
    # Backends fail on responses they do not expect; the text may contain parts of these.
    frames = traceback.extract_tb(fault.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return Declined(f"unreadable response: {type(fault).__name__} at {where}")
