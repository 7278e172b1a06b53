"""Logins of several steps (docs/api/strategies.md#multi-step-logins, docs/architecture.md; security
checks O1, H4).

A step is taken once, in time, and by who took the one before.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from server.auth.strategies.base import Challenge, Redirect
from server.storage.rows import Table
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import AWAY, Client, Steps, state_of
from tests.support.sample_strategy import Badge
from tests.support.server import TRANSPORTS, Running, cheap_config, running

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
FAULT = {"id": "plugin.strategy.invalid_verify_resolve", "code": 67305487, "status": 500}
TEN_MINUTES_MS = 600_000
KINDS = ({}, {"kind": "bound"})


@pytest.fixture
async def steps(clock: Clock) -> AsyncIterator[Running]:
    """A server with such a strategy, and Ann."""
    async with running() as server:
        services = server.app.services
        await services.strategies.add("steps", Steps(services.storage))
        await services.strategies.add("other", Steps(services.storage))
        await server.create_user(await server.create_admin(), "ann")
        yield server


async def pending(server: Running) -> int:
    """Count the logins that may go on."""
    return await server.app.services.storage.count(Table.ONE_TIME)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_login_goes_elsewhere_and_comes_back(steps: Running, transport: str) -> None:
    """docs/api/strategies.md#multi-step-logins, both steps."""
    client = Client(steps, transport)
    away = await client.login()
    url = f"{AWAY}?{urlencode({'state': state_of(away)})}"
    assert away["status"] == 302
    assert away["error"] is None
    assert away["result"] == {
        "headers": {"Location": url, "Content-Length": "0"},
        "statusCode": 302,
    }
    assert away["headers"] == {"location": url, "content-length": "0"}
    back = await client.login(state=state_of(away), code="ann")
    assert (back["status"], back["result"]["_id"]) == (200, "ann")
    me = await steps.call("query", "auth:getCurrentUser", token=back["result"]["jwt"])
    assert me["result"]["_id"] == "ann"
    assert await pending(steps) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_login_asks_for_more(steps: Running, transport: str, clock: Clock) -> None:
    """docs/architecture.md `Challenge`, twice in a row; each has a state of its own."""
    client = Client(steps, transport)
    first = await client.login(kind="bound")
    state = state_of(first)
    ends_ms = clock.now_ms + TEN_MINUTES_MS
    assert (first["status"], first["result"]) == (
        200,
        {"challenge": {"next": "code"}, "expiresAt": ends_ms, "state": state},
    )
    second = await client.login(state=state, code="again")
    assert state_of(second) != state
    back = await client.login(state=state_of(second), code="ann")
    assert back["result"]["_id"] == "ann"


@pytest.mark.parametrize("kind", KINDS, ids=("redirect", "challenge"))
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_no_step_of_his_is_refused(
    steps: Running, transport: str, kind: dict[str, str], clock: Clock
) -> None:
    """security check O1: foreign, of another strategy, replayed, made up, expired."""
    client, stranger = Client(steps, transport), Client(steps, transport)
    await stranger.login()
    state = state_of(await client.login(**kind))
    refused = [
        await stranger.login(state=state, code="ann"),
        await Client(steps, transport).login(state=state, code="ann"),
        await client.login("other", state=state, code="ann"),
        await client.login(state=f"{state}x", code="ann"),
        await client.login(state="x" * 5000, code="ann"),
        await client.login(state="\u00e9", code="ann"),
    ]
    if transport != "http":
        refused.append(await client.login(state={"a": [1]}, code="ann"))
    assert (await client.login(state=state, code="ann"))["status"] == 200
    refused.append(await client.login(state=state, code="ann"))
    late = state_of(await client.login(**kind))
    clock.now_ms += TEN_MINUTES_MS
    refused.append(await client.login(state=late, code="ann"))
    assert [told(answer) for answer in refused] == [REFUSED] * len(refused)
    assert len({answer["error"]["message"] for answer in refused}) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_step_just_before_its_end_counts(
    steps: Running, transport: str, clock: Clock
) -> None:
    client = Client(steps, transport)
    state = state_of(await client.login())
    clock.now_ms += TEN_MINUTES_MS - 1
    assert (await client.login(state=state, code="ann"))["status"] == 200


@pytest.mark.parametrize(("first", "second"), [("http", "websocket"), ("websocket", "http")])
async def test_a_step_stays_on_its_transport(steps: Running, first: str, second: str) -> None:
    """security check O1: a socket is no browser; a browser's page on another route is the same."""
    client = Client(steps, first)
    state = state_of(await client.login())
    other = Client(steps, second, {"Cookie": client.cookie} if client.cookie else {})
    assert told(await other.login(state=state, code="ann")) == REFUSED
    same = "query" if first == "http" else first
    if first == "http":
        client = Client(steps, same, cookie=client.cookie)
    assert (await client.login(state=state, code="ann"))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_portable_challenge_is_anybodys_who_knows_it(
    steps: Running, transport: str
) -> None:
    """For clients without cookies; still once."""
    state = state_of(await Client(steps, transport).login(kind="portable"))
    answers = [await Client(steps, "query").login(state=state, code="ann") for _ in range(2)]
    assert [answer["status"] for answer in answers] == [200, 401]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_wrong_step_uses_it_up(steps: Running, transport: str) -> None:
    """Nobody tries codes one after the other."""
    client = Client(steps, transport)
    state = state_of(await client.login())
    wrong = await client.login(state=state, code="bob")
    assert (told(wrong), wrong["error"]["message"]) == (REFUSED, "another code")
    assert told(await client.login(state=state, code="ann")) == REFUSED


async def test_wrong_steps_count_as_failed_logins_of_the_account(clock: Clock) -> None:
    """security checks A4, A8: from whatever browser, the account of the first step is slowed."""
    config = cheap_config()
    limits = replace(config.limits, failed_logins=3)
    async with running(replace(config, limits=limits)) as server:
        strategies = server.app.services.strategies
        await strategies.add("steps", Steps(server.app.services.storage))
        statuses = []
        for _ in range(3):
            client = Client(server, "http")
            state = state_of(await client.login())
            statuses.append((await client.login(state=state, code="guess"))["status"])
        assert statuses == [401] * 3
        assert (await Client(server, "http").login())["status"] == 429


async def test_one_of_two_at_once_gets_in(steps: Running) -> None:
    """A state is good once, whoever races."""
    client = Client(steps, "websocket")
    state = state_of(await client.login())
    socket = client._socket
    assert socket is not None
    sent = {"controller": "auth", "action": "login", "strategy": "steps"}
    for _ in range(2):
        await socket.send({**sent, "state": state, "code": "ann"})
    answers = [await socket.read() for _ in range(2)]
    assert sorted(answer["status"] for answer in answers) == [200, 401]


@pytest.mark.parametrize("transport", ("http", "query"))
async def test_the_cookie_of_a_browser(steps: Running, transport: str, clock: Clock) -> None:
    """security check O1: no script reads it, no page sends it, but a link from the provider's page
    does; two logins at once in one browser have the same."""
    client = Client(steps, transport)
    first = state_of(await client.login())
    name, *attributes = client.set_cookie.split("; ")
    assert name.startswith("loginState=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert "Secure" not in attributes
    assert first not in client.set_cookie
    second = state_of(await client.login())
    assert client.set_cookie.split("; ")[0] == name
    for state in (first, second):
        assert (await client.login(state=state, code="ann"))["status"] == 200


async def test_the_cookie_behind_a_proxy_with_tls(clock: Clock) -> None:
    """S10: no sibling host can set it, and one without the prefix is not looked at."""
    config = cheap_config()
    trusting = replace(config.server, trusted_proxies=("127.0.0.1",))
    async with running(replace(config, server=trusting)) as server:
        strategies = server.app.services.strategies
        await strategies.add("steps", Steps(server.app.services.storage))
        await server.create_user(await server.create_admin(), "ann")
        client = Client(server, "http", {"X-Forwarded-Proto": "https"})
        state = state_of(await client.login())
        assert client.cookie.startswith("__Host-loginState=")
        assert "Secure" in client.set_cookie.split("; ")
        plain = Client(server, "http", client.headers, client.cookie.removeprefix("__Host-"))
        assert told(await plain.login(state=state, code="ann")) == REFUSED
        assert (await client.login(state=state, code="ann"))["status"] == 200


@pytest.mark.parametrize(
    "cookie",
    ["loginState=", "loginState=short", "loginState=a;loginState=b", 'loginState="', "x=\u00e9"],
)
async def test_a_planted_cookie_is_no_obstacle(steps: Running, cookie: str) -> None:
    client = Client(steps, "http", cookie=cookie)
    state = state_of(await client.login())
    assert client.cookie != cookie
    assert (await client.login(state=state, code="ann"))["status"] == 200


async def test_what_was_asked_for_at_first_is_given_at_last(steps: Running, clock: Clock) -> None:
    """Whoever comes back from the provider brings neither `expiresIn` nor `cookieAuth`."""
    client = Client(steps, "http")
    state = state_of(await client.login(expiresIn="2h", cookieAuth="true"))
    back = await client.login(state=state, code="ann")
    assert "jwt" not in back["result"]
    assert back["result"]["ttl"] == 7_200_000
    assert client.set_cookie.startswith("authToken=")
    own = state_of(await Client(steps, "http").login(kind="portable", expiresIn="2h"))
    answer = await Client(steps, "http").login(state=own, code="ann", expiresIn="3h")
    assert answer["result"]["ttl"] == 10_800_000


@pytest.mark.parametrize("kind", KINDS, ids=("redirect", "challenge"))
async def test_answers_with_a_state_are_not_kept_by_anybody(
    steps: Running, kind: dict[str, str]
) -> None:
    """security check H4: it is as good as a password for a while."""
    http = await steps.connect()
    answer = await http.ask("GET", f"/_login/steps?{urlencode(kind)}")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_copy_of_the_database_names_no_step(steps: Running) -> None:
    """security check T11."""
    client = Client(steps, "http")
    state = state_of(await client.login())
    (row,) = await steps.app.services.storage.find(Table.ONE_TIME, limit=10)
    assert state not in repr(row)
    assert client.cookie.partition("=")[2] not in repr(row)


async def test_a_pending_login_outlives_the_server(tmp_path, clock: Clock) -> None:
    """A browser that comes back after a restart goes on."""
    states, client = [], None
    for step in range(2):
        async with running(data=str(tmp_path / "manykeys.db")) as server:
            services = server.app.services
            await services.strategies.add("steps", Steps(services.storage))
            if step == 0:
                await server.create_user(await server.create_admin(), "ann")
                client = Client(server, "http")
                states.append(state_of(await client.login()))
            else:
                again = Client(server, "http", cookie=client.cookie)
                assert (await again.login(state=states[0], code="ann"))["status"] == 200


async def test_two_hundred_pending_logins_disturb_nobody(steps: Running) -> None:
    """Whoever began before them goes on, and others log in meanwhile; then all of them do."""
    early = Client(steps, "websocket")
    state = state_of(await early.login())
    clients = [Client(steps, ("http", "query", "websocket")[at % 3]) for at in range(200)]
    states = [state_of(await client.login()) for client in clients]
    assert await steps.login("ann")
    assert (await early.login(state=state, code="ann"))["status"] == 200
    assert await pending(steps) == 200
    for client, one in zip(clients, states, strict=True):
        assert (await client.login(state=one, code="ann"))["status"] == 200


@pytest.mark.parametrize(
    "outcome",
    [
        Redirect("https://id.test/\r\nSet-Cookie: a=b"),
        Redirect("https://id.test/a b"),
        Redirect("//id.test/"),
        Redirect("https://id.test/" + "x" * 8001),
        Redirect(7),  # type: ignore[arg-type]
        Redirect(AWAY, status=200),
        Redirect(AWAY, kept={"a": object()}),
        Redirect(AWAY, kept={"a": "x" * 17_000}),
        Redirect(AWAY, kept=[1]),  # type: ignore[arg-type]
        Challenge({"a": object()}),
        Challenge([1]),  # type: ignore[arg-type]
    ],
    ids=repr,
)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_step_that_can_not_be_is_a_fault(
    server: Running, transport: str, outcome: object
) -> None:
    """Nothing a strategy says gets into a head, or grows without bound."""
    services = server.app.services
    await services.strategies.add("badge", Badge(services.storage, outcome))
    assert told(await Client(server, transport).login("badge")) == FAULT
    assert await pending(server) == 0


@pytest.mark.parametrize("outcome", [Redirect(AWAY), Challenge({})], ids=repr)
async def test_who_can_not_go_on_may_not_begin(server: Running, outcome: object) -> None:
    """A redirect without a bound state would be anybody's."""

    class OneStep(Badge):
        resume = None  # type: ignore[assignment]

    services = server.app.services
    await services.strategies.add("badge", OneStep(services.storage, outcome))
    assert told(await Client(server, "http").login("badge")) == FAULT


async def test_a_strategy_of_one_step_may_have_a_field_called_state(server: Running) -> None:
    await server.create_admin()
    body = {"username": "admin", "password": "correct horse", "state": "Bavaria"}
    answer = await server.call("query", "auth:login", strategy="local", body=body)
    assert answer["status"] == 200
