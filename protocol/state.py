"""Connection states and their transition table."""

from enum import Enum


class State(Enum):
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


NEXT: dict[tuple[State, Step], State] = {
    (State.HEAD, Step.LENGTH): State.BODY,
    (State.HEAD, Step.CHUNKED): State.CHUNKS,
    (State.HEAD, Step.WHOLE): State.HEAD,
    (State.HEAD, Step.HANDSHAKE): State.SWITCHING,
    (State.HEAD, Step.LAST): State.ENDING,
    (State.BODY, Step.WHOLE): State.HEAD,
    (State.BODY, Step.LAST): State.ENDING,
    (State.CHUNKS, Step.WHOLE): State.HEAD,
    (State.CHUNKS, Step.LAST): State.ENDING,
    (State.SWITCHING, Step.WHOLE): State.SOCKET,
    (State.SOCKET, Step.LEAVE): State.LEAVING,
    (State.SOCKET, Step.LAST): State.ENDING,
    (State.LEAVING, Step.LAST): State.ENDING,
    **{(phase, Step.BROKEN): State.ENDING for phase in State},
}
