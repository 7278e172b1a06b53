"""Request dispatcher: takes each request through the pipeline, turns errors into responses, counts
and logs. Contains the only broad `except`.
"""

import logging
from collections.abc import Callable
from time import monotonic

from protocol.api.envelope import PreparedJson
from protocol.api.request import Origin, Request, Response
from protocol.config import ConnectionConfig
from protocol.errors import ApiError, error
from server.api.actions import all_actions
from server.api.context import AppContext
from server.api.pipeline import Call, Pipeline
from server.api.request_log import RequestLog
from server.core.limit_counters import Limit
from server.net.refusals import RefusedClients
from server.storage.base import Unavailable

_LOG = logging.getLogger("manykeys.dispatch")
_RETRY_S = 1
_WEBSOCKET = Origin.WEBSOCKET

ShowPage = Callable[[AppContext, Request, Response], None]
"""Turns a response into an HTML page for a browser."""


class Dispatcher:
    """Dispatches the requests of one server."""

    __slots__ = (
        "_is_open",
        "_log",
        "_most_in_flight",
        "_of_http",
        "_of_sockets",
        "_pipeline",
        "_quiet",
        "_refused_clients",
        "_services",
        "_show_page",
    )

    def __init__(
        self,
        services: AppContext,
        wire: ConnectionConfig,
        log: RequestLog,
        *,
        is_open: bool = False,
        clock_s: Callable[[], float] = monotonic,
        show_page: ShowPage = lambda services, request, response: None,
    ) -> None:
        self._services = services
        self._show_page = show_page
        self._is_open = is_open
        self._log = log
        # Only with trusted proxies: all other peers are clients themselves.
        self._refused_clients = (
            RefusedClients(
                services.addresses, clock_s=clock_s, on_limit=services.counting.limits.count
            )
            if services.config.server.trusted_proxies
            else None
        )
        self._pipeline = Pipeline(
            services, wire, self._refused_clients, is_open=is_open, clock_s=clock_s
        )
        tallies = services.counting.tallies
        self._most_in_flight = services.config.limits.in_flight
        self._of_http, self._of_sockets = tallies[Origin.HTTP], tallies[Origin.WEBSOCKET]
        # Actions whose successful requests are not logged; looked up for each response.
        self._quiet = frozenset(
            (entry.controller, entry.name)
            for entry in all_actions()
            if not log.is_logged(entry.name, 200)
        )

    def try_cached(self, request: Request) -> tuple[str, PreparedJson] | None:
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
            self._pipeline.link(request, caller)
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
        """Return what the pipeline makes of a request, an error response where it refuses or
        fails."""
        started_s = monotonic()
        response = Response(request.request_id or next(self._services.request_ids))
        call = Call(request, response)
        try:
            await self._pipeline.run(call)
        except ApiError as refused:
            if refused.limit is not None:
                self._services.counting.limits.count(Limit(refused.limit))
            _fail(response, refused)
        except Unavailable as reason:
            _LOG.error("the store is not available: %s", reason)
            unavailable = error(
                "services.storage.not_connected", status=503, retry_after_s=_RETRY_S
            )
            _fail(response, unavailable)
        except Exception:
            _LOG.exception("%s:%s failed", request.controller, request.action)
            _fail(response, error("plugin.runtime.unexpected_error", "see the server's log"))
        if response.status != 200 or (response.controller, response.action) not in self._quiet:
            self._write_log(call, (monotonic() - started_s) * 1000)
        return response

    def _write_log(self, call: Call, duration_ms: float) -> None:
        response = call.response
        if not self._log.is_logged(response.action, response.status):
            return
        self._log.log_request(
            request_id=response.request_id,
            kuid=None if call.caller is None else call.caller.kuid,
            controller=response.controller,
            action=response.action,
            status=response.status,
            duration_ms=duration_ms,
            origin=call.request.origin.value,
            address=self._services.addresses.of(call.request),
        )


def _fail(response: Response, refused: ApiError) -> None:
    response.error, response.status, response.result = refused.as_data(), refused.status, None
    response.is_private = bool(refused.more)  # it may hold a token
