"""SIGHUP, which service managers, log rotation and closed terminals send, never ends the server."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.server.app.test_serve import Process, create_admin, serving
from tests.support.server import Http
from tests.support.waiting import deadline, in_time, until


async def read_until(server: Process, text: str) -> str:
    """Read the server's log up to the line that holds a text."""
    stderr = server.process.stderr
    assert stderr is not None
    async with deadline():
        while line := (await stderr.readline()).decode():
            if text in line:
                return line
    raise AssertionError("the server ended")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_hangup_without_tls_is_logged_and_changes_nothing(tmp_path: Path, loop: str) -> None:
    """There is nothing to reload; requests are answered as before, and it ends with code 0."""
    async with serving(tmp_path / "keys.db", "--loop", loop) as server:
        http = await server.connect()
        await create_admin(http)
        for _ in range(2):
            server.process.send_signal(signal.SIGHUP)
            line = await read_until(server, "SIGHUP")
            assert "nothing to reload" in line
        assert (await http.ask("GET", "/_healthcheck")).status == 200
        http.close()
        await server.stop()
    assert server.process.returncode == 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_hangup_while_the_server_stops_is_survived(tmp_path: Path, loop: str) -> None:
    """What is in progress is answered all the same, and the exit code is 0."""
    slow = "--set security.passwords.cost=13 --set security.passwords.threads=1 --grace 1m".split()
    async with serving(tmp_path / "keys.db", "--loop", loop, *slow) as server:
        http = await server.connect()
        body = b'{"username":"a","password":"b"}'
        head = (
            b"POST /_login/local HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        await http.send((head + body) * 4)
        idle = await server.connect()
        assert (await idle.ask("GET", "/_healthcheck")).status == 200
        server.process.send_signal(signal.SIGTERM)
        assert await idle.read_end() == b""  # it stops
        server.process.send_signal(signal.SIGHUP)
        assert "starts or stops" in await read_until(server, "SIGHUP")
        for _ in range(4):
            assert (await http.read()).status == 401
        http.close()
        idle.close()
        await in_time(server.process.wait())
    assert server.process.returncode == 0


async def test_hangup_while_the_server_starts_is_survived(tmp_path: Path) -> None:
    """It has not read its settings yet: they come through a pipe, whose other end is ours."""
    pipe = tmp_path / "manykeys.toml"
    os.mkfifo(pipe)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", "--port", "0", "--data", ":memory:"),
        *("--config", str(pipe)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        with await in_time(asyncio.to_thread(pipe.open, "w")) as settings:  # the server reads
            process.send_signal(signal.SIGHUP)
            await until(lambda: not _is_pending(process.pid, signal.SIGHUP))
            settings.write("[logs]\nlevel = 'info'\n")
        async with deadline():
            while b"listens on" not in (line := await process.stdout.readline()):
                assert line, await process.communicate()
        port = int(re.findall(rb":([0-9]+)", line)[-1])
        http = Http(*await asyncio.open_connection("127.0.0.1", port))
        assert (await http.ask("GET", "/_healthcheck")).status == 200
        http.close()
        process.send_signal(signal.SIGTERM)
        await in_time(process.communicate())
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def _is_pending(pid: int, number: int) -> bool:
    """Tell whether a signal has not been delivered to a process yet."""
    status = Path(f"/proc/{pid}/status").read_text()
    (pending,) = re.findall(r"^ShdPnd:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(int(pending, 16) & 1 << (number - 1))
