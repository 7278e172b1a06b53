"""OpenID Connect backends with fewer requests per login.

The ID token is verified at every login, so user information that it contains is not requested
again, and verifying it once is enough. A backend that overrides these steps is left as it is.
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
# Methods that request user information, and that read it.
_READERS = (
    *("request_access_token", "auth_complete", "do_auth", "user_data", "validate_userinfo_sub"),
    *("get_user_details", "get_user_id", "id_key", "auth_allowed", "get_user_groups"),
)
_KEY_USERS = ("find_valid_key", "decode_and_validate_id_token", "get_jwks_keys")


class _ClaimsOfIdToken(OpenIdConnectAuth[Any]):
    """Requests user information only if the ID token lacks some of the `wanted` claims."""

    wanted: tuple[str, ...] = ()

    def user_data(self, access_token: str, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Return user information, None if it is not needed."""
        known: dict[str, object] = cast(Any, self).get_user_details({}) | (self.id_token or {})
        if all(find(known, path) is not None for path in self.wanted):
            return None
        return super().user_data(access_token, *args, **kwargs)


class _KnownKey(OpenIdConnectAuth[Any]):
    """Selects the key by its id, and leaves the verification to the decoding of the token."""

    def find_valid_key(self, id_token: str) -> Any:
        """Return the only key with the token's `kid` if it is for the token's algorithm; None for a
        token that cannot be valid."""
        header = _header_of(id_token)
        name = header.get("kid")
        named = [key for key in self.get_jwks_keys() if key.get("kid") == name]
        if not isinstance(name, str) or len(named) != 1:
            return cast(Any, super()).find_valid_key(id_token)
        key = named[0]
        algorithm = key.get("alg") or self.setting("JWT_ALGORITHMS", self.JWT_ALGORITHMS)[0]
        return {**key, "alg": algorithm} if header.get("alg") == algorithm else None


def quicker(backend: Backend, settings: OAuthSettings, values: Mapping[str, object]) -> Backend:
    """Return a backend without the requests that its settings make unnecessary."""
    parts: list[Backend] = []
    wanted = _wanted(backend, settings, values)
    if wanted is not None and _is_usual(backend, _READERS):
        parts.append(type(_ClaimsOfIdToken.__name__, (_ClaimsOfIdToken,), {"wanted": wanted}))
    if _is_usual(backend, _KEY_USERS):
        parts.append(_KnownKey)
    return type(backend.__name__, (*parts, backend), {}) if parts else backend


def _wanted(
    backend: Backend, settings: OAuthSettings, values: Mapping[str, object]
) -> tuple[str, ...] | None:
    """Return the paths of the claims that the settings use; None if all must be requested: a user
    who is identified by another claim than `sub` must have the same id, whatever the source of the
    claim."""
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
    """Return whether a backend inherits all of these methods from OpenID Connect's."""
    return issubclass(backend, OpenIdConnectAuth) and all(
        getattr(backend, name) is getattr(OpenIdConnectAuth, name) for name in names
    )


def _header_of(token: str) -> Mapping[str, object]:
    """Return the header of an unverified token, {} if it has none."""
    head = token.partition(".")[0]
    try:
        header = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}
