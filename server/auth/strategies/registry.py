"""The strategies this server knows by name (contract/05 §2.2; design §6).

They may come and go while it runs. What others keep about them is dropped by the journal.
"""

import asyncio
from dataclasses import dataclass

from protocol.errors import ApiError, error
from server.auth.sessions.pending_ends import end_all
from server.auth.strategies.base import Strategy
from server.auth.strategies.sandbox import Guarded
from server.storage.base import Exists, Insert, Missing, Note, Noted, Put, Storage, Unchanged
from server.storage.rows import Row, Table

_SETTING = "strategies"
_ATTEMPTS = 5


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
        self.start(name, strategy)
        await self._storage.apply([*ended, Note(Noted.STRATEGY, name)])

    def start(self, name: str, strategy: Strategy) -> None:
        """Enter a strategy before the server listens; `announce` follows."""
        guarded = Guarded(name, strategy, timeout_s=self._timeout_s)
        self.register(name, guarded)
        guarded.start()

    async def announce(self) -> None:
        """Let every process read its users again, but only if the strategies are others than those
        of the last start on this store: else each start would cost the others all they keep."""
        row: Row = {"name": _SETTING, "value": self.names()}
        for _ in range(_ATTEMPTS):
            old = await self._storage.get(Table.SETTINGS, name=_SETTING)
            if old == row:
                return
            write = Insert(Table.SETTINGS, row) if old is None else Put(Table.SETTINGS, row)
            guards = () if old is None else (Unchanged(Table.SETTINGS, old),)
            before = old["value"] if old is not None and isinstance(old["value"], list) else []
            changed = sorted({*self.names()} ^ {*map(str, before)}) or self.names()
            notes = (Note(Noted.STRATEGY, name) for name in changed)
            try:
                await self._storage.apply([*guards, write, *notes])
            except (Exists, Missing):
                continue  # another process starts at this moment
            return

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
