"""Isolation of third-party strategies: timeouts, limits and checks of what they return.

Each call runs in a task of its own and is abandoned after a timeout. What it raises is logged
without its text, which may contain what a user has sent, and answered with a fixed error; what it
returns is checked before it is used. A call that blocks the event loop cannot be prevented.
"""

import asyncio
import logging
import re
import traceback
from collections.abc import Awaitable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import orjson

from protocol.errors import ApiError, error
from server.auth.strategies.base import (
    Challenge,
    LoginAttempt,
    Outcome,
    Prepared,
    Redirect,
    Strategy,
)
from server.storage.base import Change, Unavailable

_LOG = logging.getLogger("manykeys.strategies")
MOST_CALLS = 1000
"""Maximum number of calls of one strategy in progress, including abandoned ones until they end."""
EXISTS_S = 2.0
"""Timeout for finding out whether a user has credentials: `getCurrentUser` asks all strategies."""
_CLOSE_TIMEOUT_S = 1.0
"""How long calls that are cancelled at shutdown may take to clean up."""
# Looked up by name on the wrapper, so it must not have those that the strategy lacks.
_OPTIONAL = (
    *("resume", "prove", "resume_proof", "get_by_id", "get_info", "search", "refresh_token"),
    *("validate_new", "check_present_password", "second_factor", "check_second_factor"),
    *("confirm_password", "make_reset_token"),
    "accounts_of",
)
_SHOWN = ("get_by_id", "get_info", "search")
_AUTHENTICATES = ("verify", "resume", "prove", "resume_proof", "check_second_factor")
# What a Location field may contain (RFC 9110 §10.2.2), with a scheme; nothing that ends the field.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,8000}")
_REDIRECTS = (301, 302, 303, 307, 308)

T = TypeVar("T")


class SandboxedStrategy:
    """A strategy under `name` whose calls time out after `timeout_s`."""

    def __init__(self, name: str, strategy: Strategy, *, timeout_s: float) -> None:
        self.name = name
        self.fields = tuple(map(str, strategy.fields))
        self.logs_in = getattr(strategy, "logs_in", True) is not False
        # Origins whose windows receive the result of a login in a browser, None if it has none.
        self.window_origins = _origins_of(strategy)
        self.asks_elsewhere = getattr(strategy, "asks_elsewhere", False) is True
        self.takes_forms = getattr(strategy, "takes_forms", False) is True
        self.state_field = str(getattr(strategy, "state_field", "state"))
        self._strategy = strategy
        self._timeout_s = timeout_s
        self._calls: set[asyncio.Task[object]] = set()
        for method in _OPTIONAL:
            if callable(getattr(strategy, method, None)):
                ask = self._show if method in _SHOWN else self._ask
                setattr(self, method, partial(ask, method))
        if callable(getattr(strategy, "delete_one", None)):
            self.delete_one = self._delete_one

    def start(self) -> None:
        """Call the strategy's `after_register`, if it has one; do not wait for it."""
        if callable(getattr(self._strategy, "after_register", None)):
            self._begin("after_register", ())

    def stop(self) -> None:
        """Cancel all calls in progress."""
        for call in self._calls:
            call.cancel()

    async def close(self) -> None:
        """Cancel all calls in progress, and wait a moment for their cleanup."""
        self.stop()
        if self._calls:
            await asyncio.wait(self._calls, timeout=_CLOSE_TIMEOUT_S)

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """See `Strategy`; the outcome is for `server.auth.login.flow` to check."""
        return cast(Outcome, await self._ask("verify", attempt))

    async def exists(self, kuid: str) -> bool:
        """See `Strategy`."""
        patience_s = min(EXISTS_S, self._timeout_s)
        return self._checked("exists", await self._wait_for("exists", (kuid,), patience_s), bool)

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`."""
        await self._ask("validate", credentials, kuid, is_update)

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        return self._prepared("create", await self._ask("create", credentials, kuid, by))

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        return self._prepared("update", await self._ask("update", credentials, kuid, by))

    async def delete(self, kuid: str) -> Prepared:
        """See `Strategy`."""
        return self._prepared("delete", await self._ask("delete", kuid))

    async def _delete_one(self, kuid: str, identifier: str) -> Prepared:
        return self._prepared("delete_one", await self._ask("delete_one", kuid, identifier))

    def account_of(self, attempt: LoginAttempt) -> str | None:
        """See `Strategy`; None if it names none, or fails."""
        account_of = getattr(self._strategy, "account_of", None)
        try:
            account = None if account_of is None else account_of(attempt)
        except Exception as fault:
            self._log_fault("account_of", fault)
            return None
        return account if isinstance(account, str) else None

    async def _ask(self, method: str, *given: object) -> object:
        return await self._wait_for(method, given, self._timeout_s)

    async def _show(self, method: str, *given: object) -> dict[str, object]:
        shown = self._checked(method, await self._ask(method, *given), dict)
        if not is_json(shown):
            raise self._invalid(method)
        return shown

    async def _wait_for(self, method: str, given: Iterable[object], patience_s: float) -> object:
        """Return the result of a call. ApiError: its own, or 500 for a fault, 504 for a timeout,
        503 if too many calls are in progress."""
        if len(self._calls) >= MOST_CALLS:
            raise error("plugin.runtime.too_many_pipes")
        call = self._begin(method, given)
        try:
            # Not `asyncio.timeout`: it would wait for a call that ignores its cancellation.
            await asyncio.wait((call,), timeout=patience_s)
        except asyncio.CancelledError:
            call.cancel()
            del call
            raise
        if not call.done():
            call.cancel()
            _LOG.error("strategy %s: %s timed out after %g s", self.name, method, patience_s)
            raise error("plugin.runtime.pipe_timeout", f"{self.name}.{method}")
        if call.cancelled():
            _LOG.error("strategy %s: %s cancelled itself", self.name, method)
            raise _fault()
        try:
            return call.result()
        finally:
            # An error's traceback keeps this frame: with the call in it, which keeps the error, it
            # would never be freed.
            del call

    def _begin(self, method: str, given: Iterable[object]) -> asyncio.Task[object]:
        call = asyncio.create_task(self._call(method, given), name=f"{self.name}.{method}")
        self._calls.add(call)
        call.add_done_callback(self._end)
        return call

    def _end(self, call: asyncio.Task[object]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # marked as retrieved, even if nothing waits any more

    async def _call(self, method: str, given: Iterable[object]) -> object:
        try:
            begun = getattr(self._strategy, method)(*given)
            if not isinstance(begun, Awaitable):
                raise self._not_async(method)
            return await begun
        except Unavailable:
            raise
        except ApiError as raised:
            if not 400 <= raised.status <= 599 or not is_json(raised.as_json()):
                raise self._invalid(method) from None
            raise
        except (Exception, SystemExit) as fault:
            self._log_fault(method, fault)
            raise _fault() from None

    def _log_fault(self, method: str, fault: BaseException) -> None:
        """Log where a fault was raised, never its text."""
        frames = traceback.extract_tb(fault.__traceback__)
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        kind = type(fault).__name__
        _LOG.error("strategy %s: %s failed with %s at %s", self.name, method, kind, where)

    def _not_async(self, method: str) -> ApiError:
        if method in _AUTHENTICATES:
            return error("plugin.strategy.invalid_verify_return", self.name, self.name)
        return self._invalid(method)

    def _prepared(self, method: str, given: object) -> Prepared:
        prepared = self._checked(method, given, Prepared)
        is_right = all(isinstance(change, Change) for change in prepared.changes)
        if not is_right or not is_json(prepared.shown) or not isinstance(prepared.left, int):
            raise self._invalid(method)
        return prepared

    def _checked(self, method: str, given: object, kind: type[T]) -> T:
        if not isinstance(given, kind):
            raise self._invalid(method)
        return given

    def _invalid(self, method: str) -> ApiError:
        _LOG.error("strategy %s: %s returned an invalid value", self.name, method)
        return _fault()


def _origins_of(strategy: Strategy) -> tuple[str, ...] | None:
    origins: Iterable[object] | None = getattr(strategy, "window_origins", None)
    return None if origins is None else tuple(map(str, origins))


def is_json(value: object) -> bool:
    """Return whether a value can be serialized to JSON."""
    try:
        orjson.dumps(value)
    except TypeError:  # includes JSONEncodeError, for deep nesting
        return False
    return True


def is_sound(what: Redirect | Challenge) -> bool:
    """Return whether a redirect or challenge is well-formed."""
    if not isinstance(what.kept, Mapping):
        return False
    if isinstance(what, Challenge):
        return isinstance(what.data, Mapping) and is_json(what.data)
    is_url = isinstance(what.url, str) and _URL.fullmatch(what.url) is not None
    return is_url and what.status in _REDIRECTS


def _fault() -> ApiError:
    return error("plugin.runtime.unexpected_error", "see the server's log")
