"""Catalog of social-auth-core backends, and which of them can be used for login."""

import re
from collections import defaultdict
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeGuard

import social_core.backends
from social_core.backends.base import BaseAuth
from social_core.backends.legacy import LegacyAuth
from social_core.backends.oauth import BaseOAuth1, BaseOAuth2
from social_core.backends.open_id import OpenIdAuth
from social_core.backends.open_id_connect import OpenIdConnectAuth

from server.core.config_file import ConfigError

Backend = type[BaseAuth[Any]]

_PACKAGE = social_core.backends.__name__
_DECLARED = re.compile(r'^    name(?:: str)? = "([^"]+)"', re.MULTILINE)
# If several classes have the same name, the stronger protocol is preferred.
_PREFERENCE = (OpenIdConnectAuth, BaseOAuth2, BaseOAuth1, BaseAuth)
# Their responses are created by a page of the provider, or by a mobile app.
_WITHOUT_REDIRECT = frozenset(
    {
        *("facebook-app", "facebook-limited-login", "google-onetap", "loginradius"),
        *("odnoklassniki-app", "telegram", "vk-app", "vk-openapi"),
    }
)


@cache
def modules_by_name() -> dict[str, list[str]]:
    """Return the modules that declare a backend of a name, without importing any."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder in social_core.backends.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            for name in _DECLARED.findall(path.read_text(encoding="utf-8")):
                if path.stem not in found[name]:
                    found[name].append(path.stem)
    return dict(found)


def find(name: str) -> Backend:
    """Return the class of a backend by its name, or by its full class name. ConfigError for one
    that does not exist, that lacks a package, or that cannot be used for login."""
    if "." in name:
        backend = _import(*name.rpartition(".")[::2])
    else:
        backend = _find_named(name)
    reason = why_not(backend)
    if reason:
        raise ConfigError(f"backend: {name} cannot be used: {reason}")
    return backend


def why_not(backend: Backend) -> str:
    """Return why a backend cannot be used for login by redirect, "" if it can."""
    if issubclass(backend, LegacyAuth):
        return "it has no identity provider"
    if backend.ASSOCIATION_ONLY:
        return "it can only link accounts, not log in"
    if backend.name in _WITHOUT_REDIRECT:
        return "its login starts on a page or in an app of the provider, not with a redirect"
    if backend.name == "saml":
        return 'SAML has its own kind: use = "saml"'
    if issubclass(backend, OpenIdAuth) and not str(backend.URL or "").startswith("https://"):
        return "the client would choose the URL that is fetched, or the URL is not https"
    return ""


def exchanges_code(backend: Backend) -> bool:
    """Return whether the provider uses authorization codes, which are exchanged for tokens."""
    return issubclass(backend, BaseOAuth2)


def _find_named(name: str) -> Backend:
    modules = modules_by_name().get(name)
    if not modules:
        raise ConfigError(
            f"backend: {name or 'not set'}; expected one of those in manykeys strategies list"
        )
    classes = [
        member
        for module in modules
        for member in vars(_load(f"{_PACKAGE}.{module}", name)).values()
        if _is_backend(member) and member.__dict__.get("name") == name
    ]
    return min(
        classes,
        key=lambda one: next(at for at, of in enumerate(_PREFERENCE) if issubclass(one, of)),
    )


def _import(module: str, member: str) -> Backend:
    backend: object = getattr(_load(module, f"{module}.{member}"), member, None)
    if not _is_backend(backend):
        raise ConfigError(f"backend: {module}.{member} is not a backend of social-auth-core")
    return backend


def _load(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as fault:
        missing = f": missing package {fault.name}" if fault.name else ""
        raise ConfigError(f"backend: {name} cannot be loaded{missing}") from None


def _is_backend(member: object) -> TypeGuard[Backend]:
    return isinstance(member, type) and issubclass(member, BaseAuth)
