"""Credentials in the server's own store, one row per user and strategy.

Subclasses of `CredentialRows` define what the rows contain, and how they prove a user's identity.
"""

from collections.abc import Mapping
from typing import cast

from protocol.errors import error, plain_error
from server.auth.strategies.base import Authenticated, Parts, Prepared
from server.core.ids import MOST_ID_BYTES, is_id
from server.storage.base import Change, Delete, DeleteAll, Insert, Present
from server.storage.rows import Row, Table


class CredentialRows:
    """Base class of strategies that store rows. `name` is the one it is configured under."""

    def __init__(self, name: str, parts: Parts) -> None:
        self.name = name
        self._storage = parts.storage
        self._clock_ms = parts.clock_ms

    async def exists(self, kuid: str) -> bool:
        """See `Strategy`."""
        return await self._storage.exists(Table.CREDENTIALS, kuid=kuid, strategy=self.name)

    async def delete(self, kuid: str) -> Prepared:
        """See `Strategy`."""
        row = await self.of(kuid)
        owned: Row = {"kuid": kuid, "strategy": self.name}
        return Prepared({}, [present(row), DeleteAll(Table.CREDENTIALS, owned)])

    async def find(self, identifier: object) -> Row | None:
        """Return the row with an identifier, None if there is none or the identifier is not
        valid."""
        if not isinstance(identifier, str) or not is_id(identifier):
            return None
        return await self._storage.get(Table.CREDENTIALS, strategy=self.name, id=identifier)

    async def of(self, kuid: str | None) -> Row:
        """Return a user's row; ApiError 412 if they have none."""
        row = None
        if kuid is not None:
            row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=self.name)
        if row is None:
            raise plain_error(412, f"the user has no credentials of {self.name}")
        return row

    async def check_free(self, identifier: object, kuid: str | None, argument: str) -> str:
        """Return an identifier that this user can have; ApiError 400 if it is not valid, 412 if it
        is another user's."""
        if not isinstance(identifier, str) or not is_id(identifier):
            limit = f"a string of 1 to {MOST_ID_BYTES} bytes without control characters"
            raise error("api.assert.invalid_argument", argument, limit)
        row = await self.find(identifier)
        if row is not None and row["kuid"] != kuid:
            raise plain_error(412, f"the {argument} is already taken")
        return identifier

    def inserted(self, identifier: str, kuid: str, data: Mapping[str, object]) -> Change:
        """Return the change that inserts a user's row; `Exists` if this or another user has it."""
        row: Row = {
            "strategy": self.name,
            "id": identifier,
            "kuid": kuid,
            "data": dict(data),
            "created_at": self._clock_ms(),
            "updated_at": None,
        }
        return Insert(Table.CREDENTIALS, row)

    def updated(self, row: Row, identifier: str, data: Mapping[str, object]) -> list[Change]:
        """Return the changes that replace the data of a row, as long as it is as it was read."""
        # Never the same twice: it shows whether a row is still the one that was read.
        last_ms = cast(int, row["updated_at"] or row["created_at"])
        changed_at_ms = max(self._clock_ms(), last_ms + 1)
        new: Row = {**row, "id": identifier, "data": dict(data), "updated_at": changed_at_ms}
        key: Row = {"strategy": self.name, "id": row["id"]}
        return [present(row), Delete(Table.CREDENTIALS, key), Insert(Table.CREDENTIALS, new)]


def owner_of(row: Row) -> Authenticated:
    """Return the result of a login by a row: its user, if that is still so when the token is
    created."""
    return Authenticated(cast(str, row["kuid"]), (present(row),))


def data_of(row: Row) -> dict[str, object]:
    """Return what a row contains."""
    return cast("dict[str, object]", row["data"])


def present(row: Row) -> Change:
    """Return the guard that a row is as it was read."""
    names = ("strategy", "id", "kuid", "updated_at")
    return Present(Table.CREDENTIALS, {name: row[name] for name in names})
