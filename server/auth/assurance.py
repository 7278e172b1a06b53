"""Assurance of a token (how and when its user proved who they are), and the principal that asks for
a change.

`amr` follows the idea of RFC 8176 (authentication methods references), with the names of the
strategies of this server as values. Knows nothing of requests, users or storage.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from server.auth.passwords.policies import NO_USERS, Scope

BY_API_KEY = "api:key"
"""In an `amr`: the session was created with an API key. Names of strategies have no colon."""
DEFAULT_RECENT_MS = 900_000.0
Confirm = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Run a check of something only this user should know, throttled as logins are."""


class TokenKind(Enum):
    """The kind of a token; one kind is never accepted as another. `OPERATOR` is not a token: it
    represents the command line."""

    NONE = "no token"
    SESSION = "session"
    SINGLE_USE = "single use"
    API_KEY = "API key"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Assurance:
    """The authentication methods behind a token, in the order they were used, and when the login
    was completed, in ms since 1970; None for a token that did not begin with a login."""

    amr: tuple[str, ...] = ()
    authenticated_at_ms: int | None = None

    def derived(self, *, by_key: bool) -> "Assurance":
        """Return the assurance of a token created with this one: the same methods, no login."""
        marked = by_key and BY_API_KEY not in self.amr
        return Assurance((*self.amr, BY_API_KEY) if marked else self.amr)


UNPROVEN = Assurance()
STEP_UP = frozenset(
    ("auth", name)
    for name in (
        *("login", "logout", "checkToken", "getCurrentUser", "getMyRights", "getStrategies"),
        *("credentialsExist", "getMyCredentials", "createMyCredentials"),
    )
)
"""What a session without a required second factor may still do: read, log in again, add the factor,
log out."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The user or client that asks for a change, and with what assurance.

    `password` is the current password as it was sent, `confirm` checks it. A change that is
    completed later, by a provider's response, is made by the principal that began it: `asked_at_ms`
    says when, and `is_confirmed` whether the current password was correct then. None: now.
    """

    kuid: str
    kind: TokenKind
    assurance: Assurance = UNPROVEN
    token_hash: bytes = field(default=b"", repr=False)
    password: object = field(default=None, repr=False)
    confirm: Confirm | None = field(default=None, repr=False)
    asked_at_ms: int | None = None
    is_confirmed: bool = False

    @property
    def is_by_key(self) -> bool:
        """Whether an API key asks, or a session that was created with one."""
        return self.kind is TokenKind.API_KEY or BY_API_KEY in self.assurance.amr


class AssuranceRules(Protocol):
    """Rules on second factors as sessions and API keys use them; see `StepUp`."""

    def is_sufficient(self, assurance: Assurance, kind: TokenKind) -> bool:
        """Return whether a token is sufficient where a second factor is required."""

    async def is_required(self, kuid: str, profile_ids: Iterable[str]) -> bool:
        """Return whether a user must have a second factor."""

    async def check_api_key(self, by: Principal, kuid: str, profile_ids: Iterable[str]) -> None:
        """Refuse (ApiError 403) a principal who may not create or delete a user's API key."""


@dataclass(frozen=True, slots=True)
class MfaPolicy:
    """`[security.mfa]` with what `security.strict` and `security.apiKey` add to it.

    With `covers_all` a recent login is required to change any authentication method, else only for
    second factors and what replaces one. `keys_change_others` allows API keys what needs a recent
    login for other users, `keys_change_own` allows them to change how their own user logs in.
    `is_open` means that everyone may do everything.
    """

    required_for: Scope = NO_USERS
    factors: tuple[str, ...] = ()
    exempt: frozenset[str] = frozenset()
    recent_ms: float = DEFAULT_RECENT_MS
    keys_need_it: bool = True
    is_portable: bool = False
    covers_all: bool = False
    keys_change_others: bool = False
    keys_change_own: bool = False
    is_open: bool = False

    def is_sufficient(self, assurance: Assurance, kind: TokenKind) -> bool:
        """Return whether a token is sufficient where a second factor is required; the absence of a
        token always is, since it authenticates no user."""
        if self.required_for == NO_USERS or self.is_open or kind is TokenKind.NONE:
            return True
        is_key = kind is TokenKind.API_KEY or BY_API_KEY in assurance.amr
        return (is_key and not self.keys_need_it) or self.has_factor(assurance)

    def has_factor(self, assurance: Assurance) -> bool:
        """Return whether a second factor, or a strategy that needs none, is among the methods."""
        first, seconds = assurance.amr[:1], assurance.amr[1:]
        return not self.exempt.isdisjoint(first) or not set(self.factors).isdisjoint(seconds)
