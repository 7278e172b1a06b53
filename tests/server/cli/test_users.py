"""`manykeys user`: on the store alone, and beside a server that runs on it."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from server.cli import main as cli
from server.storage.rows import Row, Table
from tests.server.app.test_serve import Process, create_admin, login, open_socket, serving
from tests.server.auth.audit.test_notifier import Box, notifying
from tests.support.clock import Clock
from tests.support.commands import CHEAP, REFUSED, Desk, manykeys, user, write_lines
from tests.support.errors import told
from tests.support.server import PASSWORD, Http, Running, cheap_config, running
from tests.support.totp import Person

GONE = {"id": "security.token.invalid", "code": 117506049, "status": 401}
NEW = "battery staple"


def with_server(desk: Desk, ask: object) -> object:
    """Ask a server that runs on the desk's database."""

    async def serve() -> object:
        async with running(cheap_config(), data=str(desk.data)) as server:
            return await ask(server)  # type: ignore[operator]

    return asyncio.run(serve())


def can_log_in(desk: Desk, username: str, password: str = PASSWORD) -> bool:
    """Tell whether a server lets somebody in."""

    async def ask(server: Running) -> bool:
        body = {"username": username, "password": password}
        answer = await server.call("query", "auth:login", body=body, strategy="local")
        return answer["status"] == 200

    return bool(with_server(desk, ask))


def stored(desk: Desk, table: Table) -> list[Row]:
    """Give a table's rows."""

    async def read(server: Running) -> list[Row]:
        return await server.app.services.storage.find(table, limit=10_000)

    return cast("list[Row]", with_server(desk, read))


def test_a_user_is_made_and_logs_in(desk: Desk) -> None:
    out = desk.do(
        *("user", "create", "ann", "--username", "ann@example.org", "--profile", "default"),
        *("--profile", "anonymous", "--content", '{"name": "Ann"}', "--password-stdin"),
        stdin=PASSWORD + "\n",
    )
    assert "ann" in out and PASSWORD not in out
    source = desk.users()["ann"]["_source"]
    assert source["profileIds"] == ["default", "anonymous"] and source["name"] == "Ann"
    assert can_log_in(desk, "ann@example.org")
    assert not can_log_in(desk, "ann")


def test_a_user_without_a_password(desk: Desk) -> None:
    desk.do("user", "create", "robot", "--no-password")
    assert desk.users()["robot"]["_source"]["profileIds"] == ["default"]
    assert "-" in next(line for line in desk.do("user", "list").splitlines() if "robot" in line)
    assert desk.refuse("user", "set-password", "robot", "--password-stdin", stdin=NEW)


def test_the_list_is_a_table(desk: Desk) -> None:
    desk.create("bob")
    desk.create("ann", "--username", "ann@example.org")
    desk.do("user", "disable", "bob")
    heading, *rows = desk.do("user", "list").splitlines()
    assert heading.split() == ["KUID", "STATE", "PROFILES", "USERNAME", "CREATED"]
    assert [row.split()[:4] for row in rows] == [
        ["ann", "enabled", "default", "ann@example.org"],
        ["bob", "disabled", "default", "bob"],
    ]
    assert desk.users("--disabled").keys() == {"bob"}
    assert desk.users("--profile", "default").keys() == {"ann", "bob"}
    assert desk.users("--profile", "admin") == {}


def test_the_list_has_many_pages(desk: Desk, tmp_path: Path) -> None:
    """Users by the thousand come in the order of their ids, each once, with and without filter."""
    kuids = [f"u{number:04}" for number in range(1203)]
    file = write_lines(tmp_path / "users.jsonl", [user(kuid) for kuid in reversed(kuids)])
    desk.do("import", str(file))
    assert list(desk.users()) == kuids
    assert list(desk.users("--profile", "default")) == kuids
    rows = desk.do("user", "list").splitlines()
    assert [row.split()[0] for row in rows] == ["KUID", *kuids]


def test_what_is_printed_does_nothing_to_the_terminal(desk: Desk) -> None:
    """Usernames and profiles come from outside; ids may hold what turns writing around."""
    desk.create("eve\u202egnp.exe")
    shown = desk.do("user", "list")
    assert "\u202e" not in shown and "eve\\u202egnp.exe" in shown


def test_disable_and_enable(desk: Desk) -> None:
    desk.create("ann")
    desk.do("user", "disable", "ann")
    assert not can_log_in(desk, "ann")
    desk.do("user", "enable", "ann")
    assert can_log_in(desk, "ann")


def test_delete_leaves_nothing(desk: Desk) -> None:
    desk.create("ann", "--username", "ann@example.org")
    desk.do("user", "delete", "ann@example.org", "--by-username")
    assert desk.users() == {}
    assert desk.refuse("user", "delete", "ann").startswith("manykeys: ann: user not found")
    desk.create("ann", "--username", "ann@example.org")


@pytest.mark.parametrize("keeps", [False, True])
def test_set_password_ends_what_it_says(desk: Desk, keeps: bool) -> None:
    """docs/api/strategies.md#password-reset: a reset token never outlives a password; sessions go
    on only if asked."""
    desk.create("ann")
    tokens = {}

    async def log_in(server: Running) -> None:
        tokens["session"] = await server.login("ann")
        local = server.app.services.strategies.get("local")
        tokens["reset"] = await local.make_reset_token("ann")

    async def ask(server: Running) -> tuple[object, list[Row]]:
        http = await server.connect()
        me = await http.ask("GET", "/_me", token=tokens["session"])
        resets = await server.app.services.storage.find(Table.ONE_TIME, limit=9, kind="reset")
        return me.status, resets

    with_server(desk, log_in)
    flags = ["--keep-sessions"] if keeps else []
    desk.do("user", "set-password", "ann", *flags, "--password-stdin", stdin=NEW)
    assert with_server(desk, ask) == (200 if keeps else 401, [])
    assert can_log_in(desk, "ann", NEW) and not can_log_in(desk, "ann")


def test_the_audit_trail_tells_of_commands(desk: Desk, tmp_path: Path) -> None:
    """Who was changed by which command, in the order it was; of a file one line for those it
    makes."""
    desk.create("ann")
    for task in (["disable", "ann"], ["enable", "ann"], ["delete", "ann"]):
        desk.do("user", *task)
    file = write_lines(tmp_path / "f.jsonl", [user(f"u{number}") for number in range(50)])
    desk.do("import", str(file))
    events = stored(desk, Table.AUDIT)
    assert [(one["kind"], one["subject"]) for one in events] == [
        *((f"command:user {task}", "ann") for task in ("create", "disable", "enable", "delete")),
        ("command:import", str(file)),
    ]


MISTAKES = [
    (["user", "disable", "nobody"], "", "nobody"),
    (["user", "enable", "-1"], "", "-1"),
    (["user", "delete", "anonymous"], "", "anonymous"),
    (["user", "set-password", "nobody", "--password-stdin"], NEW, "nobody"),
    (["user", "set-password", "ann", "--password-stdin"], "\n", "empty"),
    (["user", "set-password", "ann", "--password-stdin"], "x" * 5000, "4096"),
    (["user", "create", "ann", "--password-stdin"], NEW, "ann"),
    (["user", "create", "bob", "--username", "ann", "--password-stdin"], NEW, "taken"),
    (["user", "create", "bob", "--profile", "none", "--no-password"], "", "none"),
    (["user", "create", "bob", "--content", "[1]", "--no-password"], "", "--content"),
    (["user", "create", "bob", "--content", "{", "--no-password"], "", "--content"),
    (
        ["user", "create", "bob", "--content", '{"profileIds": []}', "--no-password"],
        "",
        "--profile",
    ),
    (["user", "create", "a\nb", "--no-password"], "", "control characters"),
    (["user", "create", "", "--no-password"], "", "_id"),
    (["user", "list", "--profile", "\udcff"], "", "--profile"),
    (["keys", "retire", "\udcff"], "", "not a key"),
    (["user", "create", "bob", "--no-password", "--username", "b"], "", "--no-password"),
]


@pytest.mark.parametrize(("arguments", "stdin", "named"), MISTAKES)
def test_mistakes_change_nothing(desk: Desk, arguments: list[str], stdin: str, named: str) -> None:
    desk.create("ann")
    before = desk.users()
    assert named in desk.refuse(*arguments, stdin=stdin)
    assert desk.users() == before


def test_a_name_to_log_in_with_is_no_id(desk: Desk) -> None:
    """Whoever takes it for one, as after `create-admin`, is told so."""
    desk.create("kuid-7", "--username", "ann")
    assert "--by-username" in desk.refuse("user", "disable", "ann")
    assert "--by-username" not in desk.refuse("user", "disable", "bob")
    assert "--by-username" not in desk.refuse("user", "disable", "bob", "--by-username")
    desk.do("user", "disable", "ann", "--by-username")


@pytest.mark.parametrize("task", ["create", "set-password"])
def test_no_password_on_the_command_line(desk: Desk, task: str) -> None:
    for flag in ("--password", "--password-stdin=x"):
        with pytest.raises(SystemExit) as ended:
            cli.main(["user", task, "ann", flag, "secret"])
        assert ended.value.code == REFUSED


def test_there_must_be_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name makes no new one."""
    for arguments in (["user", "list"], ["role", "list"], ["profile", "list"]):
        absent = tmp_path / "absent.db"
        assert cli.main([*arguments, "--data", str(absent)]) == REFUSED
        assert str(absent) in capsys.readouterr().err and not absent.exists()


def test_who_reads_the_list_may_stop(desk: Desk, tmp_path: Path) -> None:
    """A reader that goes away is no failure worth a stack trace."""
    kuids = [f"user-with-a-long-name-{number:05}" for number in range(3000)]
    desk.do("import", str(write_lines(tmp_path / "u.jsonl", [user(kuid) for kuid in kuids])))
    command = [sys.executable, "-m", "server", "user", "list", "--json", "--data", str(desk.data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, b"")


HELP = [
    (["user", "set-password"], ["--keep-sessions", "--password-stdin", "reset tokens are"]),
    (["user", "list"], ["--profile", "--disabled", "--json"]),
    (["user"], ["list", "create", "disable", "enable", "delete", "set-password"]),
]


@pytest.mark.parametrize(("arguments", "named"), HELP)
def test_help_is_complete(
    arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and [part for part in named if part not in shown] == []


async def ask_both(server: Process, http: Http, token: str) -> list[dict[str, object]]:
    """Ask who a token stands for, over HTTP and a WebSocket."""
    socket = await open_socket(server)
    message = {"controller": "auth", "action": "getCurrentUser", "jwt": token}
    answers = [(await http.ask("GET", "/_me", token=token)).json, await socket.ask(message)]
    socket.http.close()
    return answers


async def test_a_running_server_obeys_at_once(tmp_path: Path) -> None:
    """When the command returns, every next request is answered by it, over both transports: the
    journal of docs/architecture.md tells the server."""
    data = tmp_path / "keys.db"

    async def command(*arguments: str, stdin: str = "") -> None:
        code, printed = await manykeys("user", *arguments, "--data", str(data), *CHEAP, stdin=stdin)
        assert code == 0, printed

    async with serving(data) as server:
        http = await server.connect()
        await create_admin(http)
        await command("create", "ann", "--password-stdin", stdin=PASSWORD)
        steps = [
            (["disable", "ann"], ["enable", "ann"]),
            (["set-password", "ann", "--password-stdin"], []),
            (["delete", "ann"], []),
        ]
        for ending, after in steps:
            token = await login(http, "ann")
            assert [one["status"] for one in await ask_both(server, http, token)] == [200, 200]
            await command(*ending, stdin=PASSWORD)
            assert [told(one) for one in await ask_both(server, http, token)] == [GONE, GONE]
            if after:
                await command(*after)
        http.close()
        assert "Traceback" not in await server.stop()


class Factored:
    """A database with Ann, who has an application and a session, and a box for messages."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.box = Box(folder)
        self.config = notifying(folder)
        command = ",".join(self.config.security.notify.command)
        self.flags = ("--set", f"security.notify.command={command}")
        self.session = ""
        desk.create("ann", "--username", "ann@example.org")
        asyncio.run(self.enrol())

    async def enrol(self) -> None:
        """Enrol Ann, as somebody does while logged in."""
        async with running(self.config, data=str(self.desk.data)) as server:
            self.session = await server.login("ann@example.org")
            person = Person(server, "query")
            clock = Clock()
            clock.now_ms = server.app.services.clock_ms()
            await person.enrol(self.session, clock)
            await self.box.one("credentialsAdded")

    async def look(self) -> tuple[bool, object]:
        """Tell whether she gets a token for a password alone, and how her session is answered."""
        async with running(self.config, data=str(self.desk.data)) as server:
            first = await Person(server, "query").first("ann@example.org")
            http = await server.connect()
            me = await http.ask("GET", "/_me", token=self.session)
            return "jwt" in first["result"], me.status


@pytest.fixture
def factored(desk: Desk, tmp_path: Path) -> Factored:
    folder = tmp_path / "box"
    folder.mkdir()
    return Factored(desk, folder)


@pytest.mark.parametrize("ends", [False, True])
def test_a_lost_factor_is_taken_away(factored: Factored, ends: bool) -> None:
    """A15, A16: with a line in the trail and a message, and sessions ended where that is asked."""
    desk = factored.desk
    assert asyncio.run(factored.look()) == (False, 200)
    flags = ["--end-sessions"] if ends else []
    out = desk.do("user", "reset-mfa", "ann@example.org", "--by-username", *flags, *factored.flags)
    assert out == "user ann: totp deleted\n"
    message = asyncio.run(factored.box.one("credentialsRemoved", user="ann", strategy="totp"))
    assert (message["action"], message["by"], message["address"]) == (
        "command:user reset-mfa",
        "",
        "",
    )
    assert asyncio.run(factored.look()) == (True, 401 if ends else 200)
    event = stored(desk, Table.AUDIT)[-2]  # after it, Ann's login
    assert (event["kind"], event["subject"], event["strategy"], event["actor"]) == (
        *("command:user reset-mfa", "ann", "totp"),
        "",
    )
    assert desk.refuse("user", "reset-mfa", "ann").endswith("has no second factor of: totp")


def test_a_login_that_waits_for_a_lost_factor_is_over(factored: Factored) -> None:
    """Whoever has found the application and the password gains nothing by having begun."""

    async def begin() -> None:
        async with running(factored.config, data=str(factored.desk.data)) as server:
            assert "state" in (await Person(server, "query").first("ann@example.org"))["result"]

    asyncio.run(begin())
    assert len(stored(factored.desk, Table.ONE_TIME)) == 1
    factored.desk.do("user", "reset-mfa", "ann")
    assert stored(factored.desk, Table.ONE_TIME) == []


def test_what_is_no_factor_stays(factored: Factored) -> None:
    """Neither a password nor what nobody has configured as a factor can be taken away by it."""
    desk = factored.desk
    for name in ("local", "codes"):
        refusal = desk.refuse("user", "reset-mfa", "ann", "--factor", name)
        assert refusal.endswith(f"{name} is not a second factor; expected one of: totp")
    assert desk.refuse("user", "reset-mfa", "bob").endswith("see manykeys user list")
    factors = ("--set", "security.mfa.factors=local")
    out = desk.do("user", "reset-mfa", "ann", *factors)
    assert out == "user ann: local deleted\n"
    out = desk.do("user", "reset-mfa", "ann", "--factor", "totp")
    assert out.splitlines()[-1] == "user ann has no credentials left and cannot log in"


def test_a_password_set_by_a_command_is_told(factored: Factored) -> None:
    """A16: to the operator's program, before the command ends."""
    factored.desk.do("user", "set-password", "ann", "--password-stdin", *factored.flags, stdin=NEW)
    message = asyncio.run(factored.box.one("credentialsChanged", user="ann", strategy="local"))
    assert message["action"] == "command:user set-password"


def test_a_program_that_hangs_keeps_no_command(factored: Factored) -> None:
    """It has its time, and the password is changed all the same."""
    flags = ("--set", "security.notify.command=/bin/sleep,600")
    flags += ("--set", "security.notify.timeout=100ms")
    code, out, _ = factored.desk.run(
        "user", "set-password", "ann", "--password-stdin", *flags, stdin=NEW
    )
    assert (code, out) == (0, "user ann has a new password\n")
    assert can_log_in(factored.desk, "ann@example.org", NEW)
