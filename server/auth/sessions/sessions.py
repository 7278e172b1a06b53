"""Sessions: list them, and revoke one, all of a user, or all of every user.

A session is a chain of refreshed tokens: it began with its login, and its ID is that of its newest
token. Tokens themselves are never shown.
"""

from collections.abc import Callable, Sequence
from typing import cast

from protocol.errors import error
from server.auth.assurance import Assurance
from server.auth.sessions.known_devices import revoke_all_devices, revoke_devices
from server.auth.sessions.token_forms import is_over
from server.core.durations import NEVER
from server.core.ids import is_id
from server.storage.base import (
    Change,
    DeleteAll,
    EventKind,
    Insert,
    JournalEvent,
    Missing,
    Present,
    Storage,
)
from server.storage.rows import Row, Table

MOST_LISTED = 1000
"""Sessions of one user that are listed, and tokens of one session that are revoked one by one."""
KEY_PARENT = "key:"
"""Prefix of the `parent` of a session that was created with an API key; families have no colon."""
_ATTEMPTS = 5  # each is lost only to a refresh of the same session at the same moment


class Sessions:
    """Lists and revokes sessions."""

    def __init__(self, storage: Storage, *, clock_ms: Callable[[], int]) -> None:
        self._storage = storage
        self._clock_ms = clock_ms

    async def of(self, kuid: str, current_id: str) -> list[dict[str, object]]:
        """Return a user's live sessions as the API shows them, newest first; `current_id` is the
        one of this request."""
        return [_shown(row, current_id) for row in await self._live(kuid)]

    async def _live(self, kuid: str) -> list[Row]:
        """Return the newest token of each of a user's sessions, the newest session first."""
        rows = await self._storage.find(
            Table.SESSIONS, limit=MOST_LISTED, kuid=kuid, refreshed_at=None
        )
        live = [row for row in rows if not is_over(row, self._clock_ms())]
        live.sort(key=lambda row: cast(int, row["started_at"]), reverse=True)
        return live

    async def keep_newest(self, kuid: str, most: int) -> None:
        """Revoke a user's oldest sessions beyond `most` of them."""
        live = await self._live(kuid)
        for row in live[most:]:
            await self.try_to_end(kuid, cast(str, row["id"]))

    async def end(self, kuid: str, session_id: str) -> None:
        """Revoke a session of a user with every token of its chain, and the sessions created with
        them; 404 if there is no such session."""
        asked = (
            await self._storage.get(Table.SESSIONS, id=session_id) if is_id(session_id) else None
        )
        if asked is None or not await self.try_to_end(kuid, session_id):
            raise error("services.storage.not_found", session_id)
        await end_created_with(self._storage, cast(str, asked["family"]))

    async def try_to_end(self, kuid: str, session_id: str) -> bool:
        """Revoke a session with every token of its chain; False if the user has no such session, or
        no more."""
        for _ in range(_ATTEMPTS if is_id(session_id) else 0):
            asked = await self._storage.get(Table.SESSIONS, id=session_id)
            if asked is None or asked["kuid"] != kuid:
                break
            newest, members = await self._chain(asked)
            if newest is None or is_over(newest, self._clock_ms()):
                break
            try:
                await self._storage.apply(_end(newest, members))
            except Missing:
                continue
            return True
        return False

    async def end_everybodys(self, token_hash: bytes) -> None:
        """Revoke all sessions of all users except the one with this token, if given; API keys
        stay."""
        for _ in range(_ATTEMPTS):
            own = await self._storage.get(Table.SESSIONS, token_hash=token_hash)
            newest, members = (None, []) if own is None else await self._chain(own)
            try:
                forgotten = revoke_all_devices(self._clock_ms())
                await self._storage.apply([*_end_all_but(newest, members), forgotten])
            except Missing:
                continue
            return
        raise error("services.storage.too_many_changes")

    async def _chain(self, member: Row) -> tuple[Row | None, list[Row]]:
        """Return the newest token of a session, None if it has no more, and a limited number of all
        its tokens, this one among them."""
        family: Row = {"family": member["family"]}
        newest = await self._storage.find(Table.SESSIONS, limit=1, **family, refreshed_at=None)
        members = await self._storage.find(Table.SESSIONS, limit=MOST_LISTED, **family)
        return (newest[0] if newest else None), [member, *members]


def end_all(kuid: str, now_ms: int) -> list[Change]:
    """Return the changes that revoke every session of a user, and the proofs of their known
    devices; their API keys stay."""
    return [
        DeleteAll(Table.SESSIONS, {"kuid": kuid}),
        JournalEvent(EventKind.SESSIONS, kuid),
        revoke_devices(kuid, now_ms),
    ]


def read_assurance(row: Row) -> Assurance:
    """Return how the user of a session proved who they are."""
    amr = cast("list[str] | None", row["amr"])
    return Assurance(tuple(amr or ()), cast("int | None", row["authenticated_at"]))


def revocations(rows: Sequence[Row]) -> list[Change]:
    """Return the changes that revoke these tokens, each by name for followers of the journal."""
    changes: list[Change] = []
    for row in rows:
        changes.append(DeleteAll(Table.SESSIONS, {"token_hash": row["token_hash"]}))
        changes.append(JournalEvent(EventKind.SESSION, cast(bytes, row["token_hash"]).hex()))
    return changes


async def end_created_with(storage: Storage, parent: str) -> None:
    """Revoke the sessions created with the tokens of this `parent` (a session's family, or
    `parent_key`), those created with them, and so on."""
    parents, seen = [parent], {parent}
    while parents:
        rows = await storage.find(Table.SESSIONS, limit=MOST_LISTED, parent=parents[-1])
        if not rows:
            parents.pop()
            continue
        await storage.apply(revocations(rows))
        families = {cast(str, row["family"]) for row in rows} - seen
        seen |= families
        parents = [*families, *parents]


def parent_key(token_hash: bytes) -> str:
    """Return the `parent` of the sessions created with this API key."""
    return KEY_PARENT + token_hash.hex()


def _end(newest: Row, members: list[Row]) -> list[Change]:
    """Return the changes that revoke a chain, as long as its newest token has no successor yet."""
    hashes = {cast(bytes, row["token_hash"]) for row in (newest, *members)}
    return [
        _is_newest(newest),
        DeleteAll(Table.SESSIONS, {"family": newest["family"]}),
        *(JournalEvent(EventKind.SESSION, token_hash.hex()) for token_hash in hashes),
    ]


def _end_all_but(newest: Row | None, members: list[Row]) -> list[Change]:
    """Return the changes that revoke every session except one chain, as long as its newest token
    has no successor yet; without a newest token, every session."""
    kept = {} if newest is None else {row["token_hash"]: row for row in (newest, *members)}
    hashes = ":".join(cast(bytes, token_hash).hex() for token_hash in kept)
    return [
        *(() if newest is None else (_is_newest(newest),)),
        DeleteAll(Table.SESSIONS, {}),
        *(Insert(Table.SESSIONS, row) for row in kept.values()),
        JournalEvent(EventKind.ALL_SESSIONS, hashes),
    ]


def _is_newest(row: Row) -> Change:
    return Present(Table.SESSIONS, {"token_hash": row["token_hash"], "refreshed_at": None})


def _shown(row: Row, current_id: str) -> dict[str, object]:
    data = cast(Row, row["data"])
    source = {
        "createdAt": row["started_at"],
        "expiresAt": NEVER if row["expires_at"] is None else row["expires_at"],
        "ttl": row["ttl"],
        "lastUsedAt": row["used_at"],
        "address": data.get("address", ""),
        "userAgent": data.get("userAgent", ""),
        "strategy": data.get("strategy", ""),
        "amr": row["amr"] or [],
        "authenticatedAt": row["authenticated_at"],
        "current": row["id"] == current_id,
    }
    if "secondFactor" in data:
        source["secondFactor"] = data["secondFactor"]
    return {"_id": row["id"], "_source": source}


# Keys whose sockets are notified at once; those of further ones learn it at their next request.
_MAX_KEYS = 1000


async def ends_of(storage: Storage, kuid: str, now_ms: int) -> list[Change]:
    """Return the changes that revoke a user's sessions and one-time tokens, and notify the sockets
    that use one of their API keys."""
    changes = [*end_all(kuid, now_ms), DeleteAll(Table.ONE_TIME, {"kuid": kuid})]
    for key in await storage.find(Table.API_KEYS, limit=_MAX_KEYS, kuid=kuid):
        changes.append(JournalEvent(EventKind.API_KEY, cast(bytes, key["token_hash"]).hex()))
    return changes
