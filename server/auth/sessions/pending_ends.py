"""Ends of pending login steps that belong to a change elsewhere."""

from server.storage.base import Change, DeleteAll
from server.storage.rows import Table

_SECOND_KIND = "second factor"  # not of the form that `_kind` gives


def end_all(strategy: str) -> Change:
    """Give the change that ends every login with a strategy."""
    return DeleteAll(Table.ONE_TIME, {"kind": _kind(strategy)})


def end_seconds(kuid: str) -> Change:
    """Give the change that ends this user's logins that wait for a second factor: it goes along
    with each change of his credentials."""
    return DeleteAll(Table.ONE_TIME, {"kuid": kuid, "kind": _SECOND_KIND})


def _kind(strategy: str) -> str:
    return f"login:{strategy}"
