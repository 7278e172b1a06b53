"""Limits of requests and of logins over every transport (docs/api/security.md#rate-limits,
docs/api/transport.md#websocket; docs/api/differences.md#anonymous-rate-limit; security checks A4,
A6, A8, H8)."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from protocol.errors import ApiError
from server.auth.limits.rate_limits import MessageBudget, RateLimits, SharedWindow
from server.config.model import Config
from tests.support.errors import told
from tests.support.server import (
    PASSWORD,
    TRANSPORTS,
    Envelope,
    Http,
    Running,
    cheap_config,
    running,
)

TOO_MANY = {"id": "api.process.too_many_requests", "code": 33685512, "status": 429}
TOO_MANY_LOGINS = {"id": "api.process.too_many_logins_requests", "code": 33685517, "status": 429}
TOO_MANY_MESSAGES = {"id": "network.websocket.ratelimit_exceeded", "code": 50528258, "status": 429}
MISSING_USER = "plugin.strategy.missing_user"
GET_LOGIN = "get"  # the credentials in the query string, the fourth way to log in
PATHWAYS = (*TRANSPORTS, GET_LOGIN)
CLIENT = "203.0.113.7"


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all limits of servers started in this test."""
    clock = Clock()
    monkeypatch.setattr("server.app.application.clock_s", clock)
    return clock


def limited(**limits: object) -> Config:
    """Give a configuration with these `[limits]`."""
    return cheap_config(limits=replace(Config().limits, **limits))


def proxied(config: Config, *, proxy_protocol: bool = False) -> Config:
    """Trust this machine as a proxy."""
    server = replace(config.server, trusted_proxies=("127.0.0.1",), proxy_protocol=proxy_protocol)
    return replace(config, server=server)


@pytest.fixture
async def throttled(clock: Clock) -> AsyncIterator[Running]:
    """A server that allows three failed logins, with the administrator `admin`."""
    async with running(limited(failed_logins=3)) as server:
        await server.create_admin()
        yield server


async def try_login(server: Running, pathway: str, username: str, password: str) -> Envelope:
    """Log in over one of `PATHWAYS`."""
    credentials = {"username": username, "password": password}
    if pathway == GET_LOGIN:
        http = await server.connect()
        path = f"/_login/local?username={username}&password={password.replace(' ', '+')}"
        return (await http.ask("GET", path)).json
    return await server.call(pathway, "auth:login", strategy="local", body=credentials)


# Failed logins


@pytest.mark.parametrize("pathway", PATHWAYS)
async def test_failed_logins_are_slowed_down(
    throttled: Running, clock: Clock, pathway: str
) -> None:
    """A4: 429 for the right password too, and no answer tells it from a wrong one."""
    for _ in range(3):
        answer = await try_login(throttled, pathway, "admin", "wrong")
        assert told(answer, "id", "status") == {"id": MISSING_USER, "status": 401}
    wrong = await try_login(throttled, pathway, "admin", "wrong")
    right = await try_login(throttled, pathway, "admin", PASSWORD)
    assert told(wrong) == told(right) == TOO_MANY_LOGINS
    del wrong["requestId"], right["requestId"]
    wrong.pop("room", None), right.pop("room", None)
    assert wrong == right
    clock.now_s += 1
    assert (await try_login(throttled, pathway, "admin", PASSWORD))["status"] == 200


@pytest.mark.parametrize("pathway", PATHWAYS)
async def test_unknown_names_are_slowed_down_alike(throttled: Running, pathway: str) -> None:
    """A1, A4: being slowed down does not tell that there is such an account."""
    for _ in range(3):
        known = await try_login(throttled, pathway, "admin", "wrong")
        unknown = await try_login(throttled, pathway, "nobody", "wrong")
        assert known["error"] == unknown["error"]
    known = await try_login(throttled, pathway, "admin", "wrong")
    unknown = await try_login(throttled, pathway, "nobody", "wrong")
    assert known["error"] == unknown["error"]
    assert told(unknown) == TOO_MANY_LOGINS


async def test_all_pathways_count_together(throttled: Running) -> None:
    """A8: three failures are three failures, whichever way they were made."""
    for pathway in ("websocket", "query", GET_LOGIN):
        await try_login(throttled, pathway, "admin", "wrong")
    for pathway in PATHWAYS:
        answer = await try_login(throttled, pathway, "admin", PASSWORD)
        assert told(answer) == TOO_MANY_LOGINS, pathway


async def test_how_long_to_wait(throttled: Running, clock: Clock) -> None:
    """A4, A5: Retry-After is the truth, doubles, and a success ends it."""
    http = await throttled.connect()
    wrong = {"username": "admin", "password": "wrong"}
    for wait_s in (0, 0, 1, 2, 4):
        assert (await http.ask("POST", "/_login/local", wrong)).status == 401
        if wait_s:
            refused = await http.ask("POST", "/_login/local", wrong)
            assert (refused.status, refused.headers["retry-after"]) == (429, str(wait_s))
            clock.now_s += wait_s
    await throttled.login("admin")
    for _ in range(2):
        assert (await http.ask("POST", "/_login/local", wrong)).status == 401
    await throttled.login("admin")


async def test_parallel_guesses_do_not_slip_through(throttled: Running) -> None:
    """A4: of twenty at once only three are looked at."""
    answers = await asyncio.gather(
        *(try_login(throttled, "query", "admin", f"guess {number}") for number in range(20))
    )
    assert sorted(answer["status"] for answer in answers) == [401] * 3 + [429] * 17


async def test_one_password_on_many_accounts(throttled: Running) -> None:
    """A6: an address may fail ten times as often as an account."""
    for number in range(30):
        answer = await try_login(throttled, "query", f"user{number}", "Winter2026")
        assert answer["status"] == 401
    assert told(await try_login(throttled, "query", "one more", "x")) == TOO_MANY_LOGINS


@pytest.mark.parametrize(
    "body",
    [{"username": 3, "password": "x"}, {"username": "admin", "password": 3}],
)
async def test_mistakes_are_no_guesses(throttled: Running, body: dict) -> None:
    """Only refused credentials count; 400 is no refusal."""
    for _ in range(5):
        answer = await throttled.call("query", "auth:login", strategy="local", body=body)
        assert answer["status"] == 400
    assert (await try_login(throttled, "query", "admin", PASSWORD))["status"] == 200


async def test_a_name_without_a_password_is_no_guess(throttled: Running) -> None:
    """Nobody is slowed down by attempts that could not have succeeded."""
    for _ in range(5):
        answer = await throttled.call(
            "query", "auth:login", strategy="local", body={"username": "admin"}
        )
        assert answer["status"] == 401
    assert (await try_login(throttled, "query", "admin", PASSWORD))["status"] == 200


async def test_without_a_limit() -> None:
    """`limits.failedLogins` 0."""
    async with running(limited(failed_logins=0)) as server:
        await server.create_admin()
        for _ in range(15):
            assert (await try_login(server, "query", "admin", "wrong"))["status"] == 401


# Where a login comes from


async def guess_from(http: Http, forwarded: str) -> int:
    """Guess a password through a proxy."""
    wrong = {"username": "nobody", "password": "wrong"}
    headers = {"X-Forwarded-For": forwarded}
    return (await http.ask("POST", "/_login/local", wrong, headers=headers)).status


async def test_forwarding_headers_of_strangers_do_not_help(clock: Clock) -> None:
    """H8: who is no trusted proxy can't pass for many addresses."""
    async with running(limited(failed_logins=1)) as server:
        http = await server.connect()
        statuses = []
        for number in range(12):
            body = {"username": f"user{number}", "password": "x"}
            headers = {"X-Forwarded-For": f"198.51.100.{number}"}
            answer = await http.ask("POST", "/_login/local", body, headers=headers)
            statuses.append(answer.status)
        assert statuses == [401] * 10 + [429] * 2


async def test_behind_a_trusted_proxy_clients_count_apart(clock: Clock) -> None:
    """H8: the rightmost untrusted address counts, not what the client wrote left of it."""
    async with running(proxied(limited(failed_logins=1))) as server:
        http = await server.connect()
        for number in range(10):
            body = {"username": f"user{number}", "password": "x"}
            headers = {"X-Forwarded-For": f"198.51.100.{number}, {CLIENT}"}
            assert (await http.ask("POST", "/_login/local", body, headers=headers)).status == 401
        assert await guess_from(http, f"192.0.2.1, {CLIENT}") == 429
        assert await guess_from(http, f"{CLIENT}, 192.0.2.1") == 401


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_the_log_names_the_client(caplog: pytest.LogCaptureFixture, transport: str) -> None:
    """H8: what is logged is the client's address, also for a socket opened through a proxy."""
    caplog.set_level(logging.INFO, "request")
    headers = {"X-Forwarded-For": CLIENT}
    body = {"username": "nobody", "password": "x"}
    async with running(proxied(cheap_config())) as server:
        if transport == "http":
            http = await server.connect()
            await http.ask("POST", "/_login/local", body, headers=headers)
        else:
            socket = await server.open_socket(headers)
            login = {"controller": "auth", "action": "login", "strategy": "local", "body": body}
            assert (await socket.ask(login))["status"] == 401
    [facts] = [record.facts for record in caplog.records if record.name == "request"]
    assert (facts["action"], facts["address"]) == ("login", CLIENT)


# The PROXY protocol

V1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 56324 7512\r\n"
GET_READY = b"GET /_ready HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 10, len(V1), len(V1) + 5, len(V1) + len(GET_READY)])
async def test_a_proxy_header_comes_first(size: int) -> None:
    """However it is cut, before or with the first request."""
    async with running(proxied(cheap_config(), proxy_protocol=True)) as server:
        http = await server.connect()
        data = V1 + GET_READY
        for at in range(0, len(data), size):
            await http.send(data[at : at + size])
        assert (await http.read()).status == 200
        await http.send(GET_READY)
        assert (await http.read()).status == 200


async def test_the_header_names_the_client(caplog: pytest.LogCaptureFixture) -> None:
    """H8: its address counts like a socket's own."""
    caplog.set_level(logging.INFO, "request")
    async with running(proxied(cheap_config(), proxy_protocol=True)) as server:
        http = await server.connect()
        await http.send(V1)
        await http.ask("POST", "/_login/local", {"username": "nobody", "password": "x"})
    [facts] = [record.facts for record in caplog.records if record.name == "request"]
    assert facts["address"] == CLIENT


@pytest.mark.parametrize(
    "header", [V1, b"PROXY UNKNOWN\r\n", b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n"]
)
async def test_who_comes_through_a_proxy_is_not_local(header: bytes) -> None:
    """A7: the first administrator is not made by a stranger behind a proxy on this machine."""
    async with running(proxied(cheap_config(), proxy_protocol=True)) as server:
        http = await server.connect()
        await http.send(header)
        body = {"credentials": {"local": {"username": "root", "password": PASSWORD}}}
        assert (await http.ask("POST", "/_createFirstAdmin", body)).status == 401


@pytest.mark.parametrize("proxy", ["192.0.2.1", "127.0.0.1"])
async def test_first_admin_of_a_client_on_the_proxys_machine_is_refused(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A7, F1: nor by a client on the machine of a proxy, this one or another."""
    for module in ("net.connection", "net.proxy_protocol"):
        monkeypatch.setattr(f"server.{module}.peer_address", lambda transport: proxy)
    config = proxied(cheap_config(), proxy_protocol=True)
    config = replace(config, server=replace(config.server, trusted_proxies=(proxy,)))
    async with running(config) as server:
        http = await server.connect()
        await http.send(V1.replace(CLIENT.encode(), b"127.0.0.1"))
        body = {"credentials": {"local": {"username": "root", "password": PASSWORD}}}
        assert (await http.ask("POST", "/_createFirstAdmin", body)).status == 401


@pytest.mark.parametrize("data", [GET_READY, b"PROXY TCP4 nonsense\r\n", b"\x16\x03\x01"])
async def test_without_a_header_the_connection_ends(data: bytes) -> None:
    """Nothing is answered: it is no HTTP yet."""
    async with running(proxied(cheap_config(), proxy_protocol=True)) as server:
        http = await server.connect()
        await http.send(data)
        try:
            assert await http.read_end() == b""
        except ConnectionResetError:
            pass


async def test_a_stranger_may_not_send_the_header() -> None:
    """H8: with the option on, only trusted proxies may connect."""
    config = proxied(cheap_config(), proxy_protocol=True)
    config = replace(config, server=replace(config.server, trusted_proxies=("10.0.0.0/8",)))
    async with running(config) as server:
        http = await server.connect()
        try:
            await http.send(V1 + GET_READY)
            assert await http.read_end() == b""
        except (ConnectionResetError, BrokenPipeError):
            pass


async def test_without_the_option_the_header_is_no_request() -> None:
    """Nobody names himself by it unless that is asked for."""
    async with running(proxied(cheap_config())) as server:
        http = await server.connect()
        await http.send(V1 + GET_READY)
        assert (await http.read()).status == 400


# Requests a second


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_requests_of_a_user(clock: Clock, transport: str) -> None:
    """docs/api/security.md#rate-limits: ten a second for the profile `default`, in fixed
    windows."""
    async with running() as server:
        admin = await server.create_admin()
        token = await server.create_user(admin, "ann")
        for _ in range(10):
            answer = await server.call(transport, "auth:getCurrentUser", token=token)
            assert answer["status"] == 200
        answer = await server.call(transport, "auth:getMyRights", token=token)
        assert told(answer) == TOO_MANY
        for _ in range(15):
            answer = await server.call(transport, "auth:getCurrentUser", token=admin)
            assert answer["status"] == 200
        clock.now_s += 1
        answer = await server.call(transport, "auth:getCurrentUser", token=token)
        assert answer["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_one_can_always_log_out(clock: Clock, transport: str) -> None:
    """docs/api/security.md#rate-limits, last row; what is refused for lack of rights does not
    count."""
    async with running() as server:
        admin = await server.create_admin()
        token = await server.create_user(admin, "ann")
        for _ in range(15):
            answer = await server.call(transport, "security:getUser", token=token, _id="ann")
            assert answer["status"] == 403
        for _ in range(10):
            answer = await server.call(transport, "auth:getCurrentUser", token=token)
            assert answer["status"] == 200
        answer = await server.call(transport, "auth:getCurrentUser", token=token)
        assert told(answer) == TOO_MANY
        answer = await server.call(transport, "auth:logout", token=token)
        assert answer["status"] == 200


async def test_the_limit_of_a_user_is_one_over_all_transports(clock: Clock) -> None:
    """docs/api/security.md#rate-limits: by user, not by connection or token."""
    async with running() as server:
        admin = await server.create_admin()
        tokens = [await server.create_user(admin, "ann"), await server.login("ann")]
        statuses = [
            (await server.call(transport, "auth:getCurrentUser", token=token))["status"]
            for transport in TRANSPORTS
            for token in tokens * 2
        ]
        assert statuses == [200] * 10 + [429] * 2


async def test_everybody_without_a_token_is_one_user(clock: Clock) -> None:
    """docs/api/security.md#rate-limits: 200 a second together, logins not among them."""
    async with running() as server:
        await server.create_admin()
        clock.now_s += 1
        statuses = []
        for _ in range(3):
            http = await server.connect()
            asked = b"GET /_me HTTP/1.1\r\nHost: x\r\n\r\n" * 60
            await http.send(asked)
            statuses += [(await http.read()).status for _ in range(60)]
        await server.login("admin")
        http = await server.connect()
        statuses += [(await http.ask("GET", "/_me")).status for _ in range(25)]
        assert statuses == [200] * 200 + [429] * 5


async def test_logins_on_one_connection(clock: Clock) -> None:
    """docs/api/security.md#rate-limits: `limits.loginsPerSecond`, also for those who log in
    rightly."""
    async with running(limited(logins_per_second=2)) as server:
        await server.create_admin()
        login = {"username": "admin", "password": PASSWORD}
        http, other = await server.connect(), await server.connect()
        statuses = [(await http.ask("POST", "/_login/local", login)).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = await http.ask("POST", "/_login/local", login)
        assert told(refused.json) == TOO_MANY_LOGINS
        assert refused.headers["retry-after"] == "1"
        assert (await other.ask("POST", "/_login/local", login)).status == 200
        clock.now_s += 1
        assert (await http.ask("POST", "/_login/local", login)).status == 200


async def test_logins_on_one_socket(clock: Clock) -> None:
    """docs/api/security.md#rate-limits: each socket is a connection."""
    body = {"username": "admin", "password": PASSWORD}
    login = {"controller": "auth", "action": "login", "strategy": "local", "body": body}
    async with running(limited(logins_per_second=1)) as server:
        await server.create_admin()
        for _ in range(2):
            socket = await server.open_socket()
            assert (await socket.ask(login))["status"] == 200
            assert told(await socket.ask(login)) == TOO_MANY_LOGINS


def test_windows_are_whole_seconds() -> None:
    """docs/api/security.md#rate-limits: global frames of a second, not sliding ones."""
    clock = Clock(10.9)
    limits = RateLimits(logins_per_second=0, clock_s=clock)

    def ask(kuid: str, name: str = "auth:getCurrentUser") -> None:
        limits.check(name, kuid, rate_limit=2, is_anonymous=False, connection=None)

    for second in (10.9, 11.0):
        clock.now_s = second
        ask("ann")
        ask("ann")
        with pytest.raises(ApiError):
            ask("ann")
        ask("bob")
    for _ in range(5):
        ask("ann", "auth:logout")
        ask("ann", "auth:login")


# Messages a second on one socket


async def test_messages_of_a_socket(clock: Clock) -> None:
    """docs/api/transport.md#websocket: pings count, the excess is dropped unread, other sockets go
    on."""
    config = cheap_config()
    protocols = replace(
        config.server.protocols,
        websocket=replace(config.server.protocols.websocket, rate_limit=3),
    )
    config = replace(config, server=replace(config.server, protocols=protocols))
    now = {"controller": "auth", "action": "getCurrentUser", "requestId": "mine"}
    async with running(config) as server:
        socket, other = await server.open_socket(), await server.open_socket()
        assert (await socket.ask(now))["status"] == 200
        assert await socket.ask({"p": 1}) == {"p": 2}
        assert (await socket.ask(now))["status"] == 200
        for excess in (now, {"p": 1}, b"not JSON"):
            answer = await socket.ask(excess)
            assert told(answer) == TOO_MANY_MESSAGES
            assert (answer["controller"], answer["action"]) == (None, None)
            assert "room" not in answer
            assert answer["requestId"] != "mine"
            assert len(answer["requestId"]) == 36
        assert (await other.ask(now))["status"] == 200
        clock.now_s += 1
        assert (await socket.ask(now))["requestId"] == "mine"


async def test_without_a_limit_messages_are_free(server: Running) -> None:
    """The default."""
    socket = await server.open_socket()
    for _ in range(50):
        assert await socket.ask({"p": 1}) == {"p": 2}


def test_budgets_are_refilled() -> None:
    """By whole seconds, and what was left over is not kept."""
    clock = Clock(1.5)
    may_send = MessageBudget(2, clock)
    assert [may_send() for _ in range(4)] == [True, True, False, False]
    clock.now_s = 9.0
    assert [may_send() for _ in range(3)] == [True, True, False]
    clock.now_s = 9.99
    assert may_send() is False


# What all unauthenticated clients share


def ask_shared(window: SharedWindow, address: str, count: int, limit: int = 200) -> int:
    """Ask so often at once, and give how often it was within the limit."""
    return sum(window.is_within(address, limit) for _ in range(count))


def test_an_address_alone_may_use_the_whole_limit() -> None:
    """docs/api/security.md#rate-limits: the sum of the reference, in each whole second."""
    clock = Clock()
    window = SharedWindow(clock)
    for _ in range(3):
        assert ask_shared(window, CLIENT, 600) == 200
        clock.now_s += 1


def test_a_second_address_is_served_though_the_first_floods() -> None:
    """In its first second beyond the limit, from then on within it; the first gets the rest."""
    clock = Clock()
    window = SharedWindow(clock)
    assert ask_shared(window, CLIENT, 600) == 200
    assert ask_shared(window, "203.0.113.8", 20) == 20
    for _ in range(3):
        clock.now_s += 1
        assert ask_shared(window, CLIENT, 600) == 180
        assert ask_shared(window, "203.0.113.8", 20) == 20


def test_addresses_that_all_flood_get_equal_shares() -> None:
    clock = Clock()
    window = SharedWindow(clock)
    addresses = [f"203.0.113.{number}" for number in range(3)]
    for address in addresses:
        ask_shared(window, address, 600)
    clock.now_s += 1
    granted = [ask_shared(window, address, 600) for address in addresses]
    # A third of 200 each, rounded up where somebody is short of it by a part of a request.
    assert granted == [68, 67, 67]


def test_what_small_demands_leave_is_shared_equally_by_the_others() -> None:
    clock = Clock()
    window = SharedWindow(clock)
    demands = {"203.0.113.1": 10, "203.0.113.2": 30, "203.0.113.3": 600, "203.0.113.4": 600}
    for address, demand in demands.items():
        ask_shared(window, address, demand)
    clock.now_s += 1
    granted = [ask_shared(window, address, demand) for address, demand in demands.items()]
    assert granted == [10, 30, 80, 80]


def test_an_address_that_asks_no_more_leaves_its_share_a_second_later() -> None:
    clock = Clock()
    window = SharedWindow(clock)
    ask_shared(window, "203.0.113.8", 20)
    for granted in (180, 200):
        clock.now_s += 1
        assert ask_shared(window, CLIENT, 600) == granted
    clock.now_s += 5
    assert ask_shared(window, CLIENT, 600) == 200


def test_however_many_addresses_come_at_once_twice_the_limit_is_served() -> None:
    clock = Clock()
    window = SharedWindow(clock)
    for second in range(3):
        clock.now_s += 1
        granted = ask_shared(window, CLIENT, 600)
        for number in range(5000):
            granted += ask_shared(window, f"10.{second}.{number // 250}.{number % 250}", 2)
        assert granted <= 400


def test_an_ipv6_customer_has_one_share() -> None:
    clock = Clock()
    window = SharedWindow(clock)
    for _ in range(2):
        clock.now_s += 1
        flood = sum(ask_shared(window, f"2001:db8:1:{number:x}::1", 6) for number in range(100))
        other = ask_shared(window, "2001:db8:2::1", 20)
    assert (flood, other) == (180, 20)


async def test_an_anonymous_flood_leaves_check_token_to_other_addresses(clock: Clock) -> None:
    """Security check X3: one address asks 600 times a second, another 20 times, two seconds long;
    the refusals are counted."""
    async with running(proxied(cheap_config(), proxy_protocol=True)) as server:
        statuses: dict[str, list[int]] = {CLIENT: [], "203.0.113.8": []}
        for _ in range(2):
            for address, count in ((CLIENT, 300), ("203.0.113.8", 20)):
                http = await server.connect()
                await http.send(f"PROXY TCP4 {address} 192.0.2.1 1 2\r\n".encode())
                for _ in range(count):
                    answer = await http.ask("POST", "/_checkToken", {"token": "x"})
                    statuses[address].append(answer.status)
            clock.now_s += 1
        assert statuses["203.0.113.8"] == [200] * 40
        assert statuses[CLIENT].count(200) == 200 + 180
        assert statuses[CLIENT].count(429) == 100 + 120
        counts = server.app.services.counting.limits.to_dict()
        assert counts["anonymousRate"] == 220
