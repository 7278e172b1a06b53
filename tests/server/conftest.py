"""Fixtures of the tests that need a running server."""

from collections.abc import AsyncIterator

import pytest

from tests.server.running import Running, running


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    """A server on a free port, with an empty store in memory."""
    async with running() as started:
        yield started
