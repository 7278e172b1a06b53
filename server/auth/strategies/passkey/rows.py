"""Storage of passkeys: a row in the table of credentials for each user, whose id is the user
handle, and one in the table of passkeys for each key.

Adding or removing a key changes the user's row, so that of two such changes at once one is retried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from protocol.errors import plain_error
from server.auth.strategies.base import Prepared
from server.auth.strategies.credential_rows import CredentialRows, present
from server.auth.strategies.passkey.verification import MOST_ID_BYTES, NewKey, Used, read_bytes
from server.storage.base import Change, Delete, DeleteAll, Insert, Present, Update
from server.storage.rows import Row, Table

_MAX_KEYS = 1000  # per user; the setting allows fewer


@dataclass(frozen=True, slots=True)
class Holder:
    """A user's handle and keys, oldest first; `row` is None while the user has none."""

    handle: str | None
    row: Row | None
    keys: Sequence[Row] = field(repr=False)


class PasskeyRows(CredentialRows):
    """The part of the strategy that stores rows."""

    async def holder(self, kuid: str | None) -> Holder:
        """Return the handle and keys of a user."""
        if kuid is None:
            return Holder(None, None, ())
        row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=self.name)
        if row is None:
            return Holder(None, None, ())
        keys = await self._storage.find(
            Table.PASSKEYS, limit=_MAX_KEYS, kuid=kuid, strategy=self.name
        )
        keys.sort(key=lambda key: cast(int, key["created_at"]))
        return Holder(cast(str, row["id"]), row, keys)

    async def key(self, key_id: object) -> Row | None:
        """Return the key with this id, of any user; None if the id is unknown or not valid."""
        if not read_bytes(key_id, MOST_ID_BYTES):
            return None
        return await self._storage.get(Table.PASSKEYS, strategy=self.name, id=key_id)

    async def own_key(self, kuid: str | None, key_id: object) -> Row:
        """Return a user's key; ApiError 412 if they have none with this id."""
        row = await self.key(key_id)
        if row is None or row["kuid"] != kuid:
            raise plain_error(412, f"the user has no such key of {self.name}")
        return row

    def entered(self, holder: Holder, handle: str, kuid: str, key: NewKey, name: str) -> Prepared:
        """Prepare the insertion of a key; ApiError 412 if it was created for another handle than
        the user's, as login with it would never work."""
        if holder.row is None:
            owner = [self.inserted(handle, kuid, {})]
        elif holder.handle == handle:
            owner = self.updated(holder.row, handle, {})
        else:
            raise plain_error(412, "the user has another handle by now: create the key again")
        row: Row = {
            "strategy": self.name,
            "id": key.id,
            "kuid": kuid,
            "name": name,
            "public_key": key.public_key,
            "sign_count": key.sign_count,
            "backed_up": int(key.is_backed_up),
            "transports": list(key.transports),
            "created_at": self._clock_ms(),
            "used_at": None,
        }
        return Prepared(shown(row), [*owner, Insert(Table.PASSKEYS, row)])

    def renamed(self, row: Row, name: str) -> Prepared:
        """Prepare another name of a key."""
        changes: list[Change] = [held(row), Update(Table.PASSKEYS, key_of(row), {"name": name})]
        return Prepared(shown({**row, "name": name}), changes)

    def removed(self, holder: Holder, row: Row) -> Prepared:
        """Prepare the deletion of one key; also of the user's row, if it is their last key."""
        if holder.row is None or holder.handle is None:
            raise plain_error(412, f"the user has no credentials of {self.name}")
        left = len([key for key in holder.keys if key["id"] != row["id"]])
        if not left:
            return self.all_removed(holder.row)
        owner = self.updated(holder.row, holder.handle, {})
        return Prepared({}, [*owner, Delete(Table.PASSKEYS, key_of(row))], left)

    def all_removed(self, row: Row) -> Prepared:
        """Prepare the deletion of all keys of a user."""
        owned: Row = {"kuid": row["kuid"], "strategy": self.name}
        tables = (Table.PASSKEYS, Table.CREDENTIALS)
        return Prepared({}, [present(row), *(DeleteAll(table, owned) for table in tables)])

    def used(self, row: Row, used: Used) -> tuple[Change, ...]:
        """Return the changes of a login with a key: the guard that it was not used since, and its
        new state."""
        values: Row = {
            "sign_count": used.sign_count,
            "backed_up": int(used.is_backed_up),
            "used_at": self._clock_ms(),
        }
        return (held(row), Update(Table.PASSKEYS, key_of(row), values))


def held(row: Row) -> Change:
    """Return the guard that a key still belongs to its user, and that its counter is as it was
    read."""
    names = ("strategy", "id", "kuid", "sign_count")
    return Present(Table.PASSKEYS, {name: row[name] for name in names})


def key_of(row: Row) -> Row:
    """Return the columns that identify a key."""
    return {"strategy": row["strategy"], "id": row["id"]}


def shown(row: Mapping[str, object]) -> dict[str, object]:
    """Return what may be shown of a key."""
    return {
        "id": row["id"],
        "name": row["name"],
        "createdAt": row["created_at"],
        "lastUsedAt": row["used_at"],
        "backedUp": bool(row["backed_up"]),
        "transports": row["transports"],
    }
