"""Documents about users are gathered and written, many in one transaction, while more are read."""

import asyncio
from collections import deque
from typing import NamedTuple

from server.auth.userimport import Arrival, UserImport
from server.importlines import Record
from server.importreport import Report

_BATCH = 500
"""Documents handed over at once."""
_BATCH_BYTES = 2 * 1024 * 1024
_AT_ONCE = 4
"""Batches on their way, which may share a transaction: some 60 ms for which the writes of others
wait."""


class Taken(NamedTuple):
    """A document that waits for others to be written together with it."""

    line: int
    record: Record
    arrival: Arrival


class _Writing(NamedTuple):
    """A batch on its way, and what it is about."""

    task: asyncio.Task[None]
    keys: set[object]


class Batches:
    """Has documents written; no two of one batch, nor of two on their way, are about the same
    thing. `Unavailable` comes with a later call if the database stays busy."""

    def __init__(self, users: UserImport, report: Report) -> None:
        self._users = users
        self._report = report
        self._batch: list[Taken] = []
        self._keys: set[object] = set()
        self._bytes = 0
        self._under_way: deque[_Writing] = deque()

    async def add(self, taken: Taken, size_bytes: int) -> None:
        """Take a document."""
        arrival = taken.arrival
        keys = [arrival.kuid, *((row["strategy"], row["id"]) for row in arrival.credentials)]
        if not self._keys.isdisjoint(keys):
            await self._hand_over()
        self._batch.append(taken)
        self._keys.update(keys)
        self._bytes += size_bytes
        if len(self._batch) >= _BATCH or self._bytes >= _BATCH_BYTES:
            await self._hand_over()

    async def finish(self) -> None:
        """Have all written that was taken."""
        await self._hand_over()
        await self.end()

    async def end(self) -> None:
        """Wait for what is on its way."""
        while self._under_way:
            await self._under_way.popleft().task

    async def _hand_over(self) -> None:
        batch, keys = self._batch, self._keys
        self._batch, self._keys, self._bytes = [], set(), 0
        while self._under_way and not self._has_room_for(keys):
            await self._under_way.popleft().task
        if batch:
            self._under_way.append(_Writing(asyncio.create_task(self._write(batch)), keys))
            await asyncio.sleep(0)  # it begins now

    def _has_room_for(self, keys: set[object]) -> bool:
        is_apart = all(writing.keys.isdisjoint(keys) for writing in self._under_way)
        return is_apart and len(self._under_way) < _AT_ONCE

    async def _write(self, batch: list[Taken]) -> None:
        endings = await self._users.write([taken.arrival for taken in batch])
        for taken, ending in zip(batch, endings, strict=True):
            self._report.end(taken.line, taken.record, ending)
