"""All sessions of a user with many WebSockets end at once: how soon the last one hears of it, and
what `/_me` of others feels meanwhile.

The user logs out everywhere from another connection. Every round ends another user's sessions.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from bench.loads.datasets import Session, Writing, fill
from bench.loads.http_client import WrongAnswer, ask
from bench.loads.idle_sockets import LINKED
from bench.measure.latencies import BEGUN
from bench.report.series import Chapter, Requirement, Series, measure_rounds
from bench.subject.programs import expect, p99_ms, program, read_line, say
from bench.subject.servers import Running, our_server
from bench.subject.stage import Stage, raise_open_files
from bench.subject.subject import create_admin, log_in
from server.core.secrets import hash_token
from server.storage.base import Change

_COST = 4  # of bcrypt; no password is checked while anything is measured
_SETTINGS = (
    f"security.passwords.cost={_COST}",
    "server.protocols.websocket.idleTimeout=1h",  # the first sockets wait for the last ones
)
_SPARE_FILES = 300
_SPARE_TOKENS = 2
_MOST_S = 1.0
_MOST_TIMES_IDLE = 3.0
_IDLE_S = 2.0
_EACH, _SHARED = "one token each", "one token for all"


@dataclass(slots=True)
class _Felt:
    """One way of linking: the p99 of others' `/_me` in ms, one per round, before and meanwhile."""

    idle_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)


def measure(stage: Stage) -> Chapter:
    """Measure both ways of linking in turns."""
    count = min(stage.plan.idle_connections, raise_open_files() - _SPARE_FILES)
    chapter = Chapter("push", f"TokenExpired on {count:,} WebSockets of one user, one core")
    path = stage.folder / "push.db"
    with our_server(stage, path, stage.cores.server, _SETTINGS) as running:
        create_admin(running.port)
    users: list[list[Session]] = []
    rounds = 2 * stage.plan.push_rounds
    fill(path, partial(_people, users=users, count=rounds, tokens=count), cost=_COST)
    felt = {_EACH: _Felt(), _SHARED: _Felt()}
    with our_server(stage, path, stage.cores.server, _SETTINGS) as running:
        token = log_in(running.port)

        def once(way: str) -> float:
            return _end_all(stage, running, token, users.pop(), way, felt[way])

        subjects = {way: partial(once, way) for way in felt}
        found = measure_rounds(subjects, stage.plan.push_rounds)
    for way, values in found.items():
        _report(chapter, way, values, felt[way])
    return chapter


def _report(chapter: Chapter, way: str, values: tuple[float, ...], felt: _Felt) -> None:
    idle, busy = f"idle p99, {way}", f"p99 meanwhile, {way}"
    chapter.series += [
        Series(way, "s", values),
        Series(f"logout answered, {way}", "s", tuple(felt.answered_s)),
        Series(idle, "ms", tuple(felt.idle_ms)),
        Series(busy, "ms", tuple(felt.busy_ms)),
    ]
    chapter.requirements.append(Requirement(way, values, _MOST_S, at_most=True))
    chapter.require(busy, idle, _MOST_TIMES_IDLE, at_most=True)


def _people(
    writing: Writing, *, users: list[list[Session]], count: int, tokens: int
) -> Iterator[Change]:
    """Give users with so many sessions each, and some more; all their tokens are known."""
    for number in range(count):
        kuid = f"user-{number:04}"
        yield from writing.user(kuid)
        users.append([])
        for at in range(tokens + _SPARE_TOKENS):
            session_id = f"session-{number:04}-{at:06}"
            session = writing.sign(kuid, session_id)
            users[-1].append(session)
            yield writing.session(kuid, session_id, hash_token(session.token))


def _end_all(
    stage: Stage, running: Running, admin: str, sessions: list[Session], way: str, felt: _Felt
) -> float:
    """Link all sockets, log out everywhere, and give the seconds from the answer to the last
    socket's notification."""
    asking, shared, *each = [session.token for session in sessions]
    tokens = each if way == _EACH else [shared] * len(each)
    with program(stage, "listeners", running.port) as listening:
        say(listening, "\n".join(tokens))
        expect(listening, LINKED)
        with program(stage, "latencies", running.port, admin) as probing:
            expect(probing, BEGUN)
            time.sleep(_IDLE_S)
            began_s = time.monotonic()
            ended = ask(running.port, "POST", "/_logout?global=true", token=asking)
            answered_s = time.monotonic()
            if ended.result() != {"acknowledged": True}:
                raise WrongAnswer(f"not logged out: {ended.json}")
            heard = json.loads(read_line(listening))
            say(probing, "")
            samples = json.loads(read_line(probing))
    last_s = max(heard["last_s"], answered_s)
    felt.answered_s.append(answered_s - began_s)
    felt.idle_ms.append(p99_ms(samples, began_s - _IDLE_S, began_s))
    felt.busy_ms.append(p99_ms(samples, began_s, last_s))
    stage.say(
        f"{way:18} {last_s - answered_s:6.3f} s after the answer, which took"
        f" {answered_s - began_s:.3f} s; p99 {felt.idle_ms[-1]:.2f} ms, then {felt.busy_ms[-1]:.2f}"
    )
    return last_s - answered_s
