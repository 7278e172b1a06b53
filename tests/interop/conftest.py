"""Fixtures of the tests that drive real clients against a real server process."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.programs import find_program, install_packages, run
from tests.interop.remote import Remote, StartRemote, remote
from tests.interop.serving import Json, Served, serving

RunScript = Callable[..., Json]
"""Run one of the scripts beside this file and give the line of JSON it prints."""


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Served]:
    """A server without any user."""
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def server(empty_server: Served) -> Served:
    """A server with one user, the administrator."""
    empty_server.create_admin()
    return empty_server


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder with the clients from npm."""
    return install_packages()


@pytest.fixture
def run_script(packages: Path) -> RunScript:
    """Runs a script of ours with Node."""
    node = find_program("node")

    def run_it(script: str, *arguments: object) -> Json:
        printed = run([node, script, *map(str, arguments)])
        seen: Json = json.loads(printed)
        return seen

    return run_it


@pytest.fixture
def start_remote(packages: Path, tmp_path: Path) -> Iterator[StartRemote]:
    """Starts applications that do what the test says."""
    with ExitStack() as stack:

        def start(transport: str, port: int) -> Remote:
            return stack.enter_context(remote(transport, port, tmp_path / "remote.stderr"))

        yield start
