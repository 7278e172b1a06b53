"""`python -m bench.extra.soak --minutes N`: a server under mixed load for long, watched.

Every answer is checked; memory must level out, no file may stay open, the log must hold no failure
and the server must end well. Exit code 1 when something is off.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression

from bench.loads.http_client import WrongAnswer
from bench.loads.soak_users import Visitor
from bench.subject.servers import Running, our_server
from bench.subject.stage import QUICK, Cores, Failed, Stage
from bench.subject.subject import create_admin, log_in

_VISITORS = 12
_SETTINGS = (
    "security.passwords.cost=4",
    "limits.failedLogins=0",  # wrong passwords are part of the load
    "limits.liveSessions=500",  # full soon: from then on memory must not grow
    "stats.ttl=20",
)
_LOOK_EVERY_S = 1.0
_SETTLE_S = 5.0
_MOST_GROWTH = 0.05  # of memory over the second half of the run, by its slope
_MOST_FILES = 8  # open beyond those before the load: readers of the store open when they are needed
_MIBIBYTE = 2**20
_TROUBLE = (" ERROR ", " CRITICAL ", "Traceback")


@dataclass
class Watched:
    """What was seen: resident memory over time, open files, and what was wrong."""

    times_s: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Run, print what was seen; 1 when something is off."""
    parser = argparse.ArgumentParser(prog="python -m bench.extra.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cores = frozenset(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        command = [sys.executable, "-m", "server"]
        stage = Stage(QUICK, Cores(cores, cores), Path(folder), command)
        wrong = run(stage, options.minutes * 60, options.seed)
    for line in wrong:
        print(f"WRONG: {line}")
    print("something is off" if wrong else "all was well")
    return 1 if wrong else 0


def run(stage: Stage, length_s: float, seed: int) -> list[str]:
    """Give what was wrong."""
    watched, path = Watched(), stage.folder / "soak.db"
    with our_server(stage, path, stage.cores.server, _SETTINGS) as running:
        create_admin(running.port)
        admin = log_in(running.port)
        visitors = [
            Visitor(running.port, f"visitor-{number}", admin, random.Random(seed + number))
            for number in range(_VISITORS)
        ]
        for visitor in visitors:
            visitor.arrive()
            visitor.browse()
        files_before = settled_files(running)
        _load(stage, running, visitors, length_s, watched)
        files_after = settled_files(running)
    if running.process.returncode != 0:
        watched.wrong.append(f"the server ended with {running.process.returncode}")
    log = path.with_suffix(".log").read_text(errors="replace")
    watched.wrong += [line for line in log.splitlines() if any(sign in line for sign in _TROUBLE)]
    stage.say(f"{files_before} files open before, {files_after} after")
    if files_after > files_before + _MOST_FILES:
        watched.wrong.append(f"{files_after - files_before} files stay open")
    growth = growth_of(watched.times_s, watched.resident)
    stage.say(f"memory: {growth:+.2%} over the second half")
    if growth > _MOST_GROWTH:
        watched.wrong.append(f"memory grows by {growth:.1%} in half of the run")
    done: Counter[str] = Counter()
    for visitor in visitors:
        done.update(visitor.done)
    stage.say(", ".join(f"{count:,} × {name}" for name, count in sorted(done.items())))
    return watched.wrong


def _load(
    stage: Stage, running: Running, visitors: Sequence[Visitor], length_s: float, watched: Watched
) -> None:
    """Let all visitors come until the time is over or one of them was answered wrongly."""
    is_over = threading.Event()

    def come(visitor: Visitor) -> None:
        try:
            while not is_over.is_set():
                visitor.visit()
        except (WrongAnswer, OSError, KeyError) as reason:
            watched.wrong.append(f"{visitor.kuid}: {reason!r}")
            is_over.set()

    threads = [threading.Thread(target=come, args=(visitor,)) for visitor in visitors]
    for thread in threads:
        thread.start()
    began_s = time.monotonic()
    while not is_over.wait(_LOOK_EVERY_S) and time.monotonic() - began_s < length_s:
        watched.times_s.append(time.monotonic() - began_s)
        watched.resident.append(running.resident_bytes())
        if len(watched.times_s) % 30 == 1:
            megabytes = watched.resident[-1] / _MIBIBYTE
            stage.say(f"{megabytes:.1f} MiB, {open_files(running)} files")
    is_over.set()
    for thread in threads:
        thread.join()


def growth_of(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Give by what share values grow over the second half of the time, by the straight line through
    them; 0 where there are too few to tell."""
    half = len(values) // 2
    if len(values) - half < 3:
        return 0.0
    slope, _ = linear_regression(times_s[half:], values[half:])
    return slope * (times_s[-1] - times_s[half]) / (sum(values[half:]) / (len(values) - half))


def open_files(running: Running) -> int:
    """Give how many files a server has open."""
    return len(os.listdir(f"/proc/{running.process.pid}/fd"))


def settled_files(running: Running) -> int:
    """Give how many files are open once connections that were closed are gone."""
    deadline_s = time.monotonic() + _SETTLE_S
    fewest = open_files(running)
    while time.monotonic() < deadline_s:
        time.sleep(_LOOK_EVERY_S / 4)
        fewest = min(fewest, open_files(running))
    return fewest


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as reason:
        sys.exit(str(reason))
