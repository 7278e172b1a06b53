"""Tells the operator's systems of changed credentials and of attacks, so that they can tell the
users (security check A16).

What is told comes from the lines of the audit trail (`server.auth.audit.events`), whether the trail
is kept or not: nothing secret ever gets into one. Nobody waits for it, and each program or service
has a bounded queue. The same suspicion of the same account is told once in a while only.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from types import MappingProxyType

from protocol.errors import ApiError
from server.auth.audit.events import MOST_USER_AGENT_CHARACTERS, Ending, Line
from server.auth.audit.notices import (
    CHANGED,
    ENROLLED,
    KEY_ADDED,
    KEY_REMOVED,
    RECOVERED,
    REMOVED,
    RESET_MADE,
)
from server.messaging.delivery import Outbox, Undelivered, Way
from server.storage.base import Unavailable

_LOG = logging.getLogger("manykeys.notifier")
MOST_WAITING = 1000
"""Messages that may wait for the program, and as many for the service."""
QUIET_MS = 600_000
"""The same suspicion is told once in so long."""
_MOST_TOLD = 10_000
_WORKERS = 4
_LAST_S = 2.0
_LONGEST_PAUSE_S = 0.5
KINDS: Mapping[str, str] = MappingProxyType({"command:user reset-mfa": REMOVED})
"""What is told of a command that went well and does not tell it itself."""
_OF_SUCCESS = frozenset({ENROLLED, CHANGED, REMOVED, KEY_ADDED, KEY_REMOVED, RESET_MADE, RECOVERED})
"""Notices that count unless their action is refused; all others are suspicions, and always do."""

OwnerOf = Callable[[str, str], Awaitable[str | None]]
"""Gives whose an account is, by strategy and identifier."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A message, and the account to find the user of, if he is not known yet."""

    message: Mapping[str, object]
    strategy: str
    suspect: str


class Notifier:
    """Sends what lines tell in all `ways`; without any, nothing costs anything."""

    def __init__(
        self, ways: Sequence[Way], *, owner_of: OwnerOf, clock_ms: Callable[[], int]
    ) -> None:
        self.is_on = bool(ways)
        self._owner_of = owner_of
        self._clock_ms = clock_ms
        self._random = SystemRandom()
        self._told: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._boxes = [
            Outbox(
                "notices",
                partial(self._send, way),
                _LOG,
                workers=_WORKERS,
                most_waiting=MOST_WAITING,
            )
            for way in ways
        ]

    def note(self, line: Line) -> None:
        """Tell what is to be told of an action that has ended."""
        if not self.is_on:
            return
        kinds = set(line.notices)
        if line.ending is Ending.REFUSED:
            kinds -= _OF_SUCCESS
        elif line.ending is Ending.OK and line.kind in KINDS:
            kinds.add(KINDS[line.kind])
        for kind in sorted(kinds):
            if kind in _OF_SUCCESS or self._is_news(kind, line):
                self._tell(kind, line)

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        async with asyncio.TaskGroup() as boxes:
            for box in self._boxes:
                boxes.create_task(box.run())

    async def finish(self, patience_s: float = _LAST_S) -> None:
        """Wait for what has not been sent yet, a moment unless told otherwise; `run` must go on
        meanwhile."""
        await asyncio.gather(*(box.finish(patience_s) for box in self._boxes))

    @asynccontextmanager
    async def sending(self, patience_s: float) -> AsyncIterator[None]:
        """Send meanwhile, and what is left at the end, for so long: for who runs no `run`."""
        task = asyncio.create_task(self.run(), name="notices")
        try:
            yield
        finally:
            await self.finish(patience_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _is_news(self, kind: str, line: Line) -> bool:
        """Tell whether a suspicion was not told a short while ago."""
        now_ms = self._clock_ms()
        key = (kind, line.strategy, line.subject or line.suspect)
        if self._told.get(key, 0) > now_ms:
            return False
        self._told[key] = now_ms + QUIET_MS
        self._told.move_to_end(key)
        if len(self._told) > _MOST_TOLD:
            self._told.popitem(last=False)
        return True

    def _tell(self, kind: str, line: Line) -> None:
        subjects: list[str] = sorted(line.told) or [line.subject]
        for subject in subjects:
            message = {
                "kind": kind,
                "at": line.at_ms,
                "user": subject,
                "strategy": line.strategy,
                "action": line.kind,
                "outcome": line.ending.value,
                "by": line.actor,
                "address": line.source.address,
                "userAgent": line.source.user_agent[:MOST_USER_AGENT_CHARACTERS],
            }
            for box in self._boxes:
                box.put(_Told(message, line.strategy, "" if subject else line.suspect))

    async def _send(self, way: Way, told: _Told) -> None:
        """Send a message; nothing of an account that nobody has."""
        user = told.message["user"]
        if not user and told.suspect:
            # To start a program holds up everybody for a moment: that must not tell who guesses
            # names that this one is somebody's.
            await asyncio.sleep(self._random.uniform(0, _LONGEST_PAUSE_S))
            user = await self._find(told.strategy, told.suspect)
        if user:
            await way.deliver({**told.message, "user": user})

    async def _find(self, strategy: str, account: str) -> str | None:
        try:
            return await self._owner_of(strategy, account)
        except (ApiError, Unavailable) as reason:
            raise Undelivered(type(reason).__name__) from None
