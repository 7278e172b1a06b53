"""Starts the servers under test, each a process group of its own, and watches what it uses."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.loads.http_client import HOST
from bench.subject.sample import VARIABLE, Sample
from bench.subject.stage import Failed, NotRun, Stage, pinned

_START_S = 20.0
_STOP_S = 10.0
_LOOK_EVERY_S = 0.001
_LISTENS = re.compile(r"listens on http://[^\s:]+:(\d+)")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with: `module` runs it, and needs the packages of these names."""

    name: str
    module: str
    packages: tuple[str, ...]
    flags: tuple[str, ...] = ()


BARE = "bare uvloop"
BARE_HTTP = Peer(BARE, "bare", ("uvloop",))
BARE_WEBSOCKET = Peer(BARE, "bare", ("uvloop",), ("websocket",))
UVICORN = Peer("uvicorn", "with_uvicorn", ("uvicorn", "httptools", "uvloop"))
GRANIAN = Peer("granian", "with_granian", ("granian", "uvloop"))
WEBSOCKETS = Peer("websockets", "with_websockets", ("websockets", "uvloop"))
PICOWS = Peer("picows", "with_picows", ("picows", "uvloop"))


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections on `port`; `process` leads its group."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Give the processor time all its processes have used so far."""
        ticks = sum(sum(map(int, stat[11:13])) for stat in _read_stats(self.process.pid))
        return ticks / _TICKS_PER_S

    def resident_bytes(self) -> int:
        """Give the resident memory of all its processes."""
        pages = sum(int(stat[21]) for stat in _read_stats(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE")


def _read_stats(group: int) -> Iterator[list[str]]:
    """Give the fields of /proc/PID/stat from the third on (proc(5)) for each process of a group."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the listing and the look
        if int(fields[2]) == group:
            yield fields


@contextmanager
def our_server(
    stage: Stage,
    data: Path,
    cores: frozenset[int],
    settings: Sequence[str] = (),
    *,
    flags: Sequence[str] = (),
) -> Iterator[Running]:
    """Run our server on a database, until the block ends; settings are as for `--set`."""
    command = [*stage.command, "serve", "--port", "0", "--data", str(data), *flags]
    for setting in settings:
        command += ["--set", setting]
    log = data.with_suffix(".log")
    with _started(command, cores, log) as process:
        yield Running("manykeys", _await_address(process, log), process)


def require_packages(peer: Peer) -> None:
    """Raise NotRun unless all packages a peer needs are installed."""
    missing = [name for name in peer.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise NotRun(f"{peer.name} is not measured: {', '.join(missing)} is not installed")


@contextmanager
def peer_server(stage: Stage, peer: Peer, sample: Sample) -> Iterator[Running]:
    """Run a peer on the server's core until the block ends; NotRun where a package is missing."""
    require_packages(peer)
    path = stage.folder / "sample.json"
    sample.write(path)
    port = _free_port()
    command = [sys.executable, "-m", f"bench.peers.{peer.module}", str(port), *peer.flags]
    log = stage.folder / f"{peer.module}.log"
    with _started(command, stage.cores.server, log, {VARIABLE: str(path)}) as process:
        _await_port(process, port, log)
        yield Running(peer.name, port, process)


@contextmanager
def _started(
    command: list[str], cores: frozenset[int], log: Path, variables: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | (variables or {})
    # As installed programs have it: what is imported is compiled once, not at each start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("wb") as out, pinned(cores):
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and whatever it started."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_address(process: subprocess.Popen[bytes], log: Path) -> int:
    """Give the port our server says it listens on."""
    deadline_s = time.monotonic() + _START_S
    while (found := _LISTENS.search(log.read_text(errors="replace"))) is None:
        _check_starting(process, log, deadline_s)
        time.sleep(_LOOK_EVERY_S)
    return int(found[1])


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while True:
        _check_starting(process, log, deadline_s)
        try:
            socket.create_connection((HOST, port), timeout=1.0).close()
        except ConnectionRefusedError:
            time.sleep(_LOOK_EVERY_S)
        else:
            return


def _check_starting(process: subprocess.Popen[bytes], log: Path, deadline_s: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline_s:
        last = log.read_text(errors="replace").strip()[-600:]
        raise Failed(f"{process.args!r} does not listen: {last or 'it printed nothing'}")


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
