"""Answers that more than one controller gives."""

from server.actions import Outcome
from server.auth.callers import Caller
from server.auth.issuing import Issued
from server.auth.lifetimes import NEVER


def write_login(issued: Issued) -> Outcome:
    """Hand out a session token (contract/02 §4 login)."""
    return Outcome(
        {
            "_id": issued.kuid,
            "expiresAt": issued.expires_at_ms,
            "jwt": issued.token,
            "ttl": issued.ttl_ms,
        },
        is_private=True,
    )


def shown_expiry(caller: Caller) -> int:
    """Give when a token expires as the wire says it: ms since 1970, -1 without end."""
    ends = caller.expires_at_ms
    return NEVER if ends == float("inf") else int(ends)
