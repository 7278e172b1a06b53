"""The settings of the kind `ldap`, and what is checked of them before any server is asked.

Needs nothing but the standard library: the page of all settings names them whether the extra is
installed or not.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from server.auth.identity.user import MOST_PROFILES
from server.core.config_file import ConfigError
from server.core.settings import (
    YES_NO,
    Kind,
    Milliseconds,
    duration,
    matching,
    setting,
    text,
    texts,
    whole,
)

MOST_SERVERS = 8
MOST_GROUPS = 64
"""Groups that may be mapped: each may cost a question at each login."""
MOST_WAITING = 256
"""Questions that may wait for a thread; further logins are answered with 503."""
_PORTS = {"ldap": 389, "ldaps": 636}
_LOOPBACK_NAMES = ("localhost", "ip6-localhost")
_ATTRIBUTE = r"[A-Za-z][A-Za-z0-9-]{0,127}"
_WHOLE = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")
_NESTED = "(member:1.2.840.113556.1.4.1941:={dn})"
"""Active Directory's LDAP_MATCHING_RULE_IN_CHAIN: members of members too."""


def _read_words(value: object) -> str | None:
    if value == "":
        return ""
    return value if isinstance(value, str) and _WHOLE.fullmatch(value) else None


_WORDS: Kind[str] = Kind("a text without control characters", _read_words)


def _read_password(value: object) -> str | None:
    return value if isinstance(value, str) and "\0" not in value else None


_PASSWORD: Kind[str] = Kind("a text", _read_password)


def _read_groups(value: object) -> dict[str, tuple[str, ...]] | None:
    if not isinstance(value, dict) or len(value) > MOST_GROUPS:
        return None
    groups: dict[str, tuple[str, ...]] = {}
    for group, given in value.items():
        named = [given] if isinstance(given, str) else given
        if not isinstance(named, list) or not named:
            return None
        if not all(isinstance(one, str) and one for one in named):
            return None
        groups[group] = tuple(named)
    return groups


_GROUPS: Kind[dict[str, tuple[str, ...]]] = Kind(
    f"a table of at most {MOST_GROUPS} names of groups, each with a profile or a list of them",
    _read_groups,
)


def _read_renames(value: object) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    fine = all(isinstance(one, str) and one for one in value.values())
    return dict(value) if fine else None


_RENAMES: Kind[dict[str, str]] = Kind("a table of texts", _read_renames)


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """`[strategies.NAME]` with `use = "ldap"`."""

    servers: tuple[str, ...] = setting(
        "servers",
        texts(1),
        (),
        "Servers in the order they are tried, like `ldaps://ldap.example.com`.",
    )
    start_tls: bool = setting("startTls", YES_NO, False, "Turn TLS on inside of `ldap://`.")
    ca_file: str = setting(
        "caFile",
        text(),
        "",
        "Certificates that servers must be signed by, in PEM; else the system's.",
    )
    insecure: bool = setting(
        "insecure", YES_NO, False, "Send passwords without TLS to other machines."
    )
    active_directory: bool = setting(
        "activeDirectory", YES_NO, False, "The directory is Active Directory or Samba."
    )
    bind_dn: str = setting(
        "bindDn", _WORDS, "", "Service account that finds people; without it they bind directly."
    )
    bind_password: str = setting("bindPassword", _PASSWORD, "", "Its password.", secret=True)
    base: str = setting("base", _WORDS, "", "Where people are searched, all levels down.")
    filter: str = setting(
        "filter",
        _WORDS,
        "",
        "Which entry it is, `(uid={username})` unless given; with Active Directory, what else must "
        "hold of it.",
    )
    user_dn: str = setting(
        "userDn", _WORDS, "", "Name to bind directly with, like `uid={username},ou=people,…`."
    )
    domain: str = setting(
        "domain", text(), "", "DNS name of the Active Directory domain, of `name@domain`."
    )
    netbios_name: str = setting("netbiosName", text(), "", "Its short name, of `DOMAIN\\name`.")
    decoy_dn: str = setting(
        "decoyDn",
        _WORDS,
        "",
        "Entry of nobody, with a password nobody knows: bound to for unknown names, so that these "
        "take as long as wrong passwords.",
    )
    identifier_attribute: str = setting(
        "identifierAttribute",
        matching(f"({_ATTRIBUTE})?", "the name of an attribute"),
        "",
        "What never changes of an entry: `entryUUID` unless given, `objectGUID` in Active "
        "Directory.",
    )
    username_attribute: str = setting(
        "usernameAttribute",
        matching(f"({_ATTRIBUTE})?", "the name of an attribute"),
        "",
        "Its user name: `uid` unless given, `sAMAccountName` in Active Directory.",
    )
    default_profiles: tuple[str, ...] = setting(
        "defaultProfiles", texts(1), ("default",), "Profiles everybody gets."
    )
    group_profiles: dict[str, tuple[str, ...]] = setting(
        "groupProfiles", _GROUPS, {}, "Profiles of the members of a group, by the group's DN."
    )
    group_filter: str = setting(
        "groupFilter",
        _WORDS,
        "",
        "What must hold of a group's entry that somebody is in, like `(member={dn})` or "
        "`(memberUid={username})`; without it his `memberOf` counts.",
    )
    nested_groups: bool = setting(
        "nestedGroups", YES_NO, False, "Members of members count, in Active Directory."
    )
    sync_profiles: bool = setting(
        "syncProfiles", YES_NO, False, "Set the profiles anew at each login, not only at the first."
    )
    persist: tuple[str, ...] = setting("persist", texts(), (), "Attributes to keep of an entry.")
    mapping: dict[str, str] = setting(
        "kuzzleAttributesMapping", _RENAMES, {}, "What kept attributes are called here."
    )
    timeout_ms: Milliseconds = setting(
        "timeout", duration(100), 5000, "How long a server may take to connect, and to answer."
    )
    retry_after_ms: Milliseconds = setting(
        "retryAfter", duration(0), 30_000, "How long a server that failed is tried last."
    )
    connections: int = setting(
        "connections", whole(1, 64), 4, "Connections of the service account, and as many for users."
    )

    @property
    def has_service(self) -> bool:
        """Whether a service account finds people."""
        return bool(self.bind_dn)

    @property
    def identifier(self) -> str:
        """The attribute that identifies people."""
        return self.identifier_attribute or ("objectGUID" if self.active_directory else "entryUUID")

    @property
    def username(self) -> str:
        """The attribute that is shown as their user name."""
        return self.username_attribute or ("sAMAccountName" if self.active_directory else "uid")

    @property
    def people(self) -> str:
        """The filter of people; with Active Directory, what else must hold of them."""
        return self.filter or ("" if self.active_directory else "(uid={username})")

    @property
    def members(self) -> str:
        """The filter of a group somebody is in, "" where his `memberOf` tells."""
        return _NESTED if self.nested_groups else self.group_filter

    def check(self) -> None:
        """Raise ConfigError for settings that don't go together."""
        for wrong, said in (*self._wrong_of_people(), *self._wrong_of_groups()):
            if wrong:
                raise ConfigError(said)

    def _wrong_of_people(self) -> tuple[tuple[bool, str], ...]:
        is_ad, is_direct = self.active_directory, not self.has_service
        filter_needs = not is_ad and "{username}" not in self.people
        return (
            (not self.servers, "servers: not set; expected one like ldaps://ldap.example.com"),
            (len(self.servers) > MOST_SERVERS, f"servers: expected at most {MOST_SERVERS}"),
            # RFC 4513 §5.1.2: this would be an anonymous bind that looks like a good one.
            (self.has_service and not self.bind_password, "bindPassword: not set; bindDn has one"),
            (is_direct and bool(self.bind_password), "bindDn: not set; bindPassword is its own"),
            (self.has_service and not self.base, "base: not set; expected where people are"),
            (self.has_service and bool(self.user_dn), "userDn: not together with bindDn"),
            (is_ad and bool(self.user_dn), "userDn: not with activeDirectory; set domain"),
            (is_ad and not self.base, "base: not set; expected where people are"),
            (is_ad and is_direct and not self.domain, "domain: not set; people bind with it"),
            (
                not is_ad and is_direct and "{username}" not in self.user_dn,
                "bindDn: not set, and userDn is no template with {username}; expected one of them",
            ),
            (bool(self.filter) and not _is_filter(self.filter), "filter: expected (…)"),
            (self.has_service and filter_needs, "filter: expected {username} in it"),
        )

    def _wrong_of_groups(self) -> tuple[tuple[bool, str], ...]:
        mapped = {one for profiles in self.group_profiles.values() for one in profiles}
        is_filter = not self.group_filter or _is_filter(self.group_filter)
        return (
            (
                self.nested_groups and not self.active_directory,
                "nestedGroups: not without activeDirectory",
            ),
            (self.nested_groups and bool(self.group_filter), "groupFilter: not with nestedGroups"),
            (not is_filter, "groupFilter: expected (…)"),
            (
                len(mapped | set(self.default_profiles)) > MOST_PROFILES,
                f"groupProfiles: a user has at most {MOST_PROFILES} profiles",
            ),
        )


@dataclass(frozen=True, slots=True)
class Server:
    """A server of a directory; `context` is how TLS is spoken with it, None for not at all."""

    host: str
    port: int
    context: ssl.SSLContext | None
    starts_tls: bool

    def __str__(self) -> str:
        """Give it as it is logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_servers(settings: LdapSettings) -> list[Server]:
    """Give the servers; ConfigError for what is none, and for one that would be sent passwords
    without TLS (security check D3)."""
    context = _make_context(settings.ca_file)
    return [_read_server(url, settings, context) for url in settings.servers]


def _read_server(url: str, settings: LdapSettings, context: ssl.SSLContext) -> Server:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    is_whole = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in _PORTS or not parts.hostname or not is_whole:
        raise ConfigError(f"servers: {url} is not accepted; expected ldaps://HOST or ldap://HOST")
    is_ldaps = parts.scheme == "ldaps"
    if is_ldaps and settings.start_tls:
        raise ConfigError(f"startTls: {url} speaks TLS from the beginning; expected ldap://")
    has_tls = is_ldaps or settings.start_tls
    if not (has_tls or settings.insecure or _is_loopback(parts.hostname)):
        raise ConfigError(
            f"servers: {url} would be sent passwords that everybody on the way can read; expected "
            "ldaps://, startTls = true, or insecure = true"
        )
    port = _PORTS[parts.scheme] if port is None else port
    return Server(parts.hostname, port, context if has_tls else None, not is_ldaps)


def _make_context(ca_file: str) -> ssl.SSLContext:
    """Give how TLS is spoken: TLS 1.2 or newer, certificate and host checked, always."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as reason:  # ssl.SSLError is an OSError
        raise ConfigError(f"caFile: {ca_file}: {type(reason).__name__}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES


def _is_filter(given: str) -> bool:
    return given.startswith("(") and given.endswith(")") and given.count("(") == given.count(")")


def renamed(attributes: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    """Give kept attributes by what they are called here."""
    return {names.get(name, name): value for name, value in attributes.items()}
