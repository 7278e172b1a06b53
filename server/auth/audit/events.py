"""What the audit trail tells of an action.

While an action that is audited runs, a `Line` holds what is known about it, and its writes take an
`Event` along (`server.auth.audit.storage`). Whoever knows more than the request shows says so with
`tell`. Never handed to this module: passwords, tokens, bodies, and names that nobody has.
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
_MOST_REASON_CHARACTERS = 128
_RANDOM_BYTES = 4
# Control characters, line ends among them, and what is not text at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

T = TypeVar("T")


class Ending(Enum):
    """How an action ended; `PENDING` is a login that goes on elsewhere or in a further step."""

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
    """One line of the audit trail.

    `kind` is `controller:action`, or the like for what no request did. `subject` is the id of the
    user, role or profile it is about, `target` the id of his key, session or credentials, "" where
    there is none. `actor` is the kuid of who did it. `count` says how often it happened within a
    minute of `at_ms`. Texts are of bounded size and without control characters.
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
        """Give it as `Table.AUDIT` keeps it."""
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
    """What is known so far of one action; `told` are the subjects whose event is stored,
    `notices` what the operator's systems are to hear of it beside that
    (`server.auth.audit.notifier`);
    `suspect` is the account somebody named, which may be nobody's: only to find its owner; `slowed`
    says what must wait because of it, each an event of its own."""

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
        """Give what is to be kept of it."""
        return Event(
            # Within a millisecond the machine's own clock tells what came first.
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
            reason=_clean(self.reason, _MOST_REASON_CHARACTERS),
        )


_LINE: ContextVar[Line | None] = ContextVar("audit line", default=None)
_IS_CARRIED: ContextVar[bool] = ContextVar("audit line is carried", default=True)


def first_id(at_ms: int) -> str:
    """Give the least id of an event of this time: ids sort as times do."""
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
    """Say more about the action that runs, for the audit trail and, as a `notice`, for the
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
    """Do something audited: its writes take the line along.

    In a task of its own, whose context ends with it: the line never gets to other requests.
    """
    context = copy_context()
    context.run(_LINE.set, line)
    context.run(_IS_CARRIED.set, True)
    return await asyncio.create_task(_finished(work), context=context)


def aside() -> Context:
    """Give the context for a part of an action that finds out and decides nothing yet: it may
    `tell`, but its writes are not what the line tells of."""
    context = copy_context()
    context.run(_IS_CARRIED.set, False)
    return context


def carried() -> Line | None:
    """Give the line that writes made here and now take along."""
    return _LINE.get() if _IS_CARRIED.get() else None


async def _finished(work: Awaitable[T]) -> T:
    return await work


def _clean(text: str, most: int) -> str:
    return _UNSAFE.sub("\ufffd", text[:most])
