"""The same load on a store with few rows and on one with many, two servers side by side."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.chapters.start import time_start
from bench.loads.datasets import Session, crowd, fill
from bench.loads.http_client import WrongAnswer, connect, exchange, write_request
from bench.loads.wrk import cycle_wrk
from bench.report.series import Chapter, Requirement, Series, measure_rounds
from bench.subject.servers import Running, our_server
from bench.subject.stage import Stage, pinned
from bench.subject.subject import create_admin

COST = 4  # of bcrypt: what a login does besides must not hide behind the hashing
SETTINGS = (f"security.passwords.cost={COST}",)
FEW = 1000
_SAME = 0.90
_START_S = 0.5
_CHECKED_AGAIN = 20


@dataclass(frozen=True, slots=True)
class Store:
    """A filled store that no server uses yet, and sessions in it whose tokens are known."""

    name: str
    path: Path
    known: list[Session]

    @contextmanager
    def served(self, stage: Stage, *settings: str) -> Iterator[Running]:
        """Run our server on this store, on one core, until the block ends."""
        settings = (*SETTINGS, *settings)
        with our_server(stage, self.path, stage.cores.server, settings) as running:
            yield running


@dataclass(frozen=True, slots=True)
class Question:
    """A request whose answer's result has this `_id`."""

    kuid: str
    request: bytes


@dataclass(slots=True, eq=False)
class Load:
    """Questions to one server; `name` is what the numbers are listed under."""

    name: str
    stage: Stage
    running: Running
    questions: Sequence[Question]
    connections: int
    server_busy: list[float] = field(default_factory=list)

    def check(self, questions: Iterable[Question]) -> None:
        """Ask each question and check its answer; what the server keeps of the first is warm
        then."""
        with connect(self.running.port) as connection:
            for question in questions:
                result = exchange(connection, question.request).result()
                if result.get("_id") != question.kuid:
                    raise WrongAnswer(f"not {question.kuid}: {result}")

    def check_again(self) -> None:
        """Ask some of the questions, spread over all."""
        self.check(self.questions[:: max(1, len(self.questions) // _CHECKED_AGAIN)])

    def measure(self) -> float:
        """Ask without pause and give the answers per second."""
        seconds = self.stage.plan.http_s
        before_s = self.running.cpu_s()
        with pinned(self.stage.cores.load):
            report = cycle_wrk(
                self.running.port,
                [question.request for question in self.questions],
                self.stage.folder,
                connections=self.connections,
                duration_s=seconds,
            )
        self.server_busy.append((self.running.cpu_s() - before_s) / seconds)
        self.stage.say(f"{self.name:40} {report.per_second:9,.0f}/s")
        return report.per_second


def ask_each(sessions: Iterable[Session]) -> list[Question]:
    """Give for each token the question whose it is."""
    return [
        Question(session.kuid, write_request("GET", "/_me", token=session.token))
        for session in sessions
    ]


def make_store(stage: Stage, name: str, *, users: int, sessions: int, known: int) -> Store:
    """Let a server make a store with an administrator, then fill it."""
    store = Store(name, stage.folder / f"{name.replace(',', '').replace(' ', '-')}.db", [])
    with store.served(stage) as running:
        create_admin(running.port)
    rows = partial(crowd, users=users, sessions=sessions, known=store.known, wanted=known)
    fill(store.path, rows, cost=COST)
    stage.say(f"{name} stored, {store.path.stat().st_size / 1e6:,.0f} MB")
    return store


def measure_pairs(stage: Stage, chapter: Chapter, pairs: Sequence[tuple[Load, Load]]) -> None:
    """Measure all loads in rounds; of each pair the first has few rows and sets what the second
    must reach."""
    loads = list(dict.fromkeys(load for pair in pairs for load in pair))
    for load in loads:
        load.check(load.questions)

    def check_again(number: int) -> None:
        for load in loads:
            load.check_again()

    subjects = {load.name: load.measure for load in loads}
    values = measure_rounds(subjects, stage.plan.rounds, check_again)
    for load in loads:
        busy = tuple(load.server_busy)
        chapter.series.append(Series(load.name, "requests/s", values[load.name], busy))
    for few, many in pairs:
        chapter.require(many.name, few.name, _SAME)


def measure_start(stage: Stage, chapter: Chapter, store: Store) -> None:
    """Start a server on a store a few times."""
    name = f"start, {store.name}"
    values = tuple(time_start(stage, store.path) for _ in range(stage.plan.starts))
    chapter.series.append(Series(name, "s", values))
    chapter.requirements.append(Requirement(name, values, _START_S, at_most=True))
