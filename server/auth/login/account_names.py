"""Accounts that failed logins are counted under: the accounts of a user, and the known device of an
account's owner.

An account is a strategy's name and the identifier as it was typed. The user behind it is never
looked up: the time of the lookup would reveal whether there is such a user. The reverse direction,
from a user to all of their accounts, is supported.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from protocol.errors import ApiError
from server.auth.accounts.users import Users
from server.auth.limits.throttle import LoginThrottle
from server.auth.sessions.known_devices import Device
from server.auth.strategies.registry import Strategies
from server.core.ids import MOST_ID_BYTES


@runtime_checkable
class NamesAccounts(Protocol):
    """A strategy that knows all names of a user's account."""

    async def accounts_of(self, kuid: str) -> Sequence[str]:
        """Return what `account_of` returns when this user logs in."""


class LoginAccounts:
    """Finds the accounts of users, for all strategies."""

    __slots__ = ("_strategies", "_throttle", "_users")

    def __init__(self, strategies: Strategies, users: Users, throttle: LoginThrottle) -> None:
        self._strategies = strategies
        self._users = users
        self._throttle = throttle

    async def of(self, kuid: str) -> list[str]:
        """Return all accounts of a user."""
        accounts = [second_factor_account(kuid), own_account(kuid)]
        for name in self._strategies.names():
            accounts += await self._with(name, kuid)
        return accounts

    async def device_of(self, name: str, account: str | None, devices: Iterable[Device]) -> str:
        """Return the ID of the device that is known to an account of a strategy, "" for none."""
        if account is None:
            return ""
        named = {account, self._throttle.entry_of(account)}
        for device in devices:
            if named & set(await self._with(name, device.kuid)):
                return device.id
        return ""

    async def _with(self, name: str, kuid: str) -> list[str]:
        strategy = self._strategies.get(name)
        identifiers = await self._users.identifiers_of(name, kuid)
        entries = [entry_account(name, identifier) for identifier in identifiers]
        named: Sequence[str] = identifiers
        if isinstance(strategy, NamesAccounts):
            try:
                given: object = await strategy.accounts_of(kuid)
            except ApiError:
                given = ()  # its error has been logged
            named = given if isinstance(given, (list, tuple)) else ()
        return [*(typed_account(name, one) for one in named if isinstance(one, str)), *entries]


def typed_account(name: str, given: str) -> str:
    """Return the account of an identifier as it was typed: two spellings of one string (Unicode
    NFC) are the same. Identifiers longer than any user's are cut."""
    return f"{name}\0{unicodedata.normalize('NFC', given[:MOST_ID_BYTES])}"


def entry_account(name: str, identifier: str) -> str:
    """Return the account of the identifier of a strategy's entry; it cannot be the same as an
    account that was typed."""
    return f"{name}\0\0{identifier}"


def second_factor_account(kuid: str) -> str:
    """Return the account that wrong second factors of a user are counted under."""
    return f"second factor\0{kuid}"


def own_account(kuid: str) -> str:
    """Return the account that wrong answers of a logged-in user are counted under."""
    return f"\0{kuid}"
