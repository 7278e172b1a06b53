"""Step-up authentication: when a second factor or a recent login is required, and the checks made
where authentication methods change (security checks A15, F2, F3).

Whichever action makes a change, the check is the same: it depends on the principal and on the user
whose methods change.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Protocol, cast, runtime_checkable

from protocol.errors import ApiError, error
from server.auth.assurance import Assurance, MfaPolicy, Principal, TokenKind
from server.auth.audit.events import tell
from server.auth.passwords.policies import NO_USERS, roles_in
from server.auth.strategies.base import SecondFactor
from server.auth.strategies.registry import Strategies
from server.storage.base import Storage
from server.storage.rows import Table

SECOND_FACTOR, _RECENT_LOGIN, _API_KEY = (
    "second_factor_required",
    "recent_login_required",
    "api_key_forbidden",
)
_REASONS = {SECOND_FACTOR: "secondFactor", _RECENT_LOGIN: "recentLogin", _API_KEY: "apiKey"}


@runtime_checkable
class AsksForPassword(Protocol):
    """A strategy that may require the current password before it is changed or removed."""

    async def check_present_password(self, kuid: str, password: object) -> None:
        """Raise ApiError unless the password is correct or not required."""


@runtime_checkable
class ConfirmsPassword(Protocol):
    """A strategy that knows passwords."""

    async def confirm_password(self, kuid: str, password: object) -> None:
        """Raise ApiError unless this is the user's current password."""


class StepUp:
    """Decides when a second factor or a recent login is required, and refuses changes without."""

    def __init__(
        self,
        storage: Storage,
        strategies: Strategies,
        policy: MfaPolicy,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self.policy = policy
        self._storage = storage
        self._strategies = strategies
        self._clock_ms = clock_ms

    @property
    def is_on(self) -> bool:
        """Whether there are second factors, or users who must have one."""
        return self.policy.required_for != NO_USERS or bool(self.factors())

    def factors(self) -> dict[str, SecondFactor]:
        """Return the second factors available now, by name."""
        there = set(self._strategies.names())
        named = (
            (name, self._strategies.get(name)) for name in self.policy.factors if name in there
        )
        return {name: found for name, found in named if isinstance(found, SecondFactor)}

    def is_factor(self, name: str) -> bool:
        """Return whether a strategy is a second factor here."""
        return name in self.policy.factors and name in self.factors()

    async def is_required(self, kuid: str, profile_ids: Iterable[str]) -> bool:
        """Return whether a user with these profiles must have a second factor."""
        scope, profiles = self.policy.required_for, tuple(profile_ids)
        if scope == NO_USERS:
            return False
        roles = await roles_in(self._storage, profiles) if scope.roles else set()
        return scope.includes(kuid, profiles, roles)

    def is_sufficient(self, assurance: Assurance, kind: TokenKind) -> bool:
        """See `MfaPolicy.is_sufficient`."""
        return self.policy.is_sufficient(assurance, kind)

    async def check_method(
        self, by: Principal, kuid: str, name: str, *, is_present: bool
    ) -> Principal:
        """Raise ApiError 403 unless this principal may change the credentials of the strategy
        `name` of a user; `is_present` where the user has some, which are changed or removed.

        Return the principal marked as checked, for a change that is completed later. Where a
        strategy requires the current password of users who change their own, or where it replaces
        a recent login: ApiError 400 if it is missing, 403 if it is wrong.
        """
        if by.kind is TokenKind.OPERATOR or self.policy.is_open:
            return by
        _check_reusable(by)
        is_own = by.kuid == kuid
        if await self._is_lacking(by):
            may_enrol = is_own and not is_present and self.is_factor(name)
            if not may_enrol or await self._has_any(kuid):
                raise forbid(SECOND_FACTOR)
        needs_recent = self._needs_recent(name)
        if by.is_by_key:
            self._check_key(is_own=is_own, needs_recent=needs_recent)
        elif needs_recent and not self._is_recent(by):
            by = await self._confirm(by, kuid, name, is_own=is_own)
        strategy = self._strategies.get(name)
        is_asked = is_own and is_present and not by.is_confirmed and by.asked_at_ms is None
        if is_asked and by.confirm is not None and isinstance(strategy, AsksForPassword):
            await by.confirm(partial(strategy.check_present_password, kuid, by.password))
        return by

    async def check_profiles(self, by: Principal, kuid: str | None) -> None:
        """Raise ApiError 403 unless this principal may choose the profiles of a user; None for
        a new one."""
        if by.kind is TokenKind.OPERATOR or self.policy.is_open:
            return
        _check_reusable(by)
        if await self._is_lacking(by):
            raise forbid(SECOND_FACTOR)
        if self.policy.covers_all:
            self._check_recent(by, is_own=by.kuid == kuid)

    async def check_access(self, by: Principal) -> None:
        """Raise ApiError 403 unless this principal may change roles and profiles: who may could
        give any user, a new one too, every permission."""
        await self.check_profiles(by, None)

    async def check_api_key(self, by: Principal, kuid: str, profile_ids: Iterable[str]) -> None:
        """Raise ApiError 403 unless this principal may create an API key for a user. A key is never
        asked for a second factor; therefore users who must pass one, or have one, need a session
        whose login included it."""
        if by.kind is TokenKind.OPERATOR or self.policy.is_open:
            return
        _check_reusable(by)
        if await self._is_lacking(by):
            raise forbid(SECOND_FACTOR)
        is_own = by.kuid == kuid
        if by.is_by_key:
            self._check_key(is_own=is_own, needs_recent=self.policy.covers_all)
        elif self.policy.covers_all:
            self._check_recent(by, is_own=is_own)
        if not self.policy.keys_need_it or self.policy.has_factor(by.assurance):
            return
        if await self.is_required(kuid, profile_ids) or (is_own and await self._has_any(kuid)):
            raise forbid(SECOND_FACTOR)

    def _check_key(self, *, is_own: bool, needs_recent: bool) -> None:
        """Refuse an API key unless the operator has allowed it: for its own user always, for others
        where a user would need a recent login."""
        if is_own and not self.policy.keys_change_own:
            raise forbid(_API_KEY)
        if not is_own and needs_recent and not self.policy.keys_change_others:
            raise forbid(_API_KEY)

    def _check_recent(self, by: Principal, *, is_own: bool) -> None:
        if by.is_by_key:
            self._check_key(is_own=is_own, needs_recent=True)
        elif not self._is_recent(by):
            raise forbid(_RECENT_LOGIN)

    async def _confirm(self, by: Principal, kuid: str, name: str, *, is_own: bool) -> Principal:
        """Return a principal confirmed by their current password in place of a recent login; it is
        not sufficient where a login would also ask for a second factor."""
        if by.is_confirmed:
            return by
        local = self._strategies.get("local")
        is_given = by.password is not None and by.password != ""
        if not is_own or not is_given or by.confirm is None:
            raise forbid(_RECENT_LOGIN)
        if self._stands_in(name) or self.is_factor(name) or await self._has_any(kuid):
            raise forbid(_RECENT_LOGIN)
        if not isinstance(local, ConfirmsPassword):
            raise forbid(_RECENT_LOGIN)
        await by.confirm(partial(local.confirm_password, kuid, by.password))
        return replace(by, is_confirmed=True)

    def _needs_recent(self, name: str) -> bool:
        return self.policy.covers_all or self._stands_in(name) or self.is_factor(name)

    def _stands_in(self, name: str) -> bool:
        """Return whether no second factor is asked for after this strategy."""
        return name in self.policy.exempt and self.is_on

    def _is_recent(self, by: Principal) -> bool:
        began_ms = by.assurance.authenticated_at_ms
        if by.kind is not TokenKind.SESSION or began_ms is None:
            return False
        asked_ms = self._clock_ms() if by.asked_at_ms is None else by.asked_at_ms
        return asked_ms - began_ms <= self.policy.recent_ms

    async def _is_lacking(self, by: Principal) -> bool:
        """Return whether this principal must have a second factor that its token lacks."""
        if self.is_sufficient(by.assurance, by.kind):
            return False
        row = await self._storage.get(Table.USERS, kuid=by.kuid)
        profiles = [] if row is None else cast("list[str]", row["profile_ids"])
        return await self.is_required(by.kuid, profiles)

    async def _has_any(self, kuid: str) -> bool:
        """Return whether a user has a second factor."""
        for name in self.factors():
            if await self._strategies.get(name).exists(kuid):
                return True
        return False


def _check_reusable(by: Principal) -> None:
    """Refuse a single-use token: it must not turn into something that lasts."""
    if by.kind is TokenKind.SINGLE_USE:
        message = "A single-use token cannot change authentication methods, keys or permissions"
        raise error("security.rights.forbidden", message=message)


def forbid(which: str) -> ApiError:
    """Return the error for a token of insufficient assurance; `reason` is for programs."""
    forbidden = error(f"security.rights.{which}")
    forbidden.more["reason"] = _REASONS[which]
    tell(reason=forbidden.message)
    return forbidden
