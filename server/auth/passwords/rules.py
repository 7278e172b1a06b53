"""Rules for new passwords of all users: length, common passwords, context words, breached
passwords.

Without any settings a password only must not be empty. Character classes are never required, and
nothing is normalised: é as one character and é as two are two passwords.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from protocol.errors import ApiError, error

STRICT_LEAST_CHARACTERS = 8
STRICT_RESET_MS = 3_600_000
"""Lifetime of a reset token in strict mode where none is configured."""
_COMMON = Path(__file__).with_name("common_passwords.txt")
_PRODUCT_WORDS = ("manykeys", "kuzzle")
# A shorter name may be part of any word; it is only refused as the whole password.
_MIN_NAME_CHARACTERS = 4


class Breaches(Protocol):
    """Checks passwords against data breaches."""

    async def is_breached(self, password: str) -> bool:
        """Return whether a password is known to be breached; False if that cannot be checked."""


@dataclass(frozen=True, slots=True)
class PasswordRules:
    """Validates new passwords. `common` is in lower case."""

    least_characters: int = 0
    common: frozenset[str] = frozenset()
    forbids_context: bool = False
    breaches: Breaches | None = None

    async def check(self, password: str, username: str) -> None:
        """Raise ApiError 400 `weak_password`, with the rule that is broken."""
        if len(password) < self.least_characters:
            raise _weak(f"must have at least {self.least_characters} characters")
        folded = password.casefold()
        if folded in self.common:
            raise _weak("is too common")
        if self.forbids_context and _is_made_of_context(folded, username.casefold()):
            raise _weak("must not contain the username or the name of this server")
        if self.breaches is not None and await self.breaches.is_breached(password):
            raise _weak("is known from a data breach")


def read_common_passwords() -> frozenset[str]:
    """Return the passwords of the list that is part of the program."""
    lines = _COMMON.read_text(encoding="utf-8").split("\n")
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _is_made_of_context(folded: str, username: str) -> bool:
    words = [*_PRODUCT_WORDS, *([username] if len(username) >= _MIN_NAME_CHARACTERS else [])]
    return folded == username or any(word in folded for word in words)


def _weak(why: str) -> ApiError:
    return error(
        "plugin.kuzzle-plugin-auth-passport-local.weak_password", message=f"The password {why}"
    )
