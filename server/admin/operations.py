"""What the commands of an operator work with: the store and the rules of the server, beside
servers that run on the same store.

Knows nothing of flags; `app.operating` puts it together.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from server.auth.access.permissions import Rulebook
from server.auth.access.profiles import Profiles
from server.auth.access.roles import Roles
from server.auth.accounts.credentials import Credentials
from server.auth.accounts.user_updates import UserChanges
from server.auth.accounts.users import Users
from server.auth.assurance import Principal, TokenKind
from server.auth.audit.events import Line, carry
from server.auth.audit.notifier import Notifier
from server.auth.passwords.hasher import Passwords
from server.auth.sessions.keyring import JOURNAL_S
from server.core.ids import ANONYMOUS_ID
from server.storage.base import Change, Storage

OPERATOR = ANONYMOUS_ID
"""Who changes something from the command line, as far as documents can tell: nobody logged in."""
BY_OPERATOR = Principal(OPERATOR, TokenKind.OPERATOR)
"""The principal of the command line, of whom no login is required."""
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
