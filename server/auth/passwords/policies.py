"""Password policies: rules an operator sets for some or all users.

This module finds the rules that apply to a user; the strategy `local` enforces them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from server.auth.passwords.patterns import Pattern, read_pattern
from server.core.config_file import ConfigError
from server.core.durations import parse_duration_ms
from server.core.settings import Kind
from server.storage.base import Storage
from server.storage.rows import Table

T = TypeVar("T")

SETTING = "plugins.kuzzle-plugin-auth-passport-local.passwordPolicies"
MOST_REUSED = 24
"""Passwords that may be remembered: each of them is one more hash to compute at a change."""
_ADMIN = "admin"
_NO_END = float("inf")


@dataclass(frozen=True, slots=True)
class Scope:
    """The users a policy applies to: all, or those selected by user ID, by one of their profiles or
    by one of their roles."""

    includes_all: bool = False
    users: frozenset[str] = frozenset()
    profiles: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()

    def includes(self, kuid: str | None, profiles: Iterable[str], roles: Iterable[str]) -> bool:
        """Return whether a user with these profiles and roles is included."""
        return (
            self.includes_all
            or kuid in self.users
            or not self.profiles.isdisjoint(profiles)
            or not self.roles.isdisjoint(roles)
        )


@dataclass(frozen=True, slots=True)
class Demands:
    """The rules that apply to one user's password; without any arguments, none.

    `remembered` is how many of the user's passwords, the current one included, cannot be reused.
    """

    expires_after_ms: float = _NO_END
    must_be_set_by_user: bool = False
    forbids_login: bool = False
    remembered: int = 0
    patterns: tuple[Pattern, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of the configuration."""

    scope: Scope
    demands: Demands


class Policies:
    """Finds the rules that apply to a user."""

    def __init__(self, storage: Storage, policies: Sequence[Policy] = ()) -> None:
        self._storage = storage
        self._policies = policies

    async def demands_of(
        self, kuid: str | None, profile_ids: Iterable[str] | None = None
    ) -> Demands:
        """Return the rules of all policies for this user together; None is a user without an ID
        yet. `profile_ids` are those of a user who is not stored yet."""
        if not self._policies:
            return Demands()
        profiles = set(profile_ids) if profile_ids is not None else await self._profiles_of(kuid)
        roles = await roles_in(self._storage, profiles)
        found = [
            policy.demands
            for policy in self._policies
            if policy.scope.includes(kuid, profiles, roles)
        ]
        return _join(found, is_exempt=_ADMIN in roles)

    async def _profiles_of(self, kuid: str | None) -> set[str]:
        row = None if kuid is None else await self._storage.get(Table.USERS, kuid=kuid)
        return set() if row is None else set(cast("list[str]", row["profile_ids"]))


async def roles_in(storage: Storage, profiles: Iterable[str]) -> set[str]:
    """Return the roles of these profiles, in whatever places they are valid."""
    roles: set[str] = set()
    for profile in profiles:
        stored = await storage.get(Table.PROFILES, id=profile)
        if stored is not None:
            body = cast("dict[str, list[dict[str, str]]]", stored["body"])
            roles.update(policy["roleId"] for policy in body["policies"])
    return roles


def _join(found: Iterable[Demands], *, is_exempt: bool) -> Demands:
    joined = Demands()
    for one in found:
        joined = Demands(
            expires_after_ms=min(joined.expires_after_ms, one.expires_after_ms),
            must_be_set_by_user=joined.must_be_set_by_user
            or (one.must_be_set_by_user and not is_exempt),
            forbids_login=joined.forbids_login or one.forbids_login,
            remembered=max(joined.remembered, one.remembered),
            patterns=joined.patterns + one.patterns,
        )
    return joined


def read_policies(written: Sequence[Mapping[str, object]]) -> tuple[Policy, ...]:
    """Read the policies of the configuration. ConfigError names the key, and the accepted
    values."""
    return tuple(_read_policy(f"{SETTING}[{at}]", one) for at, one in enumerate(written))


def _read_policy(name: str, written: Mapping[str, object]) -> Policy:
    known = {"appliesTo", *_READERS}
    for key in written:
        if key not in known:
            raise ConfigError(f"{name}.{key}: there is no such setting; expected {_listed(known)}")
    given = {
        key: _read(f"{name}.{key}", reader, accepted, written[key])
        for key, (reader, accepted) in _READERS.items()
        if key in written
    }
    pattern = given.get("passwordRegex")
    demands = Demands(
        expires_after_ms=cast(float, given.get("expiresAfter", _NO_END)),
        must_be_set_by_user=bool(given.get("mustChangePasswordIfSetByAdmin")),
        forbids_login=bool(given.get("forbidLoginInPassword")),
        remembered=cast(int, given.get("forbidReusedPasswordCount", 0)),
        patterns=(pattern,) if isinstance(pattern, Pattern) else (),
    )
    return Policy(_read_scope(f"{name}.appliesTo", written.get("appliesTo")), demands)


def read_whom(value: object) -> Scope:
    """Read a setting of the kind `WHOM`."""
    return NO_USERS if value == "nobody" else _read_scope("", value)


def _check_whom(value: object) -> object | None:
    try:
        read_whom(value)
    except ConfigError:
        return None
    return value


NO_USERS = Scope()
WHOM: Kind[object] = Kind(
    '"*", "nobody", or a table with lists of ids: users, profiles, roles', _check_whom
)
"""A setting that selects users."""


def _read_scope(name: str, written: object) -> Scope:
    if written == "*":
        return Scope(includes_all=True)
    keys = {"users", "profiles", "roles"}
    if not isinstance(written, dict) or not written or not written.keys() <= keys:
        raise ConfigError(f'{name}: expected "*", or a table with {_listed(keys)}')
    users, profiles, roles = (
        _read(f"{name}.{key}", _names, "a list of ids", written[key])
        if key in written
        else frozenset()
        for key in ("users", "profiles", "roles")
    )
    return Scope(users=users, profiles=profiles, roles=roles)


def _read(name: str, reader: Callable[[object], T | None], accepted: str, value: object) -> T:
    read = reader(value)
    if read is None:
        raise ConfigError(f"{name}: {value!r} is not accepted; expected {accepted}")
    return read


def _names(value: object) -> frozenset[str] | None:
    fine = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return frozenset(cast("list[str]", value)) if fine else None


def _duration(value: object) -> float | None:
    read = parse_duration_ms(value) if isinstance(value, str) else None
    return read if read is not None and read > 0 else None


def _yes_no(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: object) -> int | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_REUSED
    return cast(int, value) if fine else None


def _pattern(value: object) -> Pattern | None:
    return read_pattern(value) if isinstance(value, str) else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


_READERS: dict[str, tuple[Callable[[object], object], str]] = {
    "expiresAfter": (_duration, 'a duration like "90d"'),
    "mustChangePasswordIfSetByAdmin": (_yes_no, "true or false"),
    "forbidLoginInPassword": (_yes_no, "true or false"),
    "forbidReusedPasswordCount": (_count, f"a whole number from 0 to {MOST_REUSED}"),
    "passwordRegex": (_pattern, "a regular expression, bare or as /pattern/flags"),
}
