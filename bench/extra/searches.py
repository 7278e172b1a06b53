"""`python -m bench.extra.searches`: fill a store with users, search it in every way, print what it
took.

The store is used without a server around it: these are the times of the searching thread. `--users`
says how many there are; a million take about two minutes to write.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from server.auth.search.parser import parse_query
from server.storage.base import Change, Insert
from server.storage.rows import Row, Table
from server.storage.search import ROLES, USERS, Found, Order, Search, TooSlow
from server.storage.sqlite.storage import SqliteStorage

_BATCH = 5000
_ROUNDS = 15
_INFO = {"author": None, "createdAt": 1_700_000_000_000, "updatedAt": None, "updater": None}
_CITIES = ("Oslo", "Bonn", "Rome", "Kyiv", "Riga", "Bern", "Graz", "Lyon")


def main() -> None:
    """Measure, in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    users = parser.parse_args().users
    with tempfile.TemporaryDirectory(prefix="searches-") as folder:
        asyncio.run(_measure(str(Path(folder) / "keys.db"), users))


async def _measure(path: str, users: int) -> None:
    storage = SqliteStorage(path, clock_ms=lambda: 1)
    await storage.open()
    await _timed("write the users", _fill(storage, users))
    await _timed("add older values of 3 fields", _index(storage))
    print(f"\n{users:,} users; milliseconds, median and worst of {_ROUNDS}, 10 hits a page\n")
    for name, search in _searches(users).items():
        await _row(storage, name, search)
    await _reads_beside(storage)
    await storage.close()


async def _fill(storage: SqliteStorage, users: int) -> None:
    for start in range(0, users, _BATCH):
        changes: list[Change] = []
        for at in range(start, min(start + _BATCH, users)):
            changes.append(Insert(Table.USERS, _user(at)))
            profile_id = "rare" if at % 10_000 == 0 else "default"
            member: Row = {"kuid": _kuid(at), "profile_id": profile_id}
            changes.append(Insert(Table.USER_PROFILES, member))
        await storage.apply(changes)


def _kuid(at: int) -> str:
    return f"kuid-{at * 2_654_435_761 % 2**32:08x}"


def _user(at: int) -> Row:
    content = {
        "name": f"Person {at}",
        "email": f"person{at}@example.org",
        "age": at % 90,
        "serial": at,
        "address": {"city": _CITIES[at % len(_CITIES)], "street": f"Street {at % 500}"},
    }
    profile_ids = ["rare" if at % 10_000 == 0 else "default"]
    info = {**_INFO, "createdAt": 1_700_000_000_000 + at}
    return {
        "kuid": _kuid(at),
        "profile_ids": profile_ids,
        "content": content,
        "info": info,
        "disabled": 0,
    }


async def _index(storage: SqliteStorage) -> None:
    await storage.index_fields(["email", "serial", "address.city"])
    if storage.indexing is not None:
        await storage.indexing


def _searches(users: int) -> dict[str, Search]:
    """Give what is measured, by what it is called in the table."""

    def ask(query: object) -> Search:
        return Search(USERS, parse_query(query, lang="elasticsearch"))

    middle = _kuid(users // 2)
    everyone = ask({})
    return {
        "everybody, first page": everyone,
        "everybody, search_after from the middle": replace(everyone, after=("kuid-80000000",)),
        "everybody, without the total": replace(everyone, is_counted=False),
        "_id": ask({"ids": {"values": [middle]}}),
        "_id, prefix of one": ask({"prefix": {"_id": middle}}),
        "profileIds, 1 of 10,000": ask({"term": {"profileIds": "rare"}}),
        "profileIds, nearly all": ask({"term": {"profileIds": "default"}}),
        "indexed text, one": ask({"term": {"email": f"person{users // 3}@example.org"}}),
        "indexed text, prefix of 11": ask({"prefix": {"email": f"person{users // 20}"}}),
        "indexed number, range of 100": ask({"range": {"serial": {"gte": 500, "lt": 600}}}),
        "indexed, 1 of 8": ask({"term": {"address.city": "Oslo"}}),
        "two indexed at once": ask(
            {"bool": {"must": [{"term": {"address.city": "Bonn"}}, {"term": {"serial": 1}}]}}
        ),
        "not indexed, 1 of 90": ask({"term": {"age": 33}}),
        "not indexed, wildcard": ask({"wildcard": {"name": "*7777*"}}),
        "everybody, sorted by a field": replace(everyone, sort=(Order("_kuzzle_info.createdAt"),)),
        "roles": Search(ROLES),
    }


async def _row(storage: SqliteStorage, name: str, search: Search) -> None:
    taken_ms, found = [], Found([], 0)
    for _ in range(_ROUNDS):
        begun_s = time.perf_counter()
        try:
            found = await storage.search(search)
        except TooSlow:
            print(f"{name:42} took too long")
            return
        taken_ms.append((time.perf_counter() - begun_s) * 1000)
        if taken_ms[0] > 500 and len(taken_ms) == 3:
            break
    total = "-" if found.total is None else f"{found.total:,}"
    print(f"{name:42} {statistics.median(taken_ms):9.2f} {max(taken_ms):9.2f} {total:>12}")


async def _reads_beside(storage: SqliteStorage) -> None:
    """Read users by their ids while a search walks the whole table."""
    slow = Search(USERS, parse_query({"term": {"age": 33}}, lang="elasticsearch"))
    walking = asyncio.create_task(storage.search(slow))
    taken_ms = []
    while not walking.done():
        begun_s = time.perf_counter()
        await storage.get(Table.USERS, kuid=_kuid(len(taken_ms)))
        taken_ms.append((time.perf_counter() - begun_s) * 1000)
    with suppress(TooSlow):
        await walking
    middle_ms, worst_ms = statistics.median(taken_ms), max(taken_ms)
    print(f"\nreads beside a walk: {len(taken_ms):,}, {middle_ms:.2f} ms, worst {worst_ms:.2f} ms")


async def _timed(name: str, work: Awaitable[None]) -> None:
    begun_s = time.perf_counter()
    await work
    print(f"{name}: {time.perf_counter() - begun_s:.1f} s")


if __name__ == "__main__":
    main()
