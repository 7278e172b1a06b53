"""Fixtures of the tests that need a running server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server.app.application import clock_ms
from server.auth.audit import notifier
from server.auth.strategies.magic import messages as magicletters
from server.storage.sqlite.storage import SqliteStorage
from tests.support.clock import Clock
from tests.support.commands import Desk
from tests.support.posted_messages import Post
from tests.support.providers.ldap import ActiveDirectory, active_directory
from tests.support.server import Running, running

if TYPE_CHECKING:
    from tests.support.providers.saml import Idp


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    """A server on a free port, with an empty store in memory."""
    async with running() as started:
        yield started


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the servers a test starts."""
    made = Clock()
    monkeypatch.setattr("server.app.application.clock_ms", made)
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


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the test depends on the pauses before a delivery and before a message about a name
    that somebody typed."""
    for module in (magicletters, notifier):
        monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0)


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """The letters of a strategy whose folder is the test's."""
    return Post(tmp_path)


@pytest.fixture(scope="module")
def provider() -> Iterator["Idp"]:
    """An identity provider of SAML, whose keys take a while. What it is made with takes long to
    import, and is for the tests that want it only."""
    with import_module("tests.support.providers.saml").identifying() as made:
        yield made


@pytest.fixture
def idp(provider: "Idp") -> "Idp":
    """The provider, with Ann, for one test that may change it."""
    return replace(provider, attributes={"mail": ["ann@mail.test"], "givenName": ["Ann"]})


@pytest.fixture(scope="session")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActiveDirectory]:
    """The domain CORP, which takes long to provision."""
    with active_directory(tmp_path_factory.mktemp("ad")) as started:
        yield started
