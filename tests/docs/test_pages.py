"""The documents say what is so: the README's examples are run, its table is the bench's."""

import json
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.app.strategies import GROUP
from tests.interop.programs import find_program, install_packages
from tests.tools import security_checks as checks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
WAIT_S = 60


def examples() -> Iterator[tuple[str, object]]:
    """Give the README's commands, each with the answer shown below it, or None."""
    found = re.finditer(r"```sh\n(.*?)```\n(?:```json\n(.*?)```)?", README, re.DOTALL)
    for example in found:
        yield example[1], json.loads(example[2]) if example[2] else None


def holds(answer: object, shown: object) -> bool:
    """Tell whether an answer has all that is shown of it."""
    if isinstance(shown, dict):
        return isinstance(answer, dict) and all(
            name in answer and holds(answer[name], value) for name, value in shown.items()
        )
    return answer == shown


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server as `make run` starts it, on a free port."""
    command = [sys.executable, "-m", "server", "serve", "--port", "0"]
    command += ["--data", str(tmp_path / "manykeys.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"listens on http://127\.0\.0\.1:([0-9]+)", line)
            if found is not None:
                break
        try:
            yield int(found[1]) if found else 0
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S)
    assert process.returncode == 0


@pytest.mark.interop
def test_the_five_minute_path(port: int, tmp_path: Path) -> None:
    """Each example of the README in order, in one shell, with the answers it shows."""
    find_program("curl")
    wscat = install_packages() / ".bin/wscat"
    steps = list(examples())
    assert len(steps) == 9
    script = "set -e\n" + "".join(f"{command}\necho; echo ---\n" for command, _ in steps)
    script = script.replace("localhost:7512", f"127.0.0.1:{port}").replace(
        "npx -y wscat", str(wscat)
    )
    file = tmp_path / "path.sh"
    file.write_text(script)
    # wscat ends with its input, so it gets one that stays open.
    with subprocess.Popen(
        ["bash", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, text=True
    ) as shell:
        assert shell.stdout is not None
        output = shell.stdout.read()
        shell.wait(WAIT_S)
    parts = output.split("---\n")
    for (command, shown), printed in zip(steps, parts, strict=False):
        if shown is not None:
            answer = json.loads(printed)
            assert holds(answer, shown), (command, answer)


def test_a_strategy_takes_forty_lines() -> None:
    """docs/strategies.md shows the sample that the tests run, as it is."""
    page = (ROOT / "docs/strategies.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    assert code == (ROOT / "tests/sample_strategy/badges.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    points = tomllib.loads((ROOT / "tests/sample_strategy/pyproject.toml").read_text())
    assert points["project"]["entry-points"][GROUP]["badge"] == "badges:KIND"
    assert f'[project.entry-points."{GROUP}"]\nbadge = "badges:KIND"' in page


def test_links_lead_somewhere() -> None:
    """Every file a document names is there."""
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), (document.name, target)


def test_tests_that_are_named_are_there() -> None:
    """In every document, as `folder/file.py::test`."""
    for page in (ROOT / "docs").rglob("*.md"):
        for path, name in re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", page.read_text()):
            found = re.search(rf"\bdef {name}\(", (ROOT / "tests" / path).read_text())
            assert found is not None, f"{page.name}: {path}::{name}"


def test_every_security_check_is_shown_or_explained() -> None:
    """docs/security-checks.md is what the tests say, and leaves no check without a word."""
    assert (ROOT / "docs/security-checks.md").read_text() == checks.page()
    tests = checks.named()
    assert tests.keys() <= checks.CHECKS.keys()
    assert [
        name for name in checks.CHECKS if name not in tests and name not in checks.EXPLAINED
    ] == []


def test_the_table_is_the_benchs() -> None:
    """The README shows the figures of bench/results.json, no others."""
    shown = README.split("<!-- bench -->")[1].split("<!-- /bench -->")[0]
    written = subprocess.run(
        [sys.executable, "-m", "bench.report.readme"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.strip() == written.strip()
