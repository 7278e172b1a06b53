"""Keyring: all keys that sign and verify tokens, in memory, in step with the store.

The newest key of the configured algorithm signs, or the configured secret; every key that is not
retired verifies.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import orjson

from protocol.errors import LocalError
from server.auth.sessions.signing_key import (
    SigningKey,
    load_configured,
    load_stored,
    make_kid,
    make_secret,
)
from server.storage.base import (
    Absent,
    Change,
    DeleteAll,
    Entry,
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Put,
    Storage,
    Unavailable,
)
from server.storage.rows import Row, Table

_LOG = logging.getLogger("manykeys.keys")
MOST_KEYS = 100
"""Keys that verify at a time."""
JOURNAL_S = 0.1
"""What `Storage.follow` promises: every server has heard of a change by then."""
SETTLE_S = 2 * JOURNAL_S
"""How long a new key only verifies: no server signs with it before all others can verify it."""
_RETRY_S = 1.0
_MAX_HEADER_CHARACTERS = 512
_MAX_UNKNOWN = 1024
"""Headers that are remembered as unknown."""
FIND_PAUSE_S = 0.05
"""Minimum time between two reads of the store for unknown keys, however many forged tokens come."""
_LAST_SECRET = "tokenSecretKid"  # noqa: S105  (the name of a setting)


@dataclass(frozen=True, slots=True, repr=False)
class Signing:
    """How tokens are signed; `issuer` and `audience` become claims unless they are empty."""

    algorithm: str = "HS256"
    secret: str | None = None
    issuer: str = ""
    audience: str = ""


class Keyring:
    """Signs claims and verifies what it signed."""

    def __init__(self, storage: Storage, signing: Signing, *, clock_ms: Callable[[], int]) -> None:
        self._storage = storage
        self._algorithm = signing.algorithm
        self._clock_ms = clock_ms
        named = {"iss": signing.issuer, "aud": signing.audience}
        self._named = {claim: value for claim, value in named.items() if value}
        self._configured = (
            None if signing.secret is None else load_configured(signing.algorithm, signing.secret)
        )
        self._keys: dict[str, SigningKey] = {}  # by the header their tokens have
        self._signer: SigningKey | None = None
        self._is_stale = asyncio.Event()
        self._changes = 0  # how often the journal reported changed keys
        self._unknown: set[str] = set()  # headers that no stored key has
        self._finding: asyncio.Task[None] | None = None  # has not begun to read
        self._found_at_s = 0.0

    async def load(self) -> None:
        """Read the keys, creating one if there is none to sign with. LocalError if one cannot be
        read.

        All sessions are revoked if the configured secret is not the one of the last start.
        """
        await self._revoke_other_secret()
        self._signer = await self._read()
        self._is_stale.set()  # journal entries before anyone listens are in the store only

    def sign(self, claims: dict[str, object]) -> str:
        """Return a token with these claims."""
        if self._signer is None:
            raise LocalError("the signing keys are not loaded")
        return self._signer.sign(orjson.dumps(claims | self._named))

    def read(self, token: str) -> dict[str, object] | None:
        """Return the claims of a token of this server, None for any other string; the expiry is not
        checked."""
        key = self._keys.get(token.partition(".")[0])
        payload = None if key is None else key.open(token)
        if payload is None:
            return None
        try:
            claims = orjson.loads(payload)
        except ValueError:
            return None
        return claims if self._is_sound(claims) else None

    async def find_key(self, token: str) -> bool:
        """Return whether the store has a key for a token whose key is not known here: another
        process may have created it a moment ago. However many ask, the store is read once per
        `FIND_PAUSE_S` at most, and for the same header not again until keys change."""
        header = token.partition(".")[0]
        if header in self._keys or header in self._unknown or len(header) > _MAX_HEADER_CHARACTERS:
            return header in self._keys
        if self._finding is None:
            self._finding = asyncio.create_task(self._find_keys(), name="find keys")
        await asyncio.shield(self._finding)
        if header not in self._keys and len(self._unknown) < _MAX_UNKNOWN:
            self._unknown.add(header)
        return header in self._keys

    async def _find_keys(self) -> None:
        """Add the keys of the store; callers that ask once the read has begun need a further
        one."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._found_at_s + FIND_PAUSE_S - loop.time()))
        self._found_at_s, self._finding = loop.time(), None
        while True:
            changes = self._changes
            stored = await read_keys(self._storage)
            if changes == self._changes:
                break  # else a key that was read may have been retired since
        known = {key.header: key for key in stored}
        if self._configured is not None:
            known[self._configured.header] = self._configured
        self._keys |= known

    def public_keys(self) -> dict[str, list[dict[str, str]]]:
        """Return the JSON Web Key Set for services that verify the tokens (RFC 7517 §5)."""
        keys = (key.public_jwk() for key in self._keys.values())
        return {"keys": [key for key in keys if key is not None]}

    def notice(self, entries: Sequence[Entry]) -> bool:
        """Process journal entries; True if a key that verified tokens may be retired.

        Such a key verifies nothing until `keep_fresh` has read that it is still valid.
        """
        kids = {entry.subject for entry in entries if entry.noted is EventKind.SIGNING_KEYS}
        is_lost = any(entry.noted is EventKind.LOST for entry in entries)
        if not kids and not is_lost:
            return False
        self._is_stale.set()
        self._changes += 1
        self._unknown.clear()
        if is_lost:
            self._keys.clear()
            return True
        doubtful = [header for header, key in self._keys.items() if key.kid in kids]
        for header in doubtful:
            del self._keys[header]
        return bool(doubtful)

    async def keep_fresh(self) -> None:
        """Read the keys again each time the journal says they changed, until cancelled."""
        while True:
            await self._is_stale.wait()
            try:
                newest = await self._read()
                await self._settle(newest)
                if not self._is_stale.is_set():
                    self._signer = newest
            except (Unavailable, LocalError) as reason:
                _LOG.warning("cannot read the signing keys: %s", reason)
                self._is_stale.set()
                await asyncio.sleep(_RETRY_S)

    async def _settle(self, newest: SigningKey) -> None:
        """Wait until every server can verify with a new key, or until the keys change again.

        A retired key is replaced at once.
        """
        signer = self._signer
        if signer is not None and signer.header in self._keys and signer.kid != newest.kid:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_stale.wait(), SETTLE_S)

    def _is_sound(self, claims: object) -> bool:
        """Return whether claims have the types this server writes, even if another program signed
        them with its secret."""
        return (
            isinstance(claims, dict)
            and type(claims.get("_id")) is str
            and type(claims.get("iat")) is int
            and type(claims.get("exp", 0)) is int
            and all(claims.get(claim) == value for claim, value in self._named.items())
        )

    async def _read(self) -> SigningKey:
        """Load the stored keys and return the one to sign with from now on."""
        while True:
            self._is_stale.clear()
            stored = await read_keys(self._storage)
            signer = self._configured or newest_of(stored, self._algorithm)
            if signer is None:
                with suppress(Exists):  # another process was faster
                    await add_key(self._storage, self._algorithm, self._clock_ms(), only_first=True)
            elif not self._is_stale.is_set():
                self._keys = {key.header: key for key in (*stored, signer)}
                return signer

    async def _revoke_other_secret(self) -> None:
        """Revoke all sessions if the configured secret changed; API keys only stop verifying."""
        row = await self._storage.get(Table.SETTINGS, name=_LAST_SECRET)
        last = None if row is None else row["value"]
        kid = None if self._configured is None else self._configured.kid
        if kid == last:
            return
        changes: list[Change] = [Put(Table.SETTINGS, {"name": _LAST_SECRET, "value": kid})]
        if isinstance(last, str):
            changes += [DeleteAll(Table.SESSIONS, {}), JournalEvent(EventKind.SIGNING_KEYS, last)]
            _LOG.warning("security.authToken.secret has changed: all sessions are revoked")
        await self._storage.apply(changes)


async def open_keyring(
    storage: Storage, signing: Signing, *, clock_ms: Callable[[], int]
) -> Keyring:
    """Return the loaded keys of an open store; LocalError if they or the settings are not valid."""
    keyring = Keyring(storage, signing, clock_ms=clock_ms)
    await keyring.load()
    return keyring


async def read_keys(storage: Storage) -> list[SigningKey]:
    """Return the stored keys that are not retired; LocalError if one cannot be read."""
    rows = await storage.find(Table.SIGNING_KEYS, limit=MOST_KEYS, retired_at=None)
    return await asyncio.to_thread(lambda: [_load(row) for row in rows])  # RSA keys take a while


def _load(row: Row) -> SigningKey:
    return load_stored(
        cast(str, row["kid"]),
        cast(str, row["algorithm"]),
        cast(str, row["secret"]),
        cast(int, row["created_at"]),
    )


def newest_of(keys: Iterable[SigningKey], algorithm: str | None = None) -> SigningKey | None:
    """Return the newest key of an algorithm, or of any; None if there is none."""
    fitting = (key for key in keys if algorithm in (key.algorithm, None))
    return max(fitting, key=lambda key: (key.created_at_ms, key.kid), default=None)


async def add_key(
    storage: Storage, algorithm: str, now_ms: int, *, only_first: bool = False
) -> str:
    """Create and store a key and return its kid.

    With `only_first`, `Exists` if its algorithm has one already.
    """
    row: Row = {
        "kid": make_kid(),
        "algorithm": algorithm,
        "secret": await asyncio.to_thread(make_secret, algorithm),
        "created_at": now_ms,
        "retired_at": None,
    }
    kid = cast(str, row["kid"])
    changes: list[Change] = [
        Insert(Table.SIGNING_KEYS, row),
        JournalEvent(EventKind.SIGNING_KEYS, kid),
    ]
    if only_first:
        first = Absent(Table.SIGNING_KEYS, {"algorithm": algorithm, "retired_at": None})
        changes.insert(0, first)
    await storage.apply(changes)
    return kid
