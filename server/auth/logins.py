"""One login attempt from a strategy's outcome to a user (contract/05 §3; design §6).

Strategies may come from anybody: each attempt runs in a task of its own, and what it gives is
checked before it counts.
"""

import asyncio
import logging

from protocol.errors import ApiError, error
from server.auth.strategies import (
    Authenticated,
    Challenge,
    LoginAttempt,
    Redirect,
    Refused,
    Strategies,
    Strategy,
)
from server.auth.throttle import Throttle
from server.auth.users import User, Users
from server.storage.base import Unavailable

_LOG = logging.getLogger("manykeys.logins")
_REFUSED = "wrong user or password"
_MISSING_USER = "plugin.strategy.missing_user"


class Logins:
    """Runs strategies, as often as the throttle lets them."""

    __slots__ = ("_strategies", "_throttle", "_users")

    def __init__(self, strategies: Strategies, users: Users, throttle: Throttle) -> None:
        self._strategies = strategies
        self._users = users
        self._throttle = throttle

    async def attempt(self, name: str, attempt: LoginAttempt) -> User | Redirect | Challenge:
        """Give who logged in, or the next step of a login with several.

        400 for an unknown strategy, 401 `plugin.strategy.missing_user` for a refusal, 429 for one
        too many refusals before, 500 for a faulty strategy.
        """
        strategy = self._strategies.get(name)
        account = _account_of(name, strategy, attempt)
        begun = await self._throttle.begin(account, attempt.address)
        try:
            found = await self._run(name, strategy, attempt)
            if isinstance(found, User):
                begun.succeeded()
            return found
        except ApiError as refused:
            if refused.id == _MISSING_USER:
                begun.failed()
            raise
        finally:
            begun.cancelled()

    async def _run(
        self, name: str, strategy: Strategy, attempt: LoginAttempt
    ) -> User | Redirect | Challenge:
        try:
            outcome = await asyncio.create_task(strategy.verify(attempt), name=f"login with {name}")
        except (ApiError, Unavailable):
            raise
        except Exception:
            _LOG.exception("strategy %s failed", name)
            raise error("plugin.runtime.unexpected_error", f"strategy {name} failed") from None
        if isinstance(outcome, Refused):
            raise error(_MISSING_USER, outcome.message or _REFUSED)
        if isinstance(outcome, (Redirect, Challenge)):
            return outcome
        if not isinstance(outcome, Authenticated):
            raise error("plugin.strategy.invalid_verify_resolve", name)
        return await self._find_user(name, outcome.kuid)

    async def _find_user(self, name: str, kuid: object) -> User:
        if not isinstance(kuid, str):
            raise error("plugin.strategy.invalid_kuid", name)
        user = await self._users.get(kuid)
        if user is None:
            raise error("plugin.strategy.unknown_kuid", name)
        if user.is_disabled:
            raise error(_MISSING_USER, _REFUSED)
        return user


def _account_of(name: str, strategy: Strategy, attempt: LoginAttempt) -> str | None:
    """Name the account that is tried, if the strategy tells; the names of one are not another's."""
    account_of = getattr(strategy, "account_of", None)
    account = None if account_of is None else account_of(attempt)
    return f"{name}\0{account}" if isinstance(account, str) else None
