"""Tokens with which a user sets a new password without the old one (contract/05 §1.7, repaired).

Random, good for one use, and stored as SHA-256 only. A user has one at a time: the next one, and
any change of his password, ends it. Nothing else takes such a token, and this takes nothing else.
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
_MOST_CHARACTERS = 256
_PREFIX = "plugin.kuzzle-plugin-auth-passport-local."


class Resets:
    """Hands out reset tokens and finds whose they are; `ttl_ms` -1 lets them live until they are
    used."""

    def __init__(
        self, storage: Storage, *, clock_ms: Callable[[], int], ttl_ms: float = NEVER
    ) -> None:
        self._storage = storage
        self._clock_ms = clock_ms
        self._ttl_ms = ttl_ms

    async def issue(self, kuid: str, credentials: Row) -> str:
        """Make a token for a user, in the place of an older one. `Missing` unless there are such
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
        """Give whose token it is. ApiError 400 `invalid_token`, 401 `expired_token`."""
        row = None
        if len(token) <= _MOST_CHARACTERS and token.isascii():
            row = await self._storage.get(Table.ONE_TIME, token_hash=hash_token(token))
        if row is None or row["kind"] != _KIND:
            raise error(_PREFIX + "invalid_token")
        ends_ms = cast("int | None", row["expires_at"])
        if ends_ms is not None and ends_ms <= self._clock_ms():
            raise error(_PREFIX + "expired_token")
        return cast(str, row["kuid"])


def use_up(token: str) -> Delete:
    """Give the change that ends a token; `Missing` if somebody was faster."""
    return Delete(Table.ONE_TIME, {"token_hash": hash_token(token)})


def end_all(kuid: str) -> Change:
    """Give the change that ends whatever token a user has."""
    return DeleteAll(Table.ONE_TIME, {"kuid": kuid, "kind": _KIND})
