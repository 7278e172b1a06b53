"""docs/strategies/local.md shows what is so: its configuration is used, its commands are run."""

from pathlib import Path

from server.config.model import load
from tests.support.documentation import Page, run_command
from tests.support.server import running

PAGE = Page("strategies/local.md")


async def test_the_page(tmp_path: Path) -> None:
    """Each command with the answer it shows."""
    file = tmp_path / "manykeys.toml"
    file.write_text(PAGE.toml)
    config = load(file, overrides={"server.port": 0, "security.passwords.cost": 4})
    async with running(config) as server:
        known = {"ADMIN": await server.create_admin()}
        steps = list(PAGE.steps())
        assert len(steps) == 5
        for command, shown in steps:
            answer = await run_command(command, server, tmp_path, known, shown)
            result = answer["result"] or {}
            known["TOKEN"] = result.get("jwt") or known.get("TOKEN", "")
            known["RESET"] = (answer["error"] or {}).get("resetToken", "")
