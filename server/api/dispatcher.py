"""Request dispatcher: checks the origin, token, permissions and rate limits of a request, runs its
action and builds the response. Contains the only broad `except`.

Permissions are checked before existence: a caller without rights learns nothing about actions.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from time import monotonic

from protocol.api.envelope import Kept
from protocol.api.request import Connected, Json, Origin, Request, Response, read_unread
from protocol.config import Wire
from protocol.errors import ApiError, error
from protocol.http11.body import parse_json
from server.api.actions import TABLE, Action, Outcome, all_actions, find
from server.api.audited import note_refusal, run_audited, source_of
from server.api.context import Services
from server.api.local_origin import find_foreign
from server.api.login_steps import is_posted_back
from server.api.readiness import Readiness
from server.api.request_log import RequestLog
from server.auth.accounts.step_up import SECOND_FACTOR, forbid
from server.auth.passwords.work_owner import attribute, owner_of
from server.auth.sessions.principal import Caller
from server.core.addresses import is_loopback
from server.core.limit_counters import Limit
from server.core.settings import UNIX_PEERS
from server.net.refusals import RefusedClients
from server.storage.base import Unavailable

_LOG = logging.getLogger("manykeys.dispatch")

# The oldest major version of each SDK that supports this API.
_OLDEST_SDK = {"js": 7, "csharp": 2, "cpp": 2, "java": 3, "android": 5, "go": 3, "php": 4}
_SDK_NAME = re.compile(r"([a-z]{1,20})@(([0-9]{1,9})[^\s]{0,64})")
READ_AT_A_TIME = 2
"""Large payloads that are parsed at the same time, each in a thread: a thread keeps some of the
memory it once used, and the interpreter runs one at a time anyway."""
_RETRY_S = 1
_WEBSOCKET = Origin.WEBSOCKET
_LOGIN = ("auth", "login")  # its failures have limits of their own
_KEYS_LIFE_S = 300
"""How long verifiers of tokens may cache the public keys (JWKS)."""

ShowPage = Callable[[Services, Request, Response], None]
"""Turns a response into an HTML page for a browser."""


class Dispatcher:
    """Dispatches the requests of one server."""

    __slots__ = (
        "_is_open",
        "_log",
        "_most_in_flight",
        "_of_http",
        "_of_sockets",
        "_quiet",
        "_readiness",
        "_refused_clients",
        "_reading",
        "_services",
        "_show_page",
        "_wire",
    )

    def __init__(
        self,
        services: Services,
        wire: Wire,
        log: RequestLog,
        *,
        is_open: bool = False,
        clock_s: Callable[[], float] = monotonic,
        show_page: ShowPage = lambda services, request, response: None,
    ) -> None:
        self._services = services
        self._show_page = show_page
        self._is_open = is_open
        self._wire = wire
        self._log = log
        self._readiness = Readiness(services.storage.check, clock_s)
        # Only with trusted proxies: all other peers are clients themselves.
        self._refused_clients = (
            RefusedClients(
                services.addresses, clock_s=clock_s, on_limit=services.counting.limits.count
            )
            if services.config.server.trusted_proxies
            else None
        )
        self._reading = asyncio.Semaphore(READ_AT_A_TIME)
        tallies = services.counting.tallies
        self._most_in_flight = services.config.limits.in_flight
        self._of_http, self._of_sockets = tallies[Origin.HTTP], tallies[Origin.WEBSOCKET]
        # Actions whose successful requests are not logged; looked up for each response.
        self._quiet = frozenset(
            (entry.controller, entry.name)
            for entry in all_actions()
            if not log.is_logged(entry.name, 200)
        )

    def answer_now(self, request: Request) -> tuple[str, Kept] | None:
        """Return request ID and cached result if the response needs no more than a lookup: a
        personal result for a live token, in a request without anything to check. None: call
        `answer`.

        Most requests of most clients are like that; this saves them two coroutines.
        """
        is_refused = request.refused is not None or request.unread is not None
        if (
            self._is_open
            or is_refused
            or request.head.needs_check
            or request.args
            or request.volatile is not None
        ):
            return None
        caller = self._services.tokens.live(request.token)
        if caller is None:
            return None
        names, person = (request.controller, request.action), caller.person
        kept = person.kept.get(names)
        if kept is None or person.rights.rate_limit or names not in self._quiet:
            return None
        if request.origin is _WEBSOCKET:
            self._of_sockets.completed += 1
            peer = request.peer
            if peer is not None and caller.token_hash != peer.linked:
                self._link(peer, caller)
        else:
            self._of_http.completed += 1
            if self._refused_clients:  # present, and not empty
                self._refused_clients.note(request, 200)
        return request.request_id or next(self._services.request_ids), kept

    async def answer(self, request: Request) -> Response:
        """Return the response to a request, and count it unless it is a probe. Never raises: errors
        become error responses."""
        if request.endpoint is not None and request.unread is None:
            return await self._answer(request)
        tally = self._of_sockets if request.origin is _WEBSOCKET else self._of_http
        if self._of_http.ongoing + self._of_sockets.ongoing >= self._most_in_flight:
            tally.failed += 1
            self._services.counting.limits.count(Limit.IN_FLIGHT)
            return self._refuse_for_now(request)
        tally.ongoing += 1
        try:
            response = await self._answer(request)
        finally:
            tally.ongoing -= 1
        if self._refused_clients is not None:
            self._refused_clients.note(request, response.status)
        if request.args:
            self._show_page(self._services, request, response)
        if response.status < 400:
            tally.completed += 1
        else:
            tally.failed += 1
        return response

    def _refuse_for_now(self, request: Request) -> Response:
        """Return 503 without reading the request."""
        request_id = request.request_id or next(self._services.request_ids)
        response = Response(request_id, request.controller, request.action)
        _fail(response, error("api.process.overloaded", retry_after_s=_RETRY_S))
        return response

    async def _answer(self, request: Request) -> Response:
        started_s = monotonic()
        services = self._services
        response = Response(request.request_id or next(services.request_ids))
        caller: Caller | None = None
        try:
            if self._is_open and request.refused is None:
                self._check_local(request)
            if request.unread is not None:
                async with self._reading:
                    await asyncio.to_thread(read_unread, request, self._wire.body_limits)
                response.request_id = request.request_id or response.request_id
            if request.refused is not None:
                raise request.refused
            if request.endpoint is not None:
                await self._answer_endpoint(request.endpoint, response)
                return response
            controller, name = request.controller, request.action
            response.controller, response.action = controller, name
            if not controller:
                raise error("api.assert.missing_argument", "controller")
            if not name:
                raise error("api.assert.missing_argument", "action")
            args = request.args if "targets" not in request.args else _target_args(request.args)
            token, is_logout = request.token, False
            if request.head.needs_check or "cookieAuth" in args:
                token, is_logout = self._choose_token(request)
            caller = services.tokens.live(token)
            if self._refused_clients and (caller is None or caller.is_anonymous):
                self._check_refusals(request)
            if caller is None:
                caller = await self._verify(request, token, is_logout)
            if request.origin is _WEBSOCKET and request.peer is not None:
                self._link(request.peer, caller)
            person = caller.person
            if is_logout:
                action = find(controller, name)  # deleting one's own cookie needs no permission
            else:
                is_permitted = not args and (controller, name) in person.permitted
                action = find(controller, name) if is_permitted else None
            if action is None:
                await self._check_rights(caller, request, args)
            if person.rights.rate_limit or services.limits.logins_per_second:
                self._check_limits(caller, request)
            if action is None:
                action = _find_for(caller, controller, name, args)
            if request.volatile is not None and services.config.server.strict_sdk_version:
                _check_sdk(request.volatile)
            await self._run(action, caller, request, response)
        except ApiError as refused:
            if refused.limit is not None:
                services.counting.limits.count(Limit(refused.limit))
            _fail(response, refused)
        except Unavailable as reason:
            _LOG.error("the store is not available: %s", reason)
            _fail(
                response,
                error("services.storage.not_connected", status=503, retry_after_s=_RETRY_S),
            )
        except Exception:
            _LOG.exception("%s:%s failed", request.controller, request.action)
            _fail(response, error("plugin.runtime.unexpected_error", "see the server's log"))
        if response.status != 200 or (response.controller, response.action) not in self._quiet:
            self._write_log(request, response, caller, (monotonic() - started_s) * 1000)
        return response

    def _check_refusals(self, request: Request) -> None:
        """Refuse an unauthenticated client that has only got refusals so far, unless it logs in."""
        names = (request.controller, request.action)
        if self._refused_clients is not None and names != _LOGIN:
            self._refused_clients.check(request)

    def _choose_token(self, request: Request) -> tuple[str | None, bool]:
        """Return the token that authenticates the request, and whether it is a logout (see
        `Cookies`). ApiError for an origin that is not allowed."""
        if is_posted_back(self._services, request):
            return None, False  # the form is only stored, without authentication
        self._check_origin(request.head.headers.get("origin"))
        return self._services.cookies.choose_token(request)

    def _write_log(
        self, request: Request, response: Response, caller: Caller | None, duration_ms: float
    ) -> None:
        if not self._log.is_logged(response.action, response.status):
            return
        self._log.log_request(
            request_id=response.request_id,
            kuid=None if caller is None else caller.kuid,
            controller=response.controller,
            action=response.action,
            status=response.status,
            duration_ms=duration_ms,
            origin=request.origin.value,
            address=self._services.addresses.of(request),
        )

    def _check_origin(self, origin: str | None) -> None:
        """Refuse a page of an origin that is not allowed, before anything is looked up."""
        if origin and not self._wire.allows_origin(origin):
            raise error("api.process.unauthorized_origin", origin)

    def _check_local(self, request: Request) -> None:
        """With `--open` every request is allowed, so raise 401 for requests of a foreign web page,
        of a page that found this server by a name that is not loopback (DNS rebinding), and of a
        client that according to a proxy is on another machine."""
        headers = request.headers
        field = find_foreign(headers)
        if field == "Origin":
            raise error("api.process.unauthorized_origin", headers["origin"])
        if field is not None:
            message = f"--open accepts only requests of this machine: {field} is not local"
            raise error("api.process.unauthorized_origin", message=message)
        address = self._services.addresses.of(request)
        if address != UNIX_PEERS and not is_loopback(address):
            message = "--open accepts only requests of this machine: the client is on another one"
            raise error("api.process.unauthorized_origin", message=message)

    async def _verify(self, request: Request, token: str | None, is_logout: bool) -> Caller:
        """Return the caller of a token; in a logout an expired token is the anonymous user's."""
        is_refresh = (request.controller, request.action) == ("auth", "refreshToken")
        try:
            source = source_of(self._services, request)
            return await self._services.tokens.verify(token, source, is_refresh=is_refresh)
        except ApiError:
            if not is_logout:
                raise
        return await self._services.tokens.verify(None)

    async def _run(
        self, action: Action, caller: Caller, request: Request, response: Response
    ) -> None:
        """Run the action, or use its cached result."""
        names, person = (action.controller, action.name), caller.person
        response.result = person.kept.get(names)
        if response.result is not None:
            return
        services = self._services
        if action.is_audited and (services.trail.is_on or services.notifier.is_on):
            work: Awaitable[Json | Outcome] = run_audited(services, action, caller, request)
        else:
            work = action.handler(services, caller, request)
        if action.hashes:
            owner = owner_of(caller.kuid, services.addresses.of(request))
            work = attribute(owner, work)
        result = await work
        if action.is_personal and not isinstance(result, Outcome):
            result = person.kept[names] = Kept(result)
        if isinstance(result, Outcome):
            _apply_outcome(response, result)
        else:
            response.result = result

    def _link(self, peer: Connected, caller: Caller) -> None:
        """Link a WebSocket to the token of its request, so that it is notified when the token
        expires; anonymous requests change nothing."""
        if not caller.is_anonymous and caller.token_hash != peer.linked:
            self._services.links.link(peer, caller)

    async def _check_rights(
        self, caller: Caller, request: Request, args: dict[str, object]
    ) -> None:
        """Raise ApiError if the caller lacks the permission, unless the action is allowed to all
        until there is an administrator."""
        controller, name = request.controller or "", request.action or ""
        if caller.person.rights.allows(controller, name, args):
            return
        action = find(controller, name)
        if action is None or not action.while_no_admin or await self._services.users.admin_exists():
            beyond = caller.person.beyond
            if beyond is not None and beyond.allows(controller, name, args):
                refused = forbid(SECOND_FACTOR)
            else:
                which = "unauthorized" if caller.is_anonymous else "forbidden"
                refused = error(f"security.rights.{which}", controller, name, caller.kuid)
            self._note_refusal(caller, request, refused)
            raise refused

    def _check_limits(self, caller: Caller, request: Request) -> None:
        try:
            self._services.limits.check(
                f"{request.controller}:{request.action}",
                caller.kuid,
                rate_limit=caller.person.rights.rate_limit,
                is_anonymous=caller.is_anonymous,
                connection=request.peer,
                address=self._services.addresses.of(request) if caller.is_anonymous else "",
            )
        except ApiError as refused:
            self._note_refusal(caller, request, refused)
            raise

    def _note_refusal(self, caller: Caller, request: Request, refused: ApiError) -> None:
        action = find(request.controller or "", request.action or "")
        if action is not None and action.is_audited:
            note_refusal(self._services, action, caller, request, refused)

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


def _find_for(caller: Caller, controller: str, name: str, args: dict[str, object]) -> Action:
    """Return the action, and cache the permission if it does not depend on arguments."""
    action = find(controller, name)
    if action is None:
        if controller in TABLE:
            raise error("api.process.action_not_found", controller, name)
        raise error("api.process.controller_not_found", controller)
    if action.needs_user and caller.is_anonymous:
        raise error("security.rights.unauthorized", controller, name)
    if not args and not action.while_no_admin:
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


def _apply_outcome(response: Response, outcome: Outcome) -> None:
    response.result, response.status = outcome.result, outcome.status
    response.headers = outcome.headers
    response.error = None if outcome.error is None else outcome.error.as_data()
    response.cookies = outcome.cookies
    response.is_private, response.is_raw = outcome.is_private, outcome.is_raw
    response.has_result = outcome.has_result


def _fail(response: Response, refused: ApiError) -> None:
    response.error, response.status, response.result = refused.as_data(), refused.status, None
    response.is_private = bool(refused.more)  # it may hold a token
