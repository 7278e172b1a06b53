"""SIGTERM under load: what was answered is kept, and what was kept is answered."""

import asyncio
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.server.app.test_serve import Process, create_admin, login, open_socket, serving
from tests.support.server import Http, Socket
from tests.support.waiting import until

ENDS = (asyncio.IncompleteReadError, ConnectionError)
CONTENT = {"profileIds": ["default"]}
EACH = 4  # connections of each kind


@dataclass
class Asked:
    """Users that were asked for: those whose creation was answered, and the others."""

    answered: list[str] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)

    def begin(self, name: str) -> str:
        """Note that a user is asked for."""
        self.unanswered.add(name)
        return name

    def end(self, name: str) -> None:
        """Note that his creation was answered."""
        self.unanswered.remove(name)
        self.answered.append(name)

    async def over_http(self, server: Process, admin: str, worker: str) -> None:
        """Create one after the other until the server closes the connection."""
        http = await server.connect()
        try:
            for number in range(100_000):
                name = self.begin(f"{worker}-{number}")
                path = f"/users/{name}/_create"
                answer = await http.ask("POST", path, {"content": CONTENT}, token=admin)
                assert answer.status == 200, answer
                self.end(name)
        except ENDS as reason:
            assert not getattr(reason, "partial", b""), "half an answer"
        finally:
            http.close()

    async def pipelined(self, server: Process, admin: str, worker: str) -> None:
        """Create several at a time: answers come in order, so the last ones are missing."""
        http = await server.connect()
        sent: list[str] = []
        try:
            for number in range(100_000):
                while len(sent) < 5:
                    sent.append(self.begin(f"{worker}-{number}-{len(sent)}"))
                    await http.send(write_creation(sent[-1], admin))
                answer = await http.read()
                assert answer.status == 200, answer
                self.end(sent.pop(0))
        except ENDS as reason:
            assert not getattr(reason, "partial", b""), "half an answer"
        finally:
            http.close()

    async def over_websocket(self, server: Process, admin: str, worker: str) -> None:
        """Create one after the other until a Close comes instead of the answer."""
        opened: Socket = await open_socket(server)
        try:
            for number in range(100_000):
                name = self.begin(f"{worker}-{number}")
                await opened.send(
                    {
                        "controller": "security",
                        "action": "createUser",
                        "_id": name,
                        "body": {"content": CONTENT},
                        "jwt": admin,
                    }
                )
                first, payload = await opened.read_frame()
                if first == 0x88:
                    assert payload == b"\x03\xe9shutting down"
                    return
                assert b'"status":200' in payload, payload
                self.end(name)
        except ENDS as reason:
            assert not getattr(reason, "partial", b""), "half an answer"
        finally:
            opened.http.close()


def write_creation(name: str, admin: str) -> bytes:
    """Give the request that creates a user."""
    body = b'{"content":{"profileIds":["default"]}}'
    return (
        f"POST /users/{name}/_create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("seed", range(2))
async def test_a_stop_under_load(tmp_path: Path, loop: str, seed: int) -> None:
    """Every answered creation is there after a restart, no unanswered one is, and no answer breaks
    off: a request was either taken and answered or never taken."""
    data, asked = tmp_path / "keys.db", Asked()
    async with serving(data, "--loop", loop) as server:
        first = await server.connect()
        await create_admin(first)
        admin = await login(first)
        first.close()
        ways = (asked.over_http, asked.pipelined, asked.over_websocket)
        workers = [
            asyncio.create_task(way(server, admin, f"{way.__name__}-{number}"))
            for way in ways
            for number in range(EACH)
        ]
        least = random.Random(seed).randrange(30, 200)
        await until(lambda: len(asked.answered) >= least)
        errors = await server.stop(signal.SIGTERM)
        await asyncio.gather(*workers)
        assert (server.process.returncode, "Traceback" in errors) == (0, False), errors
        assert "cut off" not in errors
        assert asked.unanswered
    async with serving(data, "--loop", loop) as server:
        http = await server.connect()
        for name in asked.answered:
            assert await exists(http, name, admin), name
        for name in asked.unanswered:
            assert not await exists(http, name, admin), name
        http.close()


async def exists(http: Http, name: str, admin: str) -> bool:
    """Tell whether there is a user of this name."""
    answer = await http.ask("GET", f"/users/{name}", token=admin)
    assert answer.status in (200, 404), answer
    return answer.status == 200
