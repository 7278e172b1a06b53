"""How tests wait for what happens elsewhere: with a deadline, and no longer than needed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")

WAIT_S = 20.0


@asynccontextmanager
async def deadline(seconds: int = int(WAIT_S), *, second_s: float = 1.0) -> AsyncIterator[None]:
    """End the block by TimeoutError after so many seconds of the loop's own.

    Whenever the loop gets to run, at most one has gone by: a machine that stands still, or serves
    others first, decides no test.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as timeout:

        def go_by(left: int) -> None:
            nonlocal going_by
            if left == 0:
                timeout.reschedule(loop.time())
            else:
                going_by = loop.call_later(second_s, go_by, left - 1)

        going_by = loop.call_later(second_s, go_by, seconds - 1)
        try:
            yield
        finally:
            going_by.cancel()


async def in_time(awaitable: Awaitable[T]) -> T:
    """Wait for something, and give it; TimeoutError at the deadline."""
    async with deadline():
        return await awaitable


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; TimeoutError at the deadline."""
    async with deadline():
        while not condition():  # noqa: ASYNC110  (nobody tells when it comes true)
            await asyncio.sleep(0.005)
