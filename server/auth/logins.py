"""One login attempt from a strategy's outcome to a user (contract/05 §3; design §6).

Strategies may come from anybody: each attempt runs in a task of its own, and what it gives is
checked before it counts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from protocol.errors import ApiError, error
from server.auth.audit import Ending, aside, tell
from server.auth.strategies import (
    DISABLED,
    WRONG,
    Authenticated,
    Challenge,
    LoginAttempt,
    Redirect,
    Refused,
    Strategies,
    Strategy,
)
from server.auth.throttle import Attempt, Throttle
from server.auth.users import User, Users
from server.storage.base import Change

_LOG = logging.getLogger("manykeys.logins")


@runtime_checkable
class Refreshes(Protocol):
    """A strategy that decides whether the sessions of its users may go on."""

    async def refresh_token(self, kuid: str) -> Mapping[str, object] | None:
        """Give None, or `expiresIn`, the life of the next token; anything raised is a refusal."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who logged in, as long as `guards` hold when his token is stored."""

    user: User
    guards: tuple[Change, ...]


class Logins:
    """Runs strategies, as often as the throttle lets them."""

    __slots__ = ("_strategies", "_throttle", "_users")

    def __init__(self, strategies: Strategies, users: Users, throttle: Throttle) -> None:
        self._strategies = strategies
        self._users = users
        self._throttle = throttle

    async def attempt(self, name: str, attempt: LoginAttempt) -> LoggedIn | Redirect | Challenge:
        """Give who logged in, or the next step of a login with several.

        400 for an unknown strategy, 401 `plugin.strategy.missing_user` for a refusal, 429 for one
        too many refusals before, 500 for a faulty strategy.
        """
        strategy = self._strategies.get(name)
        account = _account_of(name, strategy, attempt)
        begun = await self._throttle.begin(account, attempt.address)
        with _settling(begun):
            found = await self._run(name, strategy, attempt)
            if isinstance(found, LoggedIn):
                begun.succeeded()
            return found

    async def confirm(self, kuid: str, address: str, check: Callable[[], Awaitable[None]]) -> None:
        """Run a check of something only this user should know, throttled as logins are."""
        begun = await self._throttle.begin(f"\0{kuid}", address)
        with _settling(begun):
            await check()
            begun.succeeded()

    async def refresh(self, name: str, kuid: str) -> Mapping[str, object]:
        """Ask a strategy whether a user's session may go on; what it gives may hold `expiresIn`
        (contract/05 §2.1).

        401 `security.token.refresh_forbidden` if it has no say in that, or fails.
        """
        strategy = self._strategies.get(name) if name in self._strategies.names() else None
        if not isinstance(strategy, Refreshes):
            raise error("security.token.refresh_forbidden", f"{name!r} refreshes no token")
        asked = asyncio.create_task(
            strategy.refresh_token(kuid), name=f"refresh with {name}", context=aside()
        )
        (given,) = await asyncio.gather(asked, return_exceptions=True)
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            _LOG.warning("strategy %s refreshed no token: %r", name, given)
            raise error("security.token.refresh_forbidden", f"{name!r} refuses")
        return given

    async def _run(
        self, name: str, strategy: Strategy, attempt: LoginAttempt
    ) -> LoggedIn | Redirect | Challenge:
        # In a task of its own: a strategy of somebody else's may use what only works in one.
        outcome = await asyncio.create_task(
            strategy.verify(attempt), name=f"login with {name}", context=aside()
        )
        if isinstance(outcome, Refused):
            raise error("plugin.strategy.missing_user", outcome.message or WRONG)
        if isinstance(outcome, (Redirect, Challenge)):
            tell(ending=Ending.PENDING)
            return outcome
        if not isinstance(outcome, Authenticated):
            raise error("plugin.strategy.invalid_verify_resolve", name)
        user = await self._find_user(name, outcome.kuid)
        tell(actor=user.kuid)
        return LoggedIn(user, outcome.guards)

    async def _find_user(self, name: str, kuid: object) -> User:
        if not isinstance(kuid, str):
            raise error("plugin.strategy.invalid_kuid", name)
        user = await self._users.get(kuid)
        if user is None:
            raise error("plugin.strategy.unknown_kuid", name)
        if user.is_disabled:
            tell(subject=kuid, reason=DISABLED)
            raise error("plugin.strategy.missing_user", WRONG)
        return user


@contextmanager
def _settling(begun: Attempt) -> Iterator[None]:
    """Count a refusal as a failed attempt, and anything else but a success as none at all.

    A refusal that hands out something, like a reset token, followed a right password.
    """
    try:
        yield
    except ApiError as refused:
        if refused.status in (401, 403) and not refused.more:
            begun.failed()
        raise
    finally:
        begun.cancelled()


def _account_of(name: str, strategy: Strategy, attempt: LoginAttempt) -> str | None:
    """Name the account that is tried, if the strategy tells; the names of one are not another's."""
    account_of = getattr(strategy, "account_of", None)
    account = None if account_of is None else account_of(attempt)
    return f"{name}\0{account}" if isinstance(account, str) else None
