"""Backends of OpenID Connect with less to do at each login, where they do it in the usual way.

The ID token is verified at every login, so what it tells need not be asked for once more, and one
verification of it is enough. A backend with a way of its own keeps it.
"""

import base64
from collections.abc import Mapping
from typing import Any, cast

import orjson
from social_core.backends.open_id_connect import OpenIdConnectAuth

from server.auth.strategies.attributes import find
from server.auth.strategies.oauth.catalog import Backend
from server.auth.strategies.oauth.settings import OAuthSettings

_SUBJECT = "sub"
# All that asks for user information, and all that reads it.
_READERS = (
    *("request_access_token", "auth_complete", "do_auth", "user_data", "validate_userinfo_sub"),
    *("get_user_details", "get_user_id", "id_key", "auth_allowed", "get_user_groups"),
)
_KEY_USERS = ("find_valid_key", "decode_and_validate_id_token", "get_jwks_keys")


class _Told(OpenIdConnectAuth[Any]):
    """Asks for user information where the ID token lacks some of what is `wanted`."""

    wanted: tuple[str, ...] = ()

    def user_data(self, access_token: str, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Give user information, None where nothing of it is needed."""
        told: dict[str, object] = cast(Any, self).get_user_details({}) | (self.id_token or {})
        if all(find(told, path) is not None for path in self.wanted):
            return None
        return super().user_data(access_token, *args, **kwargs)


class _KnownKey(OpenIdConnectAuth[Any]):
    """Finds the key by its name, and leaves it to the decoding to verify with it."""

    def find_valid_key(self, id_token: str) -> Any:
        """Give the one key of the token's name if it is for the token's algorithm; None for a token
        that can't be right."""
        header = _header_of(id_token)
        name = header.get("kid")
        named = [key for key in self.get_jwks_keys() if key.get("kid") == name]
        if not isinstance(name, str) or len(named) != 1:
            return cast(Any, super()).find_valid_key(id_token)
        key = named[0]
        algorithm = key.get("alg") or self.setting("JWT_ALGORITHMS", self.JWT_ALGORITHMS)[0]
        return {**key, "alg": algorithm} if header.get("alg") == algorithm else None


def quicker(backend: Backend, settings: OAuthSettings, values: Mapping[str, object]) -> Backend:
    """Give a backend that leaves out what its settings make needless."""
    parts: list[Backend] = []
    wanted = _wanted(backend, settings, values)
    if wanted is not None and _is_usual(backend, _READERS):
        parts.append(type(_Told.__name__, (_Told,), {"wanted": wanted}))
    if _is_usual(backend, _KEY_USERS):
        parts.append(_KnownKey)
    return type(backend.__name__, (*parts, backend), {}) if parts else backend


def _wanted(
    backend: Backend, settings: OAuthSettings, values: Mapping[str, object]
) -> tuple[str, ...] | None:
    """Give the paths of what the settings ask for; None where all must be asked for, as somebody
    who is identified by more than `sub` must be the same whoever told it."""
    identity = settings.identifier_attribute or values.get("ID_KEY") or backend.ID_KEY
    if identity != _SUBJECT or values.get("ID_KEY", _SUBJECT) != _SUBJECT:
        return None
    wanted = [*settings.persist, *settings.user_attributes]
    if settings.links_by_email:
        wanted += ["email", "email_verified"]
    if values.get("WHITELISTED_EMAILS") or values.get("WHITELISTED_DOMAINS"):
        wanted.append(str(values.get("EMAIL_KEY", getattr(backend, "EMAIL_KEY", "email"))))
    if values.get("ALLOW_GROUPS"):
        wanted.append(str(values.get("GROUPS_KEY", "groups")))
    return tuple(dict.fromkeys(wanted))


def _is_usual(backend: Backend, names: tuple[str, ...]) -> bool:
    """Tell whether a backend does all of this as OpenID Connect does in general."""
    return issubclass(backend, OpenIdConnectAuth) and all(
        getattr(backend, name) is getattr(OpenIdConnectAuth, name) for name in names
    )


def _header_of(token: str) -> Mapping[str, object]:
    """Give the header of a token that nothing is known of, {} for none."""
    head = token.partition(".")[0]
    try:
        header = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}
