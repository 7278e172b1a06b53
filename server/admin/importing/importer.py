"""File import: roles, profiles, users and credentials, in this order whatever the file's.

The file is read once for each kind it contains, so that memory use does not depend on its size.
No state is kept between runs: after an interruption a new run repeats steps that change nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from protocol.errors import ApiError
from server.admin.importing.batches import BATCH, BatchWriter
from server.admin.importing.bulk_writer import Arrival, Ending, UserImport
from server.admin.importing.formats import Kind, Record
from server.admin.importing.plain_passwords import PlainImport
from server.admin.importing.reader import Block, Entry, Reading, find_first
from server.admin.importing.report import Report
from server.admin.importing.subprocess import read_apart, read_here
from server.admin.operations import OPERATOR, Operations
from server.auth.access.documents import Document, content_of
from server.auth.access.profiles import check_profile

_APART_BYTES = 4 * 1024 * 1024
"""Minimum file size for a reader process: a smaller file is read before the process has started."""
_AHEAD_BYTES = 20 * 1024 * 1024
"""Maximum size of lines that are read and sorted before they are written; the documents use many
times that memory."""
_MANY = (Kind.USERS, Kind.CREDENTIALS)
_HASHED_AT_ONCE = 8
_NOT_FOUND = 404
_OPTIMIZED = "optimizedPolicies"
"""A member that Kuzzle's cache adds to profiles."""


@dataclass(frozen=True, slots=True)
class Options:
    """Import options: which `kinds` are imported, whether existing documents are replaced
    (`replaces`), whether roles may name unknown controllers (`force`), and the encoding of Kuzzle
    password hashes (`digest`). A file of `apart_bytes` or more is read in a separate process."""

    kinds: frozenset[Kind] = frozenset(Kind)
    replaces: bool = False
    force: bool = False
    digest: str = "hex"
    apart_bytes: int = _APART_BYTES


class Importer:
    """Imports a file; `on_progress` is called with the number of bytes read, for each kind, and a
    description."""

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
        self._batches = BatchWriter(users, report)
        self._plain = PlainImport(operations, replaces=options.replaces)
        self._hashed_at_once = min(_HASHED_AT_ONCE, operations.passwords.places)
        self._is_apart = False
        self._seen: set[Kind] = set()
        self._dealt_with = 0
        self._ahead: list[Entry] = []
        self._ahead_bytes = 0
        self._to_hash: list[tuple[Entry, Record]] = []

    async def run(self, path: Path) -> None:
        """Import a file into the report. `Unavailable` if the database stays busy."""
        size_bytes, first = find_first(path)
        self._is_apart = size_bytes >= self._options.apart_bytes
        try:
            await self._read_for(path, first, is_first=True)
            for kind in Kind:
                if kind in self._seen and kind is not first:
                    await self._read_for(path, kind, is_first=False)
        finally:
            await self._batches.end()  # batches in progress count, also after an error

    async def _read_for(self, path: Path, kind: Kind, *, is_first: bool) -> None:
        """Read the file for the documents of one kind; the first time also for the other kinds."""
        options = self._options
        reading = Reading(path, kind, options.kinds, options.digest, is_first)
        read = read_apart if self._is_apart else read_here
        end = 0
        async with aclosing(read(reading)) as blocks:
            async for block in blocks:
                self._note(block)
                end = block.end
                for entry in block.entries:
                    self._ahead.append(entry)
                    self._ahead_bytes += entry.size_bytes
                if self._ahead_bytes >= _AHEAD_BYTES:
                    await self._take_ahead(end)
                await self._pause(kind, end)
            await self._take_ahead(end)
        await self._batches.finish()
        await self._hash()

    def _note(self, block: Block) -> None:
        for number, reason in block.bad:
            self._report.refuse_line(number, reason)
        self._report.left_out += block.left_out
        self._seen |= block.seen

    async def _take_ahead(self, end: int) -> None:
        """Write the documents that were read ahead, sorted by user: neighbours share pages of the
        database, so that far fewer pages are written."""
        ahead, self._ahead = self._ahead, []
        if ahead and ahead[0].kind in _MANY:
            ahead.sort(key=itemgetter(0, 1))
        for at in range(0, len(ahead), BATCH):
            entries = ahead[at : at + BATCH]
            if not self._to_hash and all(isinstance(entry.what, Arrival) for entry in entries):
                self._dealt_with += len(entries)
                await self._batches.add_all(entries)
            else:
                for entry in entries:
                    await self._take(entry)
            self._ahead_bytes -= sum(entry.size_bytes for entry in entries)
            await self._pause(entries[0].kind, end)

    async def _pause(self, kind: Kind, end: int) -> None:
        """Report the progress, and allow an interruption."""
        self._on_progress(end - self._ahead_bytes, f"{kind.value}, {self._dealt_with} so far")
        await asyncio.sleep(0)

    async def _take(self, entry: Entry) -> None:
        self._dealt_with += 1
        what = entry.what
        if isinstance(what, str):
            self._report.end(entry, what)
        elif isinstance(what, Arrival):
            if self._to_hash:
                await self._hash_of(what.kuid)
            await self._batches.add(entry)
        elif entry.kind in _MANY:
            await self._hash_of(entry.owner)
            self._to_hash.append((entry, what))
            if len(self._to_hash) >= self._hashed_at_once:
                await self._hash()
        else:
            write = self._write_role if entry.kind is Kind.ROLES else self._write_profile
            try:
                self._report.end(entry, await write(what))
            except ApiError as refused:
                self._report.end(entry, refused.message)

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
        """Store pending documents with a plain password of this user, before later documents about
        the same user."""
        if any(entry.owner == owner for entry, _ in self._to_hash):
            await self._hash()

    async def _hash(self) -> None:
        """Store the documents with plain passwords, after all batches before them."""
        if self._to_hash:
            await self._batches.finish()
        taken, self._to_hash = self._to_hash, []
        endings = await asyncio.gather(*(self._store_plain(record) for _, record in taken))
        for (entry, _), ending in zip(taken, endings, strict=True):
            self._report.end(entry, ending)

    async def _store_plain(self, record: Record) -> Ending | str:
        try:
            return await self._plain.store(record)
        except ApiError as refused:
            return refused.message


async def _try_to_get(
    get: Callable[[str], Awaitable[Document]], document_id: str
) -> Document | None:
    try:
        return await get(document_id)
    except ApiError as refused:
        if refused.status == _NOT_FOUND:
            return None
        raise
