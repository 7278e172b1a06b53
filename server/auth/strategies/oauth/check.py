"""Offline check of a provider's settings, for `manykeys strategies check`."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from social_core.backends.oauth import BaseOAuth1, BaseOAuth2
from social_core.backends.open_id_connect import OpenIdConnectAuth

from server.auth.strategies.base import Examined
from server.auth.strategies.federated import Declined
from server.auth.strategies.oauth import catalog
from server.auth.strategies.oauth.http_client import Web
from server.auth.strategies.oauth.provider import Provider
from server.auth.strategies.oauth.settings import OAuthSettings
from server.core.config_file import ConfigError

_STATE = "examined"
_KINDS = ((OpenIdConnectAuth, "OpenID Connect"), (BaseOAuth2, "OAuth 2"), (BaseOAuth1, "OAuth 1"))
# Read by every backend, and rarely set.
_COMMON = frozenset(
    {
        *(
            "AUTH_EXTRA_ARGUMENTS",
            "AUTH_EXTRA_ARGUMENTS_OVERRIDE_ALLOWLIST",
            "IGNORE_DEFAULT_SCOPE",
        ),
        *("SCOPE", "REDIRECT_IS_HTTPS", "STATE_LIFETIME", "USE_PKCE", "NONCE_LIFETIME"),
        *("PROXIES", "VERIFY_SSL", "USER_AGENT", "PKCE_CODE_CHALLENGE_METHOD"),
        *("PKCE_CODE_VERIFIER_LENGTH", "AUTHORIZATION_URL", "REQUEST_TOKEN_EXTRA_ARGUMENTS"),
        *("KEY", "SECRET", "ID_KEY"),
    }
)


def backends() -> list[str]:
    """Return the names of all backends that can be used for login."""
    names = []
    for name in catalog.modules_by_name():
        try:
            catalog.find(name)
        except ConfigError:
            continue
        names.append(name)
    return sorted(names, key=str.lower)


def examine(name: str, settings: OAuthSettings, is_online: bool) -> Examined:
    """Report what a strategy will do and what is missing; with `is_online` the provider's discovery
    document is read."""
    try:
        provider = Provider(settings)
    except ConfigError as reason:
        return Examined((), (str(reason),))
    kind = catalog.find(settings.backend)
    facts, lacking = list(_facts_of(provider, kind, settings)), []
    if not settings.callback_url.rstrip("/").endswith(f"/_login/{name}"):
        lacking.append(f"callbackUrl: expected a URL that ends in /_login/{name}")
    if issubclass(kind, BaseOAuth2 | BaseOAuth1) and not provider.has("SECRET"):
        lacking.append("secret: not set; expected the client secret that the provider issued")
    lacking += _try_to_begin(provider, facts)
    if is_online:
        try:
            described = provider.discover()
            facts.append(f"discovery document: {described or 'not used by this backend'}")
        except Declined as reason:
            lacking.append(f"the provider's discovery document cannot be read: {reason.reason}")
    provider.close()
    return Examined(tuple(facts), tuple(lacking))


def missing_settings(settings: OAuthSettings) -> list[str]:
    """Return what prevents a login from starting, a line each; [] if nothing does."""
    return _try_to_begin(Provider(settings), [])


def _facts_of(provider: Provider, kind: catalog.Backend, settings: OAuthSettings) -> Iterator[str]:
    protocol = next(
        (text for of, text in _KINDS if issubclass(kind, of)), "OpenID 2 or proprietary"
    )
    yield f"backend: {provider.name}, {protocol} ({kind.__module__}.{kind.__qualname__})"
    yield f"callback URL to register with the provider: {settings.callback_url}"
    yield f"user id: {provider.id_name}"


def _try_to_begin(provider: Provider, facts: list[str]) -> list[str]:
    """Start a login that is not continued, and return what is missing."""
    offline, recording = _Offline(), _RecordingSettings(provider.values)
    online, provider.web, provider.values = provider.web, offline, recording
    reason = ""
    try:
        url, _ = provider.begin(_STATE, {})
    except Declined as declined:
        url, reason = (offline.urls or [""])[0], declined.reason
    finally:
        provider.web, provider.values = online, dict(recording)
    own = [name for name in recording.missing if name not in _COMMON]
    lacking = [f"{name.lower()}: not set" for name in recording.missing if name == "KEY"]
    if not url.startswith(("https://", "http://")) or "None" in url:
        lacking.append(f"settings.{(own or ['AUTHORIZATION_URL'])[-1]}: not set")
    elif reason:
        facts.append(f"a login starts with a request to: {urlsplit(url).netloc}")
    else:
        facts.append(f"a login starts at: {url.partition('?')[0]}")
    if own:
        facts.append(f"settings of this backend that are not set: {', '.join(sorted(set(own)))}")
    return lacking


class _RecordingSettings(dict[str, object]):
    """Settings that record which of them were read and are not set."""

    def __init__(self, given: Mapping[str, object]) -> None:
        super().__init__(given)
        self.missing: list[str] = []

    def __missing__(self, name: str) -> object:
        if not name.startswith("SOCIAL_AUTH_"):
            self.missing.append(name)
        raise KeyError(name)


class _Offline(Web):
    """An HTTP client that sends nothing, and records where requests would have gone."""

    def __init__(self) -> None:
        super().__init__(timeout_s=1, connections=1)
        self.urls: list[str] = []

    def send(self, method: str, url: str, **parts: Any) -> requests.Response:
        """Raise ConnectionError."""
        self.urls.append(str(url))
        raise requests.ConnectionError("not sent")
