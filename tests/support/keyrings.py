"""Stores, keyrings and tokens for the tests of signing keys."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from server.auth.sessions.keyring import Keyring, Signing, open_keyring
from server.storage.base import Entry, EventKind, JournalEvent, Storage, Update
from server.storage.rows import Row, Table
from server.storage.sqlite.storage import SqliteStorage

ALGORITHMS = ("HS256", "HS384", "HS512", "ES256", "RS256", "EdDSA")
ASYMMETRIC = ("ES256", "RS256", "EdDSA")
SECRET = "a configured secret that has more than sixty-four bytes, as HS512 wants it"
OTHER_SECRET = SECRET.replace("a ", "another ", 1)
CLAIMS: dict[str, object] = {"_id": "ann", "iat": 1_700_000_000, "exp": 1_700_003_600, "jti": "x"}
NOW_MS = 1_700_000_000_000


def clock_ms() -> int:
    """Give a fixed time."""
    return NOW_MS


def encode(data: bytes | dict[str, object]) -> str:
    """Give base64url as RFC 7515 §2 has it, of bytes or of an object's JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(segment: str) -> dict[str, object]:
    """Read the header or the payload of a token."""
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def kid_of(token: str) -> object:
    """Give the kid a token names."""
    return decode(token.partition(".")[0])["kid"]


@asynccontextmanager
async def opened(path: str = ":memory:") -> AsyncIterator[SqliteStorage]:
    """Open a store for a block."""
    storage = SqliteStorage(path, clock_ms=clock_ms)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


@asynccontextmanager
async def following(storage: Storage, signing: Signing) -> AsyncIterator[Keyring]:
    """Open a keyring that follows the store, as the one of a server does."""
    keyring = await open_keyring(storage, signing, clock_ms=clock_ms)

    def follow(entries: Sequence[Entry]) -> None:
        keyring.notice(entries)

    storage.follow(follow)
    chore = asyncio.create_task(keyring.keep_fresh())
    try:
        yield keyring
    finally:
        chore.cancel()
        await asyncio.gather(chore, return_exceptions=True)


async def stored_keys(storage: Storage) -> list[Row]:
    """Give all stored keys, retired ones too."""
    return await storage.find(Table.SIGNING_KEYS, limit=100)


async def retire(storage: Storage, kid: object) -> None:
    """Retire a key, whichever it is."""
    ended = Update(Table.SIGNING_KEYS, {"kid": kid}, {"retired_at": NOW_MS, "secret": ""})
    await storage.apply([ended, JournalEvent(EventKind.SIGNING_KEYS, str(kid))])
