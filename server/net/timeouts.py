"""Connection timeouts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of a peer, in seconds: for a request's head from its first byte, for its body,
    between requests, between frames of a WebSocket, to read what is sent to it; `grace_s` is the
    graceful shutdown timeout.

    With `pong_s` a WebSocket idle for `socket_s` is sent a ping, and may be idle for that time
    again; with `renews_on_push` notifications reset the idle timeout too.
    """

    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 60.0
    socket_s: float = 60.0
    write_s: float = 30.0
    grace_s: float = 10.0
    pong_s: float = 0.0
    renews_on_push: bool = False
