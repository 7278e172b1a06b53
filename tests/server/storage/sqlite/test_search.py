"""Searches as the store answers them: against a model, with hostile names and values, in time and
in size (docs/api/security.md#searches, docs/architecture.md)."""

import asyncio
import gc
import itertools
import math
import re
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ApiError
from server.auth.search.body import MOST_ORDERS
from server.auth.search.patterns import read_expressions, read_wildcard
from server.auth.search.terms import MOST_LEAVES, MOST_LEVELS, MOST_NAMES
from server.storage.automata import MANY, ONE, Item, Matcher, Times, literal
from server.storage.base import (
    Delete,
    DeleteAll,
    Exists,
    Insert,
    InsertAll,
    RemoveProfile,
    Storage,
    Unavailable,
    Written,
)
from server.storage.query import (
    MOST_SORTED_CHARACTERS,
    AllOf,
    Bound,
    Everything,
    Fits,
    Has,
    Holds,
    InRange,
    InWords,
    IsIn,
    Leaf,
    Not,
    Position,
    Query,
    SomeOf,
)
from server.storage.rows import Row, Table
from server.storage.search import USERS, Found, Key, Order, Search, TooLarge, TooSlow
from server.storage.sqlite.conditions import Bindings, Conditions
from server.storage.sqlite.connections import FilePlace, Link
from server.storage.sqlite.searcher import MOST_S, MOST_WAITING, SEARCH_STATEMENTS, Ask, Searcher
from server.storage.sqlite.storage import SqliteStorage
from server.storage.sqlite.threads import Job
from tests.support.search_model import fits, matches, values_of

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


@asynccontextmanager
async def opened(path: str = ":memory:") -> AsyncIterator[SqliteStorage]:
    """Give a store."""
    storage = SqliteStorage(path, clock_ms=lambda: 1)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


async def name(storage: SqliteStorage, fields: Iterable[str]) -> None:
    """Have fields indexed, and wait until all is there."""
    await storage.index_fields(fields)
    if storage.indexing is not None:
        await storage.indexing


def ids(found: Found) -> list[object]:
    """Give the users found."""
    return [row["kuid"] for row in found.rows]


TEXTS = ["", "a", "ab", "A b", "ab ba", "é", "1", "2.0", "1e3", "true", "\ud7ff", "\U0010ffff"]
CONTENTS: list[dict[str, object]] = [
    {},
    *({"a": text} for text in TEXTS),
    *({"a": number} for number in (-2, 0, 1, 2, 1.0, 0.5, 1e3, 2**63, 2**64 - 1, 1e300)),
    *({"a": value} for value in (None, True, False, [], {}, {"c": 1}, [[1]], [{"c": "a"}])),
    {"a": [1, "a", None, True, "ab ba"]},
    {"a": ["1", 0.5]},
    {"a": "b", "b": {"c": 1}},
    {"a": "B", "b": {"c": ["a", "ab"], "d": None}},
    {"b": {"c": {"d": "ab"}}},
    {"b": {"c": [True, None]}},
    {"b": "c"},
    {"b": {"c": "1", "d": "x"}, "tags": ["a"]},
    {"tags": ["a", "a", "ab"], '"': "a", "[0]": 1, "x y": "ab"},
    {"tags": "a", "_id": "u1", "profileIds": "editor", "$": "a", "'": "a"},
]
ARRAYS_ON_THE_WAY: list[dict[str, object]] = [
    {"b": [{"c": 1}, {"c": "ab"}, {"d": 2}, None, 5]},
    {"b": [[{"c": 1}]]},
    {"b": [{"c": ["a", 2]}, {"c": [True]}]},
]
FIELDS = ["a", "b", "b.c", "tags", "profileIds", "_id"]
FURTHER = ["b.c.d", '"', "[0]", "x y", "$", "'", "nowhere", "a.c", "a.0", "b.", ".", "b..c"]
FURTHER += ["_kuzzle_info.createdAt", "_kuzzle_info.author"]
PATTERNS = [read_wildcard(written) for written in ("*a", "a*b", "?", "*", "", "a**?")]
PATTERNS += [
    read_expressions(written)[0] for written in ("[ab]+", "a?b?", "[^a]*", ".*é", "u[1-3]")
]
BOUNDS: list[tuple[Bound | None, ...]] = [
    (None, None, None, None),
    (None, 1, None, 1),
    (0, None, 2, None),
    (None, 0.5, None, None),
    (None, None, None, 0),
    (None, "a", None, "ab"),
    ("a", None, None, None),
    (None, None, "b", None),
    (None, "1", "2.0", None),
    (None, 0, "b", None),
    (None, "é", None, "\U0010ffff"),
    (None, None, None, "1e999"),
]


def leaves_of(field: str) -> Iterator[Leaf]:
    """Give every kind of question about a field."""
    yield Has(field)
    for text in (*TEXTS, "u1", "editor", "-2", "1e300", "18446744073709551615", "5", "'"):
        yield IsIn(field, frozenset({text}))
        yield from (Holds(field, text, position) for position in Position)
    yield IsIn(field, frozenset({"a", "1", "u2", "default"}))
    yield IsIn(field, frozenset())
    yield from (InRange(field, *bounds) for bounds in BOUNDS)
    for words in ((), ("a",), ("b",), ("ab", "ba"), ("a", "b")):
        yield from (InWords(field, words, is_start) for is_start in (False, True))
    for pattern in PATTERNS:
        yield from (Fits(field, pattern, by_word) for by_word in (False, True))


LEAVES: list[Query] = [leaf for field in FIELDS for leaf in leaves_of(field)]
LEAVES += [leaf for field in FURTHER for leaf in (Has(field), Holds(field, ""), InRange(field))]
LEAVES += [IsIn(field, frozenset({text})) for field in FURTHER for text in ("a", "1", "ab", "5")]
CORPORA = {
    "plain": [user(f"u{at}", content) for at, content in enumerate(CONTENTS)],
    "arrays": [
        user(f"u{at:02}", content, *("default", "editor", "1")[: at % 3 + 1])
        for at, content in enumerate(CONTENTS + ARRAYS_ON_THE_WAY)
    ],
}


@pytest.mark.parametrize(
    ("corpus", "is_indexed"), [("plain", False), ("plain", True), ("arrays", True)]
)
async def test_every_leaf_finds_what_the_model_finds(corpus: str, is_indexed: bool) -> None:
    """docs/api/security.md#searches: with and without an index, for users older and younger than
    it."""
    rows = CORPORA[corpus]
    async with opened() as storage:
        await add(storage, rows[::2])
        if is_indexed:
            await name(storage, INDEXED)
        await add(storage, rows[1::2])
        for leaf in LEAVES:
            found = await storage.search(Search(USERS, leaf, size=100))
            wanted = [row["kuid"] for row in rows if matches(leaf, document(row))]
            assert ids(found) == sorted(wanted), leaf
            assert found.total == len(wanted), leaf


TREES: st.SearchStrategy[Query] = st.recursive(
    st.sampled_from([Everything(), *LEAVES]),
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(SomeOf, st.lists(inner, max_size=3).map(tuple), st.integers(0, 3)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)
ORDERS = st.lists(st.builds(Order, st.sampled_from(FIELDS), st.booleans()), max_size=3).map(tuple)


@pytest.fixture(scope="module")
def filled() -> Iterator[Callable[[Search], Found]]:
    """A function that searches a store with all the users there are."""
    with asyncio.Runner() as runner:
        storage = SqliteStorage(":memory:", clock_ms=lambda: 1)

        async def fill() -> None:
            await storage.open()
            await add(storage, CORPORA["arrays"])
            await name(storage, INDEXED)

        runner.run(fill())
        yield lambda search: runner.run(storage.search(search))
        runner.run(storage.close())


@settings(deadline=None, max_examples=80)
@given(TREES, ORDERS, st.integers(3, 20))
def test_pages_of_trees_are_what_the_model_finds_in_its_order(
    filled: Callable[[Search], Found], query: Query, sort: tuple[Order, ...], size: int
) -> None:
    """docs/api/security.md#searches: every match once, in order, however the pages are reached;
    exact totals."""
    wanted = [row for row in CORPORA["arrays"] if matches(query, document(row))]
    expected = [row["kuid"] for row in in_order(wanted, sort)]
    search = Search(USERS, query, sort=sort, size=size)
    assert ids(filled(replace(search, size=100))) == expected
    seen: list[object] = []
    after: tuple[Key, ...] = ()
    for start in range(0, len(expected) + size, size):
        by_count = filled(replace(search, start=start))
        by_key = filled(replace(search, after=after))
        assert ids(by_count) == ids(by_key)
        assert by_count.total == by_key.total == len(expected)
        seen += ids(by_key)
        after = by_key.last or after
    assert seen == expected


def in_order(rows: list[Row], sort: tuple[Order, ...]) -> list[Row]:
    """Sort users as searches do: numbers before texts, those without a value last."""
    rows = sorted(rows, key=lambda row: str(row["kuid"]))
    for order in reversed(sort):
        keyed = [(key_of(document(row), order), row) for row in rows]
        some = [pair for pair in keyed if pair[0] is not None]
        some.sort(key=lambda pair: pair[0], reverse=order.is_descending)
        rows = [row for _, row in some] + [row for key, row in keyed if key is None]
    return rows


def key_of(document: dict[str, object], order: Order) -> tuple[bool, object] | None:
    """Give what a document is sorted by."""
    values = [(isinstance(value, str), value) for value in values_of(document, order.field)]
    if not values:
        return None
    return max(values) if order.is_descending else min(values)


async def test_fields_with_an_index_are_bounded_and_plain() -> None:
    """CONTRIBUTING.md, limits: names no path can say, and those beyond the bound, are left out."""
    async with opened() as storage:
        names = ['"', "a\\b", "x\0", "", ".a", "a.", "a..b", "f" * 257, "profileIds", "_id"]
        await name(storage, [*names, "_kuzzle_info.author", *(f"f{at}" for at in range(99))])
        rows = [user(f"u{at}", {f"f{at}": 1, "f0": 1, "a\\b": 1}) for at in range(40)]
        await add(storage, rows)
        for field in ("f0", "f31", "f32", "a\\b"):
            wanted = [row["kuid"] for row in rows if field in row["content"]]
            found = await storage.search(Search(USERS, IsIn(field, frozenset({"1"})), size=100))
            assert ids(found) == sorted(wanted)


async def test_users_of_one_profile_are_counted_as_they_come_and_go() -> None:
    """The total of a page is right after each kind of change to who has a profile."""

    def found_by(profile_id: str, size: int = 2) -> Search:
        return Search(USERS, IsIn("profileIds", frozenset({profile_id})), size=size)

    async with opened() as storage:

        async def totals() -> list[int | None]:
            names = ("a", "b", "nobody's")
            return [(await storage.search(found_by(name))).total for name in names]

        rows: list[Written] = [(f"u{at}", "a") for at in range(9)]
        rows += [(f"u{at}", "b") for at in range(4)]
        users: list[Written] = [(f"u{at}", "[]", "{}", "{}", 0) for at in range(9)]
        await storage.apply([InsertAll(Table.USERS, users), InsertAll(Table.USER_PROFILES, rows)])
        assert await totals() == [9, 4, 0]
        await storage.apply([Delete(Table.USER_PROFILES, {"kuid": "u1", "profile_id": "a"})])
        assert await totals() == [8, 4, 0]
        with pytest.raises(Exists):
            await storage.apply([InsertAll(Table.USER_PROFILES, [("u1", "a"), ("u2", "a")])])
        assert await totals() == [8, 4, 0]
        await storage.apply([DeleteAll(Table.USER_PROFILES, {"kuid": "u0"})])
        assert await totals() == [7, 3, 0]
        await storage.apply([RemoveProfile("b", instead="a", most=9)])
        assert await totals() == [8, 0, 0]
        for size in (0, 1, 8, 9):
            assert (await storage.search(found_by("a", size))).total == 8
            assert (await storage.search(found_by("b", size))).total == 0


async def test_an_index_is_finished_after_a_restart(tmp_path: Path) -> None:
    """Older values are added in small steps; what a stop leaves over is done at the next start."""
    path = str(tmp_path / "keys.db")
    async with opened(path) as storage:
        await add(storage, [user(f"u{at:04}", {"a": at % 10}) for at in range(1500)])
        await storage.index_fields(["a"])
    async with opened(path) as storage:
        assert storage.indexing is not None
        await storage.indexing
        found = await storage.search(Search(USERS, IsIn("a", frozenset({"3"})), size=5))
        assert found.total == 150
        assert ids(found) == [f"u{at:04}" for at in range(3, 50, 10)]


def searcher(path: Path, clock_s: Callable[[], float]) -> Searcher:
    """Give a searcher of a file, with a clock of ours."""
    place = FilePlace(str(path), busy_timeout_ms=1000)
    place.prepare()
    return Searcher(Link(place), clock_s)


async def ask(searching: Searcher, search: Search, deadline_s: float) -> Job[Ask, Found]:
    """Have a search answered."""
    job = Job[Ask, Found](Ask(search, deadline_s), asyncio.get_running_loop().create_future())
    searching.work([job])
    return job


async def test_a_search_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """docs/architecture.md, "everything that can grow has a named bound": also in the middle of its
    work, and then the next one is answered."""
    path = tmp_path / "keys.db"
    async with opened(str(path)) as storage:
        await storage.apply([Insert(Table.USERS, user(f"u{at}", {"a": at})) for at in range(3000)])
    now_s = itertools.count()
    searching = searcher(path, lambda: float(next(now_s)))
    late = await ask(searching, Search(USERS), deadline_s=0)
    assert isinstance(late.error, TooSlow)
    slow = Search(USERS, SomeOf(tuple(Has(f"x{at}") for at in range(50))))
    cut = await ask(searching, slow, deadline_s=5)
    assert isinstance(cut.error, TooSlow)
    in_time = await ask(searching, Search(USERS), deadline_s=1e9)
    assert in_time.answer is not None
    assert in_time.answer.total == 3000


async def test_a_page_is_bounded_in_weight() -> None:
    """Ten thousand documents of a megabyte don't get into memory."""
    async with opened() as storage:
        long = "x" * 1_000_000
        await add(storage, [user(f"u{at:02}", {"long": long}) for at in range(20)])
        with pytest.raises(TooLarge):
            await storage.search(Search(USERS, size=100))
        found = await storage.search(Search(USERS, size=3))
        assert (len(found.rows), found.total) == (3, 20)


async def test_of_long_texts_the_start_decides_the_order() -> None:
    """Sorting keeps the start of each text in memory, not a megabyte of each user; whoever goes on
    behind a hit may name the whole text."""
    start = "é" * MOST_SORTED_CHARACTERS
    values = [f"{start}z", f"{start}y", [f"{start}x", f"{start}w"], f"{start[1:]}zz", 7]
    async with opened() as storage:
        await add(storage, [user(f"u{at}", {"a": value}) for at, value in enumerate(values)])
        for is_descending, expected in (
            (False, ["u4", "u3", "u0", "u1", "u2"]),
            (True, ["u0", "u1", "u2", "u3", "u4"]),
        ):
            search = Search(USERS, sort=(Order("a", is_descending), Order("_id")))
            found = await storage.search(search)
            assert ids(found) == expected
            assert found.total == len(values)
            behind = await storage.search(replace(search, after=(f"{start}z", "u0")))
            assert ids(behind) == expected[expected.index("u0") + 1 :]
        by_kuid = Search(USERS, sort=(Order("_id"),))
        long = "v" * (MOST_SORTED_CHARACTERS + 1)
        await add(storage, [user(long + end, {}) for end in "ab"])
        assert ids(await storage.search(replace(by_kuid, after=(f"{long}a",)))) == [f"{long}b"]


async def test_statements_of_searches_are_not_kept(tmp_path: Path) -> None:
    """A statement is as long as the query somebody sent, and takes up to megabytes."""
    async with opened(str(tmp_path / "keys.db")) as storage:
        before = count_statements()
        for at in range(3 * SEARCH_STATEMENTS):
            search = Search(USERS, SomeOf((Has("a"), *[IsIn("b", frozenset("x"))] * at)))
            assert (await storage.search(search)).total == 0
        assert 0 < count_statements() - before <= SEARCH_STATEMENTS


def count_statements() -> int:
    """Count the statements that all connections keep ready."""
    kinds = map(type, gc.get_objects())
    return sum((kind.__module__, kind.__name__) == ("sqlite3", "Statement") for kind in kinds)


async def test_other_reads_do_not_wait_for_a_search(tmp_path: Path) -> None:
    """docs/architecture.md: the thread that requests read with is not the one that searches."""
    async with opened(str(tmp_path / "keys.db")) as storage:
        await add(storage, [user("ann", {})])
        begun, may_go_on = threading.Event(), threading.Event()

        def hold(text: str) -> bool:
            begun.set()
            return may_go_on.wait(10)

        pattern = (Held(hold),)
        search = asyncio.create_task(storage.search(Search(USERS, Fits("_id", pattern))))
        await asyncio.to_thread(begun.wait, 10)
        assert await storage.get(Table.USERS, kuid="ann") is not None
        await add(storage, [user("bob", {})])
        assert not search.done()
        may_go_on.set()
        await search


class Held:
    """An item of a pattern that takes as long as the test wants."""

    times = Times.ONCE
    ranges = ()

    def __init__(self, has: Callable[[str], bool]) -> None:
        self.has = has


async def test_waiting_searches_are_bounded(tmp_path: Path) -> None:
    """Beyond the bound a search is refused, not queued."""
    async with opened(str(tmp_path / "keys.db")) as storage:
        searches = [storage.search(Search(USERS)) for _ in range(MOST_WAITING + 5)]
        outcomes = await asyncio.gather(*searches, return_exceptions=True)
        assert sum(isinstance(outcome, Unavailable) for outcome in outcomes) == 5
        assert sum(isinstance(outcome, Found) for outcome in outcomes) == MOST_WAITING


def nested(wrap: Callable[[Query], Query]) -> Query:
    """Give clauses inside of one another, as deep as the languages let them be."""
    query: Query = AllOf((InRange("a.b", "1", "1", "2", "2"), Holds("a.b", "x", Position.END)))
    for _ in range(MOST_LEVELS):
        query = wrap(query)
    return query


@pytest.mark.parametrize(
    "query",
    [
        SomeOf(tuple(InRange(f"f{at}", "1", "1", "2", "2") for at in range(MOST_LEAVES))),
        SomeOf(tuple(IsIn("profileIds", frozenset({str(at)})) for at in range(2 * MOST_LEAVES))),
        SomeOf(
            tuple(IsIn("_id", frozenset({str(at)})) for at in range(2 * MOST_LEAVES)), MOST_LEAVES
        ),
        AllOf(tuple(Not(Has(".".join([f"n{at}"] * MOST_NAMES))) for at in range(50))),
        IsIn("f", frozenset(str(at) for at in range(1000))),
        Has(".".join("a" * MOST_NAMES)),
        nested(lambda inner: AllOf((Has("a"), SomeOf((Has("b"), Has("c"), inner), 2)))),
        nested(lambda inner: AllOf((Has("a"), SomeOf((Has("b"), inner)), Not(Has("d"))))),
        nested(lambda inner: AllOf((Has("a"), Not(inner)))),
    ],
    ids="wide united counted names values name sums alternatives negations".split(),
)
async def test_the_largest_queries_can_be_written(
    monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    """What the languages let through keeps within SQLite's own bounds, however long it takes."""
    monkeypatch.setattr("server.storage.sqlite.storage.MOST_S", math.inf)
    async with opened() as storage:
        await add(storage, [user("ann", {"f": "7"})])
        assert (await storage.search(Search(USERS, query))).total in (0, 1)
        orders = tuple(Order(f"{'a.' * (MOST_NAMES - 1)}f{at}") for at in range(MOST_ORDERS))
        after: tuple[Key, ...] = ("x",) * MOST_ORDERS
        await storage.search(Search(USERS, query, sort=orders, after=after))


@settings(deadline=None)
@given(st.text("ab*?", max_size=6), st.text("abc", max_size=6))
def test_wildcards_are_what_the_model_says(written: str, text: str) -> None:
    """Against a matcher that tries every way."""
    pattern = read_wildcard(written)
    assert Matcher(pattern).fits(text) is fits(pattern, text)


@settings(deadline=None)
@given(st.text("abc.*+?[]^|-", max_size=8), st.text("abc", max_size=6))
def test_expressions_are_what_python_says(written: str, text: str) -> None:
    """Those that can be read mean what they mean elsewhere."""
    try:
        patterns = read_expressions(written)
    except ApiError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = re.fullmatch(written, text, re.DOTALL) is not None
    assert any(Matcher(pattern).fits(text) for pattern in patterns) is expected
    assert Matcher(*patterns).fits(text) is expected


def test_matcher_class_of_many_members_looks_at_each_stretch_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A text with 20,000 different characters, and a class with 1,000 members: the class is asked
    for each stretch between its members, not for each character."""
    asked: list[str] = []
    has = Item.has

    def count(item: Item, character: str) -> bool:
        asked.append(character)
        return has(item, character)

    monkeypatch.setattr(Item, "has", count)
    members = "".join(chr(0x4E00 + 2 * at) for at in range(1000))
    matcher = Matcher(*read_expressions(f".*[{members}]x"))
    text = "".join(chr(0x4E00 + at) for at in range(20_000))
    assert not matcher.fits(text)
    assert matcher.fits(text + chr(0x4E00) + "x")
    assert len(asked) <= 3 * (2 * 1000 + 5)


async def test_search_pattern_beyond_its_time_looks_at_no_further_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The time of a search is asked for before each text: SQLite's own steps are too far apart
    where each of them is a long text."""
    held: list[str] = []
    now_s = 0.0

    def hold(matcher: Matcher, text: str) -> bool:
        nonlocal now_s
        held.append(text)
        now_s = MOST_S + 1
        return False

    monkeypatch.setattr(Matcher, "fits", hold)
    async with opened(str(tmp_path / "keys.db")) as storage:
        await add(storage, [user(name, {}) for name in ("ann", "bob", "cid")])
    place = FilePlace(str(tmp_path / "keys.db"), 1000)
    place.prepare()
    searcher = Searcher(Link(place), clock_s=lambda: now_s)
    loop = asyncio.get_running_loop()
    search = Search(USERS, Fits("_id", (MANY, literal("n"))))
    job = Job[Ask, Found](Ask(search, MOST_S), loop.create_future())
    searcher.work([job])
    assert isinstance(job.error, TooSlow)
    assert len(held) == 1


def test_search_alternative_patterns_of_a_field_are_matched_together() -> None:
    """60 alternatives of a regular expression cost one pass over each text."""
    pattern = (MANY, literal("n"), ONE)
    query = SomeOf((Fits("_id", pattern), SomeOf(tuple([Fits("_id", pattern)] * 60))))
    bindings = Bindings()
    sql = Conditions(USERS, bindings).of(query)
    assert sql.count("fits(") == 1
    assert len(bindings.matchers) == 1
    assert Conditions(USERS, bindings).of(SomeOf((SomeOf(()), SomeOf(())))) == "0"


@pytest.mark.parametrize("written", ["a?" * 120 + "a" * 120, "a*" * 250 + "b", "[a-z]*" * 99 + "!"])
def test_patterns_take_no_longer_on_any_text(written: str) -> None:
    """CWE-1333: a matcher that tries back would never end here."""
    (pattern,) = read_expressions(written)
    assert not Matcher(pattern).fits("a" * 5000 + "?")
