"""Two server processes on one database file (security check N1; the invariants of its tests are
named I1, I10 and so on: see docs/faults.md, "Several processes on one file")."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from server.storage.sqlite.journal import KEEP_MS, MOST_STALE_S
from server.storage.sqlite.server_lock import ServerLock
from tests.server.app.test_serve import Process, create_admin, login, serving
from tests.support.commands import manykeys
from tests.support.server import Answer, Http, Socket, write_client_frame
from tests.support.waiting import deadline

ROUNDS = 15
OTHERS = "another server uses"


class Pair:
    """Two servers on one file, with a connection to each; `admin` is an administrator's token."""

    def __init__(self, path: Path, first: Process, second: Process) -> None:
        self.path = path
        self.processes = (first, second)
        self.opened: list[Http] = []
        self.admin = ""

    async def begin(self) -> None:
        self.first, self.second = [await self.connect(one) for one in self.processes]
        await create_admin(self.first)
        self.admin = await login(self.first)

    async def connect(self, process: Process) -> Http:
        """Open a connection, closed with the pair."""
        self.opened.append(await process.connect())
        return self.opened[-1]

    def run(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Run SQL on the file, as another program would."""
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            return connection.execute(sql, values).fetchall()

    def pause(self) -> None:
        self.processes[1].process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.processes[1].process.send_signal(signal.SIGCONT)

    async def log_in_everywhere(self) -> str:
        """Return a token that both know."""
        token = await login(self.first)
        for http in (self.first, self.second):
            assert (await http.ask("GET", "/_me", token=token)).status == 200
        return token

    async def open_socket(self, token: str) -> Socket:
        """Return a WebSocket of the second server on which a token was used."""
        http = await self.connect(self.processes[1])
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        assert (await http.ask("GET", "/", headers=fields)).status == 101
        socket = Socket(http)
        asked = {"controller": "auth", "action": "getCurrentUser", "jwt": token}
        assert (await socket.ask(asked))["status"] == 200
        return socket


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path / "keys.db") as made:
        yield made


@asynccontextmanager
async def running_pair(path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(serving(path)) for _ in range(2)]
        made = Pair(path, first, second)
        await made.begin()
        try:
            yield made
        finally:
            made.go_on()
            for http in made.opened:
                http.close()


Ask = Callable[[Http, str, int], Awaitable[Answer]]


async def change_mapping(http: Http, token: str, number: int) -> Answer:
    body = {"properties": {f"field{number}": {"type": "keyword"}}}
    return await http.ask("PUT", "/users/_mapping", body, token=token)


async def change_user(http: Http, token: str, number: int) -> Answer:
    return await http.ask("PUT", "/_me", {f"field{number}": number}, token=token)


async def change_profile(http: Http, token: str, number: int) -> Answer:
    body = {f"field{number}": number, "policies": [{"roleId": "default"}]}
    return await http.ask("PUT", "/profiles/shared/_update", body, token=token)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (change_mapping, "/users/_mapping"),
        (change_user, "/_me"),
        (change_profile, "/profiles/shared"),
    ],
    ids=("mapping", "user", "profile"),
)
async def test_updates_of_one_document_in_two_processes_are_all_kept(
    pair: Pair, change: Ask, shown: str
) -> None:
    """N1, I11: what was answered with success is there, in each process."""
    body = {"policies": [{"roleId": "default"}]}
    await pair.first.ask("PUT", "/profiles/shared", body, token=pair.admin)
    done: set[str] = set()
    for number in range(0, 2 * ROUNDS, 2):
        asked = [(pair.first, number), (pair.second, number + 1)]
        answers = await asyncio.gather(*(change(http, pair.admin, one) for http, one in asked))
        for (_, one), answer in zip(asked, answers, strict=True):
            assert answer.status == 200 or answer.json["error"]["id"].endswith("too_many_changes")
            done |= {f'"field{one}"'} if answer.status == 200 else set()
    assert len(done) > ROUNDS
    for http in (pair.first, pair.second):
        text = (await http.ask("GET", shown, token=pair.admin)).body.decode()
        assert {name for name in done if name not in text} == set()


async def test_process_that_slept_past_the_journal_honours_no_revoked_token(pair: Pair) -> None:
    """N1, I1: entries that were pruned while it was stopped are noticed; its sockets are told."""
    token = await pair.log_in_everywhere()
    others = [await login(pair.first) for _ in range(9)]
    socket = await pair.open_socket(token)
    pair.pause()
    assert (await pair.first.ask("POST", "/_logout", token=token)).status == 200
    pair.run("UPDATE journal SET at = at - ?", 2 * KEEP_MS)
    for other in others:
        assert (await pair.first.ask("POST", "/_logout", token=other)).status == 200
    ((oldest,),) = pair.run("SELECT min(sequence) FROM journal")
    assert oldest > 1
    pair.go_on()
    await until_refused(pair.second, token)
    assert (await socket.read())["type"] == "TokenExpired"
    assert (await pair.second.ask("GET", "/_me", token=pair.admin)).status == 200


async def test_process_whose_journal_was_pruned_to_nothing_honours_no_revoked_token(
    pair: Pair,
) -> None:
    """N1, I1: there is no entry left that could show a gap."""
    token = await pair.log_in_everywhere()
    pair.pause()
    assert (await pair.first.ask("POST", "/_logout", token=token)).status == 200
    pair.run("DELETE FROM journal")
    pair.go_on()
    await until_refused(pair.second, token)


async def test_journal_kind_of_a_newer_version_makes_a_process_forget_what_it_keeps(
    pair: Pair,
) -> None:
    """N1, I12: a newer program may revoke by a kind that this one does not know."""
    token = await pair.log_in_everywhere()
    socket = await pair.open_socket(token)
    pair.run("DELETE FROM sessions WHERE kuid = 'admin'")
    pair.run("INSERT INTO journal (noted, subject, at) VALUES ('device_revoked', 'x', 1)")
    await until_refused(pair.second, token)
    assert (await socket.read())["type"] == "TokenExpired"


async def until_refused(http: Http, token: str) -> None:
    """Ask with a token until it is 401, and see that it stays so."""
    async with deadline():
        while (await http.ask("GET", "/_me", token=token)).status != 401:
            pass
    assert (await http.ask("GET", "/_me", token=token)).status == 401


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_process_that_was_paused_honours_no_token_revoked_meanwhile(
    pair: Pair, transport: str
) -> None:
    """N1, I1: a request that was sent after the answer to the logout is refused, the first one that
    is read after the pause too."""
    for _ in range(ROUNDS):
        token = await pair.log_in_everywhere()
        socket = await pair.open_socket(token)
        pair.pause()
        assert (await pair.first.ask("POST", "/_logout", token=token)).status == 200
        asking = b'{"controller": "auth", "action": "getCurrentUser", "jwt": "%s"}'
        if transport == "websocket":
            frame = write_client_frame(0x81, asking % token.encode())
            await socket.http.send(frame)
        else:
            head = f"GET /_me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
            await pair.second.send(head.encode())
        await asyncio.sleep(1.5 * MOST_STALE_S)  # the pause itself, which is what is tested
        pair.go_on()
        if transport == "http":
            assert (await pair.second.read()).status == 401
        else:
            message = await socket.read()
            while "type" in message:
                message = await socket.read()
            assert message["status"] == 401
        socket.http.close()


async def test_token_of_a_key_that_another_process_has_just_created_is_accepted(
    pair: Pair,
) -> None:
    """N1, I10: a process that has not read a new signing key yet looks for it before a 401."""
    pair.pause()
    code, out = await manykeys("keys", "rotate", "--data", str(pair.path))
    assert code == 0, out
    token = await login(pair.first)
    head = f"GET /_me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    await pair.second.send(head.encode())
    pair.go_on()
    assert (await pair.second.read()).status == 200


async def test_servers_on_one_file_are_logged_and_commands_are_not(tmp_path: Path) -> None:
    """N1: also after a server that was killed."""
    path = tmp_path / "keys.db"
    async with serving(path) as first:
        code, out = await manykeys("user", "list", "--data", str(path))
        assert (code, OTHERS in out) == (0, False)
        async with serving(path) as second:
            assert OTHERS in await second.stop()
        assert OTHERS not in await first.stop(signal.SIGKILL)
    async with serving(path) as third:
        assert OTHERS not in await third.stop()


def test_server_lock_notices_that_others_come_and_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """N1: the first server logs it as well, once."""
    caplog.set_level("INFO")
    data = tmp_path / "keys.db"
    data.touch(0o600)
    first = ServerLock(str(data))
    assert [first.check(), first.check()] == [False, False]
    second = ServerLock(str(data))
    assert [second.check(), first.check(), first.check()] == [True, True, True]
    second.close()
    assert [first.check(), first.check()] == [False, False]
    first.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
