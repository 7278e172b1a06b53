"""Conversion of column values to SQLite: validated before anything reaches the database.

A ValueError is the caller's mistake.
"""

from collections.abc import Sequence
from types import NoneType
from typing import cast

import orjson

from server.storage.rows import Table, Value
from server.storage.tables import SHAPES, Kind, Shape

SqlValue = str | int | bytes | None
_INTEGER_LIMIT = 1 << 63
_STORED = {Kind.TEXT: str, Kind.JSON: str, Kind.INTEGER: int, Kind.BYTES: bytes}


def check_column(table: Table, name: str, values: Sequence[SqlValue]) -> None:
    """Raise ValueError if a column cannot store one of these values, with documents as JSON
    already; all are checked together."""
    shape: Shape = SHAPES[table]
    kind = shape.columns[name]
    types = set(map(type, values))
    if name in shape.optional:
        types.discard(NoneType)
        values = [value for value in values if value is not None]
    is_fine = not types or types == {_STORED[kind]}
    if is_fine and types == {str}:
        is_fine = _is_text("".join(cast("Sequence[str]", values)))
    elif is_fine and types == {int}:
        numbers = cast("Sequence[int]", values)
        is_fine = -_INTEGER_LIMIT <= min(numbers) and max(numbers) < _INTEGER_LIMIT
    if not is_fine:
        raise ValueError(f"{table.value}.{name} cannot hold one of these values")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates are not text
        return False
    return True


def column_value(table: Table, name: str, value: Value) -> SqlValue:
    """Return a value of a column."""
    shape: Shape = SHAPES[table]
    if value is None and name in shape.optional:
        return None
    return to_sql(table, name, shape.columns[name], value)


def to_sql(table: Table | None, name: str, kind: Kind, value: Value) -> SqlValue:
    """Return a value of a kind; ValueError for another one names `table` and column."""
    try:
        if kind is Kind.TEXT and isinstance(value, str):
            value.encode()  # lone surrogates are not text
            return value
        if kind is Kind.JSON:
            return orjson.dumps(value).decode()
        if kind is Kind.INTEGER and isinstance(value, int):
            if -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
                return int(value)
        elif kind is Kind.BYTES and isinstance(value, bytes):
            return value
    except (orjson.JSONEncodeError, UnicodeEncodeError):
        pass
    where = name if table is None else f"{table.value}.{name}"
    raise ValueError(f"{where} cannot hold this value")
