"""LDAP search filters and distinguished names for usernames (RFC 4514, RFC 4515).

User input is always escaped: it stays a value, and never becomes a part of a filter or of a name
(LDAP injection, security check D1).
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from ldap.dn import escape_dn_chars, str2dn
from ldap.filter import escape_filter_chars

from server.auth.strategies.ldap.settings import LdapSettings

_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
_PERSON = "(objectCategory=person)(objectClass=user)"
_ENABLED = "(!(userAccountControl:1.2.840.113556.1.4.803:=2))"
# Combining marks and invisible characters: directories ignore them, each in its own way.
_IGNORED = ("Mn", "Cf", "Cc", "Me")
_GUID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Account:
    """The account that a username means: `name` without a domain or with ours; `upn` as it was
    typed, if it is a principal name."""

    name: str
    upn: str = ""


def read_account(username: str, settings: LdapSettings) -> Account | None:
    """Parse a username; None for one of another domain."""
    if not settings.active_directory:
        return Account(username)
    domain, is_down_level, name = username.rpartition("\\")
    if is_down_level:
        is_ours = bool(name) and domain.casefold() == settings.netbios_name.casefold()
        return Account(name) if is_ours else None
    name, is_upn, domain = username.rpartition("@")
    if not is_upn:
        return Account(username)
    if not name or not domain:
        return None
    # Each user has a principal name in the domain itself, whether it is stored or not.
    is_ours = domain.casefold() == settings.domain.casefold()
    return Account(name if is_ours else "", username)


def people_filter(account: Account, settings: LdapSettings) -> str:
    """Return the filter that finds the entry of an account."""
    if not settings.active_directory:
        return fill(settings.people, {"username": escape_filter_chars(account.name)})
    named = [("sAMAccountName", account.name), ("userPrincipalName", account.upn)]
    parts = [f"({name}={escape_filter_chars(value)})" for name, value in named if value]
    return f"(&{_PERSON}{settings.people}(|{''.join(parts)}))"


def identity_filter(identifier: str, settings: LdapSettings) -> str:
    """Return the filter that finds the entry with an identifier, if it may log in."""
    value = escape_filter_chars(identifier)
    if _is_guid(settings):
        raw = UUID(identifier).bytes_le
        value = "".join(f"\\{byte:02x}" for byte in raw)
    known = f"({settings.identifier}={value})"
    if settings.active_directory:
        return f"(&{_PERSON}{_ENABLED}{settings.people}{known})"
    rest = fill(settings.people, {"username": "*"})
    return f"(&{rest}{known})"


def group_filter(dn: str, username: str, settings: LdapSettings) -> str:
    """Return the filter that a group of this user matches."""
    holes = {"dn": escape_filter_chars(dn), "username": escape_filter_chars(username)}
    return fill(settings.members, holes)


def bind_name(account: Account, settings: LdapSettings) -> str:
    """Return the name for a direct bind."""
    if settings.active_directory:
        return account.upn or f"{account.name}@{settings.domain}"
    return fill(settings.user_dn, {"username": escape_dn_chars(account.name)})


def fill(template: str, holes: Mapping[str, str]) -> str:
    """Replace the placeholders of a template, in one pass: values are not templates themselves."""
    return _PLACEHOLDER.sub(lambda hole: holes.get(hole[1], hole[0]), template)


def account_key(username: str, settings: LdapSettings) -> str:
    """Return the key for counting failed logins: the same for all usernames that a directory may
    treat as equal, whatever it does about case, blanks, accents, widths and invisible
    characters."""
    name = username
    if settings.active_directory:
        name = name.rpartition("\\")[2].partition("@")[0] or name
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    seen = (one for one in folded if unicodedata.category(one) not in _IGNORED)
    return " ".join("".join(seen).split())


def read_identifier(value: bytes, settings: LdapSettings) -> str | None:
    """Return an identifier as a string, None if it is not valid."""
    if _is_guid(settings):
        return str(UUID(bytes_le=value)) if len(value) == _GUID_BYTES else None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def is_identifier(identifier: str, settings: LdapSettings) -> bool:
    """Return whether a string can be an identifier here."""
    if not _is_guid(settings):
        return True
    try:
        return str(UUID(identifier)) == identifier
    except ValueError:
        return False


def dn_key(dn: str) -> tuple[tuple[tuple[str, str], ...], ...] | None:
    """Return a normalized DN for comparison, None if it is not valid.

    Only ASCII letters are lower-cased, and only plain blanks count as such: if more were treated as
    equal, as some directories do, a group with another name could pass for one that grants
    profiles.
    """
    try:
        parts = str2dn(dn)
    except Exception:  # ldap.DECODING_ERROR, or what its parser raises for invalid text
        return None
    return tuple(
        tuple(sorted((kind.lower(), _folded(value)) for kind, value, _ in part)) for part in parts
    )


def _folded(value: str) -> str:
    small = value.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")
    return " ".join(word for word in small.split(" ") if word)


def _is_guid(settings: LdapSettings) -> bool:
    return settings.identifier.lower() == "objectguid"
