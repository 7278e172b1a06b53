"""`manykeys import`: what it takes, what it leaves, and how it goes on after an interruption."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import signal
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.admin.importing.bulk_writer import Ending
from server.admin.importing.formats import Kind
from server.admin.importing.importer import Importer, Options
from server.admin.importing.report import Report
from server.app.application import operating
from server.cli.output import Progress
from server.config.model import load
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from tests.server.app.test_serve import create_admin, login, serving
from tests.server.cli.test_users import can_log_in
from tests.support.commands import CHEAP, Desk, profile, role, user, write_lines
from tests.support.server import PASSWORD
from tests.support.waiting import deadline, in_time

SALT = "ab" * 128
HASHED = "$2b$04$" + "." * 22 + "a" * 31


def kuzzle_record(**more: object) -> dict[str, object]:
    """Give a password as docs/api/strategies.md#stored-passwords, #imported-hashes says Kuzzle
    keeps it by default."""
    key = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), SALT.encode(), 10_000, 512)
    return {
        "userPassword": key.hex(),
        "userSalt": SALT,
        "algorithm": "sha512",
        "stretching": True,
        "encryption": "hmac",
        "pepper": False,
        **more,
    }


def django_hash() -> str:
    key = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"salt", 1000)
    return f"pbkdf2_sha256$1000$salt${base64.b64encode(key).decode()}"


def credentials(username: str, kuid: str, **source: object) -> dict[str, object]:
    """Give a line of local credentials."""
    held = {"kuid": kuid, **source}
    return {"collection": "credentials", "_id": username, "_source": held}


HASHES: dict[str, dict[str, object]] = {
    "kuzzle": kuzzle_record(),
    "kuzzle hmac": kuzzle_record(
        stretching=False, userPassword=hmac.digest(SALT.encode(), PASSWORD.encode(), "sha512").hex()
    ),
    "bcrypt": {"hash": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()},
    "django": {"hash": django_hash()},
    "argon2": {},
    "plain": {"password": PASSWORD},
}


def argon2_hash() -> str:
    low_level = pytest.importorskip("argon2.low_level")
    kind = low_level.Type.ID
    made = low_level.hash_secret(PASSWORD.encode(), b"somesalt", 1, 64, 1, 16, kind)
    return str(made.decode())


@pytest.mark.parametrize("is_beside", [True, False])
@pytest.mark.parametrize("name", HASHES)
def test_users_log_in_with_the_passwords_they_had(
    desk: Desk, tmp_path: Path, name: str, is_beside: bool
) -> None:
    """docs/api/strategies.md#imported-hashes, and hashes of other programs: beside the user, or on
    a line of their own."""
    held = {"hash": argon2_hash()} if name == "argon2" else HASHES[name]
    inline = {"local": {"username": "ann@example.org", **held}}
    apart = credentials("ann@example.org", "ann", **held)
    lines = [user("ann", credentials=inline)] if is_beside else [apart, user("ann")]
    desk.do("import", str(write_lines(tmp_path / "f.jsonl", lines)))
    assert can_log_in(desk, "ann@example.org")
    assert not can_log_in(desk, "ann@example.org", PASSWORD + "x")


def test_kuzzles_own_dump(desk: Desk, tmp_path: Path) -> None:
    """Lines of its Elasticsearch indexes, in any order; who made what when stays
    (docs/api/security.md#stored-documents), and so does what password policies go by
    (docs/api/strategies.md#stored-passwords)."""
    info = {"author": "boss", "createdAt": 1000, "updatedAt": 2000, "updater": "boss"}
    hashed = kuzzle_record(
        kuid="ann", updater="boss", _kuzzle_info=info, passwordHistory=[kuzzle_record(), {"x": 1}]
    )
    documents = [
        ("%plugin-kuzzle-plugin-auth-passport-local.users", "ann", hashed),
        ("%kuzzle.users", "ann", {"profileIds": ["p"], "name": "Ann", "_kuzzle_info": info}),
        ("%kuzzle.profiles", "p", {"policies": [{"roleId": "r"}], "optimizedPolicies": []}),
        ("%kuzzle.roles", "r", role("r", {"auth": {"logout": True}})["_source"]),
        ("%kuzzle.api-keys", "k", {"userId": "ann"}),
    ]
    lines = [{"_index": index, "_id": one, "_source": held} for index, one, held in documents]
    file = str(write_lines(tmp_path / "dump.jsonl", lines))
    assert "1 documents of other collections" in desk.do("import", file)
    assert desk.users()["ann"]["_source"] == {
        "profileIds": ["p"],
        "name": "Ann",
        "_kuzzle_info": info,
    }
    (row,) = stored(desk, Table.CREDENTIALS)
    assert (row["created_at"], row["updated_at"]) == (1000, 2000)
    assert row["data"]["updater"] == "boss" and len(row["data"]["history"]) == 1
    assert "optimizedPolicies" not in stored(desk, Table.PROFILES)[-1]["body"]
    assert can_log_in(desk, "ann")


def stored(desk: Desk, table: Table) -> list[dict[str, object]]:
    """Give a table's rows."""

    async def read() -> list[dict[str, object]]:
        storage = SqliteStorage(str(desk.data), clock_ms=lambda: 0)
        await storage.open()
        try:
            return await storage.find(table, limit=10_000)
        finally:
            await storage.close()

    return asyncio.run(read())


def everything(desk: Desk) -> list[object]:
    """Give all that is stored of users and rights."""
    tables = (Table.ROLES, Table.PROFILES, Table.USERS, Table.USER_PROFILES, Table.CREDENTIALS)
    return [stored(desk, table) for table in tables]


def counts(desk: Desk, *arguments: str) -> dict[str, dict[str, int]]:
    """Import, and give what became of how many."""
    outcome = json.loads(desk.do("import", *arguments, "--json"))
    return {
        kind.value: {name: number for name, number in outcome[kind.value].items() if number}
        for kind in Kind
    }


LINES = [
    credentials("ann@example.org", "ann", hash=HASHED),
    user("ann", "p", disabled=True),
    user("bob", credentials={"local": {"username": "bob", **kuzzle_record()}}),
    user("eve", credentials={"local": {"username": "eve", "password": PASSWORD}}),
    profile("p", "r"),
    role("r", {"auth": {"logout": True}}),
]


@pytest.mark.parametrize("flags", [[], ["--update"]])
def test_the_same_file_twice_changes_nothing(desk: Desk, tmp_path: Path, flags: list[str]) -> None:
    file = str(write_lines(tmp_path / "f.jsonl", LINES))
    numbers = {"roles": 1, "profiles": 1, "users": 3, "credentials": 1}
    assert counts(desk, file, *flags) == {one: {"created": n} for one, n in numbers.items()}
    before = everything(desk)
    assert counts(desk, file, *flags) == {one: {"unchanged": n} for one, n in numbers.items()}
    assert everything(desk) == before


def test_what_is_there_stays_unless_it_is_to_be_replaced(desk: Desk, tmp_path: Path) -> None:
    """Other documents under the same ids: kept without --update, replaced with it, credentials and
    profiles included."""
    desk.do("import", str(write_lines(tmp_path / "f.jsonl", LINES)))
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    changed = [
        credentials("ann@example.com", "ann", hash=other),
        user("ann", "default", disabled=False),
        user("bob", "p", credentials={"local": {"username": "bob", "hash": other}}),
        user("eve", credentials={"local": {"username": "eve", "password": "other"}}),
        {**profile("p", "r", "default")},
        role("r", {"auth": {"logout": False}}),
    ]
    file = str(write_lines(tmp_path / "g.jsonl", changed))
    before = everything(desk)
    assert counts(desk, file)["users"] == {"kept": 3}
    assert everything(desk) == before
    numbers = {"roles": 1, "profiles": 1, "users": 3, "credentials": 1}
    assert counts(desk, file, "--update") == {one: {"replaced": n} for one, n in numbers.items()}
    assert {
        row["kuid"] for row in stored(desk, Table.USER_PROFILES) if row["profile_id"] == "p"
    } == {"bob"}
    assert counts(desk, file, "--update") == {one: {"unchanged": n} for one, n in numbers.items()}
    for username in ("ann@example.com", "bob", "eve"):
        assert can_log_in(desk, username, "other")
    assert not can_log_in(desk, "ann@example.org", "other")


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("first", ["hash", "password"])
@pytest.mark.parametrize("last", ["hash", "password"])
@pytest.mark.parametrize(("flag", "winner"), [("--update", "last"), ("--json", "first")])
def test_of_two_lines_about_one_user_the_order_counts(
    desk: Desk, tmp_path: Path, first: str, last: str, apart: bool, flag: str, winner: str
) -> None:
    """Whether their passwords are hashed or not: the later one replaces the earlier one, or finds
    it there."""

    def line(secret: str, form: str) -> dict[str, object]:
        hashed = bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()
        held = {form: hashed if form == "hash" else secret}
        if apart:
            return credentials("ann", "ann", **held)
        return user("ann", credentials={"local": {"username": "ann", **held}})

    lines = [line("first", first), line("last", last)]
    if apart:
        lines.append(user("ann"))
    desk.do("import", str(write_lines(tmp_path / "f.jsonl", lines)), flag)
    assert can_log_in(desk, "ann", winner)


@pytest.mark.parametrize("held", [{"hash": HASHED}, {"password": PASSWORD}], ids=["hash", "plain"])
def test_a_user_arrives_as_he_was(desk: Desk, tmp_path: Path, held: dict[str, object]) -> None:
    """In one write: disabled, and made when the file says, whatever his password looks like."""
    info = {"author": "boss", "createdAt": 1000, "updatedAt": None, "updater": None}
    line = user("ann", credentials={"local": {"username": "ann", **held}}, disabled=True)
    line["_source"] = {"profileIds": ["default"], "_kuzzle_info": info}
    file = str(write_lines(tmp_path / "f.jsonl", [line]))
    desk.do("import", file)
    ann = desk.users()["ann"]
    assert ann["disabled"] is True and ann["_source"] == line["_source"]
    assert counts(desk, file, "--update")["users"] == {"unchanged": 1}


@pytest.mark.parametrize("held", [{"hash": HASHED}, {"password": PASSWORD}], ids=["hash", "plain"])
def test_a_user_who_is_there_gets_no_password_unasked(
    desk: Desk, tmp_path: Path, held: dict[str, object]
) -> None:
    """Beside him it is a part of his line: kept without --update."""
    desk.do("import", str(write_lines(tmp_path / "f.jsonl", [user("ann")])))
    line = user("ann", credentials={"local": {"username": "ann", **held}})
    file = str(write_lines(tmp_path / "g.jsonl", [line]))
    assert counts(desk, file)["users"] == {"kept": 1} and not stored(desk, Table.CREDENTIALS)
    assert counts(desk, file, "--update")["users"] == {"replaced": 1}
    assert counts(desk, file, "--update")["users"] == {"unchanged": 1}


def test_the_id_of_credentials_is_the_name(desk: Desk, tmp_path: Path) -> None:
    line = credentials("ann", "ann")
    line["_source"] = {"kuid": "ann", "password": PASSWORD, "username": "other"}
    desk.do("import", str(write_lines(tmp_path / "f.jsonl", [user("ann"), line])))
    assert [row["id"] for row in stored(desk, Table.CREDENTIALS)] == ["ann"]


def test_no_password_is_refused_for_want_of_places(desk: Desk, tmp_path: Path) -> None:
    """A short queue is for callers; the file waits."""
    lines = [
        user(f"u{n}", credentials={"local": {"username": f"u{n}", "password": "x"}})
        for n in range(12)
    ]
    few = ("--set", "security.passwords.queue=1", "--set", "security.passwords.threads=1")
    file = str(write_lines(tmp_path / "f.jsonl", lines))
    assert counts(desk, file, *few)["users"] == {"created": 12}


def test_a_line_that_says_nothing_of_disabled_leaves_it(desk: Desk, tmp_path: Path) -> None:
    """A dump of Kuzzle's must not let in again whom an operator shut out."""
    desk.create("ann")
    desk.do("user", "disable", "ann")
    desk.do("import", str(write_lines(tmp_path / "f.jsonl", [user("ann")])), "--update")
    ann = desk.users()["ann"]
    assert ann["disabled"] is True and ann["_source"]["name"] == "Ann"


REFUSALS = [
    (user("ann", "nobodys"), "nobodys"),
    (user("-1"), "-1"),
    (user("a\x00b"), "control characters"),
    (user("x" * 600), "512 bytes"),
    ({"collection": "users", "_id": "ann", "_source": {}}, "profileIds"),
    ({"collection": "users", "_id": "ann", "_source": {"profileIds": []}}, "profileIds"),
    ({"collection": "users", "_id": "ann", "_source": {"profileIds": [7]}}, "profileIds"),
    (user("ann", credentials={"local": 7}), "credentials.local"),
    (user("ann", credentials={"local": {"hash": HASHED}}), "username"),
    (user("ann", credentials={"local": {"username": "x", "hash": "md5"}}), "hash"),
    (user("ann", credentials={"local": {"username": "x", "hash": "$2b$31" + HASHED[6:]}}), "hash"),
    (user("ann", credentials={"local": {"username": "x", "password": 7}}), "password"),
    (user("ann", credentials={"local": {"username": "x", "password": "y" * 5000}}), "4096"),
    (user("ann", credentials={"local": {"username": "taken", "hash": HASHED}}), "taken"),
    (user("ann", credentials={"local": {"username": "taken", "password": "x"}}), "taken"),
    (user("ann", credentials={"github": {"id": 1}}), "github"),
    (credentials("x", "nobody", hash=HASHED), "nobody"),
    (credentials("taken", "there", hash=HASHED), "taken"),
    (credentials("x", "there", **kuzzle_record(userPassword="zz")), "userPassword"),
    (credentials("x", "there", **kuzzle_record(pepper="p")), "userPassword"),
    (credentials("x", "there", **kuzzle_record(algorithm="md5")), "userPassword"),
    ({"collection": "credentials", "_id": "x", "_source": {"hash": HASHED}}, "kuid"),
    ({"collection": "credentials", "_id": "x", "_source": {"password": "x"}}, "kuid"),
    ({**credentials("x", "there", hash=HASHED), "strategy": "github"}, "github"),
    ({**credentials("x", "there", password="x"), "strategy": "github"}, "github"),
    (
        user("ann", credentials={"local": {"username": "x", "password": "x"}, "github": {}}),
        "github",
    ),
    (user("there", credentials={"local": {"username": "taken", "password": "x"}}), "taken"),
    ({"collection": "nothing", "_id": "x", "_source": {}}, "collection"),
    ("no object", "expected an object"),
]


@pytest.mark.parametrize(("line", "named"), REFUSALS, ids=lambda value: str(value)[:60])
def test_a_refusal_keeps_nothing_else_from_being_taken(
    desk: Desk, tmp_path: Path, line: object, named: str
) -> None:
    """The line is named, everything around it is taken, the exit code tells."""
    desk.create("owner", "--username", "taken")
    desk.create("there", "--username", "there")
    lines = [user("before"), line, user("after")]
    errors, there = tmp_path / "errors.txt", desk.users()["there"]
    file = str(write_lines(tmp_path / "f.jsonl", lines))
    code, _, err = desk.run("import", file, "--errors", str(errors), "--update")
    first, last = err.splitlines()
    assert code == 2 and first.startswith("line 2: ") and named in first
    assert last == "manykeys: rejected documents in the file: 1"
    assert errors.read_text() == first + "\n"
    assert "password" not in desk.users() and HASHED not in err
    assert desk.users().keys() == {"before", "after", "owner", "there"}
    assert desk.users()["there"] == there


def test_many_refusals_are_listed_in_a_file(desk: Desk, tmp_path: Path) -> None:
    """On stderr only the first twenty, in the order of the file."""
    errors = tmp_path / "errors.txt"
    file = write_lines(tmp_path / "f.jsonl", [user(f"u{n}", "nobodys") for n in range(1500)])
    code, _, err = desk.run("import", str(file), "--errors", str(errors))
    assert code == 2
    *listed, more, _ = err.splitlines()
    numbers = [int(line.split()[1].rstrip(":")) for line in listed]
    assert len(numbers) == 20 and numbers == sorted(numbers) and more.startswith("and 1480 more")
    assert len(errors.read_text().splitlines()) == 1500


def test_refusals_do_nothing_to_the_terminal(desk: Desk, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "f.jsonl", [user("\x1b]0;owned\x07", "none")])
    _, _, err = desk.run("import", str(file))
    assert "\x1b" not in err and "\x07" not in err and "owned" in err


@pytest.mark.parametrize("name", ["absent.jsonl", "."])
def test_files_that_are_none(desk: Desk, tmp_path: Path, name: str) -> None:
    assert desk.refuse("import", str(tmp_path / name)).startswith(f"manykeys: {tmp_path}")


@pytest.mark.parametrize("needed", ["f.jsonl", "keys.db", "keys.db-wal"])
def test_what_is_written_is_no_file_that_is_needed(desk: Desk, tmp_path: Path, needed: str) -> None:
    """Neither the list of refusals nor an export takes the place of the file or the database."""
    file = write_lines(tmp_path / "f.jsonl", [user("ann", "none")])
    other = tmp_path / "link"
    other.symlink_to(tmp_path / needed)
    with closing(sqlite3.connect(desk.data)) as server:  # as long as it is there its log stays
        server.execute("SELECT * FROM sqlite_schema").fetchall()
        before = (tmp_path / needed).read_bytes()
        assert "another file" in desk.refuse("import", str(file), "--errors", str(other))
        if needed != "f.jsonl":
            assert "another file" in desk.refuse("role", "export", "--output", str(other))
        assert (tmp_path / needed).read_bytes().startswith(before[:100])
    assert desk.users() == {}


def test_an_empty_file(desk: Desk, tmp_path: Path) -> None:
    assert desk.do("import", str(write_lines(tmp_path / "f.jsonl", []))).split() == [
        *("created", "replaced", "unchanged", "kept", "refused")
    ]


NAMES = st.sampled_from(["a", "b", "c"])
DOCUMENTS = st.one_of(
    st.builds(lambda kuid, one: user(kuid, one), NAMES, st.sampled_from(["default", "p", "q"])),
    st.builds(
        lambda kuid, name: user(kuid, credentials={"local": {"username": name, "hash": HASHED}}),
        NAMES,
        NAMES,
    ),
    st.builds(lambda name, kuid: credentials(name, kuid, hash=HASHED), NAMES, NAMES),
    st.builds(lambda name, one: profile(name, one), st.sampled_from("pq"), st.sampled_from("rs")),
    st.builds(lambda name: role(name, {"auth": {"logout": True}}), st.sampled_from("rs")),
)


async def import_all(path: Path, data: Path, *, replaces: bool) -> tuple[Report, list[object]]:
    """Import in this process; give the report, and all users and credentials."""
    report = Report()
    async with operating(load(None, {}, {"server.data": str(data)})) as operations:
        options = Options(replaces=replaces)
        await Importer(operations, options, report, lambda done, text: None).run(path)
        tables = (Table.USERS, Table.USER_PROFILES, Table.CREDENTIALS, Table.PROFILE_ROLES)
        return report, [await operations.storage.find(table, limit=99) for table in tables]


@settings(max_examples=25, deadline=None)
@given(st.lists(DOCUMENTS, max_size=12), st.booleans())
def test_any_file_again_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, documents: list[object], replaces: bool
) -> None:
    """Ids and names that meet, references that lead nowhere: every document is counted once, users
    and credentials belong together, and what is not replaced stays the same from then on."""
    folder = tmp_path_factory.mktemp("import")
    data, path = folder / "keys.db", write_lines(folder / "f.jsonl", documents)

    async def twice() -> None:
        storage = SqliteStorage(str(data), clock_ms=lambda: 0)
        await storage.open()
        await storage.close()
        first, before = await import_all(path, data, replaces=replaces)
        second, after = await import_all(path, data, replaces=False)
        for report in (first, second):
            assert report.endings.total() + report.failed == len(documents)
        users, user_profiles, held, _ = after
        kuids = {row["kuid"] for row in users}
        assert {row["kuid"] for row in user_profiles} == kuids
        assert {row["kuid"] for row in held} <= kuids
        assert all(row in users for row in before[0])
        assert not any(ending is Ending.REPLACED for _, ending in second.endings)

    asyncio.run(twice())


def test_progress_off_a_terminal() -> None:
    """A plain line every few seconds, and nothing before."""
    now, stream = [0.0], io.StringIO()
    progress = Progress(stream, 200, clock_s=lambda: now[0])
    for at_s, done in ((1.0, 20), (6.0, 100), (7.0, 120), (12.0, 200)):
        now[0] = at_s
        progress.show(done, "users")
    progress.end()
    assert stream.getvalue() == " 50%  users, 6 s\n100%  users, 12 s\n"


def test_progress_on_a_terminal() -> None:
    """A bar that is drawn over itself, and gone in the end."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now, stream = [0.0], Terminal()
    progress = Progress(stream, 0, clock_s=lambda: now[0])
    now[0] = 1.0
    progress.show(0, "a long text")
    now[0] = 2.0
    progress.show(5, "users")
    progress.end()
    drawn = stream.getvalue().split("\r")
    assert drawn[1] == f"[{' ' * 30}]   0%  a long text, 1 s"
    assert drawn[2].startswith(f"[{'#' * 30}] 100%  users, 2 s") and len(drawn[2]) == len(drawn[1])
    assert not "".join(drawn[3:]).strip()


def many(count: int) -> Iterable[dict[str, object]]:
    """Give users with hashes, whose ids are in no order."""
    for number in range(count):
        kuid = hashlib.sha256(str(number).encode()).hexdigest()
        yield user(kuid, credentials={"local": {"username": f"u{number}", "hash": HASHED}})


async def start_import(file: Path, data: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "import", str(file), "--data", str(data), *CHEAP),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def interrupt(
    file: Path, data: Path, number: int, count: int
) -> tuple[SqliteStorage, asyncio.subprocess.Process, bytes]:
    """Start an import and end it by a signal; give the store, the process and what it complained
    of. One that was over before the signal came begins again, with a new store."""
    for _ in range(10):
        for left in data.parent.glob(f"{data.name}*"):
            left.unlink()
        storage = SqliteStorage(str(data), clock_ms=lambda: 0)
        await storage.open()
        process = await start_import(file, data)
        await wait_for_some(storage)
        with suppress(ProcessLookupError):
            process.send_signal(number)
        _, err = await in_time(process.communicate())
        if await storage.count(Table.USERS) < count:
            return storage, process, err
        await storage.close()
    pytest.fail("every import was over before it could be interrupted")


async def wait_for_some(storage: SqliteStorage) -> None:
    """Wait until the first users are stored."""
    async with deadline():
        while not await storage.exists(Table.USERS):
            pass  # each look is a wait


async def test_what_is_on_its_way_counts_however_the_rest_ends(tmp_path: Path) -> None:
    """A batch is written while more is read: an early end waits for it, and tells of it."""
    data, report = tmp_path / "keys.db", Report()
    path = write_lines(tmp_path / "f.jsonl", list(many(3000)))
    storage = SqliteStorage(str(data), clock_ms=lambda: 0)
    await storage.open()
    await storage.close()
    async with operating(load(None, {}, {"server.data": str(data)})) as operations:
        with closing(sqlite3.connect(data, isolation_level=None)) as other:

            def go_away(done: int, text: str) -> None:
                if "1000 so far" in text:
                    assert report.endings.total() == 0
                    other.execute("ROLLBACK")
                    raise OSError("nobody to tell")

            other.execute("BEGIN IMMEDIATE")  # nothing can be written before
            with pytest.raises(OSError, match="nobody to tell"):
                await Importer(operations, Options(), report, go_away).run(path)
        assert await operations.storage.count(Table.USERS) == 1000
    assert dict(report.endings) == {(Kind.USERS, Ending.CREATED): 1000}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_an_interrupted_import_goes_on(tmp_path: Path, number: int) -> None:
    """What was stored is whole, a user with his credentials; run again it ends as if it had never
    been interrupted."""
    data, count = tmp_path / "keys.db", 20_000
    file = write_lines(tmp_path / "f.jsonl", list(many(count)))
    storage, process, err = await interrupt(file, data, number, count)
    stored = [await storage.count(table) for table in (Table.USERS, Table.CREDENTIALS)]
    assert 0 < stored[0] < count and stored[0] == stored[1]
    if number == signal.SIGINT:
        assert process.returncode == 1 and b"Traceback" not in err
        assert b"run the same command to continue" in err
    process = await start_import(file, data)
    out, err = await in_time(process.communicate())
    assert process.returncode == 0, err
    row = out.decode().splitlines()[1].split()
    assert row == ["users", str(count - stored[0]), "0", str(stored[0]), "0", "0"]
    assert await storage.count(Table.CREDENTIALS) == count
    await storage.close()


async def test_logins_go_on_during_an_import(tmp_path: Path) -> None:
    """Both write the same file: no login fails, no user is lost, a user taken in can log in."""
    data, count = tmp_path / "keys.db", 8_000
    last = user("last", credentials={"local": {"username": "last", **HASHES["bcrypt"]}})
    file = write_lines(tmp_path / "f.jsonl", [*many(count), last])
    async with serving(data) as server:
        http = await server.connect()
        await create_admin(http)
        process = await start_import(file, data)
        ended = asyncio.create_task(process.communicate())
        logins = 0
        while not ended.done():
            await login(http)
            logins += 1
        out, err = await ended
        assert process.returncode == 0, err
        assert out.decode().splitlines()[1].split()[:2] == ["users", str(count + 1)]
        assert logins > 0 and await login(http, "last")
        http.close()
        assert "Traceback" not in await server.stop()
