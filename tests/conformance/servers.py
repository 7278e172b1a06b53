"""The servers whose conformance is shown beside ours, each a program of its own."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
_PEERS = "tests.conformance.peers"
_APP = f"{_PEERS}.asgi:app"
_START_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server: what it is called, its command with `{port}`, and the packages it needs."""

    name: str
    command: tuple[str, ...]
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    speaks_http: bool = True

    def missing(self) -> str:
        """Give what is not installed here, "" when all is there."""
        packages = [name for name in self.packages if importlib.util.find_spec(name) is None]
        programs = [name for name in self.programs if shutil.which(name) is None]
        return ", ".join(packages + programs)

    def shown(self) -> str:
        """Give its name with the version of its first package."""
        return f"{self.name} {version(self.packages[0])}" if self.packages else self.name

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run it until the block ends; give its port."""
        port = free_port()
        command = [part.format(port=port) for part in self.command]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _await_port(port, process)
                yield port
            finally:
                process.kill()


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"{process.args!r} does not listen") from None
            time.sleep(0.02)
        else:
            return


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


def _uvicorn(http: str, websocket: str) -> tuple[str, ...]:
    options = ("--port", "{port}", "--http", http, "--ws", websocket, "--log-level", "critical")
    return _python("uvicorn", _APP, *options, "--ws-max-size", str(1 << 25))


PEERS = (
    Server(
        "uvicorn (httptools, websockets)",
        _uvicorn("httptools", "websockets-sansio"),
        ("uvicorn", "httptools", "websockets"),
    ),
    Server("uvicorn (h11, wsproto)", _uvicorn("h11", "wsproto"), ("uvicorn", "h11", "wsproto")),
    Server(
        "hypercorn",
        _python("hypercorn", "-b", "127.0.0.1:{port}", _APP),
        ("hypercorn",),
    ),
    Server(
        "granian",
        (
            str(Path(sys.executable).parent / "granian"),
            "--interface",
            "asgi",
            "--port",
            "{port}",
            _APP,
        ),
        ("granian",),
    ),
    Server("aiohttp", _python(f"{_PEERS}.with_aiohttp", "{port}"), ("aiohttp",)),
    Server(
        "websockets",
        _python(f"{_PEERS}.with_websockets", "{port}"),
        ("websockets",),
        speaks_http=False,
    ),
    Server(
        "Node http + ws",
        ("node", "tests/conformance/peers/with_node.cjs", "{port}"),
        programs=("node",),
    ),
)
