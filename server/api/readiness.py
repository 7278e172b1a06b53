"""Readiness probe: whether the database answers, checked once a second however often probes
come."""

import asyncio
from collections.abc import Awaitable, Callable

KEPT_S = 1.0
"""How long an answer is kept; whatever reads `/_ready` asks every few seconds."""


class Readiness:
    """Caches the last result of `check`, and shares a running check."""

    __slots__ = ("_asked", "_check", "_clock_s", "_is_ready", "_until_s")

    def __init__(self, check: Callable[[], Awaitable[bool]], clock_s: Callable[[], float]) -> None:
        self._check = check
        self._clock_s = clock_s
        self._is_ready = False
        self._until_s = float("-inf")
        self._asked: asyncio.Task[bool] | None = None

    async def is_ready(self) -> bool:
        """Return whether the store answers, as of at most `KEPT_S` ago."""
        if self._clock_s() < self._until_s:
            return self._is_ready
        if self._asked is None:
            self._asked = asyncio.create_task(self._ask(), name="readiness")
        # The first caller may be cancelled; the others still wait.
        return await asyncio.shield(self._asked)

    async def _ask(self) -> bool:
        try:
            self._is_ready = await self._check()
            self._until_s = self._clock_s() + KEPT_S
        finally:
            self._asked = None
        return self._is_ready
