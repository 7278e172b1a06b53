"""What session tokens and API keys share: prefixes, stored form, owner and end (contract/02 §1)."""

import hashlib
from typing import cast

from server.auth.names import ANONYMOUS_ID
from server.storage.base import Change, Present, Row, Table

SESSION_PREFIX, API_KEY_PREFIX = "kauth-", "kapikey-"


def hash_token(token: str) -> bytes:
    """Give what is stored of a token: the SHA-256 of its text."""
    return hashlib.sha256(token.encode()).digest()


def owner_guard(kuid: str) -> list[Change]:
    """Give what makes sure that a token's user is there and may log in; the anonymous one always
    is."""
    return [] if kuid == ANONYMOUS_ID else [Present(Table.USERS, {"kuid": kuid, "disabled": 0})]


def is_over(row: Row, now_ms: int) -> bool:
    """Tell whether a stored session or key has reached its end."""
    ends = cast("int | None", row["expires_at"])
    return ends is not None and ends <= now_ms
