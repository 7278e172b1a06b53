"""Resident memory per idle WebSocket connection."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

from bench.loads.http_client import open_websocket
from bench.report.series import Chapter, Requirement, Series, measure_rounds
from bench.subject.sample import Sample
from bench.subject.servers import (
    BARE_WEBSOCKET,
    PICOWS,
    WEBSOCKETS,
    Peer,
    Running,
    our_server,
    peer_server,
    require_packages,
)
from bench.subject.stage import NotRun, Stage, raise_open_files
from bench.subject.subject import OURS, ready_subject

_MOST_KIB = 4.0
_WARM_UP = 100
_SPARE_FILES = 200
_LOOK_EVERY_S = 0.1
_SETTLES_WITHIN_S = 5.0


def measure(stage: Stage) -> Chapter:
    """Fill each server with idle connections; each round starts it anew, for memory only grows."""
    count = min(stage.plan.idle_connections, raise_open_files() - _SPARE_FILES)
    chapter = Chapter("memory", f"Memory per idle WebSocket connection, {count:,} connections")
    if count < stage.plan.idle_connections:
        chapter.notes.append(f"only {count:,} connections: the limit of open files allows no more")
    with ready_subject(stage, "memory") as subject:
        sample = subject.sample
    subjects: dict[str, Callable[[], float]] = {OURS: partial(_measure_ours, stage, count)}
    for peer in (BARE_WEBSOCKET, WEBSOCKETS, PICOWS)[: stage.plan.memory_peers]:
        try:
            require_packages(peer)
        except NotRun as reason:
            chapter.notes.append(str(reason))
        else:
            subjects[peer.name] = partial(_measure_peer, stage, count, peer, sample)
    found = measure_rounds(subjects, stage.plan.memory_rounds)
    chapter.series = [Series(name, "KiB", values) for name, values in found.items()]
    chapter.requirements.append(Requirement(OURS, found[OURS], _MOST_KIB, at_most=True))
    return chapter


def _measure_ours(stage: Stage, count: int) -> float:
    with our_server(stage, stage.folder / "memory.db", stage.cores.server) as running:
        return _growth_kib(stage, running, count)


def _measure_peer(stage: Stage, count: int, peer: Peer, sample: Sample) -> float:
    with peer_server(stage, peer, sample) as running:
        return _growth_kib(stage, running, count)


def _growth_kib(stage: Stage, running: Running, count: int) -> float:
    """Give the growth per connection; a first few pay for what all of them share."""
    _hold(running, _WARM_UP)
    before = settled_bytes(running)
    grown = _hold(running, count) - before
    per_connection = grown / count / 1024
    stage.say(f"{running.name:12} {per_connection:6.2f} KiB per idle connection")
    return per_connection


def _hold(running: Running, count: int) -> int:
    """Give the server's resident memory while it has so many connections, then close them."""
    with ExitStack() as held:
        for _ in range(count):
            held.enter_context(closing(open_websocket(running.port)))
        return settled_bytes(running)


def settled_bytes(running: Running) -> int:
    """Give the resident memory once two looks in a row find the same."""
    deadline_s = time.monotonic() + _SETTLES_WITHIN_S
    last, now = -1, running.resident_bytes()
    while now != last and time.monotonic() < deadline_s:
        time.sleep(_LOOK_EVERY_S)
        last, now = now, running.resident_bytes()
    return now
