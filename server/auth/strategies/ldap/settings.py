"""Settings of the kind `ldap`, and their offline checks.

Needs only the standard library: the reference of all settings contains them whether the extra is
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
"""Maximum number of mapped groups: each may cost a request per login."""
MOST_WAITING = 256
"""Maximum number of requests that wait for a thread; further logins are answered with 503."""
_PORTS = {"ldap": 389, "ldaps": 636}
_LOOPBACK_NAMES = ("localhost", "ip6-localhost")
_ATTRIBUTE = r"[A-Za-z][A-Za-z0-9-]{0,127}"
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")
_NESTED = "(member:1.2.840.113556.1.4.1941:={dn})"
"""Active Directory's LDAP_MATCHING_RULE_IN_CHAIN: nested groups too."""


def _read_line(value: object) -> str | None:
    if value == "":
        return ""
    return value if isinstance(value, str) and _PRINTABLE.fullmatch(value) else None


_LINE: Kind[str] = Kind("a string without control characters", _read_line)


def _read_password(value: object) -> str | None:
    return value if isinstance(value, str) and "\0" not in value else None


_PASSWORD: Kind[str] = Kind("a string", _read_password)


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
    f"a table of at most {MOST_GROUPS} group DNs, each with a profile or a list of profiles",
    _read_groups,
)


def _read_renames(value: object) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    fine = all(isinstance(one, str) and one for one in value.values())
    return dict(value) if fine else None


_RENAMES: Kind[dict[str, str]] = Kind("a table of strings", _read_renames)


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """`[strategies.NAME]` with `use = "ldap"`."""

    servers: tuple[str, ...] = setting(
        "servers",
        texts(1),
        (),
        "Servers in the order they are tried, like `ldaps://ldap.example.com`.",
    )
    start_tls: bool = setting("startTls", YES_NO, False, "Use StartTLS on `ldap://`.")
    ca_file: str = setting(
        "caFile",
        text(),
        "",
        "File with CA certificates of the servers, in PEM; the system's if empty.",
    )
    insecure: bool = setting(
        "insecure", YES_NO, False, "Allow sending passwords without TLS to other machines."
    )
    active_directory: bool = setting(
        "activeDirectory", YES_NO, False, "The directory is Active Directory or Samba."
    )
    bind_dn: str = setting(
        "bindDn", _LINE, "", "Service account that searches users; without it they bind directly."
    )
    bind_password: str = setting(
        "bindPassword", _PASSWORD, "", "Password of the service account.", secret=True
    )
    base: str = setting("base", _LINE, "", "Base DN of the search for users (subtree).")
    filter: str = setting(
        "filter",
        _LINE,
        "",
        "Filter that finds a user, `(uid={username})` if empty; with Active Directory, an "
        "additional filter.",
    )
    user_dn: str = setting(
        "userDn", _LINE, "", "DN for direct binds, like `uid={username},ou=people,…`."
    )
    domain: str = setting(
        "domain", text(), "", "DNS name of the Active Directory domain, for `name@domain`."
    )
    netbios_name: str = setting(
        "netbiosName", text(), "", "NetBIOS domain name, for `DOMAIN\\name`."
    )
    decoy_dn: str = setting(
        "decoyDn",
        _LINE,
        "",
        "Decoy DN with a random password, bound for unknown users, so that the response takes as "
        "long as for a wrong password.",
    )
    identifier_attribute: str = setting(
        "identifierAttribute",
        matching(f"({_ATTRIBUTE})?", "the name of an attribute"),
        "",
        "Attribute with a stable id of an entry: `entryUUID` if empty, `objectGUID` in Active "
        "Directory.",
    )
    username_attribute: str = setting(
        "usernameAttribute",
        matching(f"({_ATTRIBUTE})?", "the name of an attribute"),
        "",
        "Attribute with the username: `uid` if empty, `sAMAccountName` in Active Directory.",
    )
    default_profiles: tuple[str, ...] = setting(
        "defaultProfiles", texts(1), ("default",), "Profiles of all users."
    )
    group_profiles: dict[str, tuple[str, ...]] = setting(
        "groupProfiles", _GROUPS, {}, "Profiles of the members of a group, by the group's DN."
    )
    group_filter: str = setting(
        "groupFilter",
        _LINE,
        "",
        "Filter that the groups of a user match, like `(member={dn})` or "
        "`(memberUid={username})`; without it the user's `memberOf` is used.",
    )
    nested_groups: bool = setting(
        "nestedGroups", YES_NO, False, "Resolve nested groups, in Active Directory."
    )
    sync_profiles: bool = setting(
        "syncProfiles", YES_NO, False, "Update the profiles at each login, not only at the first."
    )
    persist: tuple[str, ...] = setting(
        "persist", texts(), (), "Attributes stored with the credentials."
    )
    mapping: dict[str, str] = setting(
        "kuzzleAttributesMapping",
        _RENAMES,
        {},
        "Names under which attributes are stored, by their original names.",
    )
    timeout_ms: Milliseconds = setting(
        "timeout", duration(100), 5000, "Timeout to connect, and of each request."
    )
    retry_after_ms: Milliseconds = setting(
        "retryAfter", duration(0), 30_000, "How long a server that failed is tried last."
    )
    connections: int = setting(
        "connections",
        whole(1, 64),
        4,
        "Size of the connection pool of the service account, and of that for users.",
    )

    @property
    def has_service(self) -> bool:
        """Whether a service account searches users."""
        return bool(self.bind_dn)

    @property
    def identifier(self) -> str:
        """The attribute that identifies users."""
        return self.identifier_attribute or ("objectGUID" if self.active_directory else "entryUUID")

    @property
    def username(self) -> str:
        """The attribute with their username."""
        return self.username_attribute or ("sAMAccountName" if self.active_directory else "uid")

    @property
    def people(self) -> str:
        """The filter of users; with Active Directory, an additional filter."""
        return self.filter or ("" if self.active_directory else "(uid={username})")

    @property
    def members(self) -> str:
        """The filter of a user's groups, "" if `memberOf` is used."""
        return _NESTED if self.nested_groups else self.group_filter

    def check(self) -> None:
        """Raise ConfigError for settings that contradict each other."""
        for wrong, said in (*self._user_conflicts(), *self._group_conflicts()):
            if wrong:
                raise ConfigError(said)

    def _user_conflicts(self) -> tuple[tuple[bool, str], ...]:
        is_ad, is_direct = self.active_directory, not self.has_service
        filter_needs = not is_ad and "{username}" not in self.people
        return (
            (not self.servers, "servers: not set; expected one like ldaps://ldap.example.com"),
            (len(self.servers) > MOST_SERVERS, f"servers: expected at most {MOST_SERVERS}"),
            # RFC 4513 §5.1.2: this would be an anonymous bind that looks like a successful one.
            (
                self.has_service and not self.bind_password,
                "bindPassword: not set; expected the password of bindDn",
            ),
            (
                is_direct and bool(self.bind_password),
                "bindDn: not set; expected the account of bindPassword",
            ),
            (self.has_service and not self.base, "base: not set; expected the base DN of users"),
            (self.has_service and bool(self.user_dn), "userDn: cannot be combined with bindDn"),
            (
                is_ad and bool(self.user_dn),
                "userDn: cannot be combined with activeDirectory; set domain",
            ),
            (is_ad and not self.base, "base: not set; expected the base DN of users"),
            (is_ad and is_direct and not self.domain, "domain: not set; required for direct binds"),
            (
                not is_ad and is_direct and "{username}" not in self.user_dn,
                "bindDn: not set; expected bindDn, or userDn with {username}",
            ),
            (
                bool(self.filter) and not _is_filter(self.filter),
                "filter: expected an LDAP filter in parentheses",
            ),
            (self.has_service and filter_needs, "filter: must contain {username}"),
        )

    def _group_conflicts(self) -> tuple[tuple[bool, str], ...]:
        mapped = {one for profiles in self.group_profiles.values() for one in profiles}
        is_filter = not self.group_filter or _is_filter(self.group_filter)
        return (
            (
                self.nested_groups and not self.active_directory,
                "nestedGroups: requires activeDirectory",
            ),
            (
                self.nested_groups and bool(self.group_filter),
                "groupFilter: cannot be combined with nestedGroups",
            ),
            (not is_filter, "groupFilter: expected an LDAP filter in parentheses"),
            (
                len(mapped | set(self.default_profiles)) > MOST_PROFILES,
                f"groupProfiles: a user can have at most {MOST_PROFILES} profiles",
            ),
        )


@dataclass(frozen=True, slots=True)
class Server:
    """An LDAP server; `context` is the TLS context, None for no TLS."""

    host: str
    port: int
    context: ssl.SSLContext | None
    starts_tls: bool

    def __str__(self) -> str:
        """Return host and port, for the log."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_servers(settings: LdapSettings) -> list[Server]:
    """Return the servers; ConfigError for an invalid one, and for one to which passwords would be
    sent without TLS (security check D3)."""
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
        raise ConfigError(f"servers: {url} is not valid; expected ldaps://HOST or ldap://HOST")
    is_ldaps = parts.scheme == "ldaps"
    if is_ldaps and settings.start_tls:
        raise ConfigError(f"startTls: {url} uses TLS from the start; expected ldap://")
    has_tls = is_ldaps or settings.start_tls
    if not (has_tls or settings.insecure or _is_loopback(parts.hostname)):
        raise ConfigError(
            f"servers: passwords would be sent to {url} in clear text; expected "
            "ldaps://, startTls = true, or insecure = true"
        )
    port = _PORTS[parts.scheme] if port is None else port
    return Server(parts.hostname, port, context if has_tls else None, not is_ldaps)


def _make_context(ca_file: str) -> ssl.SSLContext:
    """Return the TLS context: TLS 1.2 or newer, certificate and host name verified, always."""
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
    """Return stored attributes by their configured names."""
    return {names.get(name, name): value for name, value in attributes.items()}
