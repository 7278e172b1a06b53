"""`manykeys keys` command: list, rotate and retire signing keys, also while servers use them.

Each function returns the text to print, once every running server has applied the change.
"""

import asyncio
from typing import cast

from protocol.errors import LocalError
from server.auth.sessions.keyring import (
    JOURNAL_S,
    MOST_KEYS,
    SETTLE_S,
    Signing,
    add_key,
    newest_of,
    read_keys,
)
from server.auth.sessions.signing_key import load_configured
from server.cli.output import write_table
from server.core.ids import is_id
from server.core.text import printable
from server.core.timestamps import write_time
from server.storage.base import Change, EventKind, JournalEvent, Missing, Present, Storage, Update
from server.storage.rows import Row, Table

_MAX_LISTED = 10_000
_HEADINGS = ("KID", "ALGORITHM", "CREATED", "STATE")
_ERASED = ""
_NO_KEY = "{} is not a key that can be retired: see manykeys keys list"
_READING_S = 0.1
"""A generous estimate of the time a server needs to reload its keys after a notification."""


async def list_keys(storage: Storage, signing: Signing) -> str:
    """Return a table of all keys, oldest first, without their secrets."""
    rows = await storage.find(Table.SIGNING_KEYS, limit=_MAX_LISTED)
    rows.sort(key=lambda row: (cast(int, row["created_at"]), cast(str, row["kid"])))
    signer = await _find_signer(storage, signing)
    lines = [_describe(row, signer) for row in rows]
    if signing.secret is not None:
        kid = load_configured(signing.algorithm, signing.secret).kid
        lines.append((kid, signing.algorithm, "-", "signs (security.authToken.secret)"))
    return write_table(_HEADINGS, lines)


async def rotate(storage: Storage, signing: Signing, now_ms: int) -> str:
    """Add a key of the configured algorithm; LocalError if a configured secret signs."""
    if signing.secret is not None:
        raise LocalError("tokens are signed with security.authToken.secret: change that setting")
    keys = await read_keys(storage)
    if len(keys) >= MOST_KEYS:
        raise LocalError(f"there are {MOST_KEYS} keys: retire some first")
    # Clocks may be set back; the newest key is the one that signs.
    newest_ms = max((key.created_at_ms for key in keys), default=0)
    kid = await add_key(storage, signing.algorithm, max(now_ms, newest_ms + 1))
    await asyncio.sleep(JOURNAL_S + _READING_S + SETTLE_S)
    return f"key {kid} ({signing.algorithm}) signs from now on; older keys verify until retired"


async def retire(storage: Storage, signing: Signing, kid: str, now_ms: int) -> str:
    """Retire a key and erase its secret; LocalError if tokens are signed with it, or for an unknown
    key."""
    if signing.secret is not None and load_configured(signing.algorithm, signing.secret).kid == kid:
        raise LocalError(f"key {kid} is security.authToken.secret: change that setting")
    signer = await _find_signer(storage, signing)
    if not is_id(kid):
        raise LocalError(_NO_KEY.format(printable(kid)))
    if signer == kid:
        raise LocalError(f"key {kid} signs the tokens: run manykeys keys rotate first")
    ended: Row = {"retired_at": now_ms, "secret": _ERASED}
    changes: list[Change] = [
        Present(Table.SIGNING_KEYS, {"kid": kid, "retired_at": None}),
        Update(Table.SIGNING_KEYS, {"kid": kid}, ended),
        JournalEvent(EventKind.SIGNING_KEYS, kid),
    ]
    if signer is not None:
        changes.append(Present(Table.SIGNING_KEYS, {"kid": signer, "retired_at": None}))
    try:
        await storage.apply(changes)
    except Missing:
        raise LocalError(_NO_KEY.format(kid)) from None
    await asyncio.sleep(JOURNAL_S)
    return f"key {kid} is retired; sessions and API keys signed with it are rejected from now on"


async def _find_signer(storage: Storage, signing: Signing) -> str | None:
    """Return the kid of the stored key that must stay: None while a configured secret signs.

    Without one of the configured algorithm it is the newest of all: servers that were not started
    since the setting changed sign with it.
    """
    if signing.secret is not None:
        return None
    keys = await read_keys(storage)
    signer = newest_of(keys, signing.algorithm) or newest_of(keys)
    return None if signer is None else signer.kid


def _describe(row: Row, signer: str | None) -> tuple[str, ...]:
    kid, retired_at = cast(str, row["kid"]), cast("int | None", row["retired_at"])
    if retired_at is not None:
        state = f"retired {write_time(retired_at)}"
    else:
        state = "signs" if kid == signer else "verifies"
    created = write_time(cast(int, row["created_at"]))
    return kid, cast(str, row["algorithm"]), created, state
