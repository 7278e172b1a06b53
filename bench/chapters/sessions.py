"""Many stored sessions: the start, what `/_me` takes, and the memory that live ones are kept in."""

from collections.abc import Sequence

from bench.chapters.memory import settled_bytes
from bench.loads.datasets import Session
from bench.loads.wrk import find_wrk
from bench.measure.contrast import (
    FEW,
    Load,
    Store,
    ask_each,
    make_store,
    measure_pairs,
    measure_start,
)
from bench.report.series import Chapter, Series
from bench.subject.servers import Running
from bench.subject.stage import Stage

CONNECTIONS = 64
_USERS_IN = 10  # one user for so many sessions
_KEPT = 10_000
_TIMES_KEPT = 5
_MEGABYTE = 1e6
_NO_MORE = 1.10


def measure(stage: Stage) -> Chapter:
    """Compare a store with few sessions and one with many."""
    find_wrk()
    many = stage.plan.stored
    chapter = Chapter("sessions", f"{many:,} stored sessions of {many // _USERS_IN:,} users")
    small = make_store(stage, f"{FEW:,} sessions", users=FEW, sessions=FEW, known=FEW)
    large = make_store(
        stage,
        f"{many:,} sessions",
        users=many // _USERS_IN,
        sessions=many,
        known=min(_KEPT * _TIMES_KEPT, many),
    )
    measure_start(stage, chapter, large)
    _measure_speed(stage, chapter, small, large)
    _measure_memory(stage, chapter, large)
    return chapter


def _measure_speed(stage: Stage, chapter: Chapter, small: Store, large: Store) -> None:
    some = large.known[:: len(large.known) // FEW]
    more = large.known[:: len(large.known) // _KEPT]
    with small.served(stage) as one, large.served(stage) as other:
        of_few = _loads(stage, small.name, one, [small.known[:1], small.known])
        of_many = _loads(stage, large.name, other, [some[:1], some, more])
        pairs = [*zip(of_few, of_many, strict=False), (of_few[-1], of_many[-1])]
        measure_pairs(stage, chapter, pairs)


def _loads(
    stage: Stage, name: str, running: Running, choices: Sequence[Sequence[Session]]
) -> list[Load]:
    """Give the load of `/_me` with one or many tokens, which every connection uses in turn."""
    loads = []
    for sessions in choices:
        tokens = "one token" if len(sessions) == 1 else f"{len(sessions):,} tokens"
        loads.append(Load(f"{name}, {tokens}", stage, running, ask_each(sessions), CONNECTIONS))
    return loads


def _measure_memory(stage: Stage, chapter: Chapter, store: Store) -> None:
    """Use far more tokens than are kept: once as many are live as may be, memory must not grow."""
    questions = ask_each(store.known)
    full, over = f"{_KEPT:,} tokens used", f"{len(questions):,} tokens used"
    with store.served(stage, f"limits.liveSessions={_KEPT}") as running:
        load = Load("memory", stage, running, questions, CONNECTIONS)
        load.check(questions[:1])
        at_start = settled_bytes(running) / _MEGABYTE
        load.check(questions[:_KEPT])
        at_first = settled_bytes(running) / _MEGABYTE
        load.check(questions[_KEPT:])
        at_last = settled_bytes(running) / _MEGABYTE
    chapter.series += [
        Series("one token used", "MB", (at_start,)),
        Series(full, "MB", (at_first,)),
        Series(over, "MB", (at_last,)),
    ]
    chapter.require(over, full, _NO_MORE, at_most=True)
    chapter.notes.append(f"memory with limits.liveSessions={_KEPT}")
