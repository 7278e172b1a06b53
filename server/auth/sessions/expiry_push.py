"""Token expiry notifications: which sockets use which token, to notify them when it expires or is
revoked.

A socket is linked to the last token it used. Expiry comes from the clock, revocation from the
journal, so it does not matter which process revoked a token. A socket is here only something to
push text to.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

import orjson

from server.auth.sessions.expiry_calendar import ExpirySchedule
from server.auth.sessions.principal import Caller, TokenKind
from server.core.durations import NEVER
from server.storage.base import Entry, EventKind, Storage, Unavailable
from server.storage.rows import Table

# Sockets are notified a few at a time: other requests are answered in between. How many from one
# pause to the next follows from how many there are and how soon the last one should be notified; a
# pause is as short as timers allow.
_NOTIFIED_AT_ONCE = 4
_PAUSE_S = 0.001
_MAX_PAUSES = 500
_MAX_NOTIFIED = 64
_CHECKED_AT_ONCE = 500
_RETRY_S = 1.0
_ROOM = "kuzzle:notification:server"


class Linkable(Protocol):
    """A socket; `linked` is the hash of the token it is linked to, b"" for none."""

    linked: bytes

    def push(self, text: bytes) -> None:
        """Send an unsolicited message."""


@dataclass(slots=True, eq=False)
class _Link:
    """One token that sockets are linked to."""

    kuid: str
    expires_at_ms: float
    sockets: set[Linkable] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Notice:
    """Sockets to be notified about a token, unless they use another one by then."""

    token_hash: bytes
    sockets: set[Linkable]
    text: bytes
    is_end: bool


class ExpiryNotifier:
    """All links of one process. With `warn_before_ms`, sockets are notified that long before the
    expiry."""

    def __init__(
        self, node: str, *, clock_ms: Callable[[], int], warn_before_ms: float = 0
    ) -> None:
        self._node = node
        self._clock_ms = clock_ms
        self._warn_before_ms = warn_before_ms
        self._links: dict[bytes, _Link] = {}
        self._sessions_of: dict[str, set[bytes]] = {}  # without API keys and expired tokens
        self._ends, self._warnings = ExpirySchedule(), ExpirySchedule()
        self._expired = self._write("TokenExpired")
        # Where thousands of tokens expire at once, all else would have to wait for them: their
        # sockets are looked up and notified a few at a time.
        self._over: deque[set[bytes]] = deque()
        self._notices: deque[_Notice] = deque()
        self._unnotified = 0
        self._notified_between = 0  # two pauses
        self._till_pause = 0
        self._is_notifying = False
        self._is_lost = asyncio.Event()

    def link(self, socket: Linkable, caller: Caller) -> None:
        """Link a socket to the token it just used; it has one link at a time."""
        is_key = caller.kind is TokenKind.API_KEY
        self._link(socket, caller.token_hash, caller.kuid, is_key, caller.expires_at_ms)

    def link_login(
        self, socket: Linkable, kuid: str, token_hash: bytes, expires_at_ms: float
    ) -> None:
        """Link a socket to the token of a login on it; if it was linked to another one of the same
        user, all sockets of that one move along."""
        ends_ms = float("inf") if expires_at_ms == NEVER else expires_at_ms
        old = self._links.get(socket.linked)
        goes_on = old is not None and old.expires_at_ms > self._clock_ms()
        if goes_on and socket.linked in self._sessions_of.get(kuid, ()):
            self._move(socket.linked, token_hash, ends_ms)
        else:
            self._link(socket, token_hash, kuid, False, ends_ms)

    def unlink(self, socket: Linkable) -> None:
        """Forget a socket's link: it is gone, or revokes its own token and needs no notice."""
        link = self._links.get(socket.linked)
        if link is not None:
            link.sockets.discard(socket)
            if not link.sockets:
                self._forget(socket.linked, link)
        socket.linked = b""

    def notice(self, entries: Sequence[Entry]) -> None:
        """Process journal entries: notify the sockets of tokens that were revoked, move those of
        tokens that were refreshed."""
        for entry in entries:
            if entry.noted in (EventKind.SESSION, EventKind.API_KEY):
                self._end_one(bytes.fromhex(entry.subject))
            elif entry.noted is EventKind.SESSIONS:
                self._end_soon(self._sessions_of.pop(entry.subject, set()))
            elif entry.noted is EventKind.ALL_SESSIONS:
                kept = frozenset(map(bytes.fromhex, entry.subject.split(":")))
                for hashes in self._sessions_of.values():
                    self._end_soon(hashes - kept)
                    hashes &= kept
            elif entry.noted is EventKind.LOST:
                self._is_lost.set()
            elif entry.noted is EventKind.REFRESHED:
                old, new, ends_ms = entry.subject.split(":")
                self._move(bytes.fromhex(old), bytes.fromhex(new), float(ends_ms))
        self._begin_notifying()

    async def check_lost(self, storage: Storage) -> None:
        """Look up, each time the journal could not say what was revoked, which tokens of sockets
        are still stored, and notify the sockets of the others; until cancelled."""
        while True:
            await self._is_lost.wait()
            self._is_lost.clear()
            linked = list(self._links)
            for at in range(0, len(linked), _CHECKED_AT_ONCE):
                some = linked[at : at + _CHECKED_AT_ONCE]
                try:
                    stored = await _stored_of(storage, some)
                except Unavailable:
                    self._is_lost.set()
                    await asyncio.sleep(_RETRY_S)
                    break
                for token_hash in some:
                    if token_hash not in stored:
                        self._end_one(token_hash)
                self._begin_notifying()

    def tick(self) -> None:
        """Notify the sockets of tokens that have expired, or are about to, by the clock."""
        now_ms = self._clock_ms()
        for hashes in self._ends.take_due(now_ms):
            self._end_soon(hashes)
        for hashes in self._warnings.take_due(now_ms):
            for token_hash in hashes:
                link = self._links[token_hash]
                text = self._write("TokenExpiring", expiresAt=int(link.expires_at_ms))
                self._notify(_Notice(token_hash, set(link.sockets), text, is_end=False))
        self._begin_notifying()

    def _link(
        self, socket: Linkable, token_hash: bytes, kuid: str, is_key: bool, ends_ms: float
    ) -> None:
        if socket.linked == token_hash:
            return
        self.unlink(socket)
        link = self._links.get(token_hash)
        if link is None:
            link = self._links[token_hash] = _Link(kuid, ends_ms)
            if not is_key:
                self._sessions_of.setdefault(kuid, set()).add(token_hash)
            self._ends.enter(token_hash, ends_ms)
            if self._warn_before_ms > 0:
                self._warnings.enter(token_hash, ends_ms - self._warn_before_ms)
        link.sockets.add(socket)
        socket.linked = token_hash

    def _move(self, old: bytes, new: bytes, ends_ms: float) -> None:
        link = self._links.get(old)
        for socket in list(link.sockets) if link is not None else ():
            self._link(socket, new, link.kuid if link is not None else "", False, ends_ms)

    def _forget(self, token_hash: bytes, link: _Link) -> None:
        del self._links[token_hash]
        hashes = self._sessions_of.get(link.kuid, set())
        hashes.discard(token_hash)
        if not hashes:
            self._sessions_of.pop(link.kuid, None)
        self._ends.leave(token_hash, link.expires_at_ms)
        self._warnings.leave(token_hash, link.expires_at_ms - self._warn_before_ms)

    def _end_one(self, token_hash: bytes) -> None:
        link = self._links.get(token_hash)
        if link is not None:
            self._sessions_of.get(link.kuid, set()).discard(token_hash)
            self._end_soon({token_hash})

    def _end_soon(self, hashes: set[bytes]) -> None:
        if hashes:
            self._over.append(hashes)
            self._unnotified += len(hashes)

    def _end(self, token_hash: bytes) -> None:
        link = self._links.get(token_hash)
        if link is not None:
            self._forget(token_hash, link)
            self._notify(_Notice(token_hash, link.sockets, self._expired, is_end=True))

    def _notify(self, notice: _Notice) -> None:
        self._notices.append(notice)
        self._unnotified += len(notice.sockets)

    def _begin_notifying(self) -> None:
        if self._unnotified and not self._is_notifying:
            self._is_notifying = True
            asyncio.get_running_loop().call_soon(self._notify_some)

    def _notify_some(self) -> None:
        """Notify a few, and schedule the next few: after a pause, if it is time for one, else as
        soon as all requests that came meanwhile have been answered."""
        if self._till_pause == 0:
            # Grows with what is still to come, and never shrinks before all are notified.
            wanted = min(
                _MAX_NOTIFIED, max(_NOTIFIED_AT_ONCE, ceil(self._unnotified / _MAX_PAUSES))
            )
            self._notified_between = max(self._notified_between, wanted)
            self._till_pause = self._notified_between
        left = self._till_pause = max(0, self._till_pause - _NOTIFIED_AT_ONCE)
        notified = 0
        try:
            while notified < _NOTIFIED_AT_ONCE and (self._notices or self._over):
                notified += (
                    self._notify_next(self._notices[0]) if self._notices else self._end_next()
                )
        finally:  # a socket that fails does not keep others from being notified
            loop = asyncio.get_running_loop()
            if not self._notices and not self._over:
                self._is_notifying = False
                self._notified_between, self._till_pause, self._unnotified = 0, 0, 0
            elif left:
                loop.call_soon(self._notify_some)
            else:
                loop.call_later(_PAUSE_S, self._notify_some)

    def _end_next(self) -> int:
        """End one token; return how many sockets that notified, which is none yet."""
        hashes = self._over[0]
        self._unnotified -= 1
        self._end(hashes.pop())
        if not hashes:
            self._over.popleft()
        return 0

    def _notify_next(self, notice: _Notice) -> int:
        """Notify one socket, or skip it; return how many that were."""
        if not notice.sockets:
            self._notices.popleft()
            return 0
        socket = notice.sockets.pop()
        self._unnotified -= 1
        if socket.linked == notice.token_hash:
            if notice.is_end:
                socket.linked = b""
            socket.push(notice.text)
        return 1

    def _write(self, kind: str, **more: object) -> bytes:
        ended = kind == "TokenExpired"
        notification: dict[str, object] = {
            "status": 200,
            "info": "This is an automated server notification",
            "message": "Authentication Token Expired" if ended else "Authentication Token Expires",
            "type": kind,
            **more,
            "node": self._node,
            "room": _ROOM,
        }
        return orjson.dumps(notification)


async def _stored_of(storage: Storage, hashes: Sequence[bytes]) -> set[object]:
    """Return those hashes that a stored session or API key has."""
    keys = [(token_hash,) for token_hash in hashes]
    found: set[object] = set()
    for table in (Table.SESSIONS, Table.API_KEYS):
        rows = await storage.find_each(table, ("token_hash",), keys)
        found |= {row["token_hash"] for row in rows}
    return found
