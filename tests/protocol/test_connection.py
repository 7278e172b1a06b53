"""Whole connections: every row runs whole, byte by byte and cut at every place (H6, H7)."""

import gc
import random
import sys
from enum import Enum
from types import FunctionType, ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.api.envelope import PreparedJson
from protocol.api.request import Response
from protocol.config import ConnectionConfig
from protocol.connection import Connection
from protocol.errors import LocalError
from protocol.http11.body import BodyLimits
from protocol.http11.head import CONTINUE, HeadLimits
from protocol.response_queue import REQUEST_BYTES
from protocol.state import NEXT, State
from tests.support.wire_cases import (
    GET,
    HANDSHAKE,
    TwoRoutes,
    answer,
    as_json,
    cuts,
    frame,
    frames_sent,
    run,
    serve,
    small_wire,
    statuses,
)

WIRE = small_wire(head_limits=HeadLimits(target_bytes=64, head_bytes=256, fields=6))
POST = b"POST /now HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def head_of(size: int) -> bytes:
    start = b"GET /now HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


KEPT = {
    "one": (GET, [200]),
    "pipelined": (GET * 5, [200] * 5),
    "an empty line before": (b"\r\n" + GET + b"\r\n" + GET, [200, 200]),
    "length": (POST + b"Content-Length: 7\r\n\r\n" + b'{"a":1}' + GET, [200, 200]),
    "length 0": (POST + b"Content-Length: 0\r\n\r\n" + GET, [200, 200]),
    "body at the limit": (
        POST + b"Content-Length: 64\r\n\r\n" + b" " * 62 + b"[]" + GET,
        [200] * 2,
    ),
    "chunks": (CHUNKED + b"3;a=b\r\n[1,\r\n2\r\n2]\r\n0\r\nA: b\r\n\r\n" + GET, [200, 200]),
    "a request inside a body": (
        POST + b"Content-Length: %d\r\n\r\n" % len(GET) + GET + GET,
        [400, 200],
    ),
    "bad JSON": (POST + b"Content-Length: 1\r\n\r\n{" + GET, [400, 200]),
    "unknown path": (GET.replace(b"now", b"x") + GET, [404, 200]),
    "unknown verb": (GET.replace(b"GET", b"BREW") + GET, [400, 200]),
    "OPTIONS": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + GET, [200, 200]),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" + GET, [400, 200]),
    "absolute form": (GET.replace(b"/now", b"http://a/now"), [200]),
    "HTTP/1.0 kept": (
        GET.replace(b"1.1", b"1.0").replace(b": a", b": a\r\nConnection: keep-alive"),
        [200],
    ),
    "another upgrade": (
        GET.replace(b": a", b": a\r\nUpgrade: h2c\r\nConnection: Upgrade") + GET,
        [200, 200],
    ),
    "an upgrade in HTTP/1.0": (
        HANDSHAKE.replace(b"1.1", b"1.0").replace(b"/any", b"/now") + GET,
        [200, 200],
    ),
    "target at the limit": (GET.replace(b"/now", b"/now?" + b"x" * 59) + GET, [200, 200]),
    "head at the limit": (head_of(256) + GET, [200, 200]),
    "request line at the limit": (GET.replace(b"GET /now", b"M" * 22 + b" /" + b"x" * 63), [400]),
    "fields at the limit": (GET.replace(b": a", b": a" + b"\r\nX: y" * 5), [200]),
    "odd but sound bytes": (GET.replace(b": a", b": a\r\nX: \xff\t\x80"), [200]),
}

ENDED = {
    "close": (GET.replace(b": a", b": a\r\nConnection: close") + GET, [200]),
    "HTTP/1.0": (b"GET /now HTTP/1.0\r\n\r\n" + GET, [200]),
    "CL and TE": (CHUNKED.replace(b": a", b": a\r\nContent-Length: 5") + b"0\r\n\r\n" + GET, [400]),
    "CL 0 and TE": (CHUNKED.replace(b": a", b": a\r\nContent-Length: 0") + b"0\r\n\r\n", [400]),
    "TE and TE": (CHUNKED.replace(b"ed\r\n", b"ed\r\nTransfer-Encoding: x\r\n") + GET, [400]),
    "TE twice": (CHUNKED.replace(b"ed\r\n", b"ed\r\nTransfer-Encoding: chunked\r\n"), [400]),
    "TE list": (CHUNKED.replace(b"chunked", b"identity, chunked") + GET, [501]),
    "TE xchunked": (CHUNKED.replace(b"chunked", b"xchunked") + GET, [400]),
    "TE space colon": (CHUNKED.replace(b"Encoding:", b"Encoding :") + GET, [400]),
    "TE tab colon": (CHUNKED.replace(b"Encoding:", b"Encoding\t:") + GET, [400]),
    "TE folded": (CHUNKED.replace(b": chunked", b":\r\n chunked") + GET, [400]),
    "TE vertical tab": (CHUNKED.replace(b": chunked", b": \x0bchunked") + GET, [400]),
    "TE behind a bare LF": (CHUNKED.replace(b": a\r", b": a") + b"0\r\n\r\n" + GET, [400]),
    "TE in HTTP/1.0": (CHUNKED.replace(b"/1.1", b"/1.0") + GET, [400]),
    "CL twice": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345" + GET, [400]),
    "CL different": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345" + GET, [400]),
    "CL list": (POST + b"Content-Length: 5, 5\r\n\r\n12345" + GET, [400]),
    "CL sign": (POST + b"Content-Length: +5\r\n\r\n12345" + GET, [400]),
    "CL huge": (POST + b"Content-Length: " + b"9" * 100 + b"\r\n\r\n", [400]),
    "CL over the limit": (POST + b"Content-Length: 65\r\n\r\n" + GET, [413]),
    "chunk over the limit": (CHUNKED + b"41\r\n" + GET, [413]),
    "chunk size sign": (CHUNKED + b"+1\r\nx\r\n0\r\n\r\n" + GET, [400]),
    "chunk size overflow": (CHUNKED + b"10000000000000001\r\nx" + GET, [400]),
    "chunk extension with LF": (CHUNKED + b"1;a\nb\r\nx\r\n0\r\n\r\n" + GET, [400]),
    "chunk extension with CR": (CHUNKED + b"1;a\rb\r\nx\r\n0\r\n\r\n" + GET, [400]),
    "chunk without an end": (CHUNKED + b"1\r\nxx\n0\r\n\r\n" + GET, [400]),
    "trailers too large": (CHUNKED + b"0\r\nA: " + b"b" * 40 + b"\r\n\r\n" + GET, [431]),
    "field folded": (GET.replace(b": a", b": a\r\n b") + GET, [400]),
    "bare LF": (GET.replace(b"\r\n", b"\n") + GET, [400]),
    "bare LF at the end": (GET[:-4] + b"\n\n" + GET, [400]),
    "bare CR": (GET.replace(b": a\r\n", b": a\r") + GET, [400]),
    "bare CR in a value": (GET.replace(b": a", b": a\r\nX: a\rb") + GET, [400]),
    "NUL": (GET.replace(b": a", b": a\r\nX: \x00") + GET, [400]),
    "two empty lines before": (b"\r\n\r\n" + GET, [400]),
    "no Host": (b"GET /now HTTP/1.1\r\n\r\n" + GET, [400]),
    "two Hosts": (GET.replace(b": a", b": a\r\nHost: a") + GET, [400]),
    "malformed Host": (GET.replace(b": a", b": a/b") + GET, [400]),
    "another host in the target": (GET.replace(b"/now", b"http://b/now") + GET, [400]),
    "authority form": (GET.replace(b"/now", b"a:80") + GET, [400]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + GET, [505]),
    "TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", [400]),
    "expectation": (GET.replace(b": a", b": a\r\nExpect: x") + GET, [417]),
    "target over the limit": (GET.replace(b"/now", b"/now?" + b"x" * 60) + GET, [414]),
    "request line over the limit": (
        GET.replace(b"GET /now", b"M" * 23 + b" /" + b"x" * 63),
        [414],
    ),
    "endless target": (b"GET /" + b"x" * 200, [414]),
    "head over the limit": (head_of(257) + GET, [431]),
    "endless head": (head_of(400)[:-4], [431]),
    "fields over the limit": (GET.replace(b": a", b": a" + b"\r\nX: y" * 6) + GET, [431]),
    "valid ones before a bad one": (GET * 4 + b"BAD\r\n\r\n" + GET, [200] * 4 + [400]),
    "handshake version": (HANDSHAKE.replace(b"13", b"8") + frame(TEXT, b"{}"), [426]),
    "handshake key": (HANDSHAKE.replace(b"==", b"") + frame(TEXT, b"{}"), [400]),
    "handshake behind requests": (GET * 2 + HANDSHAKE.replace(b"13", b"8"), [200, 200, 426]),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept_connections(name: str) -> None:
    wire, expected = KEPT[name]
    first = run([wire], WIRE)
    assert (statuses(first[1]), first[2]) == (expected, False)
    for parts in cuts(wire):
        assert run(parts, WIRE) == first


@pytest.mark.parametrize("name", ENDED)
def test_ended_connections(name: str) -> None:
    wire, expected = ENDED[name]
    for parts in cuts(wire):
        requests, out, is_finished = run(parts, WIRE)
        assert (statuses(out), len(requests), is_finished) == (expected, len(expected), True)
        assert out.count(b"Connection: close") == 1


def test_what_was_read_of_requests() -> None:
    wire = CHUNKED + b"3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n" + GET.replace(b"now", b"of/x?a=b")
    for parts in cuts(wire):
        requests = run(parts, WIRE)[0]
        assert requests == [
            ("POST", "/now", "now", {}, [1, 2], None, None),
            ("GET", "/of/x", "getUser", {"a": "b", "_id": "x"}, None, None, None),
        ]


def test_head_answers_have_no_body_and_the_next_follows() -> None:
    _, out = serve(Connection(WIRE), GET.replace(b"GET", b"HEAD") + GET)
    assert out.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert out.count(b'{"action"') == 1
    assert b"\r\n\r\nHTTP/1.1 200" in out


def test_the_same_head_again_is_the_same_request() -> None:
    connection = Connection(WIRE)
    (first,), out = serve(connection, GET)
    (second,), again = serve(connection, GET)
    assert second is first
    assert again == out
    (other,), _ = serve(connection, GET.replace(b"now", b"x"))
    assert other.refused is not None
    assert serve(connection, b"\r\n")[0] == []
    assert [request is first for request in serve(connection, GET)[0]] == [True]
    ((last,), _) = serve(connection, b"\r\n" + GET)
    assert last.refused is None


def test_the_same_head_again_while_one_waits_is_another_request() -> None:
    connection = Connection(WIRE)
    serve(connection, GET)
    (one,), (two,) = connection.receive(GET), connection.receive(GET)
    assert one is not two


def test_the_same_head_behind_held_bytes_is_not_the_same() -> None:
    connection = Connection(WIRE)
    serve(connection, GET)
    serve(connection, b"X")
    ((request,), _) = serve(connection, GET)
    assert request.head.method == "XGET"


def test_pipelined_copies_are_different_requests() -> None:
    one, two = Connection(WIRE).receive(GET * 2)
    assert one is not two


def test_answers_leave_in_the_order_of_requests() -> None:
    connection = Connection(WIRE)
    requests = connection.receive(b"".join(GET.replace(b"now", b"of/%d" % n) for n in range(3)))
    for place in (2, 1):
        connection.send(requests[place], Response(f"id-{place}"))
        assert connection.bytes_to_send() == b""
    connection.send(requests[0], Response("id-0"))
    out = connection.bytes_to_send()
    assert [out.index(b"Request-Id: id-%d" % n) for n in range(3)] == sorted(
        out.index(b"Request-Id: id-%d" % n) for n in range(3)
    )
    assert connection.is_settled


def test_requests_in_flight_are_bounded() -> None:
    connection = Connection(WIRE)
    requests = connection.receive(GET * 5)
    assert (len(requests), connection.is_full, connection.holds_input) == (3, True, True)
    connection.send(requests[0], answer(requests[0]))
    assert not connection.is_full
    assert len(connection.receive(b"")) == 1
    assert connection.is_full


def test_payload_bytes_in_flight_are_bounded() -> None:
    """A request counts with its head, its payload and a fixed amount: a third one is taken while
    two are a byte below the limit, a fourth one is not."""
    head = POST + b"Content-Length: 20\r\n\r\n"
    each = REQUEST_BYTES + len(head) + 20
    wire = small_wire(in_flight=64, in_flight_bytes=2 * each + 1)
    connection = Connection(wire)
    requests = connection.receive((head + b" " * 18 + b"[]") * 5)
    assert (len(requests), connection.is_full) == (3, True)
    connection.send(requests[1], answer(requests[1]))
    assert not connection.is_full
    assert len(connection.receive(b"")) == 1
    message = b'{"x":"' + b"x" * 12 + b'"}'
    each = REQUEST_BYTES + len(message)
    socket = opened(small_wire(in_flight=64, in_flight_bytes=2 * each + 1))
    (one, *_) = requests = socket.receive(frame(TEXT, message) * 5)
    assert (len(requests), socket.is_full) == (3, True)
    socket.send(one, answer(one))
    assert not socket.is_full


def test_one_payload_left_unread_fills_a_connection() -> None:
    connection = Connection(WIRE)
    body = POST + b"Content-Length: 2\r\nContent-Encoding: identity\r\n\r\n[]"
    (request,) = connection.receive(body * 2)
    assert connection.is_full
    request.unread = None
    connection.send(request, answer(request))
    assert len(connection.receive(b"")) == 1


def test_nothing_is_taken_behind_a_broken_request() -> None:
    connection = Connection(WIRE)
    requests = connection.receive(GET + b"BAD\r\n\r\n" + GET)
    assert [request.refused is None for request in requests] == [True, False]
    assert connection.receive(GET) == []
    connection.send(requests[1], answer(requests[1]))
    assert connection.bytes_to_send() == b""
    connection.send(requests[0], answer(requests[0]))
    assert statuses(connection.bytes_to_send()) == [200, 400]
    assert connection.is_finished


FROM_A_PAGE = {
    "too large": (b"Content-Length: 65\r\n\r\n", 413),
    "too large in chunks": (b"Transfer-Encoding: chunked\r\n\r\n41\r\n", 413),
    "broken chunks": (b"Transfer-Encoding: chunked\r\n\r\n+1\r\n", 400),
}


@pytest.mark.parametrize("name", FROM_A_PAGE)
def test_a_page_may_read_why_its_body_was_refused(name: str) -> None:
    """docs/api/transport.md#malformed-requests: without its origin in the answer a browser tells it
    of a network error."""
    rest, status = FROM_A_PAGE[name]
    for parts in cuts(POST + b"Origin: http://b\r\n" + rest):
        _, out, _ = run(parts, WIRE)
        assert statuses(out) == [status]
        assert b"\r\nAccess-Control-Allow-Origin: http://b\r\n" in out


def test_what_is_no_head_has_nothing_of_the_one_before() -> None:
    asked = POST + b"Origin: http://b\r\nContent-Length: 2\r\n\r\n{}"
    _, out, _ = run([asked + b"BAD\r\n\r\n"], WIRE)
    assert statuses(out) == [200, 400]
    assert out.count(b"Access-Control-Allow-Origin") == 1


def test_a_refused_answer_can_be_replaced() -> None:
    connection = Connection(WIRE)
    (request,) = connection.receive(GET)
    with pytest.raises(LocalError):
        connection.send(request, Response("id", result=object()))
    connection.send(request, Response("id", status=500))
    assert statuses(connection.bytes_to_send()) == [500]


EXPECTS = POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"


def test_continue_is_sent_when_the_body_is_awaited() -> None:
    connection = Connection(WIRE)
    assert connection.receive(EXPECTS) == []
    assert connection.bytes_to_send() == CONTINUE
    assert statuses(serve(connection, b"[]")[1]) == [200]
    assert statuses(serve(connection, EXPECTS + b"[]")[1]) == [200]


def test_continue_waits_for_the_answers_before_it() -> None:
    connection = Connection(WIRE)
    requests = connection.receive(GET * 2 + EXPECTS)
    assert connection.bytes_to_send() == b""
    connection.send(requests[1], answer(requests[1]))
    connection.send(requests[0], answer(requests[0]))
    out = connection.bytes_to_send()
    assert statuses(out) == [200, 200, 100]
    assert out.endswith(CONTINUE)


def test_no_continue_behind_a_last_answer() -> None:
    for wire in (EXPECTS.replace(b"Length: 2", b"Length: 99"), EXPECTS.replace(b"1.1", b"1.0")):
        connection = Connection(WIRE)
        requests = connection.receive(GET + wire)
        for request in requests:
            connection.send(request, answer(request))
        assert b"100 Continue" not in connection.bytes_to_send()
    connection = Connection(WIRE)
    chunked = EXPECTS.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")
    requests = connection.receive(GET + chunked) + connection.receive(b"x\r\n")
    for request in requests:
        connection.send(request, answer(request))
    assert statuses(connection.bytes_to_send()) == [200, 400]


def test_eof_lets_answers_leave() -> None:
    connection = Connection(WIRE)
    (request,) = connection.receive(GET + GET[:9])
    connection.eof()
    assert not connection.is_finished
    connection.send(request, answer(request))
    assert b"Connection: close" in connection.bytes_to_send()
    assert connection.is_finished


@pytest.mark.parametrize(
    ("wire", "settled"),
    [(b"", True), (b"G", False), (GET, False), (EXPECTS, False), (HANDSHAKE, True)],
)
def test_a_connection_is_settled_between_requests(wire: bytes, settled: bool) -> None:
    connection = Connection(WIRE)
    requests = connection.receive(wire)
    assert connection.is_settled is settled
    for request in requests:
        connection.send(request, answer(request))
        assert connection.is_settled


@pytest.mark.parametrize("start", [b"GET", EXPECTS, CHUNKED + b"2\r\nx"])
def test_what_takes_too_long_is_refused_behind_what_waits(start: bytes) -> None:
    connection = Connection(WIRE)
    requests = connection.receive(GET + start)
    requests += connection.time_out()
    for request in requests:
        connection.send(request, answer(request))
    assert statuses(connection.bytes_to_send()) == [200, 408]
    assert connection.is_finished


@pytest.mark.parametrize("start", [b"", b"GET", EXPECTS, CHUNKED, CHUNKED + b"2\r\nx", HANDSHAKE])
def test_any_phase_can_end(start: bytes) -> None:
    for end in (Connection.eof, Connection.finish):
        connection = Connection(WIRE)
        connection.receive(start)
        end(connection)
        end(connection)
        connection.eof()
        assert connection.is_finished
        assert connection.receive(GET) == []


def test_every_phase_has_an_end() -> None:
    assert all(
        any(NEXT[pair] is State.ENDING for pair in NEXT if pair[0] is phase) for phase in State
    )


UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def opened(wire: ConnectionConfig = WIRE) -> Connection:
    connection = Connection(wire)
    assert serve(connection, HANDSHAKE) == ([], UPGRADED)
    return connection


SOCKETS = {
    "request": (frame(TEXT, b'{"requestId":"r"}'), 1, [TEXT]),
    "binary request": (frame(BINARY, b"{}"), 1, [TEXT]),
    "bad JSON": (frame(TEXT, b"{") + frame(TEXT, b"{}"), 2, [TEXT, TEXT]),
    "null and array": (frame(TEXT, b"null") + frame(TEXT, b"[]"), 2, [TEXT, TEXT]),
    "empty message": (frame(TEXT) + frame(BINARY), 0, []),
    "pings": (frame(PING, b"a") + frame(PING, b"b") + frame(PONG), 0, [PONG, PONG]),
    "Kuzzle's ping": (frame(TEXT, b'{"p":1}') + frame(TEXT, b'{"p":1,"a":2}'), 1, [TEXT, TEXT]),
    "more than in flight": (frame(TEXT, b"{}") * 9, 9, [TEXT] * 9),
    "close": (frame(PING) + frame(CLOSE, b"\x03\xe8bye") + b"??", 0, [PONG, CLOSE]),
    "close without a code": (frame(CLOSE) + frame(TEXT, b"{}"), 0, [CLOSE]),
    "unmasked": (b"\x81\x02{}" + frame(TEXT, b"{}"), 0, [CLOSE]),
    "too big": (frame(TEXT, b"x" * 301), 0, [CLOSE]),
    "behind a ping": (frame(PING) + b"\xff\x00" + frame(PING), 0, [PONG, CLOSE]),
}


@pytest.mark.parametrize("name", SOCKETS)
def test_sockets(name: str) -> None:
    wire, count, opcodes = SOCKETS[name]
    expected = run([HANDSHAKE + wire], WIRE)
    for parts in cuts(wire):
        requests, out, is_finished = run([HANDSHAKE, *parts], WIRE)
        assert (len(requests), is_finished) == (count, CLOSE in opcodes)
        assert out.startswith(UPGRADED)
        assert [opcode for opcode, _ in frames_sent(out[len(UPGRADED) :])] == opcodes
        assert (requests, out, is_finished) == expected


def test_handshakes_however_cut_and_behind_requests() -> None:
    wire = GET + HANDSHAKE + frame(TEXT, b'{"p":1}')
    for parts in cuts(wire):
        requests, out, _ = run(parts, WIRE)
        assert len(requests) == 1
        assert statuses(out) == [200, 101]
        assert out.endswith(UPGRADED + b'\x81\x07{"p":2}')


def test_a_handshake_waits_for_the_answers_before_it() -> None:
    connection = Connection(WIRE)
    (request,) = connection.receive(GET + HANDSHAKE + frame(TEXT, b"{}"))
    assert (connection.phase, connection.is_full) == (State.SWITCHING, True)
    assert connection.receive(frame(TEXT, b"{}")) == []
    assert connection.bytes_to_send() == b""
    connection.send(request, answer(request))
    assert (connection.is_full, connection.holds_input) == (False, True)
    assert len(connection.receive(b"")) == 2
    assert connection.bytes_to_send().endswith(UPGRADED)


def test_a_handshake_alone_is_worth_going_on() -> None:
    connection = Connection(WIRE)
    (request,) = connection.receive(GET + HANDSHAKE)
    connection.send(request, answer(request))
    assert connection.holds_input
    connection.receive(b"")
    assert connection.phase is State.SOCKET


def test_without_websocket_a_handshake_is_a_request() -> None:
    requests, out = serve(
        Connection(small_wire(websocket_enabled=False, head_limits=HeadLimits())),
        HANDSHAKE.replace(b"/any", b"/now") + GET,
    )
    assert len(requests) == 2
    assert statuses(out) == [200, 200]


def test_socket_requests_carry_the_upgrades_headers() -> None:
    connection = Connection(WIRE)
    serve(connection, HANDSHAKE.replace(b"Host: a", b"Host: a\r\nOrigin: http://o"))
    (request,) = connection.receive(frame(TEXT, b"{}"))
    assert request.headers["origin"] == "http://o"


def test_socket_answers_leave_when_ready() -> None:
    connection = opened()
    one, two = connection.receive(
        frame(TEXT, b'{"requestId":"1"}') + frame(TEXT, b'{"requestId":"2"}')
    )
    for request in (two, one):
        with pytest.raises(LocalError):
            connection.send(request, Response("x", result=object()))
        connection.send(request, answer(request))
        ((_, text),) = frames_sent(connection.bytes_to_send())
        assert as_json(text)["requestId"] == as_json(text)["room"] == request.request_id
    assert not connection.awaits_answers


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x81\x00", 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"x" * 301), 1009),
        (frame(CLOSE, b"\x0b\xb8ok"), 3000),
        (frame(CLOSE), 1000),
    ],
)
def test_close_codes(wire: bytes, code: int) -> None:
    connection = opened()
    connection.receive(wire)
    ((opcode, payload),) = frames_sent(connection.bytes_to_send())
    assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
    assert connection.is_finished


def test_what_came_before_a_broken_frame_is_answered() -> None:
    """Valid ones ahead of a bad one first, then the Close, then nothing more."""
    ask = b'{"controller":"a","action":"b","requestId":"%d"}'
    wire = frame(1, ask % 1) + frame(1, ask % 2) + frame(3, b"") + frame(1, ask % 3)
    for parts in ([wire], [wire[:9], wire[9:]]):
        connection = Connection(small_wire())
        serve(connection, HANDSHAKE)
        first, second = [request for part in parts for request in connection.receive(part)]
        assert connection.bytes_to_send() == b""
        connection.send(second, answer(second))
        [(opcode, payload)] = frames_sent(connection.bytes_to_send())
        assert (opcode, as_json(payload)["requestId"]) == (1, "2")
        assert not connection.is_finished
        connection.send(first, answer(first))
        sent = frames_sent(connection.bytes_to_send())
        assert [opcode for opcode, _ in sent] == [1, 8]
        assert sent[1][1][:2] == b"\x03\xea"
        assert connection.is_finished


def test_our_close_waits_for_theirs_and_answers_nothing_more() -> None:
    connection = opened()
    requests = connection.receive(frame(TEXT, b"{}") * 3)
    assert connection.is_full
    connection.close(1011, "slow")
    assert connection.bytes_to_send() == b"\x88\x06\x03\xf3slow"
    connection.close(1011, "again")
    connection.push(b"late")
    connection.send(requests[0], answer(requests[0]))
    assert connection.receive(frame(TEXT, b"{}") + frame(PING)) == []
    assert not connection.is_finished
    assert connection.receive(frame(CLOSE, b"\x03\xf3")) == []
    assert (connection.is_finished, connection.bytes_to_send()) == (True, b"")


def test_their_close_is_read_although_much_was_waiting() -> None:
    connection = opened(small_wire(in_flight_bytes=1, head_limits=HeadLimits()))
    connection.receive(frame(TEXT, b"{}"))
    assert connection.is_full
    connection.close(1011, "slow")
    connection.receive(frame(CLOSE))
    assert connection.is_finished


def test_a_peer_that_breaks_the_protocol_while_we_leave_gets_no_second_close() -> None:
    connection = opened()
    connection.finish()
    assert connection.bytes_to_send() == b"\x88\x0f\x03\xe9shutting down"
    connection.receive(b"\xff\xff")
    assert (connection.is_finished, connection.bytes_to_send()) == (True, b"")


def test_what_came_before_the_peers_close_is_answered() -> None:
    """RFC 6455 §5.5.1: our Close may wait for the message before it."""
    connection = opened()
    (request,) = connection.receive(frame(TEXT, b"{}") + frame(CLOSE) + frame(TEXT, b"{}"))
    assert (connection.bytes_to_send(), connection.is_finished) == (b"", False)
    connection.send(request, answer(request))
    assert [opcode for opcode, _ in frames_sent(connection.bytes_to_send())] == [TEXT, CLOSE]
    assert connection.is_finished


def test_push() -> None:
    connection = opened()
    connection.push(b"{}")
    assert connection.bytes_to_send() == b"\x81\x02{}"
    plain = Connection(WIRE)
    plain.push(b"{}")
    plain.close(1011, "")
    assert (plain.bytes_to_send(), plain.phase) == (b"", State.HEAD)


def test_a_flood_of_pings_costs_no_more_than_it_brings() -> None:
    connection = opened()
    flood = frame(PING, b"x" * 10) * 500 + frame(TEXT, b'{"p":1}') * 500
    connection.receive(flood)
    assert len(connection.bytes_to_send()) < len(flood)
    assert not connection.awaits_answers


def test_pings_wait_too_while_the_connection_is_full() -> None:
    connection = opened()
    requests = connection.receive(frame(TEXT, b"{}") * 3 + frame(PING))
    assert connection.bytes_to_send() == b""
    connection.send(requests[0], answer(requests[0]))
    connection.receive(b"")
    assert [opcode for opcode, _ in frames_sent(connection.bytes_to_send())] == [TEXT, PONG]


def test_request_ids_can_not_split_an_answer() -> None:
    payload = b'{"requestId":"\\r\\nSet-Cookie: x","controller":1}'
    wire = b"POST /_query HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(payload)
    _, out = serve(Connection(WIRE), wire + payload)
    assert statuses(out) == [400]
    assert b"\nSet-Cookie" not in out


def test_a_deep_volatile_is_refused_before_it_could_break_the_answer() -> None:
    connection = opened(small_wire(head_limits=HeadLimits()))
    deep = b'{"volatile":{"a":' + b"[" * 120 + b"]" * 120 + b"}}"
    ((request,), out) = serve(connection, frame(TEXT, deep))
    assert request.refused is not None
    assert as_json(frames_sent(out)[0][1])["status"] == 400


PIECES = [
    GET,
    POST,
    CHUNKED,
    HANDSHAKE,
    EXPECTS,
    b"\r\n",
    b"Content-Length: 3\r\n\r\n",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    frame(TEXT, b"{}"),
    frame(TEXT, b"a", final=False),
    frame(0, b"b"),
    frame(PING, b"p"),
    frame(CLOSE, b"\x03\xe8"),
]


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=8), st.data())
def test_whatever_comes_is_the_same_however_cut(pieces: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(pieces)
    at = data.draw(st.integers(0, len(wire)))
    outcomes = []
    for parts in ([wire], [wire[:at], wire[at:]], [wire[n : n + 1] for n in range(len(wire))]):
        requests, out, is_finished = run(parts, WIRE)
        sound = [request for request in requests if request[0]]
        outcomes.append((sound, len(requests), is_finished, out.count(b"HTTP/1.1 101")))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize("start", [b"", GET, CHUNKED, HANDSHAKE, HANDSHAKE + b"\x81\xfe\x01\x00"])
def test_random_bytes_only_ever_give_requests_or_an_end(start: bytes) -> None:
    noise = random.Random(1)
    for _ in range(100):
        connection = Connection(WIRE)
        serve(connection, start)
        for _ in range(10):
            serve(connection, noise.randbytes(noise.randrange(40)))
        assert len(connection._buffer) <= 1024


def test_a_slow_peer_can_not_make_us_hold_more_than_the_bounds() -> None:
    wire = small_wire(body_limits=BodyLimits(body_bytes=100))
    for start, more in (
        (b"GET /", b"x"),
        (GET[:-2] + b"X: ", b"y"),
        (CHUNKED + b"1;a=", b"z"),
        (CHUNKED + b"0\r\nA: ", b"b"),
        (HANDSHAKE + frame(TEXT, final=False), frame(0, b"x", final=False)),
        (CHUNKED, b"1\r\nx\r\n"),
    ):
        connection = Connection(wire if start is not HANDSHAKE else WIRE)
        serve(connection, start)
        for _ in range(400):
            serve(connection, more)
        assert connection.is_finished


@pytest.mark.parametrize(
    "wire",
    [
        GET,
        GET * 2,
        GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        GET.replace(b"/now", b"/now?pretty"),
        GET.replace(b"\r\n\r\n", b"\r\nOrigin: http://b\r\n\r\n"),
        GET + b"GET /",
        GET.replace(b"1.1", b"1.0"),
        HANDSHAKE + frame(TEXT, b'{"controller":"a","action":"b","requestId":"r"}'),
        HANDSHAKE + frame(TEXT, b'{"controller":"a","action":"b","requestId":"r"}') * 2,
        HANDSHAKE + frame(TEXT, b'{"controller":"a","action":"b","requestId":"r"}') + frame(3, b""),
    ],
)
def test_kept_results_are_sent_like_all_others(wire: bytes) -> None:
    """The shorter way gives the same bytes, whatever else is in progress."""
    result = {"_id": "ann", "n": [1, None]}
    sent = []
    for is_kept in (True, False):
        connection = Connection(small_wire())
        taken, out = connection.receive(wire), b""
        while taken:
            for request in taken:
                if is_kept:
                    connection.send_prepared(request, "id", PreparedJson(result))
                else:
                    names = request.controller, request.action
                    connection.send(request, Response("id", *names, result))
            out += connection.bytes_to_send()
            taken = connection.receive(b"")
        sent.append((out + connection.bytes_to_send(), connection.phase, connection.is_finished))
    assert sent[0] == sent[1]
    assert b'"ann"' in sent[0][0]


def reachable_bytes(connection: Connection) -> int:
    """Give the size of the texts and containers a connection holds, the wire's own left out."""
    seen: set[int] = {id(connection._wire)}  # noqa: SLF001
    todo: list[object] = [connection]
    total = 0
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | Enum | ModuleType | FunctionType):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        todo += gc.get_referents(one)
    return total


@pytest.mark.parametrize(
    "more",
    [b'"body":{"a":[' + b"[]," * 20_000 + b"[]]}", b'"x":[' + b"[]," * 20_000 + b"[]]"]
    + [b'"jwt":"' + b"x" * 60_000 + b'"', b'"volatile":{"a":"' + b"x" * 60_000 + b'"}'],
)
def test_socket_that_falls_silent_keeps_nothing_of_a_long_message(more: bytes) -> None:
    connection = Connection(
        ConnectionConfig(TwoRoutes(), "node", body_limits=BodyLimits(json_values=10**6))
    )
    serve(connection, HANDSHAKE)
    before = reachable_bytes(connection)
    for _ in range(3):
        requests, _ = serve(connection, frame(TEXT, b'{"action":"now",' + more + b"}"))
        assert len(requests) == 1
        del requests
    assert reachable_bytes(connection) - before < 4096


def test_connection_that_falls_silent_keeps_no_long_head() -> None:
    connection = Connection(ConnectionConfig(TwoRoutes(), "node"))
    before = reachable_bytes(connection)
    long = GET[:-2] + b"".join(b"X-%d: " % n + b"x" * 1000 + b"\r\n" for n in range(10)) + b"\r\n"
    for _ in range(3):
        assert len(serve(connection, long)[0]) == 1
    assert reachable_bytes(connection) - before < 4096


def test_forgotten_connection_holds_nothing() -> None:
    """Whatever it was in the midst of."""
    body = b"POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n" + b"x" * 50
    for begun in (body, GET * 3, HANDSHAKE + frame(TEXT, b"x" * 60, final=False)):
        connection = Connection(WIRE)
        connection.receive(begun)
        connection.forget()
        assert not connection.awaits_answers
        assert not connection.holds_input
        assert connection.bytes_to_send() == b""
        assert connection.phase is State.ENDING
