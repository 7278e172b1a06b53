"""Deletion of pending login steps as part of another change."""

from server.storage.base import Change, DeleteAll
from server.storage.rows import Table

_SECOND_KIND = "second factor"  # not of the form that `_kind` returns


def end_all(strategy: str) -> Change:
    """Return the change that deletes every pending login of a strategy."""
    return DeleteAll(Table.ONE_TIME, {"kind": _kind(strategy)})


def end_seconds(kuid: str) -> Change:
    """Return the change that deletes this user's logins that wait for a second factor: it is part
    of each change of their credentials."""
    return DeleteAll(Table.ONE_TIME, {"kuid": kuid, "kind": _SECOND_KIND})


def _kind(strategy: str) -> str:
    return f"login:{strategy}"
