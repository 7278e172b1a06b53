"""Logins beside clients that want all of the server (`python -m bench.loads.login_fairness`).

Measures, with bcrypt of the default cost and every answer of the measured login checked:

* a login with the right password on one core, beside three connections that pipeline requests which
  are refused: in seconds;
* on two cores, beside seven other accounts with ten connections each, all at one address, that log
  in all the time: as a ratio to the same login alone, from another address and from the same one;
* the same beside ten connections at one address that register users all the time.

Prints one line for each with its target; exit code 1 if one is missed. The load shares the cores of
the server only where there are no others.
"""

import argparse
import itertools
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.loads.http_client import HOST, WrongAnswer, ask, connect, exchange, write_request
from bench.subject.servers import Running, our_server
from bench.subject.stage import QUICK, Cores, Stage, pinned, split_cores
from bench.subject.subject import LOGIN_PATH, create_admin, log_in

FLOOD = "flood"
_FLOODING, _OTHER, _NEIGHBOUR = "127.0.0.2", "127.0.0.3", "127.0.0.2"
_FLOODING_CONNECTIONS = 3
_ACCOUNTS, _CONNECTIONS_EACH = 7, 10
_REGISTERING_CONNECTIONS = 10
_PASSWORD = "the same long Passphrase for 1 and all"  # noqa: S105
_VICTIM = {"username": "victim", "password": _PASSWORD}
_WARM_UP_S = 5.0
_REST_S = 1.0  # between two measured logins: a user logs in now and then
_BURST = write_request("GET", "/_me") * 200
_MAX_BESIDE_REFUSALS_S = 2.0
_MAX_RATIO = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured scenario; `value` must not be above `target`."""

    what: str
    value: float
    target: float
    unit: str
    details: str

    def line(self) -> str:
        """Return it for people."""
        verdict = "met" if self.value <= self.target else "MISSED"
        return (
            f"{self.what}: {self.value:.2f} {self.unit} (≤ {self.target:g}, {verdict})"
            f"; {self.details}"
        )


def measure_logins(port: int, source: str, count: int) -> list[float]:
    """Log in some times from an address; return how long each took, in seconds."""
    request, taken = write_request("POST", LOGIN_PATH, body=_VICTIM), []
    for _ in range(count):
        with connect(port, source) as connection:
            began_s = time.monotonic()
            exchange(connection, request).result()
            taken.append(time.monotonic() - began_s)
        time.sleep(_REST_S)
    return taken


def flood(port: int) -> None:
    """Pipeline requests that are refused on one connection, and again when it is closed."""
    while True:
        with connect(port, _FLOODING) as connection:
            connection.settimeout(None)
            threading.Thread(target=_drain, args=(connection.dup(),), daemon=True).start()
            try:
                while True:
                    connection.sendall(_BURST)
            except OSError:
                continue


def _drain(connection: object) -> None:
    with connection as reading:  # type: ignore[attr-defined]
        try:
            while reading.recv(1 << 18):
                pass
        except OSError:
            pass


@contextmanager
def refusals(port: int, cores: Cores) -> Iterator[None]:
    """Flood the server with requests it refuses, from processes of their own."""
    command = [sys.executable, "-m", "bench.loads.login_fairness", FLOOD, str(port)]
    with pinned(cores.load):
        floods = [subprocess.Popen(command) for _ in range(_FLOODING_CONNECTIONS)]
    try:
        yield
    finally:
        for one in floods:
            one.kill()
            one.wait()


@contextmanager
def repeating(port: int, requests: list[tuple[Callable[[], bytes], int]]) -> Iterator[None]:
    """Send each of these requests over so many connections at one address, again and again."""
    is_over = threading.Event()

    def repeat(make: Callable[[], bytes]) -> None:
        with connect(port, _FLOODING) as connection:
            connection.settimeout(None)  # its turn may be long in coming: that is the point
            while not is_over.is_set():
                answer = exchange(connection, make())
                if answer.status not in (200, 429, 503):
                    raise WrongAnswer(f"{answer.status}: {answer.json}")

    threads = [
        threading.Thread(target=repeat, args=(make,), daemon=True)
        for make, count in requests
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def prepare(running: Running) -> None:
    """Create the accounts, and let everyone register."""
    port = running.port
    create_admin(port)
    token = log_in(port)
    for name in ["victim", *(f"other-{number}" for number in range(_ACCOUNTS))]:
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": name, "password": _PASSWORD}},
        }
        ask(port, "POST", f"/users/{name}/_create", body=body, token=token).result()
    # The rights of anonymous clients, and registration beside them.
    role = ask(port, "GET", "/roles/anonymous", token=token).result()["_source"]
    controllers = dict(role["controllers"])  # type: ignore[index]
    controllers["security"] = {"actions": {"createRestrictedUser": True}}
    body = {"controllers": controllers}
    ask(port, "PUT", "/roles/anonymous/_update", body=body, token=token).result()


def beside_refusals(stage: Stage, count: int) -> Iterator[Finding]:
    """Measure logins on one core beside refused requests."""
    with our_server(stage, stage.folder / "refusals.db", stage.cores.server) as running:
        prepare(running)
        alone = measure_logins(running.port, _OTHER, count)
        with refusals(running.port, stage.cores):
            time.sleep(_WARM_UP_S)
            beside = measure_logins(running.port, _OTHER, count)
    details = f"alone {statistics.median(alone):.2f} s, median beside {_median(beside)} s"
    yield Finding(
        "slowest login beside a flood of refused requests, one core",
        max(beside),
        _MAX_BESIDE_REFUSALS_S,
        "s",
        details,
    )


def beside_hashing(stage: Stage, count: int) -> Iterator[Finding]:
    """Measure logins on all cores beside other logins, then beside registrations."""
    numbers = itertools.count()

    def register() -> bytes:
        credentials = {"username": f"new-{next(numbers)}", "password": _PASSWORD}
        body = {"content": {}, "credentials": {"local": credentials}}
        return write_request("POST", "/users/_createRestricted", body=body)

    def log_in_as(name: str) -> Callable[[], bytes]:
        body = {"username": name, "password": _PASSWORD}
        request = write_request("POST", LOGIN_PATH, body=body)
        return lambda: request

    accounts = [(log_in_as(f"other-{number}"), _CONNECTIONS_EACH) for number in range(_ACCOUNTS)]
    loads = {
        f"{_ACCOUNTS} accounts × {_CONNECTIONS_EACH} connections that log in": accounts,
        "registrations": [(register, _REGISTERING_CONNECTIONS)],
    }
    with our_server(stage, stage.folder / "hashing.db", stage.cores.all) as running:
        prepare(running)
        alone_s = statistics.median(measure_logins(running.port, _OTHER, count))
        for name, load in loads.items():
            with repeating(running.port, load):
                time.sleep(_WARM_UP_S)
                for whose, source in (("another", _OTHER), ("the same", _NEIGHBOUR)):
                    beside = measure_logins(running.port, source, count)
                    yield Finding(
                        f"median login from {whose} address beside {name}",
                        statistics.median(beside) / alone_s,
                        _MAX_RATIO,
                        "× alone",
                        f"alone {alone_s:.2f} s, slowest beside {max(beside):.2f} s",
                    )


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f}"


def main() -> int:
    """Measure all scenarios; return the exit code."""
    if sys.argv[1:2] == [FLOOD]:
        flood(int(sys.argv[2]))
    parser = argparse.ArgumentParser(
        prog="python -m bench.loads.login_fairness", description=__doc__
    )
    parser.add_argument("--logins", type=int, default=12, help="measured logins of each kind")
    parser.add_argument("--server", default=f"{shlex.quote(sys.executable)} -m server")
    parser.add_argument("--only", choices=("refusals", "hashing"))
    options = parser.parse_args()
    cores = split_cores(os.sched_getaffinity(0))
    is_missed = False
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stage = Stage(QUICK, cores, Path(folder), shlex.split(options.server))
        scenarios = {"refusals": beside_refusals, "hashing": beside_hashing}
        for name, measure in scenarios.items():
            if options.only in (None, name):
                for finding in measure(stage, options.logins):
                    print(finding.line(), flush=True)
                    is_missed |= finding.value > finding.target
    return int(is_missed)


if __name__ == "__main__":
    assert HOST == "127.0.0.1"  # noqa: S101 (the addresses above are of the same network)
    sys.exit(main())
