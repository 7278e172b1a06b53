"""Credentials of existing users: created, updated, deleted and shown.

The form of credentials is defined by each strategy. This module contains what all have in common:
one transaction for each change, and never credentials without their user.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from protocol.errors import error, plain_error
from server.auth.accounts.step_up import StepUp
from server.auth.assurance import Principal
from server.auth.audit.events import tell
from server.auth.audit.notices import CHANGED, ENROLLED, REMOVED
from server.auth.sessions.api_keys import MOST_KEYS
from server.auth.sessions.pending_ends import end_seconds
from server.auth.sessions.sessions import end_all
from server.auth.strategies.base import Prepared, Strategy
from server.auth.strategies.registry import Strategies
from server.storage.base import Change, EventKind, Exists, JournalEvent, Missing, Present, Storage
from server.storage.rows import Row, Table

# Each is lost only to another request that changes the same credentials at the same moment.
_ATTEMPTS = 5


@runtime_checkable
class Informs(Protocol):
    """A strategy that can show what it stores of a user."""

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Return the stored information, without secrets."""


@runtime_checkable
class InformsById(Protocol):
    """A strategy that can show what it stores under an identifier of its own."""

    async def get_by_id(self, identifier: str) -> dict[str, object]:
        """Return the stored information, without secrets."""


@runtime_checkable
class MakesResets(Protocol):
    """A strategy whose users can set new credentials with a token."""

    async def make_reset_token(self, kuid: str) -> str:
        """Return such a token. ApiError for a user without credentials."""


@runtime_checkable
class HasSeveral(Protocol):
    """A strategy of which a user may have several keys."""

    async def delete_one(self, kuid: str, identifier: str) -> Prepared:
        """Prepare the deletion of one of them. ApiError if it is not the user's."""


class OwnSessions(Protocol):
    """Revokes the other sessions of a user who changes their own credentials."""

    async def family_of(self, token_hash: bytes) -> str:
        """Return the session of the request with this token, "" for none."""

    async def ends_of_others(self, kuid: str, family: str) -> list[Change]:
        """Return changes that revoke some of the others, none if there are no others."""

    async def revoke_others(self, kuid: str, family: str) -> None:
        """Revoke all of them."""


class Credentials:
    """Changes and shows credentials by the name of their strategy; ApiError 400 for an unknown one,
    403 for a principal who may not (see `StepUp`), and all errors of the strategy."""

    def __init__(
        self,
        storage: Storage,
        strategies: Strategies,
        tokens: OwnSessions,
        step_up: StepUp,
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._strategies = strategies
        self._tokens = tokens
        self._step_up = step_up
        self._clock_ms = clock_ms

    async def check(
        self, name: str, kuid: str, by: Principal, *, is_present: bool = False
    ) -> Principal:
        """See `StepUp.check_method`; for a change that begins now and is completed later."""
        return await self._step_up.check_method(by, kuid, name, is_present=is_present)

    async def create(
        self,
        name: str,
        kuid: str,
        given: Mapping[str, object],
        by: Principal,
        *,
        guards: Sequence[Change] = (),
    ) -> dict[str, object]:
        """Create a user's first credentials of a strategy, and return what it shows of them.
        ApiError 404 if the user no longer exists, 401 if the session or key in `guards` is gone."""
        strategy = self._strategies.get(name)
        await self._step_up.check_method(by, kuid, name, is_present=False)

        async def prepare() -> Prepared:
            await strategy.validate(given, kuid, False)
            return await strategy.create(given, kuid, by.kuid)

        return await self._apply(kuid, prepare, guards, notice=ENROLLED)

    async def update(
        self,
        name: str,
        kuid: str,
        given: Mapping[str, object],
        by: Principal,
        *,
        revokes: bool,
        asks_with: str | None = None,
        guards: Sequence[Change] = (),
    ) -> dict[str, object]:
        """Update a user's credentials, and return what the strategy shows of them. With `revokes`
        the user's sessions are revoked, except the one that asks: the principal's, or `asks_with`
        if the user asked with that one; the result then lists the user's authentication methods,
        which stay. ApiError as for `create`."""
        strategy = self._strategies.get(name)
        await self._step_up.check_method(by, kuid, name, is_present=True)
        is_own = kuid == by.kuid
        if asks_with is None:
            asks_with = await self._tokens.family_of(by.token_hash) if revokes and is_own else ""
        family = asks_with

        async def prepare() -> Prepared:
            await strategy.validate(given, kuid, True)
            prepared = await strategy.update(given, kuid, by.kuid)
            ends: list[Change] = []
            if revokes and is_own:
                ends = await self._tokens.ends_of_others(kuid, family)
            elif revokes:
                ends = end_all(kuid, self._clock_ms())
            return Prepared(prepared.shown, [*prepared.changes, *ends])

        shown = await self._apply(kuid, prepare, guards, notice=CHANGED)
        if revokes and is_own:
            # Those that began since, or were too many for one transaction. The old password can
            # no longer begin any.
            await self._tokens.revoke_others(kuid, family)
        return {**shown, **await self._methods_of(kuid)} if revokes else shown

    async def _methods_of(self, kuid: str) -> dict[str, object]:
        """Return the user's remaining authentication methods, for them to look for any that a thief
        may have added: names of strategies, and the number of API keys."""
        strategies = (await self._strategies.ways_of(kuid)).names
        keys = await self._storage.find(Table.API_KEYS, limit=MOST_KEYS, kuid=kuid)
        return {"strategies": strategies, "apiKeys": len(keys)}

    async def make_reset_token(self, name: str, kuid: str, by: Principal) -> str:
        """Return a token with which a user sets new credentials of this strategy: it is as powerful
        as they are. ApiError 400 for a strategy without such tokens."""
        strategy = self._strategies.get(name)
        if not isinstance(strategy, MakesResets):
            raise error("security.credentials.unknown_strategy", name)
        await self._step_up.check_method(by, kuid, name, is_present=True)
        return await strategy.make_reset_token(kuid)

    async def delete(
        self, name: str, kuid: str, by: Principal, *, one: str | None = None, keeps_a_method: bool
    ) -> None:
        """Delete a user's credentials, or `one` of several keys; with `keeps_a_method` ApiError 412
        if the user has no others to log in with."""
        strategy = self._strategies.get(name)
        await self._step_up.check_method(by, kuid, name, is_present=True)
        if one is not None and not isinstance(strategy, HasSeveral):
            raise plain_error(400, f"credentials of {name} can only be deleted together")

        async def prepare() -> Prepared:
            if one is not None and isinstance(strategy, HasSeveral):
                prepared = await strategy.delete_one(kuid, one)
            else:
                prepared = await strategy.delete(kuid)
            is_last = keeps_a_method and not prepared.left
            guards = await self._other_login_method(name, kuid) if is_last else []
            return Prepared({}, [*guards, *prepared.changes])

        await self._apply(kuid, prepare, notice=REMOVED)

    async def show(self, name: str, kuid: str) -> dict[str, object]:
        """Return what may be shown of a user's credentials, {} where the strategy shows nothing."""
        strategy = self._strategies.get(name)
        return await strategy.get_info(kuid) if isinstance(strategy, Informs) else {}

    async def show_by_id(self, name: str, identifier: str) -> dict[str, object]:
        """Return what may be shown of the credentials with the strategy's own identifier."""
        strategy = self._strategies.get(name)
        return await strategy.get_by_id(identifier) if isinstance(strategy, InformsById) else {}

    async def _other_login_method(self, name: str, kuid: str) -> list[Change]:
        """Return guards that a user can still log in without this strategy; ApiError 412 if they
        could not.

        API keys do not count: they cannot be renewed without logging in.
        """
        for other in self._strategies.names():
            if other == name or not _logs_in(self._strategies.get(other)):
                continue
            kept: Row = {"kuid": kuid, "strategy": other}
            if await self._storage.exists(Table.CREDENTIALS, **kept):
                return [Present(Table.CREDENTIALS, kept)]
        # A strategy may keep its credentials elsewhere; only the strategy knows.
        for other in (await self._strategies.ways_of(kuid)).names:
            if other != name and _logs_in(self._strategies.get(other)):
                return []
        raise plain_error(412, "these are the last credentials: add others before removing them")

    async def _apply(
        self,
        kuid: str,
        prepare: Callable[[], Awaitable[Prepared]],
        guards: Sequence[Change] = (),
        *,
        notice: str,
    ) -> dict[str, object]:
        """Apply prepared changes, prepared again if another request was faster; `notice` is sent to
        the operator's systems."""
        for _ in range(_ATTEMPTS):
            prepared = await prepare()
            owner = Present(Table.USERS, {"kuid": kuid})
            try:
                await self._storage.apply(
                    [
                        *(owner, *guards, *prepared.changes),
                        *(end_seconds(kuid), JournalEvent(EventKind.USER, kuid)),
                    ]
                )
            except Exists:
                continue
            except Missing as missing:
                if missing.table is Table.USERS:
                    raise error("security.user.not_found", kuid) from None
                if missing.table in (Table.SESSIONS, Table.API_KEYS):
                    raise error("security.token.invalid") from None
                continue
            tell(notice=notice)
            return prepared.shown
        raise error("services.storage.too_many_changes")


def _logs_in(strategy: Strategy) -> bool:
    """Return whether its credentials alone are sufficient to log in."""
    return getattr(strategy, "logs_in", True) is not False
