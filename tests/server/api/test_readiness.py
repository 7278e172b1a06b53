"""The readiness probe asks the store once a moment."""

import asyncio
from dataclasses import dataclass, field

import pytest

from server.api.readiness import KEPT_S, Readiness
from server.storage.sqlite.storage import SqliteStorage
from tests.support.server import running


@dataclass
class Store:
    """A store that answers when it is released."""

    is_ready: bool = True
    asked: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    now_s: float = 100.0

    async def check(self) -> bool:
        """Tell whether it is ready."""
        self.asked += 1
        await self.released.wait()
        return self.is_ready


@pytest.mark.parametrize("is_ready", [True, False])
async def test_an_answer_is_kept_for_a_moment(is_ready: bool) -> None:
    store = Store(is_ready)
    store.released.set()
    readiness = Readiness(store.check, lambda: store.now_s)
    assert [await readiness.is_ready() for _ in range(3)] == [is_ready] * 3
    assert store.asked == 1
    store.is_ready = not is_ready
    store.now_s += KEPT_S
    assert await readiness.is_ready() is not is_ready
    assert store.asked == 2


async def test_probes_at_once_ask_once_even_if_the_first_gives_up() -> None:
    store = Store()
    readiness = Readiness(store.check, lambda: store.now_s)
    first, second = (asyncio.create_task(readiness.is_ready()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    store.released.set()
    assert await second
    assert store.asked == 1


async def test_a_probe_that_fails_is_asked_again() -> None:
    store = Store()

    async def check() -> bool:
        await store.check()
        raise OSError

    store.released.set()
    readiness = Readiness(check, lambda: store.now_s)
    for asked in (1, 2):
        with pytest.raises(OSError):  # noqa: PT011
            await readiness.is_ready()
        assert store.asked == asked


async def test_many_probes_of_a_server_are_one_question_to_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, real = [], SqliteStorage.check

    async def check(store: SqliteStorage) -> bool:
        asked.append(store)
        return await real(store)

    monkeypatch.setattr("server.app.application.clock_s", lambda: 100.0)
    monkeypatch.setattr(SqliteStorage, "check", check)
    async with running() as server:
        http = await server.connect()
        statuses = [(await http.ask("GET", "/_ready")).status for _ in range(20)]
        assert statuses == [200] * 20
        assert len(asked) == 1
