"""SQL of changes and reads: every value is a bound parameter, every name is from `SHAPES`.

Values are checked and converted before anything reaches the database: a ValueError is the caller's
mistake, and nothing was started. Independent of transactions and threads.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain

import orjson

from server.storage.base import (
    MOST_COUNTED,
    Absent,
    Change,
    Delete,
    DeleteAll,
    Exists,
    Insert,
    InsertAll,
    JournalEvent,
    Missing,
    Present,
    Put,
    RemoveProfile,
    Unchanged,
    Update,
    Written,
)
from server.storage.rows import Row, Table, Value
from server.storage.sqlite.conversion import SqlValue, check_column, column_value, to_sql
from server.storage.sqlite.migrations import quoted
from server.storage.tables import SHAPES, Kind

OneStep = Insert | Put | Update | Delete | DeleteAll | Absent | Present | Unchanged | JournalEvent
"""The changes that are one statement each."""

_ROWS_AT_ONCE = 100
_TAKEN = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)

_UNASSIGN_DOCUMENTS = """
UPDATE users SET profile_ids = (
    SELECT CASE count(*) WHEN 0 THEN json_array(?) ELSE json_group_array(value) END
    FROM json_each(users.profile_ids) WHERE value <> ?
) WHERE kuid IN (SELECT kuid FROM user_profiles WHERE profile_id = ? ORDER BY kuid LIMIT ?)
"""
_UNASSIGN_INSTEAD = """
INSERT INTO user_profiles (kuid, profile_id) SELECT kuid, ? FROM user_profiles AS one
WHERE profile_id = ?
AND kuid IN (SELECT kuid FROM user_profiles WHERE profile_id = ? ORDER BY kuid LIMIT ?)
AND NOT EXISTS (
    SELECT 1 FROM user_profiles AS other WHERE other.kuid = one.kuid AND other.profile_id <> ?
)
"""
_UNASSIGN_ROWS = """
DELETE FROM user_profiles WHERE profile_id = ?
AND kuid IN (SELECT kuid FROM user_profiles WHERE profile_id = ? ORDER BY kuid LIMIT ?)
"""


class Demand(Enum):
    """The required effect of a statement."""

    NOTHING = auto()
    A_CHANGE = auto()
    A_ROW = auto()
    NO_ROW = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a write; `table` is None for the journal."""

    sql: str
    values: tuple[SqlValue, ...] = ()
    table: Table | None = None
    demand: Demand = Demand.NOTHING

    def run(self, connection: sqlite3.Connection) -> None:
        """Run the statement. Raises `Exists` or `Missing`, without any change."""
        try:
            cursor = connection.execute(self.sql, self.values)
        except sqlite3.IntegrityError as exc:
            if self.table is None or exc.sqlite_errorcode not in _TAKEN:
                raise
            raise Exists(self.table) from None
        rows = cursor.fetchall()  # to the end, or the statement would stay open across the commit
        if self.table is None:
            return
        if self.demand is Demand.NO_ROW and rows:
            raise Exists(self.table)
        if self.demand is Demand.A_ROW and not rows:
            raise Missing(self.table)
        if self.demand is Demand.A_CHANGE and cursor.rowcount == 0:
            raise Missing(self.table)


@dataclass(frozen=True, slots=True)
class Query:
    """One SELECT and its column types."""

    sql: str
    values: tuple[SqlValue, ...]
    columns: dict[str, Kind]

    def run(self, connection: sqlite3.Connection) -> list[Row]:
        """Run the query and return its rows."""
        rows = [
            dict(zip(self.columns, found, strict=True))
            for found in connection.execute(self.sql, self.values).fetchall()
        ]
        for name, kind in self.columns.items():
            if kind is Kind.JSON:
                for row in rows:
                    text = row[name]
                    row[name] = orjson.loads(text) if isinstance(text, str) else None
        return rows


def write_steps(changes: Iterable[Change], at_ms: int) -> list[Step]:
    """Turn changes into statements, for the journal as of `at_ms`."""
    return [step for change in changes for step in _steps(change, at_ms)]


def find_by_key(table: Table, key: Row) -> Query:
    """Query the row with this key or unique group. ValueError if the names are neither."""
    _check_unique(table, tuple(key))
    return find_where(table, key, 1)


def find_any_of(table: Table, names: tuple[str, ...], keys: Sequence[tuple[Value, ...]]) -> Query:
    """Query the rows with one of these keys or unique groups, unordered. ValueError if the names
    are neither."""
    _check_unique(table, names)
    columns = SHAPES[table].columns
    marks = ", ".join([f"({', '.join('?' * len(names))})"] * len(keys))
    sql = (  # CROSS fixes the order: each key is looked up; for `IN` the whole table would be read
        f"WITH wanted ({quoted(names)}) AS (VALUES {marks})"  # noqa: S608
        f" SELECT {quoted(tuple(columns))} FROM wanted"
        f' CROSS JOIN "{table.value}" USING ({quoted(names)})'
    )
    values = tuple(
        to_sql(table, name, columns[name], value)
        for key in keys
        for name, value in zip(names, key, strict=True)
    )
    return Query(sql, values, columns)


def find_where(table: Table, where: Row, limit: int, after: Row | None = None) -> Query:
    """Query at most `limit` rows whose columns equal `where`, in key order, after the key
    `after`."""
    if limit < 0:
        raise ValueError("limit must not be negative")
    shape = SHAPES[table]
    condition, values = _condition(table, where)
    if after is not None:
        key = _checked_key(table, after)
        marks = ", ".join("?" * len(shape.key))
        condition += f"{' AND' if where else ' WHERE'} ({quoted(shape.key)}) > ({marks})"
        values += tuple(to_sql(table, name, shape.columns[name], key[name]) for name in shape.key)
    sql = (
        f'SELECT {quoted(tuple(shape.columns))} FROM "{table.value}"{condition}'  # noqa: S608
        f" ORDER BY {quoted(shape.key)} LIMIT ?"
    )
    return Query(sql, (*values, to_sql(table, "limit", Kind.INTEGER, limit)), shape.columns)


def find_any(table: Table, where: Row) -> Query:
    """Query whether there is a row whose columns equal `where`: one row or none."""
    condition, values = _condition(table, where)
    return Query(_first(table, condition), values, {"found": Kind.INTEGER})


def count_rows(table: Table) -> Query:
    """Query the number of rows, as `rows`; SQLite scans the table's smallest index."""
    return Query(f'SELECT count(*) FROM "{table.value}"', (), {"rows": Kind.INTEGER})  # noqa: S608


def find_latest(
    table: Table, where: Row, *, least: str, below: str, start: int, limit: int
) -> tuple[Query, Query]:
    """Query a page of rows in descending order of their key, and their number, as `rows`; see
    `Storage.latest`."""
    shape = SHAPES[table]
    if len(shape.key) != 1 or min(start, limit) < 0:
        raise ValueError(
            f"{table.value} needs a key of one column, and start and limit of at least 0"
        )
    condition, values = _led_condition(table, where)
    key = quoted(shape.key)
    within = f'"{table.value}"{condition or " WHERE 1"} AND {key} >= ? AND {key} < ?'
    values += tuple(to_sql(table, "key", Kind.TEXT, bound) for bound in (least, below))
    sql = (
        f"SELECT {quoted(tuple(shape.columns))} FROM {within}"  # noqa: S608
        f" ORDER BY {key} DESC LIMIT ? OFFSET ?"
    )
    counted = f"SELECT count(*) FROM (SELECT 1 FROM {within} LIMIT ?)"  # noqa: S608
    return (
        Query(sql, (*values, limit, start), shape.columns),
        Query(counted, (*values, MOST_COUNTED), {"rows": Kind.INTEGER}),
    )


def tally_rows(table: Table, columns: tuple[str, ...]) -> Query:
    """Query the number of rows of each combination of values, as `rows`; see `Storage.tally`."""
    shape = SHAPES[table]
    if columns not in shape.indexed:
        raise ValueError(f"{table.value}: {columns} have no index")
    names = quoted(columns)
    sql = f'SELECT {names}, count(*) FROM "{table.value}" GROUP BY {names}'  # noqa: S608
    return Query(sql, (), {**{name: shape.columns[name] for name in columns}, "rows": Kind.INTEGER})


def _steps(change: Change, at_ms: int) -> list[Step]:
    if isinstance(change, InsertAll):
        return list(_insert_all(change.table, change.rows))
    return _unassign(change) if isinstance(change, RemoveProfile) else [_step(change, at_ms)]


def _step(change: OneStep, at_ms: int) -> Step:
    match change:
        case Insert(table, row):
            return _insert(table, row, "")
        case Put(table, row):
            return _put(table, row)
        case Update(table, key, values):
            return _update(table, key, values)
        case Delete(table, key):
            condition, found = _condition(table, _checked_key(table, key))
            sql = f'DELETE FROM "{table.value}"{condition}'  # noqa: S608
            return Step(sql, found, table, Demand.A_CHANGE)
        case DeleteAll():
            return _delete_all(change)
        case Absent(table, where):
            condition, found = _condition(table, where)
            return Step(_first(table, condition), found, table, Demand.NO_ROW)
        case Present(table, where):
            condition, found = _condition(table, where)
            return Step(_first(table, condition), found, table, Demand.A_ROW)
        case Unchanged(table, row):
            return _unchanged(table, row)
        case JournalEvent(noted, subject):
            text = to_sql(None, "subject", Kind.TEXT, subject)
            sql = "INSERT INTO journal (noted, subject, at) VALUES (?, ?, ?)"
            return Step(sql, (noted.value, text, at_ms))


def _insert(table: Table, row: Row, conflict: str) -> Step:
    _check_names(table, row)
    values = tuple(column_value(table, name, row.get(name)) for name in SHAPES[table].columns)
    return Step(_insertion(table) + conflict, values, table)


def _insert_all(table: Table, rows: Sequence[Written]) -> Iterator[Step]:
    """Yield statements of many rows each: between two of them the thread releases the interpreter
    to the event loop."""
    values = _values(table, rows)
    for at in range(0, len(values), _ROWS_AT_ONCE):
        some = values[at : at + _ROWS_AT_ONCE]
        yield Step(_insertion(table, len(some)), tuple(chain.from_iterable(some)), table)


def _insertion(table: Table, rows: int = 1) -> str:
    columns = tuple(SHAPES[table].columns)
    marks = f"({', '.join('?' * len(columns))})"
    names = f'"{table.value}" ({quoted(columns)})'
    return f"INSERT INTO {names} VALUES {', '.join([marks] * rows)}"  # noqa: S608


def _values(table: Table, rows: Sequence[Written]) -> Sequence[Sequence[SqlValue]]:
    """Return the values of many rows, checked column by column, which is faster."""
    shape = SHAPES[table]
    if any(len(row) != len(shape.columns) for row in rows):
        raise ValueError(f"{table.value}: this is not a whole row")
    for name, values in zip(shape.columns, zip(*rows, strict=True), strict=bool(rows)):
        check_column(table, name, values)
    return rows


def _put(table: Table, row: Row) -> Step:
    shape = SHAPES[table]
    others = [name for name in shape.columns if name not in shape.key]
    replaced = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
    action = f"UPDATE SET {replaced}" if others else "NOTHING"
    return _insert(table, row, f" ON CONFLICT ({quoted(shape.key)}) DO {action}")


def _update(table: Table, key: Row, values: Row) -> Step:
    condition, found = _condition(table, _checked_key(table, key))
    if not values:
        return Step(_first(table, condition), found, table, Demand.A_ROW)
    _check_names(table, values)
    assignments = ", ".join(f'"{name}" = ?' for name in values)
    sql = f'UPDATE "{table.value}" SET {assignments}{condition}'  # noqa: S608
    given = tuple(column_value(table, name, value) for name, value in values.items())
    return Step(sql, given + found, table, Demand.A_CHANGE)


def _delete_all(change: DeleteAll) -> Step:
    table = change.table
    condition, found = _condition(table, change.where, change.below)
    if change.most < 0:
        raise ValueError("most must not be negative")
    if change.most:
        key = quoted(SHAPES[table].key)
        inner = f'SELECT {key} FROM "{table.value}"{condition} LIMIT ?'  # noqa: S608
        condition = f" WHERE ({key}) IN ({inner})"
        found = (*found, to_sql(table, "most", Kind.INTEGER, change.most))
    return Step(f'DELETE FROM "{table.value}"{condition}', found, table)  # noqa: S608


def _unchanged(table: Table, row: Row) -> Step:
    """Compare documents as strings: an unchanged document is serialized as it is in the table."""
    columns = SHAPES[table].columns
    if row.keys() != columns.keys():
        raise ValueError(f"{table.value}: this is not a whole row")
    condition = " WHERE " + " AND ".join(f'"{name}" IS ?' for name in columns)
    values = tuple(column_value(table, name, row[name]) for name in columns)
    return Step(_first(table, condition), values, table, Demand.A_ROW)


def _unassign(change: RemoveProfile) -> list[Step]:
    """Select the same users in each statement: only the last one deletes rows with this profile."""
    names = (change.profile_id, change.instead)
    gone, instead = (to_sql(Table.PROFILES, "id", Kind.TEXT, name) for name in names)
    most = to_sql(None, "most", Kind.INTEGER, change.most)
    if change.most < 1 or gone == instead:
        raise ValueError("`instead` must be another profile, and `most` at least 1")
    return [
        Step(_UNASSIGN_DOCUMENTS, (instead, gone, gone, most), Table.USERS),
        Step(_UNASSIGN_INSTEAD, (instead, gone, gone, most, gone), Table.USER_PROFILES),
        Step(_UNASSIGN_ROWS, (gone, gone, most), Table.USER_PROFILES),
    ]


def _first(table: Table, condition: str) -> str:
    return f'SELECT 1 FROM "{table.value}"{condition} LIMIT 1'  # noqa: S608


def _check_unique(table: Table, names: tuple[str, ...]) -> None:
    shape = SHAPES[table]
    if not any(set(names) == set(group) for group in (shape.key, *shape.unique)):
        raise ValueError(f"{table.value}: {sorted(names)} is neither the key nor a unique group")


def _checked_key(table: Table, key: Row) -> Row:
    if key.keys() != set(SHAPES[table].key):
        raise ValueError(f"{table.value}: {sorted(key)} is not the key")
    return key


def _check_names(table: Table, names: Iterable[str]) -> None:
    for name in names:
        if name not in SHAPES[table].columns:
            raise ValueError(f"{table.value} has no column {name}")


def _condition(
    table: Table, where: Row, below: dict[str, int] | None = None
) -> tuple[str, tuple[SqlValue, ...]]:
    shape, below = SHAPES[table], below or {}
    _check_names(table, (*where, *below))
    terms, values = [], []
    for name, value in where.items():
        if shape.columns[name] is Kind.JSON:
            raise ValueError(f"{table.value}.{name} is a document; documents are not compared")
        # IS also matches NULL; the planner likes = better, so that is for columns without NULL.
        terms.append(f'"{name}" IS ?' if name in shape.optional else f'"{name}" = ?')
        values.append(None if value is None else to_sql(table, name, shape.columns[name], value))
    for name, bound in below.items():
        if shape.columns[name] is not Kind.INTEGER:
            raise ValueError(f"{table.value}.{name} is not a number")
        terms.append(f'"{name}" < ?')
        values.append(to_sql(table, name, Kind.INTEGER, bound))
    return (" WHERE " + " AND ".join(terms) if terms else ""), tuple(values)


def _led_condition(table: Table, where: Row) -> tuple[str, tuple[SqlValue, ...]]:
    """Format a condition that is looked up by its first column, unless there is an index of exactly
    these columns: the planner does not know which is most selective, and `+` disables its guess."""
    condition, values = _condition(table, where)
    if tuple(where) in SHAPES[table].indexed:
        return condition, values
    first, *others = condition.split(" AND ")
    return " AND ".join([first, *(f"+{term}" for term in others)]), values
