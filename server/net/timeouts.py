"""Deadlines of connections."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take, in seconds: for a request's head from its first byte, for its body,
    between requests, between frames of a WebSocket, to take what is sent to him; `grace_s` for
    everybody at the end.

    With `pong_s` a WebSocket silent for `socket_s` is sent a ping, and may be silent for so long
    again; with `renews_on_push` what it is sent counts like what it says.
    """

    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 60.0
    socket_s: float = 60.0
    write_s: float = 30.0
    grace_s: float = 10.0
    pong_s: float = 0.0
    renews_on_push: bool = False
