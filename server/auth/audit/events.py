"""Audit events: what the audit log records of an action.

While an audited action runs, a `Line` contains what is known about it, and its writes include an
`Event` (`server.auth.audit.storage`). Code that knows more than the request shows reports it with
`tell`. Never passed to this module: passwords, tokens, bodies, and names of no existing user.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Iterable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic_ns
from typing import TypeVar

from server.core.ids import ANONYMOUS_ID, MOST_ID_BYTES
from server.storage.rows import Row

MOST_USER_AGENT_CHARACTERS = 256
_MAX_REASON_CHARACTERS = 128
_RANDOM_BYTES = 4
# Control characters, line ends among them, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

T = TypeVar("T")


class Ending(Enum):
    """How an action ended; `PENDING` is a login that continues elsewhere or in a further step."""

    OK = "ok"
    REFUSED = "refused"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request came from."""

    address: str = ""
    user_agent: str = ""


NOWHERE = Source()


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit log.

    `kind` is `controller:action`, or the like for events without a request. `subject` is the ID of
    the user, role or profile it is about, `target` the ID of the user's key, session or
    credentials, "" where there is none. `actor` is the kuid of the user who did it. `count` is how
    often it happened within a minute of `at_ms`. Strings are limited in size and without control
    characters.
    """

    id: str
    at_ms: int
    kind: str
    ending: Ending
    subject: str
    target: str
    actor: str
    address: str
    user_agent: str
    strategy: str
    reason: str
    count: int = 1

    def row(self) -> Row:
        """Return the row of `Table.AUDIT`."""
        return {
            "id": self.id,
            "at": self.at_ms,
            "kind": self.kind,
            "outcome": self.ending.value,
            "subject": self.subject,
            "target": self.target,
            "actor": self.actor,
            "address": self.address,
            "user_agent": self.user_agent,
            "strategy": self.strategy,
            "reason": self.reason,
            "count": self.count,
        }


@dataclass(slots=True, eq=False)
class Line:
    """What is known so far of one action; `told` are the subjects whose event is stored, `notices`
    what the operator's systems are to be notified of in addition (`server.auth.audit.notifier`);
    `suspect` is the account that the client named, which may not exist: only to find its owner;
    `slowed` is what must wait because of it, each an event of its own."""

    at_ms: int
    kind: str
    actor: str = ANONYMOUS_ID
    source: Source = NOWHERE
    subject: str = ""
    strategy: str = ""
    reason: str = ""
    ending: Ending = Ending.OK
    told: set[str] = field(default_factory=set)
    notices: set[str] = field(default_factory=set)
    suspect: str = field(default="", repr=False)
    slowed: list[str] = field(default_factory=list)

    def event(self, subject: str, target: str = "") -> Event:
        """Return the event to store."""
        return Event(
            # Within a millisecond the monotonic clock orders events.
            id=f"{first_id(self.at_ms)}{monotonic_ns():016x}{secrets.token_hex(_RANDOM_BYTES)}",
            at_ms=self.at_ms,
            kind=self.kind,
            ending=self.ending,
            subject=_clean(subject, MOST_ID_BYTES),
            target=_clean(target, MOST_ID_BYTES),
            actor=_clean(self.actor, MOST_ID_BYTES),
            address=_clean(self.source.address, MOST_USER_AGENT_CHARACTERS),
            user_agent=_clean(self.source.user_agent, MOST_USER_AGENT_CHARACTERS),
            strategy=_clean(self.strategy, MOST_ID_BYTES),
            reason=_clean(self.reason, _MAX_REASON_CHARACTERS),
        )


_LINE: ContextVar[Line | None] = ContextVar("audit line", default=None)
_IS_CARRIED: ContextVar[bool] = ContextVar("audit line is carried", default=True)


def first_id(at_ms: int) -> str:
    """Return the least ID of an event of this time: IDs sort as times do."""
    return f"{at_ms:012x}"


def tell(
    *,
    subject: str | None = None,
    actor: str | None = None,
    reason: str | None = None,
    ending: Ending | None = None,
    notice: str | None = None,
    suspect: str = "",
    strategy: str = "",
    slowed: Iterable[str] = (),
) -> None:
    """Report more about the action that runs, for the audit log and, as a `notice`, for the
    operator's systems alone; nothing if it is not audited."""
    line = _LINE.get()
    if line is None:
        return
    line.subject = line.subject if subject is None else subject
    line.actor = line.actor if actor is None else actor
    line.reason = line.reason if reason is None else reason
    line.ending = line.ending if ending is None else ending
    line.strategy = strategy or line.strategy
    line.slowed += slowed
    if notice is not None:
        line.notices.add(notice)
        line.suspect = suspect or line.suspect


async def carry(line: Line, work: Awaitable[T]) -> T:
    """Run audited work: its writes include the line.

    In a task of its own, whose context ends with it: the line is never visible to other requests.
    """
    context = copy_context()
    context.run(_LINE.set, line)
    context.run(_IS_CARRIED.set, True)
    return await asyncio.create_task(_finished(work), context=context)


def aside() -> Context:
    """Return the context for a part of an action that only looks up and decides nothing yet: it may
    `tell`, but its writes are not those of the line."""
    context = copy_context()
    context.run(_IS_CARRIED.set, False)
    return context


def carried() -> Line | None:
    """Return the line that writes made in this context include."""
    return _LINE.get() if _IS_CARRIED.get() else None


async def _finished(work: Awaitable[T]) -> T:
    return await work


def _clean(text: str, max_characters: int) -> str:
    return _UNSAFE.sub("\ufffd", text[:max_characters])
