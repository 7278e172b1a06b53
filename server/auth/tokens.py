"""Session tokens: issued, verified, revoked (contract/02 §1; design §4).

A token that was verified once is live: until it expires or the journal drops it, it costs a look-up
in memory, no signature and no SQL. Stored is the SHA-256 of the token, never the token.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast
from weakref import WeakValueDictionary

from protocol.errors import error
from server.auth.callers import STALE, Caller, Person, TokenKind
from server.auth.keyring import Keyring
from server.auth.names import ANONYMOUS_ID
from server.auth.rights import Rulebook
from server.auth.users import User, Users
from server.durations import parse_duration_ms
from server.storage.base import (
    Change,
    Delete,
    DeleteAll,
    Entry,
    Insert,
    Missing,
    Note,
    Noted,
    Present,
    Row,
    Storage,
    Table,
)

NEVER = -1
"""A lifetime or an expiry on the wire: without end."""
SESSION_PREFIX, API_KEY_PREFIX = "kauth-", "kapikey-"
_MOST_TOKEN_CHARACTERS = 8192
_MOST_LIFETIME_MS = 1000 * 365 * 24 * 3600 * 1000
_SWEPT_AT_ONCE = 1000
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """`default_ttl_ms` and `max_ttl_ms` of a session (-1: without end, without limit); `live`
    tokens kept in memory; `prefix` is written before every token given out."""

    default_ttl_ms: int = 3_600_000
    max_ttl_ms: int = NEVER
    live: int = 100_000
    prefix: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A new token with its lifetime in ms and its end in ms since 1970, both -1 without end."""

    kuid: str
    token: str
    expires_at_ms: int
    ttl_ms: int


class Tokens:
    """All that is known of tokens, in memory and in the store."""

    def __init__(
        self,
        storage: Storage,
        users: Users,
        rulebook: Rulebook,
        key: Keyring,
        limits: TokenLimits,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._users = users
        self._rulebook = rulebook
        self._key = key
        self._limits = limits
        self._clock_ms = clock_ms
        self._live: dict[str | None, Caller] = {}
        self._tokens: dict[bytes, str] = {}  # token hash → live token
        self._tokens_of: dict[str, set[str]] = {}  # kuid → his live tokens
        self._people: WeakValueDictionary[str, Person] = WeakValueDictionary()
        # Grows with every journal entry. What was read before an entry and is kept after it could
        # be what the entry says is no longer so; whoever reads to keep compares before and after.
        self._epoch = 0

    def live(self, token: str | None) -> Caller | None:
        """Give who a token stands for if that is known without waiting; None stands for
        anonymous."""
        caller = self._live.get(token)
        if (
            caller is not None
            and caller.person.generation == self._rulebook.generation
            and self._clock_ms() < caller.expires_at_ms
        ):
            return caller
        return None

    async def verify(self, token: str | None) -> Caller:
        """Give who a token stands for, or raise 401 `security.token.invalid`; a single-use token is
        used up."""
        if token is None:
            return self.live(None) or await self._verify_anonymous()
        if len(token) > _MOST_TOKEN_CHARACTERS:
            raise error("security.token.invalid")
        token = token.removeprefix(SESSION_PREFIX)
        caller = self.live(token) or await self._verify_again(token)
        return caller or await self._verify_session(token)

    async def issue(
        self, user: User, ttl_ms: int, *, single_use: bool = False, shown: Row | None = None
    ) -> Issued:
        """Make and store a token for a user; `shown` is what the list of his sessions tells about
        it.

        401 if the user is gone or disabled by the time it is stored.
        """
        now_ms, kuid = self._clock_ms(), user.kuid
        jti = secrets.token_urlsafe(16)
        claims: dict[str, object] = {"_id": kuid, "iat": now_ms // 1000}
        if ttl_ms != NEVER:
            claims["exp"] = now_ms // 1000 + ttl_ms // 1000
        token = self._key.sign({**claims, "jti": jti})
        row: Row = {
            "token_hash": hash_token(token),
            "id": jti,
            "kuid": kuid,
            "created_at": now_ms,
            "expires_at": None if ttl_ms == NEVER else now_ms + ttl_ms,
            "ttl": ttl_ms,
            "single_use": int(single_use),
            "refreshed_at": None,
            "family": jti,
            "started_at": now_ms,
            "used_at": now_ms,
            "data": shown or {},
        }
        changes: list[Change] = [Insert(Table.SESSIONS, row)]
        if kuid != ANONYMOUS_ID:
            changes.insert(0, Present(Table.USERS, {"kuid": kuid, "disabled": 0}))
        try:
            await self._storage.apply(changes)
        except Missing:
            raise error("security.token.invalid") from None
        return Issued(
            kuid,
            self._limits.prefix + token,
            NEVER if ttl_ms == NEVER else now_ms + ttl_ms,
            ttl_ms,
        )

    async def revoke(self, caller: Caller) -> None:
        """End one session; no error if it is over already."""
        try:
            await self._storage.apply(
                [
                    Delete(Table.SESSIONS, {"token_hash": caller.token_hash}),
                    Note(Noted.SESSION, caller.token_hash.hex()),
                ]
            )
        except Missing:
            self._drop(caller.token_hash)

    async def revoke_all(self, kuid: str) -> None:
        """End every session of a user; his API keys stay."""
        await self._storage.apply(
            [DeleteAll(Table.SESSIONS, {"kuid": kuid}), Note(Noted.SESSIONS, kuid)]
        )

    async def revoke_others(self, caller: Caller) -> None:
        """End every session of the caller's but the one he asks with; his API keys stay."""
        own = await self._storage.get(Table.SESSIONS, token_hash=caller.token_hash)
        changes: list[Change] = [DeleteAll(Table.SESSIONS, {"kuid": caller.kuid})]
        if own is not None:
            changes.append(Insert(Table.SESSIONS, own))
        await self._storage.apply([*changes, Note(Noted.SESSIONS, caller.kuid)])

    async def sweep(self) -> None:
        """Forget sessions that have expired, a bounded number at a time."""
        ended = {"expires_at": self._clock_ms()}
        await self._storage.apply([DeleteAll(Table.SESSIONS, {}, below=ended, most=_SWEPT_AT_ONCE)])

    def lifetime_ms(self, wanted: object) -> int:
        """Read a wanted lifetime (contract/02 §1.3): ms, text such as "2h", -1 for no end, nothing
        for the default."""
        if wanted is None or wanted == "" or (wanted == 0 and not isinstance(wanted, str)):
            ttl_ms = self._limits.default_ttl_ms
        else:
            ttl_ms = read_lifetime(wanted)
        most_ms = self._limits.max_ttl_ms
        if most_ms != NEVER and (ttl_ms == NEVER or ttl_ms > most_ms):
            raise error("security.token.ttl_exceeded")
        return ttl_ms

    def notice(self, entries: Sequence[Entry]) -> None:
        """Drop what journal entries say is no longer so."""
        for entry in entries:
            self._epoch += 1
            if entry.noted in (Noted.SESSION, Noted.API_KEY):
                self._drop(bytes.fromhex(entry.subject))
            elif entry.noted is Noted.SESSIONS:
                self._drop_sessions(entry.subject)
            elif entry.noted is Noted.USER:
                person = self._people.pop(entry.subject, None)
                if person is not None:
                    person.generation = STALE

    def forget_all(self) -> None:
        """Drop every live token, so that each is verified again when it comes."""
        for token_hash in list(self._tokens):
            self._drop(token_hash)

    async def _verify_anonymous(self) -> Caller:
        caller = Caller(await self._person(ANONYMOUS_ID))
        self._live[None] = caller
        return caller

    async def _verify_again(self, token: str) -> Caller | None:
        """Go on with a live token whose user or rights may have changed: he is read again, the
        session is not."""
        caller = self._live.get(token)
        if caller is None:
            return None
        if caller.expires_at_ms <= self._clock_ms():
            self._drop(caller.token_hash)
            return None
        person = await self._person(caller.kuid)
        if self._live.get(token) is not caller:
            return None
        caller.person = person
        return caller

    async def _verify_session(self, token: str) -> Caller:
        while True:
            epoch = self._epoch
            # The signature keeps made-up tokens away from the store; the claims themselves decide
            # nothing.
            if not _TOKEN.fullmatch(token) or self._key.read(token) is None:
                raise error("security.token.invalid")
            row = await self._storage.get(Table.SESSIONS, token_hash=hash_token(token))
            if row is None or is_over(row, self._clock_ms()):
                raise error("security.token.invalid")
            if row["single_use"]:
                await self._use_up(row)
                return await self._session_caller(row)
            caller = await self._session_caller(row)
            if epoch == self._epoch:
                self._keep(token, caller)
                return caller

    async def _use_up(self, row: Row) -> None:
        try:
            await self._storage.apply([Delete(Table.SESSIONS, {"token_hash": row["token_hash"]})])
        except Missing:
            raise error("security.token.invalid") from None

    async def _session_caller(self, row: Row) -> Caller:
        ends = cast("int | None", row["expires_at"])
        return Caller(
            await self._person(cast(str, row["kuid"])),
            TokenKind.SINGLE_USE if row["single_use"] else TokenKind.SESSION,
            token_hash=cast(bytes, row["token_hash"]),
            session_id=cast(str, row["id"]),
            expires_at_ms=float("inf") if ends is None else ends,
        )

    async def _person(self, kuid: str) -> Person:
        """Give a user with his rights; 404 `security.user.not_found` if he vanished, 401 if he is
        disabled."""
        while True:
            person = self._people.get(kuid)
            if person is not None and person.generation == self._rulebook.generation:
                return person
            epoch, generation = self._epoch, self._rulebook.generation
            user = await self._users.get(kuid)
            if user is None:
                raise error("security.user.not_found", kuid)
            if user.is_disabled:
                raise error("security.token.invalid")
            rights = await self._rulebook.rights_of(user.profile_ids)
            if epoch == self._epoch and generation == self._rulebook.generation:
                self._people[kuid] = person = Person(user, rights, generation)
                return person

    def _keep(self, token: str, caller: Caller) -> None:
        live = self._live
        while len(live) >= self._limits.live:
            oldest = next(held for held in live.values() if held.token_hash)
            self._drop(oldest.token_hash)
        live[token] = caller
        self._tokens[caller.token_hash] = token
        self._tokens_of.setdefault(caller.kuid, set()).add(token)

    def _drop(self, token_hash: bytes) -> None:
        token = self._tokens.pop(token_hash, None)
        if token is None:
            return
        kuid = self._live.pop(token).kuid
        his = self._tokens_of[kuid]
        his.discard(token)
        if not his:
            del self._tokens_of[kuid]

    def _drop_sessions(self, kuid: str) -> None:
        for token in list(self._tokens_of.get(kuid, ())):
            caller = self._live[token]
            if caller.kind is not TokenKind.API_KEY:
                self._drop(caller.token_hash)


def is_over(row: Row, now_ms: int) -> bool:
    """Tell whether a stored session or key has reached its end."""
    ends = cast("int | None", row["expires_at"])
    return ends is not None and ends <= now_ms


def hash_token(token: str) -> bytes:
    """Give what is stored of a token: the SHA-256 of its text."""
    return hashlib.sha256(token.encode()).digest()


def read_lifetime(wanted: object) -> int:
    """Give a lifetime in whole ms, -1 for no end; 400 `api.assert.invalid_argument` for anything
    else."""
    if isinstance(wanted, str):
        parsed = parse_duration_ms(wanted)
    elif isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        parsed = wanted
    else:
        parsed = None
    if parsed == NEVER:
        return NEVER
    if parsed is None or not 1 <= parsed <= _MOST_LIFETIME_MS:
        raise error(
            "api.assert.invalid_argument", "expiresIn", 'milliseconds, or text such as "2h"'
        )
    return int(parsed)
