"""WebSocket load: N connections, one message in flight on each, every answer checked.

A process of its own (`python -m bench.loads.websocket_load PORT CONNECTIONS SECONDS`), so that it
can have a core of its own. It talks to the sockets through epoll itself: per message that is one
`recv`, one
`send` and a few comparisons, which an event loop would double. Prints one JSON object.
"""

import json
import random
import select
import socket
import sys
import time
from dataclasses import dataclass

from bench.loads.http_client import WrongAnswer, ask_websocket, open_websocket, write_text_frame
from bench.subject.sample import me_message, read_sample

# So many different ids and masks that no server can live on having seen the same bytes before.
_DIFFERENT = 2048
_LONGEST_ANSWER_BYTES = 65536
_SILENCE_S = 5.0


@dataclass(slots=True)
class Talk:
    """One connection: message number `at` is in flight, `held` is what came of its answer."""

    socket: socket.socket
    at: int
    held: bytes = b""


@dataclass(frozen=True, slots=True)
class Shape:
    """What all answers have in common; `has_id` is False for a constant, which has none of ours."""

    head: bytes
    size: int
    has_id: bool

    def check(self, answer: bytes, request_id: bytes) -> None:
        """Raise WrongAnswer for an answer of another shape or to another message."""
        if len(answer) != self.size or not answer.startswith(self.head):
            raise WrongAnswer(f"{len(answer)} bytes, not {self.size}: {answer[:60]!r}")
        if self.has_id and request_id not in answer:
            raise WrongAnswer(f"an answer to another message: {answer!r}")


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
    talks: list[Talk], messages: list[tuple[bytes, bytes]], shape: Shape, duration_s: float
) -> int:
    """Keep every connection busy for `duration_s` and give the number of answers."""
    poll = select.epoll()
    by_fd = {talk.socket.fileno(): talk for talk in talks}
    for fd, talk in by_fd.items():
        poll.register(fd, select.EPOLLIN)
        talk.socket.send(messages[talk.at][1])
    size, check, answers = shape.size, shape.check, 0
    end_s = time.perf_counter() + duration_s
    while time.perf_counter() < end_s:
        events = poll.poll(_SILENCE_S)
        if not events:
            raise WrongAnswer(f"no answer within {_SILENCE_S} s")
        for fd, _ in events:
            talk = by_fd[fd]
            data = talk.socket.recv(_LONGEST_ANSWER_BYTES)
            if len(data) != size:
                data = talk.held + data
                if data and len(data) < size:
                    talk.held = data
                    continue
                talk.held = b""
            check(data, messages[talk.at][0])
            answers += 1
            talk.at = (talk.at + 1) % _DIFFERENT
            talk.socket.send(messages[talk.at][1])
    return answers


def main() -> None:
    """Open the connections, learn the shape of an answer from the first, then run."""
    port, connections, duration_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    sample = read_sample()
    messages = build_messages(sample.token)
    talks = [
        Talk(open_websocket(port), number * _DIFFERENT // connections)
        for number in range(connections)
    ]
    request_id = messages[0][0]
    answer = ask_websocket(talks[0].socket, me_message(sample.token, request_id.decode()))
    shape = Shape(answer[: 4 if answer[1] == 126 else 2], len(answer), request_id in answer)
    for talk in talks:
        talk.socket.setblocking(False)
    began_s, used_s = time.perf_counter(), time.process_time()
    answers = run(talks, messages, shape, duration_s)
    elapsed_s = time.perf_counter() - began_s
    busy = (time.process_time() - used_s) / elapsed_s
    print(json.dumps({"per_second": answers / elapsed_s, "seconds": elapsed_s, "busy": busy}))


if __name__ == "__main__":
    main()
