"""`python -m bench.extra.parse`: what reading a request and writing its answer cost, without a
socket.

`protocol/` alone, in this process, on one core: no loop, no dispatch, no storage.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

from bench.loads.http_client import HANDSHAKE, write_text_frame
from bench.subject.sample import REQUEST_ID, me_message
from bench.subject.stage import pinned, split_cores
from protocol.api.request import Request, Response
from protocol.config import ConnectionConfig, Match
from protocol.connection import Connection

_ROUNDS = 7
_TIMES = 10_000
_DIFFERENT = 64
_TOKEN = "e" * 220  # a session token's length
_USER = {
    "_id": "bench",
    "_source": {"profileIds": ["admin"], "name": "Bench"},
    "strategies": ["local"],
}


class _OneRoute:
    """A route table in which every path leads to the current user."""

    def match(self, verb: str, path: str) -> Match:
        """Find the one action there is."""
        return Match("auth", "getCurrentUser", {})


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds per request: to read it, and to write its answer."""

    read_us: float
    write_us: float


def http_request(number: int) -> bytes:
    """Give a request as a client's library sends it; each number gives another head."""
    return (
        f"GET /_me?page={number} HTTP/1.1\r\nHost: localhost:7512\r\nAccept: application/json\r\n"
        f"User-Agent: bench\r\nAuthorization: Bearer {_TOKEN}\r\nConnection: keep-alive\r\n\r\n"
    ).encode()


def websocket_message(number: int) -> bytes:
    """Give a frame that asks for the same; each number gives another id and another mask."""
    return write_text_frame(me_message(_TOKEN, f"{number:036x}"), number.to_bytes(4, "big"))


def measure(connection: Connection, inputs: Sequence[bytes]) -> Cost:
    """Feed a connection with the inputs in turn and answer each request: medians of all rounds."""
    read_s, write_s = [], []
    for _ in range(_ROUNDS):
        spent = [0.0, 0.0]
        for data in islice(cycle(inputs), _TIMES):
            began_s = time.perf_counter()
            request = connection.receive(data)[0]
            read_at_s = time.perf_counter()
            connection.send(request, _answer(request))
            connection.bytes_to_send()
            spent[0] += read_at_s - began_s
            spent[1] += time.perf_counter() - read_at_s
        read_s.append(spent[0])
        write_s.append(spent[1])
    return Cost(1e6 * median(read_s) / _TIMES, 1e6 * median(write_s) / _TIMES)


def _answer(request: Request) -> Response:
    return Response(REQUEST_ID, result=_USER, controller="auth", action="getCurrentUser")


def main() -> None:
    """Print the costs."""
    wire = ConnectionConfig(_OneRoute(), "bench")
    wire.set_date("Sun, 06 Nov 1994 08:49:37 GMT")
    websocket = Connection(wire)
    websocket.receive(HANDSHAKE)
    websocket.bytes_to_send()
    numbers = range(_DIFFERENT)
    cases = (
        ("HTTP, the same head again", Connection(wire), [http_request(0)]),
        ("HTTP, another head each time", Connection(wire), [http_request(n) for n in numbers]),
        ("WebSocket message", websocket, [websocket_message(n) for n in numbers]),
    )
    print(f"{'µs per request':30} {'read':>7} {'write':>7}")
    with pinned(split_cores(os.sched_getaffinity(0)).server):
        for name, connection, inputs in cases:
            cost = measure(connection, inputs)
            print(f"{name:30} {cost.read_us:7.2f} {cost.write_us:7.2f}")


if __name__ == "__main__":
    main()
