"""Programs the tests run: found, started, and ended whatever happens."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from threading import Timer
from typing import NoReturn

import pytest

DEADLINE_S = 60.0
SERVER_LIFE_S = 180.0
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_REQUIRED = "MANYKEYS_REQUIRE_INTEROP"


def do_without(reason: str) -> NoReturn:
    """Skip the test, or fail it where everything must be there (`MANYKEYS_REQUIRE_INTEROP=1`)."""
    if os.environ.get(_REQUIRED) == "1":
        pytest.fail(f"{reason} ({_REQUIRED}=1)", pytrace=False)
    pytest.skip(reason)


def find_program(*names: str) -> str:
    """Give the path of the first of these programs that is installed."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    do_without(f"{' or '.join(names)} is not installed")


def install_packages() -> Path:
    """Install the clients from npm when they are missing or outdated, and give their folder."""
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


def run(command: Sequence[str], *, folder: Path = HERE) -> str:
    """Run a program that must succeed within the deadline, and give what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return done.stdout


@contextmanager
def started(
    command: Sequence[str],
    *,
    errors: Path,
    env: Mapping[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
) -> Iterator[subprocess.Popen[str]]:
    """Run a program in the background, with pipes to its stdin and from its stdout.

    It and its children are killed at the deadline, which ends any wait for them, and at the end of
    the block. Its stderr goes to the file `errors`.
    """
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    timer = Timer(deadline_s, _kill_group, [process.pid])
    timer.start()
    try:
        with process:
            try:
                yield process
            finally:
                _kill_group(process.pid)
    finally:
        timer.cancel()


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of them have ended by themselves
