"""`python -m bench`: measure, print a table, write JSON and a picture. README.md explains both."""

import argparse
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.chapters import (
    faults,
    http,
    login,
    memory,
    pending,
    push,
    sessions,
    start,
    timing,
    users,
    websocket,
)
from bench.loads.http_client import WrongAnswer
from bench.report.report import write_json, write_table
from bench.report.series import Chapter
from bench.subject.stage import FULL, QUICK, Failed, NotRun, Stage, split_cores

_HERE = Path(__file__).parent
_CHAPTERS: dict[str, Callable[[Stage], Chapter]] = {
    "http": http.measure,
    "websocket": websocket.measure,
    "login": login.measure,
    "start": start.measure,
    "memory": memory.measure,
}
_LONG: dict[str, Callable[[Stage], Chapter]] = {
    "sessions": sessions.measure,
    "users": users.measure,
    "push": push.measure,
    "pending": pending.measure,
    "timing": timing.measure,
    "faults": faults.measure,
}
_ABOUT = """\
Measures manykeys beside bare servers and libraries, all in one run with interleaved rounds: the
server on one core, the load on the others, every answer checked. Prints a table with what is
required and whether it is met; progress goes to stderr. A whole run takes about six minutes, a
quick one less than one, the long chapters some fifteen more. bench/README.md says what each number
means.
"""


def main() -> int:
    """Run the chapters asked for; 1 when one of them failed, 0 also when some can't be run here."""
    options = read_options()
    plan = QUICK if options.quick else FULL
    cores = split_cores(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stage = Stage(plan, cores, Path(folder), shlex.split(options.server), options.data)
        if cores.server == cores.load:
            stage.say("only one core: server and load share it, and no number means much")
        chapters = [_measure(stage, name) for name in options.only]
    print(write_table(chapters))
    write_json(options.json, chapters, plan)
    _draw(options.json, options.plot)
    return 1 if any(chapter.has_failed for chapter in chapters) else 0


def _measure(stage: Stage, name: str) -> Chapter:
    stage.say(f"{name} begins")
    try:
        return (_CHAPTERS | _LONG)[name](stage)
    except NotRun as reason:
        return Chapter(name, f"{name}: not measured", notes=[str(reason)])
    except (Failed, WrongAnswer, OSError) as reason:
        return Chapter(name, f"{name}: FAILED", notes=[repr(reason)], has_failed=True)


def _draw(results: Path, picture: Path) -> None:
    """Draw in a process of its own, which alone needs matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        print("\nno picture: matplotlib is not installed")
        return
    command = [sys.executable, "-m", "bench.report.plot", str(results), str(picture)]
    subprocess.run(command, check=True)
    print(f"\nevery value: {results}   picture: {picture}")


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, the program's own unless another one is given."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=_ABOUT,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument(
        "--only",
        type=_read_names,
        metavar="NAME,…",
        help=f"chapters to run, in this order: {', '.join(_CHAPTERS)}; long: {', '.join(_LONG)}",
    )
    parser.add_argument("--full", action="store_true", help="the long chapters too")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="a database with many users, to measure the start on it too",
    )
    parser.add_argument(
        "--server",
        default=f"{shlex.quote(sys.executable)} -m server",
        metavar="COMMAND",
        help="what starts our server when `serve --port 0 --data FILE` follows",
    )
    parser.add_argument(
        "--json", type=Path, default=_HERE / "results.json", metavar="FILE", help="every value"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        default=_HERE.parent / "docs" / "bench.png",
        metavar="FILE",
        help="the picture",
    )
    options = parser.parse_args(arguments)
    if options.only is None:
        options.only = [*_CHAPTERS, *(_LONG if options.full else ())]
    if options.data is not None and not options.data.is_file():
        parser.error(f"--data: there is no file {options.data}")
    return options


def _read_names(text: str) -> list[str]:
    """Give the chapters named, separated by commas."""
    names = text.split(",")
    unknown = [name for name in names if name not in _CHAPTERS | _LONG]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {unknown[0]!r}; there is {', '.join(_CHAPTERS | _LONG)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
