"""What every chapter of a run needs: how much to measure, on which cores, in which folder."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


class NotRun(Exception):
    """Something a measurement needs is missing here; the run goes on and says so."""


class Failed(Exception):
    """A server did not start or a load ended badly; the run goes on and ends with exit code 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Seconds of HTTP load are whole: wrk takes no others. `stored` users or
    sessions are many, `refusals` logins of each kind are refused."""

    rounds: int
    http_s: int
    websocket_s: float
    login_rounds: int
    logins_per_core: int
    paced_rounds: int
    paced_s: int
    starts: int
    memory_rounds: int
    memory_peers: int
    idle_connections: int
    stored: int
    push_rounds: int
    refusals: int


FULL = Plan(
    rounds=7,
    http_s=3,
    websocket_s=3.0,
    login_rounds=5,
    logins_per_core=12,
    paced_rounds=31,
    paced_s=1,
    starts=9,
    memory_rounds=3,
    memory_peers=3,
    idle_connections=10_000,
    stored=1_000_000,
    push_rounds=9,
    refusals=400,
)
QUICK = Plan(
    rounds=3,
    http_s=1,
    websocket_s=0.7,
    login_rounds=2,
    logins_per_core=4,
    paced_rounds=4,
    paced_s=1,
    starts=3,
    memory_rounds=1,
    memory_peers=1,
    idle_connections=10_000,
    stored=50_000,
    push_rounds=1,
    refusals=60,
)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores serve and which ones make the load; the same one only where there is no other."""

    server: frozenset[int]
    load: frozenset[int]

    @property
    def all(self) -> frozenset[int]:
        """Give every core of the run."""
        return self.server | self.load


def split_cores(usable: set[int]) -> Cores:
    """Give the first core to the server and the others to the load."""
    first, *others = sorted(usable)
    return Cores(frozenset([first]), frozenset(others or [first]))


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Start programs on these cores: a child inherits them from the thread that starts it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Stage:
    """What is the same for the whole run.

    `command` starts our server when `serve` and its flags follow; `data` is a database with many
    users to measure the start with.
    """

    plan: Plan
    cores: Cores
    folder: Path
    command: list[str]
    data: Path | None = None
    began_s: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Print a line of progress, apart from the results."""
        print(f"[{time.monotonic() - self.began_s:6.1f} s] {text}", file=sys.stderr, flush=True)


def raise_open_files() -> int:
    """Allow this process and its children the most open files they may have; give the number."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
