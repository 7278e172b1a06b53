"""One connection: bytes received → requests, answers → bytes to send, on one table of phases.

HTTP answers leave in the order of their requests (RFC 9112 §9.3.2), WebSocket answers when they are ready. What breaks
the protocol becomes one last request, refused, so that it is answered behind the valid ones before it.
"""

from collections import deque
from enum import Enum

import orjson

from protocol.answers import Wire, write_answer, write_upgrade
from protocol.buffer import Buffer
from protocol.chunks import ChunkedBody
from protocol.errors import ProtocolError, error
from protocol.frames import Opcode, write_frame
from protocol.http11 import BARE, CONTINUE, HEAD_END, Head, parse_head
from protocol.messages import (
    Connected,
    Origin,
    Request,
    Response,
    from_http,
    from_websocket,
    write_envelope,
)
from protocol.websocket import (
    NORMAL,
    Close,
    Message,
    Ping,
    WebSocket,
    accept_handshake,
    close_frame,
    is_upgrade,
)


class Phase(Enum):
    """What the next byte received belongs to."""

    HEAD = "a request's head"
    BODY = "a body of known length"
    CHUNKS = "a chunked body"
    SOCKET = "WebSocket frames"
    LEAVING = "nothing: WebSocket frames up to the peer's Close are skipped"
    ENDING = "nothing: the last answers leave, then the connection ends"


class Step(Enum):
    """What moves a connection from phase to phase."""

    LENGTH = "a head announces a body of known length"
    CHUNKED = "a head announces a chunked body"
    WHOLE = "a message is whole"
    UPGRADE = "a handshake is accepted"
    LAST = "the client or we want this to be the last request"
    BROKEN = "the peer broke the protocol or is gone"
    LEAVE = "we close a WebSocket"


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.HEAD, Step.LENGTH): Phase.BODY,
    (Phase.HEAD, Step.CHUNKED): Phase.CHUNKS,
    (Phase.HEAD, Step.WHOLE): Phase.HEAD,
    (Phase.HEAD, Step.UPGRADE): Phase.SOCKET,
    (Phase.HEAD, Step.LAST): Phase.ENDING,
    (Phase.BODY, Step.WHOLE): Phase.HEAD,
    (Phase.BODY, Step.LAST): Phase.ENDING,
    (Phase.CHUNKS, Step.WHOLE): Phase.HEAD,
    (Phase.CHUNKS, Step.LAST): Phase.ENDING,
    (Phase.SOCKET, Step.LEAVE): Phase.LEAVING,
    (Phase.SOCKET, Step.LAST): Phase.ENDING,
    (Phase.LEAVING, Step.LEAVE): Phase.LEAVING,
    (Phase.LEAVING, Step.LAST): Phase.ENDING,
    (Phase.ENDING, Step.LAST): Phase.ENDING,
    (Phase.ENDING, Step.LEAVE): Phase.ENDING,
    **{(phase, Step.BROKEN): Phase.ENDING for phase in Phase},
}

_PING, _PONG = {"p": 1}, b'{"p":2}'
_PING_MOST_BYTES = 32

# What answers a request whose own head can't be trusted.
_NO_HEAD = Head(
    method="",
    path="",
    query="",
    headers={},
    content_length=0,
    keep_alive=False,
    is_http10=False,
    expects_continue=False,
    is_plain=False,
)


class Connection:
    """The protocol side of one socket. `phase` tells what is awaited of the peer."""

    __slots__ = (
        "_awaited",
        "_buffer",
        "_chunked",
        "_early",
        "_head",
        "_last_raw",
        "_last_request",
        "_out",
        "_owes_continue",
        "_peer",
        "_skipped_line",
        "_wire",
        "_websocket",
        "phase",
    )

    def __init__(self, wire: Wire, peer: Connected | None = None) -> None:
        self.phase = Phase.HEAD
        self._wire = wire
        self._peer = peer
        self._buffer = Buffer()
        self._out: list[bytes] = []
        self._awaited: deque[Request] = deque()  # taken and not yet answered, in order
        self._early: dict[Request, bytes] = {}  # HTTP answers that wait for earlier ones
        self._head: Head = _NO_HEAD  # of the request being received, then of the upgrade
        self._chunked: ChunkedBody | None = None
        self._websocket: WebSocket | None = None
        self._owes_continue = False
        self._skipped_line = False
        self._last_raw = b""
        self._last_request: Request | None = None

    def receive(self, data: bytes) -> list[Request]:
        """Take received bytes (b"" to go on with what is held) and give the requests they complete."""
        if (
            data == self._last_raw
            and self._last_request is not None
            and not self._awaited
            and not self._buffer
            and self.phase is Phase.HEAD
        ):
            # The same head on an idle connection is the same request: nothing of it is read again.
            self._awaited.append(self._last_request)
            return [self._last_request]
        self._buffer.append(data)
        requests: list[Request] = []
        try:
            while len(self._awaited) < self._wire.in_flight and self._advance(requests):
                pass
        except ProtocolError as broken:
            self._break(broken, requests)
        return requests

    @property
    def is_full(self) -> bool:
        """Whether answers must leave before more is read."""
        return len(self._awaited) >= self._wire.in_flight

    @property
    def holds_input(self) -> bool:
        """Whether bytes are held that a further `receive(b"")` may understand."""
        return len(self._buffer) > 0

    @property
    def is_finished(self) -> bool:
        """Whether the connection can be closed once what is to be sent has left."""
        return self.phase is Phase.ENDING and not self._awaited

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self.phase is Phase.HEAD and not self._awaited and not self._buffer

    @property
    def awaits_answers(self) -> bool:
        """Whether requests were taken whose answers have not been sent."""
        return bool(self._awaited)

    def send(self, request: Request, response: Response) -> None:
        """Answer a request that `receive` gave; each is answered once."""
        if request.origin is Origin.WEBSOCKET:
            if self.phase is Phase.SOCKET:
                self._awaited.remove(request)
                envelope = write_envelope(request, response, self._wire.node)
                self._out.append(write_frame(Opcode.TEXT, envelope))
            return
        awaited = self._awaited
        closes = not request.head.keep_alive or self.phase is Phase.ENDING and awaited[-1] is request
        answer = write_answer(request, response, self._wire, closes=closes)
        if awaited[0] is not request:
            self._early[request] = answer
            return
        awaited.popleft()
        self._out.append(answer)
        while awaited and self._early and (ready := self._early.pop(awaited[0], None)) is not None:
            awaited.popleft()
            self._out.append(ready)
        if self._owes_continue and not awaited:
            self._owes_continue = False
            self._out.append(CONTINUE)

    def push(self, text: bytes) -> None:
        """Send a text message nobody asked for; nothing unless this is an open WebSocket."""
        if self.phase is Phase.SOCKET:
            self._out.append(write_frame(Opcode.TEXT, text))

    def bytes_to_send(self) -> bytes:
        """Give what is to be written now, once."""
        out = self._out
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    def eof(self) -> None:
        """The peer sends no more; what he asked for is still answered (RFC 9112 §9.6)."""
        self._buffer.take_all()
        if self._websocket is not None:
            self._awaited.clear()
        self.phase = NEXT[self.phase, Step.BROKEN]

    def finish(self) -> None:
        """Take no further request; a WebSocket is closed with 1001, HTTP ends after its answers."""
        self.close(1001, "shutting down")
        if self.phase is not Phase.LEAVING:
            self.phase = NEXT[self.phase, Step.BROKEN]

    def close(self, code: int, reason: str) -> None:
        """Begin to close a WebSocket with this code; nothing for other connections."""
        if self.phase is Phase.SOCKET:
            self._out.append(close_frame(code, reason))
            self.phase = NEXT[self.phase, Step.LEAVE]

    def _advance(self, requests: list[Request]) -> bool:
        """Understand one more thing; False when more bytes are needed first."""
        return _READERS[self.phase](self, requests)

    def _take_request(self, body: bytes, requests: list[Request]) -> Request:
        wire, head = self._wire, self._head
        request = from_http(head, body, wire.routes, wire.body_limits, self._peer)
        self._owes_continue = False
        self._awaited.append(request)
        requests.append(request)
        self.phase = NEXT[self.phase, Step.WHOLE if head.keep_alive else Step.LAST]
        return request

    def _read_head(self, requests: list[Request]) -> bool:
        buffer = self._buffer
        if not self._skipped_line and buffer.peek(2) == b"\r\n":
            # RFC 9112 §2.2: one empty line before a request is an old client's habit.
            buffer.take(2)
            self._skipped_line = True
        raw = buffer.take_through(HEAD_END)
        if raw is None:
            self._check_partial_head()
            return False
        if raw == self._last_raw and self._last_request is not None:
            self._head = self._last_request.head
        else:
            self._check_head_size(len(raw), raw.find(b"\r\n"))
            self._head = parse_head(raw, self._wire.head_limits)
        self._skipped_line = False
        if is_upgrade(self._head) and self._wire.websocket_enabled:
            return self._upgrade(raw)
        if self._head.has_body:
            self._expect_body(self._head)
            return True
        request = self._take_request(b"", requests)
        if request.refused is None:
            self._last_raw, self._last_request = raw, request
        return True

    def _check_partial_head(self) -> None:
        held = self._buffer
        if held.holds_new(BARE):
            raise ProtocolError("bare CR, LF or NUL in a head")
        self._check_head_size(len(held), held.find(b"\r\n"))

    def _check_head_size(self, size: int, line_end: int) -> None:
        limits = self._wire.head_limits
        if size <= limits.target_bytes:
            return
        if line_end < 0 or line_end > limits.target_bytes + 32:
            raise ProtocolError("request target too long", status=414)
        if size > limits.head_bytes:
            raise ProtocolError("head too large", status=431)

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
                self._owes_continue = True  # its place is behind the answers before it
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

    def _upgrade(self, raw: bytes) -> bool:
        fields = accept_handshake(self._head)
        if self._awaited:
            # The switch takes effect behind the answers before it: wait for them, then read this again.
            self._buffer.put_back(raw)
            return False
        self._out.append(write_upgrade(fields))
        self._websocket = WebSocket(self._wire.message_limits)
        self.phase = NEXT[self.phase, Step.UPGRADE]
        self._last_raw, self._last_request = b"", None
        return True

    def _read_frame(self, requests: list[Request]) -> bool:
        event = None if self._websocket is None else self._websocket.feed(self._buffer)
        if event is None:
            return False
        if isinstance(event, Message):
            self._take_message(event.payload, requests)
        elif isinstance(event, Ping):
            self._out.append(write_frame(Opcode.PONG, event.payload))
        else:
            self._answer_close(event)
        return True

    def _take_message(self, payload: bytes, requests: list[Request]) -> None:
        if not payload:
            return
        if len(payload) <= _PING_MOST_BYTES and _is_ping(payload):
            self._out.append(write_frame(Opcode.TEXT, _PONG))
            return
        request = from_websocket(payload, self._head, self._peer)
        self._awaited.append(request)
        requests.append(request)

    def _answer_close(self, event: Close) -> None:
        self._out.append(close_frame(NORMAL if event.code is None else event.code, event.reason))
        self._awaited.clear()
        self.phase = NEXT[self.phase, Step.LAST]

    def _skip_frames(self, requests: list[Request]) -> bool:
        """After our Close only the peer's is of interest."""
        event = None if self._websocket is None else self._websocket.feed(self._buffer)
        if isinstance(event, Close):
            self._awaited.clear()
            self.phase = NEXT[self.phase, Step.LAST]
        return event is not None

    def _skip_all(self, requests: list[Request]) -> bool:
        self._buffer.take_all()
        return False

    def _break(self, broken: ProtocolError, requests: list[Request]) -> None:
        """End the connection for the peer's fault: a Close frame, or one last refused request."""
        if self._websocket is not None:
            if self.phase is Phase.SOCKET:
                self._out.append(close_frame(broken.close_code, str(broken)))
            self._awaited.clear()
        else:
            name = "request_too_large" if broken.status == 413 else "unexpected_error"
            refused = error(f"network.http.{name}", str(broken), status=broken.status)
            request = Request(Origin.HTTP, _NO_HEAD, self._peer, refused=refused)
            self._awaited.append(request)
            requests.append(request)
        self._buffer.take_all()
        self.phase = NEXT[self.phase, Step.BROKEN]


def _is_ping(payload: bytes) -> bool:
    """Tell the SDK's keep-alive message (contract/01 §7) from a request."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return message == _PING and message["p"] is not True


_READERS = {
    Phase.HEAD: Connection._read_head,
    Phase.BODY: Connection._read_body,
    Phase.CHUNKS: Connection._read_chunks,
    Phase.SOCKET: Connection._read_frame,
    Phase.LEAVING: Connection._skip_frames,
    Phase.ENDING: Connection._skip_all,
}
