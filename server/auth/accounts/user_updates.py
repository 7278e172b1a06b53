"""User updates: content, profiles, disabling, enabling and unlocking.

Each change is one transaction, applied only if the user has not been written since they were read;
it applies to the next request with any of their tokens.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import orjson

from protocol.errors import ApiError, error
from server.auth.access.permissions import PermissionCompiler, check_profiles_exist
from server.auth.accounts.step_up import StepUp
from server.auth.accounts.users import Users
from server.auth.assurance import Principal
from server.auth.identity.user import (
    User,
    check_profile_ids,
    content_of,
    profile_rows_of,
    read_user,
)
from server.auth.sessions.sessions import ends_of
from server.core.documents import make_info, merge
from server.core.ids import ANONYMOUS_IDS, check_kuid, is_id
from server.storage.base import (
    Change,
    DeleteAll,
    EventKind,
    JournalEvent,
    Missing,
    Present,
    Storage,
    Unchanged,
    Update,
)
from server.storage.rows import Row, Table

MOST_CONTENT_BYTES = 1024 * 1024
"""Of a document that grows with each update; JSON without spaces."""
# Each is lost only to another process that changes the same user at the same moment.
_ATTEMPTS = 5
_OVERTAKEN = frozenset({"security.user.not_found", "security.user.already_exists"})
"""Errors of an upsert when another request has created or deleted the user since it looked."""


class UserChanges:
    """Updates users; ApiError 404 for an unknown one. The anonymous user never changes."""

    def __init__(
        self,
        storage: Storage,
        users: Users,
        rulebook: PermissionCompiler,
        step_up: StepUp,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._users = users
        self._rulebook = rulebook
        self._step_up = step_up
        self._clock_ms = clock_ms
        # Changes of one user in this process run one after the other instead of competing.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def update(
        self,
        kuid: str,
        content: Mapping[str, object],
        by: Principal,
        profile_ids: Sequence[str] | None = None,
        *,
        argument: str = "body.profileIds",
    ) -> User:
        """Merge into a user's content: objects member by member, everything else replaced; profiles
        stay unless they are given, by the `argument` that errors name."""
        kept = content_of(content)
        profiles = None if profile_ids is None else check_profile_ids(profile_ids, argument)

        def change(user: User) -> User:
            merged = merge(user.content, kept)
            check_size(orjson.dumps(merged))
            return replace(
                user,
                profile_ids=user.profile_ids if profiles is None else profiles,
                content=merged,
                info=self._updated(user, by.kuid),
            )

        return await self._write(kuid, by, change)

    async def replace(
        self, kuid: str, content: Mapping[str, object], profile_ids: Sequence[str], by: Principal
    ) -> User:
        """Replace a user's document: nothing of the old one stays."""
        kept, profiles = content_of(content), check_profile_ids(profile_ids, "body.profileIds")
        info = make_info(by.kuid, self._clock_ms())

        def change(user: User) -> User:
            return replace(user, profile_ids=profiles, content=kept, info=info)

        return await self._write(kuid, by, change)

    async def upsert(
        self,
        kuid: str,
        *,
        content: dict[str, object],
        profile_ids: list[str],
        defaults: dict[str, object],
        credentials: dict[str, object],
        by: Principal,
    ) -> User:
        """Update a user, or create them with credentials and with `defaults` where `content` has no
        value. Of several requests at once one creates the user, and the others update."""
        check_kuid(kuid, is_new=False)
        argument = "body.content.profileIds"
        for _ in range(_ATTEMPTS):
            try:
                if await self._storage.exists(Table.USERS, kuid=kuid):
                    return await self.update(kuid, content, by, profile_ids, argument=argument)
                return await self._users.create(
                    kuid=kuid,
                    kind="",
                    profile_ids=profile_ids,
                    content=merge(defaults, content),
                    credentials=credentials,
                    author=by.kuid,
                    granted_by=by,
                )
            except ApiError as refused:
                if refused.id not in _OVERTAKEN:
                    raise
        raise error("services.storage.too_many_changes")

    async def disable(self, kuid: str, by: Principal) -> None:
        """Disable a user: refuse their tokens, API keys and logins from now on. Their sessions are
        revoked permanently; their API keys are valid again once the user is enabled."""

        def change(user: User) -> User:
            return replace(user, is_disabled=True, info=self._updated(user, by.kuid))

        more: list[Change] = []
        if is_id(kuid):
            more = await ends_of(self._storage, kuid, self._clock_ms())
        await self._write(kuid, by, change, more)

    async def enable(self, kuid: str, by: Principal) -> None:
        """Enable a disabled user."""

        def change(user: User) -> User:
            return replace(user, is_disabled=False, info=self._updated(user, by.kuid))

        await self._write(kuid, by, change)

    async def unlock(self, kuid: str) -> None:
        """Make every server forget the failed logins of a user."""
        if kuid in ANONYMOUS_IDS or not is_id(kuid):
            raise error("security.user.not_found", kuid)
        is_there = Present(Table.USERS, {"kuid": kuid})
        try:
            await self._storage.apply([is_there, JournalEvent(EventKind.UNLOCKED, kuid)])
        except Missing:
            raise error("security.user.not_found", kuid) from None

    def _updated(self, user: User, updater: str) -> dict[str, object]:
        return {**user.info, "updatedAt": self._clock_ms(), "updater": updater}

    async def _write(
        self,
        kuid: str,
        by: Principal,
        change: Callable[[User], User],
        more: Sequence[Change] = (),
    ) -> User:
        """Store the user that `change` returns, together with `more`, and return it; ApiError 403
        for a principal who may not change profiles (see `StepUp`)."""
        if kuid in ANONYMOUS_IDS or not is_id(kuid):
            raise error("security.user.not_found", kuid)
        turn = self._turns.setdefault(kuid, asyncio.Lock())
        async with turn:
            for _ in range(_ATTEMPTS):
                row = await self._storage.get(Table.USERS, kuid=kuid)
                if row is None:
                    raise error("security.user.not_found", kuid)
                old = read_user(row)
                new = change(old)
                if new.profile_ids != old.profile_ids:
                    await self._step_up.check_profiles(by, kuid)
                    await check_profiles_exist(self._rulebook, new.profile_ids)
                try:
                    await self._storage.apply([*changes_between(row, old, new), *more])
                except Missing:
                    continue  # the user or a profile has changed since; the next read shows how
                return new
        raise error("services.storage.too_many_changes")


def changes_between(row: Row, old: User, new: User) -> list[Change]:
    """Return the changes from the old to the new user, the index of profiles included."""
    values: Row = {
        "content": new.content,
        "info": new.info,
        "disabled": int(new.is_disabled),
    }
    changes: list[Change] = [Unchanged(Table.USERS, row)]
    if new.profile_ids != old.profile_ids:
        values["profile_ids"] = list(new.profile_ids)
        changes.append(DeleteAll(Table.USER_PROFILES, {"kuid": new.kuid}))
        changes += profile_rows_of(new)
    changes.append(Update(Table.USERS, {"kuid": new.kuid}, values))
    changes.append(JournalEvent(EventKind.USER, new.kuid))
    return changes


def check_size(content: bytes) -> None:
    """Raise ApiError 400 for a document, as JSON, that is too large."""
    if len(content) > MOST_CONTENT_BYTES:
        limit = f"a document of at most {MOST_CONTENT_BYTES} bytes"
        raise error("api.assert.invalid_argument", "body", limit)
