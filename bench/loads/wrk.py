"""HTTP load from wrk, and what its report says. Anything but sound 2xx answers is a failure."""

import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.subject.stage import Failed, NotRun

_PACED = Path(__file__).with_name("paced.lua")
_CYCLE = Path(__file__).with_name("cycle.lua")
_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_RATE = re.compile(r"^Requests/sec:\s+([0-9.]+)$", re.MULTILINE)
_PERCENTILE = re.compile(r"^\s+([0-9]+)%\s+([0-9.]+)(us|ms|s|m|h)$", re.MULTILINE)
_TROUBLE = re.compile(r"^\s+(Non-2xx or 3xx responses:|Socket errors:) .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class WrkReport:
    """Answers per second, and the latencies that 50 and 99 in 100 of them kept below.

    `busy` is the share of one core wrk used.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    busy: float = 0.0


def parse_report(text: str) -> WrkReport:
    """Read what `wrk --latency` prints; Failed for any other answer or trouble on a connection."""
    trouble = _TROUBLE.search(text)
    if trouble is not None:
        raise Failed(f"wrk: {trouble[0].strip()}")
    rate = _RATE.search(text)
    found = {
        int(at): float(value) * _UNIT_MS[unit] for at, value, unit in _PERCENTILE.findall(text)
    }
    if rate is None or not {50, 99} <= found.keys():
        raise Failed(f"wrk said something else than expected: {text[-200:]!r}")
    return WrkReport(float(rate[1]), found[50], found[99])


def find_wrk() -> str:
    """Give the path of wrk; NotRun where there is none."""
    path = shutil.which("wrk")
    if path is None:
        raise NotRun("wrk is not installed (Debian and Ubuntu: apt install wrk)")
    return path


def run_wrk(
    port: int, token: str, *, connections: int, duration_s: int, is_paced: bool = False
) -> WrkReport:
    """Ask for `/_me` over keep-alive connections from one thread.

    Each connection asks again at once; with `is_paced` it rests about 10 ms between two requests,
    which leaves a server mostly idle.
    """
    flags = ["-H", f"Authorization: Bearer {token}"]
    if is_paced:
        flags += ["-s", str(_PACED)]
    place = f"http://127.0.0.1:{port}/_me"
    return _run(flags, place, connections=connections, duration_s=duration_s)


def cycle_wrk(
    port: int, requests: Sequence[bytes], folder: Path, *, connections: int, duration_s: int
) -> WrkReport:
    """Send these requests in turn over keep-alive connections; `folder` holds them meanwhile."""
    path = folder / "requests"
    path.write_bytes(b"".join(request + b"\0" for request in requests))
    place = [f"http://127.0.0.1:{port}/", "--", str(path)]
    return _run(["-s", str(_CYCLE)], *place, connections=connections, duration_s=duration_s)


def _run(flags: list[str], *place: str, connections: int, duration_s: int) -> WrkReport:
    command = [find_wrk(), "-t1", f"-c{connections}", f"-d{duration_s}s"]
    command += ["--latency", "--timeout", "20s", *flags, *place]
    used_s = _children_cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout)[-200:]}")
    busy = (_children_cpu_s() - used_s) / duration_s
    return replace(parse_report(done.stdout), busy=busy)


def _children_cpu_s() -> float:
    """Give the processor time of all children that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
