"""Which sockets use which token, so that they are told when it ends (contract/01 §8; design §4).

A socket is linked to the last token it used. Ends come from the clock and from the journal, so it
does not matter which process ended a token. Knows sockets only as something to push text to.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from server.auth.callers import Caller, TokenKind
from server.auth.lifetimes import NEVER
from server.storage.base import Entry, Noted

# Sockets told, or links ended, in one turn of the loop: everybody else is answered in between.
_TOLD_AT_ONCE = 16
_ROOM = "kuzzle:notification:server"


class Linkable(Protocol):
    """A socket; `linked` is the hash of the token it is linked to, b"" for none."""

    linked: bytes

    def push(self, text: bytes) -> None:
        """Send a message nobody asked for."""


@dataclass(slots=True, eq=False)
class _Link:
    """One token that sockets are linked to."""

    kuid: str
    expires_at_ms: float
    sockets: set[Linkable] = field(default_factory=set)


class Links:
    """All links of one process. With `warn_before_ms`, sockets are told that long before the
    end."""

    def __init__(
        self, node: str, *, clock_ms: Callable[[], int], warn_before_ms: float = 0
    ) -> None:
        self._node = node
        self._clock_ms = clock_ms
        self._warn_before_ms = warn_before_ms
        self._links: dict[bytes, _Link] = {}
        self._sessions_of: dict[str, set[bytes]] = {}  # without API keys and what has ended
        # One heap for all ends and warnings: no token costs a timer of its own.
        self._ends: list[tuple[float, bytes, bool]] = []
        self._expired = self._write("TokenExpired")
        # Where thousands of tokens end at once, all else would have to wait for them: their sockets
        # are looked up and told little by little.
        self._over: deque[bytes] = deque()
        self._untold: deque[tuple[Linkable, bytes]] = deque()
        self._is_telling = False

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
        if socket.linked in self._sessions_of.get(kuid, ()):
            self._move(socket.linked, token_hash, ends_ms)
        else:
            self._link(socket, token_hash, kuid, False, ends_ms)

    def unlink(self, socket: Linkable) -> None:
        """Forget a socket's link: it is gone, or ends its token itself and needs no telling."""
        link = self._links.get(socket.linked)
        if link is not None:
            link.sockets.discard(socket)
            if not link.sockets:
                self._forget(socket.linked, link)
        socket.linked = b""

    def notice(self, entries: Sequence[Entry]) -> None:
        """Follow the journal: tell the sockets of tokens that were ended, move those of tokens that
        were refreshed."""
        for entry in entries:
            if entry.noted in (Noted.SESSION, Noted.API_KEY):
                self._end_soon(bytes.fromhex(entry.subject))
            elif entry.noted is Noted.SESSIONS:
                self._over.extend(self._sessions_of.pop(entry.subject, ()))
            elif entry.noted is Noted.ALL_SESSIONS:
                kept = frozenset(map(bytes.fromhex, entry.subject.split(":")))
                for hashes in self._sessions_of.values():
                    self._over.extend(hashes - kept)
                    hashes &= kept
            elif entry.noted is Noted.REFRESHED:
                old, new, ends_ms = entry.subject.split(":")
                self._move(bytes.fromhex(old), bytes.fromhex(new), float(ends_ms))
        self._begin_telling()

    def tick(self) -> None:
        """Tell the sockets of tokens that have ended, or are about to, by the clock."""
        now_ms = self._clock_ms()
        while self._ends and self._ends[0][0] <= now_ms:
            _, token_hash, is_warning = heapq.heappop(self._ends)
            link = self._links.get(token_hash)
            if link is None:
                continue
            if not is_warning and link.expires_at_ms <= now_ms:
                self._end_soon(token_hash)
            elif is_warning and link.expires_at_ms - self._warn_before_ms <= now_ms:
                self._tell(link, self._write("TokenExpiring", expiresAt=int(link.expires_at_ms)))
        self._begin_telling()

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
            self._await_end(token_hash, ends_ms)
        link.sockets.add(socket)
        socket.linked = token_hash

    def _move(self, old: bytes, new: bytes, ends_ms: float) -> None:
        link = self._links.get(old)
        for socket in list(link.sockets) if link is not None else ():
            self._link(socket, new, link.kuid if link is not None else "", False, ends_ms)

    def _await_end(self, token_hash: bytes, ends_ms: float) -> None:
        if ends_ms == float("inf"):
            return
        heapq.heappush(self._ends, (ends_ms, token_hash, False))
        if self._warn_before_ms > 0:
            heapq.heappush(self._ends, (ends_ms - self._warn_before_ms, token_hash, True))

    def _forget(self, token_hash: bytes, link: _Link) -> None:
        del self._links[token_hash]
        his = self._sessions_of.get(link.kuid, set())
        his.discard(token_hash)
        if not his:
            self._sessions_of.pop(link.kuid, None)
        # What is left in the heap of forgotten tokens is cleared when it is most of it.
        if len(self._ends) > 1024 and len(self._ends) > 4 * len(self._links):
            self._ends = [end for end in self._ends if end[1] in self._links]
            heapq.heapify(self._ends)

    def _end(self, token_hash: bytes) -> None:
        link = self._links.get(token_hash)
        if link is None:
            return
        self._forget(token_hash, link)
        for socket in link.sockets:
            socket.linked = b""
        self._tell(link, self._expired)

    def _end_soon(self, token_hash: bytes) -> None:
        link = self._links.get(token_hash)
        if link is not None:
            self._sessions_of.get(link.kuid, set()).discard(token_hash)
            self._over.append(token_hash)

    def _tell(self, link: _Link, text: bytes) -> None:
        self._untold.extend((socket, text) for socket in link.sockets)

    def _begin_telling(self) -> None:
        if not self._is_telling and (self._untold or self._over):
            self._is_telling = True
            asyncio.get_running_loop().call_soon(self._tell_some)

    def _tell_some(self) -> None:
        self._is_telling = False
        for _ in range(_TOLD_AT_ONCE):
            if self._untold:
                socket, text = self._untold.popleft()
                socket.push(text)
            elif self._over:
                self._end(self._over.popleft())
        self._begin_telling()

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
