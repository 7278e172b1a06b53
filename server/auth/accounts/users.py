"""Users: read, created and deleted together with everything they own. For updates see
`server.auth.accounts.user_updates`.

A user and all of their credentials are created in one transaction; deleting a user with their
sessions and API keys is one transaction too.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

from protocol.errors import ApiError, error
from server.auth.access.permissions import PermissionCompiler, check_profiles_exist
from server.auth.accounts.step_up import StepUp
from server.auth.assurance import Principal
from server.auth.identity.user import (
    User,
    check_profile_ids,
    content_of,
    profile_rows_of,
    read_user,
    row_of,
)
from server.auth.sessions.sessions import _MAX_KEYS, ends_of
from server.auth.strategies.base import Strategy
from server.auth.strategies.registry import Strategies
from server.core.documents import Weight, make_info
from server.core.ids import (
    ADMIN,
    ANONYMOUS,
    ANONYMOUS_ID,
    ANONYMOUS_IDS,
    check_kuid,
    is_id,
    make_kuid,
)
from server.storage.base import (
    Absent,
    Change,
    Delete,
    DeleteAll,
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Missing,
    Storage,
)
from server.storage.rows import Table

_READ_AT_ONCE = 16  # each may weigh a megabyte
_PROFILES_ARGUMENT = "body.content.profileIds"
# Each is lost only to another request that changes the same rows at the same moment.
_ATTEMPTS = 5
# Sessions and one-time tokens are deleted by `ends_of`.
_OWNED_TABLES = (Table.USER_PROFILES, Table.CREDENTIALS, Table.PASSKEYS, Table.API_KEYS)


_ANONYMOUS_USER = User(ANONYMOUS_ID, (ANONYMOUS,), {"name": "Anonymous"})


@runtime_checkable
class KnowsProfiles(Protocol):
    """A strategy whose credentials depend on their owner's profiles."""

    async def validate_new(
        self, credentials: Mapping[str, object], kuid: str, profile_ids: Sequence[str]
    ) -> None:
        """Raise ApiError if these cannot become the credentials of a new user."""


class Users:
    """Reads, creates and deletes users."""

    def __init__(
        self,
        storage: Storage,
        rulebook: PermissionCompiler,
        strategies: Strategies,
        step_up: StepUp,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._rulebook = rulebook
        self._strategies = strategies
        self._step_up = step_up
        self._clock_ms = clock_ms

    async def get(self, kuid: str) -> User | None:
        """Return a user; "-1" and "anonymous" are the anonymous one."""
        if kuid in ANONYMOUS_IDS:
            return _ANONYMOUS_USER
        row = await self._storage.get(Table.USERS, kuid=kuid) if is_id(kuid) else None
        return None if row is None else read_user(row)

    async def get_all(self, kuids: Sequence[str], weight: Weight | None = None) -> list[User]:
        """Return those of these users who exist, without duplicates. Their size is added to
        `weight`, whose ApiError aborts."""
        found: dict[str, User] = {}
        for at in range(0, len(kuids), _READ_AT_ONCE):
            wanted = kuids[at : at + _READ_AT_ONCE]
            for user in await asyncio.gather(*(self.get(kuid) for kuid in wanted)):
                if user is None or user.kuid in found:
                    continue
                found[user.kuid] = user
                if weight is not None:
                    weight.add(user.content)
        return list(found.values())

    async def admin_exists(self) -> bool:
        """Return whether any user has the profile `admin`."""
        return await self._storage.exists(Table.USER_PROFILES, profile_id=ADMIN)

    async def strategies_of(self, kuid: str) -> list[str]:
        """Return the names of the strategies a user has credentials for, in the order of their
        registration."""
        return (await self._strategies.ways_of(kuid)).names

    async def identifiers_of(self, strategy: str, kuid: str) -> list[str]:
        """Return the identifiers of a user's credentials of a strategy that keeps them in the
        store."""
        rows = await self._storage.find(
            Table.CREDENTIALS, limit=_MAX_KEYS, kuid=kuid, strategy=strategy
        )
        return [cast(str, row["id"]) for row in rows]

    async def owner_of(self, strategy: str, identifier: str) -> str | None:
        """Return the user ID of the owner of these credentials, None if no user has them."""
        row = None
        if is_id(identifier):
            row = await self._storage.get(Table.CREDENTIALS, strategy=strategy, id=identifier)
        return None if row is None else cast(str, row["kuid"])

    async def create(
        self,
        *,
        kuid: str | None,
        kind: str,
        profile_ids: list[str],
        content: dict[str, object],
        credentials: dict[str, object],
        author: str,
        granted_by: Principal | None = None,
        only_if_no_admin: bool = False,
        more: Sequence[Change] = (),
    ) -> User:
        """Create a user and all of their credentials; without a kuid one of this kind is generated.

        Everything is checked before anything is hashed or written. ApiError for the caller's
        mistakes, 412 for what is taken. With `only_if_no_admin`, one of several callers at once
        succeeds. `more` is changed in the same transaction. `granted_by` chose the profiles, None
        where the configuration or an operator did: ApiError 403 if they may not (see `StepUp`).
        """
        if granted_by is not None:
            await self._step_up.check_profiles(granted_by, None)
        profiles = check_profile_ids(profile_ids, _PROFILES_ARGUMENT)
        checked = self._check_credentials(credentials)
        kept, info = content_of(content), make_info(author, self._clock_ms())
        guards = [Absent(Table.USER_PROFILES, {"profile_id": ADMIN})] if only_if_no_admin else []
        for _ in range(_ATTEMPTS):
            if only_if_no_admin and await self.admin_exists():
                raise error("api.process.admin_exists")
            user = User(await self._choose_kuid(kuid, kind), profiles, kept, info)
            changes = await self._prepare(user, checked, author)
            try:
                await self._storage.apply([*guards, *changes, *more])
            except (Exists, Missing):
                continue  # something changed since it was checked; the next check reports what
            return user
        raise error("services.storage.too_many_changes")

    async def delete(self, kuid: str) -> None:
        """Delete a user with their credentials, sessions and API keys. ApiError 404 for an unknown
        one."""
        if not is_id(kuid) or not await self._storage.exists(Table.USERS, kuid=kuid):
            raise error("security.user.not_found", kuid)
        changes: list[Change] = [Delete(Table.USERS, {"kuid": kuid})]
        for name in await self.strategies_of(kuid):
            changes += await self._prepare_removal(name, kuid)
        changes += await ends_of(self._storage, kuid, self._clock_ms())
        for table in _OWNED_TABLES:
            changes.append(DeleteAll(table, {"kuid": kuid}))
        changes.append(JournalEvent(EventKind.USER, kuid))
        try:
            await self._storage.apply(changes)
        except Missing as missing:
            if missing.table is Table.USERS:
                raise error("security.user.not_found", kuid) from None
            raise error("services.storage.too_many_changes") from None

    def _check_credentials(self, credentials: dict[str, object]) -> dict[str, Mapping[str, object]]:
        """Return credentials by strategy, where each is an object and its strategy exists."""
        checked: dict[str, Mapping[str, object]] = {}
        for name, given in credentials.items():
            self._strategies.get(name)
            if not isinstance(given, dict):
                raise error("api.assert.invalid_type", f"body.credentials.{name}", "object")
            checked[name] = given
        return checked

    async def _choose_kuid(self, wanted: str | None, kind: str) -> str:
        """Return the requested ID, ApiError 412 if it is taken; without one, generate one."""
        if wanted is not None:
            if await self._storage.exists(Table.USERS, kuid=check_kuid(wanted)):
                raise error("security.user.already_exists", wanted)
            return wanted
        for _ in range(_ATTEMPTS):
            kuid = make_kuid(kind)
            is_taken = await self._storage.exists(Table.USERS, kuid=kuid)
            if not is_taken and not await self.strategies_of(kuid):
                return kuid
        return make_kuid("uuid")

    async def _prepare(
        self, user: User, credentials: dict[str, Mapping[str, object]], author: str
    ) -> list[Change]:
        """Check everything, then return the changes that create a user with their credentials."""
        for name in credentials:
            if await self._strategies.get(name).exists(user.kuid):
                # Not orphans if another request created this user since the ID was free.
                is_taken = await self._storage.exists(Table.USERS, kuid=user.kuid)
                which = "user.already_exists" if is_taken else "credentials.database_inconsistency"
                raise error(f"security.{which}", user.kuid)
        await check_profiles_exist(self._rulebook, user.profile_ids)
        for name, given in credentials.items():
            await _validate(self._strategies.get(name), given, user)
        changes = _rows_of(user)
        for name, given in credentials.items():
            prepared = await self._strategies.get(name).create(given, user.kuid, author)
            changes += prepared.changes
        return changes

    async def _prepare_removal(self, name: str, kuid: str) -> list[Change]:
        try:
            return (await self._strategies.get(name).delete(kuid)).changes
        except ApiError as refused:
            raise error("security.credentials.rejected", refused.message) from refused


async def _validate(strategy: Strategy, given: Mapping[str, object], user: User) -> None:
    """Validate the credentials of a user who is not stored yet."""
    if isinstance(strategy, KnowsProfiles):
        await strategy.validate_new(given, user.kuid, user.profile_ids)
    else:
        await strategy.validate(given, user.kuid, False)


def _rows_of(user: User) -> list[Change]:
    """Return the changes that add a user without their credentials, as long as their profiles still
    exist."""
    changes: list[Change] = [Insert(Table.USERS, row_of(user)), *profile_rows_of(user)]
    changes.append(JournalEvent(EventKind.USER, user.kuid))
    return changes
