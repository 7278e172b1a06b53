"""`server.api.metrics`: what is counted of requests and connections, frame by frame
(docs/api/server.md#statistics, "Statistics frame")."""

from dataclasses import replace

import orjson
import pytest

from protocol.api.request import Origin, Request, from_websocket
from protocol.http11.head import NO_HEAD
from server.api.metrics import Counting
from server.config.model import MOST_FRAMES
from server.core.limit_counters import Limit
from server.net.listener import Connections
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running, cheap_config, running
from tests.support.waiting import until

PROTOCOL = {"http": Origin.HTTP, "query": Origin.HTTP, "websocket": Origin.WEBSOCKET}


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_ms = 1000

    def __call__(self) -> int:
        return self.now_ms


def counted(server: Running, origin: Origin) -> tuple[int, int, int]:
    """Give completed, failed and ongoing requests."""
    tally = server.app.services.counting.tallies[origin]
    return tally.completed, tally.failed, tally.ongoing


def test_a_frame_holds_what_came_since_the_last_one() -> None:
    """docs/api/server.md: keys and names of protocols; answered ones begin at 0 again, open ones
    stay."""
    clock = Clock()
    counting = Counting(frames=3, clock_ms=clock)
    counting.watch(lambda: Connections(http=5, websocket=7))
    tally = counting.tallies[Origin.HTTP]
    tally.completed, tally.failed, tally.ongoing = 3, 2, 1
    counting.tallies[Origin.WEBSOCKET].completed = 4
    first = {
        "completedRequests": {"http": 3, "websocket": 4},
        "connections": {"HTTP/1.1": 5, "websocket": 7},
        "failedRequests": {"http": 2, "websocket": 0},
        "ongoingRequests": {"http": 1, "websocket": 0},
        "timestamp": 1000,
    }
    assert counting.last() == first
    counting.close_frame()
    clock.now_ms = 2000
    assert counting.last() == first
    counting.close_frame()
    assert counting.last() == {
        "completedRequests": {"http": 0, "websocket": 0},
        "connections": {"HTTP/1.1": 5, "websocket": 7},
        "failedRequests": {"http": 0, "websocket": 0},
        "ongoingRequests": {"http": 1, "websocket": 0},
        "timestamp": 2000,
    }


def test_frames_are_bounded() -> None:
    """The oldest go first; no setting makes room for more than `MOST_FRAMES`."""
    clock = Clock()
    few, many = (Counting(frames=frames, clock_ms=clock) for frames in (2, 10 * MOST_FRAMES))
    for counting in (few, many):
        for clock.now_ms in range(MOST_FRAMES + 5):
            counting.close_frame()
    clock.now_ms = -1
    at_ms = [frame["timestamp"] for frame in few.between(0, 10**9)]
    assert at_ms == [MOST_FRAMES + 3, MOST_FRAMES + 4]
    assert len(many.between(0, 10**9)) == MOST_FRAMES


@pytest.mark.parametrize(
    ("start_ms", "stop_ms", "found"),
    [
        (0, 10**9, [1000, 2000, 3000]),
        (1000, 2000, [1000, 2000]),
        (1001, 2999, [2000]),
        (3000, 3000, [3000]),
        (3001, 10**9, []),
        (2000, 1000, []),
    ],
)
def test_frames_between(start_ms: float, stop_ms: float, found: list[int]) -> None:
    """docs/api/server.md getStats; the frame of 3000 is the present one."""
    clock = Clock()
    counting = Counting(frames=9, clock_ms=clock)
    for clock.now_ms in (1000, 2000):
        counting.close_frame()
    clock.now_ms = 3000
    assert [frame["timestamp"] for frame in counting.between(start_ms, stop_ms)] == found


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_requests_are_counted_once(server: Running, transport: str) -> None:
    """Whichever way they are answered: kept, worked out or refused."""
    token, origin = await server.create_admin(), PROTOCOL[transport]
    await server.call(transport, "auth:getCurrentUser", token=token)
    completed, failed, _ = counted(server, origin)
    for name, args, gained in (
        ("auth:getCurrentUser", {}, (1, 0)),  # kept
        ("server:now", {}, (1, 0)),
        ("security:getUser", {"_id": "nobody"}, (0, 1)),
        ("auth:checkToken", {"body": {"token": "nonsense"}}, (1, 0)),
        ("auth:checkToken", {"body": {"token": 3}}, (0, 1)),
    ):
        await server.call(transport, name, token=token, **args)
        completed, failed = completed + gained[0], failed + gained[1]
        assert counted(server, origin) == (completed, failed, 0), name


async def test_probes_are_not_counted(server: Running) -> None:
    """A probe a second would hide what clients do."""
    http = await server.connect()
    before = counted(server, Origin.HTTP)
    for path in ("/_healthcheck", "/_ready"):
        assert (await http.ask("GET", path)).status == 200
    assert counted(server, Origin.HTTP) == before


async def test_large_payloads_are_counted(server: Running) -> None:
    """What is read by another thread is a request like others, also to `/_query`."""
    before = counted(server, Origin.HTTP)
    body = {"controller": "server", "action": "publicApi", "body": {"text": "x" * 100_000}}
    assert (await (await server.connect()).ask("POST", "/_query", body)).status == 200
    assert counted(server, Origin.HTTP) == (before[0] + 1, before[1], 0)


def a_login() -> Request:
    """Give a request that has to wait: a password is hashed for it."""
    message = {"controller": "auth", "action": "login", "strategy": "local"}
    body = {"username": "ann", "password": "some password"}
    return from_websocket(orjson.dumps({**message, "body": body}), NO_HEAD, None)


async def test_a_request_given_up_is_no_longer_ongoing(server: Running) -> None:
    """Its connection is gone, or the server stops, while it waits."""
    answering = server.app.listener.answer(a_login())
    answering.send(None)
    assert counted(server, Origin.WEBSOCKET) == (0, 0, 1)
    answering.close()
    assert counted(server, Origin.WEBSOCKET) == (0, 0, 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_too_many_requests_in_progress(transport: str) -> None:
    """`limits.inFlight`, docs/api/errors.md `api.process.overloaded`: refused at once, failed in
    the statistics, and over as soon as one of the others is; probes and kept answers go on."""
    limits = replace(cheap_config().limits, in_flight=1)
    async with running(cheap_config(limits=limits)) as server:
        token, origin = await server.create_admin(), PROTOCOL[transport]
        await server.call(transport, "auth:getCurrentUser", token=token)
        waiting = server.app.listener.answer(a_login())
        waiting.send(None)
        failed = counted(server, origin)[1]
        answer = await server.call(transport, "server:now", token=token)
        assert told(answer) == {
            "id": "api.process.overloaded",
            "code": 33685506,
            "status": 503,
        }
        assert counted(server, origin)[1] == failed + 1
        http = await server.connect()
        assert (await http.ask("GET", "/_now", token=token)).headers["retry-after"] == "1"
        assert (await http.ask("GET", "/_healthcheck")).status == 200
        kept = await server.call(transport, "auth:getCurrentUser", token=token)
        assert kept["status"] == 200
        waiting.close()
        assert (await server.call(transport, "server:now", token=token))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_metrics(server: Running, transport: str) -> None:
    """docs/api/server.md metrics: the request that asks is in progress, its connection is open."""
    token = await server.create_admin()
    await server.open_socket()
    await server.connect()
    peers = server.app.listener.peers
    await until(lambda: len(peers) == 2)  # those of create_admin have gone
    answer = await server.call(transport, "server:metrics", token=token)
    http, sockets = (1, 2) if transport == "websocket" else (2, 1)  # with the one that asks
    assert answer["result"] == {
        "api": {"concurrentRequests": 1, "pendingRequests": 0},
        "limits": dict.fromkeys((limit.value for limit in Limit), 0),
        "network": {"connections": {"http/1.1": http, "websocket": sockets}},
        "realtime": {"rooms": 0, "subscriptions": 0},
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_stats(server: Running, transport: str) -> None:
    """docs/api/server.md getAllStats, getLastStats, getStats."""
    token, counting = await server.create_admin(), server.app.services.counting
    name = PROTOCOL[transport].value
    await server.call(transport, "server:now", token=token)
    counting.close_frame()
    last = (await server.call(transport, "server:getLastStats", token=token))["result"]
    assert last.keys() == {
        "completedRequests",
        "connections",
        "failedRequests",
        "ongoingRequests",
        "timestamp",
    }
    assert last["completedRequests"][name] >= 1
    all_of_them = (await server.call(transport, "server:getAllStats", token=token))["result"]
    assert (all_of_them["total"], all_of_them["hits"][0]) == (2, last)
    assert all_of_them["hits"][1]["ongoingRequests"][name] == 1
    asked = {"startTime": last["timestamp"], "stopTime": last["timestamp"]}
    between = (await server.call(transport, "server:getStats", token=token, **asked))["result"]
    assert between["hits"][0] == last
    asked = {"startTime": "1970-01-01", "stopTime": "1971-01-01T00:00:00+02:00"}
    none = (await server.call(transport, "server:getStats", token=token, **asked))["result"]
    assert none == {"hits": [], "total": 0}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bad_dates(server: Running, transport: str) -> None:
    """docs/api/server.md getStats: 400 with the argument's name, and the number the reference
    gives."""
    token = await server.create_admin()
    for name in ("startTime", "stopTime"):
        for value in ("foo", "nan", "inf", "1e999", "2024-13-01", "1" * 65, "\u0661x"):
            answer = await server.call(transport, "server:getStats", token=token, **{name: value})
            assert told(answer, "id", "code", "status", "props") == {
                "id": "api.assert.invalid_argument",
                "code": 33619970,
                "status": 400,
                "props": [name, "number"],
            }, value


@pytest.mark.parametrize("value", ["0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "-1", ""])
async def test_dates_at_the_ends_of_time(server: Running, value: str) -> None:
    """They are dates, so they are compared like others; an empty text is no date at all."""
    token = await server.create_admin()
    answer = await server.call("http", "server:getStats", token=token, startTime=value)
    assert answer["result"]["total"] == (0 if value.startswith("9999") else 1)


@pytest.mark.parametrize("value", [True, [1], {"a": 1}])
async def test_dates_of_another_type(server: Running, value: object) -> None:
    """docs/api/server.md getStats: JSON that is no number and no text."""
    token = await server.create_admin()
    answer = await server.call("websocket", "server:getStats", token=token, startTime=value)
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_argument", "status": 400}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_frames(transport: str) -> None:
    """docs/api/server.md: `stats.enabled: false` → 500; metrics are no statistics."""
    config = cheap_config(stats=replace(cheap_config().stats, enabled=False))
    async with running(config) as server:
        token = await server.create_admin()
        for name in ("getAllStats", "getLastStats", "getStats"):
            answer = await server.call(transport, f"server:{name}", token=token)
            assert told(answer) == {
                "id": "core.fatal.service_unavailable",
                "code": 2,
                "status": 500,
            }
        answer = await server.call(transport, "server:metrics", token=token)
        assert answer["status"] == 200
        assert not [chore for chore in server.app.chores if chore.get_name() == "frames"]


async def test_frames_are_closed_as_time_goes_by() -> None:
    """docs/configuration.md: `stats.statsInterval` seconds long, kept `stats.ttl` seconds."""
    stats = replace(cheap_config().stats, stats_interval_s=1, ttl_s=2)
    async with running(cheap_config(stats=stats)) as server:
        assert [chore for chore in server.app.chores if chore.get_name() == "frames"]
        counting = server.app.services.counting
        for _ in range(4):
            counting.close_frame()
        assert len(counting.between(0, 2**60)) == 2 + 1  # and the present one


async def test_a_closed_frame_after_the_interval() -> None:
    """The chore of the server closes one each time it wakes up."""
    counting = Counting(frames=9, clock_ms=Clock())
    closing = counting.close_frames(0)
    for _ in range(3):
        closing.send(None)
    closing.close()
    assert len(counting.between(0, 2**60)) == 2 + 1
