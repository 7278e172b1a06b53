"""Token authentication: verify, cache and revoke session tokens and API keys.

A token that was verified once is live: until it expires or the journal drops it, it costs a look-up
in memory, no signature and no SQL. Only the SHA-256 of the token is stored, never the token.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Protocol, cast
from weakref import WeakValueDictionary

from protocol.errors import ApiError, error
from server.auth.access.permissions import PermissionCompiler
from server.auth.assurance import STEP_UP, UNPROVEN, Assurance, AssuranceRules
from server.auth.audit.events import NOWHERE, Ending, Line, Source, carry
from server.auth.identity.user import User
from server.auth.sessions.keyring import Keyring
from server.auth.sessions.known_devices import revoke_devices
from server.auth.sessions.lifetimes import TokenPolicy
from server.auth.sessions.principal import STALE, Caller, Person, TokenKind
from server.auth.sessions.sessions import (
    KEY_PARENT,
    end_all,
    end_created_with,
    parent_key,
    read_assurance,
    revocations,
)
from server.auth.sessions.token_forms import is_over
from server.core.durations import NEVER
from server.core.ids import ANONYMOUS_ID
from server.core.secrets import API_KEY_PREFIX, SESSION_PREFIX, hash_token
from server.storage.base import (
    Change,
    Delete,
    DeleteAll,
    Entry,
    EventKind,
    Missing,
    Present,
    Storage,
    Update,
)
from server.storage.rows import Row, Table

_MAX_TOKEN_CHARACTERS = 8192
_SWEPT_AT_ONCE = 1000
_ENDED_AT_ONCE = 1000
_WRITTEN_AT_ONCE = 200
# Of sessions that were all revoked at once: other requests are answered in between.
_FORGOTTEN_AT_ONCE = 25
_PAUSE_S = 0.001
# How far the stored last use of a session may lag behind: a tenth of the idle timeout, or, where
# only the list of sessions shows it, an hour. At a million sessions in use a minute's precision
# would be 17,000 writes a second.
_IDLE_SHARE = 10
_SHOWN_PRECISION_MS = 3_600_000
REUSED = "token:reused"
"""The kind of the audit event when a refreshed token is used after its grace period."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class UserSource(Protocol):
    """Where the owners of tokens are read."""

    async def get(self, kuid: str) -> User | None:
        """Return a user, None for one that does not exist."""


class Tokens:
    """All tokens, in memory and in the store."""

    def __init__(
        self,
        storage: Storage,
        users: UserSource,
        rulebook: PermissionCompiler,
        key: Keyring,
        limits: TokenPolicy,
        step_up: AssuranceRules,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._freshness = storage.freshness
        self._users = users
        self._rulebook = rulebook
        self._key = key
        self._limits = limits
        self._step_up = step_up
        self._clock_ms = clock_ms
        self._live: dict[str | None, Caller] = {}
        self._tokens: dict[bytes, str] = {}  # token hash → live token
        self._sessions_of: dict[str, set[bytes]] = {}  # kuid → hashes of its live session tokens
        # Hashes of live tokens whose users' sessions were all revoked.
        self._revoked: list[set[bytes]] = []
        # By kuid, and whether their tokens are sufficient where a second factor is required.
        self._people: WeakValueDictionary[tuple[str, bool], Person] = WeakValueDictionary()
        # Grows with every journal entry. What was read before an entry and is kept after it could
        # be what the entry invalidates; code that reads to keep compares before and after.
        self._epoch = 0
        self._idle_ms = float("inf") if limits.idle_ms == NEVER else limits.idle_ms

    def live(self, token: str | None) -> Caller | None:
        """Return the caller of a token if it is known without waiting. The token None is the
        anonymous user's."""
        caller = self._live.get(token)
        if caller is None or caller.person.generation != self._rulebook.generation:
            return None
        if monotonic() >= self._freshness.until_s:
            return None  # another process may have revoked it: `verify` looks first
        now_ms = self._clock_ms()
        if now_ms >= caller.expires_at_ms or now_ms - caller.used_at_ms >= self._idle_ms:
            return None  # an idle anonymous caller or API key costs one more look, and stays valid
        caller.used_at_ms = now_ms
        return caller

    async def verify(
        self, token: str | None, source: Source = NOWHERE, *, is_refresh: bool = False
    ) -> Caller:
        """Return the caller of a token, or raise 401 `security.token.invalid`; a single-use token
        is used up. `source` is the client that sent it; `is_refresh` means that it asks for a
        successor: a token that already has one then revokes its whole session (see
        `_check_use`)."""
        if monotonic() >= self._freshness.until_s:
            await self._storage.catch_up()
        if token is None:
            return self.live(None) or await self._verify_anonymous()
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise error("security.token.invalid")
        is_key = token.startswith(API_KEY_PREFIX)
        if not is_key:
            token = token.removeprefix(SESSION_PREFIX)
            if token.startswith(API_KEY_PREFIX):
                raise error("security.token.invalid")  # an API key with the prefix of a session
        caller = self.live(token) or await self._verify_again(token)
        if caller is not None:
            return caller
        if is_key:
            return await self._verify_key(token)
        return await self._verify_session(token, source, is_refresh=is_refresh)

    async def revoke_all(self, kuid: str) -> None:
        """Revoke every session of a user; their API keys stay."""
        await self._storage.apply(end_all(kuid, self._clock_ms()))

    async def family_of(self, token_hash: bytes) -> str:
        """Return the family of this token's session, "" for no session."""
        own = await self._storage.get(Table.SESSIONS, token_hash=token_hash)
        return "" if own is None else cast(str, own["family"])

    async def parent_of(self, caller: Caller) -> tuple[str | None, tuple[Change, ...]]:
        """Return the `parent` of a session created with this token, and the guards that the token
        still exists when it is stored; (None, ()) without a token."""
        if caller.kind is TokenKind.API_KEY:
            key: Row = {"token_hash": caller.token_hash}
            return parent_key(caller.token_hash), (Present(Table.API_KEYS, key),)
        if caller.kind is not TokenKind.SESSION:
            return None, ()
        family = await self.family_of(caller.token_hash)
        return family, (Present(Table.SESSIONS, {"family": family}),)

    async def ends_of_others(self, kuid: str, family: str) -> list[Change]:
        """Return changes that revoke a user's sessions except this one, a limited number of them;
        their API keys stay. Empty when there are no others."""
        rows = await self._storage.find(Table.SESSIONS, limit=_ENDED_AT_ONCE, kuid=kuid)
        return revocations([row for row in rows if row["family"] != family])

    async def revoke_others(self, kuid: str, family: str) -> None:
        """Revoke every session of a user except this one, and forget their known devices; their API
        keys stay."""
        await self._storage.apply([revoke_devices(kuid, self._clock_ms())])
        while changes := await self.ends_of_others(kuid, family):
            await self._storage.apply(changes)

    async def sweep(self) -> None:
        """Delete sessions and one-time tokens that have expired, a limited number at a time."""
        ended = {"expires_at": self._clock_ms()}
        await self._storage.apply(
            [
                DeleteAll(table, {}, below=ended, most=_SWEPT_AT_ONCE)
                for table in (Table.SESSIONS, Table.ONE_TIME)
            ]
        )

    async def write_uses(self, *, is_last: bool = False) -> None:
        """Store when sessions were last used, if the stored time lags by more than its precision
        allows; all of them if this is the `is_last` time."""
        precision_ms = 1 if is_last else min(_SHOWN_PRECISION_MS, self._idle_ms / _IDLE_SHARE)
        late = [
            caller
            for caller in self._live.values()
            if caller.kind is TokenKind.SESSION
            and caller.used_at_ms - caller.written_at_ms >= precision_ms
        ]
        for at in range(0, len(late), _WRITTEN_AT_ONCE):
            # One transaction each, since one that is gone must not block the others; the store
            # commits them together.
            await asyncio.gather(
                *(self._write_use(caller) for caller in late[at : at + _WRITTEN_AT_ONCE])
            )

    async def _write_use(self, caller: Caller) -> None:
        used_at_ms = int(caller.used_at_ms)
        key: Row = {"token_hash": caller.token_hash}
        with suppress(Missing):
            await self._storage.apply([Update(Table.SESSIONS, key, {"used_at": used_at_ms})])
        caller.written_at_ms = used_at_ms

    def notice(self, entries: Sequence[Entry]) -> None:
        """Drop what journal entries invalidate."""
        for entry in entries:
            self._epoch += 1
            if entry.noted in (EventKind.SESSION, EventKind.API_KEY):
                self._drop(bytes.fromhex(entry.subject))
            elif entry.noted is EventKind.REFRESHED:
                self._drop(bytes.fromhex(entry.subject.partition(":")[0]))
            elif entry.noted is EventKind.SESSIONS:
                self._drop_sessions(entry.subject)
            elif entry.noted is EventKind.ALL_SESSIONS:
                self._drop_all_sessions(map(bytes.fromhex, entry.subject.split(":")))
            elif entry.noted is EventKind.USER:
                self._forget_person(entry.subject)
            elif entry.noted is EventKind.LOST:
                self.forget_all()

    def forget_all(self) -> None:
        """Drop every live token and every user, so that each is read again at its next request."""
        self._live, self._tokens, self._sessions_of, self._revoked = {}, {}, {}, []
        for kuid, _ in list(self._people):
            self._forget_person(kuid)

    async def _verify_anonymous(self) -> Caller:
        caller = Caller(await self._person(ANONYMOUS_ID), used_at_ms=self._clock_ms())
        self._live[None] = caller
        return caller

    async def _verify_again(self, token: str) -> Caller | None:
        """Verify a live token again whose user or rights may have changed: the user is read again,
        the session is not."""
        caller = self._live.get(token)
        if caller is None:
            return None
        now_ms = self._clock_ms()
        is_idle = caller.kind is TokenKind.SESSION and now_ms - caller.used_at_ms >= self._idle_ms
        if caller.expires_at_ms <= now_ms or is_idle:
            self._drop(caller.token_hash)
            return None
        try:
            person = await self._person(caller.kuid, caller.assurance, caller.kind)
        except ApiError:
            self._drop(caller.token_hash)
            return None
        if not self._is_kept(token, caller):
            return None
        caller.person = person
        caller.used_at_ms = now_ms
        return caller

    async def _verify_session(self, token: str, source: Source, *, is_refresh: bool) -> Caller:
        while True:
            epoch = self._epoch
            await self._check_signature(token)
            row = await self._storage.get(Table.SESSIONS, token_hash=hash_token(token))
            if row is None or is_over(row, self._clock_ms()):
                raise error("security.token.invalid")
            ends_ms = await self._check_parent(row)
            await self._check_use(row, source, is_refresh=is_refresh)
            if row["single_use"]:
                await self._use_up(row)
                return await self._session_caller(row)
            caller = await self._session_caller(row)
            caller.expires_at_ms = min(caller.expires_at_ms, ends_ms)
            if epoch == self._epoch:
                self._keep(token, caller)
                return caller

    async def _verify_key(self, token: str) -> Caller:
        while True:
            epoch = self._epoch
            await self._check_signature(token.removeprefix(API_KEY_PREFIX))
            row = await self._storage.get(Table.API_KEYS, token_hash=hash_token(token))
            if row is None or is_over(row, self._clock_ms()):
                raise error("security.token.invalid")
            kuid, kind = cast(str, row["kuid"]), TokenKind.API_KEY
            assurance = Assurance(tuple(cast("list[str] | None", row["amr"]) or ()))
            person = await self._person(kuid, assurance, kind)
            caller = _make_caller(row, person, kind, assurance, self._clock_ms())
            if epoch == self._epoch:
                self._keep(token, caller)
                return caller

    async def _check_signature(self, token: str) -> None:
        """Keep forged tokens away from the store; the claims themselves decide nothing."""
        if _TOKEN.fullmatch(token):
            if self._key.read(token) is not None:
                return
            if await self._key.find_key(token) and self._key.read(token) is not None:
                return
        raise error("security.token.invalid")

    async def _check_parent(self, row: Row) -> float:
        """Refuse a session that was created with an API key which is deleted or expired; return its
        expiry in ms since 1970, infinity for one that no key created."""
        parent = cast("str | None", row["parent"])
        if parent is None or not parent.startswith(KEY_PARENT):
            return inf
        key_hash = bytes.fromhex(parent.removeprefix(KEY_PARENT))
        key = await self._storage.get(Table.API_KEYS, token_hash=key_hash)
        if key is None or is_over(key, self._clock_ms()):
            raise error("security.token.invalid")
        ends = cast("int | None", key["expires_at"])
        return inf if ends is None else ends

    async def _check_use(self, row: Row, source: Source, *, is_refresh: bool) -> None:
        """Refuse a session that was idle for too long, and one whose grace period is over.

        In the latter case only a second refresh revokes the whole session (RFC 9700 §4.14): two
        clients act on copies of one token. Any other use, like another service's check of an old
        token, proves nothing and changes nothing.
        """
        now_ms, refreshed_at = self._clock_ms(), cast("int | None", row["refreshed_at"])
        is_idle = now_ms - cast(int, row["used_at"]) >= self._idle_ms
        is_spent = refreshed_at is not None and now_ms >= refreshed_at + self._limits.grace_ms
        if not is_idle and not is_spent:
            return
        if not is_spent or not is_refresh:
            raise error("security.token.invalid")
        line = Line(now_ms, REUSED, source=source, subject=cast(str, row["kuid"]))
        line.ending, line.reason = Ending.REFUSED, "refreshed before: its session was revoked"
        await carry(line, self._revoke_family(cast(str, row["family"])))
        raise error("security.token.invalid")

    async def _revoke_family(self, family: str) -> None:
        """Revoke a session with all its tokens, and the sessions that were created with them."""
        while rows := await self._storage.find(Table.SESSIONS, limit=_ENDED_AT_ONCE, family=family):
            # One of two clients has stolen a token: neither is a known device any more.
            forgotten = revoke_devices(cast(str, rows[0]["kuid"]), self._clock_ms())
            await self._storage.apply([*revocations(rows), forgotten])
        await end_created_with(self._storage, family)

    async def _use_up(self, row: Row) -> None:
        try:
            await self._storage.apply([Delete(Table.SESSIONS, {"token_hash": row["token_hash"]})])
        except Missing:
            raise error("security.token.invalid") from None

    async def _session_caller(self, row: Row) -> Caller:
        kind = TokenKind.SINGLE_USE if row["single_use"] else TokenKind.SESSION
        assurance = read_assurance(row)
        person = await self._person(cast(str, row["kuid"]), assurance, kind)
        caller = _make_caller(row, person, kind, assurance, self._clock_ms())
        refreshed_at = cast("int | None", row["refreshed_at"])
        if refreshed_at is not None:
            grace_ends_ms = refreshed_at + self._limits.grace_ms
            caller.expires_at_ms = min(caller.expires_at_ms, grace_ends_ms)
        return caller

    async def _person(
        self, kuid: str, assurance: Assurance = UNPROVEN, kind: TokenKind = TokenKind.NONE
    ) -> Person:
        """Return a user with the rights that a token of this assurance has; 404
        `security.user.not_found` if they no longer exist, 401 if they are disabled."""
        key = (kuid, self._step_up.is_sufficient(assurance, kind))
        while True:
            person = self._people.get(key)
            if person is not None and person.generation == self._rulebook.generation:
                return person
            epoch, generation = self._epoch, self._rulebook.generation
            user = await self._users.get(kuid)
            if user is None:
                raise error("security.user.not_found", kuid)
            if user.is_disabled:
                raise error("security.token.invalid")
            rights = await self._rulebook.rights_of(user.profile_ids)
            person = Person(user, rights, generation)
            if not key[1] and await self._step_up.is_required(kuid, user.profile_ids):
                person.rights, person.beyond = rights.limited_to(STEP_UP), rights
            if epoch == self._epoch and generation == self._rulebook.generation:
                return self._know(key, person)

    def _know(self, key: tuple[str, bool], person: Person) -> Person:
        """Return the one Person a user has for such tokens: a second one, read at the same moment,
        would never be notified of a change."""
        known = self._people.get(key)
        if known is None or known.generation != person.generation:
            self._people[key] = known = person
        return known

    def _keep(self, token: str, caller: Caller) -> None:
        while len(self._tokens) >= self._limits.live:
            self._drop(next(iter(self._tokens)))  # the oldest
        self._live[token] = caller
        self._tokens[caller.token_hash] = token
        if caller.kind is TokenKind.SESSION:
            self._sessions_of.setdefault(caller.kuid, set()).add(caller.token_hash)

    def _is_kept(self, token: str, caller: Caller) -> bool:
        """Return whether this live token has not been revoked or expired."""
        if self._live.get(token) is not caller:
            return False
        is_session = caller.kind is TokenKind.SESSION
        return not is_session or caller.token_hash in self._sessions_of.get(caller.kuid, ())

    def _drop(self, token_hash: bytes) -> None:
        token = self._tokens.pop(token_hash, None)
        if token is None:
            return
        kuid = self._live.pop(token).kuid
        hashes = self._sessions_of.get(kuid, set())
        hashes.discard(token_hash)
        if not hashes:
            self._sessions_of.pop(kuid, None)

    def _forget_person(self, kuid: str) -> None:
        """Drop the cached user: each of their tokens is verified again."""
        for is_sufficient in (True, False):
            person = self._people.pop((kuid, is_sufficient), None)
            if person is not None:
                person.generation = STALE

    def _drop_sessions(self, kuid: str) -> None:
        """Revoke a user's sessions at once, however many they are; their tokens, which are not live
        any more, are forgotten a few at a time."""
        self._forget_person(kuid)
        is_forgetting = bool(self._revoked)
        hashes = self._sessions_of.pop(kuid, None)
        if hashes:
            self._revoked.append(hashes)
        if self._revoked and not is_forgetting:
            asyncio.get_running_loop().call_soon(self._forget_some)

    def _forget_some(self) -> None:
        for _ in range(_FORGOTTEN_AT_ONCE):
            if not self._revoked:
                return
            self._drop(self._revoked[-1].pop())
            if not self._revoked[-1]:
                self._revoked.pop()
        if self._revoked:
            asyncio.get_running_loop().call_later(_PAUSE_S, self._forget_some)

    def _drop_all_sessions(self, kept: Iterable[bytes]) -> None:
        """Drop everything but these tokens at once; API keys are verified again at their next
        request."""
        tokens = [self._tokens[token_hash] for token_hash in kept if token_hash in self._tokens]
        callers = {token: self._live[token] for token in tokens}
        going_on = [one for one in callers.items() if self._is_kept(*one)]
        self._live, self._tokens, self._sessions_of, self._revoked = {}, {}, {}, []
        for token, caller in going_on:
            self._keep(token, caller)


def _make_caller(
    row: Row, person: Person, kind: TokenKind, assurance: Assurance, now_ms: int
) -> Caller:
    ends = cast("int | None", row["expires_at"])
    return Caller(
        person,
        kind,
        token_hash=cast(bytes, row["token_hash"]),
        session_id="" if kind is TokenKind.API_KEY else cast(str, row["id"]),
        expires_at_ms=float("inf") if ends is None else ends,
        used_at_ms=now_ms,
        written_at_ms=cast(int, row.get("used_at", now_ms)),
        assurance=assurance,
    )
