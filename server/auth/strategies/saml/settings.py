"""Settings of the kind `saml`, `[strategies.NAME]` with `use = "saml"`; importable without its
packages."""

import re
from dataclasses import dataclass

from server.auth.strategies.oauth.settings import CALLBACK, NAMES, ORIGINS
from server.core.settings import NAMED_TABLES, choice, matching, setting, text, texts, whole

# They are written into XML and URLs without escaping.
_ENTITY = matching(
    r"[A-Za-z][A-Za-z0-9+.-]{0,20}:[A-Za-z0-9._~:/?#\[\]@!$()*+,;=%-]{1,1000}|",
    "a URI (entity id)",
)
_ADDRESS = matching(
    r"https://[A-Za-z0-9._~:/?\[\]@!$()*+,;=%-]{1,1000}|",
    "a URL that begins with https://",
)
_ATTRIBUTE = matching(r"[ -~]{0,200}", "the name of an attribute")
_MAIL = re.compile(
    r"(?:^|[._:/-])e?-?mails?(?:address(?:es)?)?(?:$|[._:\[/-])|"
    r"urn:oid:(?:0\.9\.2342\.19200300\.100\.1\.3|1\.2\.840\.113549\.1\.9\.1)$",
    re.IGNORECASE,
)
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Names that a provider may have here: the ids of its users begin with it."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """`[strategies.NAME.providers.PROVIDER]`: one trusted identity provider."""

    entity_id: str = setting("entityId", _ENTITY, "", "Entity id of the provider.")
    url: str = setting("url", _ADDRESS, "", "Single sign-on URL (HTTP-Redirect binding).")
    certificates: tuple[str, ...] = setting(
        "certificates", texts(1), (), "Files with its signing certificates, in PEM."
    )
    identifier_attribute: str = setting(
        "identifierAttribute",
        _ATTRIBUTE,
        "",
        "Attribute that is the stable user id; the NameID if empty.",
    )


@dataclass(frozen=True, slots=True)
class SamlSettings:
    """Settings of a strategy of this kind."""

    entity_id: str = setting("entityId", _ENTITY, "", "Entity id of this service provider.")
    callback_url: str = setting(
        "callbackUrl", CALLBACK, "", "Assertion consumer service URL (HTTP-POST binding)."
    )
    certificate: str = setting(
        "certificate",
        text(),
        "",
        "File with the certificate of `key`, in PEM, published in the metadata.",
    )
    key: str = setting(
        "key",
        text(),
        "",
        "File with an RSA key, in PEM, that signs requests and decrypts assertions.",
        secret_file=True,
    )
    encryption: str = setting(
        "encryption",
        choice("refused", "accepted", "required"),
        "refused",
        "Whether assertions may, or must, be encrypted for `key`.",
    )
    providers: dict[str, dict[str, object]] = setting(
        "providers",
        NAMED_TABLES,
        {},
        "Trusted identity providers, by names that must never change.",
    )
    name_id_format: str = setting(
        "nameIdFormat",
        choice("persistent", "unspecified"),
        "persistent",
        "NameID format to request.",
    )
    persist: tuple[str, ...] = setting(
        "persist", texts(), (), "Attributes stored with the credentials, by name or friendly name."
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
    window_origins: tuple[str, ...] = setting(
        "windowOrigins",
        ORIGINS,
        (),
        "Origins of windows that may receive the result of a login.",
    )
    threads: int = setting(
        "threads", whole(1, 64), 2, "Maximum number of responses verified at once."
    )
    queue: int = setting("queue", whole(0, 10_000), 100, "Maximum number of queued login steps.")


def is_address(attribute: str) -> bool:
    """Return whether an attribute of this name contains email addresses, which are not valid as
    user ids (security check O6)."""
    return _MAIL.search(attribute) is not None
