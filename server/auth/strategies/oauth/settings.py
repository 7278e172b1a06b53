"""Settings of the kind `oauth`, `[strategies.NAME]` with `use = "oauth"`; importable without
social-auth-core."""

import re
from dataclasses import dataclass

from server.core.settings import (
    YES_NO,
    Kind,
    Milliseconds,
    duration,
    matching,
    secret_text,
    setting,
    text,
    texts,
    whole,
)

_HOST = r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
_PLACE = re.compile(
    rf"(?:https://{_HOST}|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{{1,5}})?)"
)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
_NAME = r"[A-Za-z0-9_.\[\]:/-]{1,200}"


def _read_callback(value: object) -> str | None:
    place = _PLACE.match(value) if isinstance(value, str) else None
    if not isinstance(value, str) or place is None:
        return None
    return value if _PATH.fullmatch(value, place.end()) else None


def _read_table(value: object) -> dict[str, object] | None:
    if not isinstance(value, dict):
        return None
    return (
        value if all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", name) for name in value) else None
    )


def _read_names(value: object) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    names = [*value, *value.values()]
    is_fine = all(isinstance(one, str) and re.fullmatch(_NAME, one) for one in names)
    return value if is_fine else None


def _read_origins(value: object) -> tuple[str, ...] | None:
    origins = texts().read(value)
    if origins is None or not all(re.fullmatch(rf"https?://{_HOST}", one) for one in origins):
        return None
    return origins


CALLBACK: Kind[str] = Kind(
    "a URL of this server that ends in /_login/NAME, with https unless on this machine",
    _read_callback,
)
TABLE: Kind[dict[str, object]] = Kind("a table", _read_table)
NAMES: Kind[dict[str, str]] = Kind("a table of names", _read_names)
ORIGINS: Kind[tuple[str, ...]] = Kind('a list of origins, like "https://app.test"', _read_origins)


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """Settings of a strategy of this kind."""

    backend: str = setting(
        "backend",
        matching(r"[A-Za-z0-9_.-]{1,200}", "the name of a backend of social-auth-core"),
        "",
        "Backend of the provider, see `manykeys strategies list`, or the full name of a class.",
    )
    key: str = setting("key", text(1), "", "Client id that the provider issued.")
    secret: str | None = setting(
        "secret", secret_text(1), None, "Client secret that the provider issued.", secret=True
    )
    callback_url: str = setting(
        "callbackUrl", CALLBACK, "", "Callback (redirect) URL, as registered."
    )
    scope: tuple[str, ...] = setting(
        "scope", texts(), (), "Scopes in addition to those of the backend."
    )
    settings: dict[str, object] = setting(
        "settings",
        TABLE,
        {},
        "Settings of the backend, with or without `SOCIAL_AUTH_`.",
        secret=True,
    )
    persist: tuple[str, ...] = setting(
        "persist",
        texts(),
        (),
        "Attributes stored with the credentials, like email or address.city.",
    )
    identifier_attribute: str = setting(
        "identifierAttribute",
        text(),
        "",
        "Attribute that is the stable user id; that of the backend if empty.",
    )
    attributes_mapping: dict[str, str] = setting(
        "kuzzleAttributesMapping",
        NAMES,
        {},
        "Names under which attributes are stored, by their original names.",
    )
    user_attributes: dict[str, str] = setting(
        "userAttributes", NAMES, {}, "Fields of a new user's content, by attribute."
    )
    default_profiles: tuple[str, ...] = setting(
        "defaultProfiles", texts(1), ("default",), "Profiles of users created at their first login."
    )
    links_by_email: bool = setting(
        "linkByVerifiedEmail",
        YES_NO,
        False,
        "Log in the user who has proved, with `emailStrategy`, the email address that the provider "
        "says it has verified.",
    )
    email_strategy: str = setting(
        "emailStrategy",
        text(1),
        "magic",
        "The strategy of kind `magic` whose addresses `linkByVerifiedEmail` trusts.",
    )
    email_field: str = setting(
        "emailField",
        text(),
        "",
        "No longer allowed, as users can edit their content; use `emailStrategy`.",
    )
    issuer: str = setting(
        "issuer", text(), "", "Required `iss` of responses; only needed without discovery."
    )
    window_origins: tuple[str, ...] = setting(
        "windowOrigins",
        ORIGINS,
        (),
        "Origins of windows that may receive the result of a login.",
    )
    timeout_ms: Milliseconds = setting(
        "timeout", duration(100), 5000, "Timeout of a request to the provider."
    )
    threads: int = setting("threads", whole(1, 64), 8, "Maximum number of concurrent requests.")
    queue: int = setting("queue", whole(0, 10_000), 100, "Maximum number of queued login steps.")
