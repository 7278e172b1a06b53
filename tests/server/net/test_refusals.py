"""Whoever gets nothing but refusals is served slower and slower, and nobody else is (security check
X3)."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from protocol.api.request import Origin, Request, Response
from protocol.errors import ApiError, error
from protocol.http11.head import NO_HEAD
from server.core.limit_counters import Limit
from server.net import refusals
from server.net.client_address import Addresses
from server.net.connection import Peer
from server.net.listener import Listener
from server.net.refusals import (
    FIRST_PAUSE_S,
    FREE_REFUSALS,
    LONGEST_PAUSE_S,
    REFUSALS_PER_S,
    RefusalBudget,
    RefusedClients,
)
from tests.server.net.test_connection import GET, Clock, CountingPeer, Under, listening
from tests.support.errors import told
from tests.support.server import Running, cheap_config, running
from tests.support.waiting import in_time, until

PROXY, CLIENT, OTHER = "127.0.0.1", "203.0.113.7", "203.0.113.8"
TOO_MANY = {"id": "api.process.too_many_requests", "code": 33685512, "status": 429}
REFUSED = GET.replace(b"/_ready", b"/no/such/path")  # 404


# The budget


def test_a_budget_spent_at_once_pauses_for_longer_and_longer() -> None:
    budget, now_s = RefusalBudget(0.0), 0.0
    assert [budget.spend(now_s) for _ in range(FREE_REFUSALS)] == [0.0] * FREE_REFUSALS
    pauses_s = []
    for _ in range(6):
        pauses_s.append(budget.spend(now_s))
        now_s += pauses_s[-1]
    assert pauses_s == [FIRST_PAUSE_S, 1.0, 2.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_refusals_of_what_was_asked_before_a_pause_count_no_more() -> None:
    budget = RefusalBudget(0.0)
    for _ in range(FREE_REFUSALS):
        budget.spend(0.0)
    assert budget.spend(0.0) == FIRST_PAUSE_S
    assert [budget.spend(FIRST_PAUSE_S / 2) for _ in range(100)] == [0.0] * 100
    assert budget.spend(FIRST_PAUSE_S) == 2 * FIRST_PAUSE_S


def test_refusals_now_and_then_never_pause() -> None:
    """A client whose token has expired, and which asks again all day."""
    budget = RefusalBudget(0.0)
    every_s = 1 / REFUSALS_PER_S
    assert not any(budget.spend(number * every_s) for number in range(10 * FREE_REFUSALS))


def test_a_budget_that_is_whole_again_begins_with_a_short_pause() -> None:
    budget, now_s = RefusalBudget(0.0), 0.0
    for _ in range(2):
        for _ in range(FREE_REFUSALS):
            assert budget.spend(now_s) == 0.0
        assert budget.spend(now_s) == FIRST_PAUSE_S
        now_s += FIRST_PAUSE_S + FREE_REFUSALS / REFUSALS_PER_S


# Connections


async def refuse(under: Under, http: object, count: int) -> None:
    """Have so many requests of one connection refused."""
    for _ in range(count):
        await http.send(REFUSED % 1)  # type: ignore[attr-defined]
        assert (await http.read()).status == 404  # type: ignore[attr-defined]


async def test_a_connection_with_refusals_only_is_not_read_for_a_moment() -> None:
    """What it sends meanwhile is answered afterwards, others at once."""
    async with listening() as under:
        limits: list[Limit] = []
        under.listener.on_limit = limits.append
        flooding, other = await under.connect(), await under.connect()
        await refuse(under, flooding, FREE_REFUSALS + 1)
        (paused,) = under.listener.paused
        await flooding.send(GET % 7)
        await other.send(GET % 8)
        assert (await other.read()).status == 200
        under.pass_time(FIRST_PAUSE_S - 0.001)
        assert under.listener.paused == {paused}
        assert "7" not in under.answers.asked
        under.pass_time(0.001)
        assert (await flooding.read()).json["requestId"] == "7"
        assert not under.listener.paused
        assert limits == [Limit.REFUSED_CONNECTION]


async def test_requests_that_arrived_in_one_read_are_held_back_too() -> None:
    """A pipeline of thousands is understood in pieces: a pause comes between them."""
    async with listening(in_flight=8) as under:
        http = await under.connect()
        count = FREE_REFUSALS + 100
        await http.send(b"".join(REFUSED % number for number in range(count)))
        await until(lambda: bool(under.listener.paused))
        assert len(under.answers.asked) <= FREE_REFUSALS + 8
        while len(under.answers.asked) < count:
            under.pass_time(LONGEST_PAUSE_S)
            await until(lambda: bool(under.listener.paused) or len(under.answers.asked) == count)
        ids = [(await http.read()).json["requestId"] for _ in range(count)]
        assert ids == [str(number) for number in range(count)]


async def test_a_success_restores_the_budget_of_a_connection() -> None:
    async with listening() as under:
        http = await under.connect()
        await refuse(under, http, FREE_REFUSALS)
        await http.send(GET % 1)
        assert (await http.read()).status == 200
        await refuse(under, http, FREE_REFUSALS)
        assert not under.listener.paused


async def test_a_websocket_with_refusals_only_is_not_read_for_a_moment() -> None:
    """Also where a proxy is in between: it belongs to one client."""
    async with listening(make=with_errors) as under:
        under.listener.is_proxy = lambda address: True
        opened = await under.open_socket()
        for _ in range(FREE_REFUSALS + 1):
            await opened.send({"controller": "a", "action": "b"})
            assert (await opened.read())["status"] == 401
        assert len(under.listener.paused) == 1


async def test_a_connection_of_a_trusted_proxy_is_always_read() -> None:
    async with listening() as under:
        under.listener.is_proxy = lambda address: address == PROXY
        http = await under.connect()
        await refuse(under, http, FREE_REFUSALS + 50)
        assert not under.listener.paused


async def test_a_pause_is_no_silence_of_the_client() -> None:
    """Deadlines begin again after it."""
    async with listening(idle_s=1.0) as under:
        http = await under.connect()
        await refuse(under, http, FREE_REFUSALS + 1)
        (paused,) = under.listener.paused
        await http.send(GET % 7)
        under.clock.now_s += 100
        under.listener.check_deadlines()
        assert (await http.read()).json["requestId"] == "7"


async def test_a_paused_connection_that_is_gone_is_forgotten() -> None:
    async with listening() as under:
        http = await under.connect()
        await refuse(under, http, FREE_REFUSALS + 1)
        http.close()
        under.pass_time(LONGEST_PAUSE_S)
        await under.until_alone()
        assert not under.listener.paused


async def test_a_server_that_ends_waits_for_no_pause(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(make=with_errors) as under:
        opened = await under.open_socket()
        for _ in range(FREE_REFUSALS + 1):
            await opened.send({"controller": "a", "action": "b"})
            await opened.read()
        assert under.listener.paused
        stopping = asyncio.create_task(under.listener.stop())
        assert (await opened.read_frame())[0] == 0x88
        opened.http.close()
        await in_time(stopping)
    assert "cut off" not in caplog.text


class Refusing(CountingPeer):
    """A peer whose requests are all refused."""

    def _send(self, request: Request, response: Response) -> None:
        refused = error("security.token.invalid")
        response.error, response.status = refused, refused.status
        super()._send(request, response)


def with_errors(listener: Listener) -> Peer:
    """Make a peer whose requests are all refused."""
    return Refusing(listener)


# Clients of trusted proxies


class Forwarded:
    """A peer that is a proxy."""

    address = PROXY
    linked = b""
    is_encrypted = False
    certificates = ()

    def push(self, text: bytes) -> None:
        """See `Connected`."""


def from_client(address: str) -> Request:
    """Give a request that a proxy forwards for a client."""
    head = replace(NO_HEAD, headers={"x-forwarded-for": address})
    return Request(Origin.HTTP, head, peer=Forwarded())


def make_clients(clock: Callable[[], float], limits: list[Limit]) -> RefusedClients:
    """Give what counts the clients of a proxy at 127.0.0.1."""
    return RefusedClients(Addresses([PROXY]), clock_s=clock, on_limit=limits.append)


def test_a_client_of_a_proxy_that_gets_nothing_but_refusals_is_refused_for_a_while() -> None:
    clock, limits = Clock(), list[Limit]()
    clients = make_clients(clock, limits)
    request = from_client(CLIENT)
    for _ in range(FREE_REFUSALS + 1):
        clients.check(request)
        clients.note(request, 401)
    with pytest.raises(ApiError) as refused:
        clients.check(request)
    assert (refused.value.id, refused.value.status) == (TOO_MANY["id"], 429)
    assert refused.value.retry_after_s == 1
    clients.check(from_client(OTHER))
    clock.now_s += FIRST_PAUSE_S
    clients.check(request)
    assert limits == [Limit.REFUSED_CLIENT]


@pytest.mark.parametrize("status", [200, 206, 303])
def test_a_success_restores_the_budget_of_a_client(status: int) -> None:
    clients = make_clients(Clock(), [])
    request = from_client(CLIENT)
    for answered in [*[401] * FREE_REFUSALS, status, *[401] * FREE_REFUSALS]:
        clients.note(request, answered)
    clients.check(request)


def test_clients_of_one_ipv6_network_are_one() -> None:
    clients = make_clients(Clock(), [])
    for number in range(FREE_REFUSALS + 1):
        clients.note(from_client(f"2001:db8::{number:x}"), 404)
    with pytest.raises(ApiError):
        clients.check(from_client("2001:db8::ffff"))
    assert len(clients) == 1


def test_counted_clients_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_REFUSED_CLIENTS", 10)
    clients = make_clients(Clock(), [])
    for third, fourth in itertools.product(range(2), range(100)):
        clients.note(from_client(f"203.0.{third}.{fourth}"), 401)
    assert len(clients) == 10


async def test_other_clients_of_the_same_proxy_connection_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The refused one may still log in, and a user with a session is not held up."""
    monkeypatch.setattr(refusals, "FREE_REFUSALS", 5)
    monkeypatch.setattr("server.app.application.clock_s", Clock())
    config = cheap_config()
    config = replace(config, server=replace(config.server, trusted_proxies=(PROXY,)))
    async with running(config) as server:
        code = server.app.services.first_admin.code
        token = await create_admin(server, str(code))
        http = await server.connect()
        assert (await http.ask("GET", "/_me", token=token)).status == 200

        async def ask(client: str, path: str = "/users/x", token: str | None = None) -> int:
            fields = {"X-Forwarded-For": client}
            answer = await http.ask("GET", path, token=token, headers=fields)
            if answer.status == 429:
                assert told(answer.json) == TOO_MANY
                assert answer.headers["retry-after"] == "1"
            return answer.status

        assert [await ask(CLIENT) for _ in range(8)] == [401] * 6 + [429] * 2
        assert await ask(CLIENT, "/_me") == 429
        assert await ask(OTHER, "/_me") == 200
        assert await ask(CLIENT, "/_me", token) == 200  # which restores the budget
        assert await ask(CLIENT, "/_me") == 200
        counts = server.app.services.counting.limits.to_dict()
        assert counts["refusedClient"] == 3


async def create_admin(server: Running, code: str) -> str:
    """Make the first administrator behind a proxy; give a token of theirs."""
    body = {"credentials": {"local": {"username": "admin", "password": "correct horse"}}}
    made = await server.call(
        "http", "security:createFirstAdmin", body=body, _id="admin", setupCode=code
    )
    assert made["status"] == 200, made
    return await server.login("admin")
