"""Authenticated principal of a request: a `Person`, shared by all tokens of a user, and a `Caller`,
one of their tokens.

Both are cached between requests, so that a live token costs one look-up. Entries are dropped by
the journal, never changed in place. Knows nothing of requests or storage.
"""

from dataclasses import dataclass, field

from protocol.api.envelope import PreparedJson
from server.auth.access.permissions import Rights
from server.auth.assurance import UNPROVEN, Assurance, Principal, TokenKind
from server.auth.identity.user import User
from server.core.ids import ANONYMOUS_ID

__all__ = ["STALE", "Caller", "Person", "TokenKind"]
STALE = -1
"""A `Person.generation` that no rulebook has: the user must be read again."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Person:
    """One user with their compiled rights, as they were in the rulebook's `generation`.

    `permitted` contains the actions the user was found to have a right to wherever they act, `kept`
    the results of permitted ones that depend on nothing but the user; a change of user, credentials
    or rights creates a new Person.

    Where a second factor is required, sessions without it share a Person of their own, whose rights
    are those to step up; `beyond` are the rights they would have with it, None for all others.
    """

    user: User
    rights: Rights
    generation: int
    permitted: set[tuple[str, str]] = field(default_factory=set)
    kept: dict[tuple[str | None, str | None], PreparedJson] = field(default_factory=dict)
    beyond: Rights | None = None

    @property
    def kuid(self) -> str:
        """The user's ID."""
        return self.user.kuid

    @property
    def is_anonymous(self) -> bool:
        """Whether this is the anonymous user: requests without a token."""
        return self.user.kuid == ANONYMOUS_ID


@dataclass(slots=True, eq=False)
class Caller:
    """One verified token. `expires_at_ms` is infinity for a token without expiry; `used_at_ms`
    is its last use, `written_at_ms` the last use that is stored; `token_hash` is its
    SHA-256."""

    person: Person
    kind: TokenKind = TokenKind.NONE
    token_hash: bytes = b""
    session_id: str = ""  # of a session only: an API key has an ID its owner chose
    expires_at_ms: float = float("inf")
    used_at_ms: float = 0
    written_at_ms: float = 0
    assurance: Assurance = UNPROVEN

    @property
    def kuid(self) -> str:
        """The user's ID."""
        return self.person.user.kuid

    @property
    def is_anonymous(self) -> bool:
        """Whether there was no token, or a token of the anonymous user."""
        return self.person.user.kuid == ANONYMOUS_ID

    @property
    def principal(self) -> Principal:
        """The caller as the principal of a change."""
        return Principal(self.kuid, self.kind, self.assurance, self.token_hash)
