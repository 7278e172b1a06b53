"""Database access of commands."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from protocol.errors import LocalError
from server.storage.base import Storage
from server.storage.sqlite.storage import MEMORY, SqliteStorage


@asynccontextmanager
async def opened(
    data: str, *, clock_ms: Callable[[], int], is_roomy: bool = False, creates: bool = False
) -> AsyncIterator[Storage]:
    """Open a database, `is_roomy` for bulk writes; LocalError if it does not exist, unless
    `creates`."""
    if not creates and (data == MEMORY or not await asyncio.to_thread(Path(data).exists)):
        raise LocalError(f"{data}: no such database; expected --data with the server's database")
    storage = SqliteStorage(data, clock_ms=clock_ms, is_roomy=is_roomy)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()
