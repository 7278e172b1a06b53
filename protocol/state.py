"""Connection states and their transition table."""

from enum import Enum


class Phase(Enum):
    """State of a connection: what the next received byte belongs to."""

    __hash__ = object.__hash__  # that of Enum is not compiled

    HEAD = "a request's head"
    BODY = "a body of known length"
    CHUNKS = "a chunked body"
    SWITCHING = "WebSocket frames, once the answers before the handshake are sent"
    SOCKET = "WebSocket frames"
    LEAVING = "nothing: WebSocket frames up to the peer's Close are skipped"
    ENDING = "nothing: the last answers are sent, then the connection is closed"


class Step(Enum):
    """Event that moves a connection from phase to phase."""

    __hash__ = object.__hash__  # that of Enum is not compiled

    LENGTH = "a head announces a body of known length"
    CHUNKED = "a head announces a chunked body"
    WHOLE = "a message is complete"
    HANDSHAKE = "a head requests a WebSocket"
    LAST = "the client or the server makes this the last request"
    BROKEN = "the peer violated the protocol or disconnected"
    LEAVE = "the server closes a WebSocket"


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.HEAD, Step.LENGTH): Phase.BODY,
    (Phase.HEAD, Step.CHUNKED): Phase.CHUNKS,
    (Phase.HEAD, Step.WHOLE): Phase.HEAD,
    (Phase.HEAD, Step.HANDSHAKE): Phase.SWITCHING,
    (Phase.HEAD, Step.LAST): Phase.ENDING,
    (Phase.BODY, Step.WHOLE): Phase.HEAD,
    (Phase.BODY, Step.LAST): Phase.ENDING,
    (Phase.CHUNKS, Step.WHOLE): Phase.HEAD,
    (Phase.CHUNKS, Step.LAST): Phase.ENDING,
    (Phase.SWITCHING, Step.WHOLE): Phase.SOCKET,
    (Phase.SOCKET, Step.LEAVE): Phase.LEAVING,
    (Phase.SOCKET, Step.LAST): Phase.ENDING,
    (Phase.LEAVING, Step.LAST): Phase.ENDING,
    **{(phase, Step.BROKEN): Phase.ENDING for phase in Phase},
}
