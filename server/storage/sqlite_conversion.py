"""Values as SQLite holds them: checked and converted before anything reaches the database.

A ValueError is the caller's mistake.
"""

from collections.abc import Sequence
from contextlib import suppress
from types import NoneType
from typing import cast

import orjson

from server.storage.base import SHAPES, Kind, Shape, Table, Value

SqlValue = str | int | bytes | None
_INTEGER_LIMIT = 1 << 63


def convert_column(
    table: Table, name: str, kind: Kind, values: Sequence[Value]
) -> Sequence[SqlValue]:
    """Give the values of a column: looked at all together, and one by one where that is not
    enough."""
    types = set(map(type, values))
    if kind is Kind.TEXT and types == {str}:
        texts = cast("Sequence[str]", values)
        if _is_text("".join(texts)):
            return texts
    elif kind is Kind.INTEGER and types == {int}:
        numbers = cast("Sequence[int]", values)
        if -_INTEGER_LIMIT <= min(numbers) and max(numbers) < _INTEGER_LIMIT:
            return numbers
    elif kind is Kind.JSON and NoneType not in types:
        with suppress(orjson.JSONEncodeError):
            return [orjson.dumps(value).decode() for value in values]
    elif types == {NoneType} and name in SHAPES[table].optional:
        return cast("Sequence[None]", values)
    return [column_value(table, name, value) for value in values]


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates are not text
        return False
    return True


def column_value(table: Table, name: str, value: Value) -> SqlValue:
    """Give a value of a column."""
    shape: Shape = SHAPES[table]
    if value is None and name in shape.optional:
        return None
    return to_sql(table, name, shape.columns[name], value)


def to_sql(table: Table | None, name: str, kind: Kind, value: Value) -> SqlValue:
    """Give a value of a kind; ValueError for another one names `table` and column."""
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
    raise ValueError(f"{where} can't hold this value")
