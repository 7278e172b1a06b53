"""What is SQLite's own: the file, versions, faults of the disk, crashes, other processes."""

# ruff: noqa: ASYNC240 - the tests' loop may wait for the disk

import asyncio
import json
import logging
import os
import random
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.storage.base import DeleteAll, Entry, EventKind, Insert, JournalEvent, Put, Unavailable
from server.storage.rows import Row, Table
from server.storage.sqlite import threads as sqlite_threads
from server.storage.sqlite.connections import FilePlace
from server.storage.sqlite.journal import KEEP_MS
from server.storage.sqlite.migrations import (
    APPLICATION_ID,
    MIGRATIONS,
    bring_up_to_date,
    check_ours,
)
from server.storage.sqlite.statements import find_any_of, find_latest, write_steps
from server.storage.sqlite.storage import SqliteStorage
from server.storage.sqlite.threads import Job, WorkerThread
from server.storage.tables import SHAPES, Kind
from tests.support.waiting import in_time

DEADLINE_S = 20.0
BUSY_MS = 20
VERSION_1 = Path(__file__).with_name("version1.sql")


def make(path: Path, clock_ms: int = 1_000) -> SqliteStorage:
    return SqliteStorage(str(path), clock_ms=lambda: clock_ms, busy_timeout_ms=BUSY_MS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys #1?.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    storage = make(path)
    await storage.open()
    yield storage
    await storage.close()


def setting(name: str, value: object = None) -> Insert:
    return Insert(Table.SETTINGS, {"name": name, "value": value})


async def names(storage: SqliteStorage) -> list[object]:
    return [row["name"] for row in await storage.find(Table.SETTINGS, limit=1_000)]


def run(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


# The file


async def test_the_files_are_their_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        storage = make(path)
        await storage.open()
        await storage.apply([setting("n")])
    finally:
        os.umask(before)
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert found == {path.name + suffix: 0o600 for suffix in ("", "-wal", "-shm")}
    await storage.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    for number in range(3):
        storage = make(path)
        await storage.open()
        assert await names(storage) == [str(n) for n in range(number)]
        await storage.apply([setting(str(number))])
        await storage.close()


async def test_every_connection_waits_for_the_disk_on_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*args: object, **options: object) -> sqlite3.Connection:
        made.append(connect(*args, **options))  # type: ignore[call-overload]
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    storage = make(path)
    await storage.open()
    await storage.apply([setting("n")])
    await storage.count(Table.SETTINGS)
    live = 0
    for connection in made:
        try:
            full = connection.execute("PRAGMA synchronous").fetchall() == [(2,)]
            log = connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        except sqlite3.ProgrammingError:
            continue  # closed
        live += 1
        assert full and log
    assert live >= 2
    await storage.close()


async def test_two_may_create_the_same_file_at_once(path: Path) -> None:
    storages = [
        SqliteStorage(str(path), clock_ms=lambda: 0, busy_timeout_ms=10_000) for _ in range(4)
    ]
    await asyncio.gather(*(storage.open() for storage in storages))
    await asyncio.gather(*(s.apply([setting(str(n))]) for n, s in enumerate(storages)))
    assert await names(storages[0]) == ["0", "1", "2", "3"]
    for storage in storages:
        await storage.close()


async def test_an_empty_file_is_a_new_database(path: Path) -> None:
    path.touch()
    storage = make(path)
    await storage.open()
    await storage.apply([setting("n")])
    await storage.close()
    assert run(path, "PRAGMA application_id") == [(APPLICATION_ID,)]


async def refuses_to_open(path: Path, *wanted: str) -> None:
    before = path.read_bytes()
    storage = make(path)
    with pytest.raises(LocalError) as refusal:
        await storage.open()
    assert all(text in str(refusal.value) for text in (path.name, *wanted))
    assert path.read_bytes() == before
    with pytest.raises(Unavailable):
        await storage.count(Table.USERS)
    await storage.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"my diary\n" * 1000)
    await refuses_to_open(path)


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE theirs (x)", "PRAGMA application_id = 5", "PRAGMA user_version = 1"]
)
async def test_a_database_of_another_program_is_refused_and_left_alone(
    path: Path, sql: str
) -> None:
    run(path, sql)
    await refuses_to_open(path, "another program")


async def test_a_newer_database_is_refused_naming_both_versions(path: Path) -> None:
    storage = make(path)
    await storage.open()
    await storage.close()
    newest = 1 + len(MIGRATIONS)
    assert run(path, "PRAGMA user_version") == [(newest,)]
    run(path, "PRAGMA user_version = 37")
    await refuses_to_open(path, "version 37", f"up to {newest}")


async def test_a_path_that_can_not_be_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "keys.db", tmp_path):
        with pytest.raises(LocalError) as refusal:
            await make(path).open()
        assert str(path) in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_older_database_takes_the_migrations_it_lacks() -> None:
    steps = (
        ("ALTER TABLE settings ADD COLUMN a INTEGER",),
        ("ALTER TABLE settings ADD COLUMN b INTEGER", "UPDATE settings SET b = 7"),
    )
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        bring_up_to_date(connection, "x", ())
        connection.execute("INSERT INTO settings VALUES ('n', '1')")
        bring_up_to_date(connection, "x", steps[:1])
        for _ in range(2):
            bring_up_to_date(connection, "x", steps)
        assert connection.execute("SELECT * FROM settings").fetchall() == [("n", "1", None, 7)]
        assert connection.execute("PRAGMA user_version").fetchall() == [(3,)]


def test_the_first_database_becomes_what_a_new_one_is() -> None:
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as old,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as new,
    ):
        old.executescript(VERSION_1.read_text())
        old.execute("INSERT INTO settings VALUES ('s', '1')")
        bring_up_to_date(old, "x")
        bring_up_to_date(new, "x")
        assert layout(old) == layout(new)
        assert old.execute("SELECT * FROM settings").fetchall() == [("s", "1")]
        assert old.execute("PRAGMA user_version").fetchall() == [(1 + len(MIGRATIONS),)]


def test_profiles_of_the_first_database_get_rows_for_their_roles() -> None:
    bodies = {
        "one": {"policies": [{"roleId": "a"}, {"roleId": "b", "restrictedTo": []}]},
        "twice": {"policies": [{"roleId": "a"}, {"roleId": "a"}]},
        "unreadable": {"policies": ["a", {"roleId": 1}, {}, None]},
        "none": {},
    }
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        old.executescript(VERSION_1.read_text())
        for name, body in bodies.items():
            row = (name, json.dumps(body), "{}")
            old.execute("INSERT INTO profiles VALUES (?, ?, ?)", row)
        bring_up_to_date(old, "x")
        rows = old.execute("SELECT * FROM profile_roles ORDER BY 1, 2").fetchall()
        assert rows == [("one", "a"), ("one", "b"), ("twice", "a")]


def test_profiles_of_an_older_database_get_their_numbers_of_users() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        old.executescript(VERSION_1.read_text())
        rows = [("ann", "a"), ("ann", "b"), ("bob", "a")]
        old.executemany("INSERT INTO user_profiles VALUES (?, ?)", rows)
        bring_up_to_date(old, "x")
        found = old.execute("SELECT * FROM profile_members ORDER BY 1").fetchall()
        assert found == [("a", 2), ("b", 1)]


def test_sessions_of_an_older_database_keep_the_methods_they_began_with() -> None:
    """Security check F3: one without a strategy was no login; of API keys nothing is known."""
    began = {
        "one": {"strategy": "local"},
        "two": {"strategy": "local", "secondFactor": "totp"},
        "made": {"strategy": ""},
        "bare": {},
    }
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        old.executescript(VERSION_1.read_text())
        for number, (name, data) in enumerate(began.items()):
            row = (bytes([number]), name, "ann", 1, None, -1, 0, None, name, 7, 1, json.dumps(data))
            old.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        old.execute("INSERT INTO api_keys VALUES ('k', x'00', 'ann', '', NULL, -1, '{}')")
        bring_up_to_date(old, "x")
        rows = old.execute("SELECT id, amr, authenticated_at FROM sessions ORDER BY rowid")
        assert rows.fetchall() == [
            ("one", '["local"]', 7),
            ("two", '["local","totp"]', 7),
            ("made", None, None),
            ("bare", None, None),
        ]
        assert old.execute("SELECT amr FROM api_keys").fetchall() == [(None,)]


def layout(connection: sqlite3.Connection) -> dict[str, object]:
    """Give the columns of each table, and those of each index, in whatever order they came."""
    found: dict[str, object] = {}
    names = "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    for kind, name in connection.execute(names).fetchall():
        info = connection.execute(f'PRAGMA {kind}_info("{name}")').fetchall()
        found[name] = sorted(column[1:] for column in info) if kind == "table" else info
    return found


def test_a_failing_migration_changes_nothing() -> None:
    broken = (("ALTER TABLE settings ADD COLUMN a INTEGER", "nonsense"),)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        bring_up_to_date(connection, "x", ())
        with pytest.raises(sqlite3.OperationalError):
            bring_up_to_date(connection, "x", broken)
        connection.execute("ROLLBACK")
        assert connection.execute("PRAGMA user_version").fetchall() == [(1,)]
        assert len(connection.execute("PRAGMA table_info(settings)").fetchall()) == 2


@pytest.mark.parametrize(
    ("names", "index"),
    [
        (("subject", "outcome"), "by_audit_subject"),
        (("address", "outcome"), "by_audit_address"),
        (("actor", "kind", "outcome"), "by_audit_actor"),
        (("kind", "outcome"), "by_audit_kind_outcome"),
        ((), "PRIMARY KEY"),
    ],
)
def test_pages_are_looked_up_by_what_tells_the_most(names: Sequence[str], index: str) -> None:
    """And they come out of the index in order: nothing is sorted."""
    where: Row = dict.fromkeys(names, "x")
    queries = find_latest(Table.AUDIT, where, least="", below="~", start=0, limit=1)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        bring_up_to_date(connection, "x")
        for query in queries:
            sql = f"EXPLAIN QUERY PLAN {query.sql}"
            plan = str(connection.execute(sql, query.values).fetchall())
            assert index in plan and "TEMP B-TREE" not in plan and "SCAN audit" not in plan


@pytest.mark.parametrize("names", [("strategy", "id"), ("kuid", "strategy")])
def test_each_of_many_keys_is_looked_up(names: tuple[str, str]) -> None:
    query = find_any_of(Table.CREDENTIALS, names, [("a", "b"), ("c", "d")])
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        bring_up_to_date(connection, "x")
        sql = f"EXPLAIN QUERY PLAN {query.sql}"
        plan = str(connection.execute(sql, query.values).fetchall())
    assert "SEARCH credentials USING INDEX" in plan and "SCAN credentials" not in plan


@pytest.mark.parametrize("table", Table)
def test_every_group_of_columns_has_an_index_and_counting_uses_one(table: Table) -> None:
    shape = SHAPES[table]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        bring_up_to_date(connection, "x")

        def plan(sql: str) -> str:
            return str(connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())

        for group in (shape.key, *shape.unique, *shape.indexed):
            terms = " AND ".join(
                f"{name} {'IS' if name in shape.optional else '='} 1" for name in group
            )
            found = plan(f"SELECT * FROM {table.value} WHERE {terms}")  # noqa: S608
            assert "SEARCH" in found and "SCAN" not in found
        if Kind.JSON in shape.columns.values():  # or the table is as small as its index
            assert "COVERING INDEX" in plan(f"SELECT count(*) FROM {table.value}")  # noqa: S608


# Faults


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


async def test_while_another_holds_the_lock_writes_are_unavailable_and_reads_go_on(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.apply([setting("before")])
    with locked(path):
        writes = [storage.apply([setting(f"lost {n}")]) for n in range(20)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert await names(storage) == ["before"]
        assert not await storage.check()
    assert await storage.check()
    await storage.apply([setting("after")])
    assert await names(storage) == ["after", "before"]


async def test_a_database_that_is_locked_at_the_start_is_unavailable_not_broken(path: Path) -> None:
    path.touch()
    storage = make(path)
    with locked(path), pytest.raises(Unavailable):
        await storage.open()
    await storage.open()
    assert await storage.check()
    await storage.close()


@pytest.mark.parametrize("is_there", [True, False])
async def test_database_missing_beside_its_log_is_refused(path: Path, *, is_there: bool) -> None:
    """SQLite would delete the log, and with it what was written last."""
    if is_there:
        path.touch()
    log = path.with_name(path.name + "-wal")
    log.write_bytes(b"a log")
    with pytest.raises(LocalError, match="is empty or missing, but its log .*-wal is not"):
        await make(path).open()
    assert log.read_bytes() == b"a log"
    assert path.exists() is is_there
    log.write_bytes(b"")
    storage = make(path)
    await storage.open()
    await storage.close()


async def test_database_on_a_read_only_mount_is_refused_with_the_cause(path: Path) -> None:
    """SQLite itself says "unable to open database file"."""
    storage = make(path)
    await storage.open()
    await storage.close()
    program = "import sys; from server.cli.main import main; sys.exit(main(sys.argv[1:]))"
    mounted = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    done = await asyncio.to_thread(
        subprocess.run,
        ["unshare", "--mount", "sh", "-c", mounted, str(path.parent), sys.executable, "-c", program]
        + ["serve", "--port", "0", "--data", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip("mounting takes rights that are missing here")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"manykeys: {path} cannot be used as the database: its file system is mounted read-only"
    )


async def test_who_only_reads_opens_a_database_that_is_locked(path: Path) -> None:
    first = make(path)
    await first.open()
    await first.apply([setting("before")])
    await first.close()
    storage = make(path)
    with locked(path):
        await storage.open()
        assert await names(storage) == ["before"]
    await storage.close()


async def test_a_full_disk_is_unavailable_until_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def small(*args: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 64")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    storage = make(path)
    await storage.open()
    heard: list[Entry] = []
    storage.follow(heard.extend)
    stored = []
    with pytest.raises(Unavailable):
        for number in range(100):
            name = f"{number:03}"
            await storage.apply([setting(name, "x" * 10_000), JournalEvent(EventKind.USER, name)])
            stored.append(name)
    assert 0 < len(stored) < 100
    assert await names(storage) == stored == [entry.subject for entry in heard]
    assert not await storage.check()
    await storage.apply([DeleteAll(Table.SETTINGS, {"name": "000"})])
    await storage.apply([DeleteAll(Table.SETTINGS, {"name": "001"})])
    assert await storage.check()
    await storage.apply([setting("again", "x" * 10_000)])
    assert await names(storage) == [*stored[2:], "again"]
    await storage.close()


async def test_a_failing_disk_is_unavailable_until_it_works_again(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.apply([setting("before")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, hard))
    try:
        with pytest.raises(Unavailable):
            await storage.apply([setting("lost", "x" * 100_000)])
        assert not await storage.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await storage.check()
    await storage.apply([setting("after")])
    assert await names(storage) == ["after", "before"]


async def refuses(storage: SqliteStorage) -> None:
    with pytest.raises(Unavailable):
        await storage.apply([setting("lost")])
    with pytest.raises(Unavailable):
        await storage.get(Table.SETTINGS, name="n")
    assert not await storage.check()


async def test_a_removed_file_is_unavailable_until_it_is_back(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.apply([setting("before")])
    aside = path.with_name("aside")
    path.rename(aside)
    await refuses(storage)
    assert not path.exists()
    aside.rename(path)
    await storage.apply([setting("after")])
    assert await names(storage) == ["after", "before"]


async def test_another_file_in_its_place_is_not_taken(storage: SqliteStorage, path: Path) -> None:
    await storage.apply([setting("before")])
    other = make(path.with_name("other"))
    await other.open()
    await other.close()
    path.with_name("other").rename(path)
    content = path.read_bytes()
    await refuses(storage)
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_without_its_log_or_index_it_takes_no_write_that_would_be_lost(
    storage: SqliteStorage, path: Path, suffix: str
) -> None:
    await storage.apply([setting("before")])
    Path(f"{path}{suffix}").unlink()
    await refuses(storage)


async def test_garbage_in_the_file_is_unavailable_not_an_error(path: Path) -> None:
    first = make(path)
    await first.open()
    await first.apply([setting(f"{n:03}", "x" * 1000) for n in range(200)])
    await first.close()
    storage = make(path)
    await storage.open()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(Unavailable):
        await names(storage)
    other = make(path.with_name("other"))
    await other.open()
    await other.close()
    path.with_name("other").rename(path)
    with pytest.raises(Unavailable):  # the next connection is not made to another database
        await names(storage)
    await storage.close()


async def test_beyond_its_bound_the_queue_is_unavailable(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_threads, "MOST_WAITING", 10)
    for _ in range(3):  # the room comes back
        writes = [asyncio.create_task(storage.apply([])) for _ in range(15)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert outcomes[:10] == [None] * 10
        assert {type(outcome) for outcome in outcomes[10:]} == {Unavailable}


async def test_a_mistake_of_ours_reaches_its_caller_and_the_threads_live_on(
    storage: SqliteStorage, path: Path
) -> None:
    run(path, "DROP TABLE settings")
    with pytest.raises(sqlite3.OperationalError):
        await storage.apply([setting("n")])
    with pytest.raises(sqlite3.OperationalError):
        await storage.count(Table.SETTINGS)
    await storage.apply([Insert(Table.USER_PROFILES, {"kuid": "ann", "profile_id": "p"})])
    assert await storage.count(Table.USER_PROFILES) == 1


def test_a_thread_whose_loop_is_gone_lets_go_and_ends() -> None:
    started, finish, ended = threading.Event(), threading.Event(), threading.Event()

    def work(jobs: Sequence[Job[str, str]]) -> Sequence[Entry]:
        started.set()
        finish.wait(DEADLINE_S)
        return ()

    async def leave() -> None:
        lane = WorkerThread("abandoned", work, lambda entries: None, ended.set)
        asking = asyncio.create_task(lane.ask("something"))
        assert await asyncio.to_thread(started.wait, DEADLINE_S)
        assert not asking.done()

    asyncio.run(leave())
    finish.set()
    assert ended.wait(DEADLINE_S)


# The journal


async def test_old_entries_are_pruned_and_their_numbers_never_return(path: Path) -> None:
    old = make(path, clock_ms=1_000)
    await old.open()
    await old.apply([JournalEvent(EventKind.USER, str(number)) for number in range(10)])
    await old.close()
    storage = make(path, clock_ms=1_001 + KEEP_MS)
    await storage.open()
    heard: list[Entry] = []
    storage.follow(heard.extend)
    for number in range(5):
        await storage.apply([JournalEvent(EventKind.USER, f"new {number}")])
    await storage.close()
    assert [entry.sequence for entry in heard] == [11, 12, 13, 14, 15]
    assert run(path, "SELECT min(sequence), count(*) FROM journal") == [(11, 5)]


async def test_young_entries_are_kept(path: Path) -> None:
    for clock_ms in (1_000, 1_000 + KEEP_MS):
        storage = make(path, clock_ms)
        await storage.open()
        await storage.apply([JournalEvent(EventKind.USER, "ann")])
        await storage.close()
    assert run(path, "SELECT count(*) FROM journal") == [(2,)]


async def test_journal_entry_of_an_unknown_kind_is_delivered_as_lost(
    storage: SqliteStorage, path: Path
) -> None:
    """Security check N1: a newer program may have revoked something in its own way."""
    heard: list[Entry] = []
    storage.follow(heard.extend)
    run(path, "INSERT INTO journal (noted, subject, at) VALUES ('comet', 'x', 1000)")
    await storage.apply([JournalEvent(EventKind.USER, "ann")])
    assert [(entry.sequence, entry.noted) for entry in heard] == [
        (1, EventKind.LOST),
        (2, EventKind.USER),
    ]


@pytest.mark.parametrize("left", [0, 1])
async def test_journal_entries_that_were_pruned_are_delivered_as_lost(
    storage: SqliteStorage, path: Path, left: int
) -> None:
    """Security check N1: a process that slept for longer than the journal is kept."""
    heard: list[Entry] = []
    await storage.catch_up()
    storage.follow(heard.extend)
    connection = sqlite3.connect(path)
    with connection:
        for _ in range(3):
            connection.execute("INSERT INTO journal (noted, subject, at) VALUES ('user', 'b', 1)")
        connection.execute("DELETE FROM journal WHERE sequence <= ?", (3 - left,))
    connection.close()
    await storage.catch_up()
    assert [entry.noted for entry in heard] == [EventKind.LOST, EventKind.USER][: 1 + left]
    assert heard[-1].sequence == 3


async def test_catch_up_delivers_what_another_process_has_written(
    storage: SqliteStorage, path: Path
) -> None:
    """Security check N1: once it returns, nothing older is kept."""
    heard: list[Entry] = []
    storage.follow(heard.extend)
    run(path, "INSERT INTO journal (noted, subject, at) VALUES ('user', 'bob', 1000)")
    await storage.catch_up()
    assert [(entry.sequence, entry.subject) for entry in heard] == [(1, "bob")]
    assert storage.freshness.until_s > time.monotonic()


class Signal(logging.Handler):
    """Sets an event of the loop when something is logged in any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        self._loop.call_soon_threadsafe(self.event.set)


async def test_after_a_fault_what_others_wrote_is_heard(storage: SqliteStorage, path: Path) -> None:
    heard: asyncio.Queue[Sequence[Entry]] = asyncio.Queue()
    storage.follow(heard.put_nowait)
    warned = Signal()
    logging.getLogger("server.storage").addHandler(warned)
    try:
        aside = path.with_name("aside")
        path.rename(aside)
        await in_time(warned.event.wait())
        aside.rename(path)
    finally:
        logging.getLogger("server.storage").removeHandler(warned)
    run(path, "INSERT INTO journal (noted, subject, at) VALUES ('user', 'ann', 1000)")
    entries = await in_time(heard.get())
    assert entries == [Entry(1, EventKind.USER, "ann")]


# Other processes

WRITER = """
import asyncio, sys
from server.storage.base import Insert, JournalEvent, EventKind, Table
from server.storage.sqlite.storage import SqliteStorage

async def main(path, first):
    storage = SqliteStorage(path, clock_ms=lambda: 1_000)
    await storage.open()
    async def caller(number):
        while True:
            rows = [{"kuid": f"{half}{number}", "profile_id": "p"} for half in "ab"]
            changes = [Insert(Table.USER_PROFILES, row) for row in rows]
            await storage.apply([changes[0], JournalEvent(EventKind.USER, str(number)), changes[1]])
            print(number, flush=True)
            number += 8
    await asyncio.gather(*(caller(first + n) for n in range(8)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def start(program: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_who_writes_all_the_time_leaves_others_a_turn(path: Path) -> None:
    """An import writes one long transaction after the other; a server's writes wait for one."""
    roomy = SqliteStorage(str(path), clock_ms=lambda: 1_000, is_roomy=True)
    other = SqliteStorage(str(path), clock_ms=lambda: 1_000)
    await roomy.open()
    await other.open()
    rows: list[Row] = [{"name": str(number), "value": None} for number in range(10_000)]
    long = write_steps([Put(Table.SETTINGS, row) for row in rows], 1_000)
    is_enough = False

    async def write_on() -> None:
        while not is_enough:
            await roomy._write(long)  # prepared once: one always waits while one is written

    writing = [asyncio.create_task(write_on()) for _ in range(4)]
    try:
        await roomy._write(long)
        for number in range(12):
            await other.apply([setting(f"other {number}")])
    finally:
        is_enough = True
        await asyncio.gather(*writing)
        await roomy.close()
        await other.close()


async def test_kill_9_loses_nothing_that_was_acknowledged_and_halves_nothing(path: Path) -> None:
    """Security checks X5, X6."""
    chance = random.Random(7)
    acknowledged: set[str] = set()
    for round_ in range(4):
        with start(WRITER, path, round_ * 1_000_000) as child:
            assert child.stdout is not None
            for _ in range(chance.randrange(1, 400)):
                acknowledged.add(child.stdout.readline().strip())
            child.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in child.stdout if line.endswith("\n"))
        storage = make(path)
        await storage.open()
        rows = await storage.find(Table.USER_PROFILES, limit=1_000_000)
        await storage.close()
        halves = [
            {str(row["kuid"])[1:] for row in rows if str(row["kuid"])[0] == half} for half in "ab"
        ]
        noted = {str(subject) for (subject,) in run(path, "SELECT subject FROM journal")}
        assert halves[0] == halves[1] == noted
        assert acknowledged <= noted


async def test_another_process_is_heard(storage: SqliteStorage, path: Path) -> None:
    heard: list[Entry] = []
    enough = asyncio.Event()

    def listen(entries: Sequence[Entry]) -> None:
        heard.extend(entries)
        if len(heard) >= 100:
            enough.set()

    storage.follow(listen)
    with start(WRITER, path, 0) as child:
        await in_time(enough.wait())
        child.kill()
    assert [entry.sequence for entry in heard] == list(range(1, len(heard) + 1))
    row: Row | None = await storage.get(Table.USER_PROFILES, kuid="a0", profile_id="p")
    assert row is not None


class BusyAtFirst:
    """A connection whose file others are turning into one with a log."""

    def __init__(self, times: int) -> None:
        self.times = times

    def execute(self, statement: str) -> "BusyAtFirst":
        """Refuse as often as it was made to."""
        if self.times > 0:
            self.times -= 1
            refused = sqlite3.OperationalError("database is locked")
            refused.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise refused
        return self

    def fetchall(self) -> list[tuple[str]]:
        """Give the mode."""
        return [("wal",)]


def test_the_log_is_turned_on_again_while_others_do_it() -> None:
    """SQLite does not wait here, whatever the busy timeout says."""
    patient, hasty = FilePlace("x", 10_000), FilePlace("x", 0)
    assert patient._turn_on_log(BusyAtFirst(3)) == "wal"  # type: ignore[arg-type]
    with pytest.raises(sqlite3.OperationalError):
        hasty._turn_on_log(BusyAtFirst(3))  # type: ignore[arg-type]


def test_a_file_that_is_being_created_is_nobody_elses(path: Path) -> None:
    """What says whose a file is changes in one moment, and is read as of one."""
    path.touch()
    reader, creator = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2))

    def create_meanwhile(statement: str) -> None:
        if "application_id" in statement:
            with suppress(sqlite3.OperationalError):
                bring_up_to_date(creator, "x")

    reader.set_trace_callback(create_meanwhile)
    check_ours(reader, "x")
    reader.set_trace_callback(None)
    for connection in (reader, creator):
        connection.close()
