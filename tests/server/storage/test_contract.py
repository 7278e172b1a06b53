"""What every backend must do: one suite, run on each of them.

A backend is a function that gives a new, unopened storage for a directory; called twice for one
directory it gives two storages of the same data, unless the backend is in `ALONE`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.storage.base import (
    MOST_COUNTED,
    Absent,
    Change,
    Delete,
    DeleteAll,
    Entry,
    EventKind,
    Exists,
    Insert,
    InsertAll,
    JournalEvent,
    Missing,
    Present,
    Put,
    RemoveProfile,
    Storage,
    Unavailable,
    Unchanged,
    Update,
    Written,
)
from server.storage.rows import Row, Table
from server.storage.sqlite.storage import SqliteStorage
from server.storage.tables import SHAPES
from tests.support.waiting import in_time

Backend = Callable[[Path], Storage]

BACKENDS: dict[str, Backend] = {
    "sqlite": lambda directory: SqliteStorage(str(directory / "keys.db"), clock_ms=lambda: 1_000),
    "sqlite-memory": lambda directory: SqliteStorage(":memory:", clock_ms=lambda: 1_000),
}
ALONE = {"sqlite-memory"}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


@pytest.fixture
async def storage(backend: Backend, tmp_path: Path) -> AsyncIterator[Storage]:
    storage = backend(tmp_path)
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture(params=sorted(BACKENDS.keys() - ALONE))
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Storage, Storage]]:
    one, other = (BACKENDS[request.param](tmp_path) for _ in range(2))
    await one.open()
    await other.open()
    yield one, other
    await one.close()
    await other.close()


def credential(name: str, kuid: str = "", **changed: object) -> Row:
    row: Row = {
        "strategy": "local",
        "id": name,
        "kuid": kuid or f"of {name}",
        "data": {},
        "created_at": 1,
        "updated_at": None,
    }
    return row | changed


def session(number: int, **changed: object) -> Row:
    row: Row = {
        "token_hash": number.to_bytes(32),
        "id": f"s{number}",
        "kuid": "ann",
        "created_at": number,
        "expires_at": number,
        "ttl": 1,
        "single_use": 0,
        "refreshed_at": None,
        "started_at": 1,
        "used_at": 1,
        "family": "f",
        "data": {},
        "amr": ["local"],
        "authenticated_at": None,
        "parent": None,
    }
    return row | changed


def member(kuid: str, profile_id: str) -> Row:
    return {"kuid": kuid, "profile_id": profile_id}


async def fill(storage: Storage, table: Table, rows: Iterable[Row]) -> None:
    await storage.apply([Insert(table, row) for row in rows])


async def everything(storage: Storage, table: Table) -> list[Row]:
    return await storage.find(table, limit=1_000)


# Rows and values


async def test_a_row_comes_back_as_it_was_given(storage: Storage) -> None:
    data: dict[str, object] = {
        "z": [1, 2.5, None, True, {"é": "🔑", "": '"'}],
        "a": {},
        "deep": [[[]]],
        "nul": "\0",
    }
    row = session(7, data=data, expires_at=None, refreshed_at=-(2**63), ttl=2**63 - 1)
    await fill(storage, Table.SESSIONS, [row])
    found = await storage.get(Table.SESSIONS, token_hash=row["token_hash"])
    assert found == row
    assert found is not None and list(found["data"]) == list(data)  # type: ignore[call-overload]
    assert await storage.get(Table.SESSIONS, id="s7") == row


async def test_a_row_that_is_not_there_is_none(storage: Storage) -> None:
    await fill(storage, Table.CREDENTIALS, [credential("ann")])
    assert await storage.get(Table.CREDENTIALS, strategy="local", id="bob") is None
    assert await storage.get(Table.CREDENTIALS, strategy="ldap", id="ann") is None


@pytest.mark.parametrize(
    "text",
    ["", "'", '"', "';DROP TABLE users;--", "a\0b", "%", "?1", "é", "e\u0301", " a ", "\U0010ffff"],
)
async def test_any_text_is_kept_and_found_exactly(storage: Storage, text: str) -> None:
    await fill(storage, Table.CREDENTIALS, [credential(text, "u" + text), credential("other", "v")])
    row = await storage.get(Table.CREDENTIALS, strategy="local", id=text)
    assert row == credential(text, "u" + text)
    assert await storage.find(Table.CREDENTIALS, limit=9, kuid="u" + text) == [row]
    await storage.apply([Delete(Table.CREDENTIALS, {"strategy": "local", "id": text})])
    assert await everything(storage, Table.CREDENTIALS) == [credential("other", "v")]


async def test_text_with_a_nul_is_not_the_text_before_it(storage: Storage) -> None:
    await fill(storage, Table.CREDENTIALS, [credential("a"), credential("a\0b")])
    assert await storage.get(Table.CREDENTIALS, strategy="local", id="a") == credential("a")
    assert await storage.count(Table.CREDENTIALS) == 2


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, "text", [None], {"a": None}])
async def test_a_document_may_be_any_json(storage: Storage, value: object) -> None:
    await fill(storage, Table.SETTINGS, [{"name": "n", "value": value}])
    row = await storage.get(Table.SETTINGS, name="n")
    assert row is not None and row["value"] == value and type(row["value"]) is type(value)


async def test_rows_are_taken_as_they_were_when_given(storage: Storage) -> None:
    row: Row = {"name": "n", "value": [1]}
    waiting = asyncio.create_task(storage.apply([Insert(Table.SETTINGS, row)]))
    await asyncio.sleep(0)  # until it waits for the database
    row["value"] = "changed"
    await waiting
    assert await storage.get(Table.SETTINGS, name="n") == {"name": "n", "value": [1]}


WRONG: list[Change] = [
    Insert(Table.CREDENTIALS, credential("x", nonsense=1)),
    Insert(Table.CREDENTIALS, {"strategy": "local", "id": "x"}),
    Insert(Table.CREDENTIALS, credential("x") | {"kuid": None}),
    Insert(Table.CREDENTIALS, credential("x") | {"kuid": 5}),
    Insert(Table.CREDENTIALS, credential("x") | {"kuid": b"bytes"}),
    Insert(Table.CREDENTIALS, credential("lone \ud800 surrogate")),
    Insert(Table.CREDENTIALS, credential("x", data={"lone": "\udfff"})),
    Insert(Table.CREDENTIALS, credential("x", data={"huge": 2**64})),
    Insert(Table.CREDENTIALS, credential("x", data=object())),
    Insert(Table.CREDENTIALS, credential("x", data={1: "not text"})),
    Insert(Table.CREDENTIALS, credential("x", created_at=2**63)),
    Insert(Table.CREDENTIALS, credential("x", created_at=-(2**63) - 1)),
    Insert(Table.CREDENTIALS, credential("x", created_at=1.5)),
    Insert(Table.CREDENTIALS, credential("x", created_at="1")),
    Insert(Table.SESSIONS, session(1, token_hash="text")),
    Put(Table.CREDENTIALS, credential("x", nonsense=1)),
    Put(Table.USER_PROFILES, {"kuid": "x"}),
    Update(Table.CREDENTIALS, {"strategy": "local", "id": "ann"}, {'kuid" = 1 --': "x"}),
    Update(Table.CREDENTIALS, {"strategy": "local", "id": "ann"}, {"kuid": None}),
    Update(Table.CREDENTIALS, {"strategy": "local"}, {"kuid": "x"}),
    Delete(Table.CREDENTIALS, {}),
    Delete(Table.CREDENTIALS, {"kuid": "of ann", "strategy": "local"}),
    DeleteAll(Table.CREDENTIALS, {'1" OR "1': 1}),
    DeleteAll(Table.CREDENTIALS, {"data": {}}),
    DeleteAll(Table.CREDENTIALS, {}, below={"nonsense": 1}),
    DeleteAll(Table.CREDENTIALS, {}, below={"kuid": 1}),
    DeleteAll(Table.CREDENTIALS, {}, below={"created_at": 2**63}),
    DeleteAll(Table.CREDENTIALS, {}, most=-1),
    Absent(Table.CREDENTIALS, {"nonsense": 1}),
    Present(Table.CREDENTIALS, {"kuid": "\ud800"}),
    Unchanged(Table.CREDENTIALS, credential("ann") | {"nonsense": 1}),
    Unchanged(Table.CREDENTIALS, {"strategy": "local", "id": "ann"}),
    RemoveProfile("a", "a", 1),
    RemoveProfile("a", "b", 0),
    RemoveProfile("a", "\ud800", 1),
    JournalEvent(EventKind.USER, "\ud800"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__)
async def test_what_the_columns_do_not_allow_is_refused_and_nothing_done(
    storage: Storage, wrong: Change
) -> None:
    await fill(storage, Table.CREDENTIALS, [credential("ann")])
    with pytest.raises(ValueError):
        await storage.apply([Insert(Table.CREDENTIALS, credential("bob")), wrong])
    assert await everything(storage, Table.CREDENTIALS) == [credential("ann")]


async def test_questions_with_unknown_names_or_impossible_values_are_refused(
    storage: Storage,
) -> None:
    wrong: list[Row] = [
        {"nonsense": 1},
        {'1" OR "1': 1},
        {"kuid": "\ud800"},
        {"kuid": 5},
        {"data": {}},
    ]
    for where in wrong:
        with pytest.raises(ValueError):
            await storage.find(Table.CREDENTIALS, limit=1, **where)
        with pytest.raises(ValueError):
            await storage.exists(Table.CREDENTIALS, **where)
    for limit in (-1, 2**63):
        with pytest.raises(ValueError):
            await storage.find(Table.CREDENTIALS, limit=limit)
    for key in ({}, {"id": "ann"}, {"kuid": "ann"}, {"kuid": "ann", "strategy": "x", "id": "y"}):
        with pytest.raises(ValueError):
            await storage.get(Table.CREDENTIALS, **key)


# Questions


async def test_find_gives_rows_in_key_order_up_to_the_limit(storage: Storage) -> None:
    names = ["b", "a", "é", "B", "aa", "\U0001f511", "\uffff", ""]
    await fill(storage, Table.CREDENTIALS, [credential(name) for name in names])
    found = [row["id"] for row in await storage.find(Table.CREDENTIALS, limit=100)]
    assert found == ["", "B", "a", "aa", "b", "é", "\uffff", "\U0001f511"]
    assert [row["id"] for row in await storage.find(Table.CREDENTIALS, limit=3)] == found[:3]
    assert await storage.find(Table.CREDENTIALS, limit=0) == []


def event(number: int, **changed: object) -> Row:
    row: Row = {name: "" for name in SHAPES[Table.AUDIT].columns}
    return row | {"id": f"{number:04}", "at": number, "count": 1} | changed


async def test_the_latest_rows_come_in_pages(storage: Storage) -> None:
    """In falling order of the key, within bounds of it, and with their number."""
    kinds = ("a", "b")
    await fill(storage, Table.AUDIT, [event(n, kind=kinds[n % 2]) for n in range(20)])

    async def page(where: Row, **wanted: object) -> tuple[list[int], int]:
        given = {"least": "", "below": "~", "start": 0, "limit": 3}
        found = await storage.latest(Table.AUDIT, where, **{**given, **wanted})
        return [row["at"] for row in found.rows], found.total

    assert await page({}) == ([19, 18, 17], 20)
    assert await page({}, start=18) == ([1, 0], 20)
    assert await page({}, start=99) == ([], 20)
    assert await page({}, limit=0) == ([], 20)
    assert await page({"kind": "a"}) == ([18, 16, 14], 10)
    assert await page({"kind": "a", "outcome": ""}, start=8) == ([2, 0], 10)
    assert await page({"kind": "c"}) == ([], 0)
    assert await page({}, least="0017") == ([19, 18, 17], 3)
    assert await page({}, below="0002") == ([1, 0], 2)
    assert await page({"kind": "b"}, least="0004", below="0009") == ([7, 5], 2)
    assert await page({}, least="0009", below="0004") == ([], 0)


async def test_the_latest_rows_are_counted_up_to_a_bound(storage: Storage) -> None:
    await fill(storage, Table.AUDIT, [event(n) for n in range(MOST_COUNTED + 5)])
    found = await storage.latest(Table.AUDIT, {}, least="", below="~", start=0, limit=1)
    assert found.total == MOST_COUNTED


@pytest.mark.parametrize(
    ("table", "where", "start", "limit"),
    [
        (Table.USER_PROFILES, {}, 0, 1),
        (Table.AUDIT, {"nonsense": ""}, 0, 1),
        (Table.AUDIT, {}, -1, 1),
        (Table.AUDIT, {}, 0, -1),
    ],
)
async def test_pages_that_can_not_be_are_refused(
    storage: Storage, table: Table, where: Row, start: int, limit: int
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (names differ)
        await storage.latest(table, where, least="", below="~", start=start, limit=limit)


async def test_rows_are_tallied(storage: Storage) -> None:
    """By the values of columns that have an index together."""
    assert await storage.tally(Table.AUDIT, "kind", "outcome") == []
    rows = [event(n, kind="ab"[n % 2], outcome="xy"[n % 3 == 0]) for n in range(6)]
    await fill(storage, Table.AUDIT, rows)
    found = await storage.tally(Table.AUDIT, "kind", "outcome")
    assert sorted((row["kind"], row["outcome"], row["rows"]) for row in found) == [
        ("a", "x", 2),
        ("a", "y", 1),
        ("b", "x", 2),
        ("b", "y", 1),
    ]
    with pytest.raises(ValueError, match="index"):
        await storage.tally(Table.AUDIT, "reason")


async def test_conditions_must_all_hold_and_none_matches_only_none(storage: Storage) -> None:
    rows = [
        credential("a", created_at=1, updated_at=None),
        credential("b", created_at=1, updated_at=5),
        credential("c", created_at=2, updated_at=None),
    ]
    await fill(storage, Table.CREDENTIALS, rows)

    async def ids(**where: object) -> list[object]:
        return [row["id"] for row in await storage.find(Table.CREDENTIALS, limit=9, **where)]

    assert await ids(created_at=1) == ["a", "b"]
    assert await ids(updated_at=None) == ["a", "c"]
    assert await ids(created_at=1, updated_at=None) == ["a"]
    assert await ids(updated_at=5) == ["b"]
    assert await ids(kuid=None) == []
    assert await storage.exists(Table.CREDENTIALS, created_at=2, updated_at=None)
    assert not await storage.exists(Table.CREDENTIALS, created_at=2, updated_at=5)


@pytest.mark.parametrize("where", [{}, {"profile_id": "p"}])
async def test_find_after_goes_on_behind_a_key(storage: Storage, where: Row) -> None:
    """Page by page, every row comes once, in key order; a key that is not there is a place too."""
    rows = [member(f"u{number:02}", "p") for number in range(7)]
    await fill(storage, Table.USER_PROFILES, [*rows, member("u03", "q")])
    expected = sorted(
        ([*rows, member("u03", "q")] if not where else rows), key=lambda row: tuple(row.values())
    )
    found, after = [], None
    while page := await storage.find_after(Table.USER_PROFILES, after, where, limit=3):
        assert len(page) <= 3
        found += page
        after = page[-1]
    assert found == expected
    between = await storage.find_after(Table.USER_PROFILES, member("u05", "x"), where, limit=9)
    assert between == [member("u06", "p")]
    with pytest.raises(ValueError, match="not the key"):
        await storage.find_after(Table.USER_PROFILES, {"kuid": "u"}, {}, limit=1)


async def test_find_each_gives_the_rows_of_many_keys(storage: Storage) -> None:
    """By the key or by a unique group; what is not there is not given, however many are asked."""
    rows = [credential(f"c{number}", kuid=f"u{number}") for number in range(600)]
    await fill(storage, Table.CREDENTIALS, rows)

    async def find(names: tuple[str, ...], keys: list[tuple[object, ...]]) -> list[Row]:
        found = await storage.find_each(Table.CREDENTIALS, names, keys)
        return sorted(found, key=lambda row: str(row["id"]))

    asked = [("local", f"c{number}") for number in range(0, 1200, 2)]
    expected = sorted(rows[::2], key=lambda row: str(row["id"]))
    assert await find(("strategy", "id"), [*asked, ("oauth", "c1")]) == expected
    assert await find(("id", "strategy"), [("c1", "local")]) == [rows[1]]
    assert await find(("kuid", "strategy"), [("u1", "local"), ("u2", "ldap")]) == [rows[1]]
    assert await find(("strategy", "id"), []) == []
    for names, key in ((("kuid",), ("u1",)), (("strategy", "id"), ("local",))):
        with pytest.raises(ValueError, match=r"neither the key|shorter"):
            await find(names, [key])


_TORN: Written = ("local", "\ud800", "torn", "{}", 1, None)


def written(row: Row) -> Written:
    """Give a row of credentials as `InsertAll` takes it."""
    values = {**row, "data": orjson.dumps(row["data"]).decode()}
    return tuple(
        cast("str | int | None", values[name]) for name in SHAPES[Table.CREDENTIALS].columns
    )


async def test_insert_all_is_whole_or_nothing(storage: Storage) -> None:
    """Also among writes of others that are committed together with it."""
    await storage.apply([Insert(Table.CREDENTIALS, credential("c"))])
    clash = [InsertAll(Table.CREDENTIALS, [written(credential(name)) for name in "abcd"])]
    others = [[Insert(Table.CREDENTIALS, credential(f"other{n}"))] for n in range(5)]
    outcomes = await asyncio.gather(
        *(storage.apply(changes) for changes in (others[0], clash, *others[1:], clash)),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes if one is not None] == [Exists, Exists]
    names = [row["id"] for row in await storage.find(Table.CREDENTIALS, limit=99)]
    assert names == ["c", *(f"other{n}" for n in range(5))]
    fresh = [credential(name, updated_at=7) for name in ("x", "y")]
    rows = [written(row) for row in fresh]
    await storage.apply([InsertAll(Table.CREDENTIALS, rows), InsertAll(Table.USERS, [])])
    assert await storage.find(Table.CREDENTIALS, limit=9, updated_at=7) == fresh
    good = written(credential("w"))
    for bad in (good[:5], (*good, 1), (*good[:4], "1", None), (*good[:4], 1 << 63, None), _TORN):
        with pytest.raises(ValueError):
            await storage.apply([InsertAll(Table.CREDENTIALS, [good, bad])])
    assert await storage.get(Table.CREDENTIALS, strategy="local", id="w") is None


async def test_exists_and_count(storage: Storage) -> None:
    assert await storage.count(Table.USER_PROFILES) == 0
    assert not await storage.exists(Table.USER_PROFILES)
    await fill(storage, Table.USER_PROFILES, [member("ann", "admin"), member("bob", "admin")])
    assert await storage.count(Table.USER_PROFILES) == 2
    assert await storage.exists(Table.USER_PROFILES)
    assert await storage.exists(Table.USER_PROFILES, profile_id="admin")
    assert not await storage.exists(Table.USER_PROFILES, profile_id="default")


@pytest.mark.parametrize("table", Table)
async def test_every_table_is_there(storage: Storage, table: Table) -> None:
    assert await storage.count(table) == 0
    assert await storage.find(table, limit=1) == []
    assert SHAPES[table].columns.keys() >= set(SHAPES[table].key)


# Changes


async def test_insert_refuses_a_taken_key_and_a_taken_unique_group(storage: Storage) -> None:
    await fill(storage, Table.CREDENTIALS, [credential("ann", "u1")])
    for taken in (credential("ann", "u2"), credential("bob", "u1")):
        with pytest.raises(Exists) as refusal:
            await storage.apply([Insert(Table.CREDENTIALS, taken)])
        assert refusal.value.table is Table.CREDENTIALS
    await storage.apply([Insert(Table.CREDENTIALS, credential("bob", "u1", strategy="ldap"))])
    assert await storage.count(Table.CREDENTIALS) == 2


async def test_put_adds_then_replaces_the_whole_row(storage: Storage) -> None:
    await storage.apply([Put(Table.CREDENTIALS, credential("ann", "u1", updated_at=5))])
    second = credential("ann", "u2", data={"n": 2})
    del second["updated_at"]
    await storage.apply([Put(Table.CREDENTIALS, second)])
    assert await everything(storage, Table.CREDENTIALS) == [second | {"updated_at": None}]
    for _ in range(2):
        await storage.apply([Put(Table.USER_PROFILES, member("ann", "admin"))])
    assert await everything(storage, Table.USER_PROFILES) == [member("ann", "admin")]


async def test_put_refuses_a_unique_group_of_another_key(storage: Storage) -> None:
    before = [credential("ann", "u1"), credential("bob", "u2")]
    await fill(storage, Table.CREDENTIALS, before)
    for row in (credential("ann", "u2"), credential("eve", "u2")):
        with pytest.raises(Exists):
            await storage.apply([Put(Table.CREDENTIALS, row)])
    assert await everything(storage, Table.CREDENTIALS) == before


async def test_update_sets_the_named_columns(storage: Storage) -> None:
    await fill(storage, Table.CREDENTIALS, [credential("ann", "u1"), credential("bob", "u2")])
    key: Row = {"strategy": "local", "id": "ann"}
    await storage.apply([Update(Table.CREDENTIALS, key, {"data": {"a": 1}, "updated_at": 3})])
    await storage.apply([Update(Table.CREDENTIALS, key, {})])
    row = credential("ann", "u1", data={"a": 1}, updated_at=3)
    assert await everything(storage, Table.CREDENTIALS) == [row, credential("bob", "u2")]
    with pytest.raises(Exists):
        await storage.apply([Update(Table.CREDENTIALS, key, {"kuid": "u2"})])


async def test_update_and_delete_want_the_row_there(storage: Storage) -> None:
    key: Row = {"kuid": "ann", "profile_id": "admin"}
    for change in (
        Update(Table.USER_PROFILES, key, {"profile_id": "x"}),
        Update(Table.USER_PROFILES, key, {}),
        Delete(Table.USER_PROFILES, key),
    ):
        with pytest.raises(Missing) as refusal:
            await storage.apply([change])
        assert refusal.value.table is Table.USER_PROFILES
    await fill(storage, Table.USER_PROFILES, [member("ann", "admin"), member("ann", "default")])
    await storage.apply([Delete(Table.USER_PROFILES, key)])
    assert await everything(storage, Table.USER_PROFILES) == [member("ann", "default")]


async def test_delete_all_takes_what_equals_and_what_is_below(storage: Storage) -> None:
    ends: list[object] = [1, 5, 9, None]
    rows = [session(i, expires_at=end) for i, end in enumerate(ends)]
    rows.append(session(4, kuid="bob", expires_at=1))
    await fill(storage, Table.SESSIONS, rows)

    async def ids() -> list[object]:
        return [row["id"] for row in await everything(storage, Table.SESSIONS)]

    await storage.apply([DeleteAll(Table.SESSIONS, {"kuid": "nobody"})])
    await storage.apply([DeleteAll(Table.SESSIONS, {"kuid": "ann"}, below={"expires_at": 5})])
    assert await ids() == ["s1", "s2", "s3", "s4"]
    await storage.apply([DeleteAll(Table.SESSIONS, {}, below={"expires_at": 100, "ttl": 1})])
    assert await ids() == ["s1", "s2", "s3", "s4"]
    await storage.apply([DeleteAll(Table.SESSIONS, {}, below={"expires_at": 100})])
    assert await ids() == ["s3"]  # None is never below
    await storage.apply([DeleteAll(Table.SESSIONS, {})])
    assert await ids() == []


@pytest.mark.parametrize("table", [Table.SESSIONS, Table.USER_PROFILES])
async def test_delete_all_stops_at_most(storage: Storage, table: Table) -> None:
    rows = [session(i) if table is Table.SESSIONS else member("ann", f"p{i}") for i in range(5)]
    await fill(storage, table, rows)
    for left in (3, 1, 0, 0):
        await storage.apply([DeleteAll(table, {"kuid": "ann"}, most=2)])
        assert await storage.count(table) == left


async def test_guards_change_nothing_and_decide(storage: Storage) -> None:
    admin: Row = {"profile_id": "admin"}
    first: list[Change] = [
        Absent(Table.USER_PROFILES, admin),
        Insert(Table.USER_PROFILES, member("a", "admin")),
    ]
    await storage.apply(first)
    with pytest.raises(Exists) as exists:
        await storage.apply(first)
    assert exists.value.table is Table.USER_PROFILES
    await storage.apply([Present(Table.USER_PROFILES, admin)])
    with pytest.raises(Missing) as missing:
        await storage.apply([Present(Table.USER_PROFILES, {"kuid": "b"} | admin)])
    assert missing.value.table is Table.USER_PROFILES
    assert await everything(storage, Table.USER_PROFILES) == [member("a", "admin")]


async def test_a_row_is_unchanged_until_somebody_writes_it(storage: Storage) -> None:
    document = {"text": "Yağmur \u2028", "numbers": [1, 1.5, -0.0, 1e300], "none": None}
    await fill(storage, Table.CREDENTIALS, [credential("ann", data=document)])
    row = await storage.get(Table.CREDENTIALS, strategy="local", id="ann")
    assert row is not None
    await storage.apply([Unchanged(Table.CREDENTIALS, row)])
    for changed in ({"data": {}}, {"updated_at": 7}, {"id": "bob"}):
        with pytest.raises(Missing) as missing:
            await storage.apply([Unchanged(Table.CREDENTIALS, row | changed)])
        assert missing.value.table is Table.CREDENTIALS
    assert await everything(storage, Table.CREDENTIALS) == [row]


def user(kuid: str, *profile_ids: str) -> Row:
    row = {"kuid": kuid, "profile_ids": list(profile_ids), "content": {"a": [1]}, "info": {}}
    return row | {"disabled": 0}


async def test_unassign_takes_a_profile_from_the_first_users_who_have_it(storage: Storage) -> None:
    odd = 'o"d\\d İ'
    given = {"a": ["p"], "b": ["q", "p", odd], "c": [odd, "r"], "d": ["p", "none"], "e": ["p"]}
    await fill(storage, Table.USERS, [user(kuid, *ids) for kuid, ids in given.items()])
    pairs = [member(kuid, profile_id) for kuid, ids in given.items() for profile_id in ids]
    await fill(storage, Table.USER_PROFILES, pairs)
    await storage.apply([RemoveProfile("p", "none", 3)])
    expected = given | {"a": ["none"], "b": ["q", odd], "d": ["none"]}
    assert await everything(storage, Table.USERS) == [user(k, *ids) for k, ids in expected.items()]
    left = [member(kuid, profile_id) for kuid, ids in expected.items() for profile_id in ids]
    assert await everything(storage, Table.USER_PROFILES) == sorted(
        left, key=lambda row: (row["kuid"], row["profile_id"])
    )


async def test_later_changes_see_earlier_ones(storage: Storage) -> None:
    await storage.apply(
        [
            Insert(Table.USER_PROFILES, member("a", "admin")),
            Present(Table.USER_PROFILES, {"kuid": "a"}),
            Delete(Table.USER_PROFILES, member("a", "admin")),
            Absent(Table.USER_PROFILES, {"kuid": "a"}),
            Insert(Table.USER_PROFILES, member("a", "admin")),
        ]
    )
    assert await everything(storage, Table.USER_PROFILES) == [member("a", "admin")]


async def test_no_change_at_all_is_fine(storage: Storage) -> None:
    await storage.apply([])


async def test_a_refused_apply_undoes_what_came_before_and_tells_nobody(storage: Storage) -> None:
    heard: list[Entry] = []
    storage.follow(heard.extend)
    with pytest.raises(Missing):
        await storage.apply(
            [
                Insert(Table.CREDENTIALS, credential("ann")),
                JournalEvent(EventKind.USER, "ann"),
                Delete(Table.USER_PROFILES, member("ann", "admin")),
            ]
        )
    await storage.apply([JournalEvent(EventKind.USER, "bob")])
    assert [entry.subject for entry in heard] == ["bob"]
    assert await storage.count(Table.CREDENTIALS) == 0


async def test_refusals_among_many_hurt_nobody_else(storage: Storage) -> None:
    await fill(storage, Table.USER_PROFILES, [member("taken", "p")])
    heard: list[Entry] = []
    storage.follow(heard.extend)

    def changes(number: int) -> list[Change]:
        last = member("taken" if number % 3 == 0 else f"last{number}", "p")
        return [
            Insert(Table.USER_PROFILES, member(f"first{number}", "p")),
            JournalEvent(EventKind.USER, str(number)),
            Insert(Table.USER_PROFILES, last),
        ]

    numbers = range(300)
    outcomes = await asyncio.gather(
        *(storage.apply(changes(number)) for number in numbers), return_exceptions=True
    )
    assert [isinstance(outcome, Exists) for outcome in outcomes] == [n % 3 == 0 for n in numbers]
    accepted = [number for number in numbers if number % 3]
    assert [entry.subject for entry in heard] == [str(number) for number in accepted]
    expected = {f"{half}{number}" for number in accepted for half in ("first", "last")} | {"taken"}
    assert {row["kuid"] for row in await everything(storage, Table.USER_PROFILES)} == expected


async def test_of_many_who_want_one_key_one_wins(storage: Storage) -> None:
    async def claim(number: int) -> bool:
        row: Row = {"name": "key", "value": number}
        try:
            await storage.apply([Absent(Table.SETTINGS, {}), Insert(Table.SETTINGS, row)])
        except Exists:
            return False
        return True

    won = await asyncio.gather(*(claim(number) for number in range(50)))
    assert won.count(True) == 1
    assert await everything(storage, Table.SETTINGS) == [{"name": "key", "value": won.index(True)}]


# The journal


async def test_our_own_entries_are_told_before_apply_returns_and_in_order(storage: Storage) -> None:
    heard: list[Entry] = []
    storage.follow(heard.extend)

    async def note(number: int) -> None:
        await storage.apply(
            [
                JournalEvent(EventKind.SESSION, f"{number}a"),
                JournalEvent(EventKind.RIGHTS, f"{number}b"),
            ]
        )
        assert f"{number}b" in {entry.subject for entry in heard}

    await asyncio.gather(*(note(number) for number in range(400)))
    assert sorted({entry.sequence for entry in heard}) == [entry.sequence for entry in heard]
    assert [(entry.noted, entry.subject) for entry in heard] == [
        entry
        for number in range(400)
        for entry in ((EventKind.SESSION, f"{number}a"), (EventKind.RIGHTS, f"{number}b"))
    ]


@pytest.mark.parametrize("noted", EventKind)
async def test_every_kind_of_entry_comes_back(storage: Storage, noted: EventKind) -> None:
    heard: list[Entry] = []
    storage.follow(heard.extend)
    await storage.apply([JournalEvent(noted, "é\0")])
    assert [(entry.noted, entry.subject) for entry in heard] == [(noted, "é\0")]


async def test_a_failing_listener_keeps_nobody_from_hearing(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(entries: Sequence[Entry]) -> None:
        raise RuntimeError("listener")

    heard: list[Entry] = []
    storage.follow(broken)
    storage.follow(heard.extend)
    await storage.apply([JournalEvent(EventKind.USER, "ann")])
    assert [entry.subject for entry in heard] == ["ann"]
    assert "listener" in caplog.text


async def test_two_storages_of_one_database_tell_each_other_everything_once_and_in_order(
    pair: tuple[Storage, Storage],
) -> None:
    heard: tuple[list[Entry], list[Entry]] = ([], [])
    complete = asyncio.Event()
    rounds = 60

    def listener(place: int) -> Callable[[Sequence[Entry]], None]:
        def listen(entries: Sequence[Entry]) -> None:
            heard[place].extend(entries)
            if all(len(entries) >= 2 * rounds for entries in heard):
                complete.set()

        return listen

    for place, storage in enumerate(pair):
        storage.follow(listener(place))

    async def write(place: int) -> None:
        for number in range(rounds):
            await pair[place].apply([JournalEvent(EventKind.USER, f"{place}:{number}")])

    await asyncio.gather(write(0), write(1))
    await in_time(complete.wait())
    assert heard[0] == heard[1]
    sequences = [entry.sequence for entry in heard[0]]
    assert sequences == sorted(set(sequences))
    for place in (0, 1):
        mine = [entry.subject for entry in heard[0] if entry.subject.startswith(f"{place}:")]
        assert mine == [f"{place}:{number}" for number in range(rounds)]


async def test_entries_from_before_are_not_told(pair: tuple[Storage, Storage]) -> None:
    one, other = pair
    await one.close()
    await other.apply([JournalEvent(EventKind.USER, "while away")])
    heard: list[Entry] = []
    one.follow(heard.extend)
    await one.open()
    await one.apply([JournalEvent(EventKind.USER, "after")])
    assert [entry.subject for entry in heard] == ["after"]


async def test_what_one_storage_wrote_the_other_reads(pair: tuple[Storage, Storage]) -> None:
    one, other = pair
    await one.apply([Insert(Table.USER_PROFILES, member("ann", "admin"))])
    assert await other.exists(Table.USER_PROFILES, kuid="ann")
    with pytest.raises(Exists):
        await other.apply([Insert(Table.USER_PROFILES, member("ann", "admin"))])


# Opening, closing, cancelling


async def test_before_open_and_after_close_it_is_unavailable(
    backend: Backend, tmp_path: Path
) -> None:
    storage = backend(tmp_path)

    async def refuses() -> None:
        for ask in (
            storage.get(Table.SETTINGS, name="n"),
            storage.find(Table.SETTINGS, limit=1),
            storage.exists(Table.SETTINGS),
            storage.count(Table.SETTINGS),
            storage.apply([]),
        ):
            with pytest.raises(Unavailable):
                await ask
        assert not await storage.check()

    await refuses()
    await storage.open()
    assert await storage.check()
    await storage.close()
    await refuses()
    await storage.close()


async def test_close_finishes_what_was_taken(backend: Backend, tmp_path: Path) -> None:
    storage = backend(tmp_path)
    heard: list[Entry] = []
    storage.follow(heard.extend)
    await storage.open()
    writes = [
        asyncio.create_task(storage.apply([JournalEvent(EventKind.USER, str(number))]))
        for number in range(600)
    ]
    await asyncio.sleep(0)  # until all of them wait for the database
    await storage.close()
    assert await asyncio.gather(*writes) == [None] * 600
    assert len(heard) == 600


async def test_a_cancelled_caller_hurts_nobody(storage: Storage) -> None:
    writes = [
        asyncio.create_task(storage.apply([Insert(Table.USER_PROFILES, member(str(n), "p"))]))
        for n in range(100)
    ]
    reads = [asyncio.create_task(storage.count(Table.USER_PROFILES)) for _ in range(100)]
    await asyncio.sleep(0)  # until all of them wait for the database
    for task in writes[::2] + reads[::2]:
        task.cancel()
    await asyncio.gather(*writes[1::2], *reads[1::2])
    assert all(task.cancelled() for task in writes[::2] + reads[::2])
    there = {row["kuid"] for row in await everything(storage, Table.USER_PROFILES)}
    assert there >= {str(n) for n in range(1, 100, 2)}
    await storage.apply([Insert(Table.USER_PROFILES, member("after", "p"))])


# Against a model


@dataclass
class Model:
    """What the promises of `server.storage.base` come to, on a dict."""

    rows: dict[Table, dict[tuple[object, ...], Row]] = field(
        default_factory=lambda: {table: {} for table in Table}
    )

    def apply(self, changes: Sequence[Change]) -> type[Exception] | None:
        before = {
            table: {key: dict(row) for key, row in rows.items()}
            for table, rows in self.rows.items()
        }
        for change in changes:
            refusal = self._change(change)
            if refusal is not None:
                self.rows = before
                return refusal
        return None

    def _change(self, change: Change) -> type[Exception] | None:
        if isinstance(change, JournalEvent):
            return None
        shape, rows = SHAPES[change.table], self.rows[change.table]
        match change:
            case Insert(_, row) | Put(_, row):
                key = tuple(row[name] for name in shape.key)
                if isinstance(change, Insert) and key in rows:
                    return Exists
                return self._set(change.table, key, dict(row))
            case Update(_, key_row, values):
                key = tuple(key_row[name] for name in shape.key)
                if key not in rows:
                    return Missing
                return self._set(change.table, key, rows[key] | values)
            case Delete(_, key_row):
                key = tuple(key_row[name] for name in shape.key)
                return None if rows.pop(key, None) is not None else Missing
            case DeleteAll(table, where, below):
                for row in self._matching(table, where):
                    if all(isinstance(v := row[n], int) and v < b for n, b in below.items()):
                        del rows[tuple(row[name] for name in shape.key)]
            case Absent(table, where):
                return Exists if self._matching(table, where) else None
            case Present(table, where):
                return None if self._matching(table, where) else Missing
            case Unchanged(_, row):
                return None if row in rows.values() else Missing
        return None

    def _set(self, table: Table, key: tuple[object, ...], row: Row) -> type[Exception] | None:
        for group in SHAPES[table].unique:
            for other, existing in self.rows[table].items():
                if other != key and all(existing[name] == row[name] for name in group):
                    return Exists
        self.rows[table][key] = row
        return None

    def _matching(self, table: Table, where: Row) -> list[Row]:
        rows = self.rows[table].values()
        return [row for row in rows if all(row[name] == value for name, value in where.items())]


NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(0, 3)
CREDENTIALS = st.builds(
    lambda name, kuid, at, data: credential(name, kuid, updated_at=at, data=data),
    NAMES,
    NAMES,
    st.none() | NUMBERS,
    st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2)),
)
MEMBERS = st.builds(member, NAMES, NAMES)
KEYS = st.builds(lambda name: {"strategy": "local", "id": name}, NAMES)
WHERES = st.fixed_dictionaries({}, optional={"kuid": NAMES, "updated_at": st.none() | NUMBERS})
VALUES = st.fixed_dictionaries({}, optional={"kuid": NAMES, "updated_at": st.none() | NUMBERS})
BELOWS = st.fixed_dictionaries({}, optional={"updated_at": NUMBERS})
C, P = st.just(Table.CREDENTIALS), st.just(Table.USER_PROFILES)
CHANGES = st.one_of(
    st.builds(Insert, C, CREDENTIALS),
    st.builds(Insert, P, MEMBERS),
    st.builds(Put, C, CREDENTIALS),
    st.builds(Put, P, MEMBERS),
    st.builds(Update, C, KEYS, VALUES),
    st.builds(Delete, C, KEYS),
    st.builds(Delete, P, MEMBERS),
    st.builds(DeleteAll, C, WHERES, BELOWS),
    st.builds(DeleteAll, P, st.builds(lambda name: {"kuid": name}, NAMES)),
    st.builds(Absent, C, WHERES),
    st.builds(Present, C, WHERES),
    st.builds(Unchanged, C, CREDENTIALS),
    st.builds(JournalEvent, st.just(EventKind.USER), NAMES),
)
# Applies that are begun together, several times.
ROUNDS = st.lists(st.lists(st.lists(CHANGES, max_size=4), min_size=1, max_size=5), max_size=6)


async def compare(storage: Storage, rounds: list[list[list[Change]]]) -> None:
    model = Model()
    heard: list[Entry] = []
    expected: list[str] = []
    storage.follow(heard.extend)
    await storage.open()
    try:
        for together in rounds:
            outcomes = await asyncio.gather(
                *(storage.apply(changes) for changes in together), return_exceptions=True
            )
            for changes, outcome in zip(together, outcomes, strict=True):
                refusal = model.apply(changes)
                assert (None if outcome is None else type(outcome)) is refusal
                if refusal is None:
                    expected += [c.subject for c in changes if isinstance(c, JournalEvent)]
            for table in (Table.CREDENTIALS, Table.USER_PROFILES):
                rows = model.rows[table]
                assert await everything(storage, table) == [rows[key] for key in sorted(rows)]
        assert [entry.subject for entry in heard] == expected
    finally:
        await storage.close()


@pytest.mark.parametrize("name", sorted(BACKENDS))
@settings(max_examples=60, deadline=None)
@given(rounds=ROUNDS)
def test_any_changes_do_what_the_model_says(name: str, rounds: list[list[list[Change]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(compare(BACKENDS[name](Path(directory)), rounds))
