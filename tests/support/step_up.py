"""The rules for second factors and recent logins, for tests without a server."""

from server.auth.accounts.step_up import StepUp
from server.auth.assurance import MfaPolicy, Principal, TokenKind
from server.auth.strategies.registry import Strategies
from server.storage.base import Storage

OPERATOR = Principal("-1", TokenKind.OPERATOR)


def make_step_up(
    storage: Storage, strategies: Strategies | None = None, *, now_ms: int = 0, **policy: object
) -> StepUp:
    """Return rules of this policy, of which none requires anything by default."""
    known = strategies or Strategies(storage, timeout_s=1)
    return StepUp(storage, known, MfaPolicy(**policy), clock_ms=lambda: now_ms)


def operator_as(kuid: str) -> Principal:
    """Return the operator, under another author."""
    return Principal(kuid, TokenKind.OPERATOR)
