"""SQL of searches: one statement for a page of rows in order, one that counts all matches.

If a required part of the query is about an indexed field, the rows come from the index, and the
rest is tested on them; the part with the fewest rows leads. Otherwise the table is scanned.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from server.storage.query import AllOf, Everything, Holds, InRange, IsIn, Query, SomeOf
from server.storage.rows import Table
from server.storage.search import ID, Order, Search, View
from server.storage.sqlite.conditions import ANY_VALUE, TEXTS, Bindings, Conditions, joined

_SAMPLE_ROWS = 1000
_MAX_UNITED = 100  # below SQLite's limit of parts of one SELECT


@dataclass(frozen=True, slots=True)
class Index:
    """A table with one row for each owner of each value of a field, in order."""

    table: str
    value: str
    owner: str
    number: int | None = None  # of the field, if the table has several


_PROFILES = "profileIds"
_MEMBERS = Index("user_profiles", "profile_id", "kuid")


def indexes_of(view: View, fields: Mapping[str, int]) -> dict[str, Index]:
    """Return the indexes of a view's fields; `fields` are those of `sqlite_values`."""
    if view.table is not Table.USERS:
        return {}
    indexes = {
        name: Index("user_values", "value", "owner", number) for name, number in fields.items()
    }
    return indexes | {_PROFILES: _MEMBERS}


class Statements:
    """Writes the statements of one search."""

    def __init__(self, search: Search, indexes: Mapping[str, Index]) -> None:
        self.bindings = Bindings()
        self._search = search
        self._indexes = indexes
        self._conditions = Conditions(search.view, self.bindings)
        self._leading = ""  # SELECT of the owners that the rows come from
        self._leader: Query = search.query
        self._rest: Query = search.query

    def lead(self, connection: sqlite3.Connection) -> None:
        """Choose the leading index."""
        parts = _demanded(self._search.query)
        if any(isinstance(part, IsIn) and part.field == ID for part in parts):
            return  # the key's own index is better than any
        written = [(self._owners(part), at) for at, part in enumerate(parts)]
        found = [
            (self._sampled(connection, owners), owners, at) for owners, at in written if owners
        ]
        if found:
            _, self._leading, at = min(found)
            self._leader = parts[at]
            self._rest = AllOf(tuple(parts[:at] + parts[at + 1 :]))

    def page(self) -> str:
        """Return the statement for the page: in each row the table's rowid, then the sort keys."""
        orders = self._search.orders()
        keys = [self._key(order) for order in orders]
        condition = joined([self._condition(), self._behind(orders)], "AND")
        named = ", ".join(f"{key} AS s{at}" for at, key in enumerate(keys))
        directions = [_direction(order, f"s{at}") for at, order in enumerate(orders)]
        size = self.bindings.bind(self._search.size)
        start = self.bindings.bind(self._search.start)
        return (
            f"SELECT t.rowid, {named} FROM {self._source()} WHERE {condition}"  # noqa: S608
            f" ORDER BY {', '.join(directions)} LIMIT {size} OFFSET {start}"
        )

    def count(self) -> str:
        """Return the statement that counts all matches."""
        if self._leading and self._rest == AllOf(()) and not self._search.where:
            if (profile_id := self._only_profile()) is not None:
                bound = self.bindings.bind(profile_id)
                members = "SELECT coalesce(sum(members), 0) FROM profile_members"
                return f"{members} WHERE profile_id = {bound}"
            return f"SELECT count(*) FROM ({self._leading})"  # noqa: S608
        return f"SELECT count(*) FROM {self._source()} WHERE {self._condition()}"  # noqa: S608

    def _only_profile(self) -> str | None:
        """Return the profile of a search by profile alone: its users are counted already."""
        match self._leader:
            case IsIn(field, values) if field == _PROFILES and len(values) == 1:
                return next(iter(values))
        return None

    def _source(self) -> str:
        table = f'"{self._search.view.table.value}" AS t'
        if not self._leading:
            return table
        return f'({self._leading}) AS d CROSS JOIN {table} ON t."{self._search.view.key}" = d.owner'

    def _condition(self) -> str:
        given = [
            f't."{name}" = {self.bindings.bind(value)}'
            for name, value in self._search.where.items()
        ]
        return joined([*given, self._conditions.of(self._rest)], "AND")

    def _key(self, order: Order) -> str:
        if order.field == ID:
            return "d.owner" if self._leading else f't."{self._search.view.key}"'
        return self._conditions.sort_key(order.field, order.is_descending)

    def _behind(self, orders: tuple[Order, ...]) -> str:
        """Return the condition that a row comes after the one with the sort keys `after`: by the
        first of them, or the same by that and after by the second, and so on."""
        ways, same = [], []
        for at, (order, last) in enumerate(zip(orders, self._search.after, strict=False)):
            key = f"s{at}"
            if last is None:
                same.append(f"{key} IS NULL")
                continue
            bound = self._conditions.sort_bound(order.field, last)
            further = f"{key} {'<' if order.is_descending else '>'} {bound}"
            if order.field != ID:
                further = f"({further} OR {key} IS NULL)"
            ways.append(joined([*same, further], "AND"))
            same.append(f"{key} IS {bound}")
        if not self._search.after:
            return "1"
        return joined(ways, "OR") if ways else "0"

    def _owners(self, part: Query) -> str:
        """Return the SELECT of the owners that match a part of the query, by an index; "" without
        one."""
        match part:
            case IsIn() | Holds() | InRange():
                return self._owners_by(part)
            case SomeOf(parts, 1) if parts:
                each = [self._owners(inner) for inner in parts]
                return " UNION ".join(each) if all(each) and len(each) <= _MAX_UNITED else ""
        return ""

    def _owners_by(self, leaf: IsIn | Holds | InRange) -> str:
        index = self._indexes.get(leaf.field)
        if index is None:
            return ""
        holds = TEXTS if index.number is None else ANY_VALUE
        test = self._conditions.test(leaf, index.value, holds)
        if index.number is not None:
            test = joined([f"field = {index.number:d}", test], "AND")
        is_single = isinstance(leaf, IsIn) and test.count("?") == 1
        what = index.owner if is_single else f"DISTINCT {index.owner}"
        return f"SELECT {what} AS owner FROM {index.table} WHERE {test}"  # noqa: S608

    def _sampled(self, connection: sqlite3.Connection, owners: str) -> int:
        """Count the rows of a SELECT, up to the sample size."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM ({owners}) LIMIT {_SAMPLE_ROWS:d})"  # noqa: S608
        return int(self.bindings.run(connection, sql).fetchone()[0])


def _direction(order: Order, name: str) -> str:
    way = f"{name} DESC" if order.is_descending else name
    return way if order.field == ID else f"{name} IS NULL, {way}"


def _demanded(query: Query) -> list[Query]:
    """Return the required parts of a query."""
    if isinstance(query, AllOf):
        return [inner for part in query.parts for inner in _demanded(part)]
    return [] if query == Everything() else [query]
