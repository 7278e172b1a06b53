"""A way to log in that is not built in, as somebody else might write one."""

from collections.abc import Mapping
from typing import cast

from server.auth.strategies.base import LoginAttempt, Outcome, Prepared
from server.core.ids import is_id
from server.storage.base import DeleteAll, Insert, Storage, Update
from server.storage.rows import Row, Table


class Badge:
    """A further strategy: credentials are a number, kept in the clear; nothing can be shown. What
    it makes of a login is given."""

    name, fields = "badge", ("number",)

    def __init__(self, storage: Storage, outcome: object = None) -> None:
        self._storage = storage
        self._outcome = outcome

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return cast(Outcome, self._outcome)

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        return await self.verify(attempt)

    async def exists(self, kuid: str) -> bool:
        return await self._storage.exists(Table.CREDENTIALS, kuid=kuid, strategy=self.name)

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        assert is_id(credentials["number"])

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        row: Row = {
            "strategy": self.name,
            "id": credentials["number"],
            "kuid": kuid,
            "data": {},
            "created_at": 0,
            "updated_at": None,
        }
        return Prepared({"number": credentials["number"]}, [Insert(Table.CREDENTIALS, row)])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        where = {"kuid": kuid, "strategy": self.name}
        change = Update(Table.CREDENTIALS, where, {"id": credentials["number"]})
        return Prepared({"number": credentials["number"]}, [change])

    async def delete(self, kuid: str) -> Prepared:
        return Prepared({}, [DeleteAll(Table.CREDENTIALS, {"kuid": kuid, "strategy": self.name})])


class RenewedBadge(Badge):
    """A badge that has a say in what becomes of a token."""

    async def refresh_token(self, kuid: str) -> object:
        """Give what was given, or raise it."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome
