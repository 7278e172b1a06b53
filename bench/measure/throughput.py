"""The same load on several servers in turn: answers per second, and which side was the limit."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from bench.report.series import Chapter, Series, measure_rounds
from bench.subject.checks import check_same
from bench.subject.sample import Sample
from bench.subject.servers import BARE, Peer, Running, peer_server
from bench.subject.stage import NotRun, Stage
from bench.subject.subject import ready_subject

# From this share of its core on, a server or a load is the limit of what is measured.
_SATURATED = 0.90


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load got out of a server: `busy` is the share of one core the load itself used."""

    per_second: float
    seconds: float
    busy: float


class Check(Protocol):
    """Gives a server's answer once it is known to be right; WrongAnswer otherwise."""

    def __call__(self, port: int, sample: Sample, *, is_constant: bool) -> bytes:
        """Ask the server on this port; a constant answer can only be compared with ours."""


Load = Callable[[Stage, int, Sample], LoadReport]


@dataclass(slots=True)
class _Contest:
    """One server in the comparison and the shares of a core used, one per round."""

    server: Running
    stage: Stage
    sample: Sample
    check: Check
    load: Load
    answer: bytes = b""
    server_busy: list[float] = field(default_factory=list)
    load_busy: list[float] = field(default_factory=list)

    def ask(self) -> bytes:
        """Give the server's answer, checked."""
        is_constant = self.server.name == BARE
        return self.check(self.server.port, self.sample, is_constant=is_constant)

    def measure(self) -> float:
        """Load the server once and give its answers per second."""
        before_s = self.server.cpu_s()
        report = self.load(self.stage, self.server.port, self.sample)
        self.server_busy.append((self.server.cpu_s() - before_s) / report.seconds)
        self.load_busy.append(report.busy)
        self.stage.say(f"{self.server.name:12} {report.per_second:9,.0f}/s")
        return report.per_second


def compare(
    stage: Stage, chapter: Chapter, unit: str, peers: list[Peer], check: Check, load: Load
) -> None:
    """Measure our server and the peers in rounds and add the numbers to the chapter."""
    with ExitStack() as running:
        subject = running.enter_context(ready_subject(stage, chapter.name))
        servers = [subject.running]
        for peer in peers:
            try:
                servers.append(running.enter_context(peer_server(stage, peer, subject.sample)))
            except NotRun as reason:
                chapter.notes.append(str(reason))
        contests = [_Contest(server, stage, subject.sample, check, load) for server in servers]
        _run(contests, chapter, unit, stage.plan.rounds)


def _run(contests: list[_Contest], chapter: Chapter, unit: str, rounds: int) -> None:
    for contest in contests:
        contest.answer = contest.ask()

    def check_again(number: int) -> None:
        for contest in contests:
            check_same(contest.answer, contest.ask())

    subjects = {contest.server.name: contest.measure for contest in contests}
    values = measure_rounds(subjects, rounds, check_again)
    waiting: dict[str, list[str]] = {}
    for contest in contests:
        name = contest.server.name
        series = Series(name, unit, values[name], tuple(contest.server_busy))
        chapter.series.append(series)
        if series.busy is not None and series.busy < _SATURATED:
            waiting.setdefault(_explain(median(contest.load_busy)), []).append(name)
    chapter.notes += [f"{', '.join(names)}: {reason}" for reason, names in waiting.items()]


def _explain(load_busy: float) -> str:
    """Say why a server did not use all of its core."""
    if load_busy < _SATURATED:
        return "other programs took part of the cores; repeat on a quiet machine"
    return "the load was the limit; the server can do more"
