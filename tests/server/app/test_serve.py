"""The program itself: started, used, stopped and killed as a process."""

import asyncio
import json
import random
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import PASSWORD, Http, Socket
from tests.support.waiting import deadline, in_time, until

CHEAP = ("--set", "security.passwords.cost=4")


@dataclass
class Process:
    """A server process that answers."""

    process: asyncio.subprocess.Process
    port: int
    lines: list[str]

    async def connect(self) -> Http:
        """Open a HTTP connection."""
        return Http(*await asyncio.open_connection("127.0.0.1", self.port))

    async def stop(self, number: int = signal.SIGTERM) -> str:
        """Send a signal, wait for the end, give what stood on stderr."""
        self.process.send_signal(number)
        _, errors = await in_time(self.process.communicate())
        return errors.decode()


@asynccontextmanager
async def serving(
    data: Path | str, *options: str, before: tuple[str, ...] = ()
) -> AsyncIterator[Process]:
    """Run `python -m server serve` until the block is left, behind a command of the caller's."""
    process = await asyncio.create_subprocess_exec(
        *before,
        *(sys.executable, "-m", "server", "serve", "--port", "0", "--data", str(data)),
        *CHEAP,
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        lines = []
        async with deadline():
            while True:
                line = (await process.stdout.readline()).decode()
                assert line, await process.communicate()
                lines.append(line.rstrip("\n"))
                found = re.fullmatch(r"manykeys listens on https?://127\.0\.0\.1:([0-9]+)\n", line)
                if found is not None:
                    break
        yield Process(process, int(found[1]), lines)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def create_admin(http: Http) -> None:
    """Make the first administrator, `admin`."""
    body = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
    answer = await http.ask("POST", "/_createFirstAdmin/admin", body)
    assert answer.status == 200, answer


async def login(http: Http, name: str = "admin", password: str = PASSWORD) -> str:
    """Log in and give the token."""
    answer = await http.ask("POST", "/_login/local", {"username": name, "password": password})
    assert answer.status == 200, answer
    return answer.json["result"]["jwt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_sessions_survive_a_restart(tmp_path: Path, number: int, loop: str) -> None:
    """Exit code 0 after SIGTERM and SIGINT (docs/architecture.md), sockets closed with
    1001."""
    data = tmp_path / "keys.db"
    async with serving(data, "--loop", loop) as server:
        assert server.lines[0].startswith("first admin: ")
        http = await server.connect()
        await create_admin(http)
        token, ended = await login(http), await login(http)
        assert (await http.ask("POST", "/_logout", token=ended)).status == 200
        opened = await open_socket(server)
        errors = await server.stop(number)
        assert await opened.read_frame() == (0x88, b"\x03\xe9shutting down")
        opened.http.close()
        http.close()
        assert server.process.returncode == 0
        assert "Traceback" not in errors
        assert token not in errors and PASSWORD not in errors
    assert data.stat().st_mode & 0o777 == 0o600
    async with serving(data, "--loop", loop) as server:
        assert len(server.lines) == 1
        http = await server.connect()
        answer = await http.ask("GET", "/_me", token=token)
        assert answer.json["result"]["_id"] == "admin"
        answer = await http.ask("GET", "/_me", token=ended)
        assert answer.json["error"]["id"] == "security.token.invalid"
        http.close()


async def open_socket(server: Process) -> Socket:
    """Open a WebSocket."""
    http = await server.connect()
    await http.send(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await http.read()).status == 101
    return Socket(http)


@pytest.mark.parametrize("seed", range(3))
async def test_a_kill_under_load_loses_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    """docs/architecture.md, security checks X5, X6: users, sessions and revocations that were
    answered are there again, and no user without his credentials."""
    data = tmp_path / "keys.db"
    kept: list[tuple[str, str]] = []
    revoked: list[str] = []
    async with serving(data) as server:
        first = await server.connect()
        await create_admin(first)
        admin = await login(first)
        first.close()

        async def work(worker: int) -> None:
            http = await server.connect()
            try:
                for number in range(10_000):
                    name = f"user-{worker}-{number}"
                    body = {
                        "content": {"profileIds": ["default"]},
                        "credentials": {"local": {"username": name, "password": PASSWORD}},
                    }
                    answer = await http.ask("POST", f"/users/{name}/_create", body, token=admin)
                    assert answer.status == 200, answer
                    token, spent = await login(http, name), await login(http, name)
                    kept.append((name, token))
                    assert (await http.ask("POST", "/_logout", token=spent)).status == 200
                    revoked.append(spent)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                http.close()

        workers = [asyncio.create_task(work(number)) for number in range(4)]
        least = random.Random(seed).randrange(8, 40)
        await until(lambda: len(revoked) >= least)
        await server.stop(signal.SIGKILL)
        await asyncio.gather(*workers)
    async with serving(data) as server:
        http = await server.connect()
        for name, token in kept:
            answer = await http.ask("GET", "/_me", token=token)
            assert answer.json["result"]["_id"] == name
            assert answer.json["result"]["strategies"] == ["local"]
        for token in revoked:
            assert (await http.ask("GET", "/_me", token=token)).status == 401
        http.close()


async def test_create_admin(tmp_path: Path) -> None:
    """docs/architecture.md: `create-admin NAME --password-stdin`, while the server runs too."""
    data = tmp_path / "keys.db"
    async with serving(data) as server:
        made = await run("create-admin", "root", "--password-stdin", "--data", str(data))
        assert made == (0, made[1], "")
        http = await server.connect()
        token = await login(http, "root", "from stdin")
        answer = await http.ask("GET", "/_me", token=token)
        assert answer.json["result"]["_source"]["profileIds"] == ["admin"]
        answer = await http.ask("POST", "/_createFirstAdmin/second", {})
        assert answer.status == 401
        http.close()
    code, _, errors = await run("create-admin", "root", "--password-stdin", "--data", str(data))
    assert (code, errors.count("\n")) == (2, 1)


async def run(command: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run a command with a password on its input; give exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", command, *CHEAP, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await in_time(process.communicate(b"from stdin\n"))
    return process.returncode, out.decode(), errors.decode()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--set", "security.passwords.cost=99"), "security.passwords.cost"),
        (("--set", "no.such.key=1"), "no.such.key"),
        (("--config", "/nowhere/at/all.toml"), "/nowhere/at/all.toml"),
        (("--data", "/nowhere/at/all.db"), "/nowhere/at/all.db"),
        (("--open", "--host", "0.0.0.0"), "--open"),  # noqa: S104
        (("--host", "203.0.113.1"), "203.0.113.1"),
    ],
)
async def test_mistakes_end_in_one_line(
    tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    """docs/architecture.md: exit code 2, the culprit by name, no stack trace."""
    code, out, errors = await run("serve", "--data", str(tmp_path / "a.db"), *options)
    assert (code, out) == (2, "")
    lines = [line for line in errors.splitlines() if not re.search(" (WARNING|INFO) ", line)]
    assert len(lines) == 1, errors
    assert named in lines[0]


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """No stack trace for a user's mistake."""
    async with serving(tmp_path / "a.db") as server:
        code, _, errors = await run(
            "serve", "--data", str(tmp_path / "b.db"), "--port", str(server.port)
        )
        assert code == 2
        assert str(server.port) in errors
        assert "Traceback" not in errors


async def test_open_mode(tmp_path: Path) -> None:
    """docs/api/differences.md#rights-from-the-beginning: everybody may do everything, with a
    warning."""
    async with serving(tmp_path / "a.db", "--open") as server:
        http = await server.connect()
        assert (await http.ask("GET", "/_now")).status == 200
        http.close()
        errors = await server.stop()
        assert "--open" in errors or "everybody" in errors


async def test_logs_tell_who_did_what_and_no_secret(tmp_path: Path) -> None:
    """JSON lines with request id, user, controller, action, status and duration."""
    async with serving(
        tmp_path / "a.db", "--log-format", "json", "--set", "logs.requests=all"
    ) as server:
        http = await server.connect()
        await create_admin(http)
        token = await login(http)
        path = f"/_me?password={PASSWORD.replace(' ', '+')}&secret=in-the-query"
        headers = {"X-Kuzzle-Request-Id": "my-id"}
        assert (await http.ask("GET", path, token=token, headers=headers)).status == 200
        http.close()
        errors = await server.stop()
    lines = [json.loads(line) for line in errors.splitlines()]
    asked = [line for line in lines if line.get("id") == "my-id"]
    assert len(asked) == 1
    assert {name: asked[0][name] for name in ("controller", "action", "status", "kuid")} == {
        "controller": "auth",
        "action": "getCurrentUser",
        "status": 200,
        "kuid": "admin",
    }
    assert isinstance(asked[0]["ms"], float)
    assert token not in errors
    assert PASSWORD not in errors
    assert "in-the-query" not in errors
