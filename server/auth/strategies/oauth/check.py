"""What the settings of a provider come to, found out without asking it (`manykeys strategies
check`)."""

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
# Asked of every backend, and seldom set.
_GENERAL = frozenset(
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
    """Give the names of all backends somebody can log in with."""
    names = []
    for name in catalog.modules_by_name():
        try:
            catalog.find(name)
        except ConfigError:
            continue
        names.append(name)
    return sorted(names, key=str.lower)


def examine(name: str, settings: OAuthSettings, is_online: bool) -> Examined:
    """Say what a strategy will do and what it lacks; with `is_online` the provider's description is
    read."""
    try:
        provider = Provider(settings)
    except ConfigError as reason:
        return Examined((), (str(reason),))
    kind = catalog.find(settings.backend)
    facts, lacking = list(_facts_of(provider, kind, settings)), []
    if not settings.callback_url.rstrip("/").endswith(f"/_login/{name}"):
        lacking.append(f"callbackUrl: expected an address that ends in /_login/{name}")
    if issubclass(kind, BaseOAuth2 | BaseOAuth1) and not provider.has("SECRET"):
        lacking.append("secret: not set; the provider gives it to this application")
    lacking += _try_to_begin(provider, facts)
    if is_online:
        try:
            described = provider.discover()
            facts.append(f"description: {described or 'this backend reads none'}")
        except Declined as reason:
            lacking.append(f"the provider's description can't be read: {reason.reason}")
    provider.close()
    return Examined(tuple(facts), tuple(lacking))


def missing_settings(settings: OAuthSettings) -> list[str]:
    """Give what keeps a login from being begun, as a line each; [] if nothing does."""
    return _try_to_begin(Provider(settings), [])


def _facts_of(provider: Provider, kind: catalog.Backend, settings: OAuthSettings) -> Iterator[str]:
    protocol = next((text for of, text in _KINDS if issubclass(kind, of)), "OpenID 2 or its own")
    yield f"backend: {provider.name}, {protocol} ({kind.__module__}.{kind.__qualname__})"
    yield f"to register with the provider: {settings.callback_url}"
    yield f"identity: {provider.id_name}"


def _try_to_begin(provider: Provider, facts: list[str]) -> list[str]:
    """Begin a login that nobody will go on with, and give what it lacks."""
    nowhere, watched = _Nowhere(), _Watched(provider.values)
    online, provider.web, provider.values = provider.web, nowhere, watched
    reason = ""
    try:
        url, _ = provider.begin(_STATE, {})
    except Declined as declined:
        url, reason = (nowhere.asked or [""])[0], declined.reason
    finally:
        provider.web, provider.values = online, dict(watched)
    own = [name for name in watched.missing if name not in _GENERAL]
    lacking = [f"{name.lower()}: not set" for name in watched.missing if name == "KEY"]
    if not url.startswith(("https://", "http://")) or "None" in url:
        lacking.append(f"settings.{(own or ['AUTHORIZATION_URL'])[-1]}: not set")
    elif reason:
        facts.append(f"a login begins with a question to: {urlsplit(url).netloc}")
    else:
        facts.append(f"a login begins at: {url.partition('?')[0]}")
    if own:
        facts.append(f"settings of this backend that are not set: {', '.join(sorted(set(own)))}")
    return lacking


class _Watched(dict[str, object]):
    """Settings that remember which were wanted and not there."""

    def __init__(self, given: Mapping[str, object]) -> None:
        super().__init__(given)
        self.missing: list[str] = []

    def __missing__(self, name: str) -> object:
        if not name.startswith("SOCIAL_AUTH_"):
            self.missing.append(name)
        raise KeyError(name)


class _Nowhere(Web):
    """Asks nobody, and remembers who would have been asked."""

    def __init__(self) -> None:
        super().__init__(timeout_s=1, connections=1)
        self.asked: list[str] = []

    def send(self, method: str, url: str, **parts: Any) -> requests.Response:
        """Refuse."""
        self.asked.append(str(url))
        raise requests.ConnectionError("not asked")
