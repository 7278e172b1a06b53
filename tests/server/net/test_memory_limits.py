"""What strangers send and do not read, against the real process with its default settings: memory
stays below what is documented, returns to its level by itself, and others are served meanwhile
(security checks M1 and M3)."""

import asyncio
import resource
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.server.app.test_serve import Process, serving
from tests.server.net.test_connection import UPGRADE as ANY_UPGRADE
from tests.support.server import write_client_frame
from tests.support.waiting import WAIT_S, until

MEBIBYTE = 2**20
ABOVE_LEVEL_BYTES = 30 * MEBIBYTE
UNFINISHED_BYTES = 256 * MEBIBYTE  # the default of `limits.unfinishedSize`
ADDRESS_SPACE_BYTES = 2**30
PROBES = 50
BODY = b"a" * 999_000
# A name of this machine, as `--open` asks for.
UPGRADE = ANY_UPGRADE.replace(b"Host: x\r\n", b"Host: localhost\r\n")
POST = b"POST /_query HTTP/1.1\r\nHost: localhost\r\n"
UNFINISHED = {
    "length": (b"", POST + b"Content-Length: 1000000\r\n\r\n" + BODY),
    "chunks": (b"", POST + b"Transfer-Encoding: chunked\r\n\r\nF4240\r\n" + BODY),
    "frame": (UPGRADE, b"\x81\xff" + struct.pack("!Q", 1_000_000) + bytes(4) + BODY),
    "fragment": (UPGRADE, b"\x01\xff" + struct.pack("!Q", len(BODY)) + bytes(4) + BODY),
}
OPENAPI = b"GET /_openapi HTTP/1.1\r\nHost: localhost\r\n\r\n"
OPENAPI_MESSAGE = write_client_frame(0x81, b'{"controller":"server","action":"openapi"}')
UNREAD = {"http": (b"", OPENAPI * 64), "websocket": (UPGRADE, OPENAPI_MESSAGE * 64)}
BEHIND_A_PROXY = (
    *("--set", "server.trustedProxies=127.0.0.1"),
    *("--set", "server.proxyProtocol=true"),
)


def named(address: str) -> bytes:
    """Return what a proxy sends before the bytes of a client."""
    return b"PROXY TCP4 %b 127.0.0.1 56324 7512\r\n" % address.encode()


def resident_bytes(server: Process) -> int:
    """Return what the process has in memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


async def level_of(server: Process, first: bytes = b"") -> int:
    """Return the memory of a server that has answered some requests."""
    http = await server.connect()
    await http.send(first)
    for _ in range(20):
        assert (await http.ask("GET", "/_openapi")).status == 200
    http.close()
    return resident_bytes(server)


def send_from_many(
    server: Process, before: bytes, sent: bytes, times: int, opened: list[socket.socket]
) -> None:
    """Open so many connections that send this and then nothing, and read nothing. It may be that
    the server ends one before all is sent."""
    for _ in range(times):
        one = socket.socket()
        opened.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(WAIT_S)
        one.connect(("127.0.0.1", server.port))
        try:
            one.sendall(before)
            if before.endswith(UPGRADE):
                assert one.recv(1000).startswith(b"HTTP/1.1 101 ")
            one.sendall(sent)
        except ConnectionError:
            pass


@asynccontextmanager
async def flooded(
    server: Process, before: bytes, sent: bytes, times: int
) -> AsyncIterator[list[socket.socket]]:
    """Have such connections open within the block."""
    opened: list[socket.socket] = []
    try:
        await asyncio.to_thread(send_from_many, server, before, sent, times, opened)
        yield opened
    finally:
        for one in opened:
            one.close()


async def assert_memory_stays(server: Process, most_bytes: int, first: bytes = b"") -> None:
    """Others are served, small logins too, and whatever the server does between their requests, it
    holds no more than that."""
    http = await server.connect()
    await http.send(first)
    for _ in range(PROBES):
        assert (await http.ask("GET", "/_ready")).status == 200
        assert resident_bytes(server) <= most_bytes
    body = {"username": "x" * 10_000, "password": "x"}
    assert (await http.ask("POST", "/_login/local", body)).status == 401
    http.close()


def refusals(opened: list[socket.socket]) -> list[bytes]:
    """Return what the server has said to each of the connections it refused."""
    said = []
    for one in opened:
        one.setblocking(False)
        try:
            if data := one.recv(4096):
                said.append(data)
        except (BlockingIOError, ConnectionError):
            pass
    return said


@pytest.mark.parametrize("kind", UNREAD)
async def test_unread_answers_stay_within_30_mib(kind: str) -> None:
    """100 connections with 64 requests each for answers of 98 KB."""
    async with serving(":memory:", "--open") as server:
        most_bytes = await level_of(server) + ABOVE_LEVEL_BYTES
        before, sent = UNREAD[kind]
        async with flooded(server, before, sent, 100):
            await assert_memory_stays(server, most_bytes)
        await until(lambda: resident_bytes(server) <= most_bytes)
        assert "Traceback" not in await server.stop()


@pytest.mark.parametrize("kind", UNFINISHED)
async def test_unfinished_input_stays_within_its_limit(kind: str) -> None:
    """400 connections with a megabyte each, of which 1 GiB of address space is enough; those that
    find no room are told so, and all of it is given back."""
    async with serving(":memory:") as server:
        resource.prlimit(
            server.process.pid, resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)
        )
        level_bytes = await level_of(server)
        before, sent = UNFINISHED[kind]
        async with flooded(server, before, sent, 400) as opened:
            most_bytes = level_bytes + UNFINISHED_BYTES + ABOVE_LEVEL_BYTES
            await assert_memory_stays(server, most_bytes)
            said = refusals(opened)
            beginning = b"\x88\x0c\x03\xf5overloaded" if before else b"HTTP/1.1 503 "
            assert said
            assert all(one.startswith(beginning) for one in said)
        await until(lambda: resident_bytes(server) <= level_bytes + ABOVE_LEVEL_BYTES)
        assert "Traceback" not in await server.stop()


async def test_many_bodies_below_the_limit_are_given_back() -> None:
    """Of a size that the C library keeps in its heap."""
    async with serving(":memory:") as server:
        most_bytes = await level_of(server) + ABOVE_LEVEL_BYTES
        head, body = POST + b"Content-Length: 100001\r\n\r\n", b"a" * 100_000
        async with flooded(server, b"", head + body, 900) as opened:
            await assert_memory_stays(server, most_bytes + 900 * 112_500)
            assert not refusals(opened)
        await until(lambda: resident_bytes(server) <= most_bytes)
        assert "Traceback" not in await server.stop()


async def test_unfinished_input_of_one_client_stays_within_a_quarter() -> None:
    """A client elsewhere, named by a proxy on this machine; another one still finds room for a
    megabyte."""
    ann, bob = named("203.0.113.7"), named("203.0.113.8")
    async with serving(":memory:", *BEHIND_A_PROXY) as server:
        level_bytes = await level_of(server, bob)
        async with flooded(server, ann, UNFINISHED["length"][1], 120):
            most_bytes = level_bytes + UNFINISHED_BYTES // 4 + ABOVE_LEVEL_BYTES
            await assert_memory_stays(server, most_bytes, bob)
            http = await server.connect()
            await http.send(bob + UNFINISHED["length"][1])
            await http.send(b"a" * 1000)
            assert (await http.read()).status == 400  # it was read: it is no JSON
            http.close()
        await until(lambda: resident_bytes(server) <= level_bytes + ABOVE_LEVEL_BYTES)
        assert "Traceback" not in await server.stop()


async def test_aborted_bodies_leave_nothing() -> None:
    """Thousand connections that end within a megabyte, most of them with a reset."""
    async with serving(":memory:") as server:
        level_bytes = await level_of(server)
        for number in range(10):
            before, sent = list(UNFINISHED.values())[number % 4]
            async with flooded(server, before, sent, 100) as opened:
                for one in opened[number % 2 :: 2]:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(lambda: resident_bytes(server) <= level_bytes + ABOVE_LEVEL_BYTES)
        await assert_memory_stays(server, level_bytes + ABOVE_LEVEL_BYTES)
        assert "Traceback" not in await server.stop()
