"""Connection state machine: bytes received → requests, responses → bytes to send.

Sending is in `response_queue`. A protocol error becomes one last, refused request, so that it is
answered after the valid ones before it. The server stops reading while `is_full`: that limits the
buffers here.
"""

from collections.abc import Callable

from protocol.api.http_response import write_upgrade
from protocol.api.request import (
    PING_MOST_BYTES,
    PONG,
    Connected,
    Origin,
    Request,
    from_http,
    from_websocket,
    is_ping,
)
from protocol.api.request_template import MOST_BYTES, RequestTemplate, make_template
from protocol.byte_budget import COUNTED_FROM_BYTES
from protocol.config import ConnectionConfig
from protocol.errors import ApiError, ProtocolError, error
from protocol.http11.chunked import ChunkedBody
from protocol.http11.head import (
    BARE,
    CONTINUE,
    HEAD_END,
    NO_HEAD,
    Head,
    check_head_size,
    parse_head,
)
from protocol.receive_buffer import Buffer
from protocol.response_queue import REQUEST_BYTES, ResponseQueue, counted
from protocol.state import NEXT, State, Step
from protocol.websocket.frames import Opcode, take_whole_text, write_frame
from protocol.websocket.handshake import accept_handshake, is_upgrade
from protocol.websocket.messages import (
    GOING_AWAY,
    NORMAL,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
    Close,
    Message,
    Ping,
    Pong,
    WebSocket,
    close_frame,
)

# An enum member takes ten times as long to look up as a module global, and these are looked up
# several times for each request.
_HEAD, _SWITCHING, _SOCKET = State.HEAD, State.SWITCHING, State.SOCKET
_LEAVING, _ENDING = State.LEAVING, State.ENDING
_WEBSOCKET, _TEXT = Origin.WEBSOCKET, int(Opcode.TEXT)
_ALONE_BYTES = COUNTED_FROM_BYTES - REQUEST_BYTES  # larger messages are counted
_RETRY_S = 1
KEPT_HEAD_BYTES = 2048
"""A longer head is always parsed: an idle connection would keep several times its size."""


class Connection(ResponseQueue):
    """The protocol side of one socket."""

    __slots__ = (
        "_budget",
        "_buffer",
        "_chunked",
        "_control_budget",
        "_head",
        "_last_raw",
        "_last_request",
        "_peer",
        "_repeat",
        "_skipped_line",
        "_was_cut_short",
    )

    def __init__(self, wire: ConnectionConfig, peer: Connected | None = None) -> None:
        super().__init__(wire)
        self._peer = peer
        self._buffer = Buffer()
        self._head: Head = NO_HEAD  # of the request being received, then of the upgrade
        self._chunked: ChunkedBody | None = None
        self._budget: Callable[[], bool] | None = None
        self._control_budget: Callable[[], bool] | None = None
        self._skipped_line = False
        self._was_cut_short = False  # some buffered bytes were not parsed
        self._last_raw = b""
        self._last_request: Request | None = None
        self._repeat: RequestTemplate | None = None

    def receive(self, data: bytes) -> list[Request]:
        """Accept received bytes (b"" to parse the buffered ones); return the requests they
        complete."""
        if not self._awaited and not self._buffer.held:
            request = self._take_alone(data)
            if request is not None:
                self._awaited.append(request)
                return [request]
        requests: list[Request] = []
        buffer = self._buffer
        buffer.append(data)
        buffer.begin_turn()
        try:
            while not self.is_full and not buffer.is_spent and _READERS[self.phase](self, requests):
                pass
            self._was_cut_short = self.is_full or buffer.is_spent
        except ProtocolError as broken:
            self._break(broken, requests)
        held_bytes = len(buffer.held) + self._weight_bytes
        is_more = self._charged_bytes or self._websocket is not None or self._chunked is not None
        if held_bytes > COUNTED_FROM_BYTES or is_more:
            self._charge(requests)
        return requests

    def _take_alone(self, data: bytes) -> Request | None:
        """Return the request in `data`, on a connection where nothing else is in progress, as
        nearly every request arrives. None if it has to be parsed in full."""
        if self.phase is _HEAD:
            if data != self._last_raw:
                return None
            # The same head on an idle connection is the same request: it is not parsed again.
            self._skipped_line = False
            last = self._last_request
            if last is not None:
                self._weight_bytes = last.weight_bytes
            return last
        websocket = self._websocket
        if self.phase is not _SOCKET or websocket is None or not websocket.is_between_messages:
            return None
        if self._budget is not None:
            return None
        if self._repeat is not None and (again := self._repeat.take(data)) is not None:
            self._weight_bytes = again.weight_bytes
            return again
        # Saves the buffer, the frame head and the check for a next frame: a third of the time.
        payload = take_whole_text(data)
        if (
            payload is None
            or len(payload) > _ALONE_BYTES
            or len(payload) > self._wire.message_limits.message_bytes
            or len(payload) <= PING_MOST_BYTES
            or not payload.isascii()
        ):
            return None
        request = from_websocket(
            payload, self._head, self._peer, self._wire.body_limits.json_values
        )
        self._weight_bytes = request.weight_bytes = REQUEST_BYTES + len(payload)
        if len(payload) > MOST_BYTES or request.body is not None or request.args:
            self._last_request = None
            return request
        last, self._last_request = self._last_request, request
        if last is not None and last.token == request.token and last.action == request.action:
            self._repeat = make_template(data, payload, request)
        return request

    @property
    def held_bytes(self) -> int:
        """Bytes of unanswered requests, complete or not."""
        held_bytes = len(self._buffer.held) + self._weight_bytes
        if self._chunked is not None:
            held_bytes += len(self._chunked.body)
        elif self._websocket is not None:
            held_bytes += self._websocket.held_bytes
        return held_bytes

    def _charge(self, requests: list[Request]) -> None:
        """Count the buffered bytes in the budget of all connections. If it has no room, the last
        ones are refused: complete requests one by one; with an incomplete one the connection is
        closed."""
        now_bytes = counted(self.held_bytes)
        if now_bytes != self._charged_bytes and not self._resize(now_bytes):
            self._refuse(requests)
            self._lower_charge()

    def _resize(self, now_bytes: int) -> bool:
        if not self._charged_bytes and self._peer is not None:
            head = self._requested_head
            self._client = self._peer.client_of(head.headers)
        if not self._wire.received.resize(self._client, self._charged_bytes, now_bytes):
            return False
        self._charged_bytes = now_bytes
        return True

    @property
    def _requested_head(self) -> Head:
        """The head of the present or last request."""
        return self._awaited[-1].head if self._head is NO_HEAD and self._awaited else self._head

    def _refuse(self, requests: list[Request]) -> None:
        refused = error("api.process.overloaded", retry_after_s=_RETRY_S)
        for at, request in enumerate(requests):
            # Without its payload, and another object: the original may be returned again.
            instead = Request(
                request.origin,
                request.head,
                request.peer,
                request_id=request.request_id,
                refused=refused,
                has_room=False,
            )
            self._weight_bytes -= request.weight_bytes
            requests[at] = instead
            if request in self._awaited:
                self._awaited[self._awaited.index(request)] = instead
        if self.phase is _HEAD or self.phase is _SOCKET:
            is_within = self._websocket is not None and not self._websocket.is_between_messages
            if not self._buffer and not is_within:
                return
        if self.phase is not _ENDING:
            self._refuse_last(refused, TRY_AGAIN_LATER, "overloaded", requests)

    @property
    def holds_input(self) -> bool:
        """Whether there are unparsed bytes."""
        return len(self._buffer) > 0 or self.phase is _SWITCHING

    @property
    def has_unread_input(self) -> bool:
        """Whether `receive(b"")` may parse the buffered bytes: they were deferred, since the turn
        was over or too many answers were awaited, and now they are not."""
        return self._was_cut_short and self.holds_input and not self.is_full

    @property
    def is_settled(self) -> bool:
        """Whether everything received is parsed and answered, and more may come."""
        return (
            not self._awaited
            and not self._buffer.held
            and (self.phase is _HEAD or (self.phase is _SOCKET and not self.is_within_message))
        )

    @property
    def is_within_message(self) -> bool:
        """Whether a WebSocket message or control frame is incomplete."""
        websocket = self._websocket
        return websocket is not None and not websocket.is_between_messages

    def forget(self) -> None:
        """Drop all buffers and the peer: the socket has disconnected. Later answers are discarded.

        Otherwise reference cycles with the peer and requests in progress would not be freed.
        """
        self._end(Step.BROKEN)
        self._drop_all()
        self._head, self._peer, self._websocket = NO_HEAD, None, None
        self._last_raw, self._last_request, self._repeat = b"", None, None
        if self._charged_bytes:
            self._lower_charge()

    def eof(self) -> None:
        """Handle the peer's end of stream; its requests are still answered (RFC 9112 §9.6)."""
        self._end(Step.BROKEN)

    def finish(self) -> None:
        """Accept no further request; a WebSocket is closed with 1001, HTTP after its answers."""
        self.close(GOING_AWAY, "shutting down")
        if self.phase is not _LEAVING:
            self._end(Step.BROKEN)

    def time_out(self) -> list[Request]:
        """Return the refusal of a request that timed out (RFC 9110 §15.5.9); a WebSocket is closed
        with 1008 instead."""
        requests: list[Request] = []
        late = ProtocolError("took too long to arrive", status=408, close_code=POLICY_VIOLATION)
        self._break(late, requests)
        return requests

    def close(self, code: int, reason: str) -> None:
        """Start to close a WebSocket with this code; nothing for other connections."""
        if self.phase is _SOCKET:
            self._out.append(close_frame(code, reason))
            self._drop_awaited()
            self.phase = NEXT[self.phase, Step.LEAVE]

    def _end(self, step: Step) -> None:
        """Drop requests and buffers that cannot be answered or parsed any more."""
        self._buffer.take_all()
        self._chunked = None
        self._owes_continue = False
        if self._websocket is not None:
            self._websocket.drop_message()
            if not self._pending_close:
                self._drop_awaited()
        self.phase = NEXT[self.phase, step]

    def _take_request(self, body: bytes, requests: list[Request]) -> Request:
        wire, head = self._wire, self._head
        self._head = NO_HEAD
        request = from_http(head, body, wire.routes, wire.body_limits, self._peer)
        self._owes_continue = False
        self._give(request, len(body), requests)
        self.phase = NEXT[self.phase, Step.WHOLE if head.keep_alive else Step.LAST]
        return request

    def _read_head(self, requests: list[Request]) -> bool:
        buffer = self._buffer
        if not buffer:
            return False
        if not self._skipped_line and buffer.peek(2) == b"\r\n":
            # RFC 9112 §2.2: old clients send an empty line before a request.
            buffer.take(2)
            self._skipped_line = True
        raw = buffer.take_through(HEAD_END)
        if raw is None:
            if buffer.holds_new(BARE):
                raise ProtocolError("bare CR, LF or NUL in a head")
            check_head_size(len(buffer), buffer.line_end(), self._wire.head_limits)
            return False
        if raw == self._last_raw and self._last_request is not None:
            self._head = self._last_request.head
        else:
            check_head_size(len(raw), raw.find(b"\r\n"), self._wire.head_limits)
            self._head = parse_head(raw, self._wire.head_limits)
        self._skipped_line = False
        wire, head = self._wire, self._head
        # Otherwise it is answered as a request without an upgrade (RFC 9110 §7.8).
        if wire.websocket_enabled and is_upgrade(head) and wire.accepts_upgrade(head):
            self.phase = NEXT[self.phase, Step.HANDSHAKE]
        elif self._head.has_body:
            self._expect_body(self._head)
        else:
            request = self._take_request(b"", requests)
            if request.refused is None and len(raw) <= KEPT_HEAD_BYTES:
                self._last_raw, self._last_request = raw, request
        return True

    def _expect_body(self, head: Head) -> None:
        most = self._wire.body_limits.body_bytes
        if head.content_length is None:
            self._chunked = ChunkedBody(most, self._wire.chunk_limits)
            self.phase = NEXT[self.phase, Step.CHUNKED]
        elif head.content_length > most:
            raise ProtocolError("body too large", status=413)
        else:
            self.phase = NEXT[self.phase, Step.LENGTH]
        if head.expects_continue and not self._buffer:
            if self._awaited:
                self._owes_continue = True  # sent after the answers before it
            else:
                self._out.append(CONTINUE)

    def _read_body(self, requests: list[Request]) -> bool:
        length = self._head.content_length or 0
        if len(self._buffer) < length:
            return False
        self._take_request(self._buffer.take(length), requests)
        return True

    def _read_chunks(self, requests: list[Request]) -> bool:
        if self._chunked is None or not self._chunked.feed(self._buffer):
            return False
        body, self._chunked = bytes(self._chunked.body), None
        self._take_request(body, requests)
        return True

    def _switch(self, requests: list[Request]) -> bool:
        fields, agreement = accept_handshake(self._head, compresses=self._wire.compresses_messages)
        if self._peer is not None and not self._peer.is_socket_allowed(self._head.headers):
            refused = error("api.process.overloaded", retry_after_s=_RETRY_S)
            self._refuse_last(refused, TRY_AGAIN_LATER, "overloaded", requests)
            return True
        self._out.append(write_upgrade(fields))
        self._websocket = WebSocket(self._wire.message_limits, agreement)
        if self._wire.message_budget is not None:
            self._budget = self._wire.message_budget()
        self.phase = NEXT[self.phase, Step.WHOLE]
        self._last_raw, self._last_request = b"", None  # a socket may be idle for hours: keep less
        return True

    def _read_frame(self, requests: list[Request]) -> bool:
        event = None if self._websocket is None else self._websocket.feed(self._buffer)
        if event is None:
            return False
        if isinstance(event, Message):
            self._take_message(event, requests)
        elif isinstance(event, Ping | Pong):
            self._take_control(event)
        else:
            code = NORMAL if event.code is None else event.code
            # Earlier requests are answered before our Close, as RFC 6455 §5.5.1 allows.
            self._pending_close = close_frame(code, event.reason)
            self._send_pending_close()
            self._end(Step.LAST)
        return True

    def _take_control(self, event: Ping | Pong) -> None:
        """Handle a ping or pong, with a limit: they cost their sender no more than 6 bytes."""
        if self._wire.control_budget is not None:
            if self._control_budget is None:
                self._control_budget = self._wire.control_budget()
            if not self._control_budget():
                raise ProtocolError("too many control frames", close_code=POLICY_VIOLATION)
        if isinstance(event, Ping):
            self._out.append(write_frame(Opcode.PONG, event.payload))

    def _take_message(self, message: Message, requests: list[Request]) -> None:
        payload = message.payload
        if self._budget is not None and payload and not self._budget():
            # Dropped unparsed, so its ID is unknown.
            refused = error("network.websocket.ratelimit_exceeded")
            dropped = Request(_WEBSOCKET, self._head, self._peer, refused=refused, has_room=False)
            self._give(dropped, 0, requests)
        elif is_ping(payload):
            self._out.append(write_frame(_TEXT, PONG))
        elif payload:  # an empty message is ignored
            request = from_websocket(
                payload, self._head, self._peer, self._wire.body_limits.json_values
            )
            self._give(request, len(payload), requests)

    def _skip_frames(self, requests: list[Request]) -> bool:
        """Skip frames after our Close, up to the peer's."""
        event = None if self._websocket is None else self._websocket.feed(self._buffer)
        if isinstance(event, Close):
            self._end(Step.LAST)
        return event is not None

    def _skip_all(self, requests: list[Request]) -> bool:
        self._buffer.take_all()
        return False

    def _break(self, broken: ProtocolError, requests: list[Request]) -> None:
        """Close the connection after a protocol error."""
        name = "request_too_large" if broken.status == 413 else "unexpected_error"
        refused = error(f"network.http.{name}", broken.reason, status=broken.status)
        self._refuse_last(refused, broken.close_code, broken.reason, requests)

    def _refuse_last(
        self, refused: ApiError, close_code: int, reason: str, requests: list[Request]
    ) -> None:
        """Close the connection with a Close frame, or with one last refused request."""
        if self._websocket is not None:
            if self.phase is _SOCKET:
                self._pending_close = close_frame(close_code, reason)
                self._send_pending_close()
        else:
            # With its own head, if known: a page can read the answer only by its `Origin`.
            last = Request(Origin.HTTP, self._head, self._peer, refused=refused)
            self._awaited.append(last)
            requests.append(last)
        self._end(Step.BROKEN)


# Each handler parses one item; it returns False if more bytes are needed.
_READERS = {
    State.HEAD: Connection._read_head,
    State.BODY: Connection._read_body,
    State.CHUNKS: Connection._read_chunks,
    State.SWITCHING: Connection._switch,
    State.SOCKET: Connection._read_frame,
    State.LEAVING: Connection._skip_frames,
    State.ENDING: Connection._skip_all,
}
