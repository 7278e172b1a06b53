"""What others feel of peers that are slow, silent, greedy or deaf: p99 of their `/_me` before and
meanwhile."""

import json
import time
from dataclasses import dataclass, field
from functools import partial

from bench.loads.hostile_clients import KINDS
from bench.measure.latencies import BEGUN
from bench.report.series import Chapter, Series, measure_rounds
from bench.subject.programs import expect, p99_ms, program, read_line, say
from bench.subject.servers import Running, our_server
from bench.subject.stage import Stage, raise_open_files
from bench.subject.subject import create_admin, log_in

_MOST_TIMES_IDLE = 3.0
_WINDOW_S = 3.0
# These cost the server next to nothing, so that others must hardly notice. A flood takes the time
# nobody else needs, and is only shown: everybody has a turn between two of its own.
_CHEAP = ("idle sockets", "slow heads")


@dataclass(slots=True)
class _Felt:
    """One kind of peers: the p99 of others' `/_me` in ms, one per round, before; how many of the
    peers were let go."""

    idle_ms: list[float] = field(default_factory=list)
    dropped: list[float] = field(default_factory=list)


def measure(stage: Stage) -> Chapter:
    """Measure all kinds in turns, each with a server of its own."""
    raise_open_files()
    chapter = Chapter("faults", "p99 of /_me beside peers nobody wants, one core")
    felt = {kind: _Felt() for kind in KINDS}
    path = stage.folder / "faults.db"
    with our_server(stage, path, stage.cores.server) as running:
        create_admin(running.port)

    def once(kind: str) -> float:
        with our_server(stage, path, stage.cores.server) as running:
            return _beside(stage, running, kind, felt[kind])

    subjects = {kind: partial(once, kind) for kind in KINDS}
    for kind, values in measure_rounds(subjects, stage.plan.push_rounds).items():
        idle, busy = f"idle p99 before {kind}", f"p99 beside {kind}"
        chapter.series += [
            Series(idle, "ms", tuple(felt[kind].idle_ms)),
            Series(busy, "ms", values),
            Series(f"let go: {kind}", "peers", tuple(felt[kind].dropped)),
        ]
        if kind in _CHEAP:
            chapter.require(busy, idle, _MOST_TIMES_IDLE, at_most=True)
    return chapter


def _beside(stage: Stage, running: Running, kind: str, felt: _Felt) -> float:
    """Give the p99 of `/_me` in ms while such peers are there."""
    token = log_in(running.port)
    with program(stage, "latencies", running.port, token) as probing:
        expect(probing, BEGUN)
        began_s = time.monotonic()
        time.sleep(_WINDOW_S)
        with program(stage, "hostile", kind, running.port) as hostile:
            expect(hostile, BEGUN)
            busy_s = time.monotonic()
            time.sleep(_WINDOW_S)
            ended_s = time.monotonic()
            say(hostile, "")
            dropped = json.loads(read_line(hostile))["dropped"]
        say(probing, "")
        samples = json.loads(read_line(probing))
    felt.idle_ms.append(p99_ms(samples, began_s, began_s + _WINDOW_S))
    felt.dropped.append(dropped)
    busy_ms = p99_ms(samples, busy_s, ended_s)
    stage.say(f"{kind:16} p99 {felt.idle_ms[-1]:.2f} ms, then {busy_ms:.2f}; let go: {dropped}")
    return busy_ms
