"""What fuzzers run: any bytes are understood or refused, and what is answered can be read."""

import re
from collections.abc import Callable

import orjson

from protocol.api.envelope import format_envelope
from protocol.api.request import Request, Response, from_websocket, parse_large_body
from protocol.config import ConnectionConfig, Match
from protocol.connection import Connection
from protocol.errors import ApiError
from protocol.http11.body import BodyLimits, read_body
from protocol.http11.head import NO_HEAD
from protocol.websocket.messages import MessageLimits

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
_LIMITS = BodyLimits(body_bytes=1 << 16)
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ")  # not 100, which depends on what has come
_CLOSE = 0x88


class _AnyRoute:
    def match(self, verb: str, path: str) -> Match:
        return Match("any", "any", {"_id": path})


def _make_wire() -> ConnectionConfig:
    wire = ConnectionConfig(
        _AnyRoute(),
        "node",
        body_limits=_LIMITS,
        message_limits=MessageLimits(message_bytes=1 << 16, frames=64),
        compresses_messages=True,
    )
    wire.set_date("Thu, 01 Jan 1970 00:00:00 GMT")
    return wire


def _answer(connection: Connection, requests: list[Request]) -> None:
    for request in requests:
        if request.unread is not None:
            parse_large_body(request, _LIMITS)
        error = request.refused
        response = Response(request.request_id or "made", request.controller, request.action)
        response.error, response.status = error, 200 if error is None else error.status
        response.result = {"args": request.args, "body": request.body}
        connection.send(request, response)


def talk(connection: Connection, data: bytes) -> bytes:
    """Give all that is sent back, everything being answered at once."""
    sent, requests = b"", connection.receive(data)
    while True:
        _answer(connection, requests)
        sent += connection.bytes_to_send()
        if not connection.has_unread_input:
            return sent
        requests = connection.receive(b"")


def fuzz_http(data: bytes) -> None:
    """One connection, the same whole and cut in two: the same is understood and the same refused,
    though not always for the same reason."""
    wire = _make_wire()
    whole = talk(Connection(wire), data)
    connection, at = Connection(wire), len(data) // 2
    cut = talk(connection, data[:at]) + talk(connection, data[at:])
    assert _outcomes(cut) == _outcomes(whole), (whole, cut)
    assert not whole or whole.startswith(b"HTTP/1.1 ")


def _outcomes(sent: bytes) -> list[bool]:
    return [status < b"400" for status in _STATUS.findall(sent)]


def fuzz_websocket(data: bytes) -> None:
    """Frames behind a handshake, whole and cut in two: the same answers, in whatever order."""
    wire = _make_wire()
    whole = talk(Connection(wire), HANDSHAKE + data)
    connection, at = Connection(wire), len(data) // 2
    cut = talk(connection, HANDSHAKE + data[:at]) + talk(connection, data[at:])
    assert _frames(cut) == _frames(whole), (whole, cut)


def _frames(sent: bytes) -> list[bytes]:
    """Give what was sent behind the handshake's answer, sorted, a Close without its reason."""
    at, frames = sent.index(b"\r\n\r\n") + 4, []
    while at < len(sent):
        size, head = sent[at + 1], 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(sent[at + 2 : at + head], "big")
        end = at + head + size
        assert end <= len(sent)
        frames.append(sent[at:end] if sent[at] != _CLOSE else sent[at + 2 : at + 4])
        at = end
    return sorted(frames)


def fuzz_json(data: bytes) -> None:
    """One message, and one body of each kind: what is echoed is JSON again."""
    request = from_websocket(data, NO_HEAD, None)
    if request.unread is not None:
        parse_large_body(request, _LIMITS)
    response = Response("id", request.controller, request.action, request.body)
    response.error = request.refused
    orjson.loads(format_envelope(request, response, "node"))
    for content_type in (
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        for encoding in ("", "gzip", "deflate"):
            headers = {"content-type": content_type}
            if encoding:
                headers["content-encoding"] = encoding
            try:
                body = read_body(data, headers, _LIMITS)
            except ApiError:
                continue
            orjson.dumps(body)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "http": fuzz_http,
    "websocket": fuzz_websocket,
    "json": fuzz_json,
}
