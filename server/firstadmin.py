"""Who may create the first administrator: a program on this machine, or a client that sends the
setup code.

The code is created when there is no administrator, shown once to the operator, and kept in memory
only.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

from protocol.errors import ApiError, error
from protocol.messages import Request
from server.addresses import is_loopback
from server.auth.passwordrules import PasswordRules
from server.auth.strategies.registry import Strategies
from server.local_origin import is_local_host, is_local_page
from server.storage.base import Entry, Noted, Unavailable

_LOG = logging.getLogger("manykeys.setup")
# A proxy on this machine makes every client look local. Most add one of these; since no list of
# them is complete, a configuration that names proxies needs the code anyway.
_FORWARDING = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "via",
)
_CHECK_S = 1.0
"""How soon a new code is shown after the last administrator is gone."""


class FirstAdmin:
    """The setup code of this process.

    `accepts_local` is whether programs on this machine need no code, `rules` are those for the
    administrator's password, None for none. `code` is None while there is an administrator;
    `on_code` is called with each code but the first one, which is shown at start.
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

    def check(self, request: Request, code: object) -> None:
        """Refuse (ApiError 401) a request that may not create the first administrator.

        A code that is sent is compared whatever else is true; without one, only a local program is
        accepted: loopback peer, loopback `Host`, no forwarding field, no foreign page.
        """
        if isinstance(code, str):
            expected = self.code
            if expected is not None and hmac.compare_digest(
                code.encode(errors="replace"), expected.encode()
            ):
                return
        elif self._accepts_local and _is_local_program(request):
            return
        raise _refusal(is_wrong=code is not None)

    async def check_credentials(self, credentials: Mapping[str, object]) -> None:
        """Refuse (ApiError 400) an administrator who could not log in, without credentials of a
        strategy that can log in alone, or whose password is weak."""
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
        """Drop the code: there is an administrator now."""
        self.code = None

    def notice(self, entries: Sequence[Entry]) -> None:
        """Note changes of users, after which the last administrator may be gone."""
        if any(entry.noted is Noted.USER for entry in entries):
            self._is_stale = True

    async def refresh(self) -> None:
        """Create a code if the last administrator is gone, drop it if there is one again."""
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
            self.code = secrets.token_urlsafe(12)
            if self.on_code is not None:
                self.on_code(self.code)

    async def watch(self) -> None:
        """Keep the code up to date until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            try:
                await self.refresh()
            except Unavailable as reason:
                _LOG.warning("whether there is an administrator is unknown: %s", reason)


def _is_local_program(request: Request) -> bool:
    """Return whether a request comes from a program on this machine, by all that can be seen."""
    headers = request.headers
    return (
        request.peer is not None
        and is_loopback(request.peer.address)
        and is_local_host(headers)
        and is_local_page(headers)
        and not any(name in headers for name in _FORWARDING)
    )


def _refusal(*, is_wrong: bool) -> ApiError:
    what = "This setup code is not valid" if is_wrong else "A setup code is required"
    return error(
        "security.rights.unauthorized",
        message=f"{what}: send the one that the server prints at start as the argument setupCode, "
        "or create the administrator with the command manykeys create-admin",
    )
