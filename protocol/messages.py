"""The one Request both protocols become, and the one Response both are answered with.

Knows nothing of sockets or of what actions do. A request that can't be understood is still a
Request: its `refused` says why, so that it is answered in an envelope like all others.
Source: contract/01 §2 to §4, §7.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import orjson

from protocol.bodies import (
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
from protocol.errors import ApiError, error
from protocol.http11 import Head

Json = object
"""Anything JSON can say, or at the top of a result `Kept`: JSON that was written before."""

_PAYLOAD_FIELDS = ("controller", "action", "jwt", "volatile", "body", "requestId")
# A query string lands in logs and histories: nothing in it steers or authenticates a request.
_NEVER_FROM_QUERY = frozenset(_PAYLOAD_FIELDS)
_QUERY_FIELDS = 1000
# Above this a body is read by another thread than the one that serves everybody.
READ_AT_ONCE_BYTES = 64 * 1024
# An id is sent back in a header and, over WebSocket, twice: it is kept short.
_REQUEST_ID_CHARACTERS = 128
_REQUEST_ID_HEADER = re.compile(rf"[!-~]{{1,{_REQUEST_ID_CHARACTERS}}}")

# The keep-alive of Kuzzle's clients, a message of its own beside WebSocket's (contract/01 §7).
PONG = b'{"p":2}'
PING_MOST_BYTES = 32


class Origin(Enum):
    """How a request came in; the value is the protocol's name as the API says it."""

    HTTP = "http"
    WEBSOCKET = "websocket"


# Looked up for each request, and a name of the module is found ten times sooner.
_HTTP, _WEBSOCKET = Origin.HTTP, Origin.WEBSOCKET


class Match(NamedTuple):
    """What a path leads to: an action, or with `endpoint` something the router itself answers."""

    controller: str | None
    action: str | None
    params: dict[str, str]
    endpoint: str | None = None


class Routes(Protocol):
    """The route table as this package needs it."""

    def match(self, verb: str, path: str) -> Match:
        """Find what a verb and a path lead to.

        ApiError 404 for an unknown path, 400 for a verb without routes.
        """


class Connected(Protocol):
    """The peer a request came from, as far as those who answer may know him; `linked` is theirs to
    remember the token a socket uses."""

    linked: bytes

    @property
    def address(self) -> str:
        """His address, or "" where there is none."""

    @property
    def is_encrypted(self) -> bool:
        """Whether he speaks TLS with us."""

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The DER of the certificate he has shown in TLS, which was verified, then of those he sent
        along."""

    def client_of(self, headers: Mapping[str, str]) -> bytes | None:
        """Return the key that what this client holds is counted under, None if it is not counted by
        client; behind a trusted proxy the headers of the request name the client."""

    def is_socket_allowed(self, headers: Mapping[str, str]) -> bool:
        """Return whether the client may open one more WebSocket, and count it if so."""

    def push(self, text: bytes) -> None:
        """Send a message nobody asked for, if this is a WebSocket."""


@dataclass(slots=True, eq=False)
class Request:
    """One request, however it came. Nobody but `read_unread` changes it once it is made.

    `args` are top-level keys (WebSocket, `/_query`; then `is_typed`) or query string and path
    parameters, which are text. `request_id` is None when the client chose none. `headers` are the
    HTTP request's, or the upgrade request's of a socket. `unread` holds a large payload until
    `read_unread`, which may still set any field. `refused` is the answer when the request itself is
    wrong. A connection gives the same Request again when its client repeats it byte for byte, over
    WebSocket with another `request_id`.
    `weight_bytes` is what it counts for in the connection's limits, with its head and payload.
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
    """What a request is answered with.

    `headers` are the ones an action set, by lower-case name; the envelope shows them too, save
    `set-cookie`. With `is_raw` the result alone is the answer's body. `is_private` marks an answer
    that holds a token: never cached, never compressed. With `has_result` False the envelope has no
    `result` at all.
    """

    request_id: str
    controller: str | None = None
    action: str | None = None
    result: Json = None
    status: int = 200
    error: ApiError | None = None
    headers: dict[str, str] = field(default_factory=dict)
    is_raw: bool = False
    is_private: bool = False
    has_result: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether this is a success with a result and nothing else to say."""
        return (
            self.status == 200
            and self.error is None
            and not self.headers
            and not self.is_private
            and not self.is_raw
            and self.has_result
        )


def from_http(
    head: Head, raw: bytes, routes: Routes, limits: BodyLimits, peer: Connected | None
) -> Request:
    """Make the Request of a HTTP message (contract/01 §3)."""
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
    """Make the Request of a message (contract/01 §7); `head` is the socket's upgrade request."""
    request = Request(_WEBSOCKET, head, peer)
    if len(raw) > READ_AT_ONCE_BYTES:
        request.unread = raw
    else:
        _read_message(request, raw, most_values)
    return request


def is_ping(raw: bytes) -> bool:
    """Tell a client's `{"p":1}`, to be answered with `PONG`, from a request."""
    if len(raw) > PING_MOST_BYTES:
        return False
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return message == {"p": 1} and message["p"] is not True


def read_unread(request: Request, limits: BodyLimits) -> None:
    """Read the payload that was left aside; may run in any thread. Errors land in `refused`."""
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
    # RFC 9110 §9.1: methods are case-sensitive, "get" is none that we know.
    match = routes.match(head.method, head.path)
    request.args |= match.params
    request.controller, request.action = match.controller, match.action
    request.endpoint = match.endpoint


def _read_credentials(request: Request) -> None:
    """Take token and volatile out of the headers (contract/01 §3.3)."""
    headers = request.head.headers
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, rest = authorization.partition(" ")
        if scheme.lower() == "bearer":
            request.token = rest  # "" is a token too, one that nobody has
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
    """`POST /_query`: the body is a whole payload; its `jwt` wins over the header's, its `volatile`
    alone counts (contract/01 §3.5).

    Its `requestId` is checked and then forgotten: the answer's is the header's (contract/01 §3.4).
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
    """Spread a payload over the request; the rest of it is arguments (contract/01 §2)."""
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
    if not request_id and not isinstance(request_id, (list, dict)):  # these are something in JSON
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
    """Give a path's segments, without empty ones, percent escapes undone; bad ones stay."""
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
