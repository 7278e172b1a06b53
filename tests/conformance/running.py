"""Runs the whole Autobahn suite against one server."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.fuzzer import Verdict, run_case

ROOT = Path(__file__).parents[2]
_LIMIT_S = 120.0


@contextmanager
def echoing() -> Iterator[int]:
    """Run our echo server in a process of its own; give its port."""
    command = [sys.executable, "-m", "tests.conformance.echo"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def run_suite(
    cases: Sequence[type],
    port: int,
    *,
    messages: int,
    at_once: int,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Run cases, some at once, each on a connection of its own; give their verdicts in order."""
    room = asyncio.Semaphore(at_once)

    async def run_one(case: type) -> Verdict:
        async with room:
            verdict = await run_case(case, "127.0.0.1", port, _LIMIT_S, messages)
        on_verdict(verdict)
        return verdict

    return await asyncio.gather(*map(run_one, cases))
