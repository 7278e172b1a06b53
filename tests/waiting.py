"""How tests wait for what happens elsewhere: with a deadline, and no longer than needed."""

import asyncio
from collections.abc import Callable

WAIT_S = 20.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; TimeoutError at the deadline."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  (nobody tells when it comes true)
            await asyncio.sleep(0.005)
