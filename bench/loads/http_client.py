"""A small blocking client for setting up and checking; wrk and `ws_load.py` make the load."""

import json
import random
import socket
from dataclasses import dataclass

HOST = "127.0.0.1"
_WAIT_S = 30.0
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3, the answer to the key above


class WrongAnswer(Exception):
    """A server said something else than it had to; its numbers would mean nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response: `raw` is all of it, `json` its parsed body."""

    status: int
    raw: bytes
    json: dict[str, object]

    def result(self) -> dict[str, object]:
        """Give the envelope's result; WrongAnswer unless the call succeeded."""
        result = self.json.get("result")
        if self.status != 200 or not isinstance(result, dict):
            raise WrongAnswer(f"{self.status}: {self.json.get('error')}")
        return result


def ask(
    port: int,
    method: str,
    path: str,
    *,
    body: object = None,
    token: str | None = None,
    connection: socket.socket | None = None,
) -> Answer:
    """Send one request and read its response, on a connection of its own unless one is given."""
    request = write_request(method, path, body=body, token=token)
    if connection is not None:
        return exchange(connection, request)
    with connect(port) as own:
        return exchange(own, request)


def write_request(
    method: str, path: str, *, body: object = None, token: str | None = None
) -> bytes:
    """Give a request as it goes over the wire; a body becomes JSON."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    payload = b"" if body is None else json.dumps(body).encode()
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if payload:
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return "\r\n".join([*lines, "", ""]).encode() + payload


def connect(port: int, source: str = "") -> socket.socket:
    """Open a TCP connection to a server under test, from a loopback address of its own if given."""
    bound = (source, 0) if source else None
    opened = socket.create_connection((HOST, port), timeout=_WAIT_S, source_address=bound)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def exchange(connection: socket.socket, request: bytes) -> Answer:
    """Send what `write_request` gave and read the response."""
    connection.sendall(request)
    received = _read_until(connection, b"\r\n\r\n")
    at = received.index(b"\r\n\r\n") + 4
    length = content_length(received[:at])
    raw = received + _read_exactly(connection, at + length - len(received))
    return Answer(int(received.split(b" ", 2)[1]), raw, json.loads(raw[at:] or b"{}"))


def content_length(head: bytes) -> int:
    """Give the length a response's head announces, 0 when it does not."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def open_websocket(port: int) -> socket.socket:
    """Give a socket with the WebSocket handshake behind it."""
    connection = connect(port)
    connection.sendall(HANDSHAKE)
    head = _read_until(connection, b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 ") or _ACCEPT not in head:
        raise WrongAnswer(f"handshake refused: {head[:80]!r}")
    return connection


def write_text_frame(payload: bytes, mask: bytes) -> bytes:
    """Give a client's text frame (RFC 6455 §5.2), masked with the given 4 bytes; below 64 KiB."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    key = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return b"\x81" + length + mask + masked.to_bytes(size, "big")


def ask_websocket(connection: socket.socket, payload: bytes) -> bytes:
    """Send one text message and give the whole frame that answers it."""
    connection.sendall(write_text_frame(payload, random.randbytes(4)))
    return read_frame(connection)


def read_frame(connection: socket.socket) -> bytes:
    """Give one unmasked text frame, head included; WrongAnswer for any other."""
    head = _read_exactly(connection, 2)
    size = head[1]
    if head[0] != 0x81 or size > 126:
        raise WrongAnswer(f"not a text frame of ordinary size: {head!r}")
    if size == 126:
        head += _read_exactly(connection, 2)
        size = int.from_bytes(head[2:], "big")
    return head + _read_exactly(connection, size)


def frame_payload(frame: bytes) -> bytes:
    """Give what a frame from `read_frame` carries."""
    return frame[4:] if frame[1] == 126 else frame[2:]


def _read_until(connection: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        received += _read_some(connection, 65536)
    return received


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        received += _read_some(connection, count - len(received))
    return received


def _read_some(connection: socket.socket, most: int) -> bytes:
    received = connection.recv(most)
    if not received:
        raise WrongAnswer("connection closed in the middle of an answer")
    return received
