"""Searches as the store answers them: against a model, with hostile names and values, in time and
in size (contract/03 §7.7, design §5)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.auth.querypatterns import read_expressions, read_wildcard
from server.storage.base import Delete, Insert, Row, Storage, Table, Update
from server.storage.queries import (
    AllOf,
    Everything,
    Fits,
    Has,
    Holds,
    InRange,
    InWords,
    IsIn,
    Not,
    Position,
    Query,
    SomeOf,
)
from server.storage.search import API_KEYS, USERS, Found, Order, Search
from server.storage.sqlite import SqliteStorage
from tests.server.naive import matches, values_of

INFO = {"author": None, "createdAt": 5, "updatedAt": None, "updater": None}
INDEXED = ["a", "b.c", "tags"]


def user(kuid: str, content: dict[str, object], *profile_ids: str) -> Row:
    """Give a row of users."""
    return {
        "kuid": kuid,
        "profile_ids": list(profile_ids or ("default",)),
        "content": content,
        "info": INFO,
        "disabled": 0,
    }


def document(row: Row) -> dict[str, object]:
    """Give a user as searches see him."""
    content = row["content"]
    assert isinstance(content, dict)
    own = {"_id": row["kuid"], "profileIds": row["profile_ids"], "_kuzzle_info": row["info"]}
    return {**content, **own}


async def add(storage: Storage, rows: Iterable[Row]) -> None:
    """Store users."""
    for row in rows:
        members = [
            Insert(Table.USER_PROFILES, {"kuid": row["kuid"], "profile_id": profile_id})
            for profile_id in row["profile_ids"]
        ]
        await storage.apply([Insert(Table.USERS, row), *members])


def in_storage(work: Callable[[SqliteStorage], Awaitable[None]]) -> None:
    """Do some work with an empty store in memory."""

    async def run() -> None:
        storage = SqliteStorage(":memory:", clock_ms=lambda: 1)
        await storage.open()
        try:
            await work(storage)
        finally:
            await storage.close()

    asyncio.run(run())


async def indexed(storage: SqliteStorage) -> None:
    """Wait until every field that was named is there in full."""
    if storage.indexing is not None:
        await storage.indexing


def ids(found: Found) -> list[object]:
    """Give the users found."""
    return [row["kuid"] for row in found.rows]


CHARACTERS = st.sampled_from("ab1 -é")
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=4),
    st.sampled_from(["1", "true", "A b", "ab ba", "\ud7ff", "\U0010ffff", "2.0", "1e3", '"', "%"]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([1.0, 0.5, -2.5, 2**63, 1e3]), TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["c", "d", "1"]), inner, max_size=2),
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(["a", "b", "tags", "x y", '"', "[0]"])
CONTENTS = st.dictionaries(NAMES, VALUES, max_size=4)
PROFILES = st.lists(st.sampled_from(["default", "editor", "1"]), min_size=1, max_size=3, unique=True)
USER_LISTS = st.lists(st.tuples(CONTENTS, PROFILES), max_size=6)
FIELDS = st.sampled_from(
    "a b b.c b.c.d tags profileIds _id _kuzzle_info.createdAt _kuzzle_info.author nowhere".split()
    + ['"', "[0]", "x y", "a.1", "b.", ".", "a..c"]
)
BOUNDS = st.one_of(st.none(), st.integers(-2, 3), st.sampled_from([0.5, 1.0]), TEXTS)
WORDS = st.lists(st.sampled_from(["a", "b", "ab", "é"]), max_size=2).map(tuple)
PATTERNS = st.one_of(
    st.text(st.sampled_from("ab1*?"), max_size=5).map(read_wildcard),
    st.sampled_from(["a*b", "[ab]+", "a?b?", ".*é", "[^a]*", "(?", "a|b"])
    .filter(lambda text: "(" not in text)
    .map(lambda text: read_expressions(text)[0]),
)
LEAVES = st.one_of(
    st.just(Everything()),
    st.builds(IsIn, FIELDS, st.frozensets(TEXTS, max_size=3)),
    st.builds(IsIn, st.just("_id"), st.frozensets(st.sampled_from(["u0", "u1", "u5"]))),
    st.builds(IsIn, st.just("profileIds"), st.frozensets(st.sampled_from(["default", "editor"]))),
    st.builds(Holds, FIELDS, TEXTS, st.sampled_from(Position)),
    st.builds(InWords, FIELDS, WORDS, st.booleans()),
    st.builds(Fits, FIELDS, PATTERNS, st.booleans()),
    st.builds(InRange, FIELDS, BOUNDS, BOUNDS, BOUNDS, BOUNDS),
    st.builds(Has, FIELDS),
)
QUERIES: st.SearchStrategy[Query] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(SomeOf, st.lists(inner, max_size=3).map(tuple), st.integers(0, 3)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)
ORDERS = st.lists(st.builds(Order, FIELDS, st.booleans()), max_size=3).map(tuple)


def rows_of(listed: list[tuple[dict[str, object], list[str]]]) -> list[Row]:
    """Give users u0, u1 and so on, as JSON would have them."""
    return [
        user(f"u{at}", orjson.loads(orjson.dumps(content)), *profile_ids)
        for at, (content, profile_ids) in enumerate(listed)
    ]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(USER_LISTS, QUERIES, st.sampled_from(["no", "before", "after"]))
def test_the_store_finds_what_the_model_finds(
    listed: list[tuple[dict[str, object], list[str]]], query: Query, index: str
) -> None:
    """contract/03 §7.7: with and without an index, made before the users or after them."""
    rows = rows_of(listed)

    async def work(storage: SqliteStorage) -> None:
        if index == "before":
            await storage.index_fields(INDEXED)
            await indexed(storage)
        await add(storage, rows)
        if index == "after":
            await storage.index_fields(INDEXED)
            await indexed(storage)
        found = await storage.search(Search(USERS, query, size=100))
        wanted = [row["kuid"] for row in rows if matches(query, document(row))]
        assert ids(found) == wanted
        assert found.total == len(wanted)
        assert [row["content"] for row in found.rows] == [
            row["content"] for row in rows if row["kuid"] in wanted
        ]

    in_storage(work)
