"""Metrics and statistics frames of a running server.

Counting a request costs an addition or two; the rest is computed on demand. Each process counts its
own requests. The number of open connections comes from the listener.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from protocol.api.request import Json, Origin
from server.config.model import MOST_FRAMES
from server.core.limit_counters import LimitCounters
from server.net.listener import Connections

Frame = dict[str, Json]


@dataclass(slots=True)
class RequestCounter:
    """The requests of one protocol: completed and failed since the frame began, and those in
    progress."""

    completed: int = 0
    failed: int = 0
    ongoing: int = 0


class Counting:
    """The counters of one server and its last frames, at most `frames`, oldest first.

    The dispatcher adds to `tallies`; a timer calls `close_frame`.
    """

    def __init__(self, *, frames: int, clock_ms: Callable[[], int]) -> None:
        self.tallies = {origin: RequestCounter() for origin in Origin}
        self.limits = LimitCounters()
        self._clock_ms = clock_ms
        self._frames: deque[tuple[int, Frame]] = deque(maxlen=min(frames, MOST_FRAMES))
        self._count_connections: Callable[[], Connections] = Connections

    def watch(self, count_connections: Callable[[], Connections]) -> None:
        """Set the function that returns the number of open connections."""
        self._count_connections = count_connections

    def close_frame(self) -> None:
        """Store the present frame and begin the next one."""
        frame, now_ms = self._read_frame()
        self._frames.append((now_ms, frame))
        for tally in self.tallies.values():
            tally.completed = tally.failed = 0

    async def close_frames(self, every_s: float) -> None:
        """Close frames until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            self.close_frame()

    def last(self) -> Frame:
        """Return the last closed frame; before there is one, the present frame."""
        return self._frames[-1][1] if self._frames else self._read_frame()[0]

    def between(self, start_ms: float, stop_ms: float) -> list[Frame]:
        """Return the frames closed within this time, both ends included, and the present frame too
        when now lies within it."""
        present, now_ms = self._read_frame()
        stamped = [*self._frames, (now_ms, present)]
        return [frame for at_ms, frame in stamped if start_ms <= at_ms <= stop_ms]

    def metrics(self) -> Json:
        """Return the current metrics, as `server:metrics` shows them. Requests are never queued
        here, and there are no realtime rooms."""
        open_now = self._count_connections()
        ongoing = sum(tally.ongoing for tally in self.tallies.values())
        return {
            "api": {"concurrentRequests": ongoing, "pendingRequests": 0},
            "limits": {**self.limits.to_dict()},
            "network": {
                "connections": {"http/1.1": open_now.http, "websocket": open_now.websocket}
            },
            "realtime": {"rooms": 0, "subscriptions": 0},
        }

    def _read_frame(self) -> tuple[Frame, int]:
        now_ms, open_now = self._clock_ms(), self._count_connections()
        named = [(origin.value, tally) for origin, tally in self.tallies.items()]
        return {
            "completedRequests": {name: tally.completed for name, tally in named},
            "connections": {"HTTP/1.1": open_now.http, "websocket": open_now.websocket},
            "failedRequests": {name: tally.failed for name, tally in named},
            "ongoingRequests": {name: tally.ongoing for name, tally in named},
            "timestamp": now_ms,
        }, now_ms
