"""Import batches: user documents are collected and written, many per transaction, while more are
read."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from protocol.errors import ApiError
from server.admin.importing.bulk_writer import Arrival, UserImport
from server.admin.importing.reader import Entry
from server.admin.importing.report import Report

BATCH = 500
"""Documents per batch."""
_BATCH_BYTES = 2 * 1024 * 1024
_AT_ONCE = 4
"""Batches in progress, which may share a transaction: other writes wait some 60 ms, or 200 ms if
everything is replaced."""


class _Writing(NamedTuple):
    """A batch in progress, and its keys."""

    task: asyncio.Task[None]
    keys: set[object]


class BatchWriter:
    """Writes entries that are arrivals; no two of one batch, nor of two batches in progress, have
    the same key. A later call raises `Unavailable` if the database stays busy."""

    def __init__(self, users: UserImport, report: Report) -> None:
        self._users = users
        self._report = report
        self._batch: list[Entry] = []
        self._keys: set[object] = set()
        self._bytes = 0
        self._under_way: deque[_Writing] = deque()

    async def add(self, entry: Entry) -> None:
        """Add an entry."""
        keys = list(_keys_of([entry]))
        if not self._keys.isdisjoint(keys):
            await self._hand_over()
        self._batch.append(entry)
        self._keys.update(keys)
        self._bytes += entry.size_bytes
        if len(self._batch) >= BATCH or self._bytes >= _BATCH_BYTES:
            await self._hand_over()

    async def add_all(self, entries: Sequence[Entry]) -> None:
        """Add entries, as one batch if possible."""
        keys = list(_keys_of(entries))
        is_apart = len(set(keys)) == len(keys)
        if is_apart and sum(entry.size_bytes for entry in entries) < _BATCH_BYTES:
            await self._hand_over()
            self._batch, self._keys = list(entries), set(keys)
            await self._hand_over()
        else:
            for entry in entries:
                await self.add(entry)

    async def finish(self) -> None:
        """Write all added entries."""
        await self._hand_over()
        await self.end()

    async def end(self) -> None:
        """Wait for all batches in progress, ignoring errors."""
        tasks = [writing.task for writing in self._under_way]
        self._under_way.clear()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if ended is not None:
                raise ended

    async def _hand_over(self) -> None:
        batch, keys = self._batch, self._keys
        self._batch, self._keys, self._bytes = [], set(), 0
        while batch and self._under_way and not self._has_room_for(keys):
            await self._under_way.popleft().task
        if batch:
            self._under_way.append(_Writing(asyncio.create_task(self._write(batch)), keys))
            await asyncio.sleep(0)  # lets the task start

    def _has_room_for(self, keys: set[object]) -> bool:
        is_apart = all(writing.keys.isdisjoint(keys) for writing in self._under_way)
        return is_apart and len(self._under_way) < _AT_ONCE

    async def _write(self, batch: Sequence[Entry]) -> None:
        endings = await self._users.write(list(_arrivals_of(batch)))
        for entry, ending in zip(batch, endings, strict=True):
            self._report.end(entry, ending.message if isinstance(ending, ApiError) else ending)


def _arrivals_of(entries: Sequence[Entry]) -> Iterator[Arrival]:
    return (entry.what for entry in entries if isinstance(entry.what, Arrival))


def _keys_of(entries: Sequence[Entry]) -> Iterator[object]:
    """Yield the user of each entry, and each of their credentials, with duplicates."""
    for arrival in _arrivals_of(entries):
        yield arrival.kuid
        for held in arrival.credentials:
            yield held.strategy, held.id
