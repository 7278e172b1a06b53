"""Peers nobody wants, for as long as somebody listens (`python -m bench.loads.hostile_clients KIND
PORT`).

Prints a line when all are there, and ends with its stdin; then one JSON object says how many were
let go meanwhile. It runs only while nobody else on its core has anything to do.
"""

import json
import os
import select
import socket
import sys
import time
from dataclasses import dataclass, field

from bench.loads.http_client import connect, open_websocket, write_request, write_text_frame
from bench.measure.latencies import BEGUN
from bench.subject.stage import raise_open_files

_MASK = b"\0\0\0\0"
_BURST_BYTES = 2**18
_READ_BYTES = 2**20
_BETWEEN_S = 0.5  # bytes of a slow peer
_MOST_IDLE = 10_000
_SLOW = 1000
_SPARE_FILES = 300


def _repeated(piece: bytes) -> bytes:
    return piece * (_BURST_BYTES // len(piece))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of peers: how many, whether WebSockets, what each sends and how often, and whether
    it reads. Nothing to send is idling."""

    count: int
    is_socket: bool
    sends: bytes
    every_s: float = 0.0
    reads: bool = True


_GET = write_request("GET", "/_serverInfo")
_PING = b"\x89\x80" + _MASK
_FRAGMENTS = b"\x01\x80" + _MASK + (b"\x00\x80" + _MASK) * 100 + b"\x80\x80" + _MASK
KINDS = {
    "idle sockets": Kind(_MOST_IDLE, True, b""),
    "slow heads": Kind(_SLOW, False, b"G", _BETWEEN_S),
    "pings": Kind(1, True, _repeated(_PING)),
    "the API's pings": Kind(1, True, _repeated(write_text_frame(b'{"p":1}', _MASK))),
    "empty fragments": Kind(1, True, _repeated(_FRAGMENTS)),
    "a pipeline": Kind(1, False, _repeated(_GET)),
    "never reads": Kind(1, False, _repeated(_GET), reads=False),
}


@dataclass
class Crowd:
    """The peers of one kind; who is let go comes back."""

    kind: Kind
    port: int
    dropped: int = 0
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    unsent: dict[int, bytes] = field(default_factory=dict)

    def open(self) -> int:
        """Open one more, and give its descriptor."""
        opened = open_websocket(self.port) if self.kind.is_socket else connect(self.port)
        opened.setblocking(False)
        self.sockets[opened.fileno()] = opened
        return opened.fileno()

    def run(self) -> int:
        """Go on until stdin ends; give how many were let go."""
        poll = select.epoll()
        poll.register(sys.stdin.fileno(), select.EPOLLIN)
        events = (select.EPOLLIN if self.kind.reads else 0) | select.EPOLLRDHUP
        if self.kind.sends and not self.kind.every_s:
            events |= select.EPOLLOUT
        for _ in range(self.kind.count):
            poll.register(self.open(), events)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        print(BEGUN, flush=True)
        due_s = time.monotonic()
        while True:
            for fd, event in poll.poll(self.kind.every_s or None):
                if fd == sys.stdin.fileno():
                    return self.dropped
                if not self._serve(fd, event):
                    self.dropped += 1
                    self.sockets.pop(fd).close()
                    self.unsent.pop(fd, None)
                    poll.register(self.open(), events)
            if self.kind.every_s and time.monotonic() >= due_s:
                due_s = time.monotonic() + self.kind.every_s
                for fd in list(self.sockets):
                    self._send(fd)

    def _serve(self, fd: int, event: int) -> bool:
        """Read and send; False once the server lets it go."""
        if event & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
            return False
        if event & select.EPOLLIN and not self._read(fd):
            return False
        return not event & select.EPOLLOUT or self._send(fd)

    def _read(self, fd: int) -> bool:
        try:
            return bool(self.sockets[fd].recv(_READ_BYTES))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _send(self, fd: int) -> bool:
        data = self.unsent.get(fd) or self.kind.sends
        try:
            self.unsent[fd] = data[self.sockets[fd].send(data) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def main() -> None:
    """Be one kind of peers."""
    most = raise_open_files() - _SPARE_FILES
    kind = KINDS[sys.argv[1]]
    if kind.count > most:
        kind = Kind(most, kind.is_socket, kind.sends, kind.every_s, kind.reads)
    print(json.dumps({"dropped": Crowd(kind, int(sys.argv[2])).run()}))


if __name__ == "__main__":
    main()
