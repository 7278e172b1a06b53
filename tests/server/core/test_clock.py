"""A system clock that is moved neither revives nor ends a token before its time."""

import asyncio
import signal
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as some

from protocol.errors import ApiError
from server.app import application as app
from server.app.application import build_services
from server.core.clock import MOST_HASTE, SteadyClock
from server.storage.sqlite.storage import SqliteStorage
from tests.server.app.test_serve import create_admin, login
from tests.server.net.test_connection import UPGRADE
from tests.support.server import Http, Socket, cheap_config
from tests.support.waiting import in_time

NOW_MS = 1_700_000_000_000
HOUR_S = 3600


@dataclass
class World:
    """What a machine has for clocks: one that may be moved, and one that may not."""

    wall_ms: float = NOW_MS
    elapsed_s: float = 50.0

    def clock(self) -> SteadyClock:
        """Give a clock of ours on this machine."""
        return SteadyClock(lambda: self.wall_ms, lambda: self.elapsed_s)

    def pass_time(self, seconds: float, clock: SteadyClock) -> None:
        """Let time pass, second by second, as the server follows it."""
        for _ in range(int(seconds)):
            self.wall_ms += 1000
            self.elapsed_s += 1
            clock.follow()


def test_it_goes_with_the_system_clock() -> None:
    world = World()
    clock = world.clock()
    assert clock.read_ms() == NOW_MS
    world.elapsed_s += 1.5
    assert clock.read_ms() == NOW_MS + 1500


@pytest.mark.parametrize("moved_s", [-HOUR_S, -5, 5, HOUR_S])
def test_it_catches_up_a_tenth_at_a_time(moved_s: int, caplog: pytest.LogCaptureFixture) -> None:
    """Neither back nor with a leap, and with one line in the log."""
    world = World()
    clock = world.clock()
    world.wall_ms += moved_s * 1000
    assert clock.read_ms() == NOW_MS
    world.pass_time(10, clock)
    # The first of the ten seconds goes by before the move is noticed.
    caught_up_ms = clock.read_ms() - NOW_MS - 10_000
    assert caught_up_ms == pytest.approx(
        (1 if moved_s > 0 else -1) * min(abs(moved_s), 0.9) * 1000, abs=2
    )
    world.pass_time(abs(moved_s) / MOST_HASTE + 10, clock)
    assert clock.read_ms() == pytest.approx(world.wall_ms, abs=2)
    assert [record.message.count("was moved") for record in caplog.records] == [1]


@given(
    some.lists(
        some.tuples(some.integers(-(10**12), 10**12), some.floats(0, 100), some.booleans()),
        max_size=50,
    )
)
def test_it_never_goes_back_nor_leaps(moves: list[tuple[int, float, bool]]) -> None:
    """Whatever is done to the system's clock, and however late it is noticed."""
    world = World()
    clock = world.clock()
    for moved_ms, elapsed_s, follows in moves:
        before_ms = clock.read_ms()
        world.wall_ms += moved_ms
        world.elapsed_s += elapsed_s
        if follows:
            clock.follow()
        gone_ms = clock.read_ms() - before_ms
        least_ms, most_ms = 900 * elapsed_s, 1100 * elapsed_s
        assert least_ms - 2 <= gone_ms <= most_ms + 2


@pytest.mark.parametrize("moved_s", [-HOUR_S, HOUR_S])
async def test_tokens_keep_their_time(moved_s: int) -> None:
    """docs/api/auth.md#verification: a token of an hour lives on though the clock leaps an hour
    ahead; once it is over it stays so though the clock is set back, also one that nobody used in
    between."""
    world = World()
    clock = world.clock()
    storage = SqliteStorage(":memory:", clock_ms=clock.read_ms)
    await storage.open()
    services = await build_services(cheap_config(), storage, open_mode=False, clock=clock.read_ms)
    try:
        user = await services.users.create(
            kuid="ann",
            kind="human",
            profile_ids=["default"],
            content={},
            credentials={},
            author="-1",
        )
        used, unused = [(await services.issuer.issue(user, HOUR_S * 1000)).token for _ in range(2)]
        assert (await services.tokens.verify(used)).kuid == "ann"
        world.wall_ms += moved_s * 1000
        world.pass_time(60, clock)
        assert (await services.tokens.verify(used)).kuid == "ann"
        world.pass_time(HOUR_S / (1 - MOST_HASTE), clock)
        world.wall_ms -= HOUR_S * 1000
        world.pass_time(60, clock)
        for token in (used, unused):
            with pytest.raises(ApiError) as refused:
                await services.tokens.verify(token)
            assert refused.value.id == "security.token.invalid"
    finally:
        services.close()
        await storage.close()


async def test_a_server_keeps_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's clock leaps two hours ahead, twice the life of a token that was not used since:
    over HTTP and on a WebSocket it goes on."""
    wall_ms = app.clock_ms()
    monkeypatch.setattr(app, "clock_ms", lambda: wall_ms)
    monkeypatch.setattr(app, "_calm_collector", lambda: None)  # that is for a whole process
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        app.serve(
            cheap_config(),
            data=":memory:",
            open_mode=False,
            on_ready=ready.set_result,
            on_code=lambda code: None,
        )
    )
    port = int((await in_time(ready)).rpartition(":")[2])
    http = Http(*await asyncio.open_connection("127.0.0.1", port))
    opened = Socket(Http(*await asyncio.open_connection("127.0.0.1", port)))
    await opened.http.send(UPGRADE)
    assert (await opened.http.read()).status == 101
    await create_admin(http)
    token = await login(http)
    wall_ms += 2 * HOUR_S * 1000
    assert (await http.ask("GET", "/_me", token=token)).status == 200
    asked = {"controller": "auth", "action": "getCurrentUser", "jwt": token}
    assert (await opened.ask(asked))["status"] == 200
    http.close()
    opened.http.close()
    signal.raise_signal(signal.SIGTERM)
    await in_time(serving)
