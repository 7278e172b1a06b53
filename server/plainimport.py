"""Documents of an import that bring a password in plain text: each is hashed, held against the
rules, and stored by itself, as if an administrator had sent it."""

from collections.abc import Mapping

from protocol.errors import error
from server.auth.imported import LOCAL, read_imported_user
from server.auth.passwords import check_password
from server.auth.userimport import Ending
from server.auth.users import User
from server.importlines import Kind, Record
from server.operations import OPERATOR, Operations
from server.storage.base import Table


class PlainImport:
    """Stores such documents; with `replaces`, in the place of what is there. ApiError for what is
    refused."""

    def __init__(self, operations: Operations, *, replaces: bool) -> None:
        self._operations = operations
        self._replaces = replaces

    async def store(self, record: Record) -> Ending:
        """Store a user with his credentials, or credentials of a user who is there."""
        if record.kind is Kind.CREDENTIALS:
            kuid = record.source.get("kuid")
            if not isinstance(kuid, str):
                raise error("api.assert.invalid_type", "kuid", "string")
            plain = {name: value for name, value in record.source.items() if name != "kuid"}
            return await self._store_credentials(kuid, {"username": record.id, **plain})
        arrival = read_imported_user(record.id, record.source, record.is_disabled)
        user = arrival.user(User(record.id, ()))
        given = record.credentials[LOCAL]
        if not isinstance(given, dict):
            raise error("api.assert.invalid_type", f"credentials.{LOCAL}", "object")
        old = await self._operations.users.get(record.id)
        if old is None:
            return await self._create(user, given)
        ending = await self._store_user(old, user, says_disabled=record.is_disabled is not None)
        return _join(ending, await self._store_credentials(user.kuid, given))

    async def _create(self, user: User, given: dict[str, object]) -> Ending:
        await self._operations.users.create(
            kuid=user.kuid,
            kind="",
            profile_ids=list(user.profile_ids),
            content=user.content,
            credentials={LOCAL: given},
            author=OPERATOR,
        )
        if user.is_disabled:
            await self._operations.user_changes.disable(user.kuid, OPERATOR)
        return Ending.CREATED

    async def _store_user(self, old: User, new: User, *, says_disabled: bool) -> Ending:
        changes, kuid = self._operations.user_changes, new.kuid
        is_same = (old.content, old.profile_ids) == (new.content, new.profile_ids)
        is_moved = says_disabled and old.is_disabled != new.is_disabled
        if is_same and not is_moved:
            return Ending.UNCHANGED
        if not self._replaces:
            return Ending.KEPT
        if not is_same:
            await changes.replace(kuid, new.content, new.profile_ids, OPERATOR)
        if is_moved:
            move = changes.disable if new.is_disabled else changes.enable
            await move(kuid, OPERATOR)
        return Ending.REPLACED

    async def _store_credentials(self, kuid: str, given: Mapping[str, object]) -> Ending:
        storage, credentials = self._operations.storage, self._operations.credentials
        old = await storage.get(Table.CREDENTIALS, kuid=kuid, strategy=LOCAL)
        if old is None:
            await credentials.create(LOCAL, kuid, given, OPERATOR)
            return Ending.CREATED
        password, data = check_password(given.get("password"), "password"), old["data"]
        stored = data if isinstance(data, dict) else None
        is_same = await self._operations.passwords.verify(password, stored)
        if is_same and given.get("username") == old["id"]:
            return Ending.UNCHANGED
        if not self._replaces:
            return Ending.KEPT
        caller = self._operations.caller
        await credentials.update(LOCAL, kuid, given, caller, revokes=False)
        return Ending.REPLACED


def _join(user: Ending, credentials: Ending) -> Ending:
    """Tell what became of a user who was there, from what became of his parts."""
    parts = {user, credentials}
    if parts == {Ending.UNCHANGED}:
        return Ending.UNCHANGED
    return Ending.KEPT if Ending.KEPT in parts else Ending.REPLACED
