"""Import of plain text passwords: each is checked against the password rules, hashed, and stored
separately, as if an administrator had sent it."""

from collections.abc import Mapping, Sequence

from protocol.errors import error
from server.admin.importing.bulk_writer import Arrival, Ending
from server.admin.importing.formats import Kind, Record
from server.admin.importing.records import LOCAL, read_imported_user
from server.admin.operations import BY_OPERATOR, OPERATOR, Operations
from server.auth.access.permissions import check_profiles_exist
from server.auth.accounts.user_updates import changes_between
from server.auth.identity.user import User, read_user
from server.auth.passwords.hasher import check_password
from server.auth.sessions.sessions import ends_of
from server.storage.base import Change, Missing, Update
from server.storage.rows import Row, Table


class PlainImport:
    """Stores documents with plain passwords; with `replaces`, existing ones are replaced. ApiError
    for a rejected one."""

    def __init__(self, operations: Operations, *, replaces: bool) -> None:
        self._operations = operations
        self._replaces = replaces

    async def store(self, record: Record) -> Ending:
        """Store a user with their credentials, or credentials of an existing user."""
        if record.kind is Kind.CREDENTIALS:
            kuid = record.source.get("kuid")
            if not isinstance(kuid, str):
                raise error("api.assert.invalid_type", "kuid", "string")
            plain = {name: value for name, value in record.source.items() if name != "kuid"}
            return await self._store_credentials(kuid, {**plain, "username": record.id})
        arrival = read_imported_user(record.id, record.source, record.is_disabled)
        given = record.credentials[LOCAL]
        if not isinstance(given, dict):
            raise error("api.assert.invalid_type", f"credentials.{LOCAL}", "object")
        row = await self._operations.storage.get(Table.USERS, kuid=record.id)
        if row is None:
            return await self._create(arrival, given)
        return await self._store_credentials(record.id, given, await self._changes(arrival, row))

    async def _create(self, arrival: Arrival, given: dict[str, object]) -> Ending:
        user = arrival.user(User(arrival.kuid, ()))
        said: Row = {"disabled": int(user.is_disabled)}
        if user.info:
            said["info"] = user.info
        await self._operations.users.create(
            kuid=user.kuid,
            kind="",
            profile_ids=list(user.profile_ids),
            content=user.content,
            credentials={LOCAL: given},
            author=OPERATOR,
            more=[Update(Table.USERS, {"kuid": user.kuid}, said)],
        )
        return Ending.CREATED

    async def _changes(self, arrival: Arrival, row: Row) -> list[Change]:
        """Return the changes from the existing user to the imported one, none if they are equal."""
        old = read_user(row)
        new = arrival.user(old)
        if new == old:
            return []
        await check_profiles_exist(self._operations.rulebook, new.profile_ids)
        changes = changes_between(row, old, new)
        if new.is_disabled and not old.is_disabled:
            operations = self._operations
            changes += await ends_of(operations.storage, old.kuid, operations.clock_ms())
        return changes

    async def _store_credentials(
        self, kuid: str, given: Mapping[str, object], of_user: Sequence[Change] | None = None
    ) -> Ending:
        """Store credentials together with the changes of their user; None without a user."""
        storage, credentials = self._operations.storage, self._operations.credentials
        changes = of_user or ()
        old = await storage.get(Table.CREDENTIALS, kuid=kuid, strategy=LOCAL)
        is_same = old is not None and await self._is_same(old, given)
        if is_same and not changes:
            return Ending.UNCHANGED
        is_new = old is None and of_user is None
        if not is_new and not self._replaces:
            return Ending.KEPT
        if old is None:
            await credentials.create(LOCAL, kuid, given, BY_OPERATOR, guards=changes)
        elif not is_same:
            await credentials.update(LOCAL, kuid, given, BY_OPERATOR, revokes=False, guards=changes)
        else:
            try:
                await storage.apply(changes)
            except Missing:
                raise error("services.storage.too_many_changes") from None
        return Ending.CREATED if is_new else Ending.REPLACED

    async def _is_same(self, old: Row, given: Mapping[str, object]) -> bool:
        password, data = check_password(given.get("password"), "password"), old["data"]
        stored = data if isinstance(data, dict) else None
        is_password = await self._operations.passwords.verify(password, stored)
        return is_password and given.get("username") == old["id"]
