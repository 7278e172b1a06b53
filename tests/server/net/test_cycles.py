"""Requests and connections leave no reference cycles (security check M2).

The collector is off in all these tests: what dies here dies by reference counting.
"""

import asyncio
import gc
import json
import logging
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from weakref import WeakSet

import pytest

from protocol.api.request import Request, Response
from protocol.connection import Connection
from protocol.errors import ApiError
from protocol.websocket.messages import WebSocket
from server.auth.strategies.base import LoginAttempt
from server.net.connection import Peer
from server.net.listener import Listener
from server.storage.base import Exists, Insert, Unavailable
from server.storage.rows import Row, Table
from tests.server.net.test_connection import GET, UPGRADE, listening
from tests.server.net.test_tls import connect, over_tls, trusting
from tests.support.certificates import Authority
from tests.support.server import PASSWORD, Http, Running, cheap_config, running, write_client_frame
from tests.support.waiting import until

WATCHED = (
    *(Request, Response, Connection, WebSocket, Peer),
    *(ApiError, Exists, Unavailable, LoginAttempt, TracebackType),
)
TEXT, FRAGMENT = 0x81, 0x01
LARGE = "x" * 100_000
"""More than is read on the loop."""


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Keep the collector from finding anything."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def silent() -> Iterator[None]:
    """Log nothing: what pytest catches of a log keeps the errors in it."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def alive() -> Counter[str]:
    """Count what there is of each kind that is watched, whether anybody can reach it or not."""
    return Counter(kind.__name__ for one in gc.get_objects() if (kind := _kind(one)) is not None)


def _kind(one: object) -> type | None:
    return next((kind for kind in WATCHED if issubclass(type(one), kind)), None)


async def until_as(before: Counter[str]) -> None:
    """Wait until there is as much alive as before."""
    await until(lambda: not alive() - before)


def ask(method: str, path: str, body: object = None, **more: object) -> "Exchange":
    """Give an exchange over HTTP."""

    async def exchange(server: Running, token: str) -> int:
        http = await server.connect()
        given = {"token": token} if more.get("with_token") else {}
        headers = more.get("headers")
        assert headers is None or isinstance(headers, dict)
        answer = await http.ask(method, path, body, headers=headers, **given)
        leave(server, http)
        return answer.status

    return exchange


def say(payload: object, *, with_token: bool = False) -> "Exchange":
    """Give an exchange over WebSocket."""

    async def exchange(server: Running, token: str) -> int:
        opened = await server.open_socket()
        given = {**payload, "jwt": token} if with_token and isinstance(payload, dict) else payload
        answer = await opened.ask(given)
        leave(server, opened.http)
        return int(str(answer["status"]))

    return exchange


def leave(server: Running, http: Http) -> None:
    server.opened.remove(http)
    http.close()


Exchange = Callable[[Running, str], Awaitable[int]]
LOGIN = {"username": "admin", "password": PASSWORD}
WRONG = {"username": "admin", "password": "wrong"}
BAD_JSON = b"{" + LARGE.encode()
ME = {"controller": "auth", "action": "getCurrentUser", "requestId": "r"}
NEW = {
    "content": {"profileIds": ["admin"]},
    "credentials": {"local": {"username": "admin", "password": PASSWORD}},
}
OUTCOMES: dict[str, tuple[Exchange, int]] = {
    "answered": (ask("GET", "/_me"), 200),
    "answered with a token": (ask("GET", "/_me/_rights", with_token=True), 200),
    "logged in": (ask("POST", "/_login/local", LOGIN), 200),
    "some of several": (ask("POST", "/users/_mDelete", {"ids": ["a"]}, with_token=True), 206),
    "searched": (ask("POST", "/users/_search", {"query": {}}, with_token=True), 200),
    "a bad search": (ask("POST", "/users/_search", {"query": {"x": 1}}, with_token=True), 400),
    "no such path": (ask("GET", "/nowhere"), 404),
    "no such user": (ask("GET", "/users/nobody", with_token=True), 404),
    "no right": (ask("GET", "/users/nobody"), 401),
    "no right, a large body": (ask("POST", "/users/x/_create", {"a": LARGE}), 401),
    "a bad token": (ask("GET", "/_me", headers={"Authorization": "Bearer x"}), 401),
    "a bad cookie": (ask("GET", "/_me", headers={"Cookie": "authToken=x", "Origin": "x"}), 401),
    "no JSON": (ask("POST", "/_login/local", b"{"), 400),
    "no JSON, large": (ask("POST", "/_login/local", BAD_JSON), 400),
    "no gzip": (ask("POST", "/_login/local", b"x", headers={"Content-Encoding": "gzip"}), 400),
    "no such action": (ask("POST", "/_query", {"controller": "auth", "action": "x"}), 401),
    "too many values": (ask("POST", "/_login/local", b"[" * 50_000), 400),
    "no form": (
        ask("POST", "/_login/local", b"%ff", headers={"Content-Type": "multipart/form-data"}),
        400,
    ),
    "a body too large": (ask("POST", "/_login/local", {"a": LARGE * 11}), 413),
    "a wrong password": (ask("POST", "/_login/local", WRONG), 401),
    "no such strategy": (ask("POST", "/_login/nothing", {"a": LARGE}), 400),
    "a name that is taken": (ask("POST", "/users/x/_create", NEW, with_token=True), 412),
    "a token that is not refreshed": (ask("POST", "/_refreshToken"), 401),
    "a message": (say(ME), 200),
    "a message with a token": (say(ME, with_token=True), 200),
    "a message without right": (say({**ME, "action": "createApiKey"}), 401),
    "a large message": (say({**ME, "body": {"a": LARGE}}), 200),
    "a large message without right": (say({**ME, "action": "x", "body": {"a": LARGE}}), 401),
    "a message that is no JSON": (say(b"{{{{"), 400),
    "a large message that is no JSON": (say(BAD_JSON), 400),
    "a message of the wrong type": (say({"controller": 1}), 400),
    "a message with too many values": (say(b"[" * 50_000), 400),
    "a login by message": (say({**ME, "action": "login", "strategy": "local", "body": WRONG}), 401),
}


@pytest.mark.parametrize("name", OUTCOMES)
async def test_request_of_any_outcome_is_freed(name: str) -> None:
    """Security check M2. No error, body or login attempt stays, nor the connection that asked."""
    exchange, status = OUTCOMES[name]
    async with running() as server:
        token = await server.create_admin()
        before = alive()
        assert await exchange(server, token) == status
        await until_as(before)


async def test_request_that_failed_is_freed(
    server: Running, monkeypatch: pytest.MonkeyPatch, silent: None
) -> None:
    """Security check M2: 500, and 503 of a store that is gone."""
    before = alive()
    for fault, status in ((ValueError, 500), (Unavailable, 503)):

        async def fail(*given: object, fault: type[Exception] = fault) -> None:
            raise fault("gone")

        with monkeypatch.context() as patch:
            patch.setattr(server.app.services.users, "get", fail)
            patch.setattr(server.app.services.storage, "get", fail)
            exchange = ask("POST", "/_login/local", {**WRONG, "more": LARGE})
            assert await exchange(server, "") == status
    await until_as(before)


PHASES = {
    "nothing": b"",
    "half a head": GET[:20],
    "an answered request": GET % 1,
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
    "half a chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "a broken request": b"GET / HTTP/1.1\r\nHost: \x00\r\n\r\n",
    "an open socket": UPGRADE,
    "half a frame's head": UPGRADE + b"\x81",
    "half a frame": UPGRADE + write_client_frame(TEXT, b"abc")[:-1],
    "a fragment": UPGRADE + write_client_frame(FRAGMENT, b"abc"),
    "a message": UPGRADE + write_client_frame(TEXT, json.dumps(ME).encode()),
    "a broken frame": UPGRADE + b"\xff\xff",
    "a request in progress": GET.replace(b"%d", b"wait"),
    "requests behind one in progress": GET.replace(b"%d", b"wait") + GET % 1 + GET % 2,
    "a message in progress": UPGRADE + write_client_frame(TEXT, b'{"requestId":"wait"}'),
}


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("name", PHASES)
async def test_connection_lost_in_any_phase_is_freed(name: str, is_reset: bool) -> None:
    """Security check M2, whether it is ended or reset."""
    made: WeakSet[Peer] = WeakSet()
    arrived = [0]

    class Counted(Peer):
        def __init__(self, listener: Listener) -> None:
            super().__init__(listener)
            made.add(self)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            arrived[0] += len(data)

    async with listening(make=Counted) as under:
        before = alive()
        http = await under.connect()
        under.opened.remove(http)
        await http.send(PHASES[name])
        await until(lambda: len(made) == 1 and arrived[0] == len(PHASES[name]))
        if is_reset:
            reset(http)
        else:
            http.close()
        if "in progress" in name:
            await until(lambda: not under.listener.peers or not is_reset)
            assert alive()["Request"] > before["Request"]
            under.answers.released.set()
        await until_as(before)
        assert not made


def reset(http: Http) -> None:
    """Close a connection with RST."""
    opened = http.writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    http.writer.transport.abort()


async def test_request_that_is_cut_off_is_freed() -> None:
    """Security check M2: the server stops, and waits no longer for what is in progress."""
    before = alive()
    async with listening(grace_s=0) as under:
        http = await under.connect()
        await http.send(GET.replace(b"%d", b"wait"))
        await under.answers.waiting.wait()
        await under.listener.stop()
        under.peers.clear()
        http.close()
        await until_as(before)


async def test_connection_refused_is_freed() -> None:
    """Security check M2: one too many."""
    async with listening(connections=0) as under:
        before = alive()
        http = await under.connect()
        assert (await http.read()).status == 503
        http.close()
        under.peers.clear()
        await until_as(before)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", PHASES["half a body"], PHASES["a fragment"]])
async def test_tls_connection_is_freed(tmp_path: Path, sent: bytes) -> None:
    """Security check M2: with TLS, and one that never got through its handshake."""
    authority = Authority(tmp_path)
    async with running(over_tls(authority.sign("first"))) as server:
        before = alive()
        http = await connect(server.port, trusting(authority))
        await http.send(sent)
        plain = Http(*await asyncio.open_connection("127.0.0.1", server.port))
        await plain.send(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: len(server.app.listener.peers) == 1)
        http.close()
        plain.close()
        del http, plain
        await until_as(before)


async def test_password_is_gone_once_it_was_tested() -> None:
    """Security checks M2, P11: whatever came of it, no object holds it when the answer is out."""
    secret = "correct horse battery staple, once"
    config = cheap_config()
    async with running(config) as server:
        await server.create_admin()
        http = await server.connect()
        for path, body in (
            ("/_login/local", {"username": "admin", "password": secret}),
            ("/_login/local", {"username": "nobody", "password": secret}),
            ("/_login/local", {"username": "admin", "password": secret, "x": LARGE}),
            ("/_login/nothing", {"username": "admin", "password": secret}),
        ):
            assert (await http.ask("POST", path, body)).status in (400, 401)
        opened = await server.open_socket()
        login = {"controller": "auth", "action": "login", "strategy": "local", "requestId": "r"}
        for _ in range(2):
            body = {"username": "admin", "password": secret}
            assert (await opened.ask({**login, "body": body}))["status"] == 401
        del body

        def holders() -> list[object]:
            return [
                one
                for one in gc.get_objects()
                if type(one) is dict and one.get("password") == secret
            ]

        await until(lambda: not holders())


async def test_refusal_of_the_store_is_freed(server: Running) -> None:
    """Security check M2: an error that comes from a thread."""
    before = alive()
    row: Row = {"name": "one", "value": LARGE}
    storage = server.app.services.storage
    await storage.apply([Insert(Table.SETTINGS, row)])

    async def is_refused() -> bool:
        try:
            await storage.apply([Insert(Table.SETTINGS, row)])
        except Exists:
            return True
        return False

    assert await is_refused()
    assert await asyncio.gather(*(is_refused() for _ in range(3))) == [True] * 3  # at one time
    await until_as(before)
