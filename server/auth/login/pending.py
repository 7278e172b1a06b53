"""Logins of several steps between two of them (contract/05 §4; security check O1).

A step is named by a random state, stored as SHA-256 only. It is good once, for a while, for one
strategy, and for whoever began: the server knows him by a secret that a browser keeps in a cookie,
or by his socket. Counts are of this process; what is kept outlives it.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import orjson

from protocol.errors import ApiError, error
from server.auth.assurance import Assurance, Principal, TokenKind
from server.auth.audit.events import tell
from server.auth.sessions.pending_ends import _SECOND_KIND, _kind
from server.core.addresses import address_key
from server.core.secrets import hash_token
from server.storage.base import (
    Change,
    Delete,
    DeleteAll,
    Insert,
    Missing,
    Storage,
    Unchanged,
    Update,
)
from server.storage.rows import Row, Table

MOST_OF_ADDRESS = 1000
MOST_PENDING = 20_000
"""Steps kept for one address, an IPv6 /64 counting as one, and for all; beyond that the oldest of
the address gives way, or of the one that has most."""
MOST_KEPT_BYTES = 16_384
SECOND_MS = 300_000
"""Life of a step for a second factor, at most that of others."""
MOST_TRIES = 5
"""Codes, say, that may be tried in one such step."""
MOST_FORMS_OF_ADDRESS = 100
MOST_FORMS = 1000
"""Steps that a form has been posted for, of one address and of all; beyond that they end like
those."""
MOST_FORM_BYTES = 65_536
_MOST_STATE_CHARACTERS = 256
_STATE_BYTES = 32
_SECOND_MARK = "2."  # no other state has a dot
_OVER = "this login was begun elsewhere, has been finished or has taken too long: begin again"


@dataclass(frozen=True, slots=True)
class Linking:
    """Whose credentials are to be added, or with `is_update` changed, by who is logged in already:
    the user, and the session that asked, however often it is refreshed: the `family` of its tokens;
    "" for an API key, which `key` names then, the hexadecimal hash of its token. `revokes` ends his
    other sessions. The other fields are those of the `Principal` that was checked."""

    kuid: str
    family: str
    key: str = ""
    is_update: bool = False
    revokes: bool = False
    amr: tuple[str, ...] = ()
    authenticated_at_ms: int | None = None
    asked_at_ms: int = 0
    is_confirmed: bool = False

    @property
    def principal(self) -> Principal:
        """Who has asked for it, as they were then."""
        return Principal(
            self.kuid,
            TokenKind.API_KEY if self.key else TokenKind.SESSION,
            Assurance(tuple(self.amr), self.authenticated_at_ms),
            asked_at_ms=self.asked_at_ms,
            is_confirmed=self.is_confirmed,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What is kept of a login. `account` is what failures are counted by, `wishes` is what its
    first request asked for; with `linking` it is no login, but a proof of credentials. `form` is
    what a provider's page has posted for it. `kuid` says whose it is, where that is known."""

    kept: Mapping[str, object] = field(repr=False)
    account: str | None
    wishes: Mapping[str, object]
    linking: Linking | None = None
    token_hash: bytes = b""
    form: Mapping[str, object] = field(default_factory=dict, repr=False)
    kuid: str | None = None

    @property
    def ends_in_cookie(self) -> bool:
        """Whether the session will be in a cookie of whoever takes the last step: then that must be
        the browser that began, or any page could log its visitors in as somebody else."""
        return self.wishes.get("cookieAuth") is True


def make_state() -> str:
    """Give a new name of a step."""
    return secrets.token_urlsafe(_STATE_BYTES)


def make_second_state() -> str:
    """Give a new name of a step for a second factor."""
    return _SECOND_MARK + make_state()


def is_second_state(state: object) -> bool:
    """Tell whether this would be the name of a step for a second factor."""
    return isinstance(state, str) and state.startswith(_SECOND_MARK)


class PendingLogins:
    """Keeps steps for `ttl_ms`."""

    def __init__(self, storage: Storage, *, clock_ms: Callable[[], int], ttl_ms: float) -> None:
        self._storage = storage
        self._clock_ms = clock_ms
        self._ttl_ms = ttl_ms
        self._counts = _Counts(MOST_OF_ADDRESS, MOST_PENDING)
        self._forms = _Counts(MOST_FORMS_OF_ADDRESS, MOST_FORMS)

    async def keep(
        self,
        state: str,
        strategy: str,
        step: Step,
        *,
        binding: str | None,
        address: str,
        guards: Iterable[Change] = (),
    ) -> int:
        """Keep a step and give when it ends; `binding` is the secret of who may take it, None for
        anybody. ApiError 500 for more than a step may hold; Missing or Exists where `guards`, which
        are made in the same transaction, do not hold."""
        now_ms = self._clock_ms()
        is_second = is_second_state(state)
        ends_ms = int(now_ms + (min(self._ttl_ms, SECOND_MS) if is_second else self._ttl_ms))
        data: Row = {
            "kept": dict(step.kept),
            "account": step.account,
            "wishes": dict(step.wishes),
            "binding": None if binding is None else _hashed(binding),
            "linking": None if step.linking is None else asdict(step.linking),
            "tries": 0,
        }
        _check_size(data, strategy)
        token_hash = hash_token(state)
        row: Row = {
            "token_hash": token_hash,
            "kind": _SECOND_KIND if is_second else _kind(strategy),
            "kuid": step.kuid if step.linking is None else step.linking.kuid,
            "expires_at": ends_ms,
            "data": data,
        }
        key = address_key(address) or b""
        dropped = self._counts.enter(key, token_hash, ends_ms, now_ms)
        gone = [DeleteAll(Table.ONE_TIME, {"token_hash": one}) for one in dropped]
        await self._storage.apply([*guards, *gone, Insert(Table.ONE_TIME, row)])
        return ends_ms

    async def find(
        self,
        state: object,
        strategy: str,
        *,
        binding: str,
        kuid: str | None = None,
        form_key: object = None,
    ) -> Step:
        """Give the step of this name; ApiError 401 for any other than a living one of this strategy
        and of who asks, with a `kuid` one of a linking by this user. Where a form was put aside for
        it, only the browser that posted it has its key."""
        row = await self._living(state, strategy, is_linking=kuid is not None)
        data = cast("dict[str, object]", row["data"])
        bound = data["binding"]
        if isinstance(bound, str) and not hmac.compare_digest(bound, _hashed(binding)):
            raise _over("foreign state")
        if kuid is not None and kuid != row["kuid"]:
            raise _over("another user's state")
        if "form" in data and not _is_key(form_key, data["form_key"]):
            raise _over("a form from another browser")
        linking = cast("dict[str, Any] | None", data.get("linking"))
        return Step(
            cast("dict[str, object]", data["kept"]),
            cast("str | None", data["account"]),
            cast("dict[str, object]", data["wishes"]),
            None if linking is None else Linking(**linking),
            cast(bytes, row["token_hash"]),
            cast("dict[str, object]", data.get("form", {})),
            cast("str | None", row["kuid"]),
        )

    async def put_aside(
        self, state: object, strategy: str, form: Mapping[str, object], *, address: str
    ) -> str:
        """Keep a form for a step until who began comes for it, once, and give the key to bring
        along. ApiError 401 for any other than a living step of this strategy, and for a form that
        is too large.

        Who posts it may be somebody else than who began, lured to the provider: without the key he
        would log in who began as himself.
        """
        row = await self._living(state, strategy)
        data, token_hash = cast("dict[str, object]", row["data"]), cast(bytes, row["token_hash"])
        if "form" in data:
            raise _over("a second form")
        if len(orjson.dumps(form)) > MOST_FORM_BYTES:
            raise _over("a form that is too large")
        now_ms, ends_ms = self._clock_ms(), cast(int, row["expires_at"])
        dropped = self._forms.enter(address_key(address) or b"", token_hash, ends_ms, now_ms)
        gone = [DeleteAll(Table.ONE_TIME, {"token_hash": one}) for one in dropped]
        key = make_state()
        kept: Row = {"data": {**data, "form": dict(form), "form_key": _hashed(key)}}
        changed = Update(Table.ONE_TIME, {"token_hash": token_hash}, kept)
        try:
            await self._storage.apply([*gone, Unchanged(Table.ONE_TIME, row), changed])
        except Missing:
            raise _over("state was used") from None
        return key

    async def _living(self, state: object, strategy: str, *, is_linking: bool = False) -> Row:
        row = None
        if isinstance(state, str) and len(state) <= _MOST_STATE_CHARACTERS and state.isascii():
            row = await self._storage.get(Table.ONE_TIME, token_hash=hash_token(state))
        is_second = is_second_state(state) and not is_linking
        if row is None or row["kind"] != (_SECOND_KIND if is_second else _kind(strategy)):
            raise _over("unknown state")
        if cast(int, row["expires_at"]) <= self._clock_ms():
            raise _over("expired state")
        return row

    async def use_up(self, step: Step) -> None:
        """End a step that was found; ApiError 401 if somebody was faster."""
        try:
            await self._storage.apply([Delete(Table.ONE_TIME, {"token_hash": step.token_hash})])
        except Missing:
            raise _over("state was used") from None
        self._counts.leave(step.token_hash)
        self._forms.leave(step.token_hash)

    async def count_try(self, step: Step) -> None:
        """Count one of the `MOST_TRIES` to take a step that is not used up by a wrong one; ApiError
        401 after the last one, and for a step that is over."""
        for _ in range(MOST_TRIES + 1):
            row = await self._storage.get(Table.ONE_TIME, token_hash=step.token_hash)
            data = {} if row is None else cast("dict[str, Any]", row["data"])
            if row is None or data["tries"] >= MOST_TRIES:
                raise _over("state was used" if row is None else "too many tries")
            counted: Row = {"data": {**data, "tries": data["tries"] + 1}}
            key: Row = {"token_hash": step.token_hash}
            try:
                await self._storage.apply(
                    [Unchanged(Table.ONE_TIME, row), Update(Table.ONE_TIME, key, counted)]
                )
            except Missing:
                continue  # somebody tries in the same moment
            return
        raise _over("too many tries")

    def end(self, step: Step) -> Change:
        """Give the change that ends a step, for the transaction that what it led to is stored in;
        Missing if somebody was faster."""
        self._counts.leave(step.token_hash)
        self._forms.leave(step.token_hash)
        return Delete(Table.ONE_TIME, {"token_hash": step.token_hash})


class _Counts:
    """Which steps there are, by address and oldest first. No step costs a look at all others: where
    there are as many as there may be, somebody wants it so."""

    def __init__(self, of_address: int, in_all: int) -> None:
        self._most_of_address = of_address
        self._most = in_all
        self._of: dict[bytes, OrderedDict[bytes, int]] = {}
        self._where: OrderedDict[bytes, bytes] = OrderedDict()
        self._by_count: dict[int, dict[bytes, None]] = {}  # addresses with so many steps

    def enter(self, key: bytes, token_hash: bytes, ends_ms: int, now_ms: int) -> list[bytes]:
        """Count a step, once however often it is entered, and give those that must go for it."""
        dropped = []
        self.leave(token_hash)
        self._expire(now_ms)
        if len(self._of.get(key, ())) >= self._most_of_address:
            dropped.append(self._drop_oldest(key))
        if len(self._where) >= self._most:
            dropped.append(self._drop_oldest(next(iter(self._by_count[max(self._by_count)]))))
        his = self._of.setdefault(key, OrderedDict())
        his[token_hash] = ends_ms
        self._where[token_hash] = key
        self._recount(key, len(his) - 1, len(his))
        return dropped

    def leave(self, token_hash: bytes) -> None:
        """Count a step no more, if it is counted."""
        key = self._where.pop(token_hash, None)
        if key is not None:
            his = self._of[key]
            del his[token_hash]
            self._recount(key, len(his) + 1, len(his))
            if not his:
                del self._of[key]

    def _recount(self, key: bytes, before: int, now: int) -> None:
        if before:
            alike = self._by_count[before]
            del alike[key]
            if not alike:
                del self._by_count[before]
        if now:
            self._by_count.setdefault(now, {})[key] = None

    def _expire(self, now_ms: int) -> None:
        """Forget the oldest as long as they are over; some that end sooner stay behind others."""
        while self._where:
            oldest, key = next(iter(self._where.items()))
            if self._of[key][oldest] > now_ms:
                return
            self.leave(oldest)

    def _drop_oldest(self, key: bytes) -> bytes:
        oldest = next(iter(self._of[key]))
        self.leave(oldest)
        return oldest


def _hashed(binding: str) -> str:
    return hashlib.sha256(binding.encode()).hexdigest()


def _is_key(given: object, hashed: object) -> bool:
    known = isinstance(given, str) and given.isascii()
    return known and hmac.compare_digest(_hashed(str(given)), str(hashed))


def _check_size(data: Row, strategy: str) -> None:
    try:
        size = len(orjson.dumps(data))
    except TypeError:
        size = MOST_KEPT_BYTES + 1
    if size > MOST_KEPT_BYTES:
        raise error("plugin.strategy.invalid_verify_resolve", strategy)


def _over(reason: str) -> ApiError:
    """One answer whatever is wrong; the audit trail knows more."""
    tell(reason=reason)
    return error("plugin.strategy.missing_user", _OVER)
