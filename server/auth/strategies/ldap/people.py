"""Users in an LDAP directory: search, bind and attributes (RFC 4513 §5.1.3).

Blocking: for threads only. The same requests are sent whether a user exists or not, except those
that follow a correct password.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from server.auth.strategies.ldap.filters import (
    Account,
    bind_name,
    dn_key,
    group_filter,
    identity_filter,
    people_filter,
    read_account,
    read_identifier,
)
from server.auth.strategies.ldap.pool import Directory, Entry, Link, Misfit, TooMany
from server.auth.strategies.ldap.settings import LdapSettings, renamed
from server.core.config_file import ConfigError
from server.core.ids import is_id

_LOG = logging.getLogger("manykeys.ldap")
_ANYTHING = "(objectClass=*)"
_NOTHING = "1.1"  # RFC 4511 §4.5.1.8: no attributes
MOST_VALUES = 100
MOST_VALUE_BYTES = 4096
"""Maximum number and size of the values of one stored attribute: further values, and longer ones,
are left out."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the directory; `attributes` are those to store, `profile_ids` those granted by
    default and by groups."""

    identifier: str
    dn: str
    username: str
    attributes: dict[str, object] = field(default_factory=dict)
    profile_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """A failed login; `reason` is for the audit log, `identifier` is the entry that was tried, ""
    if it is unknown."""

    reason: str
    identifier: str = ""


class People:
    """The users of a directory."""

    def __init__(self, name: str, settings: LdapSettings) -> None:
        self._name = name
        self._settings = settings
        self._directory = Directory(name, settings)
        self._groups = list(settings.group_profiles.items())
        self._keys = [dn_key(dn) for dn, _ in self._groups]
        if None in self._keys:
            raise ConfigError(
                f"groupProfiles: {self._groups[self._keys.index(None)][0]} is not a DN"
            )
        kept = (settings.identifier, settings.username, *settings.persist)
        self._attributes = (*kept, "memberOf") if self._groups else kept

    def authenticate(self, username: str, password: str) -> Person | Denied:
        """Verify a password. `Unreachable` if no server responds, and `Misfit` if the directory or
        the settings are wrong."""
        account = read_account(username, self._settings)
        if self._settings.has_service:
            return self._find_and_bind(account, password)
        if account is None:
            return Denied("unknown domain")
        return self._directory.users.run(lambda link: self._bind_directly(link, account, password))

    def find(self, username: str) -> Person | None:
        """Return the user with this username, None if there is none or more than one."""
        account = read_account(username, self._settings)
        if account is None:
            return None
        wanted = people_filter(account, self._settings)
        return self._directory.service.run(lambda link: self._look_up(link, wanted))

    def find_dn(self, dn: str) -> Person | None:
        """Return the user with this DN."""
        return self._directory.service.run(lambda link: self._read(link, dn))

    def find_identifier(self, identifier: str) -> Person | None:
        """Return the user with an identifier, if they may still log in."""
        wanted = identity_filter(identifier, self._settings)
        return self._directory.service.run(lambda link: self._look_up(link, wanted))

    def close(self) -> None:
        """Close the connections."""
        self._directory.close()

    def _find_and_bind(self, account: Account | None, password: str) -> Person | Denied:
        run = self._directory.service.run
        reason, found = "unknown domain", None
        if account is not None:
            wanted = people_filter(account, self._settings)
            try:
                entries = run(lambda link: self._find(link, wanted, (self._settings.identifier,)))
            except TooMany:
                reason = "several entries"
            else:
                reason, found = "unknown user", next(iter(entries), None)
        # A bind to a decoy if there is no entry: unknown names must not be answered sooner.
        dn = self._decoy() if found is None else found.dn
        refused = self._directory.users.run(lambda link: link.bind(dn, password))
        if found is None:
            return Denied(reason)
        if refused:
            # What is wrong with an entry is only revealed after a successful bind.
            return Denied(refused, self._identifier_of(found) or "")
        identifier = self._identify(found)
        person = run(lambda link: self._read(link, dn))
        if person is None or person.identifier != identifier:
            return Denied("entry was moved", identifier)
        return person

    def _bind_directly(self, link: Link, account: Account, password: str) -> Person | Denied:
        name = bind_name(account, self._settings)
        refused = link.bind(name, password)
        if refused:
            return Denied(refused)
        if not self._settings.active_directory:
            person = self._read(link, name)
        else:
            person = self._look_up(link, people_filter(account, self._settings))
            # The controller may have read the name as another user's principal name.
            if person is not None and (refused := link.bind(person.dn, password)):
                return Denied(f"another account of this name: {refused}", person.identifier)
        return person or Denied("no entry, or several")

    def _look_up(self, link: Link, wanted: str) -> Person | None:
        try:
            entries = self._find(link, wanted, self._attributes)
        except TooMany:
            return None
        return self._describe(link, entries[0]) if entries else None

    def _find(self, link: Link, wanted: str, attributes: tuple[str, ...]) -> list[Entry]:
        return link.find(self._settings.base, wanted, attributes)

    def _read(self, link: Link, dn: str) -> Person | None:
        entry = link.read(dn, _ANYTHING, self._attributes)
        return None if entry is None else self._describe(link, entry)

    def _describe(self, link: Link, entry: Entry) -> Person:
        username = _texts(entry.values.get(self._settings.username.lower(), []))
        shown = username[0] if username else ""
        return Person(
            self._identify(entry),
            entry.dn,
            shown,
            self._kept(entry),
            self._profiles(link, entry, shown),
        )

    def _identify(self, entry: Entry) -> str:
        """Return the stable identifier of an entry; Misfit if it has none."""
        identifier = self._identifier_of(entry)
        if identifier is None:
            attribute = self._settings.identifier
            raise Misfit(f"identifierAttribute: an entry has no readable {attribute}")
        return identifier

    def _identifier_of(self, entry: Entry) -> str | None:
        values = entry.values.get(self._settings.identifier.lower(), [])
        identifier = read_identifier(values[0], self._settings) if len(values) == 1 else None
        return identifier if identifier is not None and is_id(identifier) else None

    def _kept(self, entry: Entry) -> dict[str, object]:
        kept: dict[str, object] = {}
        for name in self._settings.persist:
            values = _texts(entry.values.get(name.lower(), []))
            if values:
                kept[name] = values[0] if len(values) == 1 else values
        return renamed(kept, self._settings.mapping)

    def _profiles(self, link: Link, entry: Entry, username: str) -> tuple[str, ...]:
        """Return the default profiles, and those of the entry's groups, in the order of the
        settings."""
        is_in = self._membership(link, entry, username)
        given = list(self._settings.default_profiles)
        for (group, profiles), key in zip(self._groups, self._keys, strict=True):
            if is_in(group, key):
                given += profiles
        return tuple(dict.fromkeys(given))

    def _membership(self, link: Link, entry: Entry, username: str) -> Callable[[str, object], bool]:
        """Return a function that returns whether the entry is in a group."""
        if not self._settings.members:
            keys = {dn_key(one) for one in _all_texts(entry.values.get("memberof", []))}
            return lambda group, key: key in keys
        wanted = group_filter(entry.dn, username, self._settings)
        return lambda group, key: link.read(group, wanted, (_NOTHING,)) is not None

    def _decoy(self) -> str:
        return self._settings.decoy_dn or f"cn={secrets.token_hex(8)},{self._settings.base}"


def _texts(values: list[bytes]) -> list[str]:
    """Return the values that are text and not too long."""
    short = [value for value in values if len(value) <= MOST_VALUE_BYTES]
    return _all_texts(short[:MOST_VALUES])


def _all_texts(values: list[bytes]) -> list[str]:
    texts = []
    for value in values:
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            continue
    return texts
