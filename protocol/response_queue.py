"""Response queue: the unanswered requests of one connection, and the sending of their responses.

HTTP responses are sent in the order of their requests (RFC 9112 §9.3.2), WebSocket responses when
they are ready. Receiving is in `connection`, which extends this.
"""

from protocol.api.envelope import PreparedJson, format_envelope, format_prepared
from protocol.api.http_response import format_plain_response, format_response
from protocol.api.request import Origin, Request, Response
from protocol.byte_budget import COUNTED_FROM_BYTES
from protocol.config import ConnectionConfig
from protocol.http11.head import CONTINUE
from protocol.state import State
from protocol.websocket.frames import Opcode, write_frame
from protocol.websocket.messages import WebSocket, write_text

# Module globals are ten times faster to look up than enum members.
_HEAD, _SWITCHING, _SOCKET, _ENDING = State.HEAD, State.SWITCHING, State.SOCKET, State.ENDING
_WEBSOCKET, _TEXT = Origin.WEBSOCKET, int(Opcode.TEXT)
_PING = write_frame(Opcode.PING, b"")
REQUEST_BYTES = 1024
"""Memory of a request besides its head and payload."""


class ResponseQueue:
    """The sending side of one connection. `phase` is what is expected from the peer."""

    __slots__ = (
        "_awaited",
        "_charged_bytes",
        "_client",
        "_early",
        "_early_bytes",
        "_out",
        "_owes_continue",
        "_pending_close",
        "_websocket",
        "_weight_bytes",
        "_wire",
        "phase",
        "unsent_bytes",
    )

    def __init__(self, wire: ConnectionConfig) -> None:
        self.phase = _HEAD
        self._wire = wire
        self._websocket: WebSocket | None = None
        self._out: list[bytes] = []
        # Received and not yet answered, in order. A deque would use a fifth of an idle socket's
        # memory.
        self._awaited: list[Request] = []
        self._weight_bytes = 0  # of all requests without a response
        self._charged_bytes = 0  # counted by `ConnectionConfig.received` for this connection
        self._client: bytes | None = None  # the key it is counted under
        self._early: dict[Request, bytes] = {}  # HTTP answers that wait for earlier ones
        self._early_bytes = 0
        self.unsent_bytes = 0  # of answers since `bytes_to_send` and of early ones
        self._pending_close = b""  # a Close that waits for the answers before it
        self._owes_continue = False

    @property
    def is_full(self) -> bool:
        """Whether answers must be sent before more is read."""
        wire = self._wire
        awaited = self._awaited
        most = 1 if self.phase is _SWITCHING else wire.in_flight
        if len(awaited) >= most:
            return True
        # Requests of a closed WebSocket may still run, but nothing has to wait for them.
        return self._weight_bytes >= wire.in_flight_bytes and bool(awaited)

    @property
    def is_finished(self) -> bool:
        """Whether the connection can be closed once everything is sent."""
        return self.phase is _ENDING and not self._awaited

    @property
    def awaits_answers(self) -> bool:
        """Whether there are requests whose answers have not been sent."""
        return bool(self._awaited)

    def send(self, request: Request, response: Response) -> None:
        """Answer a request that `receive` returned; each is answered once.

        After a LocalError (see `format_response`) the request still waits for an answer. A
        WebSocket that is closing gets none.
        """
        awaited = self._awaited
        if request.origin is _WEBSOCKET:
            websocket = self._websocket
            if websocket is not None and (self.phase is _SOCKET or self._pending_close):
                envelope = format_envelope(request, response, self._wire.node)
                awaited.remove(request)
                agreement = None if response.is_private else websocket.agreement
                message = write_text(envelope, agreement)
                self._out.append(message)
                self.unsent_bytes += len(message)
                self._send_pending_close()
            self._weight_bytes -= request.weight_bytes
            return
        is_last = self.phase is _ENDING and awaited[-1] is request
        closes = is_last or not request.head.keep_alive
        answer = format_response(request, response, self._wire, closes=closes)
        self._weight_bytes -= request.weight_bytes
        self.unsent_bytes += len(answer)
        if awaited[0] is not request:
            self._early[request] = answer
            self._early_bytes += len(answer)
            return
        del awaited[0]
        self._out.append(answer)
        while awaited and self._early and (ready := self._early.pop(awaited[0], None)) is not None:
            del awaited[0]
            self._out.append(ready)
            self._early_bytes -= len(ready)
        if self._owes_continue and not awaited:
            self._owes_continue = False
            self._out.append(CONTINUE)

    def drop(self, request: Request) -> None:
        """Remove a request that `receive` returned: it has no answer, or no peer to send it to."""
        self._weight_bytes -= request.weight_bytes
        if self._charged_bytes:
            self._lower_charge()

    def send_prepared(self, request: Request, request_id: str, kept: PreparedJson) -> None:
        """Answer with a cached result as `send` does with a plain success. If nothing else is in
        progress, as nearly always, that takes half the time."""
        awaited, wire, websocket = self._awaited, self._wire, self._websocket
        if len(awaited) == 1 and not request.is_pretty:
            if self.phase is _SOCKET and websocket is not None:
                envelope = format_prepared(request, request_id, kept, wire.node)
                self._out.append(write_text(envelope, websocket.agreement))
                awaited.clear()
                self._weight_bytes = 0
                return
            if self.phase is _HEAD and request.head.is_plain:
                envelope = format_prepared(request, request_id, kept, wire.node)
                self._out.append(format_plain_response(request_id, envelope, wire))
                awaited.clear()
                self._weight_bytes = 0
                return
        self.send(request, Response(request_id, request.controller, request.action, kept))

    def push(self, text: bytes) -> None:
        """Send a notification; nothing unless this is an open WebSocket."""
        if self.phase is _SOCKET:
            self._out.append(write_frame(_TEXT, text))

    def ping(self) -> None:
        """Send a ping on an open WebSocket (RFC 6455 §5.5.2)."""
        if self.phase is _SOCKET:
            self._out.append(_PING)

    def bytes_to_send(self) -> bytes:
        """Return and remove the bytes to write now."""
        out = self._out
        if self.unsent_bytes:
            self.unsent_bytes = self._early_bytes
        if self._charged_bytes:
            self._lower_charge()
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    def _send_pending_close(self) -> None:
        """Send the pending Close, if any, once no answer is pending."""
        if self._pending_close and not self._awaited:
            self._out.append(self._pending_close)
            self._pending_close = b""

    def _drop_awaited(self) -> None:
        """Drop the awaited answers: no data frame follows a Close (RFC 6455 §5.5.1). Their weight
        counts until they are done: running handlers keep them in memory."""
        self._awaited.clear()

    def _drop_all(self) -> None:
        """Drop all requests and answers."""
        self._drop_awaited()
        self._early.clear()
        self._early_bytes = self.unsent_bytes = 0
        self._out.clear()
        self._pending_close = b""

    def _give(self, request: Request, size_bytes: int, requests: list[Request]) -> None:
        weight_bytes = REQUEST_BYTES + size_bytes
        if request.origin is not _WEBSOCKET:  # whose head is shared by the connection
            weight_bytes += request.head.size_bytes
        if request.unread is not None:
            # An unparsed payload may grow when it is decompressed and parsed: it counts for the
            # whole limit.
            weight_bytes = max(weight_bytes, self._wire.in_flight_bytes)
        request.weight_bytes = weight_bytes
        self._weight_bytes += weight_bytes
        self._awaited.append(request)
        requests.append(request)

    @property
    def held_bytes(self) -> int:
        """Bytes of unanswered requests, complete or not."""
        return self._weight_bytes

    def _lower_charge(self) -> None:
        """Return released bytes to the budget; `receive` adds new ones."""
        now_bytes = counted(self.held_bytes)
        if now_bytes < self._charged_bytes:
            self._wire.received.resize(self._client, self._charged_bytes, now_bytes)
            self._charged_bytes = now_bytes


def counted(held_bytes: int) -> int:
    """Return the bytes a connection with this many buffered bytes is counted with."""
    return held_bytes if held_bytes > COUNTED_FROM_BYTES else 0
