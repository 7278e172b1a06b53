"""Search index tables, and the triggers that keep them in sync with the users.

`user_fields` lists the indexed fields, `user_values` contains their values in order. Names of
fields are values here, never SQL. A path of SQLite cannot pass an array of objects: users with one
on the path have a mark instead, a BLOB, which no JSON value is.
"""

import re
from collections.abc import Sequence

_PLAIN = re.compile(r'[^"\\\x00-\x1f.]+')


def value_of(kind: str, atom: str, more: str = "") -> str:
    """Return a value as in `storage.query`, from the type and atom of json_each; `more` is SQL for
    further types."""
    return f"CASE {kind}{more} WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE {atom} END"


def is_value(kind: str) -> str:
    """Return the condition that a JSON type is a value."""
    return f"{kind} NOT IN ('null', 'array', 'object')"


def path_of(names: Sequence[str]) -> str | None:
    """Return SQLite's path to a field of an object; None if a version of SQLite would read a name
    differently."""
    if not names or not all(map(_PLAIN.fullmatch, names)):
        return None
    return "$" + "".join(f'."{name}"' for name in names)


_VALUE = value_of("e.type", "e.atom")
_VALUES = (
    "user_fields AS f CROSS JOIN json_each({0}.content, f.path) AS e"
    f" WHERE {is_value('e.type')} AND json_type({{0}}.content, f.path) <> 'object'"
)
_MARKED = (
    "user_fields AS f WHERE EXISTS (SELECT 1 FROM json_each(f.stems) AS s"
    " WHERE json_type({0}.content, s.value) = 'array')"
)
ENTRIES = (
    f"SELECT f.number, {_VALUE}, {{0}}.kuid FROM {_VALUES}"  # noqa: S608
    f" UNION ALL SELECT f.number, x'', {{0}}.kuid FROM {_MARKED}"
)
"""The rows in the table for a row of users, whose name is set by `format`."""
_ADD = f"INSERT OR IGNORE INTO user_values (field, value, owner) {ENTRIES.format('new')};"
# Every value in every field: more than exist, but found by the key alone.
_REMOVE = (
    "DELETE FROM user_values WHERE field IN (SELECT number FROM user_fields)"  # noqa: S608
    f" AND value IN (SELECT {_VALUE} FROM {_VALUES.format('old')} UNION ALL SELECT x'')"
    " AND owner = old.kuid;"
)
CREATION = (
    # `path` is the field's, `stems` are the paths of its ancestors. `built_to` is the last user
    # whose existing values were added, until the field is `ready`.
    "CREATE TABLE user_fields (number INTEGER PRIMARY KEY, field TEXT NOT NULL UNIQUE,"
    " path TEXT NOT NULL, stems TEXT NOT NULL, built_to TEXT NOT NULL DEFAULT '',"
    " ready INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE TABLE user_values (field INTEGER NOT NULL, value ANY NOT NULL, owner TEXT NOT NULL,"
    " PRIMARY KEY (field, value, owner)) STRICT, WITHOUT ROWID",
    f"CREATE TRIGGER user_values_added AFTER INSERT ON users BEGIN {_ADD} END",
    f"CREATE TRIGGER user_values_removed AFTER DELETE ON users BEGIN {_REMOVE} END",
    "CREATE TRIGGER user_values_changed AFTER UPDATE OF content ON users"
    f" WHEN old.content IS NOT new.content BEGIN {_REMOVE} {_ADD} END",
)
MEMBERS = (
    # Number of users of each profile: a search by a large profile need not count them.
    "CREATE TABLE profile_members (profile_id TEXT NOT NULL PRIMARY KEY, members INTEGER NOT NULL)"
    " STRICT, WITHOUT ROWID",
    "INSERT INTO profile_members SELECT profile_id, count(*) FROM user_profiles GROUP BY 1",
    "CREATE TRIGGER profile_members_added AFTER INSERT ON user_profiles BEGIN"
    " INSERT INTO profile_members VALUES (new.profile_id, 1)"
    " ON CONFLICT (profile_id) DO UPDATE SET members = members + 1; END",
    "CREATE TRIGGER profile_members_removed AFTER DELETE ON user_profiles BEGIN"
    " UPDATE profile_members SET members = members - 1 WHERE profile_id = old.profile_id;"
    " DELETE FROM profile_members WHERE profile_id = old.profile_id AND members = 0; END",
)
"""Rows of `user_profiles` are inserted and deleted, and never updated."""
