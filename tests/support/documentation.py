"""Pages of docs/ whose configuration is used and whose commands are run, as they stand there."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.docs.test_pages import ROOT, holds
from tests.support.server import Envelope, Running


class Page:
    """A page; its first block of TOML is a configuration."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / "docs" / name).read_text()
        self.toml = self.text.partition("```toml\n")[2].partition("```")[0]

    def steps(self) -> Iterator[tuple[str, object]]:
        """Give each command with the answer shown below it."""
        found = re.finditer(r"```sh\n(.*?)```\n.*?```json\n(.*?)```", self.text, re.DOTALL)
        return ((step[1], json.loads(step[2])) for step in found)


async def run_command(
    command: str, server: Running, folder: Path, known: Mapping[str, str], shown: object
) -> Envelope:
    """Run a command of a page where `known` are variables; give the answer, which holds what is
    shown of it."""
    if shutil.which("curl") is None:
        assert not os.environ.get("MANYKEYS_REQUIRE_INTEROP"), "curl is missing"
        pytest.skip("curl is missing")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command.replace("localhost:7512", f"127.0.0.1:{server.port}")),
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **known},
    )
    output, _ = await process.communicate()
    answer: Envelope = json.loads(output)
    assert holds(answer, shown), answer
    return answer
