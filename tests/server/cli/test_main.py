"""The command line: what it hands to the program, what it prints, and how it ends."""

import asyncio
import errno
import getpass
import io
import logging
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protocol.errors import LocalError, plain_error
from server.cli import main as cli
from server.config.model import Config
from server.storage.base import Unavailable

ADDRESS = "http://127.0.0.1:7512"
SECRET = "correct-horse-battery-staple-0123"
OnReady = Callable[[str, str | None], None]


@dataclass
class Program:
    """Stands in for `server.app.application`: notes what it is called with, fails as it is told
    to."""

    setup_code: str | None = None
    fails_at_start: Exception | None = None
    fails_later: Exception | None = None
    calls: list[dict[str, object]] = field(default_factory=list)

    async def serve(
        self,
        config: Config,
        *,
        data: str,
        open_mode: bool,
        on_ready: OnReady,
        on_code: Callable[[str], None],
        count_left_out_lines: Callable[[], int],
    ) -> None:
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        self.calls.append({"config": config, "data": data, "open": open_mode, "loop": loop})
        if self.fails_at_start:
            raise self.fails_at_start
        if self.setup_code is not None:
            on_code(self.setup_code)
        on_ready(ADDRESS)
        if self.fails_later:
            raise self.fails_later

    async def create_admin(self, config: Config, *, name: str, password: str) -> None:
        if self.fails_at_start:
            raise self.fails_at_start
        data = config.server.data
        self.calls.append({"data": data, "name": name, "password": password})


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    fake = Program()
    monkeypatch.setattr(cli, "app", fake)
    level = logging.getLogger().level
    yield fake
    logging.getLogger().setLevel(level)


Captured = pytest.CaptureFixture[str]


def one_line(capsys: Captured) -> str:
    """Give the complaint, and check that nothing else was printed."""
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("manykeys: ")
    return line


def test_serve_prints_one_line_when_it_answers(program: Program, capsys: Captured) -> None:
    assert cli.main(["serve"]) == 0
    assert capsys.readouterr().out == "manykeys listens on http://127.0.0.1:7512\n"
    (call,) = program.calls
    assert (call["data"], call["open"]) == ("manykeys.db", False)


def test_serve_shows_the_setup_code_first(program: Program, capsys: Captured) -> None:
    program.setup_code = "a-b-c"
    assert cli.main(["serve"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("first admin: ") and first.endswith("setupCode a-b-c")
    assert second == "manykeys listens on http://127.0.0.1:7512"


def test_flags_become_settings(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text("[server]\nport = 1\nnode = 'n'\n")
    flags = "--host ::1 --port 0 --data :memory: --log-format json --grace 3s --open".split()
    sets = ["--set", "server.port=2", "--set", "security.authToken.expiresIn=2h"]
    assert cli.main(["serve", "--config", str(file), *sets, *flags]) == 0
    (call,) = program.calls
    config = call["config"]
    assert isinstance(config, Config)
    assert (config.server.host, config.server.port, config.server.node) == ("::1", 0, "n")
    assert (call["data"], call["open"]) == (":memory:", True)
    assert (config.logs.format, config.timeouts.grace_ms) == ("json", 3000)
    assert config.security.auth_token.expires_in_ms == 7_200_000


def test_environment_is_read(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYKEYS_server__port", "4")
    monkeypatch.setenv("MANYKEYS_server__node", "n")
    assert cli.main(["serve", "--set", "server.port=5"]) == 0
    config = program.calls[0]["config"]
    assert isinstance(config, Config)
    assert (config.server.port, config.server.node) == (5, "n")


@pytest.mark.parametrize(
    ("flags", "loop"),
    [([], "uvloop"), (["--loop", "uvloop"], "uvloop"), (["--loop", "asyncio"], "asyncio")],
)
@pytest.mark.skipif(cli.uvloop is None, reason="uvloop is not installed")
def test_loops(program: Program, flags: list[str], loop: str) -> None:
    assert cli.main(["serve", *flags]) == 0
    assert program.calls[0]["loop"] == loop


def test_without_uvloop(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(cli, "uvloop", None)
    assert cli.main(["serve"]) == 0
    assert program.calls[0]["loop"] == "asyncio"
    capsys.readouterr()
    assert cli.main(["serve", "--loop", "uvloop"]) == 2
    assert "uvloop is not installed" in one_line(capsys)


MISTAKES = [
    (["serve", "--workers", "2"], "--workers"),
    (["serve", "--open", "--host", "0.0.0.0"], "--open"),  # noqa: S104
    (["serve", "--open", "--host", "example.org"], "--open"),
    (["serve", "--port", "http"], "server.port"),
    (["serve", "--set", "server.port"], "--set"),
    (["serve", "--set", "sever.port=1"], "server.port"),
    (["serve", "--grace", "soon"], "timeouts.grace"),
    (["serve", "--config", "/absent/manykeys.toml"], "/absent/manykeys.toml"),
    (["config", "--check", "--log-format", "xml"], "plain, json"),
]


@pytest.mark.parametrize(("arguments", "named"), MISTAKES)
def test_mistakes_end_in_one_line(
    program: Program, capsys: Captured, arguments: list[str], named: str
) -> None:
    assert cli.main(arguments) == 2
    assert named in one_line(capsys)
    assert not program.calls


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(errno.EADDRINUSE, "address in use"), "cannot listen on 127.0.0.1 port 7512"),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/m.db"), "/etc/m.db: Permission"),
        (Unavailable("m.db is newer\nthan this program"), "m.db is newer than this program"),
        (LocalError("no key"), "no key"),
    ],
)
def test_what_fails_at_start_is_said_in_one_line(
    program: Program, capsys: Captured, failure: Exception, said: str
) -> None:
    program.fails_at_start = failure
    assert cli.main(["serve"]) == 2
    assert said in one_line(capsys)


def test_what_fails_later_is_our_failure(program: Program, capsys: Captured) -> None:
    program.fails_later = OSError(errno.EIO, "gone")
    assert cli.main(["serve"]) == 1
    shown = capsys.readouterr()
    assert "the server failed" in shown.err and "| OSError" in shown.err


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        (["--host", "0.0.0.0"], "security.strict"),  # noqa: S104
        (["--open"], "--open"),
        (["--set", "repositories.common.cacheTTL=1"], "repositories.common.cacheTTL"),
    ],
)
def test_warnings(program: Program, capsys: Captured, arguments: list[str], warned: str) -> None:
    assert cli.main(["serve", *arguments]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert " WARNING " in line and warned in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "0.0.0.0", "--set", "security.strict=true"],  # noqa: S104
        ["--host", "localhost"],
        ["--host", "127.1.2.3"],
        ["--host", "::1"],
    ],
)
def test_nothing_to_warn_of(program: Program, capsys: Captured, arguments: list[str]) -> None:
    assert cli.main(["serve", *arguments]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "line", ["pass word \n", "pass word \r\n", "pass word ", "pass word \nx\n"]
)
def test_create_admin_from_stdin(
    program: Program, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """P4: spaces at the ends belong to the password."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    assert cli.main(["create-admin", "ann", "--password-stdin", "--data", "a.db"]) == 0
    assert program.calls == [{"data": "a.db", "name": "ann", "password": "pass word "}]


def test_create_admin_refuses_an_empty_password(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert cli.main(["create-admin", "ann", "--password-stdin"]) == 2
    assert "empty" in one_line(capsys)
    assert not program.calls


def test_create_admin_refuses_what_would_be_cut(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * 100_000))
    assert cli.main(["create-admin", "ann", "--password-stdin"]) == 2
    assert "too long" in one_line(capsys)
    assert not program.calls


@pytest.mark.parametrize(("again", "code"), [("pw", 0), ("pv", 2)])
def test_create_admin_asks_twice(
    program: Program, monkeypatch: pytest.MonkeyPatch, again: str, code: int
) -> None:
    answers = iter(["pw", again])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert cli.main(["create-admin", "ann"]) == code
    assert [call["password"] for call in program.calls] == ["pw"] * (1 - code // 2)


@pytest.mark.parametrize("typed", ["no terminal", "end"])
def test_create_admin_finds_nobody_to_ask(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: Captured, typed: str
) -> None:
    """Nothing is typed where it would be shown, and a script is told what to do."""

    def ask(prompt: str) -> str:
        if typed == "no terminal":
            warnings.warn("the echo stays", getpass.GetPassWarning, stacklevel=1)
            return "shown to everybody"
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ask)
    assert cli.main(["create-admin", "ann"]) == 2
    assert "--password-stdin" in one_line(capsys)
    assert not program.calls


def test_create_admin_says_what_the_server_refuses(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    program.fails_at_start = plain_error(400, "the username is taken")
    monkeypatch.setattr(sys, "stdin", io.StringIO("pw\n"))
    assert cli.main(["create-admin", "ann", "--password-stdin"]) == 2
    assert one_line(capsys) == "manykeys: the username is taken"


def test_config_prints_what_is_in_effect(program: Program, capsys: Captured) -> None:
    secret, ignored = f"security.authToken.secret={SECRET}", "repositories.common.cacheTTL"
    assert cli.main(["config", "--port", "99", "--set", secret, "--set", f"{ignored}=1"]) == 0
    shown = capsys.readouterr()
    assert tomllib.loads(shown.out)["server"]["port"] == 99
    assert SECRET not in shown.out + shown.err
    assert shown.err == f"{ignored}: this setting has no effect\n"


def test_config_check_says_nothing_when_all_is_well(program: Program, capsys: Captured) -> None:
    assert cli.main(["config", "--check"]) == 0
    assert capsys.readouterr() == ("", "")


def test_config_docs(program: Program, capsys: Captured) -> None:
    assert cli.main(["config", "--docs"]) == 0
    assert capsys.readouterr().out.startswith("# Configuration\n")


def test_help_names_commands_examples_and_exit_codes(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for part in ("serve", "create-admin", "config", "examples:", "exit codes:"):
        assert part in shown


def test_every_flag_of_serve_is_explained(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    shown = capsys.readouterr().out
    for flag in "host port data config workers loop set open log-format grace".split():
        assert f"--{flag}" in shown


def test_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("manykeys ")


@pytest.mark.parametrize("arguments", [[], ["serve", "--prot", "1"], ["serve", "--loop", "x"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server", "config", "--port", "x"],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("manykeys: server.port: ")
