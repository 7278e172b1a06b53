"""A file to be imported is read by a process of its own, as it is read by ours."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.admin.importing.bulk_writer import Arrival, Held
from server.admin.importing.formats import Kind, Line, Record
from server.admin.importing.reader import BLOCK_BYTES, Block, Entry, Reading
from server.admin.importing.subprocess import read_apart, read_here
from tests.support.commands import profile, role, user, write_lines

SECRET = "$2b$04$" + "." * 22 + "a" * 31
BESIDE = {"local": {"username": "ann", "hash": SECRET}}
DOCUMENTS = [
    role("r", {"auth": {"login": True}}),
    profile("p"),
    user("ann", credentials=BESIDE),
    user("bob", credentials={"local": {"username": "bob", "password": "plain"}}),
    user("cid", credentials={"ldap": {}}),
    {"collection": "credentials", "_id": "dan", "_source": {"kuid": "dan", "hash": SECRET}},
    {"collection": "tokens"},
    {"collection": "nothing"},
    user("eve", note="x" * BLOCK_BYTES),
    user("fay"),
]


def reading_of(path: Path, kind: Kind = Kind.USERS, *, is_first: bool = True) -> Reading:
    return Reading(path, kind, frozenset(Kind), "hex", is_first)


async def read_all(read: Callable[..., object], reading: Reading) -> list[Block]:
    """Give all blocks."""
    async with aclosing(read(reading)) as blocks:  # type: ignore[type-var]
        return [block async for block in blocks]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("kind", Kind)
async def test_it_reads_what_we_read(tmp_path: Path, kind: Kind, is_first: bool) -> None:
    """Every kind of entry gets through: arrivals, documents to be stored by themselves, refusals;
    and so does what the first reading notes of the rest."""
    path = write_lines(tmp_path / "f.jsonl", DOCUMENTS)
    reading = reading_of(path, kind, is_first=is_first)
    blocks = await read_all(read_here, reading)
    assert await read_all(read_apart, reading) == blocks
    assert len(blocks) == 2 and blocks[-1].end == path.stat().st_size
    wanted = {
        Kind.ROLES: [("r", Record)],
        Kind.PROFILES: [("p", Record)],
        Kind.USERS: [
            *(("ann", Arrival), ("bob", Record), ("cid", str), ("eve", Arrival), ("fay", Arrival)),
        ],
        Kind.CREDENTIALS: [("dan", Arrival)],
    }
    entries = [entry for block in blocks for entry in block.entries]
    assert [(entry.id, type(entry.what)) for entry in entries] == wanted[kind]
    assert blocks[0].left_out == int(is_first)
    assert [number for number, _ in blocks[0].bad] == ([8] if is_first else [])
    assert blocks[0].seen == (frozenset(Kind) if is_first else frozenset())


async def test_nothing_is_imported_from_where_somebody_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write there, as into a folder for all, must not run code as the operator."""
    path = write_lines(tmp_path / "f.jsonl", [user("ann")])
    (tmp_path / "orjson.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    (block,) = await read_all(read_apart, reading_of(path))
    assert [entry.id for entry in block.entries] == ["ann"]


async def test_a_file_that_is_gone(tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="gone"):
        await read_all(read_apart, reading)


async def test_a_process_that_ends_too_early(tmp_path: Path) -> None:
    """Killed for its memory, say: that is never taken for the end of the file."""
    os.mkfifo(tmp_path / "endless")
    reading = asyncio.create_task(read_all(read_apart, reading_of(tmp_path / "endless")))
    writing = await asyncio.to_thread((tmp_path / "endless").open, "wb")  # it has begun to read
    os.kill(_find_child(), signal.SIGKILL)
    with pytest.raises(LocalError, match="exited before the end of the file"):
        await reading
    writing.close()


async def test_who_wants_no_more_ends_it(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "f.jsonl", [user(f"u{n}", note="x" * 9999) for n in range(2000)])
    async with aclosing(read_apart(reading_of(path))) as blocks:
        await anext(blocks)
        child = _find_child()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_nothing_shows_what_it_holds() -> None:
    """X2: in a traceback, or in a log."""
    held = Held("local", "ann", SECRET, None, None)
    arrival = Arrival("ann", ("default",), SECRET, SECRET, None, (held,))
    record = Record(Kind.USERS, "ann", {"password": SECRET}, BESIDE)
    entries = [Entry("ann", 1, Kind.USERS, "ann", 9, what) for what in (arrival, record)]
    line = Line(1, SECRET.encode(), 9)
    shown = repr([held, arrival, record, line, *entries])
    assert SECRET not in shown and shown.count("ann") == 5


def _find_child() -> int:
    """Give the process that reads, which is the last one we started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = {child: Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return int(next(child for child in children if "importing.subprocess" in commands[child]))
