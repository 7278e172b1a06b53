"""Where a server listens: Unix sockets, inherited sockets, and what a service manager is told."""

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.net.bind import Place, inherited_fd, shown_address
from tests.server.app.test_serve import CHEAP, create_admin, login
from tests.support.server import Http
from tests.support.waiting import deadline, in_time


@asynccontextmanager
async def serving_at(
    line: str, *options: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server that says it listens on what ends with `line`, until the block is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", "--data", ":memory:"),
        *CHEAP,
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
        pass_fds=[int(options[1])] if options[:1] == ("--fd",) else [],
    )
    assert process.stdout is not None
    try:
        async with deadline():
            while not (shown := (await process.stdout.readline()).decode()).startswith("manykeys"):
                assert shown, await process.communicate()
        assert shown.endswith(line + "\n")
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await in_time(process.communicate())
    assert process.returncode == 0


async def test_a_unix_socket(tmp_path: Path) -> None:
    """A login through it; who comes that way is not local, since it is for proxies."""
    path = tmp_path / "keys.sock"
    async with serving_at(f"unix:{path}", "--uds", str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        http = Http(*await asyncio.open_unix_connection(str(path)))
        assert (await http.ask("GET", "/_ready")).status == 200
        refused = await http.ask("POST", "/_createFirstAdmin/admin", {})
        assert refused.json["error"]["id"] == "security.rights.unauthorized"
        http.close()
    assert not path.exists()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("is_named", [True, False])
async def test_a_proxy_on_a_unix_socket(tmp_path: Path, loop: str, is_named: bool) -> None:
    """H8: only with `unix` in `server.trustedProxies` it says where a client comes from."""
    path = tmp_path / "keys.sock"
    trusted = "127.0.0.1,unix" if is_named else "127.0.0.1"
    options = ("--uds", str(path), "--loop", loop, "--set", f"server.trustedProxies={trusted}")
    async with serving_at(f"unix:{path}", *options) as process:
        http = Http(*await asyncio.open_unix_connection(str(path)))
        forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        body = {"username": "nobody", "password": "x"}
        assert (await http.ask("POST", "/_login/local", body, headers=forwarded)).status == 401
        http.close()
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    (line,) = [line for line in errors.decode().splitlines() if "login" in line]
    assert ("203.0.113.7" in line) is is_named


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    """What a killed server leaves keeps nobody from starting again."""
    path = tmp_path / "keys.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving_at(f"unix:{path}", "--uds", str(path)):
        http = Http(*await asyncio.open_unix_connection(str(path)))
        assert (await http.ask("GET", "/_ready")).status == 200
        http.close()


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    """Neither another server's socket nor a file of somebody's is taken away."""
    path, file = tmp_path / "used.sock", tmp_path / "file"
    file.write_text("mine")
    with socket.socket(socket.AF_UNIX) as used:
        used.bind(str(path))
        used.listen()
        for taken in (path, file, tmp_path / "no" / "folder"):
            with pytest.raises(LocalError, match="cannot listen on"):
                Place(path=str(taken)).open()
    assert path.is_socket()
    assert file.read_text() == "mine"


async def test_an_inherited_socket() -> None:
    """`--fd`: opened by somebody else, who knows where it is."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        async with serving_at(f":{port}", "--fd", str(opened.fileno())):
            http = Http(*await asyncio.open_connection("127.0.0.1", port))
            await create_admin(http)
            assert await login(http)
            http.close()


def test_a_service_managers_socket() -> None:
    """sd_listen_fds(3): one socket, and only for the process it names."""
    assert inherited_fd({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7) == 3
    for others in (
        {},
        {"LISTEN_PID": "8", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "0"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "2"},
        {"LISTEN_FDS": "1"},
    ):
        assert inherited_fd(others, 7) is None


def test_descriptors_that_are_no_sockets() -> None:
    with open(os.devnull) as file, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for fd in (file.fileno(), datagrams.fileno(), 60_000):
            with pytest.raises(LocalError, match=f"descriptor {fd}"):
                Place(fd=fd).open()


def test_addresses_are_shown_as_they_are_typed() -> None:
    assert shown_address(("127.0.0.1", 80), is_tls=False) == "http://127.0.0.1:80"
    assert shown_address(("::1", 80, 0, 0), is_tls=True) == "https://[::1]:80"
    assert shown_address("/run/x", is_tls=False) == "unix:/run/x"


async def test_a_service_manager_is_told(tmp_path: Path) -> None:
    """sd_notify(3): ready once it answers, stopping when it was told to."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        loop = asyncio.get_running_loop()
        sock = tmp_path / "keys.sock"
        options = ("--uds", str(sock))
        async with serving_at(f"unix:{sock}", *options, NOTIFY_SOCKET=str(path)):
            told = await in_time(loop.sock_recv(manager, 100))
            assert told == b"READY=1"
        assert await in_time(loop.sock_recv(manager, 100)) == b"STOPPING=1"


async def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    """The first one lets a request be finished, within the grace."""
    path = tmp_path / "keys.sock"
    async with serving_at(f"unix:{path}", "--uds", str(path), "--grace", "10m") as process:
        http = Http(*await asyncio.open_unix_connection(str(path)))
        await http.send(b"POST /_login/local HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        assert (await ready(str(path))).status == 200
        process.send_signal(signal.SIGTERM)
        await until_refused(str(path))
        process.send_signal(signal.SIGTERM)
        await in_time(process.wait())
        http.close()


async def ready(path: str) -> object:
    """Ask whether the server is ready, on a connection of its own."""
    http = Http(*await asyncio.open_unix_connection(path))
    answer = await http.ask("GET", "/_ready")
    http.close()
    return answer


async def until_refused(path: str) -> None:
    """Wait until nobody is let in any more."""
    async with deadline():
        while True:
            try:
                _, writer = await asyncio.open_unix_connection(path)
            except (ConnectionRefusedError, FileNotFoundError):
                return
            writer.close()
            await asyncio.sleep(0.005)
