"""Programs of the bench that run beside a load: told what to do by stdin, heard on stdout."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.measure.latencies import percentile
from bench.subject.stage import Failed, Stage, pinned


def p99_ms(samples: Sequence[tuple[float, float]], from_s: float, to_s: float) -> float:
    """Give the p99 of the requests that were in progress at any moment between two times."""
    found = [ms for sent_s, ms in samples if sent_s <= to_s and sent_s + ms / 1000 >= from_s]
    return percentile(found, 0.99)


@contextmanager
def program(stage: Stage, module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run one of the bench's programs beside the load until the block ends."""
    command = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    pipe = subprocess.PIPE
    with pinned(stage.cores.load):
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[str], text: str) -> None:
    """Give a program its whole input."""
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.close()


def expect(process: subprocess.Popen[str], line: str) -> None:
    """Wait for a program to say just this."""
    if (said := read_line(process)) != line:
        raise Failed(f"{process.args!r} said {said!r} instead of {line}")


def read_line(process: subprocess.Popen[str]) -> str:
    """Give a line a program says; Failed with what stands on its stderr if it has ended."""
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    if not line:
        raise Failed(f"{process.args!r} ended: {process.stderr.read()[-400:]}")
    return line.rstrip("\n")
