"""A file is imported: roles, profiles, users and credentials, in this order whatever the file's.

The file is read once for each kind it holds, so that memory stays the same for every size of it.
Nothing is remembered between runs: who starts again after an interruption repeats what changes
nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from protocol.errors import ApiError, error
from server.auth.documents import Document, content_of
from server.auth.imported import LOCAL, has_hash, read_imported_local, read_imported_user
from server.auth.profiles import check_profile
from server.auth.userimport import Arrival, Ending, UserImport
from server.importbatches import Batches, Taken
from server.importlines import BadLine, Kind, Line, Record, find_first_kind, parse_line, read_lines
from server.importreport import Report
from server.operations import OPERATOR, Operations
from server.plainimport import PlainImport
from server.storage.base import Row

_AHEAD_BYTES = 16 * 1024 * 1024
"""Of lines that are read, sorted, and only then taken; as documents they are many times that."""
_MANY = (Kind.USERS, Kind.CREDENTIALS)
_HASHED_AT_ONCE = 8
_LINES_BETWEEN_PAUSES = 500
_NOT_FOUND = 404
_OPTIMIZED = "optimizedPolicies"
"""What the reference shows of its own cache within a profile (contract/03 §2.3)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is taken (`kinds`), whether it `replaces` what is there, whether roles may name unknown
    controllers (`force`), and how Kuzzle encoded passwords (`digest`)."""

    kinds: frozenset[Kind] = frozenset(Kind)
    replaces: bool = False
    force: bool = False
    digest: str = "hex"


class _Ahead(NamedTuple):
    """A document that was read, and will be taken in the order of users."""

    owner: str
    line: int
    record: Record
    size_bytes: int


class Importer:
    """Imports a file; `on_progress` hears how many bytes have been read, once for each kind, and
    what is being done."""

    def __init__(
        self,
        operations: Operations,
        options: Options,
        report: Report,
        on_progress: Callable[[int, str], None],
    ) -> None:
        self._operations = operations
        self._options = options
        self._report = report
        self._on_progress = on_progress
        users = UserImport(
            operations.storage,
            operations.rulebook,
            replaces=options.replaces,
            clock_ms=operations.clock_ms,
        )
        self._batches = Batches(users, report)
        self._plain = PlainImport(operations, replaces=options.replaces)
        self._seen: set[Kind] = set()
        self._dealt_with = 0
        self._read_bytes = 0
        self._ahead: list[_Ahead] = []
        self._ahead_bytes = 0
        self._to_hash: list[tuple[int, Record]] = []

    async def run(self, path: Path) -> None:
        """Import; the report tells how it went. `Unavailable` if the database stays busy."""
        first = _first_kind_in(path)
        try:
            await self._read_for(path, first, is_first=True)
            for kind in Kind:
                if kind in self._seen and kind is not first:
                    await self._read_for(path, kind, is_first=False)
        finally:
            await self._batches.end()  # what is on its way counts, however the rest has ended

    async def _read_for(self, path: Path, kind: Kind, *, is_first: bool) -> None:
        """Read the file for the documents of one kind; the first time also for what it holds."""
        for line in _lines_of(path):
            records = self._records_of(line, kind, is_first=is_first)
            self._read_bytes = line.end
            size_bytes = line.size_bytes
            if len(records) == 1 and kind in _MANY:
                record = records[0]
                self._ahead.append(_Ahead(_owner_of(record), line.number, record, size_bytes))
                self._ahead_bytes += size_bytes
                if self._ahead_bytes >= _AHEAD_BYTES:
                    await self._take_ahead()
            else:
                for record in records:
                    await self._take(line.number, record, size_bytes // len(records))
            if line.number % _LINES_BETWEEN_PAUSES == 0:
                await self._pause(kind)
        await self._take_ahead()
        await self._batches.finish()
        await self._hash()

    async def _take_ahead(self) -> None:
        """Take what was read ahead, in the order of users: neighbours share pages of the database,
        so that far fewer of them are written."""
        ahead, self._ahead = self._ahead, []
        ahead.sort(key=itemgetter(0, 1))
        for number, (_, line, record, size_bytes) in enumerate(ahead):
            await self._take(line, record, size_bytes)
            self._ahead_bytes -= size_bytes
            if number % _LINES_BETWEEN_PAUSES == 0:
                await self._pause(record.kind)

    async def _pause(self, kind: Kind) -> None:
        """Tell how far it has come, and let an interruption in."""
        self._on_progress(
            self._read_bytes - self._ahead_bytes, f"{kind.value}, {self._dealt_with} so far"
        )
        await asyncio.sleep(0)

    def _records_of(self, line: Line, kind: Kind, *, is_first: bool) -> Sequence[Record]:
        """Give a line's documents of one kind; the first time, note what else is there."""
        try:
            records = parse_line(line)
        except BadLine as reason:
            if is_first:
                self._report.refuse_line(line.number, reason)
            return ()
        kinds = self._options.kinds
        if is_first:
            if not records:
                self._report.left_out += 1
            for record in records:
                if record.kind in kinds:
                    self._seen.add(record.kind)
                else:
                    self._report.left_out += 1
        if len(records) == 1:  # nearly always
            return records if records[0].kind is kind and kind in kinds else ()
        return [record for record in records if record.kind is kind and kind in kinds]

    async def _take(self, line: int, record: Record, size_bytes: int) -> None:
        self._dealt_with += 1
        try:
            if record.kind is Kind.ROLES:
                self._report.end(line, record, await self._write_role(record))
            elif record.kind is Kind.PROFILES:
                self._report.end(line, record, await self._write_profile(record))
            elif _has_password(record):
                await self._hash_of(_owner_of(record))
                self._to_hash.append((line, record))
                if len(self._to_hash) >= _HASHED_AT_ONCE:
                    await self._hash()
            else:
                arrival = _read(record, self._options.digest)
                if self._to_hash:
                    await self._hash_of(arrival.kuid)
                await self._batches.add(Taken(line, record, arrival), size_bytes)
        except ApiError as refused:
            self._report.end(line, record, refused)

    async def _write_role(self, record: Record) -> Ending:
        roles, given = self._operations.roles, record.source
        old = await _try_to_get(roles.get, record.id)
        if old is None:
            await roles.create(record.id, given, OPERATOR, force=self._options.force)
            return Ending.CREATED
        if old.body == content_of(given):
            return Ending.UNCHANGED
        if not self._options.replaces:
            return Ending.KEPT
        await roles.create_or_replace(record.id, given, OPERATOR, force=self._options.force)
        return Ending.REPLACED

    async def _write_profile(self, record: Record) -> Ending:
        profiles = self._operations.profiles
        given = {name: value for name, value in record.source.items() if name != _OPTIMIZED}
        old = await _try_to_get(profiles.get, record.id)
        if old is None:
            await profiles.create(record.id, given, OPERATOR, strict=False)
            return Ending.CREATED
        if old.body == check_profile(record.id, given):
            return Ending.UNCHANGED
        if not self._options.replaces:
            return Ending.KEPT
        await profiles.create_or_replace(record.id, given, OPERATOR, strict=False)
        return Ending.REPLACED

    async def _hash_of(self, owner: str) -> None:
        """Store what waits with a password of this user: what comes later about him finds it."""
        if any(_owner_of(record) == owner for _, record in self._to_hash):
            await self._hash()

    async def _hash(self) -> None:
        """Store what brings passwords in plain text, after all that was gathered before."""
        if self._to_hash:
            await self._batches.finish()
        taken, self._to_hash = self._to_hash, []
        endings = await asyncio.gather(*(self._store_plain(record) for _, record in taken))
        for (line, record), ending in zip(taken, endings, strict=True):
            self._report.end(line, record, ending)

    async def _store_plain(self, record: Record) -> Ending | ApiError:
        try:
            return await self._plain.store(record)
        except ApiError as refused:
            return refused


def _first_kind_in(path: Path) -> Kind:
    with path.open("rb") as file:
        return find_first_kind(file)


def _lines_of(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        yield from read_lines(file)


def _owner_of(record: Record) -> str:
    """Give the user a document is about, "" where it does not say."""
    owner = record.id if record.kind is Kind.USERS else record.source.get("kuid")
    return owner if isinstance(owner, str) else ""


def _has_password(record: Record) -> bool:
    """Tell whether a document brings a password that is not hashed."""
    if record.kind is Kind.CREDENTIALS:
        return "password" in record.source and not has_hash(record.source)
    given = record.credentials.get(LOCAL)
    return isinstance(given, dict) and "password" in given and not has_hash(given)


def _read(record: Record, digest: str) -> Arrival:
    """Give what a document says of a user; ApiError if that can't be stored."""
    if record.kind is Kind.CREDENTIALS:
        kuid = record.source.get("kuid")
        if record.strategy != LOCAL:
            raise error("security.credentials.unknown_strategy", record.strategy)
        if not isinstance(kuid, str):
            raise error("api.assert.invalid_type", "kuid", "string")
        return Arrival(kuid, None, (read_imported_local(record.id, record.source, kuid, digest),))
    user = read_imported_user(record.id, record.source, is_disabled=bool(record.is_disabled))
    rows = tuple(
        _read_credentials(strategy, given, user.kuid, digest)
        for strategy, given in record.credentials.items()
    )
    return Arrival(user.kuid, user, rows, says_disabled=record.is_disabled is not None)


def _read_credentials(strategy: str, given: object, kuid: str, digest: str) -> Row:
    if strategy != LOCAL:
        raise error("security.credentials.unknown_strategy", strategy)
    if not isinstance(given, dict):
        raise error("api.assert.invalid_type", f"credentials.{strategy}", "object")
    username = given.get("username")
    if not isinstance(username, str):
        raise error("api.assert.invalid_type", f"credentials.{strategy}.username", "string")
    return read_imported_local(username, given, kuid, digest)


async def _try_to_get(
    get: Callable[[str], Awaitable[Document]], document_id: str
) -> Document | None:
    try:
        return await get(document_id)
    except ApiError as refused:
        if refused.status == _NOT_FOUND:
            return None
        raise
