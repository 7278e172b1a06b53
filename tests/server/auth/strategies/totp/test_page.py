"""docs/strategies/totp.md shows what is so: its configuration is used, its commands are run."""

import asyncio
import json
import os
import re
import shutil
import time
from pathlib import Path

import pyotp
import pytest

from server.config.model import load
from tests.docs.test_pages import holds
from tests.support.server import running

PAGE = (Path(__file__).parents[5] / "docs/strategies/totp.md").read_text()
STEPS = re.findall(r"```sh\n(.*?)```\n.*?```json\n(.*?)```", PAGE, re.DOTALL)


async def test_the_page(tmp_path: Path) -> None:
    """Each command with the answer it shows."""
    if shutil.which("curl") is None:
        assert not os.environ.get("MANYKEYS_REQUIRE_INTEROP"), "curl is missing"
        pytest.skip("curl is missing")
    file = tmp_path / "manykeys.toml"
    file.write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    assert len(STEPS) == 4
    async with running(load(file, overrides={"server.port": 0})) as server:
        # An administrator who need not enrol first: nobody logs in as him.
        users = server.app.services.users
        for kuid, profile in (("admin", "admin"), ("ann", "default")):
            credentials = {"local": {"username": kuid, "password": "correct horse"}}
            await users.create(
                kuid=kuid,
                kind="",
                profile_ids=[profile],
                content={},
                credentials=credentials,
                author="-1",
            )
        known = {"TOKEN": await server.login("ann")}
        for at, (command, shown) in enumerate(STEPS):
            script = command.replace("localhost:7512", f"127.0.0.1:{server.port}")
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", script),
                stdout=asyncio.subprocess.PIPE,
                cwd=tmp_path,
                env={**os.environ, **known},
            )
            output, _ = await process.communicate()
            answer = json.loads(output)
            assert holds(answer, json.loads(shown)), answer
            known["STATE"] = answer["result"].get("state", "")
            secret = answer["result"].get("challenge", {}).get("secret")
            if secret is not None:
                app = pyotp.TOTP(secret)
            # The code after the one of the enrolment, of a clock that is one step ahead.
            known["CODE"] = app.at(time.time(), counter_offset=int(at > 0))
        assert answer["result"]["jwt"]
