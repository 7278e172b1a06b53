"""Open files run out: the server goes on, says so once, and takes connections again."""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.system import open_files as openfiles
from server.system.open_files import RESERVED_FILES, TELL_EVERY_S, Exhaustion, make_room
from tests.server.app.test_serve import Process, serving
from tests.support.waiting import deadline

FEW_FILES = 128
EXHAUSTED = "too many open files"
OVER = "files can be opened again"


def limited(files: int) -> tuple[str, ...]:
    """Give the command in front of another one that allows it so many open files, for good."""
    return ("sh", "-c", f'ulimit -n {files} && exec "$@"', "sh")


async def until_logged(server: Process, text: str) -> list[str]:
    """Read stderr up to a line with this text, and give it."""
    assert server.process.stderr is not None
    lines: list[str] = []
    async with deadline():
        while not lines or text not in lines[-1]:
            lines.append((await server.process.stderr.readline()).decode())
            assert lines[-1], lines
    return lines


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_exhaustion_is_survived_and_told_once(tmp_path: Path, loop: str) -> None:
    """Where the system gives less than it said, connections take every file there is: one line
    when none are left, one when there are some again, and then everybody is answered."""
    async with serving(tmp_path / "a.db", "--loop", loop, before=limited(FEW_FILES)) as server:
        used = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 9, FEW_FILES))
        with ExitStack() as held:
            for _ in range(FEW_FILES):
                opened = held.enter_context(socket.socket())
                opened.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(
                        opened, ("127.0.0.1", server.port)
                    )
                except ConnectionResetError:
                    continue
            begun = await until_logged(server, EXHAUSTED)
        ended = await until_logged(server, OVER)
        http = await server.connect()
        assert (await http.ask("GET", "/_ready")).status == 200
        http.close()
        rest = await server.stop()
        lines = [*begun, *ended, *rest.splitlines()]
        assert server.process.returncode == 0
    assert sum(EXHAUSTED in line for line in lines) == 1
    assert len(lines) < 12, lines


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_connections_leave_files_for_the_server(tmp_path: Path, loop: str) -> None:
    """Where few files may be open, fewer connections are taken than by default, with a word but no
    warning; all others are refused 503, and whoever is in can go on."""
    room = FEW_FILES - RESERVED_FILES
    async with serving(tmp_path / "a.db", "--loop", loop, before=limited(FEW_FILES)) as server:
        inside = [await server.connect() for _ in range(room)]
        for http in inside:
            assert (await http.ask("GET", "/_ready")).status == 200
        for _ in range(room):
            outside = await server.connect()
            assert (await outside.read()).status == 503
            outside.close()
        for http in inside:
            assert (await http.ask("GET", "/_ready")).status == 200
            http.close()
        errors = await server.stop()
    (line,) = [line for line in errors.splitlines() if "limits.connections" in line]
    assert f"limits.connections: {room} of 20000" in line
    assert "INFO" in line
    assert EXHAUSTED not in errors


async def test_who_asks_for_more_than_there_is_is_warned(tmp_path: Path) -> None:
    asked = ("--set", "limits.connections=20001")
    async with serving(tmp_path / "a.db", *asked, before=limited(FEW_FILES)) as server:
        errors = await server.stop()
    (line,) = [line for line in errors.splitlines() if "limits.connections" in line]
    assert "WARNING" in line


async def test_the_soft_limit_is_raised_as_far_as_needed(tmp_path: Path) -> None:
    """A soft limit is a suggestion, and nobody has to know of it."""
    soft = ("sh", "-c", f'ulimit -S -n {FEW_FILES} && exec "$@"', "sh")
    async with serving(tmp_path / "a.db", "--set", "limits.connections=200", before=soft) as server:
        limit = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0]
        assert "limits.connections" not in await server.stop()
    assert limit == 200 + RESERVED_FILES


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "room"),
    [
        (1024, 4096, True, 1000),  # raised
        (1064, 1064, True, 1000),  # enough
        (1063, 1063, True, 999),  # one too few
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, True, 1000),
        (256, resource.RLIM_INFINITY, True, 1000),
        (256, resource.RLIM_INFINITY, False, 192),  # the system has a bound it does not tell
        (10, 10, True, 1),
    ],
)
def test_room(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    allowed: bool,
    room: int,
) -> None:
    limits = [soft, hard]

    def set_limits(which: int, wanted: tuple[int, int]) -> None:
        if not allowed:
            raise ValueError
        limits[:] = wanted

    monkeypatch.setattr(openfiles.resource, "getrlimit", lambda which: tuple(limits))
    monkeypatch.setattr(openfiles.resource, "setrlimit", set_limits)
    assert make_room(1000) == room
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (room < 1000)
    assert limits[1] == hard


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What was logged of files so far; it grows."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(EXHAUSTED if EXHAUSTED in record.getMessage() else record.getMessage())

    found: list[str] = []
    handler = Lines()
    logger = logging.getLogger("manykeys.files")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def test_it_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """However often files run out and come back."""
    now_s, is_out = 0.0, True

    def open_one(path: str, flags: int) -> int:
        if is_out:
            raise OSError(errno.EMFILE, "Too many open files")
        return -1

    monkeypatch.setattr(openfiles.os, "open", open_one)
    monkeypatch.setattr(openfiles.os, "close", lambda fd: None)
    watched = Exhaustion(lambda: now_s)
    for _ in range(50):
        watched.look()
    assert lines == [EXHAUSTED]
    for _ in range(20):
        is_out = not is_out
        watched.look()
    assert lines == [EXHAUSTED, OVER]
    now_s = TELL_EVERY_S
    watched.look()
    assert lines == [EXHAUSTED, OVER, EXHAUSTED]


async def test_other_errors_of_the_loop_are_told(lines: list[str]) -> None:
    """Only what accept says of files is kept short."""
    loop, told = asyncio.get_running_loop(), list[dict[str, object]]()
    watched = Exhaustion(lambda: 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "default_exception_handler", told.append)
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPIPE):
            watched.take_loop_error(loop, {"exception": OSError(number, "accept")})
        watched.take_loop_error(loop, {"message": "a task nobody asked for"})
    assert lines == [EXHAUSTED]
    assert len(told) == 2
