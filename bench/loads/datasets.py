"""Stores filled with many users and sessions, before a server works on them.

Rows go in through the storage interface, as the server writes them, with two savings: all users
share one password hash, and most sessions have a hash that no known token gives. The users have a
profile of their own: the default one allows a user so few requests a second that no load could tell
anything.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from server.auth.passwords.hasher import PasswordHasher
from server.auth.sessions.keyring import Keyring, Signing, open_keyring
from server.core.secrets import hash_token
from server.storage.base import Change, Insert
from server.storage.rows import Row, Table
from server.storage.sqlite.storage import SqliteStorage

PASSWORD = "the same long Passphrase for 1 and all"
_CHANGES_AT_ONCE = 20_000
_LIFE_MS = 24 * 3600 * 1000
_HASH_BYTES = 32
_PROFILE = "bench"


@dataclass(frozen=True, slots=True)
class Session:
    """A stored session whose token is known."""

    kuid: str
    token: str


@dataclass(frozen=True, slots=True)
class Writing:
    """What rows are made with; `hashed` is the stored form of `PASSWORD`."""

    keyring: Keyring
    hashed: str
    now_ms: int

    def profile(self) -> Change:
        """Give the profile of all users: the rights of the default one, without its limit."""
        body: Row = {"policies": [{"roleId": "default"}], "rateLimit": 0}
        return Insert(Table.PROFILES, {"id": _PROFILE, "body": body, "info": self._info()})

    def user(
        self, kuid: str, *, is_disabled: bool = False, has_password: bool = True
    ) -> list[Change]:
        """Give a user who logs in with his kuid and `PASSWORD`."""
        user: Row = {
            "kuid": kuid,
            "profile_ids": [_PROFILE],
            "content": {"name": kuid},
            "info": self._info(),
            "disabled": int(is_disabled),
        }
        changes: list[Change] = [
            Insert(Table.USERS, user),
            Insert(Table.USER_PROFILES, {"kuid": kuid, "profile_id": _PROFILE}),
        ]
        if has_password:
            credentials: Row = {
                "strategy": "local",
                "id": kuid,
                "kuid": kuid,
                "data": {"hash": self.hashed, "updater": "-1"},
                "created_at": self.now_ms,
                "updated_at": None,
            }
            changes.append(Insert(Table.CREDENTIALS, credentials))
        return changes

    def sign(self, kuid: str, session_id: str) -> Session:
        """Give a token as a login makes it."""
        claims: dict[str, object] = {"_id": kuid, "iat": self.now_ms // 1000}
        claims |= {"exp": (self.now_ms + _LIFE_MS) // 1000, "jti": session_id}
        return Session(kuid, self.keyring.sign(claims))

    def session(self, kuid: str, session_id: str, token_hash: bytes) -> Change:
        """Give the row of a session."""
        row: Row = {
            "token_hash": token_hash,
            "id": session_id,
            "kuid": kuid,
            "created_at": self.now_ms,
            "expires_at": self.now_ms + _LIFE_MS,
            "ttl": _LIFE_MS,
            "single_use": 0,
            "refreshed_at": None,
            "family": session_id,
            "started_at": self.now_ms,
            "used_at": self.now_ms,
            "data": {"address": "127.0.0.1", "strategy": "local", "userAgent": "bench"},
            "amr": ["local"],
            "authenticated_at": self.now_ms,
        }
        return Insert(Table.SESSIONS, row)

    def _info(self) -> Row:
        return {"author": "-1", "createdAt": self.now_ms, "updatedAt": None, "updater": None}


def fill(path: Path, make_changes: Callable[[Writing], Iterator[Change]], *, cost: int) -> None:
    """Add rows to a store that a server has used before and uses no more; `cost` is bcrypt's."""
    asyncio.run(_fill(path, make_changes, cost))


async def _fill(path: Path, make_changes: Callable[[Writing], Iterator[Change]], cost: int) -> None:
    passwords = PasswordHasher(cost=cost, threads=1, queue=1)
    storage = SqliteStorage(str(path), clock_ms=_now_ms)
    await storage.open()
    try:
        keyring = await open_keyring(storage, Signing(), clock_ms=_now_ms)
        writing = Writing(keyring, await passwords.hash(PASSWORD), _now_ms())
        changes = chain([writing.profile()], make_changes(writing))
        while some := list(islice(changes, _CHANGES_AT_ONCE)):
            await storage.apply(some)
    finally:
        await storage.close()
        passwords.close()


def crowd(
    writing: Writing, *, users: int, sessions: int, known: list[Session], wanted: int
) -> Iterator[Change]:
    """Give users `user-…` and their sessions, spread evenly over them; so are the `wanted` ones
    whose tokens are added to `known`.

    Rows come in the order of their keys: the trees are those of any order, filled sooner.
    """
    for number in range(users):
        yield from writing.user(_kuid(number))
    for number in range(sessions):
        kuid = _kuid(number * users // sessions)
        token_hash = (number * (1 << 8 * _HASH_BYTES) // sessions).to_bytes(_HASH_BYTES)
        session_id = f"session-{number:012}"
        if number * wanted // sessions < (number + 1) * wanted // sessions:
            known.append(writing.sign(kuid, session_id))
            token_hash = hash_token(known[-1].token)
        yield writing.session(kuid, session_id, token_hash)


def _kuid(number: int) -> str:
    return f"user-{number:012}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
