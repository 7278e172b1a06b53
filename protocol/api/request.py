"""Request and Response of the API, common to HTTP and WebSocket.

Independent of sockets and actions. An invalid request is still a Request: its `refused` is the
error, so that it is answered in an envelope like all others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol
from urllib.parse import unquote_to_bytes

import orjson

from protocol.config import Routes
from protocol.errors import ApiError, error
from protocol.http11.body import (
    JSON_VALUES,
    Body,
    BodyLimits,
    add_field,
    check_nesting,
    count_values,
    parse_json,
    parse_pairs,
    read_body,
)
from protocol.http11.head import Head

Json = object
"""Any JSON value, or at the top of a result `PreparedJson`: JSON that was serialized before."""

_PAYLOAD_FIELDS = ("controller", "action", "jwt", "volatile", "body", "requestId")
# A query string ends up in logs and histories: it must not select the action or authenticate.
PREVIOUS_TOKEN = "previousToken"  # noqa: S105  (a name)
"""The argument of a login that contains a former token of the account."""
_NEVER_FROM_QUERY = frozenset((*_PAYLOAD_FIELDS, PREVIOUS_TOKEN))
_QUERY_FIELDS = 1000
# Above this size a body is parsed by another thread than the event loop's.
READ_AT_ONCE_BYTES = 64 * 1024
# A request ID is returned in a header and, over WebSocket, twice: its length is limited.
_REQUEST_ID_CHARACTERS = 128
_REQUEST_ID_HEADER = re.compile(rf"[!-~]{{1,{_REQUEST_ID_CHARACTERS}}}")

# The keep-alive of Kuzzle's clients, a message of its own beside WebSocket's.
PONG = b'{"p":2}'
PING_MOST_BYTES = 32


class Origin(Enum):
    """The protocol of a request; the value is its name in the API."""

    HTTP = "http"
    WEBSOCKET = "websocket"


# Looked up for each request, and a module global is ten times faster than an enum member.
_HTTP, _WEBSOCKET = Origin.HTTP, Origin.WEBSOCKET


class Connected(Protocol):
    """The peer of a request, as far as the application may know it; the application stores the
    token of a WebSocket in `linked`."""

    linked: bytes

    @property
    def address(self) -> str:
        """Its address, or "" without one."""

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection uses TLS."""

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The DER of its verified TLS client certificate, then of the intermediates it sent."""

    def client_of(self, headers: Mapping[str, str]) -> bytes | None:
        """Return the key that the resources of this client are counted under, None if it has no
        limits; behind a trusted proxy the headers of the request name the client."""

    def is_socket_allowed(self, headers: Mapping[str, str]) -> bool:
        """Return whether the client may open one more WebSocket, and count it if so."""

    def push(self, text: bytes) -> None:
        """Send a notification, if this is a WebSocket."""


@dataclass(slots=True, eq=False)
class Request:
    """One request, from either protocol. Only `parse_large_body` changes it after it was created.

    `args` are top-level keys (WebSocket, `/_query`; then `is_typed`) or query string and path
    parameters, which are strings. `request_id` is None if the client sent none. `headers` are the
    HTTP request's, or the upgrade request's of a WebSocket. `unread` contains a large payload until
    `parse_large_body`, which may still set any field. `refused` is the error of an invalid request.
    A connection returns the same Request again if its client repeats it byte for byte, over
    WebSocket with another `request_id`. `weight_bytes` is its size for the connection's limits,
    with its head and payload.
    """

    origin: Origin
    head: Head
    peer: Connected | None = None
    controller: str | None = None
    action: str | None = None
    token: str | None = None
    volatile: dict[str, object] | None = None
    body: Body = None
    args: dict[str, object] = field(default_factory=dict)
    request_id: str | None = None
    is_typed: bool = True
    is_pretty: bool = False
    endpoint: str | None = None
    unread: bytes | None = None
    refused: ApiError | None = None
    has_room: bool = True
    weight_bytes: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """Lower-case names to values."""
        return self.head.headers


@dataclass(slots=True, eq=False)
class Response:
    """The response to a request.

    `headers` are those set by an action, by lower-case name; the envelope shows them too, except
    `set-cookie`; `cookies` are further values of that field. With `is_raw` the result alone is the
    response body. `is_private` marks a response with a token: never cached, never compressed. With
    `has_result` False the envelope has no `result` at all.
    """

    request_id: str
    controller: str | None = None
    action: str | None = None
    result: Json = None
    status: int = 200
    error: ApiError | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
    is_raw: bool = False
    is_private: bool = False
    has_result: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether this is a success with a result and nothing else."""
        return (
            self.status == 200
            and self.error is None
            and not self.headers
            and not self.cookies
            and not self.is_private
            and not self.is_raw
            and self.has_result
        )


def from_http(
    head: Head, raw: bytes, routes: Routes, limits: BodyLimits, peer: Connected | None
) -> Request:
    """Create the Request of an HTTP message."""
    request = Request(_HTTP, head, peer, is_typed=False)
    try:
        _read_request_id(request)
        _route(request, routes)
        _read_credentials(request)
        if len(raw) > READ_AT_ONCE_BYTES or (raw and "content-encoding" in head.headers):
            request.unread = raw
        else:
            _read_http_body(request, raw, limits)
    except ApiError as refused:
        request.refused = refused.as_data()
    return request


def from_websocket(
    raw: bytes, head: Head, peer: Connected | None, most_values: int = JSON_VALUES
) -> Request:
    """Create the Request of a WebSocket message; `head` is the socket's upgrade request."""
    request = Request(_WEBSOCKET, head, peer)
    if len(raw) > READ_AT_ONCE_BYTES:
        request.unread = raw
    else:
        _read_message(request, raw, most_values)
    return request


def is_ping(raw: bytes) -> bool:
    """Return whether a message is a client's `{"p":1}`, which is answered with `PONG`."""
    if len(raw) > PING_MOST_BYTES:
        return False
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return message == {"p": 1} and message["p"] is not True


def parse_large_body(request: Request, limits: BodyLimits) -> None:
    """Parse the deferred payload; may run in any thread. Errors are stored in `refused`."""
    raw, request.unread = request.unread or b"", None
    if request.origin is _WEBSOCKET:
        _read_message(request, raw, limits.json_values)
        return
    try:
        _read_http_body(request, raw, limits)
    except ApiError as refused:
        request.refused = refused.as_data()


def _read_request_id(request: Request) -> None:
    request_id = request.head.headers.get("x-kuzzle-request-id")
    if not request_id:
        return
    if not _REQUEST_ID_HEADER.fullmatch(request_id):
        accepted = f"1 to {_REQUEST_ID_CHARACTERS} visible ASCII characters"
        raise error("api.assert.invalid_argument", "X-Kuzzle-Request-Id", accepted)
    request.request_id = request_id


def _route(request: Request, routes: Routes) -> None:
    head = request.head
    query = head.query.encode()
    for name, value in parse_pairs(query, _QUERY_FIELDS, "query") if query else ():
        if name == "pretty":
            request.is_pretty = True
        elif name not in _NEVER_FROM_QUERY:
            add_field(request.args, name, value)
    # RFC 9110 §9.1: methods are case-sensitive, "get" is unknown.
    match = routes.match(head.method, head.path)
    request.args |= match.params
    request.controller, request.action = match.controller, match.action
    request.endpoint = match.endpoint


def _read_credentials(request: Request) -> None:
    """Read token and volatile from the headers."""
    headers = request.head.headers
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, rest = authorization.partition(" ")
        if scheme.lower() == "bearer":
            request.token = rest  # "" is a token too, which is never valid
    volatile = headers.get("x-kuzzle-volatile")
    if volatile is not None:
        try:
            value = parse_json(volatile.encode("latin-1"), place="X-Kuzzle-Volatile")
        except ValueError:
            raise error("network.http.volatile_parse_failed") from None
        request.volatile = _volatile(value)


def _read_http_body(request: Request, raw: bytes, limits: BodyLimits) -> None:
    body = read_body(raw, request.head.headers, limits)
    if request.endpoint == "query":
        _read_query(request, body)
    else:
        request.body = body


def _read_query(request: Request, payload: Body) -> None:
    """Read a `POST /_query`: the body is a complete payload; its `jwt` wins over the header's, and
    only its `volatile` is used.

    Its `requestId` is validated and then ignored: the response has that of the header.
    """
    request.endpoint, request.is_typed, request.volatile = None, True, None
    if payload is None:
        raise error("api.assert.body_required")
    if not isinstance(payload, dict):
        raise error("api.assert.invalid_type", "body", "object")
    _pop_request_id(payload)
    token = request.token
    _read_payload(request, payload)
    if request.token is None:
        request.token = token


def _read_message(request: Request, raw: bytes, most_values: int) -> None:
    try:
        is_long = len(raw) > most_values  # which nearly none is
        containers = count_values(raw, most_values, "request") if is_long else None
        payload: object = orjson.loads(raw)
        if not isinstance(payload, dict):
            raise error("api.assert.invalid_type", "request", "object")
        request.request_id = _pop_request_id(payload)
        _read_payload(request, payload)
        if request.body or request.volatile or request.args:
            check_nesting(raw, [request.volatile, request.body, request.args], containers)
    except ValueError:
        request.refused = error("network.websocket.unexpected_error", "malformed text")
        request.volatile, request.body, request.args = None, None, {}
    except ApiError as refused:
        request.refused = refused.as_data()
    request.has_room = request.refused is None


def _read_payload(request: Request, payload: dict[str, object]) -> None:
    """Assign the members of a payload to the request; the rest are arguments."""
    pop = payload.pop
    volatile, body, token = pop("volatile", None), pop("body", None), pop("jwt", None)
    controller, action = pop("controller", None), pop("action", None)
    if volatile is not None:
        request.volatile = _volatile(volatile)
    request.controller = controller if type(controller) is str else _text(controller, "controller")
    request.action = action if type(action) is str else _text(action, "action")
    request.token = token if type(token) is str else _text(token, "jwt")
    if body is not None and not isinstance(body, (dict, list)):
        raise error("api.assert.invalid_type", "body", "object")
    request.body, request.args = body, payload


def _pop_request_id(payload: dict[str, object]) -> str | None:
    request_id = payload.pop("requestId", None)
    if not request_id and not isinstance(
        request_id, (list, dict)
    ):  # these are not empty in JavaScript
        return None
    if not isinstance(request_id, str):
        raise error("api.assert.invalid_type", "requestId", "string")
    if len(request_id) > _REQUEST_ID_CHARACTERS:
        accepted = f"at most {_REQUEST_ID_CHARACTERS} characters"
        raise error("api.assert.invalid_argument", "requestId", accepted)
    return request_id


def _text(value: object, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise error("api.assert.invalid_type", name, "string")


def _volatile(value: object) -> dict[str, object] | None:
    if value is None or isinstance(value, dict):
        return value
    raise error("api.assert.invalid_type", "volatile", "object")


def split_path(path: str) -> list[str]:
    """Return a path's segments, without empty ones, percent-decoded; invalid escapes are kept."""
    return [
        _decode_segment(segment) if "%" in segment else segment
        for segment in path.split("/")
        if segment
    ]


def _decode_segment(segment: str) -> str:
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return segment
