"""The strategies this server knows by name (contract/05 §2.2; design §6).

They may come and go while it runs. What others keep about them is dropped by the journal.
"""

import asyncio
from dataclasses import dataclass
from typing import cast

from protocol.errors import ApiError, error
from server.auth.pending import end_all
from server.auth.strategies import Strategy
from server.auth.strategies.guarded import Guarded
from server.storage.base import Note, Noted, Put, Storage, Table

_NAMES = "strategies"
"""The setting that holds the names of the strategies as of the last start."""


@dataclass(frozen=True, slots=True)
class WaysIn:
    """The strategies a user has credentials for, in the order of their registration; without
    `is_certain` one of those asked gave no answer."""

    names: list[str]
    is_certain: bool


class Strategies:
    """The strategies by name, in the order of their registration. A call of one that is added may
    take `timeout_s`."""

    def __init__(self, storage: Storage, *, timeout_s: float) -> None:
        self._storage = storage
        self._timeout_s = timeout_s
        self._by_name: dict[str, Strategy] = {}

    def register(self, name: str, strategy: Strategy) -> None:
        """Enter a strategy of our own before anybody asks, or replace the one of this name."""
        self._stop(name)
        self._by_name[name] = strategy

    async def add(self, name: str, strategy: Strategy) -> None:
        """Enter a strategy at any time, or replace the one of this name, whose logins begin
        again. Its faults stay its own."""
        ended = [end_all(name)] if name in self._by_name else []
        self.enter(name, strategy)
        await self._storage.apply([*ended, Note(Noted.STRATEGY, name)])

    def enter(self, name: str, strategy: Strategy) -> None:
        """Enter a strategy at the start, as `add` does; `note_names` follows when all are there."""
        guarded = Guarded(name, strategy, timeout_s=self._timeout_s)
        self.register(name, guarded)
        guarded.start()

    async def note_names(self) -> None:
        """Note in the journal which strategies came or went since the last start of a server: what
        others keep of a user shows them. A start with the same ones notes nothing."""
        names = sorted(self._by_name)
        row = await self._storage.get(Table.SETTINGS, name=_NAMES)
        before = set(cast("list[str]", row["value"])) if row is not None else set()
        changed = sorted(before ^ set(names))
        if not changed:
            return
        put = Put(Table.SETTINGS, {"name": _NAMES, "value": names})
        await self._storage.apply([put, *(Note(Noted.STRATEGY, name) for name in changed)])

    async def remove(self, name: str) -> None:
        """Forget a strategy, and the logins with it that are not finished; ApiError 404 if there is
        none. Tokens and credentials stay."""
        if name not in self._by_name:
            raise error("plugin.strategy.strategy_not_found", name)
        self._stop(name)
        del self._by_name[name]
        await self._storage.apply([end_all(name), Note(Noted.STRATEGY, name)])

    def get(self, name: str) -> Strategy:
        """Give a strategy; ApiError 400 for an unknown one."""
        strategy = self._by_name.get(name)
        if strategy is None:
            raise error("security.credentials.unknown_strategy", name)
        return strategy

    def names(self) -> list[str]:
        """Give all names."""
        return list(self._by_name)

    async def ways_of(self, kuid: str) -> WaysIn:
        """Find out which strategies a user has credentials for; one that fails is passed over."""
        names, is_certain = [], True
        for name, strategy in list(self._by_name.items()):
            try:
                if await strategy.exists(kuid):
                    names.append(name)
            except ApiError:
                is_certain = False
        return WaysIn(names, is_certain)

    async def close(self) -> None:
        """End what strategies are doing, as far as they let it."""
        guarded = [one for one in self._by_name.values() if isinstance(one, Guarded)]
        await asyncio.gather(*(one.close() for one in guarded))

    def _stop(self, name: str) -> None:
        strategy = self._by_name.get(name)
        if isinstance(strategy, Guarded):
            strategy.stop()
