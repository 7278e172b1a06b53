"""Import file reader: parses and validates the documents of a file into blocks of entries.

Uses processor time only, so that it can run in a separate process (`server.admin.importing.
subprocess`). Independent of the database.
"""

import marshal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from protocol.errors import ApiError, error
from server.admin.importing.bulk_writer import Arrival, Held
from server.admin.importing.formats import (
    BadLine,
    Kind,
    Record,
    find_first_kind,
    parse_line,
    read_lines,
)
from server.admin.importing.records import LOCAL, has_hash, read_imported_local, read_imported_user
from server.core.ids import check_kuid

BLOCK_BYTES = 128 * 1024
"""Maximum size of the lines in one block; a longer line is a block by itself."""
_BLOCK_LINES = 1000
_BY_NAME = {kind.value: kind for kind in Kind}


class Reading(NamedTuple):
    """One pass over a file: for the documents of a `kind`, if it is among the `kinds` to import.
    The first pass also finds which other kinds there are. `digest` is the encoding of Kuzzle
    password hashes."""

    path: Path
    kind: Kind
    kinds: frozenset[Kind]
    digest: str
    is_first: bool

    def arguments(self) -> list[str]:
        """Return the pass as command arguments, which `of` parses."""
        kinds = ",".join(kind.value for kind in self.kinds)
        return [str(self.path), self.kind.value, kinds, self.digest, str(int(self.is_first))]

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "Reading":
        """Return a pass from command arguments."""
        path, kind, kinds, digest, is_first = arguments
        wanted = frozenset(Kind(one) for one in kinds.split(",") if one)
        return cls(Path(path), Kind(kind), wanted, digest, is_first == "1")


class Entry(NamedTuple):
    """One document, of the user `owner` if known. `what` is an arrival, a record that must be
    stored separately, or the reason why the document is rejected."""

    owner: str
    line: int
    kind: Kind
    id: str
    size_bytes: int
    what: Arrival | Record | str

    def __repr__(self) -> str:
        """Identify the document, without its contents."""
        return f"Entry({self.line}, {self.kind.value}, {self.id!r})"


class Block(NamedTuple):
    """The documents of some lines; `end` is the offset in the file in bytes. `bad` are invalid
    lines with their numbers, `left_out` counts documents that are skipped."""

    entries: list[Entry]
    end: int
    bad: list[tuple[int, str]]
    seen: frozenset[Kind]
    left_out: int


def pack(block: Block | OSError) -> bytes:
    """Serialize a block, or an error, for another process of this program."""
    if isinstance(block, OSError):
        return marshal.dumps([block.errno, block.strerror, str(block.filename)])
    entries = [
        (owner, line, kind.value, name, size_bytes, _plain(what))
        for owner, line, kind, name, size_bytes, what in block.entries
    ]
    seen = [kind.value for kind in block.seen]
    return marshal.dumps((entries, block.end, block.bad, seen, block.left_out))


def unpack(data: bytes) -> Block:
    """Deserialize what `pack` returned; raises a packed OSError."""
    parts = marshal.loads(data)  # noqa: S302  (our own process wrote it)
    if isinstance(parts, list):
        raise OSError(*parts)
    entries, end, bad, seen, left_out = parts
    read = [
        Entry(owner, line, _BY_NAME[kind], name, size_bytes, _unpacked(what))
        for owner, line, kind, name, size_bytes, what in entries
    ]
    return Block(read, end, bad, frozenset(_BY_NAME[kind] for kind in seen), left_out)


def _plain(what: Arrival | Record | str) -> object:
    """Return a list for a record, a tuple for an arrival."""
    if isinstance(what, Arrival):
        return (*what[:-1], [tuple(held) for held in what.credentials])
    return what if isinstance(what, str) else [what.kind.value, *what[1:]]


def _unpacked(what: Any) -> Arrival | Record | str:
    if isinstance(what, list):
        return Record(_BY_NAME[what[0]], *what[1:])
    if isinstance(what, tuple):
        return Arrival._make((*what[:-1], tuple([Held(*held) for held in what[-1]])))
    return str(what)


def find_first(path: Path) -> tuple[int, Kind]:
    """Return a file's size in bytes, and the kind of the first pass."""
    with path.open("rb") as file:
        kind = find_first_kind(file)
        return file.tell(), kind


def read_blocks(reading: Reading) -> Iterator[Block]:
    """Read a file; OSError if it cannot be read."""
    entries: list[Entry] = []
    bad: list[tuple[int, str]] = []
    seen: set[Kind] = set()
    left_out = size_bytes = count = 0
    with reading.path.open("rb") as file:
        for line in read_lines(file):
            count += 1
            line_bytes = line.size_bytes
            size_bytes += line_bytes
            try:
                records = parse_line(line)
            except BadLine as reason:
                bad.append((line.number, str(reason)))
                records = []
            else:
                left_out += not records
            for record in records:
                if record.kind not in reading.kinds:
                    left_out += 1
                    continue
                seen.add(record.kind)
                if record.kind is reading.kind:
                    share_bytes = line_bytes // len(records)
                    entries.append(_read(record, line.number, share_bytes, reading.digest))
            if size_bytes >= BLOCK_BYTES or count >= _BLOCK_LINES:
                yield _block(reading, entries, line.end, bad, seen, left_out)
                entries, bad, seen = [], [], set()
                left_out = size_bytes = count = 0
        yield _block(reading, entries, file.tell(), bad, seen, left_out)


def _block(
    reading: Reading,
    entries: list[Entry],
    end: int,
    bad: list[tuple[int, str]],
    seen: set[Kind],
    left_out: int,
) -> Block:
    if reading.is_first:
        return Block(entries, end, bad, frozenset(seen), left_out)
    return Block(entries, end, [], frozenset(), 0)


def _read(record: Record, line: int, size_bytes: int, digest: str) -> Entry:
    what: Arrival | Record | str = record
    owner = owner_of(record)
    if record.kind in (Kind.USERS, Kind.CREDENTIALS):
        try:
            _check_strategies(record)
            if not _has_password(record):
                what = _arrival_of(record, digest)
        except ApiError as refused:
            what = refused.message
    return Entry(owner, line, record.kind, record.id, size_bytes, what)


def owner_of(record: Record) -> str:
    """Return the user a document is about, "" if unknown."""
    owner = record.id if record.kind is Kind.USERS else record.source.get("kuid")
    return owner if isinstance(owner, str) else ""


def _check_strategies(record: Record) -> None:
    """Raise ApiError for credentials of another strategy than `local`."""
    of_users = record.kind is Kind.USERS
    for strategy in record.credentials if of_users else (record.strategy,):
        if strategy != LOCAL:
            raise error("security.credentials.unknown_strategy", strategy)


def _has_password(record: Record) -> bool:
    """Return whether a document contains a plain text password."""
    if record.kind is Kind.CREDENTIALS:
        return "password" in record.source and not has_hash(record.source)
    given = record.credentials.get(LOCAL)
    return isinstance(given, dict) and "password" in given and not has_hash(given)


def _arrival_of(record: Record, digest: str) -> Arrival:
    """Return the arrival of a document; ApiError if it cannot be stored."""
    held: tuple[Held, ...]
    if record.kind is Kind.CREDENTIALS:
        kuid = record.source.get("kuid")
        if not isinstance(kuid, str):
            raise error("api.assert.invalid_type", "kuid", "string")
        check_kuid(kuid, "kuid")
        held = (read_imported_local(record.id, record.source, digest),)
        return Arrival(kuid, None, credentials=held)
    held = tuple([_held_of(given, digest) for given in record.credentials.values()])
    return read_imported_user(record.id, record.source, record.is_disabled, held)


def _held_of(given: object, digest: str) -> Held:
    if not isinstance(given, dict):
        raise error("api.assert.invalid_type", f"credentials.{LOCAL}", "object")
    username = given.get("username")
    if not isinstance(username, str):
        raise error("api.assert.invalid_type", f"credentials.{LOCAL}.username", "string")
    return read_imported_local(username, given, digest)
