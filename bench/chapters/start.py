"""From the start of the process to the first answer of the pipeline: `GET /_me` of nobody."""

import time
from functools import partial
from pathlib import Path

from bench.loads.http_client import WrongAnswer, ask
from bench.report.series import Chapter, Requirement, Series, measure_rounds
from bench.subject.servers import our_server
from bench.subject.stage import Stage
from bench.subject.subject import ready_subject

_MOST_S = 0.5
_ANONYMOUS = "-1"


def measure(stage: Stage) -> Chapter:
    """Start on a small database, and on the one given with `--data`, if any."""
    chapter = Chapter("start", "Process start to first answer, one core")
    with ready_subject(stage, "start"):
        pass  # leaves a database that has been in use
    databases = {"one user stored": stage.folder / "start.db"}
    if stage.data is None:
        chapter.notes.append("not measured with many stored users: no --data FILE was given")
    else:
        size_mb = stage.data.stat().st_size / 1e6
        databases[f"{stage.data.name} ({size_mb:,.0f} MB)"] = stage.data
    subjects = {name: partial(time_start, stage, path) for name, path in databases.items()}
    for name, values in measure_rounds(subjects, stage.plan.starts).items():
        chapter.series.append(Series(name, "s", values))
        chapter.requirements.append(Requirement(name, values, _MOST_S, at_most=True))
    return chapter


def time_start(stage: Stage, data: Path) -> float:
    """Give the seconds from the start of the process to its first answer, on a store in use."""
    began_s = time.perf_counter()
    with our_server(stage, data, stage.cores.server) as running:
        answer = ask(running.port, "GET", "/_me")
        elapsed_s = time.perf_counter() - began_s
    if answer.result().get("_id") != _ANONYMOUS:
        raise WrongAnswer(f"not the anonymous user: {answer.json}")
    stage.say(f"start on {data.name}: {elapsed_s:.3f} s")
    return elapsed_s
