"""TLS handshakes in progress are connections: counted, bounded in time, gone at the end (security
checks H7, H10)."""

import asyncio
import signal
import ssl
from pathlib import Path

import pytest

from tests.server.app.test_serve import Process, serving
from tests.server.net.test_connection import GET, UPGRADE
from tests.support.certificates import Authority
from tests.support.server import Answer, Http, Socket, write_client_frame
from tests.support.waiting import deadline, in_time

LOOPS = ("uvloop", "asyncio")
FOREVER = ("--set", "timeouts.head=1h")


class Secured:
    """An authority, and the options of a server that shows its certificate."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        files = authority.sign("server")
        self.context = ssl.create_default_context(cafile=str(authority.cert))
        self.options = ("--tls-cert", str(files.cert), "--tls-key", str(files.key))

    async def connect(self, port: int) -> Http:
        """Open a connection with TLS."""
        opened = asyncio.open_connection("127.0.0.1", port, ssl=self.context)
        return Http(*await in_time(opened))


@pytest.fixture
def secured(tmp_path: Path) -> Secured:
    return Secured(tmp_path)


async def silent(port: int) -> Http:
    """Open a connection on which no handshake will come."""
    return Http(*await asyncio.open_connection("127.0.0.1", port))


async def read_end(http: Http) -> bytes:
    """Read until the server closes, politely or not."""
    try:
        return await http.read_end()
    except ConnectionError:
        return b""


@pytest.mark.parametrize("loop", LOOPS)
async def test_as_many_handshakes_as_connections(secured: Secured, loop: str) -> None:
    """At the bound others are cut off before anything costly; whoever is in can go on, and there is
    room again as soon as one ends."""
    options = (*secured.options, "--loop", loop, *FOREVER, "--set", "limits.connections=3")
    async with serving(":memory:", *options) as server:
        inside = await secured.connect(server.port)
        held = [await silent(server.port) for _ in range(2)]
        assert (await inside.ask("GET", "/_ready")).status == 200
        for _ in range(3):
            outside = await silent(server.port)
            assert await read_end(outside) == b""
            outside.close()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await secured.connect(server.port)
        assert (await inside.ask("GET", "/_ready")).status == 200
        held[0].close()
        async with deadline():
            while True:
                try:
                    further = await secured.connect(server.port)
                    break
                except (ConnectionError, ssl.SSLError):
                    await asyncio.sleep(0.005)  # until the server has noticed
        assert (await further.ask("GET", "/_ready")).status == 200
        for http in (inside, held[1], further):
            http.close()
        errors = await server.stop()
    assert "Traceback" not in errors


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_handshake_has_its_time(secured: Secured, loop: str) -> None:
    """`timeouts.head`."""
    options = (*secured.options, "--loop", loop, "--set", "timeouts.head=200")
    async with serving(":memory:", *options) as server:
        http = await silent(server.port)
        assert await read_end(http) == b""
        http.close()
        assert "Traceback" not in await server.stop()


@pytest.mark.parametrize("loop", LOOPS)
async def test_the_end_waits_for_no_handshake(secured: Secured, loop: str) -> None:
    """Nothing was asked for yet, while a WebSocket may still say goodbye."""
    options = (*secured.options, "--loop", loop, *FOREVER, "--grace", "1h")
    async with serving(":memory:", *options) as server:
        begun, busy = await silent(server.port), await secured.connect(server.port)
        await busy.send(UPGRADE)
        assert (await busy.read()).status == 101
        assert (await ready(secured, server)).status == 200  # so both have been noticed
        server.process.send_signal(signal.SIGTERM)
        assert await read_end(begun) == b""
        assert await Socket(busy).read_frame() == (0x88, b"\x03\xe9shutting down")
        await busy.send(write_client_frame(0x88, b"\x03\xe9"))
        for http in (begun, busy):
            http.close()
        _, errors = await in_time(server.process.communicate())
        assert b"Traceback" not in errors
        assert server.process.returncode == 0


async def ready(secured: Secured, server: Process) -> Answer:
    """Ask whether the server is ready, on a connection of its own."""
    http = await secured.connect(server.port)
    answer = await http.ask("GET", "/_ready")
    http.close()
    return answer


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_request_right_behind_the_handshake(secured: Secured, loop: str) -> None:
    """Sent in one piece with the end of it, and answered."""
    async with serving(":memory:", *secured.options, "--loop", loop) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = secured.context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

        async def exchange() -> None:
            writer.write(outgoing.read())
            incoming.write(await in_time(reader.read(65_536)))

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await exchange()
        client.write(GET % 1 + GET % 2)
        answered = b""
        while answered.count(b"HTTP/1.1 200") < 2:
            try:
                answered += client.read(65_536)
            except ssl.SSLWantReadError:
                await exchange()
        writer.close()
