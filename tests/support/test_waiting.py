"""The deadline of the tests themselves."""

import asyncio
import time

import pytest

from tests.support.waiting import deadline


async def test_what_never_comes_is_waited_for_no_longer() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(3, second_s=0.01):
            await asyncio.Event().wait()


async def test_what_comes_ends_the_wait() -> None:
    came = asyncio.Event()
    asyncio.get_running_loop().call_soon(came.set)
    async with deadline(1, second_s=0.001):
        await came.wait()
    await asyncio.sleep(0.01)  # past the deadline, which no longer cancels anybody


async def test_a_loop_that_stood_still_loses_one_second() -> None:
    """As all do while the machine does something else; here it is the test that stops it."""
    async with deadline(2, second_s=0.01):
        time.sleep(0.1)  # noqa: ASYNC251
        await asyncio.sleep(0)
