"""Profiles: sets of roles, each valid everywhere or in some places, that are assigned to users.

Kuzzle's `optimizedPolicies` are left out: they are an internal cache, and no client reads them.
Knows nothing of requests; `server.auth.access.permissions` evaluates profiles.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from protocol.errors import error
from server.auth.access.builtin import BUILTIN
from server.auth.access.documents import (
    Document,
    content_of,
    get_each,
    make_replaced_info,
    read_document,
)
from server.core.documents import make_info, merge
from server.core.ids import ANONYMOUS, DEFAULT, check_id
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
    Present,
    Put,
    RemoveProfile,
    Storage,
    Unchanged,
)
from server.storage.rows import Row, Table

MOST_POLICIES = 100
"""Of one profile."""
MOST_RESTRICTIONS = 1000
"""Of one policy."""
MOST_RATE = 2**53 - 1
_UNASSIGNED_AT_ONCE = 10_000
"""Users who lose a profile in one transaction: some tens of milliseconds for which others wait."""
# Each is lost only to another request that changes the same rows at the same moment.
_ATTEMPTS = 5


class Profiles:
    """Reads, writes and deletes profiles. A change applies to all following requests."""

    def __init__(self, storage: Storage, *, clock_ms: Callable[[], int]) -> None:
        self._storage = storage
        self._clock_ms = clock_ms
        # A merge reads, then writes: requests in this process need not compete.
        self._updating = asyncio.Lock()

    async def get(self, profile_id: str) -> Document:
        """Return a profile; ApiError 404 for an unknown one."""
        profile = await read_document(self._storage, Table.PROFILES, profile_id)
        if profile is None:
            raise error("security.profile.not_found", profile_id)
        return profile

    async def get_all(self, profile_ids: Iterable[str]) -> list[Document]:
        """Return these profiles. ApiError 404 if one is unknown, 413 if they are too large."""
        return await get_each(self.get, profile_ids)

    async def create(
        self, profile_id: str, given: Mapping[str, object], author: str, *, strict: bool
    ) -> Document:
        """Create a profile; `strict` requires that the places it names exist. ApiError 400 for a
        document that is not valid and for an ID that is taken, 404 for an unknown role."""
        info = make_info(author, self._clock_ms())
        body = check_profile(check_id(profile_id), given, strict=strict)
        profile = Document(profile_id, body, info)
        try:
            await self._write(Insert(Table.PROFILES, profile.row()), profile)
        except Exists:
            raise error("services.storage.document_already_exists") from None
        return profile

    async def create_or_replace(
        self, profile_id: str, given: Mapping[str, object], author: str, *, strict: bool
    ) -> Document:
        """Write a profile, whether it existed or not."""
        info = make_replaced_info(author, self._clock_ms())
        body = check_profile(check_id(profile_id), given, strict=strict)
        profile = Document(profile_id, body, info)
        await self._write(Put(Table.PROFILES, profile.row()), profile)
        return profile

    async def update(
        self, profile_id: str, given: Mapping[str, object], updater: str, *, strict: bool
    ) -> Document:
        """Merge into a profile: objects member by member, everything else replaced. ApiError 404
        for an unknown one."""
        async with self._updating:
            for _ in range(_ATTEMPTS):
                old = await self.get(profile_id)
                body = check_profile(profile_id, merge(old.body, dict(given)), strict=strict)
                info = {**old.info, "updatedAt": self._clock_ms(), "updater": updater}
                profile = Document(profile_id, body, info)
                put, guard = (
                    Put(Table.PROFILES, profile.row()),
                    Unchanged(Table.PROFILES, old.row()),
                )
                try:
                    await self._write(put, profile, guard)
                except Missing:
                    continue  # another request wrote it since it was read
                return profile
        raise error("services.storage.too_many_changes")

    async def delete(self, profile_id: str, *, takes_away: bool = False) -> None:
        """Delete a profile. ApiError 400 for a built-in one, 404 for an unknown one, 412 for one
        that users have, unless `takes_away` removes it from them: users without another one become
        anonymous.

        Of very many users some may have lost it even if this fails; none has one that is deleted.
        """
        if profile_id in BUILTIN:
            raise error("security.profile.cannot_delete")
        await self.get(profile_id)
        changes: list[Change] = [
            Absent(Table.USER_PROFILES, {"profile_id": profile_id}),
            Delete(Table.PROFILES, {"id": profile_id}),
            DeleteAll(Table.PROFILE_ROLES, {"profile_id": profile_id}),
            JournalEvent(EventKind.RIGHTS, profile_id),
        ]
        if takes_away:
            await self._unassign_from_many(profile_id)
            changes.insert(0, RemoveProfile(profile_id, ANONYMOUS, _UNASSIGNED_AT_ONCE))
        try:
            await self._storage.apply(changes)
        except Missing:
            raise error("security.profile.not_found", profile_id) from None
        except Exists:
            raise error("security.profile.in_use") from None

    async def _unassign_from_many(self, profile_id: str) -> None:
        """Remove a profile from users until few enough have it to remove it from the rest and
        delete it in one transaction."""
        max_users, table = _UNASSIGNED_AT_ONCE, Table.USER_PROFILES
        while (
            len(await self._storage.find(table, limit=max_users + 1, profile_id=profile_id))
            > max_users
        ):
            unassigned = RemoveProfile(profile_id, ANONYMOUS, max_users)
            # The one note makes every user be read again, these users among them.
            await self._storage.apply([unassigned, JournalEvent(EventKind.RIGHTS, profile_id)])

    async def _write(self, change: Change, profile: Document, *guards: Change) -> None:
        """Write a profile and its references to roles. ApiError 404 for an unknown role, `Missing`
        if a guard does not hold."""
        own: Row = {"profile_id": profile.id}
        changes = [*guards, change, DeleteAll(Table.PROFILE_ROLES, own)]
        role_ids = roles_of(profile.body)
        for role_id in role_ids:
            changes.append(Present(Table.ROLES, {"id": role_id}))
            changes.append(Insert(Table.PROFILE_ROLES, {**own, "role_id": role_id}))
        changes.append(JournalEvent(EventKind.RIGHTS, profile.id))
        for _ in range(_ATTEMPTS):
            for role_id in role_ids:
                if not await self._storage.exists(Table.ROLES, id=role_id):
                    raise error("security.role.not_found", role_id)
            try:
                await self._storage.apply(changes)
            except Missing as missing:
                if missing.table is not Table.ROLES:
                    raise
                continue  # a role was deleted meanwhile; the next check says which
            return
        raise error("services.storage.too_many_changes")


def roles_of(body: Mapping[str, object]) -> list[str]:
    """Return the IDs of the roles a validated profile has, without duplicates."""
    policies = cast("list[dict[str, str]]", body["policies"])
    return list(dict.fromkeys(policy["roleId"] for policy in policies))


def check_profile(
    profile_id: str, given: Mapping[str, object], *, strict: bool = False
) -> dict[str, object]:
    """Return a profile's document, `policies` and `rateLimit` first. ApiError 400 for a document
    that is not valid, 404 for a policy without a role.

    With `strict` an unknown place is refused (412): this server has no indexes, so that is any.
    """
    content = content_of(given)
    rate_limit = _check_rate_limit(content.pop("rateLimit", None))
    name, policies = f"{profile_id}.policies", content.pop("policies", None)
    if not isinstance(policies, list):
        raise error("api.assert.invalid_type", name, "object[]")
    if len(policies) > MOST_POLICIES:
        raise error("api.assert.too_many_arguments", name, MOST_POLICIES)
    checked = [
        _check_policy(policy, f"{name}[{number}]", strict) for number, policy in enumerate(policies)
    ]
    body = {"policies": checked or [{"roleId": DEFAULT}], "rateLimit": rate_limit, **content}
    if profile_id == ANONYMOUS and ANONYMOUS not in roles_of(body):
        raise error("security.profile.missing_anonymous_role")
    return body


def _check_rate_limit(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise error("api.assert.invalid_type", "rateLimit", "integer")
    if not 0 <= value <= MOST_RATE:
        raise error("api.assert.invalid_argument", "rateLimit", f"a number from 0 to {MOST_RATE}")
    return value


def _check_policy(policy: object, name: str, strict: bool) -> dict[str, object]:
    members = _members(policy, name, ("roleId", "restrictedTo"))
    role_id, restrictions = members.get("roleId"), members.get("restrictedTo")
    if role_id is None or role_id == "":
        raise error("security.role.not_found", role_id)
    if not isinstance(role_id, str):
        raise error("api.assert.invalid_type", f"{name}.roleId", "string")
    if restrictions is None:
        return {"roleId": role_id}
    name = f"{name}.restrictedTo"
    if not isinstance(restrictions, list):
        raise error("api.assert.invalid_type", name, "object[]")
    if len(restrictions) > MOST_RESTRICTIONS:
        raise error("api.assert.too_many_arguments", name, MOST_RESTRICTIONS)
    checked = [
        _check_restriction(restriction, f"{name}[{number}]", strict)
        for number, restriction in enumerate(restrictions)
    ]
    return {"roleId": role_id, "restrictedTo": checked}


def _check_restriction(restriction: object, name: str, strict: bool) -> dict[str, object]:
    members = _members(restriction, name, ("index", "collections"))
    index, collections = members.get("index"), members.get("collections")
    if index is None or index == "":
        raise error("api.assert.missing_argument", f"{name}.index")
    if not isinstance(index, str):
        raise error("api.assert.invalid_type", f"{name}.index", "string")
    if strict:
        raise error("services.storage.unknown_index", index)
    if collections is None:
        return {"index": index}
    if not isinstance(collections, list) or not all(isinstance(c, str) for c in collections):
        raise error("api.assert.invalid_type", f"{name}.collections", "string[]")
    return {"index": index, "collections": collections}


def _members(value: object, name: str, known: tuple[str, ...]) -> dict[str, object]:
    """Return an object that has no other members than these."""
    if not isinstance(value, dict):
        raise error("api.assert.invalid_type", name, "object")
    for member in value:
        if member not in known:
            accepted = ", ".join(f'"{one}"' for one in known)
            raise error("api.assert.unexpected_argument", f"{name}.{member}", accepted)
    return value
