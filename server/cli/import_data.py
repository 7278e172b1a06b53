"""`manykeys import` command: import users, profiles, roles and credentials from a file, also while
servers run. docs/import.md describes the file."""

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
Import users, profiles, roles and credentials from a file of JSON lines, or from a Kuzzle fixture.
Existing documents are kept, unless --update is given. Importing the same file twice changes
nothing, so run an interrupted import again. docs/import.md describes the format.
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
        help="encoding of Kuzzle password hashes (hex)",
    )
    command.set_defaults(work=_import)


def add_import_flags(command: ArgumentParser) -> None:
    """Declare the arguments of every import."""
    command.add_argument("file", type=Path, metavar="FILE", help="file to import")
    command.add_argument(
        "--update", action="store_true", help="replace existing documents that differ"
    )
    command.add_argument(
        "--force", action="store_true", help="accept roles with controllers this server lacks"
    )
    command.add_argument(
        "--errors", type=Path, metavar="FILE", help="write all rejected documents here"
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")


async def _import(operations: Operations, given: Namespace) -> None:
    # Documents are freed without cycles: Python's garbage collector would cost a tenth of the time.
    gc.set_threshold(*_CALM)
    sys.setswitchinterval(_SWITCH_S)
    await import_file(operations, given, kinds=frozenset(Kind), digest=given.digest)


async def import_file(
    operations: Operations, given: Namespace, *, kinds: frozenset[Kind], digest: str = "hex"
) -> None:
    """Import a file and print the result, also if the import is interrupted; LocalError if any
    document was rejected."""
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
            _print_report(report, as_json=given.json)
            if not is_whole:
                print("import interrupted: run the same command to continue", file=sys.stderr)
    if report.failed:
        raise LocalError(f"rejected documents in the file: {report.failed}")


def _size_bytes(path: Path) -> int:
    if path.exists() and not path.is_file():
        raise LocalError(f"{path}: expected a regular file, since it is read several times")
    return path.stat().st_size


@contextmanager
def _errors_file(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with path.open("w", encoding="utf-8") as file:
        yield file


def _print_report(report: Report, *, as_json: bool) -> None:
    """Print the result of every document type, and on stderr the first rejected documents."""
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
            print(f"{report.left_out} documents of other collections were skipped")
        if sum(one[Ending.KEPT.value] for one in counts.values()):
            print("kept: exists and differs; --update replaces it")
    for refusal in sorted(report.first, key=lambda one: one.line):
        print(refusal, file=sys.stderr)
    more_refused = report.failed - len(report.first)
    if more_refused:
        print(f"and {more_refused} more; --errors FILE lists all of them", file=sys.stderr)
