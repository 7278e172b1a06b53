"""Request pipeline: the steps from a request to its result, in the order of the API's checks.

Permissions are checked before existence: a caller without rights learns nothing about actions. A
step that refuses raises ApiError; nothing but the `Call` carries state from one step to the next.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

from protocol.api.envelope import PreparedJson
from protocol.api.request import Json, Origin, Request, Response, parse_large_body
from protocol.config import ConnectionConfig
from protocol.errors import ApiError, error
from protocol.http11.body import parse_json
from server.api.actions import TABLE, Action, Outcome, find
from server.api.audited import note_refusal, run_audited, source_of
from server.api.context import AppContext
from server.api.local_origin import find_foreign, is_forwarded
from server.api.login_steps import is_posted_back
from server.api.readiness import Readiness
from server.auth.accounts.step_up import SECOND_FACTOR, forbid
from server.auth.passwords.work_owner import attribute, owner_of
from server.auth.sessions.principal import Caller
from server.core.addresses import is_loopback
from server.core.settings import UNIX_PEERS
from server.net.refusals import RefusedClients

# The oldest major version of each SDK that supports this API.
_OLDEST_SDK = {"js": 7, "csharp": 2, "cpp": 2, "java": 3, "android": 5, "go": 3, "php": 4}
_SDK_NAME = re.compile(r"([a-z]{1,20})@(([0-9]{1,9})[^\s]{0,64})")
READ_AT_A_TIME = 2
"""Large payloads that are parsed at the same time, each in a thread: a thread keeps some of the
memory it once used, and the interpreter runs one at a time anyway."""
_RETRY_S = 1
_WEBSOCKET = Origin.WEBSOCKET
_LOGIN = ("auth", "login")  # its failures have limits of their own
_REFRESH = ("auth", "refreshToken")
_KEYS_LIFE_S = 300
"""How long verifiers of tokens may cache the public keys (JWKS)."""


@dataclass(slots=True, eq=False)
class Call:
    """One request on its way through the pipeline, and the response it gets.

    `caller` is None until the request is authenticated; `is_logout` says that it only ends the
    session of its cookie, which needs no permission.
    """

    request: Request
    response: Response
    controller: str = ""
    action: str = ""
    args: dict[str, object] = field(default_factory=dict)
    token: str | None = None
    is_logout: bool = False
    caller: Caller | None = None

    @property
    def principal(self) -> Caller:
        """The caller of an authenticated request."""
        assert self.caller is not None  # noqa: S101  (the order of the steps)
        return self.caller


class Pipeline:
    """The steps of one server. `refused_clients` holds back clients of trusted proxies that get
    nothing but refusals; None without such proxies."""

    __slots__ = (
        "_is_open",
        "_readiness",
        "_reading",
        "_refused_clients",
        "_services",
        "_wire",
    )

    def __init__(
        self,
        services: AppContext,
        wire: ConnectionConfig,
        refused_clients: RefusedClients | None,
        *,
        is_open: bool = False,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._services = services
        self._wire = wire
        self._refused_clients = refused_clients
        self._is_open = is_open
        self._readiness = Readiness(services.storage.check, clock_s)
        self._reading = asyncio.Semaphore(READ_AT_A_TIME)

    async def run(self, call: Call) -> None:
        """Take a request through all steps; its result is in `call.response` afterwards."""
        request = call.request
        if self._is_open and request.refused is None:
            self._check_local(request)
        if request.unread is not None:
            await self._parse_body(call)
        if request.refused is not None:
            raise request.refused
        if request.endpoint is not None:
            await self._answer_endpoint(request.endpoint, call.response)
            return
        _read_names(call)
        self._choose_token(call)
        call.caller = self._services.tokens.live(call.token)
        self._check_refusals(call)
        if call.caller is None:
            await self._authenticate(call)
        self.link(request, call.principal)
        if not self._is_permitted(call):
            await self._authorize(call)
        self._check_rate_limits(call)
        action = _find_action(call)
        if request.volatile is not None and self._services.config.server.strict_sdk_version:
            _check_sdk(request.volatile)
        await self._run_action(action, call)

    def _check_local(self, request: Request) -> None:
        """With `--open` every request is allowed, so raise 401 for requests of a foreign web page,
        of a page that found this server by a name that is not loopback (DNS rebinding), and of a
        client that according to a proxy is on another machine."""
        headers = request.headers
        name = find_foreign(headers)
        if name == "Origin":
            raise error("api.process.unauthorized_origin", headers["origin"])
        if name is not None:
            message = f"--open accepts only requests of this machine: {name} is not local"
            raise error("api.process.unauthorized_origin", message=message)
        addresses, peer = self._services.addresses, request.peer
        address = addresses.of(request)
        is_named = peer is not None and address != peer.address
        if is_forwarded(headers) and not is_named:
            message = "--open accepts only requests of this machine: a proxy has forwarded this one"
            raise error("api.process.unauthorized_origin", message=message)
        if address != UNIX_PEERS and not is_loopback(address):
            message = "--open accepts only requests of this machine: the client is on another one"
            raise error("api.process.unauthorized_origin", message=message)

    async def _parse_body(self, call: Call) -> None:
        """Parse a large body in a thread; only then the request ID may be known."""
        async with self._reading:
            await asyncio.to_thread(parse_large_body, call.request, self._wire.body_limits)
        call.response.request_id = call.request.request_id or call.response.request_id

    async def _answer_endpoint(self, endpoint: str, response: Response) -> None:
        """Answer an endpoint without permissions and controller."""
        if endpoint in ("preflight", "root"):
            response.result = {}
        elif endpoint == "jwks":
            response.result, response.is_raw = self._services.keyring.public_keys(), True
            response.headers = {
                "content-type": "application/json",
                "cache-control": f"public, max-age={_KEYS_LIFE_S}",
            }
        elif endpoint == "ready" and not await self._readiness.is_ready():
            raise error("api.process.overloaded", retry_after_s=_RETRY_S)

    def _choose_token(self, call: Call) -> None:
        """Find the token that authenticates the request: the one sent with it, or a cookie's from a
        page of an allowed origin (see `Cookies`)."""
        request = call.request
        call.token = request.token
        if not request.head.needs_check and "cookieAuth" not in call.args:
            return
        if is_posted_back(self._services, request):
            call.token = None  # the form is only stored, without authentication
            return
        origin = request.head.headers.get("origin")
        if origin and not self._wire.allows_origin(origin):
            raise error("api.process.unauthorized_origin", origin)
        call.token, call.is_logout = self._services.cookies.choose_token(request)

    def _check_refusals(self, call: Call) -> None:
        """Refuse an unauthenticated client that has only got refusals so far, unless it logs in."""
        clients = self._refused_clients
        if not clients or (call.controller, call.action) == _LOGIN:
            return
        if call.caller is None or call.caller.is_anonymous:
            clients.check(call.request)

    async def _authenticate(self, call: Call) -> None:
        """Verify the token; in a logout a token that is not valid is the anonymous user's."""
        tokens = self._services.tokens
        is_refresh = (call.controller, call.action) == _REFRESH
        source = source_of(self._services, call.request)
        try:
            call.caller = await tokens.verify(call.token, source, is_refresh=is_refresh)
        except ApiError:
            if not call.is_logout:
                raise
            call.caller = await tokens.verify(None)

    def link(self, request: Request, caller: Caller) -> None:
        """Link a WebSocket to the token of its request, so that it is notified when the token
        expires; anonymous requests change nothing."""
        peer = request.peer
        if request.origin is not _WEBSOCKET or peer is None or caller.is_anonymous:
            return
        if caller.token_hash != peer.linked:
            self._services.links.link(peer, caller)

    def _is_permitted(self, call: Call) -> bool:
        """Return whether no look at the permissions is needed: deleting one's own cookie needs
        none, and what was found before, without arguments, still holds."""
        if call.is_logout:
            return True
        permitted = call.principal.person.permitted
        return not call.args and (call.controller, call.action) in permitted

    async def _authorize(self, call: Call) -> None:
        """Raise ApiError if the caller lacks the permission, unless the action is allowed to all
        until there is an administrator."""
        caller, names = call.principal, (call.controller, call.action)
        person = caller.person
        if person.rights.allows(*names, call.args):
            return
        action = find(*names)
        if action is not None and action.while_no_admin:
            if not await self._services.users.admin_exists():
                return
        if person.beyond is not None and person.beyond.allows(*names, call.args):
            refused = forbid(SECOND_FACTOR)
        else:
            which = "unauthorized" if caller.is_anonymous else "forbidden"
            refused = error(f"security.rights.{which}", *names, caller.kuid)
        self._note_refusal(call, refused)
        raise refused

    def _check_rate_limits(self, call: Call) -> None:
        caller, services = call.principal, self._services
        rate_limit = caller.person.rights.rate_limit
        if not rate_limit and not services.limits.logins_per_second:
            return
        try:
            services.limits.check(
                f"{call.controller}:{call.action}",
                caller.kuid,
                rate_limit=rate_limit,
                is_anonymous=caller.is_anonymous,
                connection=call.request.peer,
                address=services.addresses.of(call.request) if caller.is_anonymous else "",
            )
        except ApiError as refused:
            self._note_refusal(call, refused)
            raise

    def _note_refusal(self, call: Call, refused: ApiError) -> None:
        """Audit a refusal of an audited action."""
        action = find(call.controller, call.action)
        if action is not None and action.is_audited:
            note_refusal(self._services, action, call.principal, call.request, refused)

    async def _run_action(self, action: Action, call: Call) -> None:
        """Run the action, or use its cached result."""
        names, person = (action.controller, action.name), call.principal.person
        call.response.result = person.kept.get(names)
        if call.response.result is not None:
            return
        result = await self._work_of(action, call)
        if isinstance(result, Outcome):
            _take_outcome(call.response, result)
            return
        if action.is_personal:
            result = person.kept[names] = PreparedJson(result)
        call.response.result = result

    def _work_of(self, action: Action, call: Call) -> Awaitable[Json | Outcome]:
        """Return the handler's work: audited where the action is, and with its hashing attributed
        to the caller where it hashes."""
        services, caller, request = self._services, call.principal, call.request
        if action.is_audited and (services.trail.is_on or services.notifier.is_on):
            work: Awaitable[Json | Outcome] = run_audited(services, action, caller, request)
        else:
            work = action.handler(services, caller, request)
        if action.hashes:
            return attribute(owner_of(caller.kuid, services.addresses.of(request)), work)
        return work


def _read_names(call: Call) -> None:
    """Read controller, action and arguments."""
    request, response = call.request, call.response
    response.controller, response.action = request.controller, request.action
    if not request.controller:
        raise error("api.assert.missing_argument", "controller")
    if not request.action:
        raise error("api.assert.missing_argument", "action")
    call.controller, call.action = request.controller, request.action
    call.args = _target_args(request.args) if "targets" in request.args else request.args


def _target_args(args: dict[str, object]) -> dict[str, object]:
    """Return the arguments with `targets` as an array: over HTTP it is a string of JSON."""
    if "index" in args or "collection" in args:
        raise error("api.assert.mutually_exclusive", "index, collection", "targets")
    targets = args["targets"]
    if isinstance(targets, str):
        try:
            targets = parse_json(targets.encode(), place="targets")
        except ValueError:
            targets = None
    if not isinstance(targets, list):
        raise error("api.assert.invalid_type", "targets", "array")
    return {**args, "targets": targets}


def _find_action(call: Call) -> Action:
    """Return the action, and remember the permission if it does not depend on arguments."""
    controller, name, caller = call.controller, call.action, call.principal
    action = find(controller, name)
    if action is None:
        if controller in TABLE:
            raise error("api.process.action_not_found", controller, name)
        raise error("api.process.controller_not_found", controller)
    if call.is_logout:
        return action
    if action.needs_user and caller.is_anonymous:
        raise error("security.rights.unauthorized", controller, name)
    if not call.args and not action.while_no_admin:
        caller.person.permitted.add((controller, name))
    return action


def _check_sdk(volatile: dict[str, object]) -> None:
    """Raise ApiError for an SDK older than this API; major versions are compared as numbers."""
    if volatile.get("sdkVersion"):
        raise error(
            "api.process.incompatible_sdk_version", volatile["sdkVersion"], "min: 7, max: none"
        )
    named = volatile.get("sdkName")
    sdk = _SDK_NAME.fullmatch(named) if isinstance(named, str) else None
    oldest = _OLDEST_SDK.get(sdk[1]) if sdk is not None else None
    if sdk is not None and oldest is not None and int(sdk[3]) < oldest:
        raise error("api.process.incompatible_sdk_version", sdk[2], f"min: {oldest}, max: none")


def _take_outcome(response: Response, outcome: Outcome) -> None:
    response.result, response.status = outcome.result, outcome.status
    response.headers = outcome.headers
    response.error = None if outcome.error is None else outcome.error.as_data()
    response.cookies = outcome.cookies
    response.is_private, response.is_raw = outcome.is_private, outcome.is_raw
    response.has_result = outcome.has_result
