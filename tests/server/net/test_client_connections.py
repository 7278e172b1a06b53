"""Connections of one client address (security check M3)."""

import asyncio
import socket
import ssl
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from protocol.config import ConnectionConfig
from server.api.router import Router
from server.config.model import Config, Limits
from server.core.limit_counters import Limit
from server.net.bind import Place
from server.net.client_address import Addresses
from server.net.client_connections import ClientConnections, ClientKeys
from server.net.connection import Peer
from server.net.listener import Listener
from server.net.timeouts import Timeouts
from server.net.tls import Tls
from tests.server.net.test_connection import UPGRADE, Answers
from tests.support.certificates import Authority
from tests.support.server import Answer, Http, Running, cheap_config, running
from tests.support.waiting import deadline, in_time, until

READY = b"GET /_ready HTTP/1.1\r\nHost: x\r\n\r\n"


def proxied(*, proxy_protocol: bool, **limits: int) -> Config:
    """Give a configuration behind a proxy on this machine, which names its clients."""
    config = cheap_config(limits=replace(Limits(), **limits))
    server = replace(config.server, trusted_proxies=("127.0.0.1",), proxy_protocol=proxy_protocol)
    return replace(config, server=server)


async def connect_as(server: Running, address: str) -> Http:
    """Open a connection of a client elsewhere, as a proxy does that speaks the PROXY protocol."""
    http = await server.connect()
    family, own = ("TCP6", "::1") if ":" in address else ("TCP4", "127.0.0.1")
    await http.send(f"PROXY {family} {address} {own} 56324 7512\r\n".encode())
    return http


async def ready(http: Http) -> Answer:
    await http.send(READY)
    return await http.read()


async def is_refused(http: Http) -> bool:
    """Return whether the server closes without an answer to what is asked: 503, with the seconds to
    wait, unless the end of the connection was faster."""
    try:
        await http.send(READY)
        said = await http.read_end()
    except ConnectionError:
        return True
    return said == (
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"Connection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", bytes([203, 0, 113, 7])),
        ("::ffff:203.0.113.7", bytes([203, 0, 113, 7])),
        ("2001:db8:1:2::3", bytes([64]) + bytes.fromhex("20010db800010002")),
        ("127.0.0.2", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("unix", None),
        ("", None),
        ("10.1.2.3", None),
    ],
)
def test_client_keys_of_addresses(address: str, key: bytes | None) -> None:
    """An IPv6 client has a /64; this machine and trusted proxies have no key."""
    assert ClientKeys(Addresses(("10.0.0.0/8",))).of_address(address) == key


def test_client_keys_of_requests_are_those_of_the_client_that_a_trusted_proxy_names() -> None:
    keys = ClientKeys(Addresses(("10.0.0.0/8",)))
    headers = {"x-forwarded-for": "198.51.100.1, 203.0.113.7, 10.0.0.2"}
    assert keys.of_request("10.0.0.1", headers) == bytes([203, 0, 113, 7])
    assert keys.of_request("192.0.2.1", headers) == bytes([192, 0, 2, 1])
    assert keys.of_request("10.0.0.1", {}) is None


def test_connections_of_a_client_at_the_limit_and_one_beyond() -> None:
    refusals: list[int] = []
    clients = ClientConnections(2, on_refusal=lambda: refusals.append(1))
    assert [clients.add(b"a") for _ in range(3)] == [True, True, False]
    assert clients.add(b"b")
    assert all(clients.add(None) for _ in range(5))
    assert len(refusals) == 1
    clients.remove(b"a")
    assert clients.add(b"a")
    for client in (b"a", b"a", b"b", None):
        clients.remove(client)
    assert len(clients) == 0


async def test_a_client_at_its_limit_is_refused_and_others_are_served() -> None:
    """`limits.connectionsPerAddress`: 503 with `Retry-After`, counted, and room again once one of
    its connections ends."""
    config = proxied(proxy_protocol=True, connections_per_address=2)
    async with running(config) as server:
        inside = [await connect_as(server, "203.0.113.7") for _ in range(2)]
        for http in inside:
            assert (await ready(http)).status == 200
        assert await is_refused(await connect_as(server, "203.0.113.7"))
        other = await connect_as(server, "203.0.113.8")
        assert (await ready(other)).status == 200
        counted = server.app.services.counting.limits.to_dict()
        assert counted["connectionsPerAddress"] == 1
        inside[0].close()
        await until(lambda: len(server.app.listener.peers) == 2)
        assert (await ready(await connect_as(server, "203.0.113.7"))).status == 200


async def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    async with running(proxied(proxy_protocol=True, connections_per_address=1)) as server:
        assert (await ready(await connect_as(server, "2001:db8::1"))).status == 200
        assert await is_refused(await connect_as(server, "2001:db8::2"))
        assert (await ready(await connect_as(server, "2001:db8:0:1::1"))).status == 200


async def test_the_limit_of_a_client_is_a_quarter_of_all_connections_by_default() -> None:
    async with running(proxied(proxy_protocol=True, connections=12)) as server:
        for _ in range(3):
            assert (await ready(await connect_as(server, "203.0.113.7"))).status == 200
        assert await is_refused(await connect_as(server, "203.0.113.7"))


async def test_this_machine_and_trusted_proxies_have_no_limit_of_their_own() -> None:
    async with running(proxied(proxy_protocol=False, connections_per_address=1)) as server:
        for _ in range(3):
            assert (await ready(await server.connect())).status == 200


async def test_sockets_behind_a_trusted_proxy_count_for_the_client_it_names() -> None:
    """The handshake of one too many is refused with 503; HTTP connections are the proxy's."""
    async with running(proxied(proxy_protocol=False, connections_per_address=1)) as server:
        named = {"X-Forwarded-For": "203.0.113.7"}
        opened = await server.open_socket(named)
        http = await server.connect()
        await http.send(UPGRADE[:-2] + b"X-Forwarded-For: 203.0.113.7\r\n\r\n")
        refused = await http.read()
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json["error"]["id"] == "api.process.overloaded"
        assert await http.read_end() == b""
        await server.open_socket({"X-Forwarded-For": "203.0.113.8"})
        for _ in range(2):
            answer = await (await server.connect()).ask("GET", "/_me", headers=named)
            assert answer.status == 200
        opened.http.close()
        await until(lambda: sum(peer.is_socket for peer in server.app.listener.peers) == 1)
        await server.open_socket(named)


async def test_the_count_of_clients_is_empty_once_all_connections_are_gone() -> None:
    async with running(proxied(proxy_protocol=True, connections_per_address=2)) as server:
        listener = server.app.listener
        for address in ("203.0.113.7", "203.0.113.7", "203.0.113.7", "203.0.113.8"):
            http = await connect_as(server, address)
            await http.send(READY)
            http.writer.transport.abort()
        await until(lambda: not listener.peers)
        assert len(listener._clients) == 0  # noqa: SLF001


class Everyone(ClientKeys):
    """Takes all clients for one that is not on this machine."""

    def __init__(self) -> None:
        super().__init__(Addresses(()))
        self.of_address = lambda address: b"one"  # type: ignore[assignment]


async def test_handshakes_in_progress_count_for_their_client(tmp_path: Path) -> None:
    """One too many is cut off before anything is read; there is room again when one ends, and a
    connection counts once, before its handshake is done and after."""
    authority = Authority(tmp_path)
    files = authority.sign("server")
    context = ssl.create_default_context(cafile=str(authority.cert))
    limits: list[Limit] = []
    answers = Answers()
    wire = ConnectionConfig(Router(()), "node")
    wire.set_date("Thu, 01 Jan 1970 00:00:00 GMT")
    listener = Listener(
        wire,
        answers.answer,
        answers.try_cached,
        Timeouts(),
        connections=100,
        connections_per_client=2,
        client_keys=Everyone(),
        on_limit=limits.append,
        make_peer=Peer,
    )
    bound = await listener.listen(Place(), Tls(str(files.cert), str(files.key), "1.2", ""))
    assert isinstance(bound, tuple)
    connect = lambda **given: asyncio.open_connection("127.0.0.1", bound[1], **given)  # noqa: E731
    inside = Http(*await in_time(connect(ssl=context)))
    assert (await ready(inside)).status == 200
    _, silent = await connect()
    handshakes = listener._handshakes  # noqa: SLF001
    assert handshakes is not None
    await until(lambda: len(handshakes) == 1)
    outside = Http(*await connect())
    async with deadline():
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await outside.reader.readexactly(1)
    assert limits == [Limit.CONNECTIONS_PER_ADDRESS]
    silent.close()
    await until(lambda: len(handshakes) == 0)
    further = Http(*await in_time(connect(ssl=context)))
    assert (await ready(further)).status == 200
    for http in (inside, further):
        http.writer.transport.abort()
    outside.close()
    await until(lambda: not listener.peers)
    assert len(listener._clients) == 0  # noqa: SLF001
    await listener.stop()


def test_waiting_connections_are_accepted_in_a_few_turns_of_uvloop() -> None:
    """M3: uvloop accepts one connection for each listening socket in a turn, and turns are long
    beside busy clients; so that 16 who wait do not wait for 16 turns."""

    async def count_turns() -> int:
        async with running() as server:
            with ExitStack() as waiting:
                for _ in range(16):
                    client = waiting.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.1", server.port))
                turns = 0
                while len(server.app.listener.peers) < 16:
                    turns += 1
                    await asyncio.sleep(0)
                return turns

    assert uvloop.run(count_turns()) <= 4
