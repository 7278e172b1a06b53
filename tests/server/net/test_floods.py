"""What one peer sends, or does not read, is nobody else's trouble."""

import asyncio
import gc
import tracemalloc
from dataclasses import replace

import pytest

from server.config.model import Config
from server.net.connection import BLOCKED, Peer
from server.net.listener import Listener
from server.net.timeouts import Timeouts
from tests.server.net.test_connection import GET, UPGRADE, WAIT_S, Under, listening
from tests.support.server import Socket, cheap_config, running, write_client_frame
from tests.support.waiting import until

PING, TEXT = 0x89, 0x81
FLOODS = {
    "requests": (b"", GET % 1),
    "pings": (UPGRADE, write_client_frame(PING, b"")),
    "empty fragments": (
        UPGRADE,
        write_client_frame(0x01, b"")
        + write_client_frame(0x00, b"") * 100
        + write_client_frame(0x80, b""),  # an empty message is answered by nobody
    ),
    "the API's pings": (UPGRADE, write_client_frame(TEXT, b'{"p":1}')),
}
FLOOD_BYTES = 2**22
MOST_HELD_BYTES = 2**19  # two reads of the loop


class Watched(Peer):
    """A peer that remembers how much it held at most."""

    most_bytes = 0

    def data_received(self, data: bytes) -> None:
        """See `Peer`."""
        super().data_received(data)
        self.most_bytes = max(self.most_bytes, len(self._connection._buffer))  # noqa: SLF001


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_held_back(name: str) -> None:
    """It is read no faster than it is understood, and others are answered meanwhile."""
    before, piece = FLOODS[name]
    peers: list[Watched] = []

    def make_peer(listener: Listener) -> Peer:
        peers.append(Watched(listener))
        return peers[-1]

    async with listening(make=make_peer) as under:
        flooding, other = await under.connect(), await under.connect()
        if before:
            await flooding.send(before)
            await flooding.read()
        flooding.writer.write(piece * (FLOOD_BYTES // len(piece)))
        flooding.writer.write_eof()
        reading = asyncio.create_task(flooding.reader.read())
        answered = 0
        while not reading.done():
            await other.send(GET % 2)
            assert (await other.read()).status == 200
            answered += 1
        assert await reading is not None
        assert answered > 20
        assert max(peer.most_bytes for peer in peers) <= MOST_HELD_BYTES


async def test_pings_are_counted() -> None:
    """`server.protocols.websocket.controlRateLimit`: as many a second are answered, the next one
    closes the socket with 1008."""
    async with running(with_websocket(control_rate_limit=3)) as server:
        # A second may end in between: then as many more are answered.
        opened = await server.open_socket()
        await opened.http.send(write_client_frame(PING, b"x") * 8)
        pongs = 0
        while (heard := await opened.read_frame()) == (0x8A, b"x"):
            pongs += 1
        assert pongs in (3, 6)
        assert heard == (0x88, b"\x03\xf0too many control frames")


def with_websocket(**settings: int) -> Config:
    """Give a configuration with these settings of `server.protocols.websocket`."""
    config = cheap_config()
    websocket = replace(config.server.protocols.websocket, **settings)
    protocols = replace(config.server.protocols, websocket=websocket)
    return replace(config, server=replace(config.server, protocols=protocols))


async def stop_reading(under: Under) -> tuple[Socket, Peer]:
    """Open a WebSocket that takes nothing more, and give its other end too."""
    http = await under.connect(small_buffer=True)
    await http.send(UPGRADE)
    await http.read()
    http.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
    (peer,) = [peer for peer in under.listener.peers if peer.is_socket]
    return Socket(http), peer


async def test_pushes_wait_for_a_peer_up_to_a_bound() -> None:
    """`server.protocols.websocket.maxUnsent`: what waits may be so much, and with one byte more the
    socket is dropped, without waiting for its deadline."""
    async with listening(unsent_bytes=2**20, write_s=WAIT_S) as under:
        _, peer = await stop_reading(under)
        transport = peer._transport  # noqa: SLF001
        assert transport is not None
        while not peer._holds & BLOCKED:  # noqa: SLF001
            peer.push(b"x" * 1000)
        frame_bytes = len(b"\x81\x7e\x03\xe8") + 1000
        while transport.get_write_buffer_size() + frame_bytes <= 2**20:
            peer.push(b"x" * 1000)
        left = 2**20 - transport.get_write_buffer_size()
        peer.push(b"x" * (left - 2 if left < 128 else left - 4))
        assert transport.get_write_buffer_size() == 2**20
        assert not transport.is_closing()
        peer.push(b"x")
        assert transport.is_closing()
        await under.until_alone()


@pytest.mark.parametrize("renews", [True, False])
async def test_what_is_sent_may_count_as_life(renews: bool) -> None:
    """docs/api/transport.md#websocket: sending does not reset the idle timeout, unless
    `resetIdleTimeoutOnSend`."""
    async with listening(socket_s=10, renews_on_push=renews) as under:
        opened = await under.open_socket()
        (peer,) = under.listener.peers
        under.pass_time(9)
        peer.push(b"{}")
        assert await opened.read_frame() == (TEXT, b"{}")
        under.pass_time(1)
        if not renews:
            await under.until_alone()
            return
        assert len(under.listener.peers) == 1
        under.pass_time(8)
        assert len(under.listener.peers) == 1
        under.pass_time(1)
        await under.until_alone()


async def test_silent_sockets_are_pinged() -> None:
    """docs/configuration.md, `sendPingsAutomatically`: whoever answers stays, whoever does not is
    dropped."""
    async with listening(socket_s=10, pong_s=10) as under:
        alive, dead = await under.open_socket(), await under.open_socket()
        answered = await under.connect()
        await answered.send(GET % 1)
        await answered.read()
        for _ in range(5):
            under.pass_time(10)
            assert await alive.read_frame() == (PING, b"")
            received = sum(peer.received_bytes for peer in under.peers)
            pong = write_client_frame(0x8A, b"")
            await alive.http.send(pong)
            await under.until_received(received + len(pong))
        assert await dead.read_frame() == (PING, b"")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await dead.read_frame()
        assert sum(peer.is_socket for peer in under.listener.peers) == 1


@pytest.mark.parametrize("sends", [True, False])
async def test_pings_are_a_setting(sends: bool) -> None:
    """They come after half of `idleTimeout`, so that all of it is what a socket may be silent."""
    config = with_websocket(send_pings_automatically=sends, idle_timeout_ms=8000)
    async with running(config) as server:
        timeouts: Timeouts = server.app.listener.timeouts
    assert (timeouts.socket_s, timeouts.pong_s) == ((4, 4) if sends else (8, 0))


async def test_many_late_peers_are_dropped_in_turns() -> None:
    """Some, then everybody else has a turn, then the next ones."""
    async with listening(connections=200, head_s=10) as under:
        for _ in range(150):
            await under.connect()
        await until(lambda: len(under.listener.peers) == 150)
        under.pass_time(10)
        waiting = sum(peer.deadline_s <= 10 for peer in under.listener.peers)
        assert waiting == 150 - 64
        await under.until_alone()


@pytest.mark.usefixtures("untraced")
async def test_memory_returns_to_its_level() -> None:
    """After floods of all kinds the second time as after the first one, with the collector off
    (security check M1)."""
    async with listening(connections=1000) as under:
        levels = []
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(3):
                await flood(under)
                levels.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
            gc.enable()
        assert levels[2] - levels[1] < 256 * 1024


async def flood(under: Under) -> None:
    """Open many connections of each kind, send much, read nothing, and go away."""
    under.answers.asked.clear()
    under.peers.clear()
    for before, piece in FLOODS.values():
        for _ in range(3):
            http = await under.connect(small_buffer=True)
            if before:
                await http.send(before)
                await http.read()
            http.writer.write(piece * (2**15 // len(piece)))
    await until(lambda: sum(peer.received_bytes for peer in under.peers) > 2**15 * 6)
    for http in under.opened:
        http.writer.transport.abort()
    under.opened.clear()
    await under.until_alone()
    under.answers.asked.clear()
    under.peers.clear()
