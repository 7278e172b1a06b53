"""Fixtures of the tests that drive real clients against a real server process."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from tests.interop.programs import DEADLINE_S, HERE, do_without, find_program, run
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
    """The folder with the clients from npm, installed when they are missing or outdated."""
    npm = find_program("npm")
    folder = HERE / "node_modules"
    wanted, installed = HERE / "package-lock.json", folder / ".package-lock.json"
    # One process at a time: tests may run in several, and each comes by here.
    with wanted.open() as lock:
        flock(lock, LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
            return folder
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(
            command, cwd=HERE, capture_output=True, text=True, timeout=5 * DEADLINE_S, check=False
        )
        if done.returncode != 0:
            do_without(f"npm ci failed: {done.stderr.partition(chr(10))[0]}")
        os.utime(installed)
    return folder


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
