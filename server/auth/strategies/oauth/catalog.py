"""Which backends social-auth-core has, and which of them a login can go through."""

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
# Where several classes have one name: what proves more comes first.
_BEST = (OpenIdConnectAuth, BaseOAuth2, BaseOAuth1, BaseAuth)
# What these answer with is made by a page of the provider's, or by an application of a telephone.
_NEED_A_PAGE = frozenset(
    {
        *("facebook-app", "facebook-limited-login", "google-onetap", "loginradius"),
        *("odnoklassniki-app", "telegram", "vk-app", "vk-openapi"),
    }
)


@cache
def modules_by_name() -> dict[str, list[str]]:
    """Give the modules that declare a backend of a name; none of them is imported."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder in social_core.backends.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            for name in _DECLARED.findall(path.read_text(encoding="utf-8")):
                if path.stem not in found[name]:
                    found[name].append(path.stem)
    return dict(found)


def find(name: str) -> Backend:
    """Give the class of a backend by its name, or by its own full name. ConfigError for one that
    there is not, that lacks a package, or that nobody can log in with."""
    if "." in name:
        backend = _import(*name.rpartition(".")[::2])
    else:
        backend = _find_named(name)
    reason = why_not(backend)
    if reason:
        raise ConfigError(f"backend: {name} is of no use here: {reason}")
    return backend


def why_not(backend: Backend) -> str:
    """Say why nobody can log in by being sent to a provider and back, "" if one can."""
    if issubclass(backend, LegacyAuth):
        return "it has no provider"
    if backend.ASSOCIATION_ONLY:
        return "it links accounts, and logs nobody in"
    if backend.name in _NEED_A_PAGE:
        return "it begins on a page or in an application of the provider's, not with a redirect"
    if backend.name == "saml":
        return "SAML is a kind of its own"
    if issubclass(backend, OpenIdAuth) and not str(backend.URL or "").startswith("https://"):
        return "whoever logs in would choose which address is fetched, or it would be without TLS"
    return ""


def exchanges_code(backend: Backend) -> bool:
    """Tell whether the provider gives a code that is worth a token."""
    return issubclass(backend, BaseOAuth2)


def _find_named(name: str) -> Backend:
    modules = modules_by_name().get(name)
    if not modules:
        raise ConfigError(
            f"backend: there is no {name or '(none is set)'}; manykeys strategies list names all"
        )
    classes = [
        member
        for module in modules
        for member in vars(_load(f"{_PACKAGE}.{module}", name)).values()
        if _is_backend(member) and member.__dict__.get("name") == name
    ]
    return min(
        classes, key=lambda one: next(at for at, of in enumerate(_BEST) if issubclass(one, of))
    )


def _import(module: str, member: str) -> Backend:
    backend: object = getattr(_load(module, f"{module}.{member}"), member, None)
    if not _is_backend(backend):
        raise ConfigError(f"backend: {module}.{member} is no backend of social-auth-core")
    return backend


def _load(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as fault:
        lacking = f" without {fault.name}" if fault.name else ""
        raise ConfigError(f"backend: {name} can't be loaded{lacking}") from None


def _is_backend(member: object) -> TypeGuard[Backend]:
    return isinstance(member, type) and issubclass(member, BaseAuth)
