"""What the tests of this folder share: a wire with two routes, a client's bytes, and every cut."""

from collections.abc import Iterator

import orjson

from protocol.api.request import Request, Response, split_path
from protocol.config import ConnectionConfig, Match
from protocol.connection import Connection
from protocol.errors import error
from protocol.http11.body import BodyLimits
from protocol.http11.chunked import ChunkLimits
from protocol.http11.head import HeadLimits
from protocol.websocket.messages import MessageLimits

NODE = "knode-test-1"
MASK = b"\x11\x22\x33\x44"
GET = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
HANDSHAKE = (
    b"GET /any HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class TwoRoutes:
    """`GET` and `POST /now`, `POST /_query`, and `GET /of/:_id`."""

    def match(self, verb: str, path: str) -> Match:
        if verb not in ("GET", "POST", "HEAD", "OPTIONS"):
            raise error("network.http.unsupported_verb", verb)
        match split_path(path):
            case ["now"] | ["*"] | []:
                return Match("server", "now", {})
            case ["_query"] if verb == "POST":
                return Match(None, None, {}, "query")
            case ["of", name]:
                return Match("security", "getUser", {"_id": name})
        raise error("network.http.url_not_found", path)


def small_wire(**changed: object) -> ConnectionConfig:
    """A wire with bounds small enough to stand at them in a test."""
    given: dict[str, object] = {
        "head_limits": HeadLimits(target_bytes=64, head_bytes=256, fields=5),
        "body_limits": BodyLimits(body_bytes=64, file_bytes=16, form_fields=4),
        "chunk_limits": ChunkLimits(chunks=6, line_bytes=24, trailer_bytes=32, trailer_fields=2),
        "message_limits": MessageLimits(message_bytes=300, frames=4),
        "in_flight": 3,
    }
    wire = ConnectionConfig(
        TwoRoutes(), NODE, b"X-Kuzzle-Node: knode-test-1\r\n", **(given | changed)
    )  # type: ignore[arg-type]
    wire.set_date("Tue, 24 Nov 2026 08:00:00 GMT")
    return wire


def cuts(wire: bytes) -> Iterator[list[bytes]]:
    """Give the bytes whole, byte by byte, and cut in two at every place."""
    yield [wire]
    yield [wire[at : at + 1] for at in range(len(wire))]
    for at in range(1, len(wire)):
        yield [wire[:at], wire[at:]]


def answer(request: Request, **given: object) -> Response:
    """The answer a server would give: the refusal, or what the test asks for."""
    refused = request.refused
    return Response(
        request.request_id or "made",
        status=200 if refused is None else refused.status,
        error=refused,
        controller=request.controller,
        action=request.action,
        **given,  # type: ignore[arg-type]
    )


def serve(connection: Connection, data: bytes) -> tuple[list[Request], bytes]:
    """Receive, answer all there is at once and in order, and go on with what is held."""
    requests: list[Request] = []
    taken = connection.receive(data)
    while True:
        for request in taken:
            connection.send(request, answer(request))
        requests += taken
        if not taken and not connection.awaits_answers:
            break
        taken = connection.receive(b"")
    return requests, connection.bytes_to_send()


def seen(request: Request) -> tuple[object, ...]:
    """What a test compares of a request."""
    refused = None if request.refused is None else (request.refused.status, request.refused.id)
    return (
        request.head.method,
        request.head.path,
        request.action,
        request.args,
        request.body,
        request.request_id,
        refused,
    )


def run(parts: list[bytes], wire: ConnectionConfig) -> tuple[list[tuple[object, ...]], bytes, bool]:
    """Serve a connection these parts; give its requests, its bytes, and whether it ended."""
    connection, requests, out = Connection(wire), [], b""
    for part in parts:
        more, written = serve(connection, part)
        requests += [seen(request) for request in more]
        out += written
    return requests, out, connection.is_finished


def statuses(out: bytes) -> list[int]:
    """The statuses of the answers in what was sent; every answer must have a length."""
    found = []
    while out:
        head, _, rest = out.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        found.append(int(lines[0].split(b" ")[1]))
        if found[-1] == 101:
            break
        sizes = [int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")]
        out = rest[sizes[0] if sizes else 0 :]
    return found


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, mask: bytes = MASK) -> bytes:
    """One frame as a client sends it."""
    size = len(payload)
    first = (0x80 if final else 0) | opcode
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


def frames_sent(out: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of the frames in what was sent; all must be whole and unmasked."""
    found = []
    while out:
        size, start = out[1], 2
        if size == 126:
            size, start = int.from_bytes(out[2:4], "big"), 4
        assert size != 127 and out[0] & 0x80
        found.append((out[0] & 0x0F, out[start : start + size]))
        out = out[start + size :]
    return found


def as_json(text: bytes) -> dict[str, object]:
    """Read an answer's envelope."""
    value = orjson.loads(text)
    assert isinstance(value, dict)
    return value
