"""Authentication strategies: the names that third parties import to write one
(docs/strategies.md)."""

import warnings

from server.auth.strategies.base import (
    Authenticated,
    Challenge,
    Examined,
    LoginAttempt,
    NewUser,
    Outcome,
    Parts,
    Prepared,
    Proof,
    Proven,
    Proves,
    Redirect,
    Refused,
    Resumes,
    SecondFactor,
    Strategy,
    StrategyKind,
)
from server.core.outcomes import DISABLED, WRONG

__all__ = [
    "DISABLED",
    "WRONG",
    "Authenticated",
    "Challenge",
    "Examined",
    "LoginAttempt",
    "NewUser",
    "Outcome",
    "Parts",
    "Prepared",
    "Proof",
    "Proven",
    "Proves",
    "Redirect",
    "Refused",
    "Resumes",
    "SecondFactor",
    "Strategy",
    "StrategyKind",
]

_RENAMED = {"Newcomer": NewUser}


def __getattr__(name: str) -> object:
    """Give what had another name before, for one release (docs/migration.md)."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _RENAMED[name]
    text = f"{__name__}.{name} is deprecated: use {new.__name__}"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return new
