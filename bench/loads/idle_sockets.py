"""Many WebSockets that each use a token and then only listen, until all heard that it has ended.

A process of its own (`python -m bench.loads.idle_sockets PORT`), which reads one token per socket
from stdin, a line each. Prints a line when all sockets are linked and, when all were told, one JSON
object: when the first and the last heard of it, on the clock of the whole machine. It then reads
only while nobody else on its core has anything to do.
"""

import json
import os
import select
import socket
import sys
import time

from bench.loads.http_client import WrongAnswer, ask_websocket, frame_payload, open_websocket
from bench.subject.sample import REQUEST_ID, me_message
from bench.subject.stage import raise_open_files

LINKED = "linked"
_ALL_HEAR_WITHIN_S = 20.0
_LONGEST_MESSAGE_BYTES = 4096


def main() -> None:
    """Link a socket to each token, then wait for the ends."""
    raise_open_files()
    port = int(sys.argv[1])
    sockets = [_link(port, token) for token in sys.stdin.read().split()]
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    print(LINKED, flush=True)
    first_s, last_s = hear(sockets)
    print(json.dumps({"first_s": first_s, "last_s": last_s}))


def _link(port: int, token: str) -> socket.socket:
    opened = open_websocket(port)
    answer = json.loads(frame_payload(ask_websocket(opened, me_message(token, REQUEST_ID))))
    if answer.get("status") != 200:
        raise WrongAnswer(f"not linked: {answer}")
    return opened


def hear(sockets: list[socket.socket]) -> tuple[float, float]:
    """Give when the first and the last socket heard that its token has ended."""
    poll = select.epoll()
    waiting = {opened.fileno(): opened for opened in sockets}
    for fd in waiting:
        poll.register(fd, select.EPOLLIN)
    first_s = last_s = 0.0
    while waiting:
        events = poll.poll(_ALL_HEAR_WITHIN_S if first_s else None)
        if not events:
            raise WrongAnswer(f"{len(waiting)} sockets were not told")
        for fd, _ in events:
            check_told(waiting.pop(fd).recv(_LONGEST_MESSAGE_BYTES))
            poll.unregister(fd)
        last_s = time.monotonic()
        first_s = first_s or last_s
    return first_s, last_s


def check_told(frame: bytes) -> None:
    """Raise WrongAnswer unless this is one whole notification of a token's end."""
    is_whole = len(frame) > 4 and frame[:2] == b"\x81\x7e"
    if not is_whole or len(frame) != 4 + int.from_bytes(frame[2:4], "big"):
        raise WrongAnswer(f"not one notification: {frame!r}")
    told = json.loads(frame[4:])
    if (told.get("type"), told.get("status")) != ("TokenExpired", 200):
        raise WrongAnswer(f"another notification: {told}")


if __name__ == "__main__":
    main()
