"""API keys: long-lived tokens a user gives to programs (contract/02 §5).

Stored is the SHA-256 of the whole token, which the API shows as the key's fingerprint; the token
itself is shown once. Verifying one is the business of `tokens`.
"""

import asyncio
import secrets
import uuid
from collections.abc import Callable
from typing import cast

from protocol.errors import error, plain_error
from server.auth.keyring import Keyring
from server.auth.names import ANONYMOUS_ID, MOST_ID_BYTES, is_id
from server.auth.queries import parse_query
from server.auth.querytree import Everything, Node, evaluate
from server.auth.tokens import API_KEY_PREFIX, NEVER, hash_token, read_lifetime
from server.storage.base import (
    Change,
    Delete,
    Exists,
    Insert,
    Missing,
    Note,
    Noted,
    Present,
    Row,
    Storage,
    Table,
)

MOST_KEYS = 1000
"""Keys of one user, expired ones included: all of them are read to search among them."""
MOST_DESCRIPTION_CHARACTERS = 4096
Shown = dict[str, object]
"""A document as the API shows it: `_id` and `_source`."""


class ApiKeys:
    """Makes, finds and ends API keys. `max_ttl_ms` bounds those that users make for themselves; -1
    does not."""

    def __init__(
        self,
        storage: Storage,
        keyring: Keyring,
        *,
        max_ttl_ms: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._keyring = keyring
        self._max_ttl_ms = max_ttl_ms
        self._clock_ms = clock_ms

    async def create(
        self, kuid: str, description: str, ttl_ms: int, *, key_id: str | None, author: str
    ) -> Shown:
        """Make a key of a user's and give it with its token, which nobody will see again.

        ApiError 400 for an id that is taken, 404 for a user who is gone or disabled.
        """
        if len(description) > MOST_DESCRIPTION_CHARACTERS:
            limit = f"at most {MOST_DESCRIPTION_CHARACTERS} characters"
            raise error("api.assert.invalid_argument", "body.description", limit)
        if key_id is not None and not is_id(key_id):
            limit = f"at most {MOST_ID_BYTES} bytes of text without control characters"
            raise error("api.assert.invalid_argument", "_id", limit)
        if len(await self._rows_of(kuid)) >= MOST_KEYS:
            raise plain_error(412, f"a user has at most {MOST_KEYS} API keys: delete some first")
        now_ms = self._clock_ms()
        token = self._sign(kuid, now_ms, ttl_ms)
        row: Row = {
            "id": key_id or str(uuid.uuid4()),
            "token_hash": hash_token(token),
            "kuid": kuid,
            "description": description,
            "expires_at": None if ttl_ms == NEVER else now_ms + ttl_ms,
            "ttl": ttl_ms,
            "info": {"author": author, "createdAt": now_ms, "updatedAt": None, "updater": None},
        }
        await self._insert(row)
        source = {**_source(row), "_kuzzle_info": row["info"], "token": token}
        return {"_id": row["id"], "_source": source}

    def _sign(self, kuid: str, now_ms: int, ttl_ms: int) -> str:
        claims: dict[str, object] = {"_id": kuid, "iat": now_ms // 1000}
        if ttl_ms != NEVER:
            claims["exp"] = now_ms // 1000 + ttl_ms // 1000
        return API_KEY_PREFIX + self._keyring.sign({**claims, "jti": secrets.token_urlsafe(16)})

    async def _insert(self, row: Row) -> None:
        changes: list[Change] = [Insert(Table.API_KEYS, row)]
        if row["kuid"] != ANONYMOUS_ID:
            changes.insert(0, Present(Table.USERS, {"kuid": row["kuid"], "disabled": 0}))
        try:
            await self._storage.apply(changes)
        except Exists:
            raise error("services.storage.document_already_exists") from None
        except Missing:
            raise error("security.user.not_found", row["kuid"]) from None

    async def search(
        self, kuid: str, query: dict[str, object], *, lang: str, start: int, size: int
    ) -> list[Shown]:
        """Give `size` keys of a user's that are what a query asks for, oldest first, from the
        `start`th on."""
        tree = parse_query(query, lang)
        rows = await self._rows_of(kuid)
        rows.sort(key=lambda row: (cast("dict[str, int]", row["info"])["createdAt"], row["id"]))
        if not isinstance(tree, Everything):
            rows = await asyncio.to_thread(_select, tree, rows)
        found = rows[start : start + size]
        return [{"_id": row["id"], "_source": _source(row)} for row in found]

    async def delete(self, kuid: str, key_id: str) -> None:
        """End a key of a user's. ApiError 404 for one that is unknown or somebody else's."""
        row = await self._storage.get(Table.API_KEYS, id=key_id) if is_id(key_id) else None
        if row is None or row["kuid"] != kuid:
            raise error("services.storage.not_found", key_id)
        token_hash = cast(bytes, row["token_hash"])
        try:
            await self._storage.apply(
                [
                    Present(Table.API_KEYS, {"id": key_id, "token_hash": token_hash}),
                    Delete(Table.API_KEYS, {"id": key_id}),
                    Note(Noted.API_KEY, token_hash.hex()),
                ]
            )
        except Missing:
            raise error("services.storage.not_found", key_id) from None

    def own_lifetime_ms(self, wanted: object) -> int:
        """Read the lifetime of a key a user makes for himself; ApiError 400 above the longest."""
        ttl_ms, most_ms = self.lifetime_ms(wanted), self._max_ttl_ms
        if most_ms != NEVER and (ttl_ms == NEVER or ttl_ms > most_ms):
            raise error("security.token.ttl_exceeded")
        return ttl_ms

    def lifetime_ms(self, wanted: object) -> int:
        """Read a wanted lifetime (contract/02 §1.3); without one a key has no end."""
        is_absent = wanted is None or wanted == "" or (wanted == 0 and not isinstance(wanted, str))
        return NEVER if is_absent else read_lifetime(wanted)

    async def _rows_of(self, kuid: str) -> list[Row]:
        if not is_id(kuid):
            return []
        return await self._storage.find(Table.API_KEYS, limit=MOST_KEYS, kuid=kuid)


def _select(tree: Node, rows: list[Row]) -> list[Row]:
    return [row for row in rows if evaluate(tree, {"_id": row["id"], **_source(row)})]


def _source(row: Row) -> dict[str, object]:
    ends = row["expires_at"]
    return {
        "description": row["description"],
        "expiresAt": NEVER if ends is None else ends,
        "fingerprint": cast(bytes, row["token_hash"]).hex(),
        "ttl": row["ttl"],
        "userId": row["kuid"],
    }
