"""Search index of user fields: which fields are indexed, and the addition of existing values.

Triggers add new values; existing values are added in small steps, so that no write waits long.
"""

import sqlite3
from collections.abc import Iterable

import orjson

from server.storage.rows import Table
from server.storage.search import USERS
from server.storage.sqlite.statements import Query, Step
from server.storage.sqlite.triggers import ENTRIES, path_of
from server.storage.tables import Kind

MOST_FIELDS = 32
"""Maximum number of indexed fields."""
_STEP_ROWS = 1000
_MAX_FIELD_CHARACTERS = 256


def name_fields(fields: Iterable[str]) -> list[Step]:
    """Return the statements that register further fields. Fields without a valid path, or beyond
    the limit, are skipped: they are searched without an index."""
    sql = (
        "INSERT OR IGNORE INTO user_fields (field, path, stems) SELECT ?, ?, ?"
        " WHERE (SELECT count(*) FROM user_fields) < ?"
    )
    steps = []
    for field in fields:
        names = field.split(".")
        path = path_of(names)
        is_content = names[0] not in USERS.documents and field not in USERS.columns
        if path is not None and is_content and len(field) <= _MAX_FIELD_CHARACTERS:
            stems = orjson.dumps([path_of(names[:at]) for at in range(1, len(names))]).decode()
            steps.append(Step(sql, (field, path, stems, MOST_FIELDS), Table.USERS))
    return steps


def find_unready() -> Query:
    """Query a field with existing values that are not indexed yet, as `number`; no row if there is
    none."""
    sql = "SELECT number FROM user_fields WHERE NOT ready ORDER BY number LIMIT 1"
    return Query(sql, (), {"number": Kind.INTEGER})


def add_older(number: int) -> list[Step]:
    """Return the statements that add a field's values of the next few users."""
    users = (
        "(SELECT kuid, content FROM users WHERE kuid >"  # noqa: S608
        " (SELECT built_to FROM user_fields WHERE number = ?1)"
        f" ORDER BY kuid LIMIT {_STEP_ROWS})"
    )
    field = "(SELECT * FROM user_fields WHERE number = ?1)"
    entries = ENTRIES.format("u").replace(
        "user_fields AS f", f"{users} AS u CROSS JOIN {field} AS f"
    )
    add = f"INSERT OR IGNORE INTO user_values (field, value, owner) {entries}"
    last = f"(SELECT max(kuid) FROM {users})"  # noqa: S608
    note = (
        f"UPDATE user_fields SET ready = {last} IS NULL,"  # noqa: S608
        f" built_to = coalesce({last}, built_to) WHERE number = ?1"
    )
    return [Step(sql, (number,), Table.USERS) for sql in (add, note)]


def usable_fields(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the fields that can be searched by the index, with their numbers."""
    sql = (
        "SELECT field, number FROM user_fields AS f WHERE ready AND NOT EXISTS"
        " (SELECT 1 FROM user_values AS v WHERE v.field = f.number AND v.value = x'')"
    )
    return dict(connection.execute(sql).fetchall())
