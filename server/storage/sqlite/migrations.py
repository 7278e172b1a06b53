"""SQLite schema and its migrations.

Independent of rows, threads and files. A new database is created from `SHAPES`; an older one gets
the missing `MIGRATIONS`.
"""

import sqlite3
from collections.abc import Sequence

from protocol.errors import LocalError
from server.storage.rows import Table
from server.storage.sqlite import triggers as sqlite_triggers
from server.storage.tables import SHAPES, Kind, Shape

APPLICATION_ID = 0x6D6B6579  # "mkey"; identifies the files of this program
_AUDIT = (
    'CREATE TABLE "audit" ("id" TEXT NOT NULL, "at" INTEGER NOT NULL, "kind" TEXT NOT NULL,'
    ' "outcome" TEXT NOT NULL, "subject" TEXT NOT NULL, "target" TEXT NOT NULL,'
    ' "actor" TEXT NOT NULL, "address" TEXT NOT NULL, "user_agent" TEXT NOT NULL,'
    ' "strategy" TEXT NOT NULL, "reason" TEXT NOT NULL, "count" INTEGER NOT NULL,'
    ' PRIMARY KEY ("id")) STRICT, WITHOUT ROWID',
    'CREATE INDEX "by_audit_subject" ON "audit" ("subject")',
    'CREATE INDEX "by_audit_actor" ON "audit" ("actor")',
    'CREATE INDEX "by_audit_address" ON "audit" ("address")',
    'CREATE INDEX "by_audit_kind" ON "audit" ("kind")',
    'CREATE INDEX "by_audit_outcome" ON "audit" ("outcome")',
    'CREATE INDEX "by_audit_kind_outcome" ON "audit" ("kind", "outcome")',
)
_PROFILE_ROLES = (
    'CREATE TABLE "profile_roles" ("profile_id" TEXT NOT NULL, "role_id" TEXT NOT NULL,'
    ' PRIMARY KEY ("profile_id", "role_id")) STRICT, WITHOUT ROWID',
    'CREATE INDEX "by_profile_roles_role_id" ON "profile_roles" ("role_id")',
    "INSERT OR IGNORE INTO profile_roles"
    " SELECT profiles.id, json_extract(profiles.body, policies.fullkey || '.roleId')"
    " FROM profiles, json_each(profiles.body, '$.policies') AS policies"
    " WHERE json_type(profiles.body, policies.fullkey || '.roleId') = 'text'",
)
_PASSKEYS = (
    'CREATE TABLE "passkeys" ("strategy" TEXT NOT NULL, "id" TEXT NOT NULL, "kuid" TEXT NOT NULL,'
    ' "name" TEXT NOT NULL, "public_key" BLOB NOT NULL, "sign_count" INTEGER NOT NULL,'
    ' "backed_up" INTEGER NOT NULL, "transports" TEXT NOT NULL, "created_at" INTEGER NOT NULL,'
    ' "used_at" INTEGER, PRIMARY KEY ("strategy", "id")) STRICT',
    'CREATE INDEX "by_passkeys_kuid_strategy" ON "passkeys" ("kuid", "strategy")',
)
# The data of older sessions shows how they began: one without a strategy was not a login. For older
# API keys it is unknown.
_ASSURANCE = (
    'ALTER TABLE "sessions" ADD COLUMN "amr" TEXT',
    'ALTER TABLE "sessions" ADD COLUMN "authenticated_at" INTEGER',
    'ALTER TABLE "api_keys" ADD COLUMN "amr" TEXT',
    "UPDATE sessions SET authenticated_at = started_at, amr = CASE"
    " WHEN coalesce(json_extract(data, '$.secondFactor'), '') = ''"
    " THEN json_array(json_extract(data, '$.strategy'))"
    " ELSE json_array(json_extract(data, '$.strategy'), json_extract(data, '$.secondFactor'))"
    " END WHERE coalesce(json_extract(data, '$.strategy'), '') <> ''",
)
_PARENTS = (
    'ALTER TABLE "sessions" ADD COLUMN "parent" TEXT',
    'CREATE INDEX "by_sessions_parent" ON "sessions" ("parent")',
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    *(_AUDIT, _PROFILE_ROLES, sqlite_triggers.CREATION),
    _PASSKEYS,
    sqlite_triggers.MEMBERS,
    _ASSURANCE,
    _PARENTS,
)
"""At place n the statements from version n + 1 to n + 2. `SHAPES` describes the newest version."""

_TYPES = {Kind.TEXT: "TEXT", Kind.INTEGER: "INTEGER", Kind.BYTES: "BLOB", Kind.JSON: "TEXT"}
_JOURNAL = (
    "CREATE TABLE journal (sequence INTEGER PRIMARY KEY AUTOINCREMENT, noted TEXT NOT NULL,"
    " subject TEXT NOT NULL, at INTEGER NOT NULL) STRICT"
)


def quoted(names: Sequence[str]) -> str:
    """Write column names as SQL; they come from `SHAPES`, never from outside."""
    return ", ".join(f'"{name}"' for name in names)


def bring_up_to_date(
    connection: sqlite3.Connection, name: str, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Create or migrate the tables in one transaction; `LocalError` as for `check_ours`."""
    newest = 1 + len(migrations)
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection, name, newest)
    if version == 0:
        statements = _creation()
    else:
        statements = [sql for step in migrations[version - 1 :] for sql in step]
    for sql in statements:
        connection.execute(sql)
    if version != newest:
        connection.execute(f"PRAGMA user_version = {newest}")
    connection.execute("COMMIT")


def check_ours(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether the schema is up to date; `LocalError` if the file `name` belongs to another
    program, or is newer than this one."""
    newest = 1 + len(MIGRATIONS)
    # In one transaction: otherwise the values could be from before and after its creation.
    connection.execute("BEGIN")
    try:
        return _version(connection, name, newest) == newest
    finally:
        connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, name: str, newest: int) -> int:
    version = _number(connection, "PRAGMA user_version")
    owner = _number(connection, "PRAGMA application_id")
    if (
        owner == 0
        and version == 0
        and _number(connection, "SELECT count(*) FROM sqlite_schema") == 0
    ):
        return 0
    if owner != APPLICATION_ID or version < 1:
        raise LocalError(f"{name} is the database of another program")
    if version > newest:
        raise LocalError(
            f"{name} has schema version {version}, but this program supports only up to {newest}"
        )
    return version


def _number(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0])


def _creation() -> list[str]:
    statements = [f"PRAGMA application_id = {APPLICATION_ID}", _JOURNAL]
    for table, shape in SHAPES.items():
        statements.append(_table(table, shape))
        for group in shape.indexed:
            index = "_".join(("by", table.value, *group))
            statements.append(f'CREATE INDEX "{index}" ON "{table.value}" ({quoted(group)})')
    return [*statements, *sqlite_triggers.CREATION, *sqlite_triggers.MEMBERS]


def _table(table: Table, shape: Shape) -> str:
    parts = [
        f'"{name}" {_TYPES[kind]}' + ("" if name in shape.optional else " NOT NULL")
        for name, kind in shape.columns.items()
    ]
    parts.append(f"PRIMARY KEY ({quoted(shape.key)})")
    parts += [f"UNIQUE ({quoted(group)})" for group in shape.unique]
    # Rows without a document are short: in the key's own tree they save a second lookup. Long rows
    # would make that tree deep, and counting slow.
    options = "STRICT" if Kind.JSON in shape.columns.values() else "STRICT, WITHOUT ROWID"
    return f'CREATE TABLE "{table.value}" ({", ".join(parts)}) {options}'
