"""Steady clock for token lifetimes: the system's time of day, protected against jumps.

Tokens outlive the process, so they expire at a time of day; but a clock that is set back must not
revive expired tokens, and one that leaps ahead must not expire valid ones. Timers and deadlines are
not affected: they use the monotonic clock.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

_LOG = logging.getLogger("manykeys.clock")
_FOLLOW_S = 1.0
# How much faster or slower than real time the clock may run to catch up with the system's clock.
MOST_HASTE = 0.1
_NOTABLE_MS = 1000.0


# Where the system supports it, time spent in suspend counts.
_BOOTED = getattr(time, "CLOCK_BOOTTIME", None)
_ELAPSED_S = time.monotonic if _BOOTED is None else partial(time.clock_gettime, _BOOTED)


class SteadyClock:
    """Starts at the time of day, never goes back, and never jumps.

    If the system's clock is moved, this one follows at no more than a tenth above or below real
    speed: an hour takes ten.
    """

    __slots__ = ("_base_ms", "_elapsed_s", "_is_logged", "_ms_per_s", "_wall_ms")

    def __init__(
        self, wall_ms: Callable[[], float], elapsed_s: Callable[[], float] = _ELAPSED_S
    ) -> None:
        self._wall_ms = wall_ms
        self._elapsed_s = elapsed_s
        self._ms_per_s = 1000.0
        self._base_ms = wall_ms() - elapsed_s() * 1000.0
        self._is_logged = False

    def read_ms(self) -> int:
        """Return the time in ms since 1970."""
        return int(self._elapsed_s() * self._ms_per_s + self._base_ms)

    def follow(self) -> None:
        """Adjust the speed to the distance from the system's clock. Call it every second."""
        elapsed_s = self._elapsed_s()
        now_ms = elapsed_s * self._ms_per_s + self._base_ms
        behind_ms = self._wall_ms() - now_ms
        most_ms = MOST_HASTE * 1000.0
        self._ms_per_s = 1000.0 + max(-most_ms, min(behind_ms / _FOLLOW_S, most_ms))
        self._base_ms = now_ms - elapsed_s * self._ms_per_s
        is_away = abs(behind_ms) > _NOTABLE_MS
        if is_away and not self._is_logged:
            text = "the system clock was moved by %+.1f s; token expiry follows slowly"
            _LOG.warning(text, behind_ms / 1000)
        self._is_logged = is_away

    async def keep(self) -> None:
        """Follow the system's clock."""
        while True:
            await asyncio.sleep(_FOLLOW_S)
            self.follow()
