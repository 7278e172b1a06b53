"""Settings shared by all connections of a server, and the route table interface."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from protocol.byte_budget import ByteBudget
from protocol.http11.body import BodyLimits
from protocol.http11.chunked import ChunkLimits
from protocol.http11.head import Head, HeadLimits, status_line
from protocol.websocket.messages import MessageLimits


class Match(NamedTuple):
    """Result of routing: an action, or with `endpoint` an endpoint without an action."""

    controller: str | None
    action: str | None
    params: dict[str, str]
    endpoint: str | None = None


class Routes(Protocol):
    """The interface of the route table."""

    def match(self, verb: str, path: str) -> Match:
        """Return the route of a verb and a path.

        ApiError 404 for an unknown path, 400 for a verb without routes.
        """


@dataclass(slots=True)
class ConnectionConfig:
    """Settings of all connections of a server: routes, limits, the constant part of responses.

    `fields` are the header lines of every response except Date and Content-Type; `allows_origin`
    returns which origins are echoed, `trusts_origin` which may use cookies, `accepts_upgrade` which
    heads may open a WebSocket. The server calls `set_date` once a second. `in_flight` and
    `in_flight_bytes` limit the unanswered requests of one connection, `received` those of all
    connections. `message_budget` returns, for each WebSocket, a function that returns whether
    another message is allowed now, `control_budget` another ping or pong; None for no limit.
    """

    routes: Routes
    node: str
    fields: bytes = b""
    allows_origin: Callable[[str], bool] = lambda origin: True
    trusts_origin: Callable[[str], bool] = lambda origin: False
    head_limits: HeadLimits = field(default_factory=HeadLimits)
    body_limits: BodyLimits = field(default_factory=BodyLimits)
    chunk_limits: ChunkLimits = field(default_factory=ChunkLimits)
    message_limits: MessageLimits = field(default_factory=MessageLimits)
    in_flight: int = 64
    in_flight_bytes: int = 1024 * 1024
    received: ByteBudget = field(default_factory=ByteBudget)
    websocket_enabled: bool = True
    accepts_upgrade: Callable[[Head], bool] = lambda head: True
    compresses_messages: bool = False
    message_budget: Callable[[], Callable[[], bool]] | None = None
    control_budget: Callable[[], Callable[[], bool]] | None = None
    common: bytes = b""
    common_json: bytes = b""
    plain_head: bytes = b""

    def set_date(self, date: str) -> None:
        """Update the constant block with this IMF-fixdate (RFC 9110 §6.6.1)."""
        self.common = b"Date: " + date.encode() + b"\r\n" + self.fields
        self.common_json = b"Content-Type: application/json\r\n" + self.common
        self.plain_head = status_line(200) + self.common_json + b"X-Kuzzle-Request-Id: "
