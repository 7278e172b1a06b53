"""Many stored users: the start, `getUser`, logins, `/_me`, and the memory of the server."""

from bench.chapters.memory import settled_bytes
from bench.loads.datasets import PASSWORD
from bench.loads.http_client import write_request
from bench.loads.wrk import find_wrk
from bench.measure.contrast import (
    COST,
    FEW,
    Load,
    Question,
    Store,
    ask_each,
    make_store,
    measure_pairs,
    measure_start,
)
from bench.report.series import Chapter, Requirement, Series
from bench.subject.servers import Running
from bench.subject.stage import Stage
from bench.subject.subject import log_in

CONNECTIONS = 64
_LOGINS_AT_ONCE = 16
_MEGABYTE = 1e6
_MOST_MEGABYTES = 150.0


def measure(stage: Stage) -> Chapter:
    """Compare a store with few users and one with many; as many of both are asked for."""
    find_wrk()
    many = stage.plan.stored
    chapter = Chapter("users", f"{many:,} stored users, logins with bcrypt at cost {COST}")
    small = make_store(stage, f"{FEW:,} users", users=FEW, sessions=FEW, known=FEW)
    large = make_store(stage, f"{many:,} users", users=many, sessions=FEW, known=FEW)
    measure_start(stage, chapter, large)
    with small.served(stage) as one, large.served(stage) as other:
        of_few, of_many = _loads(stage, small, one), _loads(stage, large, other)
        measure_pairs(stage, chapter, list(zip(of_few, of_many, strict=True)))
        memory = Series("memory after all that", "MB", (settled_bytes(other) / _MEGABYTE,))
    chapter.series.append(memory)
    chapter.requirements.append(
        Requirement(memory.name, memory.values, _MOST_MEGABYTES, at_most=True)
    )
    return chapter


def _loads(stage: Stage, store: Store, running: Running) -> list[Load]:
    """Give the three loads, over the users whose sessions are known."""
    kuids = [session.kuid for session in store.known]
    admin = log_in(running.port)
    found = [Question(kuid, write_request("GET", f"/users/{kuid}", token=admin)) for kuid in kuids]
    logins = [Question(kuid, _login(kuid)) for kuid in kuids]
    own = ask_each(store.known)
    return [
        Load(f"{store.name}: getUser", stage, running, found, CONNECTIONS),
        Load(f"{store.name}: login", stage, running, logins, _LOGINS_AT_ONCE),
        Load(f"{store.name}: /_me", stage, running, own, CONNECTIONS),
    ]


def _login(kuid: str) -> bytes:
    credentials = {"username": kuid, "password": PASSWORD}
    return write_request("POST", "/_login/local", body=credentials)
