"""Session token issuer: creates tokens at login, on request and on refresh.

Only the SHA-256 of a token is stored, never the token. A chain of refreshes is one `family`: the
reuse of a token that was refreshed before revokes it all, since one of two clients must have stolen
it (RFC 9700 §4.14).
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.errors import error
from server.auth.assurance import UNPROVEN, Assurance
from server.auth.identity.user import User
from server.auth.sessions.keyring import Keyring
from server.auth.sessions.lifetimes import TokenPolicy
from server.auth.sessions.principal import Caller, TokenKind
from server.auth.sessions.sessions import Sessions, read_assurance
from server.auth.sessions.token_forms import owner_guard
from server.core.durations import NEVER
from server.core.outcomes import WRONG
from server.core.secrets import hash_token
from server.storage.base import (
    Change,
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Missing,
    Present,
    Storage,
    Update,
)
from server.storage.rows import Row, Table

_ATTEMPTS = 5
_NONCE_BYTES = 12
_PROOFS = (Table.CREDENTIALS, Table.PASSKEYS, Table.ONE_TIME)
"""Tables of proofs of identity; one changed before the token is stored proves nothing any more."""


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A new token with its lifetime in ms and its expiry in ms since 1970; -1 for no expiry."""

    kuid: str
    token: str
    expires_at_ms: int
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class _Chain:
    """What a session inherits from its predecessor, and what the list of sessions shows."""

    started_at_ms: int
    data: Row
    assurance: Assurance
    family: str | None = None
    parent: str | None = None


class Issuer:
    """Creates session tokens and stores their rows."""

    def __init__(
        self,
        storage: Storage,
        keyring: Keyring,
        limits: TokenPolicy,
        sessions: Sessions,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self.limits = limits
        self._storage = storage
        self._keyring = keyring
        self._sessions = sessions
        self._clock_ms = clock_ms

    async def issue(
        self,
        user: User,
        ttl_ms: int,
        *,
        single_use: bool = False,
        assurance: Assurance = UNPROVEN,
        shown: Row | None = None,
        parent: str | None = None,
        guards: Iterable[Change] = (),
    ) -> Issued:
        """Create a token for a user; `assurance` says how they proved who they are, `shown` is what
        the list of their sessions says about it, `parent` which token they created it with: see
        `end_created_with`.

        401 if the user is deleted or disabled by the time it is stored, or if `guards` do not hold
        any more: what proved the user's identity was changed since. Where the number of sessions of
        a user is limited, their oldest ones are revoked.
        """
        now_ms = self._clock_ms()
        chain = _Chain(now_ms, shown or {}, assurance, parent=parent)
        issued, row = self._create(user.kuid, ttl_ms, chain, now_ms)
        row["single_use"] = int(single_use)
        try:
            await self._storage.apply(
                [*owner_guard(user.kuid), *guards, Insert(Table.SESSIONS, row)]
            )
        except Exists:
            raise error("plugin.strategy.missing_user", WRONG) from None
        except Missing as missing:
            if missing.table in _PROOFS:
                raise error("plugin.strategy.missing_user", WRONG) from None
            raise error("security.token.invalid") from None
        if self.limits.sessions:
            await self._sessions.keep_newest(user.kuid, self.limits.sessions)
        return issued

    async def refresh(self, caller: Caller, token: str, ttl_ms: int) -> Issued:
        """Create the successor of a session token; a second request for it gets the same one, for
        as long as the old token is valid.

        401 `security.token.refresh_forbidden` for a token that cannot have one, 401
        `security.token.invalid` for one that is expired or revoked.
        """
        if caller.kind is TokenKind.API_KEY:
            raise error("security.token.refresh_forbidden", "API keys are not refreshed")
        for _ in range(_ATTEMPTS):
            old = await self._storage.get(Table.SESSIONS, token_hash=caller.token_hash)
            if old is None:
                break
            if old["expires_at"] is None:
                raise error("security.token.refresh_forbidden", "this token never expires")
            if old["refreshed_at"] is not None:
                return _open_successor(old, token)
            chain = _Chain(
                cast(int, old["started_at"]),
                cast(Row, old["data"]),
                read_assurance(old),
                cast(str, old["family"]),
                cast("str | None", old["parent"]),
            )
            issued, row = self._create(caller.kuid, ttl_ms, chain, self._clock_ms())
            try:
                await self._storage.apply(self._replace(old, token, issued, row))
            except Missing:
                continue  # refreshed or revoked by another request; the next look says which
            return issued
        raise error("security.token.invalid")

    def _create(self, kuid: str, ttl_ms: int, chain: _Chain, now_ms: int) -> tuple[Issued, Row]:
        ends_ms = self.limits.end_ms(now_ms, ttl_ms, chain.started_at_ms)
        if ends_ms is not None:
            ttl_ms = ends_ms - now_ms
            if ttl_ms <= 0:
                raise error("security.token.refresh_forbidden", "the session is too old")
        jti = secrets.token_urlsafe(16)
        claims: dict[str, object] = {"_id": kuid, "iat": now_ms // 1000}
        if ends_ms is not None:
            claims["exp"] = now_ms // 1000 + ttl_ms // 1000
        token = self._keyring.sign({**claims, "jti": jti})
        row: Row = {
            "token_hash": hash_token(token),
            "id": jti,
            "kuid": kuid,
            "created_at": now_ms,
            "expires_at": ends_ms,
            "ttl": ttl_ms,
            "single_use": 0,
            "refreshed_at": None,
            "family": chain.family or jti,
            "parent": chain.parent,
            "started_at": chain.started_at_ms,
            "used_at": now_ms,
            "data": chain.data,
            "amr": list(chain.assurance.amr),
            "authenticated_at": chain.assurance.authenticated_at_ms,
        }
        shown_end = NEVER if ends_ms is None else ends_ms
        return Issued(kuid, self.limits.prefix + token, shown_end, ttl_ms), row

    def _replace(self, old: Row, token: str, issued: Issued, row: Row) -> list[Change]:
        key: Row = {"token_hash": old["token_hash"]}
        hashes = cast(bytes, old["token_hash"]).hex(), cast(bytes, row["token_hash"]).hex()
        data = {**cast(Row, old["data"]), "successor": _seal_successor(issued, token)}
        return [
            *owner_guard(issued.kuid),
            Present(Table.SESSIONS, {**key, "refreshed_at": None}),
            Update(Table.SESSIONS, key, {"refreshed_at": self._clock_ms(), "data": data}),
            Insert(Table.SESSIONS, row),
            JournalEvent(EventKind.REFRESHED, ":".join((*hashes, str(issued.expires_at_ms)))),
        ]


def _cipher(token: str) -> AESGCM:
    # Only a holder of the old token can read its successor; the store alone reveals it to no one.
    return AESGCM(hashlib.sha256(b"manykeys/successor/1" + token.encode()).digest())


def _seal_successor(issued: Issued, token: str) -> str:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    text = orjson.dumps([issued.kuid, issued.token, issued.expires_at_ms, issued.ttl_ms])
    return (nonce + _cipher(token).encrypt(nonce, text, None)).hex()


def _open_successor(old: Row, token: str) -> Issued:
    sealed = bytes.fromhex(str(cast(Row, old["data"])["successor"]))
    try:
        text = _cipher(token).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
    except InvalidTag:
        raise error("security.token.invalid") from None
    return Issued(*orjson.loads(text))
