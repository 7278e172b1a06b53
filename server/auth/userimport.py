"""Users and credentials enter the store, many in one transaction.

The same ones again change nothing, in whatever order and however often they come; what is there
already is replaced only where that is asked for. Knows nothing of files.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from protocol.errors import ApiError, error, plain_error
from server.auth.names import ANONYMOUS_ID
from server.auth.resets import end_all
from server.auth.rights import Rulebook
from server.auth.userchanges import changes_between
from server.auth.users import (
    User,
    check_profiles_exist,
    ends_of,
    make_info,
    read_user,
    row_of,
)
from server.storage.base import (
    Change,
    Delete,
    Exists,
    Insert,
    InsertAll,
    Missing,
    Note,
    Noted,
    Present,
    Row,
    Storage,
    Table,
    Unavailable,
    Unchanged,
)

PATIENCE = 15
"""How often a write is tried while the database is busy: some two seconds each."""
_PAUSE_S = 0.2
# Each is lost only to somebody else who changes the same rows in the same moment.
_ATTEMPTS = 5


class Ending(Enum):
    """What became of something that was to be imported."""

    __hash__ = object.__hash__  # as that of storage's tables

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """It is there, differs, and was not to be replaced."""


class Arrival(NamedTuple):
    """A user, some of his credentials (rows of the table), or both, as `auth.imported` reads them.
    `user` None: he must be there. `says_disabled`: `user` tells whether he is, or else that stays.
    """

    kuid: str
    user: User | None = None
    credentials: tuple[Row, ...] = ()
    says_disabled: bool = False

    def __repr__(self) -> str:
        """Say whom it is about, and nothing of what he brings."""
        return f"Arrival({self.kuid!r})"


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is to be done about an arrival: `changes`, unless it is refused."""

    ending: Ending | ApiError
    changes: Sequence[Change] = ()


class UserImport:
    """Takes arrivals in; with `replaces`, in the place of those who are there."""

    def __init__(
        self,
        storage: Storage,
        rulebook: Rulebook,
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
        """Take arrivals in, in one transaction if that can be; tell what became of each.

        No two of them may be about the same user or the same credentials.
        """
        if self._expects_new:
            try:
                await self._apply(self._enter(arrivals))
            except (Exists, Missing):
                pass  # not all are new, or not all can be
            else:
                return [Ending.CREATED] * len(arrivals)
        plans = await asyncio.gather(*(self._plan(arrival) for arrival in arrivals))
        try:
            await self._apply([change for plan in plans for change in plan.changes])
        except (Exists, Missing):
            return [await self._write_alone(arrival) for arrival in arrivals]
        endings = [plan.ending for plan in plans]
        self._expects_new = Ending.CREATED in endings
        return endings

    async def _write_alone(self, arrival: Arrival) -> Ending | ApiError:
        for _ in range(_ATTEMPTS):
            plan = await self._plan(arrival)
            try:
                await self._apply(plan.changes)
            except (Exists, Missing):
                continue  # somebody else was faster; the next look says with what
            return plan.ending
        return error("services.storage.too_many_changes")

    async def _apply(self, changes: Sequence[Change]) -> None:
        """Write, however busy others keep the database; `Unavailable` when that does not end."""
        for _ in range(PATIENCE - 1 if changes else 0):
            try:
                return await self._storage.apply(changes)
            except Unavailable:
                await asyncio.sleep(_PAUSE_S)
        if changes:
            await self._storage.apply(changes)

    def _enter(self, arrivals: Sequence[Arrival]) -> list[Change]:
        """Give the changes that take in what is new."""
        users = [arrival.user for arrival in arrivals if arrival.user is not None]
        profile_ids = {profile_id for user in users for profile_id in user.profile_ids}
        changes: list[Change] = [Present(Table.PROFILES, {"id": one}) for one in profile_ids]
        now_ms = self._clock_ms()
        made = make_info(ANONYMOUS_ID, now_ms)
        # Nobody keeps anything of a user there was not, so nobody need be told.
        rows = [row_of(user) for user in users]
        for row in rows:
            row["info"] = row["info"] or made
        profile_rows: list[Row] = [
            {"kuid": user.kuid, "profile_id": one} for user in users for one in user.profile_ids
        ]
        changes += [InsertAll(Table.USERS, rows), InsertAll(Table.USER_PROFILES, profile_rows)]
        for arrival in arrivals:
            if arrival.user is None:
                changes.append(Present(Table.USERS, {"kuid": arrival.kuid}))
                changes.append(Note(Noted.USER, arrival.kuid))
        held = [_filled(row, now_ms) for arrival in arrivals for row in arrival.credentials]
        changes.append(InsertAll(Table.CREDENTIALS, held))
        return changes

    async def _plan(self, arrival: Arrival) -> _Plan:
        """Look at what is there, and decide."""
        try:
            row = await self._storage.get(Table.USERS, kuid=arrival.kuid)
            if arrival.user is None:
                if row is None:
                    raise error("security.user.not_found", arrival.kuid)
                return await self._plan_credentials(arrival)
            if row is None:
                await check_profiles_exist(self._rulebook, arrival.user.profile_ids)
                for credentials in arrival.credentials:
                    if await self._held(credentials) is not None:
                        raise error("security.credentials.database_inconsistency", arrival.kuid)
                return _Plan(Ending.CREATED, self._enter([arrival]))
            return await self._plan_known(arrival, arrival.user, row)
        except ApiError as refused:
            return _Plan(refused)

    async def _plan_credentials(self, arrival: Arrival) -> _Plan:
        held = [await self._held(row) for row in arrival.credentials]
        if all(one is None for one in held):
            return _Plan(Ending.CREATED, self._enter([arrival]))
        changes = self._replacements(arrival, held)
        return self._decide([*changes, Note(Noted.USER, arrival.kuid)] if changes else [])

    async def _plan_known(self, arrival: Arrival, user: User, row: Row) -> _Plan:
        old = read_user(row)
        new = replace(
            user,
            info=user.info or old.info,
            is_disabled=user.is_disabled if arrival.says_disabled else old.is_disabled,
        )
        held = [await self._held(credentials) for credentials in arrival.credentials]
        changes = self._replacements(arrival, held)
        if new != old or changes:
            await check_profiles_exist(self._rulebook, new.profile_ids)
            changes = [*changes_between(row, old, new), *changes]
        if new.is_disabled and not old.is_disabled:
            changes += await ends_of(self._storage, old.kuid)
        return self._decide(changes)

    def _decide(self, changes: Sequence[Change]) -> _Plan:
        if not changes:
            return _Plan(Ending.UNCHANGED)
        return _Plan(Ending.REPLACED, changes) if self._replaces else _Plan(Ending.KEPT)

    async def _held(self, new: Row) -> Row | None:
        """Give the credentials that these would replace; ApiError 412 if their name is somebody
        else's."""
        strategy, kuid = new["strategy"], new["kuid"]
        same = await self._storage.get(Table.CREDENTIALS, strategy=strategy, id=new["id"])
        if same is not None and same["kuid"] != kuid:
            raise plain_error(412, "the username is taken")
        if same is not None:
            return same
        return await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=strategy)

    def _replacements(self, arrival: Arrival, held: Sequence[Row | None]) -> list[Change]:
        """Give the changes from the credentials that are there to those that arrive; none where
        they are the same."""
        changes: list[Change] = []
        for new, old in zip(arrival.credentials, held, strict=True):
            if old is not None:
                if _is_same(new, old):
                    continue
                key: Row = {"strategy": old["strategy"], "id": old["id"]}
                changes += [Unchanged(Table.CREDENTIALS, old), Delete(Table.CREDENTIALS, key)]
            changes.append(Insert(Table.CREDENTIALS, _filled(new, self._clock_ms())))
            changes.append(end_all(arrival.kuid))
        return changes


def _is_same(new: Row, old: Row) -> bool:
    names = ("strategy", "id", "kuid", "data", "created_at", "updated_at")
    is_dated = new["created_at"] is not None
    return all(new[name] == old[name] for name in (names if is_dated else names[:4]))


def _filled(row: Row, now_ms: int) -> Row:
    return {**row, "created_at": now_ms} if row["created_at"] is None else row
