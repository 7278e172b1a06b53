"""Commands of operators: run in the test's own process, or as the program they are."""

import asyncio
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.cli import main as cli
from tests.support.server import PASSWORD
from tests.support.waiting import in_time

CHEAP = ("--set", "security.passwords.cost=4")
REFUSED = 2
"""The exit code for what is to be corrected."""


@dataclass
class Desk:
    """Runs commands on one database, in this process."""

    data: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Give the exit code, what was printed, and what was complained of."""
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        # How far it has come is told by the clock, and would be a word on a slow machine only.
        self.monkeypatch.setattr("server.cli.output._LINE_S", math.inf)
        self.capsys.readouterr()
        code = cli.main([*arguments, "--data", str(self.data), *CHEAP])
        shown = self.capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    def do(self, *arguments: str, stdin: str = "") -> str:
        """Run what must go well without a word on stderr, and give what was printed."""
        code, out, err = self.run(*arguments, stdin=stdin)
        assert (code, err) == (0, ""), (out, err)
        return out

    def refuse(self, *arguments: str, stdin: str = "") -> str:
        """Run what must be refused, and give the last line of why."""
        code, _, err = self.run(*arguments, stdin=stdin)
        assert code == REFUSED, err
        return err.splitlines()[-1]

    def create(self, kuid: str, *flags: str) -> None:
        """Make a user with the usual password."""
        self.do("user", "create", kuid, *flags, "--password-stdin", stdin=PASSWORD)

    def users(self, *flags: str) -> dict[str, dict[str, object]]:
        """Give the users by id, as `list --json` prints them."""
        lines = self.do("user", "list", "--json", *flags).splitlines()
        return {one["_id"]: one for one in map(json.loads, lines)}


def write_lines(path: Path, documents: Sequence[object]) -> Path:
    """Write a file to be imported."""
    path.write_text("".join(json.dumps(one) + "\n" for one in documents))
    return path


def user(kuid: str, *profiles: str, **more: object) -> dict[str, object]:
    """Give a user's line."""
    source = {"profileIds": list(profiles) or ["default"], "name": kuid.title()}
    return {"collection": "users", "_id": kuid, "_source": source, **more}


def role(name: str, rights: Mapping[str, Mapping[str, bool]]) -> dict[str, object]:
    """Give a role's line."""
    controllers = {controller: {"actions": actions} for controller, actions in rights.items()}
    return {"collection": "roles", "_id": name, "_source": {"controllers": controllers}}


def profile(name: str, *roles: str) -> dict[str, object]:
    """Give a profile's line."""
    policies = [{"roleId": one} for one in roles]
    return {"collection": "profiles", "_id": name, "_source": {"policies": policies}}


async def manykeys(*arguments: str, stdin: str = "") -> tuple[int, str]:
    """Run the program; give its exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await in_time(process.communicate(stdin.encode()))
    assert process.returncode is not None
    return process.returncode, (printed + errors).decode()
