"""Settings of the kind `passkey`; importable without its extra."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from server.core.config_file import ConfigError
from server.core.settings import (
    YES_NO,
    Milliseconds,
    choice,
    duration,
    matching,
    setting,
    texts,
    whole,
)

ALGORITHMS: Mapping[str, int] = MappingProxyType(
    {
        "ES256": -7,
        "EdDSA": -8,
        "ES512": -36,
        "PS256": -37,
        "PS384": -38,
        "PS512": -39,
        "RS256": -257,
        "RS384": -258,
        "RS512": -259,
    }
)
"""COSE numbers of the algorithms a key may have (RFC 9053, RFC 8812)."""
_DOMAIN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_ANDROID = re.compile(r"android:apk-key-hash:[A-Za-z0-9_-]{43}")
_ORIGIN = re.compile(rf"https?://{_DOMAIN}(:[1-9][0-9]{{0,4}})?")


@dataclass(frozen=True, slots=True)
class PasskeySettings:
    """`[strategies.NAME]` with `use = "passkey"`."""

    rp_id: str = setting(
        "rpId",
        matching(rf"(?=.{{0,253}}$)({_DOMAIN})?", "a domain in lower case"),
        "",
        "Domain of the passkeys (RP ID). If it changes, existing passkeys stop working.",
    )
    rp_name: str = setting(
        "rpName",
        matching(r"[^\x00-\x1f\x7f]{0,64}", "a string of at most 64 characters"),
        "",
        "Name that users see when they create a passkey; `rpId` if empty.",
    )
    origins: tuple[str, ...] = setting(
        "origins",
        texts(1),
        (),
        "Origins whose pages may use passkeys, each exactly as browsers write it.",
    )
    top_origins: tuple[str, ...] = setting(
        "topOrigins",
        texts(),
        (),
        "Origins of other sites that may show such a page in a frame.",
    )
    user_verification: str = setting(
        "userVerification",
        choice("required", "preferred", "discouraged"),
        "required",
        "Whether the authenticator must verify the user, for example by PIN or fingerprint.",
    )
    attestation: str = setting(
        "attestation",
        choice("none", "indirect", "direct"),
        "none",
        "Attestation that authenticators are asked for; no list of manufacturers is checked.",
    )
    algorithms: tuple[str, ...] = setting(
        "algorithms",
        texts(1),
        ("ES256", "EdDSA", "RS256"),
        f"Algorithms of new keys, in order of preference, of {', '.join(ALGORITHMS)}.",
    )
    timeout_ms: Milliseconds = setting(
        "timeout", duration(1000), 300_000, "How long browsers should wait for the user."
    )
    most_keys: int = setting("mostKeys", whole(1, 100), 10, "Maximum number of passkeys per user.")
    is_portable: bool = setting("portable", YES_NO, False, "Also accept clients without cookies.")


def check_settings(settings: PasskeySettings) -> None:
    """Raise ConfigError for settings with which no passkey could ever work."""
    if not settings.rp_id:
        raise ConfigError("rpId: not set; expected the domain of the pages that use passkeys")
    if not settings.origins:
        raise ConfigError(f'origins: not set; expected a list like ["https://{settings.rp_id}"]')
    for origin in settings.origins:
        if not _ANDROID.fullmatch(origin):
            _check_origin("origins", origin)
            _check_belongs(origin, settings.rp_id)
    for origin in settings.top_origins:
        _check_origin("topOrigins", origin)
    for name in settings.algorithms:
        if name not in ALGORITHMS:
            raise ConfigError(f"algorithms: {name}; expected some of {', '.join(ALGORITHMS)}")


def _check_origin(name: str, origin: str) -> None:
    if not _ORIGIN.fullmatch(origin):
        raise ConfigError(
            f'{name}: "{origin}"; expected a scheme, a domain in lower case and, unless it is the'
            " scheme's default, a port, without path or query"
        )
    if origin.startswith("http://") and not _is_local(_host_of(origin)):
        raise ConfigError(f'{name}: "{origin}"; http is allowed for localhost only, expected https')


def _check_belongs(origin: str, rp_id: str) -> None:
    """Raise ConfigError if browsers would not allow a page of this origin to use keys of the
    domain: a page may use those of its own domain, and of those above it."""
    host = _host_of(origin)
    if host != rp_id and not host.endswith(f".{rp_id}"):
        raise ConfigError(f'origins: "{origin}"; expected {rp_id} or a domain below it')


def _host_of(origin: str) -> str:
    return urlsplit(origin).hostname or ""


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")
