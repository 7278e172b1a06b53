"""Security event notifications: notify the operator's systems of changed credentials and of
attacks, so that they can inform the users (security check A16).

Notifications are derived from the lines of the audit log (`server.auth.audit.events`), whether it
is enabled or not: a line never contains secrets. No request waits for them, and each program or
service has a limited queue. The same suspicion about the same account is repeated only after a
while.
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
"""Minimum time before the same suspicion is sent again."""
_MAX_REMEMBERED = 10_000
_WORKERS = 4
_LAST_S = 2.0
_LONGEST_PAUSE_S = 0.5
KINDS: Mapping[str, str] = MappingProxyType({"command:user reset-mfa": REMOVED})
"""Notices of commands that succeeded and do not send one themselves."""
_OF_SUCCESS = frozenset({ENROLLED, CHANGED, REMOVED, KEY_ADDED, KEY_REMOVED, RESET_MADE, RECOVERED})
"""Notices that count unless their action is refused; all others are suspicions, and always do."""

OwnerOf = Callable[[str, str], Awaitable[str | None]]
"""Returns the owner of an account, by strategy and identifier."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A message, and the account to find the user of, if the user is not known yet."""

    message: Mapping[str, object]
    strategy: str
    suspect: str


class SecurityNotifier:
    """Sends notifications in all `ways`; without any, it does nothing."""

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
        """Queue the notifications of an action that has ended."""
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
        """Send queued notifications, until cancelled."""
        async with asyncio.TaskGroup() as boxes:
            for box in self._boxes:
                boxes.create_task(box.run())

    async def finish(self, patience_s: float = _LAST_S) -> None:
        """Wait for what has not been sent yet, a moment unless told otherwise; `run` must continue
        meanwhile."""
        await asyncio.gather(*(box.finish(patience_s) for box in self._boxes))

    @asynccontextmanager
    async def sending(self, patience_s: float) -> AsyncIterator[None]:
        """Send meanwhile, and what is left at the end, for so long: for callers without `run`."""
        task = asyncio.create_task(self.run(), name="notices")
        try:
            yield
        finally:
            await self.finish(patience_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _is_news(self, kind: str, line: Line) -> bool:
        """Return whether a suspicion was not sent a short while ago."""
        now_ms = self._clock_ms()
        key = (kind, line.strategy, line.subject or line.suspect)
        if self._told.get(key, 0) > now_ms:
            return False
        self._told[key] = now_ms + QUIET_MS
        self._told.move_to_end(key)
        if len(self._told) > _MAX_REMEMBERED:
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
                box.put(_Message(message, line.strategy, "" if subject else line.suspect))

    async def _send(self, way: Way, told: _Message) -> None:
        """Send a message; nothing for an account without an owner."""
        user = told.message["user"]
        if not user and told.suspect:
            # Starting a program delays all requests for a moment: the delay must not reveal to a
            # client that guesses names that this account exists.
            await asyncio.sleep(self._random.uniform(0, _LONGEST_PAUSE_S))
            user = await self._find(told.strategy, told.suspect)
        if user:
            await way.deliver({**told.message, "user": user})

    async def _find(self, strategy: str, account: str) -> str | None:
        try:
            return await self._owner_of(strategy, account)
        except (ApiError, Unavailable) as reason:
            raise Undelivered(type(reason).__name__) from None
