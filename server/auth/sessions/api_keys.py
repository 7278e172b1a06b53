"""API keys: named tokens that users create for their programs.

A key is shown once, when it is created; only its SHA-256 is stored, which is shown as its
fingerprint in lists.
"""

import secrets
import uuid
from collections.abc import Callable
from typing import cast

from protocol.errors import error, plain_error
from server.auth.assurance import AssuranceRules, Principal
from server.auth.audit.events import tell
from server.auth.audit.notices import KEY_ADDED, KEY_REMOVED
from server.auth.identity.user import User
from server.auth.search.clauses import Fields
from server.auth.search.lookup import look_up
from server.auth.sessions.keyring import Keyring
from server.auth.sessions.lifetimes import check_ttl, read_lifetime
from server.auth.sessions.sessions import end_created_with, parent_key
from server.auth.sessions.token_forms import owner_guard
from server.core.documents import make_info
from server.core.durations import NEVER
from server.core.ids import check_id, is_id
from server.core.secrets import API_KEY_PREFIX, hash_token
from server.storage.base import (
    Delete,
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Missing,
    Present,
    Storage,
)
from server.storage.query import Query
from server.storage.rows import Row, Table
from server.storage.search import API_KEYS, Order, Search

MOST_KEYS = 1000
"""Keys of one user."""
MOST_DESCRIPTION_CHARACTERS = 4096
SEARCHED = Fields(by_word=frozenset({"description"}), listed=("_id", "description", "userId"))
"""Fields that a query of keys searches by word, and its default fields."""
_BY_AGE = (Order("_kuzzle_info.createdAt"),)


class ApiKeys:
    """Creates, lists and deletes API keys."""

    def __init__(
        self,
        storage: Storage,
        keyring: Keyring,
        step_up: AssuranceRules,
        *,
        clock_ms: Callable[[], int],
        max_ttl_ms: int = NEVER,
    ) -> None:
        self._storage = storage
        self._keyring = keyring
        self._step_up = step_up
        self._clock_ms = clock_ms
        self._max_ttl_ms = max_ttl_ms

    def own_lifetime_ms(self, wanted: object) -> int:
        """Read the lifetime of a key that a user creates for themselves; 400 if it is longer than
        allowed."""
        ttl_ms = read_key_lifetime(wanted)
        check_ttl(ttl_ms, self._max_ttl_ms)
        return ttl_ms

    async def create(
        self, user: User, description: str, ttl_ms: int, key_id: str | None, by: Principal
    ) -> dict[str, object]:
        """Create a key for a user and return it as the API shows it, this once with its token. It
        has the assurance of the principal: a key may do no more than the session that created it.

        400 if the ID is taken, 403 for a principal who may not (see `StepUp`), 404 if the user is
        deleted or disabled by the time it is stored.
        """
        _check_description(description)
        await self._step_up.check_api_key(by, user.kuid, user.profile_ids)
        now_ms = self._clock_ms()
        token = API_KEY_PREFIX + self._sign(user.kuid, now_ms, ttl_ms)
        row: Row = {
            "id": str(uuid.uuid4()) if key_id is None else check_id(key_id),
            "token_hash": hash_token(token),
            "kuid": user.kuid,
            "description": description,
            "expires_at": None if ttl_ms == NEVER else now_ms + ttl_ms,
            "ttl": ttl_ms,
            "info": make_info(by.kuid, now_ms),
            "amr": list(by.assurance.amr),
        }
        if len(await self._rows_of(user.kuid)) >= MOST_KEYS:
            raise plain_error(412, f"a user has at most {MOST_KEYS} API keys: delete one first")
        try:
            await self._storage.apply([*owner_guard(user.kuid), Insert(Table.API_KEYS, row)])
        except Exists:
            raise error("services.storage.document_already_exists") from None
        except Missing:
            raise error("security.user.not_found", user.kuid) from None
        tell(notice=KEY_ADDED)
        source = {**_source(row), "_kuzzle_info": row["info"], "token": token}
        return {"_id": row["id"], "_source": source}

    async def search(
        self, kuid: str, query: Query, *, start: int, size: int
    ) -> list[dict[str, object]]:
        """Return a page of a user's keys that match a query, oldest first, expired ones
        included."""
        search = Search(
            API_KEYS,
            query,
            where={"kuid": kuid},
            sort=_BY_AGE,
            start=start,
            size=min(size, MOST_KEYS),
            is_counted=False,
        )
        found = await look_up(self._storage, search)
        return [_shown(row) for row in found.rows]

    async def delete(self, kuid: str, key_id: str) -> None:
        """Delete an API key of a user; 404 if the user has no such key."""
        row = await self._storage.get(Table.API_KEYS, id=key_id) if is_id(key_id) else None
        if row is None or row["kuid"] != kuid:
            raise error("services.storage.not_found", key_id)
        token_hash = cast(bytes, row["token_hash"])
        try:
            await self._storage.apply(
                [
                    # Another key may have been given the ID since.
                    Present(Table.API_KEYS, {"id": key_id, "token_hash": token_hash}),
                    Delete(Table.API_KEYS, {"id": key_id}),
                    JournalEvent(EventKind.API_KEY, token_hash.hex()),
                ]
            )
        except Missing:
            raise error("services.storage.not_found", key_id) from None
        # Afterwards, so that none can be created with it any more.
        await end_created_with(self._storage, parent_key(token_hash))
        tell(notice=KEY_REMOVED)

    def _sign(self, kuid: str, now_ms: int, ttl_ms: int) -> str:
        claims: dict[str, object] = {"_id": kuid, "iat": now_ms // 1000}
        if ttl_ms != NEVER:
            claims["exp"] = now_ms // 1000 + ttl_ms // 1000
        return self._keyring.sign({**claims, "jti": secrets.token_urlsafe(16)})

    async def _rows_of(self, kuid: str) -> list[Row]:
        return await self._storage.find(Table.API_KEYS, limit=MOST_KEYS, kuid=kuid)


def read_key_lifetime(wanted: object) -> int:
    """Return the lifetime of a key in ms, no expiry (-1) unless something was asked for; 400 for
    what is not a lifetime."""
    if wanted is None or wanted == "" or (wanted == 0 and not isinstance(wanted, str)):
        return NEVER
    return read_lifetime(wanted)


def _check_description(description: str) -> None:
    if len(description) > MOST_DESCRIPTION_CHARACTERS:
        limit = f"at most {MOST_DESCRIPTION_CHARACTERS} characters"
        raise error("api.assert.invalid_argument", "body.description", limit)


def _source(row: Row) -> dict[str, object]:
    return {
        "description": row["description"],
        "expiresAt": NEVER if row["expires_at"] is None else row["expires_at"],
        "fingerprint": cast(bytes, row["token_hash"]).hex(),
        "ttl": row["ttl"],
        "userId": row["kuid"],
    }


def _shown(row: Row) -> dict[str, object]:
    return {"_id": row["id"], "_source": _source(row)}
