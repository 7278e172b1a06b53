"""What session tokens and API keys have in common: prefixes, stored form, owner and expiry."""

from typing import cast

from server.core.ids import ANONYMOUS_ID
from server.storage.base import Change, Present
from server.storage.rows import Row, Table


def owner_guard(kuid: str) -> list[Change]:
    """Return the guard that a token's user exists and is enabled; the anonymous one always
    is."""
    return [] if kuid == ANONYMOUS_ID else [Present(Table.USERS, {"kuid": kuid, "disabled": 0})]


def is_over(row: Row, now_ms: int) -> bool:
    """Return whether a stored session or key has expired."""
    ends = cast("int | None", row["expires_at"])
    return ends is not None and ends <= now_ms
