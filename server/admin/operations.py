"""Operator commands: access to the database with the rules of the server, also while servers run on
the same database.

Independent of command line flags; `app.operating` creates it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from server.auth.access.permissions import PermissionCompiler
from server.auth.access.profiles import Profiles
from server.auth.access.roles import Roles
from server.auth.accounts.credentials import Credentials
from server.auth.accounts.user_updates import UserChanges
from server.auth.accounts.users import Users
from server.auth.assurance import Principal, TokenKind
from server.auth.audit.events import Line, carry
from server.auth.audit.notifier import SecurityNotifier
from server.auth.passwords.hasher import PasswordHasher
from server.auth.sessions.keyring import JOURNAL_S
from server.core.ids import ANONYMOUS_ID
from server.storage.base import Change, Storage

OPERATOR = ANONYMOUS_ID
"""Author of changes from the command line, in `_kuzzle_info`: no logged-in user."""
BY_OPERATOR = Principal(OPERATOR, TokenKind.OPERATOR)
"""The principal of the command line, which needs no login."""
T = TypeVar("T")


class NoSessions:
    """The sessions of the operator, who has none."""

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
    """The services of a server that need no signing key and no socket. Running servers have been
    notified of a change after `heard_s`. `factors` are the names of second factor strategies."""

    storage: Storage
    passwords: PasswordHasher
    rulebook: PermissionCompiler
    roles: Roles
    profiles: Profiles
    users: Users
    user_changes: UserChanges
    credentials: Credentials
    notifier: SecurityNotifier
    factors: tuple[str, ...]
    clock_ms: Callable[[], int]
    heard_s: float = JOURNAL_S

    async def change(self, kind: str, subject: str, work: Awaitable[T], *, strategy: str = "") -> T:
        """Run a change, and return once every running server has applied it. The action `kind` on
        `subject`, or on their credentials of a `strategy`, is recorded in the audit log, and sent
        as a notification where users must be notified."""
        line = Line(
            self.clock_ms(), f"command:{kind}", actor="", subject=subject, strategy=strategy
        )
        done = await carry(line, work)
        self.notifier.note(line)
        await asyncio.sleep(self.heard_s)
        return done
