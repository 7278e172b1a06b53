"""Password reset tokens: set a new password without the old one.

Random, valid for one use, and stored as SHA-256 only. A user has one at a time: the next one, and
any change of their password, revokes it. It is accepted for a reset only, and a reset accepts no
other token.
"""

import secrets
from collections.abc import Callable
from typing import cast

from protocol.errors import error
from server.core.durations import NEVER
from server.core.secrets import hash_token
from server.storage.base import Change, Delete, DeleteAll, Insert, Present, Storage
from server.storage.rows import Row, Table

_KIND = "reset"
_TOKEN_BYTES = 32
_MAX_CHARACTERS = 256
_PREFIX = "plugin.kuzzle-plugin-auth-passport-local."


class Resets:
    """Issues reset tokens and finds their users; with `ttl_ms` -1 they are valid until they are
    used."""

    def __init__(
        self, storage: Storage, *, clock_ms: Callable[[], int], ttl_ms: float = NEVER
    ) -> None:
        self._storage = storage
        self._clock_ms = clock_ms
        self._ttl_ms = ttl_ms

    async def issue(self, kuid: str, credentials: Row) -> str:
        """Create a token for a user, in place of an older one. `Missing` unless there are such
        credentials."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        ends_ms = None if self._ttl_ms == NEVER else int(self._clock_ms() + self._ttl_ms)
        row: Row = {
            "token_hash": hash_token(token),
            "kind": _KIND,
            "kuid": kuid,
            "expires_at": ends_ms,
            "data": {},
        }
        owner = Present(Table.CREDENTIALS, credentials)
        await self._storage.apply([owner, end_all(kuid), Insert(Table.ONE_TIME, row)])
        return token

    async def find(self, token: str) -> str:
        """Return the token's user. ApiError 400 `invalid_token`, 401 `expired_token`."""
        row = None
        if len(token) <= _MAX_CHARACTERS and token.isascii():
            row = await self._storage.get(Table.ONE_TIME, token_hash=hash_token(token))
        if row is None or row["kind"] != _KIND:
            raise error(_PREFIX + "invalid_token")
        ends_ms = cast("int | None", row["expires_at"])
        if ends_ms is not None and ends_ms <= self._clock_ms():
            raise error(_PREFIX + "expired_token")
        return cast(str, row["kuid"])


def use_up(token: str) -> Delete:
    """Return the change that deletes a token; `Missing` if it was used in the meantime."""
    return Delete(Table.ONE_TIME, {"token_hash": hash_token(token)})


def end_all(kuid: str) -> Change:
    """Return the change that deletes any token a user has."""
    return DeleteAll(Table.ONE_TIME, {"kuid": kuid, "kind": _KIND})
