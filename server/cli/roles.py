"""`manykeys role` and `manykeys profile` commands: list, show, export and import permissions, also
while servers run."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import orjson

from server.admin.importing.formats import Kind
from server.admin.operations import Operations
from server.auth.access.documents import Document
from server.auth.access.permissions import compile_rights
from server.cli.import_data import add_import_flags, import_file
from server.cli.output import Work, check_apart, write_table
from server.storage.rows import Row, Table

_PAGE = 100
_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class _Subject:
    """The type of document a command works on: its singular and plural name, its table, and its
    name in files."""

    one: str
    many: str
    table: Table
    kind: Kind


_ROLE = _Subject("role", "roles", Table.ROLES, Kind.ROLES)
_PROFILE = _Subject("profile", "profiles", Table.PROFILES, Kind.PROFILES)


def declare_role(command: ArgumentParser, settings: ArgumentParser) -> None:
    """Declare `manykeys role` and its commands."""
    _declare(_ROLE, command, settings)


def declare_profile(command: ArgumentParser, settings: ArgumentParser) -> None:
    """Declare `manykeys profile` and its commands."""
    _declare(_PROFILE, command, settings)


def _declare(subject: _Subject, command: ArgumentParser, settings: ArgumentParser) -> None:
    one, many = subject.one, subject.many
    tasks = command.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def task(name: str, text: str, work: Work) -> ArgumentParser:
        made = tasks.add_parser(
            name, help=text, description=text, parents=[settings], allow_abbrev=False
        )
        made.set_defaults(work=work, subject=subject)
        return made

    listing = task("list", f"print all {many}", _list)
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    showing = task("show", f"print a {one}", _show)
    showing.add_argument("id", metavar="ID", help=f"ID of the {one}")
    showing.add_argument("--json", action="store_true", help="print as the API returns it")
    exporting = task("export", f"export {many} as JSON lines, for import", _export)
    exporting.add_argument("ids", nargs="*", metavar="ID", help=f"{many} to export (all)")
    exporting.add_argument("--output", type=Path, metavar="FILE", help="output file (stdout)")
    importing = task(
        "import", f"import {many} from a file; they apply from the next request on", _import
    )
    add_import_flags(importing)


async def _list(operations: Operations, given: Namespace) -> None:
    subject: _Subject = given.subject
    rows = []
    async for document in _documents(operations, subject, ()):
        if given.json:
            _write_line(sys.stdout, subject, document)
        else:
            rows.append((document.id, _summary(subject, document.body)))
    if not given.json:
        what = "CONTROLLERS" if subject is _ROLE else "ROLES"
        print(write_table((subject.one.upper(), what), rows))


async def _show(operations: Operations, given: Namespace) -> None:
    subject: _Subject = given.subject
    async for document in _documents(operations, subject, [given.id]):
        if given.json:
            shown = {"_id": document.id, "_source": document.source()}
            print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
        elif subject is _ROLE:
            print(write_table(("CONTROLLER", "ACTION", "VALUE"), _rights_in(document)))
        else:
            print(write_table(("ROLE", "INDEX", "COLLECTIONS"), _policies_in(document)))
            print(f"rate limit: {document.body.get('rateLimit') or 'none'}")


async def _export(operations: Operations, given: Namespace) -> None:
    if given.output is None:
        return await _write_all(operations, given, sys.stdout)
    check_apart(given.output, given.data)
    if given.ids:  # a misspelt ID must not overwrite an earlier export
        async for _ in _documents(operations, given.subject, given.ids):
            pass
    handle = os.open(given.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    with open(handle, "w", encoding="utf-8") as file:  # noqa: ASYNC230  (nothing else runs)
        await _write_all(operations, given, file)


async def _write_all(operations: Operations, given: Namespace, file: TextIO) -> None:
    async for document in _documents(operations, given.subject, given.ids):
        _write_line(file, given.subject, document)


async def _import(operations: Operations, given: Namespace) -> None:
    await import_file(operations, given, kinds=frozenset({given.subject.kind}))


async def _documents(
    operations: Operations, subject: _Subject, ids: Sequence[str]
) -> AsyncIterator[Document]:
    """Yield the documents with these IDs (ApiError 404 for an unknown one), or else all."""
    source = operations.roles if subject is _ROLE else operations.profiles
    for one in ids:
        yield await source.get(one)
    after: Row | None = None
    while not ids:
        rows = await operations.storage.find_after(subject.table, after, {}, limit=_PAGE)
        for row in rows:
            body, info = cast(dict[str, object], row["body"]), cast(dict[str, object], row["info"])
            yield Document(cast(str, row["id"]), body, info)
        if len(rows) < _PAGE:
            return
        after = {"id": rows[-1]["id"]}


def _write_line(file: TextIO, subject: _Subject, document: Document) -> None:
    line = {"collection": subject.many, "_id": document.id, "_source": document.source()}
    file.write(orjson.dumps(line).decode() + "\n")


def _summary(subject: _Subject, body: Mapping[str, object]) -> str:
    if subject is _ROLE:
        return ", ".join(sorted(cast("dict[str, object]", body["controllers"])))
    policies = cast("list[dict[str, str]]", body["policies"])
    return ", ".join(dict.fromkeys(policy["roleId"] for policy in policies))


def _rights_in(role: Document) -> list[tuple[str, str, str]]:
    """Return the permissions of a role that is not restricted to any index."""
    profile: dict[str, object] = {"policies": [{"roleId": role.id}]}
    rights = compile_rights([role.id], {role.id: profile}, {role.id: role.body}).listed()
    return [(str(one["controller"]), str(one["action"]), str(one["value"])) for one in rights]


def _policies_in(profile: Document) -> list[tuple[str, str, str]]:
    shown = []
    for policy in cast("list[dict[str, object]]", profile.body["policies"]):
        places = cast("list[dict[str, object]]", policy.get("restrictedTo")) or [{"index": "*"}]
        for place in places:
            collections = cast("list[str]", place.get("collections")) or ["*"]
            shown.append((str(policy["roleId"]), str(place["index"]), ", ".join(collections)))
    return shown
