"""What others feel of logins that wait: 200 that were begun, and as many as may wait for a provider
that hangs; p99 of `/_me` and of local logins, beside a server without them."""

import importlib.util
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Semaphore

from bench.loads.http_client import WrongAnswer
from bench.measure.latencies import BEGUN, LOGINS
from bench.report.series import Chapter, Series, measure_rounds
from bench.subject.programs import expect, p99_ms, program, read_line, say
from bench.subject.provided import Begun, NotBegun, begin, come_back, write_config
from bench.subject.servers import Running, our_server
from bench.subject.stage import NotRun, Stage, pinned
from bench.subject.subject import create_admin, log_in
from server.auth.strategies.oauth.settings import OAuthSettings
from tests.support.issuer import Issuer, issuing

_COST = 4  # of bcrypt: nothing hides behind the hashing
_SETTINGS = (f"security.passwords.cost={_COST}", "timeouts.login=1h")
_STRATEGY = "site"
_PENDING = 200
_DEFAULTS = OAuthSettings()
_PLACES = _DEFAULTS.threads + _DEFAULTS.queue
_WINDOW_S = _DEFAULTS.timeout_ms / 1000
_LONGEST_WAIT_S = 60.0
_MOST_TIMES_IDLE = 1.5
_IDLE, _BUSY = "idle", "beside waiting logins"
_ME, _LOCAL = "/_me", "local login"


@dataclass(slots=True)
class _Felt:
    """One server: the p99 of local logins in ms, one per round; those of `/_me` are returned."""

    local_ms: list[float] = field(default_factory=list)


def measure(stage: Stage) -> Chapter:
    """Measure both servers in turns."""
    if importlib.util.find_spec("social_core") is None:
        raise NotRun("social-auth-core is not installed: pip install '.[oauth]'")
    chapter = Chapter(
        "pending",
        f"p99 beside {_PENDING} pending logins and {_PLACES} with a provider that hangs, one core",
    )
    felt = {_IDLE: _Felt(), _BUSY: _Felt()}
    with pinned(stage.cores.load), issuing() as issuer:
        with _served(stage, issuer, "quiet") as quiet, _served(stage, issuer, "waiting") as waiting:
            for _ in range(_PENDING):
                begin(waiting.port, issuer, _STRATEGY)

            def idle() -> float:
                return _probe(stage, quiet, _IDLE, felt[_IDLE])

            def busy() -> float:
                with _everybody_waits(waiting.port, issuer):
                    return _probe(stage, waiting, _BUSY, felt[_BUSY])

            found = measure_rounds({_IDLE: idle, _BUSY: busy}, stage.plan.push_rounds)
    for name, values in found.items():
        chapter.series.append(Series(_name(_ME, name), "ms", values))
        chapter.series.append(Series(_name(_LOCAL, name), "ms", tuple(felt[name].local_ms)))
    for what in (_ME, _LOCAL):
        chapter.require(_name(what, _BUSY), _name(what, _IDLE), _MOST_TIMES_IDLE, at_most=True)
    return chapter


def _name(what: str, when: str) -> str:
    return f"p99 of {what}, {when}"


@contextmanager
def _served(stage: Stage, issuer: Issuer, name: str) -> Iterator[Running]:
    """Run our server with an administrator and the strategy of the provider."""
    config, path = stage.folder / f"{name}.toml", stage.folder / f"{name}.db"
    config.write_text(write_config(issuer, {_STRATEGY: {}}))
    flags = ("--config", str(config))
    with our_server(stage, path, stage.cores.server, _SETTINGS, flags=flags) as running:
        create_admin(running.port)
        yield running


def _probe(stage: Stage, running: Running, name: str, felt: _Felt) -> float:
    """Give the p99 of `/_me` in ms, then take that of local logins."""
    token = log_in(running.port)
    me_ms = _p99_ms(stage, running, token)
    felt.local_ms.append(_p99_ms(stage, running, token, LOGINS))
    stage.say(f"{name:22} p99 {me_ms:.2f} ms, local logins {felt.local_ms[-1]:.2f} ms")
    return me_ms


def _p99_ms(stage: Stage, running: Running, *arguments: str) -> float:
    with program(stage, "latencies", running.port, *arguments) as probing:
        expect(probing, BEGUN)
        began_s = time.monotonic()
        time.sleep(_WINDOW_S)
        ended_s = time.monotonic()
        say(probing, "")
        samples = json.loads(read_line(probing))
    return p99_ms(samples, began_s, ended_s)


@contextmanager
def _everybody_waits(port: int, issuer: Issuer) -> Iterator[None]:
    """Have the provider hang and every place taken until the block ends; who is let go, as nobody
    answered, is followed by another one."""
    begun = [begin(port, issuer, _STRATEGY) for _ in range(_PLACES)]
    issuer.released.clear()
    issuer.hangs_at = "/token"
    stop, ended = Event(), Semaphore(0)
    with ThreadPoolExecutor(_PLACES) as people:
        waiting = [people.submit(_wait_in_turn, port, issuer, one, stop, ended) for one in begun]
        try:
            if not ended.acquire(timeout=_LONGEST_WAIT_S):
                raise WrongAnswer("the provider hangs, and no login has ended")
            yield
        finally:
            stop.set()
            issuer.hangs_at = ""
            issuer.released.set()
    _check([one.result() for one in waiting])


def _wait_in_turn(port: int, issuer: Issuer, begun: Begun, stop: Event, ended: Semaphore) -> int:
    """Come back from the provider, and begin again whenever it has not answered; give the last
    status."""
    while True:
        status = come_back(port, _STRATEGY, begun)
        ended.release()
        if status != 504 or stop.is_set():
            return status
        try:
            begun = begin(port, issuer, _STRATEGY)
        except NotBegun as refused:  # it waited too long for a thread
            return refused.status


def _check(statuses: Sequence[int]) -> None:
    """WrongAnswer unless everybody was logged in or told that the provider gave no answer."""
    if wrong := set(statuses) - {200, 504}:
        raise WrongAnswer(f"logins that waited ended with {sorted(wrong)}")
