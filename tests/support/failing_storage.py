"""Stores that fail while somebody writes."""

from collections.abc import Iterable

import pytest

from server.storage.base import Change, Insert, Put, Unavailable
from server.storage.rows import Table
from tests.support.server import Running


def fail_at(table: Table, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every transaction fail that enters something into a table."""
    storage = server.app.services.storage
    apply = storage.apply

    async def fail(changes: Iterable[Change]) -> None:
        made = list(changes)
        if any(isinstance(one, (Insert, Put)) and one.table is table for one in made):
            raise Unavailable("the disk is full")
        await apply(made)

    monkeypatch.setattr(storage, "apply", fail)
