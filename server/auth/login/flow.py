"""Login flow: one login attempt from a strategy's outcome to a user, in one step or several. Users
who are logged in verify further credentials in the same way.

Strategies may be third-party code: each attempt runs in a task of its own, and its result is
validated before it is used.
"""

import asyncio
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import Protocol, TypeVar, cast, runtime_checkable

from protocol.errors import ApiError, error
from server.auth.accounts.users import Users
from server.auth.audit.events import Ending, aside, tell
from server.auth.audit.notices import THROTTLED
from server.auth.identity.user import User
from server.auth.limits.anonymous_writes import AnonymousWrites
from server.auth.limits.throttle import Attempt, LoginThrottle
from server.auth.login.account_names import (
    LoginAccounts,
    entry_account,
    own_account,
    second_factor_account,
    typed_account,
)
from server.auth.login.mfa import LoginPending, LoginSucceeded, MfaFlow
from server.auth.login.pending import Linking, PendingLogins, Step, is_second_state, make_state
from server.auth.sessions.known_devices import Device
from server.auth.sessions.token_forms import owner_guard
from server.auth.strategies.base import (
    Authenticated,
    Challenge,
    LoginAttempt,
    NewUser,
    Proven,
    Proves,
    Redirect,
    Refused,
    Resumes,
    Strategy,
)
from server.auth.strategies.registry import Strategies
from server.auth.strategies.sandbox import is_sound
from server.core.ids import ANONYMOUS_ID
from server.core.limit_counters import Limit
from server.core.outcomes import DISABLED, WRONG
from server.storage.base import Change, Entry, EventKind, Present, Unavailable
from server.storage.rows import Row, Table

_LOG = logging.getLogger("manykeys.logins")
_RANDOM, _LONGEST_PAUSE_S = SystemRandom(), 0.004
_pause = asyncio.sleep
# Each is lost only to another first login of the same identity at the same moment.
_ATTEMPTS = 3

T = TypeVar("T")


@runtime_checkable
class Refreshes(Protocol):
    """A strategy that decides whether the sessions of its users may be refreshed."""

    async def refresh_token(self, kuid: str) -> Mapping[str, object] | None:
        """Return None, or `expiresIn`, the lifetime of the next token; any exception refuses."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The context of a login attempt that its strategy does not see: `binding` is the secret that
    distinguishes this browser or socket from all others, `wishes` are the options requested for
    the session; `devices` are those that the request is proved to come from."""

    binding: str = field(repr=False)
    wishes: Mapping[str, object]
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """Credentials that a logged-in user has proved to be theirs, as long as `guards` hold."""

    linking: Linking
    credentials: Mapping[str, object] = field(repr=False)
    guards: tuple[Change, ...]


class LoginFlow:
    """Runs strategies, within the limits of the throttle."""

    __slots__ = (
        "_accounts",
        "_on_limit",
        "_pending",
        "_second_factors",
        "_strategies",
        "_throttle",
        "_unlocking",
        "_users",
        "_writes",
    )

    def __init__(
        self,
        strategies: Strategies,
        users: Users,
        throttle: LoginThrottle,
        pending: PendingLogins,
        second_factors: MfaFlow,
        writes: AnonymousWrites,
        *,
        on_limit: Callable[[Limit], None],
    ) -> None:
        self._accounts = LoginAccounts(strategies, users, throttle)
        self._writes = writes
        self._on_limit = on_limit
        self._unlocking: set[asyncio.Task[None]] = set()
        self._strategies = strategies
        self._users = users
        self._throttle = throttle
        self._pending = pending
        self._second_factors = second_factors

    async def attempt(
        self, name: str, attempt: LoginAttempt, visit: Visit
    ) -> LoginSucceeded | LoginPending | Claim:
        """Return the user who logged in, or the next step of a login with several. Linking of
        credentials that was continued at a provider also returns here: a Claim.

        400 for an unknown strategy, 401 `plugin.strategy.missing_user` for a refusal and for a
        state of another client, 429 for one refusal too many before, 500 for a faulty strategy.
        """
        strategy, state = self._strategies.get(name), _state_of(attempt)
        if is_second_state(state):
            return await self._continue_second(name, attempt, visit)
        if state and isinstance(strategy, (Resumes, Proves)):
            step = await self._find(name, attempt, visit)
        else:
            step = Step({}, _account_of(name, strategy, attempt), visit.wishes)
        found = await self._run(name, strategy, attempt, step, visit)
        if isinstance(found, LoginSucceeded):
            return await self.admit(found, visit, attempt.address)
        return found

    async def admit(
        self, found: LoginSucceeded, visit: Visit, address: str, *, ending: Ending = Ending.PENDING
    ) -> LoginSucceeded | LoginPending:
        """Log in a user who has passed a first factor, or ask them for a second one; `ending` is
        the outcome for the audit log in that case."""
        return await self._second_factors.follow(found, visit.binding, address, ending)

    async def _continue_second(
        self, name: str, attempt: LoginAttempt, visit: Visit
    ) -> LoginSucceeded | LoginPending:
        """Continue a login that waits for a second factor."""
        step = await self._find(name, attempt, visit)
        kuid = step.kuid or ""
        tell(subject=kuid)
        device = next((one.id for one in visit.devices if one.kuid == kuid), "")
        begun = await self._begin(second_factor_account(kuid), attempt.address, device=device)
        async with _settling(begun):
            running = self._second_factors.take(name, attempt, step, visit.binding)
            found = await _in_task(running, f"second factor {name}")
            if isinstance(found, LoginSucceeded):
                begun.succeeded()
                tell(actor=kuid)
            return found

    async def _find(
        self, name: str, attempt: LoginAttempt, visit: Visit, kuid: str | None = None
    ) -> Step:
        """Find the step that an attempt continues."""
        return await self._pending.find(
            _state_of(attempt),
            name,
            binding=visit.binding,
            kuid=kuid,
            form_key=attempt.args.get("form"),
        )

    async def unlock(self, kuid: str) -> None:
        """Forget the failed logins of a user in this process, for all strategies."""
        self._throttle.unlock(await self._accounts.of(kuid))

    def count_registration(self, address: str) -> None:
        """Count a user who is about to be created by an unauthenticated client; ApiError 429 for
        one too many."""
        self._writes.count(address, "api.process.too_many_requests")

    def notice(self, entries: Sequence[Entry]) -> None:
        """Unlock the users that journal entries name."""
        for entry in entries:
            if entry.noted is EventKind.UNLOCKED:
                task = asyncio.create_task(self._unlock_noted(entry.subject), name="unlock")
                self._unlocking.add(task)
                task.add_done_callback(self._unlocking.discard)

    async def _unlock_noted(self, kuid: str) -> None:
        try:
            await self.unlock(kuid)
        except Unavailable as reason:
            _LOG.warning("user %r was not unlocked: %s", kuid, reason)

    async def _begin(
        self, account: str | None, address: str, *, device: str = "", is_guess: bool = True
    ) -> Attempt:
        """Begin an attempt, if the throttle allows it."""
        try:
            return await self._throttle.begin(account, address, device=device, is_guess=is_guess)
        except ApiError:
            self._on_limit(Limit.FAILED_LOGINS)
            # The identifier as typed: only to find its owner, never stored.
            tell(notice=THROTTLED, suspect=(account or "").partition("\0")[2])
            raise

    def proves(self, name: str) -> bool:
        """Return whether a strategy verifies credentials with `link`; ApiError 400 for an unknown
        one."""
        return isinstance(self._strategies.get(name), Proves)

    async def link(
        self, name: str, attempt: LoginAttempt, visit: Visit, linking: Linking
    ) -> Claim | LoginPending:
        """Return the credentials that a logged-in user has proved to be theirs, or the next step;
        ApiError as for `attempt`."""
        strategy, state = self._strategies.get(name), _state_of(attempt)
        if state:
            step = await self._find(name, attempt, visit, linking.kuid)
        else:
            is_factor = self._second_factors.is_factor(name)
            named = second_factor_account(linking.kuid) if is_factor else None
            account = named or _account_of(name, strategy, attempt)
            step = Step({}, account, visit.wishes, linking)
        found = await self._run(name, strategy, attempt, step, visit)
        return cast("Claim | LoginPending", found)

    async def _run(
        self, name: str, strategy: Strategy, attempt: LoginAttempt, step: Step, visit: Visit
    ) -> LoginSucceeded | LoginPending | Claim:
        """Run a step, if the throttle allows it."""
        is_guess = step.account is not None or not getattr(strategy, "asks_elsewhere", False)
        device = await self._accounts.device_of(name, step.account, visit.devices)
        begun = await self._begin(step.account, attempt.address, device=device, is_guess=is_guess)
        async with _settling(begun):
            with self._counting_step(strategy, attempt.address, step) as write:
                # In a task of its own: third-party code may use what works once per task only.
                running = self._run_step(name, strategy, attempt, step, visit)
                outcome = await _in_task(running, f"login with {name}")
                write.is_made = isinstance(outcome, LoginPending)
            if isinstance(outcome, LoginPending):
                tell(ending=Ending.PENDING)
                return outcome
            if isinstance(outcome, Refused) and outcome.entry and step.account is not None:
                begun.identify(step.account, entry_account(name, str(outcome.entry)))
            found = await self._conclude(name, strategy, outcome, step)
            begun.succeeded()
            if step.token_hash and step.linking is None:
                self._writes.take_back(attempt.address)  # the pending step has become a login
            return found

    @contextmanager
    def _counting_step(
        self, strategy: Strategy, address: str, step: Step
    ) -> Iterator["_StepWrite"]:
        """Count a login step that an unauthenticated client may be about to have stored; before
        the strategy is called, which takes time. ApiError 429 for one too many."""
        write = _StepWrite(is_counted=isinstance(strategy, Resumes) and _is_first(step))
        if write.is_counted:
            self._writes.count(address)
        try:
            yield write
        finally:
            if write.is_counted and not write.is_made:
                self._writes.take_back(address)

    async def suspend(
        self, name: str, state: object, form: Mapping[str, object], address: str
    ) -> str:
        """Store what a provider's page has posted until the browser that began requests it, and
        return the key that it must send as the argument `form`; 401 for a state that no step has,
        or that already has a form."""
        key = await self._pending.suspend(state, name, form, address=address)
        tell(ending=Ending.PENDING)
        return key

    async def confirm(self, kuid: str, address: str, check: Callable[[], Awaitable[None]]) -> None:
        """Run a check of something only this user should know, throttled as logins are."""
        begun = await self._begin(own_account(kuid), address)
        async with _settling(begun):
            await check()
            begun.succeeded()

    async def probe(self, kuid: str, address: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do work whose refusal 412 says what another user has, like a name: each such refusal
        counts as a failed attempt of the user who asks, and of their address."""
        begun = await self._begin(f"\0probe\0{kuid}", address)
        async with _settling(begun, counted=(412,)):
            return await work()

    async def refresh(self, name: str, kuid: str) -> Mapping[str, object]:
        """Ask a strategy whether a user's session may be refreshed; the result may contain
        `expiresIn`.

        401 `security.token.refresh_forbidden` if it cannot decide that, or fails.
        """
        strategy = self._strategies.get(name) if name in self._strategies.names() else None
        if not isinstance(strategy, Refreshes):
            raise error("security.token.refresh_forbidden", f"{name!r} does not support refreshing")
        asked = cast(
            "Coroutine[object, object, Mapping[str, object] | None]", strategy.refresh_token(kuid)
        )
        try:
            given = await _in_task(asked, f"refresh with {name}")
            kind = type(given).__name__
        except Exception as fault:
            given, kind = (), type(fault).__name__
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            _LOG.warning("strategy %s refused to refresh a token: %s", name, kind)
            raise error("security.token.refresh_forbidden", f"{name!r} refused")
        return given

    async def _run_step(
        self, name: str, strategy: Strategy, attempt: LoginAttempt, step: Step, visit: Visit
    ) -> object:
        """Run one step of a login; return the outcome, or what follows from it."""
        attempt = replace(attempt, state=make_state(), body={**attempt.body, **step.form})
        if step.token_hash:
            await self._pending.use_up(step)
        outcome = await _ask(strategy, attempt, step)
        if not isinstance(outcome, (Redirect, Challenge)):
            return outcome
        goes_on = Resumes if step.linking is None else Proves
        if not isinstance(strategy, goes_on) or not is_sound(outcome):
            raise error("plugin.strategy.invalid_verify_resolve", name)
        is_portable = isinstance(outcome, Challenge) and outcome.is_portable
        ends_ms = await self._pending.keep(
            attempt.state,
            name,
            replace(step, kept=outcome.kept, token_hash=b""),
            binding=None if is_portable and not step.ends_in_cookie else visit.binding,
            address=attempt.address,
        )
        return LoginPending(outcome, attempt.state, ends_ms)

    async def _conclude(
        self, name: str, strategy: Strategy, outcome: object, step: Step
    ) -> LoginSucceeded | Claim:
        """Return the user, or the credentials to link, after the last step."""
        if isinstance(outcome, Refused):
            message = outcome.message if isinstance(outcome.message, str) else ""
            raise error("plugin.strategy.missing_user", message or WRONG)
        if step.linking is not None:
            if not isinstance(outcome, Proven):
                raise error("plugin.strategy.invalid_verify_resolve", name)
            tell(actor=step.linking.kuid, subject=step.linking.kuid)
            return Claim(step.linking, outcome.credentials, _guards_of(step.linking, outcome))
        if isinstance(outcome, NewUser):
            outcome = await self._create_user(name, outcome)
        if not isinstance(outcome, Authenticated):
            raise error("plugin.strategy.invalid_verify_resolve", name)
        user = await self._find_user(name, outcome.kuid)
        tell(actor=user.kuid)
        return LoginSucceeded(user, outcome.guards, step.wishes, name)

    async def _create_user(self, name: str, newcomer: NewUser) -> Authenticated:
        """Create the user of a first login, unless they were created at this moment."""
        for _ in range(_ATTEMPTS):
            known = await self._users.owner_of(name, newcomer.identifier)
            if known is not None:
                return Authenticated(known)
            try:
                user = await self._users.create(
                    kuid=None,
                    kind="human",
                    profile_ids=list(newcomer.profile_ids),
                    content=dict(newcomer.content),
                    credentials={name: dict(newcomer.credentials)},
                    author=ANONYMOUS_ID,
                )
            except ApiError as refused:
                if refused.id == "security.profile.not_found":
                    _LOG.error("strategy %s: a new user has an unknown profile: %s", name, refused)
                    tell(reason="unknown profile")
                    raise error("plugin.strategy.missing_user", WRONG) from None
                if refused.status == 412:
                    continue  # taken since it was looked up, or known to the strategy only
                raise
            return Authenticated(user.kuid)
        raise error("plugin.strategy.missing_user", WRONG)

    async def _find_user(self, name: str, kuid: object) -> User:
        if not isinstance(kuid, str):
            raise error("plugin.strategy.invalid_kuid", name)
        user = await self._users.get(kuid)
        if user is None:
            raise error("plugin.strategy.unknown_kuid", name)
        if user.is_disabled:
            tell(subject=kuid, reason=DISABLED)
            raise error("plugin.strategy.missing_user", WRONG)
        return user


async def _in_task(work: Coroutine[object, object, T], name: str) -> T:
    """Run work in a task of its own and wait for it. The task must have no other reference: a
    failed task keeps its error, whose traceback keeps the waiting frame and every name in it."""
    return await asyncio.create_task(work, name=name, context=aside())


@dataclass(slots=True)
class _StepWrite:
    """Whether a step was counted, and whether it is stored."""

    is_counted: bool
    is_made: bool = False


@asynccontextmanager
async def _settling(begun: Attempt, counted: tuple[int, ...] = (401, 403)) -> AsyncIterator[None]:
    """Count a refusal with a `counted` status as a failed attempt, and anything else but a success
    as none at all.

    A refusal that returns something, like a reset token, followed a valid password. All others wait
    for a random time: a lookup in the store on the way takes microseconds, which a client must not
    be able to measure.
    """
    try:
        yield
    except ApiError as refused:
        if refused.status in counted and not refused.more:
            tell(slowed=[slowed.value for slowed in begun.failed()])
            await _pause(_RANDOM.uniform(0, _LONGEST_PAUSE_S))
        raise
    finally:
        begun.cancelled()


async def _ask(strategy: Strategy, attempt: LoginAttempt, step: Step) -> object:
    """Return the strategy's outcome for this step."""
    if step.linking is not None:
        proving = cast(Proves, strategy)
        if step.token_hash:
            return await proving.resume_proof(attempt, step.kept, step.linking.kuid)
        return await proving.prove(attempt, step.linking.kuid)
    if step.token_hash:
        return await cast(Resumes, strategy).resume(attempt, step.kept)
    return await strategy.verify(attempt)


def _guards_of(linking: Linking, proven: Proven) -> tuple[Change, ...]:
    """Return what must hold when proved credentials are stored: the user, session or key that
    began must still exist."""
    begun_by: tuple[Change, ...] = ()
    if linking.family:
        newest: Row = {"family": linking.family, "refreshed_at": None}
        begun_by = (Present(Table.SESSIONS, newest),)
    elif linking.key:
        begun_by = (Present(Table.API_KEYS, {"token_hash": bytes.fromhex(linking.key)}),)
    return (*owner_guard(linking.kuid), *begun_by, *proven.guards)


def _state_of(attempt: LoginAttempt) -> object:
    return attempt.body.get("state") or attempt.args.get("state")


def _account_of(name: str, strategy: Strategy, attempt: LoginAttempt) -> str | None:
    """Return the account that is tried, if the strategy names one; each strategy has its own.
    Identifiers longer than any user's are cut."""
    account_of = getattr(strategy, "account_of", None)
    account = None if account_of is None else account_of(attempt)
    return typed_account(name, account) if isinstance(account, str) else None


def _is_first(step: Step) -> bool:
    """Return whether this begins a login: it does not continue one, and links nothing."""
    return not step.token_hash and step.linking is None
