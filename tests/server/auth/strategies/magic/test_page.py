"""docs/strategies/magic.md shows what is so: its configuration is used, its commands are run."""

import re
from pathlib import Path

import pytest

from server.auth.strategies.magic import messages as magicletters
from server.config.model import load
from tests.support.certificates import Authority
from tests.support.documentation import Page, run_command
from tests.support.providers.smtp import PASSWORD, USERNAME, context_of, mail_host
from tests.support.server import running

PAGE = Page("strategies/magic.md")


async def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command with the answer it shows, and the letters as they are configured."""
    monkeypatch.setattr(magicletters, "_LONGEST_PAUSE_S", 0)
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    assert f'username = "{USERNAME}"\npassword = "{PASSWORD}"' in PAGE.toml
    file = tmp_path / "manykeys.toml"
    async with mail_host(context_of(authority), way="starttls") as host:
        place = f'host = "127.0.0.1"\nport = {host.port}'
        file.write_text(PAGE.toml.replace('host = "mail.example.com"', place))
        config = load(file, overrides={"server.port": 0, "security.passwords.cost": 4})
        async with running(config) as server:
            admin = await server.create_admin()
            known = {"TOKEN": await server.create_user(admin, "ann")}
            steps = list(PAGE.steps())
            assert len(steps) == 4
            for at, (command, shown) in enumerate(steps):
                answer = await run_command(command, server, tmp_path, known, shown)
                if at in (0, 2):
                    taken = await host.take()
                    found = re.search(r"\b[0-9]{6}\b", taken.text)
                    assert found is not None and taken.to == ["ann@example.com"]
                    known |= {"STATE": str(answer["result"]["state"]), "CODE": found[0]}
            assert answer["result"]["jwt"]
            assert str(taken.letter["Subject"]) == f"{found[0]} is your code for Example"
            link = f"\nhttps://app.example.com/in?state={known['STATE']}&code="
            assert link in taken.text
