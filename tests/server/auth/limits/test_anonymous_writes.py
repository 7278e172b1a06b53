"""What unauthenticated clients have the server store is limited by address: login steps that are
begun, and registrations."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from protocol.errors import ApiError
from server.auth.limits.anonymous_writes import LONGEST_WAIT_S, NETWORK_FACTORS, AnonymousWrites
from server.core.limit_counters import Limit
from server.storage.rows import Table
from tests.server.auth.limits.test_rate_limits import TOO_MANY, TOO_MANY_LOGINS, limited
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import Client, Steps, state_of
from tests.support.passkeys import PAGES, TABLE
from tests.support.server import PASSWORD, TRANSPORTS, Running, running

LIMIT = 5
HOME, AWAY = "203.0.113.7", "203.0.113.8"


@dataclass
class Seconds:
    """Seconds that pass when the test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def wait_s(writes: AnonymousWrites, address: str = HOME) -> int:
    """Count a write, and give how long it would have to wait instead; 0 if it is counted."""
    try:
        writes.count(address)
    except ApiError as refused:
        assert (refused.id, refused.status) == ("api.process.too_many_logins_requests", 429)
        assert refused.retry_after_s is not None
        return refused.retry_after_s
    return 0


def test_anonymous_writes_beyond_the_limit_wait_longer_and_longer() -> None:
    """1 s after the last one of the limit, then twice as long each time, up to a minute; refusals
    cost nothing more, and other addresses none of it."""
    clock, counted = Seconds(), list[Limit]()
    writes = AnonymousWrites(10, clock_s=clock, on_limit=counted.append)
    assert [wait_s(writes) for _ in range(10)] == [0] * 10
    waits = []
    for _ in range(8):
        waits.append(wait_s(writes))
        assert wait_s(writes) == waits[-1]
        assert wait_s(writes, AWAY) == 0
        writes.take_back(AWAY)
        clock.now_s += waits[-1]
        assert wait_s(writes) == 0
    assert waits[:3] == [1, 2, 4]  # and then the first ones are forgiven
    assert max(waits) <= LONGEST_WAIT_S
    assert counted == [Limit.ANONYMOUS_WRITES] * 16
    clock.now_s += 2 * LONGEST_WAIT_S
    assert [wait_s(writes) for _ in range(10)] == [0] * 10


def test_anonymous_writes_in_a_minute_are_those_of_the_limit() -> None:
    """An hour of one each tenth of a second."""
    clock = Seconds()
    writes = AnonymousWrites(60, clock_s=clock)
    made = 0
    for _ in range(36_000):
        made += wait_s(writes) == 0
        clock.now_s += 0.1
    assert made <= 60 * 61 + 10


@pytest.mark.parametrize(("width", "pattern"), [(1, "{:x}::1"), (2, "{:x}00::1")])
def test_anonymous_writes_of_many_ipv6_networks_of_one_site_are_limited(
    width: int, pattern: str
) -> None:
    """200 /64 of one /56, and of one /48."""
    writes = AnonymousWrites(10, clock_s=Seconds())
    places = [f"2001:db8:1:{pattern.format(number)}" for number in range(200)]
    made = sum(wait_s(writes, places[number % 200]) == 0 for number in range(3000))
    assert made == 10 * NETWORK_FACTORS[width]


def test_anonymous_writes_without_limit_or_address() -> None:
    """0, and what comes by a Unix socket without a proxy."""
    unlimited, limited = (
        AnonymousWrites(0, clock_s=Seconds()),
        AnonymousWrites(1, clock_s=Seconds()),
    )
    for _ in range(1000):
        assert wait_s(unlimited) == wait_s(limited, "") == 0
        unlimited.take_back(HOME)


# Over the wire


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    """The clock of the limits."""
    clock = Seconds()
    monkeypatch.setattr("server.app.application.clock_s", clock)
    return clock


@pytest.fixture
async def server(clock: Clock) -> AsyncIterator[Running]:
    """A server where an address may begin `LIMIT` login steps a minute, with Ann."""
    config = replace(limited(anonymous_writes=LIMIT), strategies={"passkey": TABLE})
    async with running(config) as started:
        services = started.app.services
        await services.strategies.add("steps", Steps(services.storage))
        await started.create_user(await started.create_admin(), "ann")
        yield started


@pytest.mark.parametrize("transport", PAGES)
async def test_login_steps_begun_by_one_address_are_limited(
    server: Running, transport: str, seconds: Seconds
) -> None:
    """X3: 429 with the time to wait, and nothing stored; those who log in in one step go on."""
    for _ in range(LIMIT):
        assert (await Client(server, transport).login("passkey"))["status"] == 200
    stored = await server.app.services.storage.count(Table.ONE_TIME)
    for strategy in ("passkey", "steps"):
        assert told(await Client(server, transport).login(strategy)) == TOO_MANY_LOGINS
    assert await server.app.services.storage.count(Table.ONE_TIME) == stored == LIMIT
    admin = await server.login("admin")
    metrics = await server.call("query", "server:metrics", token=admin)
    assert metrics["result"]["limits"]["anonymousWrites"] == 2
    seconds.now_s += 1
    assert (await Client(server, transport).login("passkey"))["status"] == 200


async def test_login_steps_that_lead_to_a_login_do_not_count(server: Running) -> None:
    """Behind one address many may log in."""
    for _ in range(3 * LIMIT):
        client = Client(server, "http")
        state = state_of(await client.login())
        assert (await client.login(state=state, code="ann"))["status"] == 200
    for _ in range(LIMIT):
        state_of(await Client(server, "http").login())
    assert told(await Client(server, "http").login()) == TOO_MANY_LOGINS


async def test_login_steps_that_are_not_stored_do_not_count(server: Running) -> None:
    """What a strategy refuses at once."""
    for _ in range(3 * LIMIT):
        refused = await Client(server, "query").login("passkey", body={"credential": {}})
        assert refused["status"] == 400
    assert (await Client(server, "query").login("passkey"))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_registrations_of_anonymous_clients_are_limited(
    server: Running, transport: str
) -> None:
    """Where they are allowed; an administrator's users are not counted."""
    admin = await server.login("admin")
    role = {"auth": {"actions": {"login": True}}, "security": {"actions": {"*": True}}}
    body = {"controllers": role}
    made = await server.call(
        "query", "security:updateRole", token=admin, _id="anonymous", body=body
    )
    assert made["status"] == 200, made
    create = "security:createRestrictedUser"

    def user(name: str) -> dict[str, object]:
        return {"credentials": {"local": {"username": name, "password": PASSWORD}}}

    for number in range(LIMIT):
        name = f"new{number}"
        answer = await server.call(transport, create, body=user(name), _id=name)
        assert answer["status"] == 200, answer
    answer = await server.call(transport, create, body=user("late"), _id="late")
    assert told(answer) == TOO_MANY
    answer = await server.call("query", create, token=admin, body=user("late"), _id="late")
    assert answer["status"] == 200, answer
