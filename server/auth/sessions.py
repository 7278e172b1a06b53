"""The sessions of a user, as he or an administrator sees them; beyond the reference.

Tokens and their hashes never leave this module: a session is named by its own id.
"""

from collections.abc import Callable
from typing import cast

from protocol.errors import error
from server.auth.names import is_id
from server.auth.tokens import NEVER, is_over
from server.storage.base import Delete, Missing, Note, Noted, Row, Storage, Table

MOST_LISTED = 1000
Shown = dict[str, object]
"""A session as the API shows it: `_id` and `_source`."""


class Sessions:
    """Lists and ends sessions."""

    def __init__(self, storage: Storage, *, clock_ms: Callable[[], int]) -> None:
        self._storage = storage
        self._clock_ms = clock_ms

    async def listed(self, kuid: str, current_id: str = "") -> list[Shown]:
        """Give a user's sessions, newest first, without those that are over or were replaced by a
        refresh.

        `current_id` is the session that asks. Of a user with more than `MOST_LISTED` stored
        sessions some are not looked at.
        """
        if not is_id(kuid):
            return []
        now_ms = self._clock_ms()
        rows = await self._storage.find(Table.SESSIONS, limit=MOST_LISTED, kuid=kuid)
        going_on = [row for row in rows if row["refreshed_at"] is None and not is_over(row, now_ms)]
        going_on.sort(key=lambda row: (-cast(int, row["created_at"]), cast(str, row["id"])))
        return [_show(row, current_id) for row in going_on]

    async def end(self, kuid: str, session_id: str) -> None:
        """End a session of a user's. ApiError 404 for one that is unknown, over or somebody
        else's."""
        row = await self._storage.get(Table.SESSIONS, id=session_id) if is_id(session_id) else None
        if row is None or row["kuid"] != kuid:
            raise error("services.storage.not_found", session_id)
        token_hash = cast(bytes, row["token_hash"])
        try:
            await self._storage.apply(
                [
                    Delete(Table.SESSIONS, {"token_hash": token_hash}),
                    Note(Noted.SESSION, token_hash.hex()),
                ]
            )
        except Missing:
            raise error("services.storage.not_found", session_id) from None


def _show(row: Row, current_id: str) -> Shown:
    ends, data = row["expires_at"], cast("dict[str, object]", row["data"])
    source = {
        "createdAt": row["created_at"],
        "expiresAt": NEVER if ends is None else ends,
        "ttl": row["ttl"],
        "lastUsedAt": row["used_at"],
        "address": data.get("address", ""),
        "userAgent": data.get("userAgent", ""),
        "strategy": data.get("strategy", ""),
        "current": row["id"] == current_id,
    }
    return {"_id": row["id"], "_source": source}
