"""`python -m bench.subject.oidc`: processor time that a login with OpenID Connect costs the server,
both of its steps, with a provider on the same machine that is not counted.

Sixteen people log in at once: one at a time, most of what is counted is the waking of a processor
that sleeps between two steps. Once the ID token has all that is wanted, and once the provider must
be asked for more of what it knows, which is a request to it more.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.loads.http_client import WrongAnswer
from bench.subject.provided import begin, come_back, write_config
from bench.subject.servers import Running, our_server
from bench.subject.stage import QUICK, Cores, Stage
from tests.support.issuer import Issuer, issuing

_MOST_MS = 5.0
_AT_ONCE = 16
# Strategies: the ID token tells all that is wanted, or the provider must be asked for more.
_WAYS: dict[str, dict[str, object]] = {
    "told": {"persist": ["email"]},
    "asked": {"persist": ["email", "nickname"]},
}


def main() -> int:
    """Print the figures; 1 when one is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.subject.oidc", description=__doc__)
    parser.add_argument("--logins", type=int, default=400)
    logins = parser.parse_args().logins
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="oidc-") as folder, issuing() as issuer:
        config = Path(folder, "manykeys.toml")
        config.write_text(write_config(issuer, _WAYS))
        here = Cores(frozenset(cores[:1]), frozenset(cores[1:] or cores))
        stage = Stage(QUICK, here, Path(folder), [sys.executable, "-m", "server"])
        data, flags = Path(folder, "keys.db"), ("--config", str(config))
        with our_server(stage, data, here.server, flags=flags) as running:
            used_ms = {}
            for name in _WAYS:
                log_in(running.port, issuer, name)  # what is looked up once
                used_ms[name] = cost_ms(running, issuer, name, logins)
    for name, used in used_ms.items():
        met = "met" if used <= _MOST_MS else "MISSED"
        print(f"{name}: {used:.2f} ms of one processor for a login, <= {_MOST_MS:g} {met}")
    return int(max(used_ms.values()) > _MOST_MS)


def cost_ms(running: Running, issuer: Issuer, way: str, logins: int) -> float:
    """Give the processor time of one login, the mean of so many."""
    began_s = running.cpu_s()
    with ThreadPoolExecutor(_AT_ONCE) as people:
        for done in [people.submit(log_in, running.port, issuer, way) for _ in range(logins)]:
            done.result()
    return (running.cpu_s() - began_s) / logins * 1000


def log_in(port: int, issuer: Issuer, way: str) -> None:
    """Take both steps."""
    status = come_back(port, way, begin(port, issuer, way))
    if status != 200:
        raise WrongAnswer(f"not logged in: {status}")


if __name__ == "__main__":
    raise SystemExit(main())
