"""WebSocket load: N connections, one message in flight on each, every answer checked for its size and its id.

A process of its own (`python -m bench.ws_load PORT CONNECTIONS SECONDS`), so that it can have a core of its own. It
talks to the sockets through epoll itself: per message that is one `recv`, one `send` and a few comparisons, which an
event loop would double. Prints one JSON object: answers, seconds, p50_us, p99_us.
"""

import json
import random
import select
import socket
import sys
import time
from dataclasses import dataclass

from bench.client import WrongAnswer, ask_websocket, open_websocket, write_text_frame
from bench.sample import me_message, read_sample

# So many different ids and masks that no server can live on having seen the same bytes before.
_DIFFERENT = 2048
_LONGEST_ANSWER = 65536


@dataclass(slots=True)
class _Talk:
    """One connection: the message in flight is number `at`; `held` is the part of its answer that has come."""

    socket: socket.socket
    at: int
    sent_at_s: float = 0.0
    held: bytes = b""


def build_messages(token: str) -> list[tuple[bytes, bytes]]:
    """Give pairs of a request id and the masked frame that carries it."""
    chance = random.Random(7)
    pairs = []
    for number in range(_DIFFERENT):
        request_id = f"{number:08x}-0000-4000-8000-{chance.getrandbits(48):012x}"
        frame = write_text_frame(me_message(token, request_id), chance.randbytes(4))
        pairs.append((request_id.encode(), frame))
    return pairs


def run(
    talks: list[_Talk],
    messages: list[tuple[bytes, bytes]],
    head: bytes,
    size: int,
    duration_s: float,
    ids: bool,
) -> dict[str, float]:
    """Keep every connection busy for `duration_s`; every answer must be `size` bytes and begin with `head`.

    `ids` tells whether the answers carry the message's own id (the constant responder's do not).
    """
    poll = select.epoll()
    by_fd = {talk.socket.fileno(): talk for talk in talks}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    clock, latencies_s, wanted = time.perf_counter, [], messages
    start_s = clock()
    for talk in talks:
        talk.sent_at_s = clock()
        talk.socket.send(messages[talk.at][1])
    end_s = start_s + duration_s
    now_s = start_s
    while now_s < end_s:
        events = poll.poll(1.0)
        now_s = clock()
        for fd, _ in events:
            talk = by_fd[fd]
            data = talk.socket.recv(_LONGEST_ANSWER)
            if len(data) != size:
                data = talk.held + data
                if data and len(data) < size:
                    talk.held = data
                    continue
                talk.held = b""
            if len(data) != size or not data.startswith(head):
                raise WrongAnswer(f"{len(data)} bytes instead of {size}: {data[:60]!r}")
            if ids and wanted[talk.at][0] not in data:
                raise WrongAnswer("an answer to another message")
            latencies_s.append(now_s - talk.sent_at_s)
            talk.at = (talk.at + 1) % _DIFFERENT
            talk.sent_at_s = now_s
            talk.socket.send(wanted[talk.at][1])
    latencies_s.sort()
    return {
        "answers": len(latencies_s),
        "seconds": now_s - start_s,
        "p50_us": 1e6 * latencies_s[len(latencies_s) // 2],
        "p99_us": 1e6 * latencies_s[len(latencies_s) * 99 // 100],
    }


def main() -> None:
    """Open the connections, learn the shape of an answer from the first, then run."""
    port, connections, duration_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    sample = read_sample()
    messages = build_messages(sample.token)
    talks = [
        _Talk(open_websocket(port), number * _DIFFERENT // connections)
        for number in range(connections)
    ]
    request_id = messages[0][0]
    answer = ask_websocket(talks[0].socket, me_message(sample.token, request_id.decode()))
    head = answer[: 4 if answer[1] == 126 else 2]
    for talk in talks:
        talk.socket.setblocking(False)
    print(json.dumps(run(talks, messages, head, len(answer), duration_s, request_id in answer)))


if __name__ == "__main__":
    main()
