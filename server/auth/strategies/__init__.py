"""What a way to log in promises, what its answers are, and the ones this server knows by name
(contract/05 §2).

A strategy is one class in one file. It sees no Request, and it never writes: it prepares changes,
so that a user and all his credentials become one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocol.errors import error
from server.storage.base import Change


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What somebody who wants to log in has sent; `headers` have lower-case names, `address` is the
    peer's."""

    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    args: Mapping[str, object] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    address: str = ""


WRONG = "wrong user or password"
"""What everybody is told who may not log in, whatever is wrong."""
DISABLED = "disabled user"
"""What the audit trail is told of him, like other reasons: by `server.auth.audit.tell`."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """He is this user, as long as `guards` hold: what proved it may change before his token is
    stored."""

    kuid: str
    guards: tuple[Change, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """He has not proved who he is; `message` is what he is told."""

    message: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """He must go elsewhere first, and come back from there."""

    url: str
    status: int = 302


@dataclass(frozen=True, slots=True)
class Challenge:
    """He must take a further step; `data` says which."""

    data: Mapping[str, object]


Outcome = Authenticated | Refused | Redirect | Challenge


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to show the caller once `changes` are made."""

    shown: dict[str, object]
    changes: list[Change] = field(repr=False)


class Strategy(Protocol):
    """One way to log in. `by` is the kuid of who asks for a change.

    Any of these may be there as well, and is looked for by name: `get_info(kuid)`, `get_by_id(id)`,
    `search(query, sort, start, size)`, `refresh_token(kuid)`, `after_register()`,
    `validate_new(credentials, kuid, profile_ids)`: in the place of `validate` for a user who is not
    stored yet, where it matters which profiles he will have; and, not async,
    `account_of(attempt)`: the text that names the account somebody wants to log in to, as it was
    given, None where none is named. Failed logins are counted by it.
    """

    @property
    def name(self) -> str:
        """The name it is registered under unless the operator chooses another."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What its credentials consist of, for clients that draw forms."""

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Find out who it is. ApiError for a request that is wrong in itself."""

    async def exists(self, kuid: str) -> bool:
        """Tell whether this user has credentials here."""

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """Raise ApiError if these can't become, or with `is_update` change, the credentials of this
        user (None: of anybody)."""

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """Prepare a user's first credentials here, out of validated ones."""

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """Prepare changed credentials, out of validated ones."""

    async def delete(self, kuid: str) -> Prepared:
        """Prepare the end of a user's credentials. ApiError if he has none."""


class Strategies:
    """The strategies by name, in the order of their registration."""

    def __init__(self) -> None:
        self._by_name: dict[str, Strategy] = {}

    def register(self, name: str, strategy: Strategy) -> None:
        """Add a strategy, or replace the one of this name."""
        self._by_name[name] = strategy

    def remove(self, name: str) -> None:
        """Forget a strategy; ApiError 404 if there is none."""
        if self._by_name.pop(name, None) is None:
            raise error("plugin.strategy.strategy_not_found", name)

    def get(self, name: str) -> Strategy:
        """Give a strategy; ApiError 400 for an unknown one."""
        strategy = self._by_name.get(name)
        if strategy is None:
            raise error("security.credentials.unknown_strategy", name)
        return strategy

    def names(self) -> list[str]:
        """Give all names."""
        return list(self._by_name)
