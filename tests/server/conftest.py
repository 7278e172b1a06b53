"""Fixtures of the tests that need a running server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from server.app import clock_ms
from server.storage.sqlite import SqliteStorage
from tests.server.clock import Clock
from tests.server.commands import Desk
from tests.server.directories import ActiveDirectory, active_directory
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


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    """Commands on a new database, which has nobody in it."""

    async def make() -> None:
        storage = SqliteStorage(str(tmp_path / "keys.db"), clock_ms=clock_ms)
        await storage.open()
        await storage.close()

    asyncio.run(make())
    return Desk(tmp_path / "keys.db", monkeypatch, capsys)


@pytest.fixture(scope="session")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActiveDirectory]:
    """The domain CORP, which takes long to provision."""
    with active_directory(tmp_path_factory.mktemp("ad")) as started:
        yield started
