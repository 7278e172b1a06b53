"""Authentication strategies: the names that third parties import to write one
(docs/strategies.md)."""

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
