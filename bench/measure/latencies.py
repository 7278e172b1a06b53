"""A light load that keeps each latency with its time: for what is felt in a short moment.

A process of its own (`python -m bench.measure.latencies PORT TOKEN`). Each connection asks for
`/_me`, and again 5 to 15 ms after the answer; with `python -m bench.measure.latencies PORT TOKEN
logins` a few log in with the bench's password. Prints a line when it has begun; ends with its
stdin, and prints one JSON array of pairs: when a request was sent, in seconds of the machine's
clock, and its latency in ms.
"""

import heapq
import json
import random
import select
import socket
import sys
import time
from collections.abc import Sequence
from math import ceil

from bench.loads.http_client import WrongAnswer, connect, write_request
from bench.subject.subject import CREDENTIALS, LOGIN_PATH

BEGUN = "begun"
LOGINS = "logins"
_CONNECTIONS = 64
_LOGIN_CONNECTIONS = 4  # so many that they leave most of a core, where hashing is cheap
_REST_S = (0.005, 0.015)
_LONGEST_ANSWER_BYTES = 65536


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that this share of all does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def run(connections: list[socket.socket], request: bytes) -> list[tuple[float, float]]:
    """Ask until stdin ends."""
    poll = select.epoll()
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    by_fd = {connection.fileno(): connection for connection in connections}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    chance, taken, sent_s = random.Random(7), [], {}
    due = [(time.monotonic() + chance.uniform(*_REST_S), fd) for fd in by_fd]
    heapq.heapify(due)
    while True:
        while due and due[0][0] <= time.monotonic():
            _, fd = heapq.heappop(due)
            sent_s[fd] = time.monotonic()
            by_fd[fd].sendall(request)
        wait_s = max(0.0, due[0][0] - time.monotonic()) if due else None
        for fd, _ in poll.poll(wait_s):
            if fd == sys.stdin.fileno():
                return taken
            answer = by_fd[fd].recv(_LONGEST_ANSWER_BYTES)
            now_s = time.monotonic()
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"}"):
                raise WrongAnswer(f"not an answer in one piece: {answer[:80]!r}")
            taken.append((sent_s[fd], (now_s - sent_s[fd]) * 1000))
            heapq.heappush(due, (now_s + chance.uniform(*_REST_S), fd))


def main() -> None:
    """Open the connections and ask."""
    port, token = int(sys.argv[1]), sys.argv[2]
    request, count = write_request("GET", "/_me", token=token), _CONNECTIONS
    if sys.argv[3:] == [LOGINS]:
        request, count = write_request("POST", LOGIN_PATH, body=CREDENTIALS), _LOGIN_CONNECTIONS
    connections = [connect(port) for _ in range(count)]
    print(BEGUN, flush=True)
    print(json.dumps(run(connections, request)))


if __name__ == "__main__":
    main()
