"""One login attempt from a strategy's outcome to a user (contract/05 §3; design §6).

Strategies may come from anybody: each attempt runs in a task of its own, and what it gives is checked before it counts.
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
)
from server.auth.users import User, Users
from server.storage.base import Unavailable

_LOG = logging.getLogger("manykeys.logins")
_REFUSED = "wrong user or password"


class Logins:
    """Runs strategies."""

    __slots__ = ("_strategies", "_users")

    def __init__(self, strategies: Strategies, users: Users) -> None:
        self._strategies = strategies
        self._users = users

    async def attempt(self, name: str, attempt: LoginAttempt) -> User | Redirect | Challenge:
        """Give who logged in, or the next step of a login with several.

        400 for an unknown strategy, 401 `plugin.strategy.missing_user` for a refusal, 500 for a faulty strategy.
        """
        strategy = self._strategies.get(name)
        try:
            outcome = await asyncio.create_task(strategy.verify(attempt), name=f"login with {name}")
        except (ApiError, Unavailable):
            raise
        except Exception:
            _LOG.exception("strategy %s failed", name)
            raise error("plugin.runtime.unexpected_error", f"strategy {name} failed") from None
        if isinstance(outcome, Refused):
            raise error("plugin.strategy.missing_user", outcome.message or _REFUSED)
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
            raise error("plugin.strategy.missing_user", _REFUSED)
        return user
