"""Pending login steps: state stored between two requests of a login (security check O1).

A step is named by a random state, stored as SHA-256 only. It can be used once, expires, and is
bound to one strategy and to the client that began: the server identifies that client by a secret
that a browser keeps in a cookie, or by its socket. Counts are per process; steps survive a restart.
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
"""Steps stored for one address, an IPv6 /64 counting as one, and for all; beyond that the oldest of
the address is deleted, or of the address that has the most."""
MOST_KEPT_BYTES = 16_384
SECOND_MS = 300_000
"""Lifetime of a step for a second factor, at most that of others."""
MOST_TRIES = 5
"""Attempts, like codes, in one such step."""
MOST_FORMS_OF_ADDRESS = 100
MOST_FORMS = 1000
"""Steps that a form has been posted for, of one address and of all; beyond that they are deleted in
the same way."""
MOST_FORM_BYTES = 65_536
_MAX_STATE_CHARACTERS = 256
_STATE_BYTES = 32
_SECOND_MARK = "2."  # no other state has a dot
_EXPIRED = "This sign-in has expired or was already used. Please try again."


@dataclass(frozen=True, slots=True)
class Linking:
    """The user whose credentials are to be added, or with `is_update` changed, and the session that
    asked, however often it is refreshed: the `family` of its tokens; "" for an API key, which `key`
    identifies then, by the hexadecimal hash of its token. `revokes` revokes the user's other
    sessions. The other fields are those of the `Principal` that was checked."""

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
        """The principal that asked for it, as it was then."""
        return Principal(
            self.kuid,
            TokenKind.API_KEY if self.key else TokenKind.SESSION,
            Assurance(tuple(self.amr), self.authenticated_at_ms),
            asked_at_ms=self.asked_at_ms,
            is_confirmed=self.is_confirmed,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """The stored state of a login. `account` is what failures are counted under, `wishes` are the
    options of its first request; with `linking` it does not log in but verifies credentials. `form`
    is what a provider's page has posted for it. `kuid` is its user, where known."""

    kept: Mapping[str, object] = field(repr=False)
    account: str | None
    wishes: Mapping[str, object]
    linking: Linking | None = None
    token_hash: bytes = b""
    form: Mapping[str, object] = field(default_factory=dict, repr=False)
    kuid: str | None = None

    @property
    def ends_in_cookie(self) -> bool:
        """Whether the last step sets the session cookie: then it must come from the browser that
        began, or any page could log its visitors in as another user (login CSRF)."""
        return self.wishes.get("cookieAuth") is True


def make_state() -> str:
    """Return a new state to name a step."""
    return secrets.token_urlsafe(_STATE_BYTES)


def make_second_state() -> str:
    """Return a new state to name a step for a second factor."""
    return _SECOND_MARK + make_state()


def is_second_state(state: object) -> bool:
    """Return whether this has the form of a state for a second factor."""
    return isinstance(state, str) and state.startswith(_SECOND_MARK)


class PendingLogins:
    """Stores steps for `ttl_ms`."""

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
        """Store a step and return when it expires; `binding` is the secret of the client that may
        continue it, None for any client. ApiError 500 for more data than a step may contain;
        Missing or Exists where `guards`, which run in the same transaction, do not hold."""
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
        """Return the step of this name; ApiError 401 unless it is valid, of this strategy and of
        this client, with a `kuid` a linking of this user. Where a form was stored for it, only the
        browser that posted it has the key."""
        row = await self._find_valid(state, strategy, is_linking=kuid is not None)
        data = cast("dict[str, object]", row["data"])
        bound = data["binding"]
        if isinstance(bound, str) and not hmac.compare_digest(bound, _hashed(binding)):
            raise _refused("foreign state")
        if kuid is not None and kuid != row["kuid"]:
            raise _refused("another user's state")
        if "form" in data and not _is_key(form_key, data["form_key"]):
            raise _refused("a form from another browser")
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

    async def suspend(
        self, state: object, strategy: str, form: Mapping[str, object], *, address: str
    ) -> str:
        """Store a form for a step until the browser that began requests it, once, and return the
        key to send along. ApiError 401 unless the step is valid and of this strategy, and for a
        form that is too large.

        The form may be posted by another person than the one who began, lured to the provider:
        without the key, the one who began would be logged in as the other (login CSRF).
        """
        row = await self._find_valid(state, strategy)
        data, token_hash = cast("dict[str, object]", row["data"]), cast(bytes, row["token_hash"])
        if "form" in data:
            raise _refused("a second form")
        if len(orjson.dumps(form)) > MOST_FORM_BYTES:
            raise _refused("a form that is too large")
        now_ms, ends_ms = self._clock_ms(), cast(int, row["expires_at"])
        dropped = self._forms.enter(address_key(address) or b"", token_hash, ends_ms, now_ms)
        gone = [DeleteAll(Table.ONE_TIME, {"token_hash": one}) for one in dropped]
        key = make_state()
        kept: Row = {"data": {**data, "form": dict(form), "form_key": _hashed(key)}}
        changed = Update(Table.ONE_TIME, {"token_hash": token_hash}, kept)
        try:
            await self._storage.apply([*gone, Unchanged(Table.ONE_TIME, row), changed])
        except Missing:
            raise _refused("state was used") from None
        return key

    async def _find_valid(self, state: object, strategy: str, *, is_linking: bool = False) -> Row:
        row = None
        if isinstance(state, str) and len(state) <= _MAX_STATE_CHARACTERS and state.isascii():
            row = await self._storage.get(Table.ONE_TIME, token_hash=hash_token(state))
        is_second = is_second_state(state) and not is_linking
        if row is None or row["kind"] != (_SECOND_KIND if is_second else _kind(strategy)):
            raise _refused("unknown state")
        if cast(int, row["expires_at"]) <= self._clock_ms():
            raise _refused("expired state")
        return row

    async def use_up(self, step: Step) -> None:
        """Delete a step that was found; ApiError 401 if it was used in the meantime."""
        try:
            await self._storage.apply([Delete(Table.ONE_TIME, {"token_hash": step.token_hash})])
        except Missing:
            raise _refused("state was used") from None
        self._counts.leave(step.token_hash)
        self._forms.leave(step.token_hash)

    async def count_try(self, step: Step) -> None:
        """Count one of the `MOST_TRIES` attempts at a step that a wrong one does not use up;
        ApiError 401 after the last one, and for a step that is over."""
        for _ in range(MOST_TRIES + 1):
            row = await self._storage.get(Table.ONE_TIME, token_hash=step.token_hash)
            data = {} if row is None else cast("dict[str, Any]", row["data"])
            if row is None or data["tries"] >= MOST_TRIES:
                raise _refused("state was used" if row is None else "too many tries")
            counted: Row = {"data": {**data, "tries": data["tries"] + 1}}
            key: Row = {"token_hash": step.token_hash}
            try:
                await self._storage.apply(
                    [Unchanged(Table.ONE_TIME, row), Update(Table.ONE_TIME, key, counted)]
                )
            except Missing:
                continue  # another attempt was counted at the same moment
            return
        raise _refused("too many tries")

    def end(self, step: Step) -> Change:
        """Return the change that deletes a step, for the transaction that stores its result;
        Missing if it was used in the meantime."""
        self._counts.leave(step.token_hash)
        self._forms.leave(step.token_hash)
        return Delete(Table.ONE_TIME, {"token_hash": step.token_hash})


class _Counts:
    """Index of the stored steps, by address and oldest first. No step costs a scan of all others:
    an attacker can keep the index full."""

    def __init__(self, of_address: int, in_all: int) -> None:
        self._max_of_address = of_address
        self._max = in_all
        self._of: dict[bytes, OrderedDict[bytes, int]] = {}
        self._where: OrderedDict[bytes, bytes] = OrderedDict()
        self._by_count: dict[int, dict[bytes, None]] = {}  # addresses by their number of steps

    def enter(self, key: bytes, token_hash: bytes, ends_ms: int, now_ms: int) -> list[bytes]:
        """Count a step, once however often it is added, and return those to delete for it."""
        dropped = []
        self.leave(token_hash)
        self._expire(now_ms)
        if len(self._of.get(key, ())) >= self._max_of_address:
            dropped.append(self._drop_oldest(key))
        if len(self._where) >= self._max:
            dropped.append(self._drop_oldest(next(iter(self._by_count[max(self._by_count)]))))
        steps = self._of.setdefault(key, OrderedDict())
        steps[token_hash] = ends_ms
        self._where[token_hash] = key
        self._recount(key, len(steps) - 1, len(steps))
        return dropped

    def leave(self, token_hash: bytes) -> None:
        """Remove a step from the index, if it is there."""
        key = self._where.pop(token_hash, None)
        if key is not None:
            steps = self._of[key]
            del steps[token_hash]
            self._recount(key, len(steps) + 1, len(steps))
            if not steps:
                del self._of[key]

    def _recount(self, key: bytes, before: int, now: int) -> None:
        if before:
            addresses = self._by_count[before]
            del addresses[key]
            if not addresses:
                del self._by_count[before]
        if now:
            self._by_count.setdefault(now, {})[key] = None

    def _expire(self, now_ms: int) -> None:
        """Forget the oldest as long as they have expired; some that expire sooner stay behind
        others."""
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


def _refused(reason: str) -> ApiError:
    """Return the same error for every reason; the audit log contains the reason."""
    tell(reason=reason)
    return error("plugin.strategy.missing_user", _EXPIRED)
