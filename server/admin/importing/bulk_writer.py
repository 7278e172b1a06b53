"""Bulk import of users and credentials into the database, many in one transaction.

Importing the same documents again changes nothing, in whatever order and however often; existing
documents are replaced only on request. Independent of files.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import orjson

from protocol.errors import ApiError, error, plain_error
from server.auth.access.permissions import PermissionCompiler
from server.auth.accounts.user_updates import changes_between
from server.auth.identity.user import User, read_user
from server.auth.sessions.one_time import end_all
from server.auth.sessions.sessions import ends_of
from server.core.documents import make_info
from server.core.ids import ADMIN, ANONYMOUS_ID
from server.storage.base import (
    Change,
    Delete,
    EventKind,
    Exists,
    Insert,
    InsertAll,
    JournalEvent,
    Missing,
    Present,
    Storage,
    Unavailable,
    Unchanged,
    Written,
)
from server.storage.rows import Row, Table, Value

PATIENCE = 15
"""Maximum attempts of a write while the database is busy: some two seconds each."""
_PAUSE_S = 0.2
# Each attempt fails only if another writer changes the same rows at the same moment.
_ATTEMPTS = 5


class Ending(Enum):
    """Outcome of an imported document."""

    __hash__ = object.__hash__  # faster than Enum's, as for storage's tables

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """It exists, differs, and was not replaced."""


class Held(NamedTuple):
    """Imported credentials: `data` is JSON; `created_at_ms` is None if unknown."""

    strategy: str
    id: str
    data: str
    created_at_ms: int | None
    updated_at_ms: int | None

    def __repr__(self) -> str:
        """Identify the credentials, without their contents."""
        return f"Held({self.strategy}, {self.id!r})"


class Arrival(NamedTuple):
    """A user, some of their credentials, or both. `profile_ids` None: the user must exist.
    `content` and `info` are JSON; without `info`, or with `is_disabled` None, the existing values
    are kept.

    A tuple of strings, like its credentials: millions of them are sent between processes.
    """

    kuid: str
    profile_ids: tuple[str, ...] | None
    content: str = "{}"
    info: str = ""
    is_disabled: bool | None = None
    credentials: tuple[Held, ...] = ()

    def __repr__(self) -> str:
        """Identify the user, without their data."""
        return f"Arrival({self.kuid!r})"

    def user(self, old: User) -> User:
        """Return the user that replaces `old`."""
        return User(
            self.kuid,
            self.profile_ids or (),
            orjson.loads(self.content),
            orjson.loads(self.info) if self.info else old.info,
            old.is_disabled if self.is_disabled is None else self.is_disabled,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """The planned `changes` for an arrival, unless it is rejected."""

    ending: Ending | ApiError
    changes: Sequence[Change] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Existing:
    """Existing rows for some arrivals: users by ID, credentials by strategy and name, or if the
    name is not used by owner and strategy, and the existing profiles."""

    users: dict[Value, Row]
    named: dict[tuple[Value, Value], Row]
    owned: dict[tuple[Value, Value], Row] = field(default_factory=dict)
    profiles: set[str] = field(default_factory=set)

    def held(self, new: Held, kuid: str) -> Row | None:
        """Return the credentials that these would replace; ApiError 412 if the name belongs to
        another user."""
        same = self.named.get((new.strategy, new.id))
        if same is not None and same["kuid"] != kuid:
            raise plain_error(412, "the username is taken")
        return same or self.owned.get((kuid, new.strategy))

    def check_profiles(self, profile_ids: Sequence[str]) -> None:
        """Raise ApiError 404 for a profile that does not exist."""
        for profile_id in profile_ids:
            if profile_id not in self.profiles:
                raise error("security.profile.not_found", profile_id)


class UserImport:
    """Imports arrivals; with `replaces`, existing users and credentials are replaced."""

    def __init__(
        self,
        storage: Storage,
        rulebook: PermissionCompiler,
        *,
        replaces: bool,
        clock_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._rulebook = rulebook
        self._replaces = replaces
        self._clock_ms = clock_ms
        self._expects_new = True

    async def write(self, arrivals: Sequence[Arrival]) -> list[Ending | ApiError]:
        """Import arrivals, in one transaction if possible; return the outcome of each.

        No two of them may be about the same user or the same credentials.
        """
        if self._expects_new:
            try:
                await self._apply(self._creations(arrivals))
            except (Exists, Missing):
                pass  # not all are new, or not all are valid
            else:
                return [Ending.CREATED] * len(arrivals)
        there = await self._read_existing(arrivals)
        plans = [await self._plan(arrival, there) for arrival in arrivals]
        try:
            await self._apply([change for plan in plans for change in plan.changes])
        except (Exists, Missing):
            return [await self._write_alone(arrival) for arrival in arrivals]
        endings = [plan.ending for plan in plans]
        self._expects_new = Ending.CREATED in endings
        return endings

    async def _write_alone(self, arrival: Arrival) -> Ending | ApiError:
        for _ in range(_ATTEMPTS):
            plan = await self._plan(arrival, await self._read_existing([arrival]))
            try:
                await self._apply(plan.changes)
            except (Exists, Missing):
                continue  # a concurrent writer was faster; read again
            return plan.ending
        return error("services.storage.too_many_changes")

    async def _apply(self, changes: Sequence[Change]) -> None:
        """Write with retries while the database is busy; `Unavailable` after the last attempt."""
        for _ in range(PATIENCE - 1 if changes else 0):
            try:
                return await self._storage.apply(changes)
            except Unavailable:
                await asyncio.sleep(_PAUSE_S)
        if changes:
            await self._storage.apply(changes)

    def _creations(self, arrivals: Sequence[Arrival]) -> list[Change]:
        """Return the changes that create new users and credentials."""
        users = [arrival for arrival in arrivals if arrival.profile_ids is not None]
        chosen = {arrival.profile_ids or () for arrival in users}
        profile_ids = {profile_id for ids in chosen for profile_id in ids}
        changes: list[Change] = [Present(Table.PROFILES, {"id": one}) for one in profile_ids]
        now_ms = self._clock_ms()
        made = _json(make_info(ANONYMOUS_ID, now_ms))
        lists = {ids: _json(ids) for ids in chosen}
        # Nothing is cached for a user who did not exist, so most need no cache invalidation.
        rows: list[Written] = [
            (kuid, lists[ids or ()], content, info or made, int(bool(is_disabled)))
            for kuid, ids, content, info, is_disabled, _ in users
        ]
        members: list[Written] = [
            (arrival.kuid, one) for arrival in users for one in arrival.profile_ids or ()
        ]
        changes += [InsertAll(Table.USERS, rows), InsertAll(Table.USER_PROFILES, members)]
        # Servers keep a setup code as long as there is no administrator.
        for arrival in users:
            if ADMIN in (arrival.profile_ids or ()):
                changes.append(JournalEvent(EventKind.USER, arrival.kuid))
        for arrival in arrivals:
            if arrival.profile_ids is None:
                changes.append(Present(Table.USERS, {"kuid": arrival.kuid}))
                changes.append(JournalEvent(EventKind.USER, arrival.kuid))
        held: list[Written] = [
            (strategy, id_, arrival.kuid, data, now_ms if made_ms is None else made_ms, updated_ms)
            for arrival in arrivals
            for strategy, id_, data, made_ms, updated_ms in arrival.credentials
        ]
        changes.append(InsertAll(Table.CREDENTIALS, held))
        return changes

    async def _read_existing(self, arrivals: Sequence[Arrival]) -> _Existing:
        """Read the existing rows for all arrivals."""
        storage = self._storage
        users = await storage.find_each(
            Table.USERS, ("kuid",), [(arrival.kuid,) for arrival in arrivals]
        )
        names = [(held.strategy, held.id) for one in arrivals for held in one.credentials]
        named = await storage.find_each(Table.CREDENTIALS, ("strategy", "id"), names)
        there = _Existing(
            {row["kuid"]: row for row in users},
            {(row["strategy"], row["id"]): row for row in named},
        )
        owners = [
            (one.kuid, held.strategy)
            for one in arrivals
            for held in one.credentials
            if (held.strategy, held.id) not in there.named
        ]
        owned = await storage.find_each(Table.CREDENTIALS, ("kuid", "strategy"), owners)
        there.owned.update({(row["kuid"], row["strategy"]): row for row in owned})
        for profile_id in {one for arrival in arrivals for one in arrival.profile_ids or ()}:
            if await self._rulebook.profile_exists(profile_id):
                there.profiles.add(profile_id)
        return there

    async def _plan(self, arrival: Arrival, there: _Existing) -> _Plan:
        """Plan the changes, by the existing rows."""
        try:
            row = there.users.get(arrival.kuid)
            if arrival.profile_ids is None:
                if row is None:
                    raise error("security.user.not_found", arrival.kuid)
                return self._plan_credentials(arrival, there)
            if row is None:
                there.check_profiles(arrival.profile_ids)
                if any(there.held(one, arrival.kuid) for one in arrival.credentials):
                    raise error("security.credentials.database_inconsistency", arrival.kuid)
                return _Plan(Ending.CREATED, self._creations([arrival]))
            return await self._plan_known(arrival, row, there)
        except ApiError as refused:
            return _Plan(refused)

    def _plan_credentials(self, arrival: Arrival, there: _Existing) -> _Plan:
        held = [there.held(one, arrival.kuid) for one in arrival.credentials]
        if all(one is None for one in held):
            return _Plan(Ending.CREATED, self._creations([arrival]))
        changes = self._replacements(arrival, held)
        return self._decide(
            [*changes, JournalEvent(EventKind.USER, arrival.kuid)] if changes else []
        )

    async def _plan_known(self, arrival: Arrival, row: Row, there: _Existing) -> _Plan:
        old = read_user(row)
        new = arrival.user(old)
        held = [there.held(one, arrival.kuid) for one in arrival.credentials]
        changes = self._replacements(arrival, held)
        if new != old or changes:
            there.check_profiles(new.profile_ids)
            changes = [*changes_between(row, old, new), *changes]
        if new.is_disabled and not old.is_disabled:
            changes += await ends_of(self._storage, old.kuid, self._clock_ms())
        return self._decide(changes)

    def _decide(self, changes: Sequence[Change]) -> _Plan:
        if not changes:
            return _Plan(Ending.UNCHANGED)
        return _Plan(Ending.REPLACED, changes) if self._replaces else _Plan(Ending.KEPT)

    def _replacements(self, arrival: Arrival, held: Sequence[Row | None]) -> list[Change]:
        """Return the changes from the existing credentials to the imported ones; none if they are
        equal."""
        changes: list[Change] = []
        for new, old in zip(arrival.credentials, held, strict=True):
            row = _row_of(new, arrival.kuid)
            if old is not None:
                if _is_same(row, old):
                    continue
                key: Row = {"strategy": old["strategy"], "id": old["id"]}
                changes += [Unchanged(Table.CREDENTIALS, old), Delete(Table.CREDENTIALS, key)]
            if new.created_at_ms is None:
                row["created_at"] = self._clock_ms()
            changes.append(Insert(Table.CREDENTIALS, row))
            changes.append(end_all(arrival.kuid))
        return changes


def _row_of(held: Held, kuid: str) -> Row:
    return {
        "strategy": held.strategy,
        "id": held.id,
        "kuid": kuid,
        "data": orjson.loads(held.data),
        "created_at": held.created_at_ms,
        "updated_at": held.updated_at_ms,
    }


def _is_same(new: Row, old: Row) -> bool:
    names = ("strategy", "id", "kuid", "data", "created_at", "updated_at")
    is_dated = new["created_at"] is not None
    return all(new[name] == old[name] for name in (names if is_dated else names[:4]))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
