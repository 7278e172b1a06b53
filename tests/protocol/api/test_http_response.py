"""HTTP answers: fields, compression, and that nothing can break one answer in two."""

import gzip
import zlib

import pytest

from protocol.api.http_response import (
    Fields,
    choose_encoding,
    compress,
    format_response,
    write_upgrade,
)
from protocol.api.request import Origin, Request, Response
from protocol.config import ConnectionConfig
from protocol.errors import ApiError, LocalError, error
from protocol.http11.head import HeadLimits, parse_head
from protocol.websocket.deflate import COMPRESS_UP_TO_BYTES
from tests.support.wire_cases import as_json, small_wire

WIRE = small_wire()


def ask(*lines: bytes, first: bytes = b"GET /now HTTP/1.1") -> Request:
    raw = b"\r\n".join((first, b"Host: a", *lines)) + b"\r\n\r\n"
    return Request(Origin.HTTP, parse_head(raw, HeadLimits()))


def write(
    request: Request, response: Response, wire: ConnectionConfig = WIRE, *, closes: bool = False
) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Give status line, fields by name, body; no field may come twice."""
    head, _, body = format_response(request, response, wire, closes=closes).partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    assert len(fields) == len(lines)
    return first, fields, body


def refused(failure: ApiError) -> Response:
    return Response("id", status=failure.status, error=failure)


def test_a_plain_answer() -> None:
    first, fields, body = write(ask(), Response("id-1", result={"now": 1}))
    assert first == b"HTTP/1.1 200 OK"
    assert fields == {
        b"Content-Type": b"application/json",
        b"Date": b"Tue, 24 Nov 2026 08:00:00 GMT",
        b"X-Kuzzle-Node": b"knode-test-1",
        b"X-Kuzzle-Request-Id": b"id-1",
        b"Content-Length": str(len(body)).encode(),
    }
    assert as_json(body)["result"] == {"now": 1}


def test_head_gets_the_length_and_no_body() -> None:
    with_body = write(ask(), Response("id"))
    without = write(ask(first=b"HEAD /now HTTP/1.1"), Response("id"))
    assert without == (*with_body[:2], b"")


@pytest.mark.parametrize(
    ("line", "closes", "connection"),
    [
        (b"GET / HTTP/1.1", False, None),
        (b"GET / HTTP/1.1", True, b"close"),
        (b"GET / HTTP/1.0", True, b"close"),
        (b"GET / HTTP/1.0", False, b"keep-alive"),
    ],
)
def test_connection(line: bytes, closes: bool, connection: bytes | None) -> None:
    fields = write(ask(first=line), Response("id"), closes=closes)[1]
    assert fields.get(b"Connection") == connection


@pytest.mark.parametrize(
    ("failure", "token", "expected"),
    [
        (error("security.token.invalid"), None, {b"WWW-Authenticate": b"Bearer"}),
        (
            error("security.token.invalid"),
            "x",
            {b"WWW-Authenticate": b'Bearer error="invalid_token"'},
        ),
        (
            error("security.rights.forbidden", "a", "b", "c"),
            "x",
            {b"WWW-Authenticate": b'Bearer error="insufficient_scope"'},
        ),
        (error("api.process.overloaded", retry_after_s=3), None, {b"Retry-After": b"3"}),
        (
            error("network.http.unexpected_error", "x", status=426),
            None,
            {
                b"Upgrade": b"websocket",
                b"Connection": b"close, Upgrade",
                b"Sec-WebSocket-Version": b"13",
            },
        ),
    ],
)
def test_what_errors_add(failure: ApiError, token: str, expected: dict[bytes, bytes]) -> None:
    request = ask()
    request.token = token
    first, fields, body = write(request, refused(failure), closes=failure.status == 426)
    assert expected.items() <= fields.items()
    assert first.split()[1] == str(failure.status).encode()
    assert as_json(body)["error"] == failure.as_json()


def test_origins() -> None:
    request = ask(b"Origin: http://a\xe9")
    fields = write(request, Response("id"))[1]
    assert fields[b"Access-Control-Allow-Origin"] == b"http://a\xe9"
    assert fields[b"Vary"] == b"Origin"
    fields = write(request, Response("id"), small_wire(allows_origin=lambda origin: False))[1]
    assert b"Access-Control-Allow-Origin" not in fields
    assert fields[b"Vary"] == b"Origin"


def test_compression_from_1_kib_up_and_never_of_tokens() -> None:
    request = ask(b"Accept-Encoding: gzip", b"Origin: a")
    large = Response("id", result="x" * 2000)
    _, fields, body = write(request, large)
    assert (fields[b"Content-Encoding"], fields[b"Vary"]) == (b"gzip", b"Origin, Accept-Encoding")
    assert as_json(gzip.decompress(body))["result"] == "x" * 2000
    assert fields[b"Content-Length"] == str(len(body)).encode()
    assert b"Content-Encoding" not in write(request, Response("id", result="x" * 500))[1]
    largest = Response("id", result="x" * COMPRESS_UP_TO_BYTES)  # the envelope makes it too large
    assert b"Content-Encoding" not in write(request, largest)[1]
    large.is_private = True
    _, fields, _ = write(request, large)
    assert b"Content-Encoding" not in fields
    assert fields[b"Cache-Control"] == b"no-store"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate, gzip", "gzip"),
        ("deflate;q=1.0, gzip;q=0.5", "deflate"),
        ("gzip;q=0, deflate;q=0.000", None),
        ("*", "gzip"),
        ("*, gzip;q=0", "deflate"),
        ("gzip;q=2", None),
        ("GZIP ; q=0.1", "gzip"),
    ],
)
def test_choosing_an_encoding(accepted: str, encoding: str | None) -> None:
    assert choose_encoding(accepted) == encoding


def test_deflate_is_zlib() -> None:
    assert zlib.decompress(compress(b"abc", "deflate")) == b"abc"


def test_raw_answers_keep_their_content_type() -> None:
    response = Response("id", result="<p>", is_raw=True, headers={"content-type": "text/html"})
    _, fields, body = write(ask(), response)
    assert body == b"<p>"
    assert fields[b"content-type"] == b"text/html"
    assert b"Content-Type" not in fields


def test_an_action_can_not_frame_the_answer() -> None:
    headers = {
        "content-length": "0",
        "Transfer-Encoding": "chunked",
        "connection": "close",
        "x": "y",
    }
    _, fields, body = write(ask(), Response("id", headers=headers))
    assert fields[b"Content-Length"] == str(len(body)).encode()
    assert fields[b"x"] == b"y"
    assert not fields.keys() & {b"Transfer-Encoding", b"connection", b"content-length"}


@pytest.mark.parametrize(
    "response",
    [
        Response("id", headers={"location": "/a\r\nSet-Cookie: x"}),
        Response("id", headers={"location": "/\u20ac"}),
        Response("id", headers={"a: b\r\nc": "d"}),
        Response("id", headers={"": "d"}),
        Response("id\r\nSet-Cookie: x"),
        Response("é"),
        Response("id", result=object()),
        Response("id", result="\ud800"),
        Response("id", result=2**70),
    ],
)
def test_what_would_break_an_answer_is_our_fault(response: Response) -> None:
    with pytest.raises(LocalError):
        format_response(ask(), response, WIRE, closes=False)


def test_upgrade_answers() -> None:
    fields: Fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    expected = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    assert write_upgrade(fields) == expected
