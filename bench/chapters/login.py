"""`POST /_login/local` beside bcrypt alone, and what `/_me` feels of logins that run flat out.

Here the server has all cores: its hashing threads are meant to use them.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import bcrypt

from bench.loads.wrk import find_wrk, run_wrk
from bench.report.series import Chapter, Series, measure_rounds
from bench.subject.checks import check_same
from bench.subject.exchange import check_http
from bench.subject.stage import NotRun, Stage
from bench.subject.subject import CREDENTIALS, OURS, Subject, log_in, ready_subject

COST = 12
CONNECTIONS = 64
# So many logins wait for each core that no hashing thread ever does.
_AT_ONCE_PER_CORE = 3
_ALONE, _IDLE, _BUSY = "bcrypt alone", "idle p99", "p99 beside logins"


def measure(stage: Stage) -> Chapter:
    """Measure logins per second, then the latency of `/_me` without and with logins beside it."""
    cores = len(stage.cores.all)
    chapter = Chapter("login", f"Logins, bcrypt cost {COST}, cores: {cores}")
    with ready_subject(stage, "login", on_all_cores=True) as subject:
        _measure_rate(stage, subject, chapter)
        chapter.require(OURS, _ALONE, 0.90)
        try:
            find_wrk()
        except NotRun as reason:
            chapter.notes.append(f"the latency of /_me is not measured: {reason}")
        else:
            _measure_latency(stage, subject, chapter)
            chapter.require(_BUSY, _IDLE, 3.0, at_most=True)
    return chapter


def _measure_rate(stage: Stage, subject: Subject, chapter: Chapter) -> None:
    cores = len(stage.cores.all)
    count = cores * stage.plan.logins_per_core
    salt = bcrypt.gensalt(COST)
    port = subject.running.port

    def hash_once() -> None:
        """Do what a password check takes: the pre-hash, base64, bcrypt."""
        digest = hmac.digest(b"bench", CREDENTIALS["password"].encode(), hashlib.sha384)
        bcrypt.hashpw(base64.b64encode(digest), salt)

    def alone() -> float:
        return _rate(stage, _ALONE, hash_once, count, cores)

    def ours() -> float:
        return _rate(stage, OURS, lambda: log_in(port), count, cores * _AT_ONCE_PER_CORE)

    found = measure_rounds({OURS: ours, _ALONE: alone}, stage.plan.login_rounds)
    chapter.series += [Series(name, "logins/s", values) for name, values in found.items()]


def _rate(stage: Stage, name: str, once: Callable[[], object], count: int, threads: int) -> float:
    """Do something `count` times in so many threads, which only wait, and give times per second."""
    with ThreadPoolExecutor(threads) as pool:
        began_s = time.perf_counter()
        for done in [pool.submit(once) for _ in range(count)]:
            done.result()
        per_second = count / (time.perf_counter() - began_s)
    stage.say(f"{name:12} {per_second:7.2f} logins/s")
    return per_second


def _measure_latency(stage: Stage, subject: Subject, chapter: Chapter) -> None:
    """Take p99 under a light load, which leaves the cores to the hashing threads."""
    port, sample = subject.running.port, subject.sample
    before = check_http(port, sample, is_constant=False)
    logins_per_second: list[float] = []

    def p99_ms(name: str) -> float:
        report = run_wrk(
            port,
            sample.token,
            connections=CONNECTIONS,
            duration_s=stage.plan.paced_s,
            is_paced=True,
        )
        stage.say(f"{name:17} {report.p99_ms:7.2f} ms at {report.per_second:,.0f}/s")
        return report.p99_ms

    def busy() -> float:
        began_s = time.perf_counter()
        with _logins_flat_out(port, len(stage.cores.all) * _AT_ONCE_PER_CORE) as done_s:
            value = p99_ms(_BUSY)
        # With those that were in progress at the end: a short round sees few of them end.
        logins_per_second.append(len(done_s) / (time.perf_counter() - began_s))
        return value

    found = measure_rounds({_IDLE: lambda: p99_ms(_IDLE), _BUSY: busy}, stage.plan.paced_rounds)
    check_same(before, check_http(port, sample, is_constant=False))
    chapter.series += [Series(name, "ms", values) for name, values in found.items()]
    chapter.series.append(
        Series("beside /_me", "logins/s", tuple(logins_per_second)),
    )
    chapter.notes.append(
        f"p99 of /_me on {CONNECTIONS} connections, each resting 5 to 15 ms between requests"
    )


@contextmanager
def _logins_flat_out(port: int, threads: int) -> Iterator[list[float]]:
    """Log in without pause until the block ends; gives the list the times of all logins go to."""
    stop = Event()
    done_s: list[float] = []

    def log_in_again_and_again() -> None:
        while not stop.is_set():
            log_in(port)
            done_s.append(time.perf_counter())

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(log_in_again_and_again) for _ in range(threads)]
        try:
            yield done_s
        finally:
            stop.set()
        for one in running:
            one.result()
