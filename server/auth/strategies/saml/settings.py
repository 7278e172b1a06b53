"""`[strategies.NAME]` with `use = "saml"`; known without the packages it takes."""

import re
from dataclasses import dataclass

from server.auth.strategies.oauth.settings import CALLBACK, NAMES, ORIGINS
from server.core.settings import NAMED_TABLES, choice, matching, setting, text, texts, whole

# They stand in XML as they are, and in an address.
_ENTITY = matching(
    r"[A-Za-z][A-Za-z0-9+.-]{0,20}:[A-Za-z0-9._~:/?#\[\]@!$()*+,;=%-]{1,1000}|",
    "a URI, which names one side of SAML",
)
_ADDRESS = matching(
    r"https://[A-Za-z0-9._~:/?\[\]@!$()*+,;=%-]{1,1000}|",
    "an address that begins with https://",
)
_ATTRIBUTE = matching(r"[ -~]{0,200}", "the name of an attribute")
_MAIL = re.compile(
    r"(?:^|[._:/-])e?-?mails?(?:address(?:es)?)?(?:$|[._:\[/-])|"
    r"urn:oid:(?:0\.9\.2342\.19200300\.100\.1\.3|1\.2\.840\.113549\.1\.9\.1)$",
    re.IGNORECASE,
)
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What a provider may be called here: what identifies its users begins with it."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """`[strategies.NAME.providers.PROVIDER]`: one identity provider that is believed."""

    entity_id: str = setting("entityId", _ENTITY, "", "What it calls itself: its entity id.")
    url: str = setting("url", _ADDRESS, "", "Where it takes requests by HTTP-Redirect.")
    certificates: tuple[str, ...] = setting(
        "certificates", texts(1), (), "Files with the certificates it signs with, in PEM."
    )
    identifier_attribute: str = setting(
        "identifierAttribute",
        _ATTRIBUTE,
        "",
        "The attribute that identifies a user for good; the NameID unless set.",
    )


@dataclass(frozen=True, slots=True)
class SamlSettings:
    """What a strategy of this kind is configured by."""

    entity_id: str = setting("entityId", _ENTITY, "", "What this server is called: its entity id.")
    callback_url: str = setting(
        "callbackUrl", CALLBACK, "", "Where providers send responses: the consumer service."
    )
    certificate: str = setting(
        "certificate", text(), "", "File with a certificate for `key`, which providers are shown."
    )
    key: str = setting(
        "key",
        text(),
        "",
        "File with an RSA key in PEM that requests are signed with, and assertions encrypted for.",
        secret_file=True,
    )
    encryption: str = setting(
        "encryption",
        choice("refused", "accepted", "required"),
        "refused",
        "Whether assertions may, or must, be encrypted for `key`.",
    )
    providers: dict[str, dict[str, object]] = setting(
        "providers", NAMED_TABLES, {}, "The identity providers, by names that never change."
    )
    name_id_format: str = setting(
        "nameIdFormat",
        choice("persistent", "unspecified"),
        "persistent",
        "Which kind of NameID to ask for.",
    )
    persist: tuple[str, ...] = setting(
        "persist", texts(), (), "Attributes kept with the credentials, by name or friendly name."
    )
    attributes_mapping: dict[str, str] = setting(
        "kuzzleAttributesMapping", NAMES, {}, "Other names to keep attributes under."
    )
    user_attributes: dict[str, str] = setting(
        "userAttributes", NAMES, {}, "Attributes for the content of a new user, by its fields."
    )
    default_profiles: tuple[str, ...] = setting(
        "defaultProfiles", texts(1), ("default",), "Profiles of users made at their first login."
    )
    window_origins: tuple[str, ...] = setting(
        "windowOrigins",
        ORIGINS,
        (),
        "Whose windows the page at the end of a login may hand its result to.",
    )
    threads: int = setting("threads", whole(1, 64), 2, "Responses verified at once.")
    queue: int = setting("queue", whole(0, 10_000), 100, "Steps of logins that may wait for that.")


def is_address(attribute: str) -> bool:
    """Tell whether an attribute of this name holds e-mail addresses, which are no identity (O6)."""
    return _MAIL.search(attribute) is not None
