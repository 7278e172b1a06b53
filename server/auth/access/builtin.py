"""Built-in roles and profiles, and their installation in an empty store.

The first rights of each role are declared with the actions; this module contains only their
structure.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from server.core.ids import ADMIN, ANONYMOUS, DEFAULT
from server.storage.base import (
    Change,
    DeleteAll,
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Put,
    Storage,
)
from server.storage.rows import Row, Table

BUILTIN = (ADMIN, DEFAULT, ANONYMOUS)
"""IDs of the roles, and of the profiles with one of these roles each."""

_RATE_LIMITS = {ADMIN: 0, DEFAULT: 10, ANONYMOUS: 200}
"""Requests per second; 0 means no limit."""
_SETTING = "defaults"
_VERSION = 1


class Declared(Protocol):
    """An action, as far as permissions are concerned."""

    @property
    def controller(self) -> str:
        """The name of its controller."""

    @property
    def name(self) -> str:
        """Its own name."""

    @property
    def granted(self) -> tuple[str, ...]:
        """Built-in roles that may run it at first."""


def builtin_roles(actions: Iterable[Declared], open_mode: bool) -> dict[str, dict[str, object]]:
    """Return the built-in roles by ID; in open mode each of them may do everything."""
    everything = {"*": {"actions": {"*": True}}}
    granted: dict[str, dict[str, dict[str, dict[str, bool]]]] = {DEFAULT: {}, ANONYMOUS: {}}
    for declared in actions:
        for role in declared.granted:
            controller = granted[role].setdefault(declared.controller, {"actions": {}})
            controller["actions"][declared.name] = True
    return {
        role: {"controllers": everything if open_mode or role == ADMIN else granted[role]}
        for role in BUILTIN
    }


def builtin_profiles(open_mode: bool = False) -> dict[str, dict[str, object]]:
    """Return the built-in profiles by ID; in open mode none has a rate limit."""
    return {
        profile: {
            "policies": [{"roleId": profile}],
            "rateLimit": 0 if open_mode else _RATE_LIMITS[profile],
        }
        for profile in BUILTIN
    }


async def install(
    storage: Storage, actions: Iterable[Declared], clock_ms: Callable[[], int]
) -> None:
    """Write the built-in roles and profiles that a new store lacks, once in its life: later changes
    by an operator are kept. Open mode is never written."""
    info: Row = {"author": None, "createdAt": clock_ms(), "updatedAt": None, "updater": None}
    while await storage.get(Table.SETTINGS, name=_SETTING) is None:
        changes: list[Change] = [
            Insert(Table.SETTINGS, {"name": _SETTING, "value": {"version": _VERSION}})
        ]
        for table, name, row in _builtin_rows(actions, info):
            if not await storage.exists(table, id=name):
                changes += [Insert(table, row), *_entries_of(table, name)]
        try:
            await storage.apply(changes)
        except Exists:
            continue  # another process has written some of it first


def restrict(actions: Iterable[Declared], now_ms: int) -> list[Change]:
    """Return the changes that reset the built-in roles and profiles, replacing any changes by an
    operator."""
    info: Row = {"author": None, "createdAt": now_ms, "updatedAt": now_ms, "updater": None}
    changes: list[Change] = []
    for table, name, row in _builtin_rows(actions, info):
        changes += [Put(table, row), *_entries_of(table, name)]
    return changes


def _builtin_rows(actions: Iterable[Declared], info: Row) -> Iterator[tuple[Table, str, Row]]:
    bodies = {Table.ROLES: builtin_roles(actions, False), Table.PROFILES: builtin_profiles()}
    for table, by_id in bodies.items():
        for name, body in by_id.items():
            row: Row = {"id": name, "body": body, "info": info}
            yield table, name, row


def _entries_of(table: Table, name: str) -> list[Change]:
    """Return the rows beside a built-in role or profile: a profile has the role of its name."""
    changes: list[Change] = [JournalEvent(EventKind.RIGHTS, name)]
    if table is Table.PROFILES:
        changes.append(DeleteAll(Table.PROFILE_ROLES, {"profile_id": name}))
        changes.append(Insert(Table.PROFILE_ROLES, {"profile_id": name, "role_id": name}))
    return changes
