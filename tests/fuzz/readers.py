"""Three readers of HTTP/1.1, brought to one form: ours, h11 and llhttp."""

from collections.abc import Callable
from dataclasses import dataclass

import h11
import httptools

from protocol.api.request import Request
from protocol.config import ConnectionConfig, Match
from protocol.connection import Connection
from protocol.http11.body import BodyLimits


@dataclass(frozen=True, slots=True)
class Read:
    """One request as a reader understood it."""

    method: bytes
    target: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """The requests a reader found, in order, and whether it refused what came then."""

    requests: tuple[Read, ...]
    is_refused: bool


Reader = Callable[[bytes], Reading]


class _AnyRoute:
    def match(self, verb: str, path: str) -> Match:
        return Match("any", "any", {})


class _Recording(Connection):
    """A connection that remembers what it read."""

    __slots__ = ("read",)

    def _take_request(self, body: bytes, requests: list[Request]) -> Request:
        head = self._head
        target = head.path + ("?" + head.query if head.query else "")
        self.read.append(Read(head.method.encode(), target.encode("latin-1"), body))
        return super()._take_request(body, requests)


def read_ours(wire: bytes) -> Reading:
    """Read with our own parser, the WebSocket side off."""
    limits = BodyLimits(body_bytes=1 << 20)
    connection = _Recording(
        ConnectionConfig(
            _AnyRoute(), "n", body_limits=limits, websocket_enabled=False, in_flight=100
        )
    )
    connection.read = []
    given = connection.receive(wire)
    return Reading(tuple(connection.read), len(given) > len(connection.read))


def read_h11(wire: bytes) -> Reading:
    """Read with h11, request after request.

    Each gets a connection of its own: h11 refuses the empty line that may stand before a request
    (RFC 9112 §2.2), and always ends with a request of HTTP/1.0 (§9.3: it may go on).
    """
    found: list[Read] = []
    while wire:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(wire.removeprefix(b"\r\n"))
        try:
            read = _read_one(connection)
        except h11.ProtocolError:
            return Reading(tuple(found), True)
        if read is None:
            break
        found.append(read[0])
        if not read[1]:
            break
        wire, _ = connection.trailing_data
    return Reading(tuple(found), False)


def _read_one(connection: h11.Connection) -> tuple[Read, bool] | None:
    """Give the next request, and whether another one may follow; None if it is not whole."""
    request, body = None, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return Read(request.method, request.target, body), _goes_on(request)
        else:
            return None


def _goes_on(request: h11.Request) -> bool:
    named = [value.lower() for name, value in request.headers if name == b"connection"]
    options = [option.strip() for value in named for option in value.split(b",")]
    if request.http_version == b"1.0":
        return b"keep-alive" in options and b"close" not in options
    return b"close" not in options


class _Collected:
    """What llhttp calls back."""

    def __init__(self) -> None:
        self.found: list[Read] = []
        self.parser: httptools.HttpRequestParser | None = None
        self.url = self.body = b""

    def on_message_begin(self) -> None:
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        assert self.parser is not None
        self.found.append(Read(self.parser.get_method(), self.url, self.body))


def read_llhttp(wire: bytes) -> Reading:
    """Read with llhttp, in its strict mode."""
    collected = _Collected()
    collected.parser = parser = httptools.HttpRequestParser(collected)
    try:
        parser.feed_data(wire)
    except httptools.HttpParserUpgrade:
        return Reading(tuple(collected.found), False)
    except httptools.HttpParserError:
        return Reading(tuple(collected.found), True)
    return Reading(tuple(collected.found), False)


OTHERS: dict[str, Reader] = {"h11": read_h11, "llhttp": read_llhttp}
