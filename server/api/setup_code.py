"""Setup code for the first administrator, who may be created by a program on this machine, or by a
client that sends the code.

The code is created when there is no administrator, shown once to the operator, and kept in memory
only.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

from protocol.errors import ApiError, error
from server.api.local_origin import find_foreign, is_forwarded
from server.auth.audit.events import tell
from server.auth.passwords.rules import PasswordRules
from server.auth.strategies.registry import Strategies
from server.core.addresses import is_loopback
from server.storage.base import Entry, EventKind, Unavailable

_LOG = logging.getLogger("manykeys.setup")
_CODE_BYTES = 12
_CHECK_S = 1.0
"""How soon a new code is shown after the last administrator was deleted."""


class SetupCode:
    """The setup code of this process.

    With `accepts_local` programs on this machine need no code; `rules` are the password rules for
    the administrator, None for none. `code` is None while there is an administrator; `on_code` is
    called with each code but the first one, which is shown at start.
    """

    __slots__ = (
        "_accepts_local",
        "_admin_exists",
        "_is_stale",
        "_rules",
        "_strategies",
        "code",
        "on_code",
    )

    def __init__(
        self,
        strategies: Strategies,
        rules: PasswordRules | None,
        *,
        accepts_local: bool,
        admin_exists: Callable[[], Awaitable[bool]],
    ) -> None:
        self._strategies = strategies
        self._rules = rules
        self._accepts_local = accepts_local
        self._admin_exists = admin_exists
        self._is_stale = True
        self.code: str | None = None
        self.on_code: Callable[[str], None] | None = None

    async def check_code(self, caller_id: str, code: object) -> None:
        """Reject (ApiError 401) a code that is not the setup code."""
        expected = self.code
        is_same = (
            isinstance(code, str)
            and expected is not None
            and hmac.compare_digest(code.encode(errors="replace"), expected.encode())
        )
        if not is_same:
            tell(reason="wrong setup code")
            raise _refusal(caller_id, "This setup code is not valid")

    def check_local(self, caller_id: str, peer_address: str, headers: Mapping[str, str]) -> None:
        """Reject (ApiError 401) a request without a code, unless programs on this machine need none
        and it is local: loopback peer, no forwarding field, no foreign page, loopback `Host`."""
        if not self._accepts_local:
            reason = "no setup code"
        elif not is_loopback(peer_address):
            reason = "no setup code, from another machine"
        elif is_forwarded(headers):
            reason = "no setup code, through a proxy"
        elif (field := find_foreign(headers)) is not None:
            reason = f"no setup code, {field} is foreign"
        else:
            return
        tell(reason=reason)
        raise _refusal(caller_id, "A setup code is required")

    async def check_credentials(self, credentials: Mapping[str, object]) -> None:
        """Reject (ApiError 400) an administrator without credentials of a strategy that can log in
        alone, or with a weak password."""
        named = (self._strategies.get(name) for name in credentials)
        if not any(getattr(strategy, "logs_in", True) is not False for strategy in named):
            raise error("api.assert.missing_argument", "body.credentials")
        local = credentials.get("local")
        if self._rules is None or not isinstance(local, Mapping):
            return
        password, username = local.get("password"), local.get("username")
        if isinstance(password, str) and isinstance(username, str):
            await self._rules.check(password, username)

    def spend(self) -> None:
        """Drop the code: an administrator was created."""
        self.code = None
        self._is_stale = True  # they may be deleted again already

    def notice(self, entries: Sequence[Entry]) -> None:
        """Handle changes of users, after which the last administrator may be gone."""
        if any(entry.noted in (EventKind.USER, EventKind.LOST) for entry in entries):
            self._is_stale = True

    async def refresh(self) -> None:
        """Create a code if there is no administrator, drop it if there is one again."""
        if not self._is_stale:
            return
        self._is_stale = False
        try:
            exists = await self._admin_exists()
        except BaseException:
            self._is_stale = True
            raise
        if exists:
            self.code = None
        elif self.code is None:
            self.code = secrets.token_urlsafe(_CODE_BYTES)
            if self.on_code is not None:
                self._show(self.on_code, self.code)

    def _show(self, on_code: Callable[[str], None], code: str) -> None:
        """Print a new code; the log, which may be stored elsewhere, never contains it."""
        _LOG.warning("no administrator is left: a new setup code was printed on standard output")
        try:
            on_code(code)
        except OSError as reason:
            _LOG.error("the setup code cannot be printed, use manykeys create-admin: %s", reason)

    async def watch(self) -> None:
        """Keep the code up to date until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            try:
                await self.refresh()
            except Unavailable as reason:
                _LOG.warning("cannot check whether there is an administrator: %s", reason)


def _refusal(caller_id: str, what: str) -> ApiError:
    return error(
        "security.rights.unauthorized",
        *("security", "createFirstAdmin", caller_id),
        message=f"{what}: send the one that the server printed as the argument setupCode, "
        "or create the administrator with the command manykeys create-admin",
    )
