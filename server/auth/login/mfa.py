"""Multi-factor authentication (MFA) at login: when a second factor is required and how it is
verified (security check A13). `server.auth.accounts.step_up` decides which users need one.

After a valid first factor the client gets only a pending step, which is valid for a few minutes, a
few attempts and one login. The changes that consume the first factor are stored in the transaction
that stores the step. Strategies listed in `security.mfa.factors` complete it. Users who must have a
factor and have none may only enrol. Any change of a user's credentials, and disabling the user,
deletes the step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from protocol.errors import ApiError, error
from server.auth.accounts.step_up import StepUp
from server.auth.accounts.users import Users
from server.auth.audit.events import Ending, tell
from server.auth.audit.notices import ENROLLED
from server.auth.identity.user import User
from server.auth.login.pending import PendingLogins, Step, make_second_state
from server.auth.sessions.pending_ends import end_seconds
from server.auth.sessions.token_forms import owner_guard
from server.auth.strategies.base import (
    Authenticated,
    Challenge,
    LoginAttempt,
    Proven,
    Proves,
    Redirect,
    Refused,
)
from server.auth.strategies.registry import Strategies
from server.auth.strategies.sandbox import is_sound
from server.core.outcomes import DISABLED, WRONG
from server.storage.base import Change, DeleteAll, EventKind, Exists, JournalEvent, Missing, Storage
from server.storage.rows import Row, Table

_NOT_NOW = "This sign-in method cannot be used now. Please start again."


@dataclass(frozen=True, slots=True)
class LoginSucceeded:
    """The user who logged in, as long as `guards` hold when their token is stored; `wishes` are
    those of the login's first step. `strategy` was the first factor, `factor` the second one, ""
    without. `shown` is what the response contains beside the token."""

    user: User
    guards: tuple[Change, ...]
    wishes: Mapping[str, object]
    strategy: str = ""
    factor: str = ""
    shown: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def amr(self) -> tuple[str, ...]:
        """The strategies that authenticated the user, in order."""
        return tuple(name for name in (self.strategy, self.factor) if name)


@dataclass(frozen=True, slots=True)
class LoginPending:
    """The next step required, and its expiry; the login continues under `state`."""

    what: Redirect | Challenge
    state: str = field(repr=False)
    ends_ms: int


class MfaFlow:
    """Decides which second factors users must pass, and verifies them."""

    def __init__(
        self,
        strategies: Strategies,
        users: Users,
        pending: PendingLogins,
        step_up: StepUp,
    ) -> None:
        self._strategies = strategies
        self._users = users
        self._pending = pending
        self._step_up = step_up

    def is_factor(self, name: str) -> bool:
        """Return whether a strategy is configured as a second factor."""
        return self._step_up.is_factor(name)

    async def follow(
        self, found: LoginSucceeded, binding: str, address: str, ending: Ending = Ending.PENDING
    ) -> LoginSucceeded | LoginPending:
        """Return the user who has logged in, or the step for their second factor; 401 if a factor
        is required and the user cannot pass or enrol one."""
        first, state = found.strategy, make_second_state()
        what = await self._ask(first, found.user, state)
        if what is None:
            return found
        tell(subject=found.user.kuid, actor=found.user.kuid, ending=ending)
        step = Step(what.kept, None, found.wishes, kuid=found.user.kuid)
        guards = (*owner_guard(found.user.kuid), *found.guards)
        return await self._keep(what, state, step, binding, address, guards)

    async def take(
        self, name: str, attempt: LoginAttempt, step: Step, binding: str
    ) -> LoginSucceeded | LoginPending:
        """Complete a step with the strategy `name`; 401 if the step or the factor is not valid."""
        enrols = cast("list[str] | None", step.kept.get("enrols"))
        asked = cast("dict[str, object]", step.kept["factors"])
        if name not in (asked if enrols is None else enrols):
            raise _refuse("not a factor of this login")
        user = await self._users.get(step.kuid or "")
        if user is None or user.is_disabled:
            raise _refuse(DISABLED)
        if enrols is not None:
            return await self._enrol(name, attempt, step, user, binding)
        factor = self._step_up.factors().get(name)
        if factor is None:
            raise _refuse("the factor no longer exists")
        await self._pending.count_try(step)
        outcome = await factor.check_second_factor(
            user.kuid, attempt, cast("dict[str, object]", asked[name])
        )
        if isinstance(outcome, Refused):
            raise _refused(outcome)
        if not isinstance(outcome, Authenticated) or outcome.kuid != user.kuid:
            raise error("plugin.strategy.invalid_verify_resolve", name)
        guards = (*outcome.guards, self._pending.end(step))
        return LoginSucceeded(user, guards, step.wishes, str(step.kept["first"]), name)

    async def _ask(self, first: str, user: User, state: str) -> Challenge | None:
        """Return the challenge for a user after a first factor; None if nothing is required."""
        if first in self._step_up.policy.exempt or not self._step_up.is_on:
            return None
        factors = {name: one for name, one in self._step_up.factors().items() if name != first}
        asked: dict[str, Challenge] = {}
        for name, factor in factors.items():
            challenge = await factor.second_factor(user.kuid, state)
            if isinstance(challenge, Challenge) and is_sound(challenge):
                asked[name] = challenge
            elif challenge is not None:
                raise error("plugin.strategy.invalid_verify_resolve", name)
        kept: dict[str, object] = {"first": first, "factors": {}}
        if asked:
            kept["factors"] = {name: dict(one.kept) for name, one in asked.items()}
            shown = {name: dict(one.data) for name, one in asked.items()}
            data: dict[str, object] = {"factors": list(asked), "challenges": shown}
            return Challenge(
                {"next": "secondFactor", **data}, kept, self._step_up.policy.is_portable
            )
        if not await self._step_up.is_required(user.kuid, user.profile_ids):
            return None
        enrols = [name for name, one in factors.items() if isinstance(one, Proves)]
        if not enrols:
            raise _refuse("no second factor, and none to enrol")
        data = {"next": "enrol", "factors": enrols}
        return Challenge(data, {**kept, "enrols": enrols}, self._step_up.policy.is_portable)

    async def _enrol(
        self, name: str, attempt: LoginAttempt, step: Step, user: User, binding: str
    ) -> LoginSucceeded | LoginPending:
        """Continue the enrolment of a user who must have a factor; its last step logs them in."""
        strategy = self._strategies.get(name)
        if not isinstance(strategy, Proves):
            raise _refuse("the factor no longer exists")
        state = make_second_state()
        attempt = replace(attempt, state=state, body={**attempt.body, **step.form})
        kept = cast("dict[str, object] | None", step.kept.get("proof"))
        if kept is None:
            proof = await strategy.prove(attempt, user.kuid)
        else:
            proof = await strategy.resume_proof(attempt, kept, user.kuid)
        if isinstance(proof, Refused):
            raise _refused(proof)
        if isinstance(proof, (Challenge, Redirect)) and is_sound(proof):
            now = {**step.kept, "enrols": [name], "proof": dict(proof.kept)}
            tell(subject=user.kuid, actor=user.kuid, ending=Ending.PENDING)
            next_step = replace(step, kept=now, token_hash=b"", form={})
            guards = (*owner_guard(user.kuid), self._pending.end(step))
            return await self._keep(proof, state, next_step, binding, attempt.address, guards)
        if not isinstance(proof, Proven):
            raise error("plugin.strategy.invalid_verify_resolve", name)
        await strategy.validate(proof.credentials, user.kuid, False)
        prepared = await strategy.create(proof.credentials, user.kuid, user.kuid)
        tell(notice=ENROLLED)
        guards = (
            *(*proof.guards, self._pending.end(step), *prepared.changes),
            *(end_seconds(user.kuid), JournalEvent(EventKind.USER, user.kuid)),
        )
        shown = {"credentials": {name: prepared.shown}}
        return LoginSucceeded(user, guards, step.wishes, str(step.kept["first"]), name, shown)

    async def _keep(
        self,
        what: Redirect | Challenge,
        state: str,
        step: Step,
        binding: str,
        address: str,
        guards: tuple[Change, ...],
    ) -> LoginPending:
        is_portable = isinstance(what, Challenge) and (
            what.is_portable or self._step_up.policy.is_portable
        )
        try:
            ends_ms = await self._pending.keep(
                state,
                str(step.kept["first"]),
                step,
                binding=None if is_portable and not step.ends_in_cookie else binding,
                address=address,
                guards=guards,
            )
        except (Exists, Missing):
            raise _refuse("changed in the meantime") from None
        return LoginPending(what, state, ends_ms)


async def factors_of(storage: Storage, kuid: str, names: Iterable[str]) -> list[str]:
    """Return those of these strategies for which a user has stored credentials."""
    kept: list[Row] = [{"kuid": kuid, "strategy": name} for name in names]
    return [str(row["strategy"]) for row in kept if await _is_kept(storage, row)]


async def _is_kept(storage: Storage, row: Row) -> bool:
    tables = (Table.CREDENTIALS, Table.PASSKEYS)
    return any([await storage.exists(table, **row) for table in tables])


async def take_away(storage: Storage, kuid: str, name: str, more: Iterable[Change] = ()) -> None:
    """Remove a user's second factor of a strategy, with their pending second-factor logins, and
    apply the changes in `more`. The strategy itself is not called, and need not be available."""
    kept: Row = {"kuid": kuid, "strategy": name}
    removals = [DeleteAll(table, kept) for table in (Table.CREDENTIALS, Table.PASSKEYS)]
    await storage.apply([*removals, end_seconds(kuid), JournalEvent(EventKind.USER, kuid), *more])


def _refused(outcome: Refused) -> ApiError:
    message = outcome.message if isinstance(outcome.message, str) else ""
    return error("plugin.strategy.missing_user", message or WRONG)


def _refuse(reason: str) -> ApiError:
    """Return the same error for every reason; the audit log contains the reason."""
    tell(reason=reason)
    return error("plugin.strategy.missing_user", _NOT_NOW)
