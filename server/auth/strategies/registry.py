"""Registry of authentication strategies, by name.

They can be added and removed at run time. What other processes cache about them is invalidated by
the journal.
"""

import asyncio
from dataclasses import dataclass

from protocol.errors import ApiError, error
from server.auth.sessions.pending_ends import end_all
from server.auth.strategies.base import Strategy
from server.auth.strategies.sandbox import SandboxedStrategy
from server.storage.base import (
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Missing,
    Put,
    Storage,
    Unchanged,
)
from server.storage.rows import Row, Table

_SETTING = "strategies"
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class UserStrategies:
    """The strategies a user has credentials for, in the order of their registration; not
    `is_certain` if one of them failed to answer."""

    names: list[str]
    is_certain: bool


class Strategies:
    """Registered strategies by name, in the order of their registration. Calls of a strategy that
    is added time out after `timeout_s`."""

    def __init__(self, storage: Storage, *, timeout_s: float) -> None:
        self._storage = storage
        self._timeout_s = timeout_s
        self._by_name: dict[str, Strategy] = {}

    def register(self, name: str, strategy: Strategy) -> None:
        """Register a built-in strategy before the server listens, or replace the one of this
        name."""
        self._stop(name)
        self._by_name[name] = strategy

    async def add(self, name: str, strategy: Strategy) -> None:
        """Register a strategy at any time, or replace the one of this name, whose logins in
        progress must start again. Its faults are isolated from the server."""
        ended = [end_all(name)] if name in self._by_name else []
        self.start(name, strategy)
        await self._storage.apply([*ended, JournalEvent(EventKind.STRATEGY, name)])

    def start(self, name: str, strategy: Strategy) -> None:
        """Register a strategy before the server listens; `announce` follows."""
        guarded = SandboxedStrategy(name, strategy, timeout_s=self._timeout_s)
        self.register(name, guarded)
        guarded.start()

    async def announce(self) -> None:
        """Invalidate the users that other processes have cached, but only if the strategies differ
        from those of the last start on this store: else each start would cost the others their
        whole cache."""
        row: Row = {"name": _SETTING, "value": self.names()}
        for _ in range(_ATTEMPTS):
            old = await self._storage.get(Table.SETTINGS, name=_SETTING)
            if old == row:
                return
            write = Insert(Table.SETTINGS, row) if old is None else Put(Table.SETTINGS, row)
            guards = () if old is None else (Unchanged(Table.SETTINGS, old),)
            before = old["value"] if old is not None and isinstance(old["value"], list) else []
            changed = sorted({*self.names()} ^ {*map(str, before)}) or self.names()
            notes = (JournalEvent(EventKind.STRATEGY, name) for name in changed)
            try:
                await self._storage.apply([*guards, write, *notes])
            except (Exists, Missing):
                continue  # another process starts at this moment
            return

    async def remove(self, name: str) -> None:
        """Remove a strategy and its logins in progress; ApiError 404 if there is none. Tokens and
        credentials are kept."""
        if name not in self._by_name:
            raise error("plugin.strategy.strategy_not_found", name)
        self._stop(name)
        del self._by_name[name]
        await self._storage.apply([end_all(name), JournalEvent(EventKind.STRATEGY, name)])

    def get(self, name: str) -> Strategy:
        """Return a strategy; ApiError 400 for an unknown one."""
        strategy = self._by_name.get(name)
        if strategy is None:
            raise error("security.credentials.unknown_strategy", name)
        return strategy

    def names(self) -> list[str]:
        """Return all names."""
        return list(self._by_name)

    async def ways_of(self, kuid: str) -> UserStrategies:
        """Return the strategies a user has credentials for; one that fails is skipped."""
        names, is_certain = [], True
        for name, strategy in list(self._by_name.items()):
            try:
                if await strategy.exists(kuid):
                    names.append(name)
            except ApiError:
                is_certain = False
        return UserStrategies(names, is_certain)

    async def close(self) -> None:
        """Cancel what strategies are doing, as far as they allow it."""
        guarded = [one for one in self._by_name.values() if isinstance(one, SandboxedStrategy)]
        await asyncio.gather(*(one.close() for one in guarded))

    def _stop(self, name: str) -> None:
        strategy = self._by_name.get(name)
        if isinstance(strategy, SandboxedStrategy):
            strategy.stop()
