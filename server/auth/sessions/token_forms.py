"""What session tokens and API keys share: prefixes, stored form, owner and end (contract/02 §1)."""

from typing import cast

from server.core.ids import ANONYMOUS_ID
from server.storage.base import Change, Present
from server.storage.rows import Row, Table


def owner_guard(kuid: str) -> list[Change]:
    """Give what makes sure that a token's user is there and may log in; the anonymous one always
    is."""
    return [] if kuid == ANONYMOUS_ID else [Present(Table.USERS, {"kuid": kuid, "disabled": 0})]


def is_over(row: Row, now_ms: int) -> bool:
    """Tell whether a stored session or key has reached its end."""
    ends = cast("int | None", row["expires_at"])
    return ends is not None and ends <= now_ms
