"""The bytes of requests that are not answered, of all connections together (security check M3)."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.api.request import READ_AT_ONCE_BYTES, Request
from protocol.byte_budget import COUNTED_FROM_BYTES, SMALL_BYTES, ByteBudget
from protocol.config import ConnectionConfig
from protocol.connection import Connection
from protocol.response_queue import REQUEST_BYTES
from protocol.state import State
from tests.support.wire_cases import (
    GET,
    HANDSHAKE,
    TwoRoutes,
    answer,
    frame,
    frames_sent,
    small_wire,
    statuses,
)

TOTAL_BYTES = 400_000
SHARE_BYTES = 100_000
TEXT, CLOSE = 1, 8
POST = b"POST /now HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ANN, BOB = b"ann", b"bob"


class Named:
    """A peer that is counted under a key."""

    def __init__(self, client: bytes | None, *, sockets: int = 1) -> None:
        self.client = client
        self.linked = b""
        self.address = "192.0.2.1"
        self.is_encrypted = False
        self.certificates = ()
        self._sockets = sockets

    def client_of(self, headers: Mapping[str, str]) -> bytes | None:
        """See `Connected`; a header may name another one."""
        named = headers.get("x-forwarded-for")
        return self.client if named is None else named.encode()

    def is_socket_allowed(self, headers: Mapping[str, str]) -> bool:
        """See `Connected`."""
        self._sockets -= 1
        return self._sockets >= 0

    def push(self, text: bytes) -> None:
        """See `Connected`."""


def wire_with(budget: ByteBudget) -> ConnectionConfig:
    wire = ConnectionConfig(TwoRoutes(), "node", received=budget)
    wire.set_date("Tue, 24 Nov 2026 08:00:00 GMT")
    return wire


def ask(wire: ConnectionConfig, client: bytes | None = None) -> Connection:
    return Connection(wire, Named(client))


def opened(wire: ConnectionConfig, client: bytes | None = None) -> Connection:
    connection = ask(wire, client)
    connection.receive(HANDSHAKE)
    connection.bytes_to_send()
    return connection


def test_a_budget_at_its_total_and_one_byte_beyond_refuses() -> None:
    refusals: list[int] = []
    budget = ByteBudget(TOTAL_BYTES, on_refusal=lambda: refusals.append(1))
    assert budget.resize(None, 0, TOTAL_BYTES - SMALL_BYTES - 1)
    assert budget.resize(None, 0, SMALL_BYTES + 1)
    assert budget.held_bytes == TOTAL_BYTES
    assert not refusals
    assert not budget.resize(None, SMALL_BYTES + 1, SMALL_BYTES + 2)
    assert (len(refusals), budget.held_bytes) == (1, TOTAL_BYTES)
    assert budget.resize(None, SMALL_BYTES + 1, 0)
    assert budget.held_bytes == TOTAL_BYTES - SMALL_BYTES - 1


def test_a_client_at_a_quarter_and_one_byte_beyond_is_refused() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    assert budget.resize(ANN, 0, SHARE_BYTES)
    assert not budget.resize(ANN, SHARE_BYTES, SHARE_BYTES + 1)
    assert budget.resize(BOB, 0, SHARE_BYTES)
    assert budget.resize(None, 0, 2 * SHARE_BYTES)
    assert not budget.resize(b"cho", 0, SMALL_BYTES + 1)
    assert budget.bytes_of(ANN) == SHARE_BYTES


def test_a_small_connection_is_never_refused() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    assert budget.resize(ANN, 0, SHARE_BYTES)
    assert budget.resize(ANN, 0, SMALL_BYTES)
    assert budget.resize(None, 0, TOTAL_BYTES - SHARE_BYTES - SMALL_BYTES)
    assert budget.resize(BOB, 0, SMALL_BYTES)
    assert not budget.resize(BOB, SMALL_BYTES, SMALL_BYTES + 1)


def test_a_budget_forgets_clients_that_hold_nothing() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    budget.resize(ANN, 0, 10_000)
    budget.resize(ANN, 10_000, 0)
    assert (budget.held_bytes, budget._by_client) == (0, {})  # noqa: SLF001


UNFINISHED = {
    "length": (b"", POST + b"Content-Length: 200000\r\n\r\n", 0),
    "chunked": (b"", CHUNKED + b"30D40\r\n", 0),
    "frame": (HANDSHAKE, b"\x81\xff" + (200_000).to_bytes(8, "big") + bytes(4), 0),
    "fragments": (
        HANDSHAKE,
        frame(TEXT, b"x", final=False, mask=bytes(4)),
        1,
    ),
    "pipelined": (b"", GET * 64, 0),
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_unfinished_input_at_the_share_goes_on_and_one_byte_beyond_ends(kind: str) -> None:
    """Every kind of unfinished input is counted by what has arrived of it."""
    before, start, held = UNFINISHED[kind]
    budget = ByteBudget(TOTAL_BYTES)
    connection = ask(wire_with(budget), ANN)
    connection.receive(before)
    connection.bytes_to_send()
    requests = connection.receive(start)
    if kind == "fragments":
        connection.receive(b"\x00\xff" + (200_000).to_bytes(8, "big") + bytes(4))
    held += sum(request.weight_bytes for request in requests)
    assert connection.receive(b"x" * (SHARE_BYTES - held)) == []
    assert budget.held_bytes == budget.bytes_of(ANN) == SHARE_BYTES
    assert connection.phase is not State.ENDING
    refused = connection.receive(b"x")
    for request in [*requests, *refused]:
        connection.send(request, answer(request))
    out = connection.bytes_to_send()
    assert connection.is_finished
    assert budget.held_bytes == 0
    if before:
        assert frames_sent(out) == [(CLOSE, b"\x03\xf5overloaded")]
    else:
        assert statuses(out)[-1] == 503
        assert b"\r\nRetry-After: 1\r\n" in out
        assert b'"id":"api.process.overloaded"' in out
        assert b"\r\nConnection: close\r\n" in out


def test_a_whole_request_without_room_is_refused_and_the_connection_goes_on() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    budget.resize(None, 0, TOTAL_BYTES)
    connection = ask(wire_with(budget))
    body = b" " * SMALL_BYTES + b"[]"
    (request,) = connection.receive(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert (request.refused and request.refused.status, request.body, request.unread) == (
        503,
        None,
        None,
    )
    connection.send(request, answer(request))
    assert statuses(connection.bytes_to_send()) == [503]
    (request,) = connection.receive(GET)
    assert request.refused is None
    assert budget.held_bytes == TOTAL_BYTES


def test_a_whole_message_without_room_is_refused_and_the_socket_goes_on() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    budget.resize(None, 0, TOTAL_BYTES)
    connection = opened(wire_with(budget))
    text = b'{"controller":"server","action":"now","requestId":"a","x":"%s"}' % (b"x" * SMALL_BYTES)
    (request,) = connection.receive(frame(TEXT, text))
    assert request.refused is not None
    assert (request.refused.status, request.request_id) == (503, "a")
    connection.send(request, answer(request))
    assert b'"id":"api.process.overloaded"' in connection.bytes_to_send()
    assert connection.phase is State.SOCKET


def test_a_body_of_16_kib_behind_the_longest_head_always_finds_room() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    budget.resize(None, 0, TOTAL_BYTES)
    connection = ask(wire_with(budget))
    head = POST + b"Content-Length: 16384\r\nX: "
    head += b"x" * (16_384 - len(head) - 4) + b"\r\n\r\n"
    connection.receive(head)
    assert connection.receive(b" " * 16_382) == []
    (request,) = connection.receive(b"[]")
    assert request.refused is None


def test_requests_in_progress_are_counted_with_their_heads() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    connection = ask(wire_with(budget))
    requests = connection.receive(GET * 20)
    assert budget.held_bytes == 20 * (len(GET) + REQUEST_BYTES)
    for request in requests[:13]:
        connection.send(request, answer(request))
    connection.bytes_to_send()
    assert 7 * (len(GET) + REQUEST_BYTES) <= COUNTED_FROM_BYTES
    assert budget.held_bytes == 0


def test_a_payload_left_unread_counts_for_what_it_may_grow_to() -> None:
    budget = ByteBudget(2**23)
    wire = wire_with(budget)
    connection = ask(wire)
    body = b" " * READ_AT_ONCE_BYTES + b"[]"
    (request,) = connection.receive(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert request.unread is not None
    assert budget.held_bytes == wire.in_flight_bytes
    connection.send(request, answer(request))
    connection.bytes_to_send()
    assert budget.held_bytes == 0


def test_what_a_lost_connection_left_in_progress_counts_until_it_is_done() -> None:
    """A client gains nothing by going away."""
    budget = ByteBudget(TOTAL_BYTES)
    connection = ask(wire_with(budget), ANN)
    body = b" " * 20_000 + b"[]"
    requests = connection.receive(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    unfinished = POST + b"Content-Length: 30000\r\n\r\n" + b"x" * 20_000
    requests += connection.receive(GET * 10 + unfinished)
    weight_bytes = sum(request.weight_bytes for request in requests)
    assert budget.held_bytes == weight_bytes + 20_000
    connection.forget()
    assert budget.held_bytes == weight_bytes
    for request in requests:
        connection.drop(request)
    assert budget.held_bytes == 0


def test_a_message_in_progress_counts_although_its_socket_is_closed() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    connection = opened(wire_with(budget), ANN)
    text = b'{"controller":"server","action":"now","x":"%s"}' % (b"x" * 20_000)
    (request,) = connection.receive(frame(TEXT, text))
    connection.close(1011, "slow")
    connection.bytes_to_send()
    assert budget.bytes_of(ANN) == len(text) + REQUEST_BYTES
    assert not connection.is_full
    connection.send(request, answer(request))
    connection.bytes_to_send()
    assert budget.held_bytes == 0


def test_bytes_count_for_the_client_that_a_request_names() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    connection = ask(wire_with(budget), None)
    connection.receive(POST + b"X-Forwarded-For: bob\r\nContent-Length: 200000\r\n\r\n")
    connection.receive(b"x" * SHARE_BYTES)
    assert budget.bytes_of(BOB) == SHARE_BYTES
    (request,) = connection.receive(b"x")
    assert request.refused is not None
    assert request.refused.status == 503


def test_a_compressed_message_that_is_not_whole_counts_with_its_window() -> None:
    budget = ByteBudget(TOTAL_BYTES)
    wire = small_wire(compresses_messages=True, received=budget)
    connection = ask(wire)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    wire.head_limits = ConnectionConfig(TwoRoutes(), "node").head_limits
    connection.receive(HANDSHAKE[:-2] + offer)
    assert b"permessage-deflate" in connection.bytes_to_send()
    connection.receive(b"\x41\x85" + bytes(4) + b"\x00")
    assert budget.held_bytes >= 48 * 1024


def test_a_socket_too_many_of_a_client_is_refused_at_its_handshake() -> None:
    connection = Connection(wire_with(ByteBudget()), Named(ANN, sockets=0))
    (request,) = connection.receive(HANDSHAKE)
    connection.send(request, answer(request))
    out = connection.bytes_to_send()
    assert statuses(out) == [503]
    assert b"\r\nRetry-After: 1\r\n" in out
    assert connection.is_finished


BODY = b"x" * 9_000
PIECES = st.sampled_from(
    [
        GET,
        GET * 20,
        HANDSHAKE,
        POST + b"Content-Length: %d\r\n\r\n" % len(BODY),
        CHUNKED + b"2328\r\n",
        b"\r\n0\r\n\r\n",
        BODY,
        b" " * 70_000,
        POST + b"Content-Length: 70000\r\n\r\n",
        frame(TEXT, b"{}"),
        frame(TEXT, b'{"action":"%s"}' % BODY),
        frame(TEXT, BODY, final=False),
        frame(0, BODY),
        frame(CLOSE),
        b"\x81\xff" + (70_000).to_bytes(8, "big") + bytes(4),
        b"\x00",
    ]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["receive"] * 6
            + ["answer"] * 3
            + ["send", "eof", "finish", "close", "time out", "lose"]
        ),
        PIECES,
        st.integers(0, 100),
    ),
    max_size=25,
)


def take_step(
    connection: Connection, step: tuple[str, bytes, int], open_requests: list[Request]
) -> None:
    name, piece, number = step
    if name == "receive" and not connection.is_full:
        open_requests += connection.receive(piece)
    elif name == "answer" and open_requests:
        request = open_requests.pop(number % len(open_requests))
        connection.send(request, answer(request))
    elif name == "send":
        connection.bytes_to_send()
    elif name == "eof":
        connection.eof()
    elif name == "finish":
        connection.finish()
    elif name == "close":
        connection.close(1011, "slow")
    elif name == "time out":
        open_requests += connection.time_out()


@pytest.mark.parametrize("is_socket", [False, True])
@settings(max_examples=300)
@given(steps=STEPS)
def test_a_budget_is_empty_once_all_is_over(
    is_socket: bool, steps: list[tuple[str, bytes, int]]
) -> None:
    """Whatever was received, refused, answered, cut or lost, nothing stays counted."""
    budget = ByteBudget(200_000)
    wire = wire_with(budget)
    connection = ask(wire, ANN)
    open_requests: list[Request] = []
    if is_socket:
        connection.receive(HANDSHAKE)
    for step in steps:
        if step[0] == "lose":
            break
        take_step(connection, step, open_requests)
        connection.bytes_to_send()
        held_bytes = connection.held_bytes
        expected = held_bytes if held_bytes > COUNTED_FROM_BYTES else 0
        assert budget.held_bytes == budget.bytes_of(ANN) == expected
        assert expected <= 50_000
    connection.forget()
    for request in open_requests:
        connection.drop(request)
    assert connection.held_bytes == 0
    assert budget.held_bytes == 0
    assert budget._by_client == {}  # noqa: SLF001
