"""What the connections of a server share, and the routes they ask for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from protocol.byte_budget import ByteBudget
from protocol.http11.body import BodyLimits
from protocol.http11.chunked import ChunkLimits
from protocol.http11.head import Head, HeadLimits, status_line
from protocol.websocket.messages import MessageLimits


class Match(NamedTuple):
    """What a path leads to: an action, or with `endpoint` something the router itself answers."""

    controller: str | None
    action: str | None
    params: dict[str, str]
    endpoint: str | None = None


class Routes(Protocol):
    """The route table as this package needs it."""

    def match(self, verb: str, path: str) -> Match:
        """Find what a verb and a path lead to.

        ApiError 404 for an unknown path, 400 for a verb without routes.
        """


@dataclass(slots=True)
class Wire:
    """What all connections of a server share: routes, bounds, the constant part of every answer.

    `fields` are the header lines of every answer but Date and Content-Type; `allows_origin` says
    which origins are echoed, `trusts_origin` whose pages may use cookies, `accepts_upgrade` which
    heads may open a WebSocket. `set_date` is called by the shell once a second. `in_flight` and
    `in_flight_bytes` bound the requests of one connection that wait for their answers, `received`
    what all connections hold of theirs. `message_budget` gives each WebSocket what tells whether it
    may send one more message now, `control_budget` whether one more ping or pong; None where all
    may.
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
        """Renew the constant block with this IMF-fixdate (RFC 9110 §6.6.1)."""
        self.common = b"Date: " + date.encode() + b"\r\n" + self.fields
        self.common_json = b"Content-Type: application/json\r\n" + self.common
        self.plain_head = status_line(200) + self.common_json + b"X-Kuzzle-Request-Id: "
