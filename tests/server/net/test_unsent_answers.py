"""Answers that clients do not read: one after another, and limited in sum (security check M3)."""

import asyncio
import json
import socket
import struct

import pytest

from server.core.limit_counters import Limit
from server.net.unsent_answers import COUNTED_FROM_BYTES, UnsentAnswers
from tests.server.net.test_connection import GET, UPGRADE, Under, listening
from tests.support.server import WAIT_S, Http, Socket, write_client_frame
from tests.support.waiting import in_time, until

TOTAL_BYTES = 400_000
SHARE_BYTES = 100_000
ANN, BOB = b"ann", b"bob"
LARGE = "x" * 100_000


def unsent_answers() -> tuple[UnsentAnswers[str], list[str]]:
    dropped: list[str] = []
    return UnsentAnswers(TOTAL_BYTES, drop=dropped.append), dropped


def test_few_unsent_bytes_are_not_counted() -> None:
    unsent, _ = unsent_answers()
    assert not unsent.resize("a", None, COUNTED_FROM_BYTES)
    assert unsent.held_bytes == 0
    assert unsent.resize("a", None, COUNTED_FROM_BYTES + 1)
    assert unsent.held_bytes == COUNTED_FROM_BYTES + 1
    assert not unsent.resize("a", None, 0)
    assert unsent.held_bytes == 0


def test_unsent_answers_at_the_total_stay_and_one_byte_beyond_drops_the_oldest() -> None:
    unsent, dropped = unsent_answers()
    for name in "abcd":
        assert unsent.resize(name, None, 100_000)
    assert (dropped, unsent.held_bytes) == ([], TOTAL_BYTES)
    assert unsent.resize("d", None, 100_001)
    assert (dropped, unsent.held_bytes) == (["a"], 300_001)
    assert unsent.resize("e", None, 300_000)
    assert dropped == ["a", "b", "c", "d"]


def test_unsent_answers_of_a_client_beyond_a_quarter_drop_its_oldest() -> None:
    unsent, dropped = unsent_answers()
    unsent.resize("b", BOB, 50_000)
    unsent.resize("a1", ANN, 50_000)
    unsent.resize("a2", ANN, 50_000)
    assert dropped == []
    unsent.resize("a2", ANN, 50_001)
    assert dropped == ["a1"]
    assert unsent.held_bytes == 100_001


def test_a_connection_that_began_to_read_and_stopped_again_is_not_the_oldest() -> None:
    unsent, dropped = unsent_answers()
    unsent.resize("a", None, 200_000)
    unsent.resize("b", None, 200_000)
    unsent.resize("a", None, 0)
    unsent.resize("a", None, 200_001)
    assert dropped == ["b"]


def test_the_only_connection_may_have_any_number() -> None:
    unsent, dropped = unsent_answers()
    assert unsent.resize("a", ANN, TOTAL_BYTES * 2)
    assert unsent.resize("b", BOB, 20_000)
    assert dropped == ["a"]


def test_unsent_answers_forget_connections_that_read() -> None:
    unsent, _ = unsent_answers()
    for size_bytes in (20_000, 30_000, 0, 0):
        unsent.resize("a", ANN, size_bytes)
    assert (unsent._by_client, unsent._client_of) == ({}, {})  # noqa: SLF001


async def stop_reading(http: Http) -> None:
    """Let a client take nothing more."""
    http.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001


async def go_on_reading(http: Http) -> None:
    http.reader._transport.resume_reading()  # type: ignore[attr-defined]  # noqa: SLF001


def small_send_buffers(under: Under) -> None:
    """Let the system take little of what is sent: what it does is not the server's."""
    for peer in under.listener.peers:
        transport = peer._transport  # noqa: SLF001
        assert transport is not None
        opened = transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_pipelined_requests_of_a_client_that_does_not_read_are_not_run() -> None:
    """All of them are answered once it reads."""
    async with listening(in_flight=64, result=LARGE, write_s=WAIT_S) as under:
        http = await under.connect(small_buffer=True)
        await http.send(GET % 99)
        assert (await http.read()).status == 200
        small_send_buffers(under)
        await stop_reading(http)
        await http.send(b"".join(GET % number for number in range(64)))
        await until(lambda: under.listener.unsent.held_bytes > 0)
        (peer,) = under.peers
        assert peer._transport is not None  # noqa: SLF001
        assert peer._transport.get_write_buffer_size() < 3 * len(LARGE)  # noqa: SLF001
        assert len(under.answers.asked) < 10
        await go_on_reading(http)
        for number in range(64):
            assert (await http.read()).json["requestId"] == str(number)
        await until(lambda: under.listener.unsent.held_bytes == 0)


async def test_messages_of_a_socket_that_does_not_read_are_not_run() -> None:
    async with listening(in_flight=64, result=LARGE, write_s=WAIT_S) as under:
        http = await under.connect(small_buffer=True)
        await http.send(UPGRADE)
        await http.read()
        opened = Socket(http)
        small_send_buffers(under)
        await stop_reading(http)
        asked = [{"controller": "a", "action": "b", "requestId": str(n)} for n in range(64)]
        messages = [write_client_frame(0x81, json.dumps(one).encode()) for one in asked]
        await http.send(b"".join(messages))
        await until(lambda: under.listener.unsent.held_bytes > 0)
        assert len(under.answers.asked) < 10
        await go_on_reading(http)
        seen = [(await opened.read())["requestId"] for _ in range(64)]
        assert sorted(map(int, seen)) == list(range(64))


@pytest.mark.parametrize(("excess_bytes", "runs"), [(0, True), (1, False)])
async def test_answers_behind_a_slow_one_at_the_limit_and_one_byte_beyond(
    excess_bytes: int, runs: bool
) -> None:
    """`limits.unsentSizePerConnection`: what waits for an earlier answer counts too."""
    async with listening(in_flight=64, write_s=WAIT_S) as under:
        http = await under.connect()
        await http.send(GET % 1)
        answer = await http.read()
        size_bytes = len(b"HTTP/1.1 200 OK\r\n") + sum(
            len(name) + len(value) + 4 for name, value in answer.headers.items()
        )
        size_bytes += 2 + len(answer.body)
        under.listener.unsent_bytes_per_connection = 2 * size_bytes - excess_bytes
        await http.send(GET.replace(b"%d", b"wait") + b"".join(GET % n for n in (2, 3, 4, 5)))
        await in_time(under.answers.waiting.wait())
        await asyncio.sleep(0)
        assert under.answers.asked == ["1", "wait", "2", "3"] + (["4"] if runs else [])
        under.answers.released.set()
        seen = [(await http.read()).json["requestId"] for _ in range(5)]
        assert seen == ["wait", "2", "3", "4", "5"]


async def test_requests_that_wait_for_room_are_not_run_once_their_client_is_gone() -> None:
    async with listening(in_flight=64, result=LARGE, write_s=WAIT_S) as under:
        http = await under.connect(small_buffer=True)
        await http.send(GET % 99)
        await http.read()
        small_send_buffers(under)
        await stop_reading(http)
        await http.send(b"".join(GET % number for number in range(64)))
        await until(lambda: under.listener.unsent.held_bytes > 0)
        assert under.listener.wire.received.held_bytes > 0
        http.writer.transport.abort()
        await under.until_alone()
        assert len(under.answers.asked) < 10
        assert under.listener.unsent.held_bytes == 0
        assert under.listener.wire.received.held_bytes == 0


async def test_a_request_of_a_client_that_is_gone_counts_until_it_is_done() -> None:
    """A client gains nothing by going away while its body waits to be looked at."""
    async with listening() as under:
        budget = under.listener.wire.received
        http = await under.connect()
        head = GET.replace(b"GET", b"POST").replace(b"%d", b"wait")[:-2]
        await http.send(head + b"Content-Length: 20000\r\n\r\n" + b" " * 20_000)
        await in_time(under.answers.waiting.wait())
        opened = http.writer.transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        http.writer.transport.abort()
        await under.until_alone()
        assert budget.held_bytes > 20_000
        under.answers.released.set()
        await until(lambda: budget.held_bytes == 0)


async def test_a_stop_waits_for_requests_that_wait_for_room() -> None:
    """What was read before the server is told to stop is answered, as without waiting."""
    async with listening(in_flight=64, result=LARGE, write_s=WAIT_S, grace_s=WAIT_S) as under:
        http = await under.connect(small_buffer=True)
        await http.send(GET % 99)
        await http.read()
        small_send_buffers(under)
        await stop_reading(http)
        await http.send(b"".join(GET % number for number in range(10)))
        await until(lambda: under.listener.unsent.held_bytes > 0)
        stopping = asyncio.create_task(under.listener.stop())
        await asyncio.sleep(0)
        await go_on_reading(http)
        for number in range(10):
            assert (await http.read()).json["requestId"] == str(number)
        assert await http.read_end() == b""
        http.close()
        await in_time(stopping)


async def test_unsent_answers_beyond_the_total_drop_the_connection_that_waited_longest() -> None:
    """`limits.unsentSize`; the others go on, and it is counted."""
    limits: list[Limit] = []
    async with listening(result=LARGE, write_s=WAIT_S) as under:
        listener = under.listener
        listener.on_limit = limits.append
        listener.unsent = UnsentAnswers(
            250_000,
            drop=listener._drop_unread,  # noqa: SLF001
        )
        opened = []
        for number in range(3):
            http = await under.connect(small_buffer=True)
            await http.send(GET % 99)
            await http.read()
            small_send_buffers(under)
            await stop_reading(http)
            before = listener.unsent.held_bytes
            await http.send(GET % number)
            if number < 2:
                await until(lambda before=before: listener.unsent.held_bytes > before)  # type: ignore[misc]
            opened.append(http)
        await until(lambda: len(listener.peers) == 2)
        assert limits == [Limit.UNSENT_SIZE]
        for http in opened:
            await go_on_reading(http)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await opened[0].read()
        for number in (1, 2):
            assert (await opened[number].read()).json["requestId"] == str(number)
