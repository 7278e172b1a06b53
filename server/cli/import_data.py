"""`manykeys import`: users, profiles, roles and credentials come from a file, also while servers
run. docs/import.md tells of the file."""

import gc
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import orjson

from protocol.errors import LocalError
from server.admin.importing.bulk_writer import Ending
from server.admin.importing.formats import Kind
from server.admin.importing.importer import Importer, Options
from server.admin.importing.report import Report
from server.admin.operations import Operations
from server.cli.output import Progress, check_apart, write_table

_TEXT = """\
Take users, profiles, roles and credentials from a file of JSON lines, or a fixture of Kuzzle's.
What is there already stays as it is, unless --update replaces it; the same file twice changes
nothing, so a command that was interrupted is simply run again. docs/import.md shows the lines.
"""
_ENDINGS = tuple(Ending)
_CALM = (20_000, 50, 100)
_SWITCH_S = 0.0005


def declare(command: ArgumentParser) -> None:
    """Declare `manykeys import`."""
    command.description = _TEXT
    add_import_flags(command)
    command.add_argument(
        "--digest",
        choices=("hex", "base64", "base64url"),
        default="hex",
        help="how Kuzzle wrote its password hashes down (hex)",
    )
    command.set_defaults(work=_import)


def add_import_flags(command: ArgumentParser) -> None:
    """Declare what every import takes."""
    command.add_argument("file", type=Path, metavar="FILE", help="what to import")
    command.add_argument(
        "--update", action="store_true", help="replace what is there and differs; the rest stays"
    )
    command.add_argument(
        "--force", action="store_true", help="roles may name controllers this server does not know"
    )
    command.add_argument("--errors", type=Path, metavar="FILE", help="where to list all refusals")
    command.add_argument("--json", action="store_true", help="tell the outcome in JSON")


async def _import(operations: Operations, given: Namespace) -> None:
    # Documents come and go without cycles: Python's collector would take a tenth of the time.
    gc.set_threshold(*_CALM)
    sys.setswitchinterval(_SWITCH_S)
    await import_file(operations, given, kinds=frozenset(Kind), digest=given.digest)


async def import_file(
    operations: Operations, given: Namespace, *, kinds: frozenset[Kind], digest: str = "hex"
) -> None:
    """Import a file and tell the outcome, also if it comes to an early end; LocalError if anything
    was refused."""
    path: Path = given.file
    size_bytes = _size_bytes(path)
    options = Options(kinds, replaces=given.update, force=given.force, digest=digest)
    if given.errors is not None:
        check_apart(given.errors, given.data, path)
    with _errors_file(given.errors) as errors:
        report = Report(errors)
        progress = Progress(sys.stderr, size_bytes, clock_s=time.monotonic)
        importer = Importer(operations, options, report, progress.show)
        is_whole = False
        try:
            await operations.change("import", str(path), importer.run(path))
            is_whole = True
        finally:
            progress.end()
            _tell(report, as_json=given.json)
            if not is_whole:
                print("stopped early: run the same command again to go on", file=sys.stderr)
    if report.failed:
        raise LocalError(f"{report.failed} of the file's documents were refused")


def _size_bytes(path: Path) -> int:
    if path.exists() and not path.is_file():
        raise LocalError(f"{path}: expected a file, which is read several times")
    return path.stat().st_size


@contextmanager
def _errors_file(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with path.open("w", encoding="utf-8") as file:
        yield file


def _tell(report: Report, *, as_json: bool) -> None:
    """Print what became of everything, and on stderr the first of what was refused."""
    counts = {
        kind.value: {
            **{ending.value: report.endings[kind, ending] for ending in _ENDINGS},
            "refused": report.refused[kind],
        }
        for kind in Kind
    }
    if as_json:
        more = {"badLines": report.bad_lines, "leftOut": report.left_out}
        print(orjson.dumps({**counts, **more}).decode())
    else:
        rows = [
            (name, *map(str, one.values())) for name, one in counts.items() if any(one.values())
        ]
        print(write_table(("", *next(iter(counts.values()))), rows))
        if report.left_out:
            print(f"{report.left_out} documents of other collections were left out")
        if sum(one[Ending.KEPT.value] for one in counts.values()):
            print("kept: it was there and differs; --update replaces it")
    for refusal in sorted(report.first, key=lambda one: one.line):
        print(refusal, file=sys.stderr)
    more_refused = report.failed - len(report.first)
    if more_refused:
        print(f"and {more_refused} more; --errors FILE lists all of them", file=sys.stderr)
