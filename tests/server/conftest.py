"""Fixtures of the tests that need a running server."""

from collections.abc import AsyncIterator

import pytest

from tests.server.clock import Clock
from tests.server.running import Running, running


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    """A server on a free port, with an empty store in memory."""
    async with running() as started:
        yield started


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the servers a test starts."""
    made = Clock()
    monkeypatch.setattr("server.app.clock_ms", made)
    return made
