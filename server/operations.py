"""What the commands of an operator work with: the store and the rules of the server, beside
servers that run on the same store.

Knows nothing of flags; `app.operating` puts it together.
"""

import asyncio
import os
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from protocol.errors import LocalError
from server.auth.assurance import Principal, TokenKind
from server.auth.audit import Line, carry
from server.auth.credentials import Credentials
from server.auth.keyring import JOURNAL_S
from server.auth.names import ANONYMOUS_ID
from server.auth.passwords import Passwords
from server.auth.profiles import Profiles
from server.auth.rights import Rulebook
from server.auth.roles import Roles
from server.auth.userchanges import UserChanges
from server.auth.users import Users
from server.notifier import Notifier
from server.storage.base import Change, Storage

OPERATOR = ANONYMOUS_ID
"""Who changes something from the command line, as far as documents can tell: nobody logged in."""
BY_OPERATOR = Principal(OPERATOR, TokenKind.OPERATOR)
"""The principal of the command line, of whom no login is required."""
_MOST_SHOWN = 120
T = TypeVar("T")


class NoSessions:
    """The sessions of an operator: he has none, so that none of his could end or go on."""

    async def family_of(self, token_hash: bytes) -> str:
        """See `OwnSessions`."""
        return ""

    async def ends_of_others(self, kuid: str, family: str) -> list[Change]:
        """See `OwnSessions`."""
        return []

    async def revoke_others(self, kuid: str, family: str) -> None:
        """See `OwnSessions`."""


@dataclass(frozen=True, slots=True)
class Operations:
    """The parts of a server that need no signing key and no socket. Servers have heard of a change
    after `heard_s`. `factors` are the names of strategies that are second factors."""

    storage: Storage
    passwords: Passwords
    rulebook: Rulebook
    roles: Roles
    profiles: Profiles
    users: Users
    user_changes: UserChanges
    credentials: Credentials
    notifier: Notifier
    factors: tuple[str, ...]
    clock_ms: Callable[[], int]
    heard_s: float = JOURNAL_S

    async def change(self, kind: str, subject: str, work: Awaitable[T], *, strategy: str = "") -> T:
        """Do what changes something, and return once every running server acts on it; the audit
        trail, and the operator's systems where users must know, are told that `kind` was done to
        `subject`, to his credentials of a `strategy`."""
        line = Line(
            self.clock_ms(), f"command:{kind}", actor="", subject=subject, strategy=strategy
        )
        done = await carry(line, work)
        self.notifier.note(line)
        await asyncio.sleep(self.heard_s)
        return done


Work = Callable[[Operations, Namespace], Awaitable[None]]
"""What a command does, with its flags; `data` is always the database's."""


def write_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table for people, in columns as wide as they must be."""
    lines = [tuple(headings), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def check_apart(path: Path, data: str, *others: Path) -> None:
    """Raise LocalError if what is to be written is one of the files that are needed; the database
    `data` has its latest writes in a second one."""
    place = os.path.realpath(data)
    others += tuple(Path(place + suffix) for suffix in ("", "-wal", "-shm"))
    if path.exists() and any(other.exists() and path.samefile(other) for other in others):
        raise LocalError(f"{path}: expected another file, this one is in use")


def printable(text: str) -> str:
    """Give a text that does nothing to a terminal: on one line, cut where it is very long."""
    cut = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)
