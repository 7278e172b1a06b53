"""How long the four refusals of a login take: nobody may learn from it whether an account exists.

Each refused login is of another account, so that nothing one of them leaves behind is measured with
the next; names and passwords are all of one length.
"""

import random
import socket
import time
from collections.abc import Iterator
from itertools import combinations
from statistics import median

from bench.loads.datasets import PASSWORD, Writing, fill
from bench.loads.http_client import WrongAnswer, ask, connect
from bench.report.ranks import likelihood
from bench.report.series import Chapter, Requirement, Series
from bench.subject.servers import our_server
from bench.subject.stage import Stage
from bench.subject.subject import create_admin
from server.storage.base import Change

_COST = 8  # of bcrypt: enough to be most of the answer's time, and few enough milliseconds
_SETTINGS = (f"security.passwords.cost={_COST}", "limits.failedLogins=0")
_WRONG_PASSWORD = PASSWORD[:-1] + "?"
_REFUSED = (401, "plugin.strategy.missing_user")
_MOST_RATIO = 1.25  # of the slower to the faster: 0.8 the other way round
_LEAST_LIKELIHOOD = 0.05
_UNKNOWN, _WRONG = "unknown user", "wrong password"
_WITHOUT, _DISABLED = "no local credentials", "disabled user"
# What each kind of refused user sends; only the disabled one would be right.
_PASSWORDS = {
    _UNKNOWN: PASSWORD,
    _WRONG: _WRONG_PASSWORD,
    _WITHOUT: PASSWORD,
    _DISABLED: PASSWORD,
}


def measure(stage: Stage) -> Chapter:
    """Time the refusals in turns, each round in an order of its own."""
    count = stage.plan.refusals
    chapter = Chapter("timing", f"{count} refused logins of each kind, bcrypt cost {_COST}")
    path = stage.folder / "timing.db"
    with our_server(stage, path, stage.cores.server, _SETTINGS) as running:
        create_admin(running.port)
    fill(path, lambda writing: _people(writing, count + 1), cost=_COST)
    with our_server(stage, path, stage.cores.server, _SETTINGS) as running:
        with connect(running.port) as connection:
            found = _time_all(running.port, connection, count)
    for kind, times_ms in found.items():
        chapter.series.append(Series(kind, "ms", tuple(times_ms)))
        stage.say(f"{kind:20} {median(times_ms):7.3f} ms")
    _compare(chapter, found)
    return chapter


def _people(writing: Writing, count: int) -> Iterator[Change]:
    """Give the accounts that exist; of those without credentials, the user alone."""
    for number in range(count):
        yield from writing.user(_name(_WRONG, number))
        yield from writing.user(_name(_WITHOUT, number), has_password=False)
        yield from writing.user(_name(_DISABLED, number), is_disabled=True)


def _name(kind: str, number: int) -> str:
    return f"{kind[:7].replace(' ', '-')}-{number:06}"


def _time_all(port: int, connection: socket.socket, count: int) -> dict[str, list[float]]:
    """Give the milliseconds of each refusal, by kind; the first of each only warms up."""
    chance = random.Random(7)
    found: dict[str, list[float]] = {kind: [] for kind in _PASSWORDS}
    kinds = list(_PASSWORDS)
    refusals = set()
    for number in range(count + 1):
        chance.shuffle(kinds)
        for kind in kinds:
            credentials = {"username": _name(kind, number), "password": _PASSWORDS[kind]}
            began_s = time.perf_counter()
            answer = ask(port, "POST", "/_login/local", body=credentials, connection=connection)
            elapsed_ms = (time.perf_counter() - began_s) * 1000
            refusals.add((*read_refusal(answer.json), len(answer.raw)))
            if number:
                found[kind].append(elapsed_ms)
    if len(refusals) != 1 or next(iter(refusals))[:2] != _REFUSED:
        raise WrongAnswer(f"not one and the same refusal: {refusals}")
    return found


def read_refusal(envelope: dict[str, object]) -> tuple[object, object, object]:
    """Give what a refusal tells; WrongAnswer for anything else."""
    failed = envelope.get("error")
    if not isinstance(failed, dict):
        raise WrongAnswer(f"not refused: {envelope}")
    return failed.get("status"), failed.get("id"), failed.get("message")


def _compare(chapter: Chapter, found: dict[str, list[float]]) -> None:
    """Hold each kind against each other one. Of so many pairs one may differ by chance: Bonferroni
    corrects for that."""
    pairs = list(combinations(sorted(found, key=lambda kind: median(found[kind])), 2))
    for faster, slower in pairs:
        ratio = median(found[slower]) / median(found[faster])
        chapter.requirements.append(
            Requirement(slower, (ratio,), _MOST_RATIO, at_most=True, reference=faster)
        )
        name = f"p, {faster} or {slower}"
        corrected = min(1.0, len(pairs) * likelihood(found[faster], found[slower]))
        chapter.series.append(Series(name, "p", (corrected,)))
        chapter.requirements.append(Requirement(name, (corrected,), _LEAST_LIKELIHOOD))
    chapter.notes.append("ratios of the medians of all; p is Mann-Whitney's, times the pairs")
