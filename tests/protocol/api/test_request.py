"""Requests from both transports and the envelope: docs/api/transport.md#request, #envelope,
#websocket"""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.api.envelope import format_envelope
from protocol.api.request import (
    Request,
    Response,
    from_http,
    from_websocket,
    is_ping,
    parse_large_body,
    split_path,
)
from protocol.errors import LocalError, error
from protocol.http11.body import BodyLimits
from protocol.http11.head import Head, HeadLimits, parse_head
from tests.support.wire_cases import NODE, TwoRoutes, answer

LIMITS = BodyLimits(body_bytes=1024 * 1024)


def head(first: str, *lines: str) -> Head:
    text = "\r\n".join((first + " HTTP/1.1", "Host: a", *lines)) + "\r\n\r\n"
    return parse_head(text.encode("latin-1"), HeadLimits())


def http(first: str, *lines: str, body: bytes = b"") -> Request:
    return from_http(head(first, *lines), body, TwoRoutes(), LIMITS, None)


def message(payload: object) -> Request:
    raw = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return from_websocket(raw, head("GET /"), None)


def refusal(request: Request) -> tuple[int, str | None]:
    assert request.refused is not None
    return request.refused.status, request.refused.id


def test_a_request_over_http() -> None:
    request = http(
        "POST /of/a%2Fb?x=1&x=2&flag&pretty&_id=no",
        "Authorization: bEaReR a.b",
        'X-Kuzzle-Volatile: {"v": "\xc3\xa9"}',
        "X-Kuzzle-Request-Id: my-id",
        body=b'{"b": 1}',
    )
    assert (request.controller, request.action) == ("security", "getUser")
    assert request.args == {"_id": "a/b", "x": ["1", "2"], "flag": ""}
    assert (request.token, request.volatile, request.body) == ("a.b", {"v": "é"}, {"b": 1})
    assert (request.request_id, request.is_pretty, request.is_typed) == ("my-id", True, False)
    assert request.refused is None


def test_the_query_string_neither_steers_nor_authenticates() -> None:
    request = http("GET /now?controller=x&action=y&jwt=z&body=b&volatile=v&requestId=r")
    assert (request.controller, request.action, request.args) == ("server", "now", {})
    assert (request.token, request.volatile, request.request_id) == (None, None, None)


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer a", "a"),
        ("Bearer", ""),
        ("Bearer  a", " a"),
        ("Bearer a b", "a b"),
        ("Basic a", None),
        ("Bearera", None),
        ("", None),
    ],
)
def test_authorization(authorization: str, token: str | None) -> None:
    assert http("GET /now", f"Authorization: {authorization}").token == token


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (http("GET /nowhere"), (404, "network.http.url_not_found")),
        (http("TRACE /now"), (400, "network.http.unsupported_verb")),
        (http("get /now"), (400, "network.http.unsupported_verb")),
        (http("GET /now", "X-Kuzzle-Volatile: {"), (400, "network.http.volatile_parse_failed")),
        (http("GET /now", "X-Kuzzle-Volatile: \xe9"), (400, "network.http.volatile_parse_failed")),
        (
            http("GET /now", "X-Kuzzle-Volatile: " + "[" * 200 + "]" * 200),
            (400, "network.http.volatile_parse_failed"),
        ),
        (http("GET /now", "X-Kuzzle-Volatile: []"), (400, "api.assert.invalid_type")),
        (http("GET /now", "X-Kuzzle-Request-Id: a b"), (400, "api.assert.invalid_argument")),
        (http("GET /now", "X-Kuzzle-Request-Id: \xe9"), (400, "api.assert.invalid_argument")),
        (
            http("GET /now", "X-Kuzzle-Request-Id: " + "x" * 129),
            (400, "api.assert.invalid_argument"),
        ),
        (http("GET /now?" + "a&" * 1000), (400, "api.assert.too_many_arguments")),
        (http("POST /now", body=b"{"), (400, "network.http.body_parse_failed")),
        (http("POST /_query"), (400, "api.assert.body_required")),
        (http("POST /_query", body=b"[1]"), (400, "api.assert.invalid_type")),
        (http("POST /_query", body=b"null"), (400, "api.assert.body_required")),
    ],
)
def test_refused_over_http(request_: Request, expected: tuple[int, str]) -> None:
    assert refusal(request_) == expected


def test_bounds_over_http_at_the_limit() -> None:
    assert http("GET /now", "X-Kuzzle-Request-Id: " + "x" * 128).request_id == "x" * 128
    assert http("GET /now", "X-Kuzzle-Request-Id:").request_id is None
    assert http("GET /now?" + "a&" * 999 + "a").refused is None


def test_query_spreads_its_payload() -> None:
    payload = b'{"controller":"c","action":"a","jwt":"j","body":[1],"flag":false,"requestId":"no"}'
    request = http(
        "POST /_query?x=1", "Authorization: Bearer h", "X-Kuzzle-Request-Id: id", body=payload
    )
    assert (request.controller, request.action, request.body) == ("c", "a", [1])
    assert (request.token, request.args, request.is_typed) == ("j", {"flag": False}, True)
    assert (request.request_id, request.volatile, request.endpoint) == ("id", None, None)
    request = http("POST /_query", "Authorization: Bearer h", body=b'{"controller":"c"}')
    assert (request.token, request.request_id) == ("h", None)


@pytest.mark.parametrize("padding", ["", "x" * 100_000])
@pytest.mark.parametrize(
    ("payload", "volatile"),
    [({}, None), ({"volatile": None}, None), ({"volatile": {"p": 1}}, {"p": 1})],
)
def test_only_the_payloads_volatile_counts_in_a_query(
    payload: dict[str, object], volatile: object, padding: str
) -> None:
    """docs/api/transport.md#the-query-endpoint."""
    body = orjson.dumps({**payload, "padding": padding})
    request = http("POST /_query", 'X-Kuzzle-Volatile: {"h":1}', body=body)
    if request.unread is not None:
        parse_large_body(request, LIMITS)
    assert (request.refused, request.volatile) == (None, volatile)


def test_a_refused_query_keeps_the_headers_request_id() -> None:
    payload = b'{"requestId":"a\\r\\nSet-Cookie: x","controller":1}'
    request = http("POST /_query", "X-Kuzzle-Request-Id: id", body=payload)
    assert refusal(request) == (400, "api.assert.invalid_type")
    assert request.request_id == "id"


def test_a_message() -> None:
    payload = {"controller": "c", "action": "a", "jwt": "j", "volatile": {"v": 1}, "body": {"b": 1}}
    request = message({**payload, "requestId": "r", "index": "i", "n": [1]})
    assert (request.controller, request.action, request.token) == ("c", "a", "j")
    assert (request.volatile, request.body, request.request_id) == ({"v": 1}, {"b": 1}, "r")
    assert request.args == {"index": "i", "n": [1]}
    assert request.has_room


@pytest.mark.parametrize("request_id", [0, "", None, False])
def test_no_request_id(request_id: object) -> None:
    request = message({"requestId": request_id, "controller": "c"})
    assert (request.request_id, request.refused) == (None, None)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("controller", 1),
        ("action", ["a"]),
        ("jwt", {}),
        ("jwt", False),
        ("volatile", []),
        ("volatile", "x"),
        ("body", "x"),
        ("body", 0),
        ("body", False),
    ],
)
def test_wrong_types_are_refused_with_ids_on_both_transports(field: str, wrong: object) -> None:
    payload = {"requestId": "r", "controller": "c", "action": "a", field: wrong}
    over_socket = message(payload)
    assert refusal(over_socket) == (400, "api.assert.invalid_type")
    assert (over_socket.request_id, over_socket.has_room) == ("r", False)
    over_http = http("POST /_query", body=orjson.dumps(payload))
    assert refusal(over_http) == (400, "api.assert.invalid_type")


@pytest.mark.parametrize(
    ("payload", "error_id"),
    [
        (b"{", "network.websocket.unexpected_error"),
        (b"\xff", "network.websocket.unexpected_error"),
        (b"[" * 2000, "network.websocket.unexpected_error"),
        (b'{"a":' + b"[" * 150 + b"]" * 150 + b"}", "network.websocket.unexpected_error"),
        (b"null", "api.assert.invalid_type"),
        (b"[]", "api.assert.invalid_type"),
        (b"1", "api.assert.invalid_type"),
        (b'"a"', "api.assert.invalid_type"),
        (b'{"requestId":1}', "api.assert.invalid_type"),
        (b'{"requestId":[]}', "api.assert.invalid_type"),
        (b'{"requestId":{}}', "api.assert.invalid_type"),
        (b'{"requestId":"' + b"x" * 129 + b'"}', "api.assert.invalid_argument"),
    ],
)
def test_refused_messages(payload: bytes, error_id: str) -> None:
    request = message(payload)
    assert refusal(request) == (400, error_id)
    assert (request.request_id, request.has_room) == (None, False)


def test_large_payloads_are_left_for_another_thread() -> None:
    large = orjson.dumps({"requestId": "r", "controller": "c", "x": "x" * 65536})
    for request in (http("POST /_query", body=large), message(large)):
        assert (request.unread, request.controller) == (large, None)
        parse_large_body(request, LIMITS)
        assert (request.unread, request.controller) == (None, "c")
        assert request.args == {"x": "x" * 65536}
    broken = http("POST /now", body=large[:-1])
    parse_large_body(broken, LIMITS)
    assert refusal(broken) == (400, "network.http.body_parse_failed")


def test_compressed_bodies_are_left_for_another_thread() -> None:
    request = http("POST /now", "Content-Encoding: identity", body=b"[1]")
    assert request.unread == b"[1]"
    parse_large_body(request, LIMITS)
    assert request.body == [1]


def test_split_path() -> None:
    assert split_path("//a/%20b/%zz/%ff/c%2fd/") == ["a", " b", "%zz", "%ff", "c/d"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"p":1}', True),
        (b' { "p" : 1 } ', True),
        (b'{"p":1,"a":2}', False),
        (b'{"p":2}', False),
        (b'{"p":true}', False),
        (b'{"p":"1"}', False),
        (b"[1]", False),
        (b"{", False),
        (b"", False),
        (b'{"p":1}' + b" " * 26, False),
    ],
)
def test_pings(raw: bytes, expected: bool) -> None:
    assert is_ping(raw) is expected


def envelope(request: Request, response: Response) -> bytes:
    return format_envelope(request, response, NODE)


def test_the_envelope_of_contract_01_4() -> None:
    response = Response("r", result={"now": 1}, controller="server", action="now")
    expected = (
        b'{"action":"now","controller":"server","error":null,"headers":{},"node":"knode-test-1",'
        b'"requestId":"r","result":{"now":1},"status":200,"volatile":null'
    )
    assert envelope(http("GET /now"), response) == expected + b"}"
    assert envelope(message({}), response) == expected + b',"room":"r"}'


def test_keys_that_come_and_go() -> None:
    request = http("GET /now?index=i&collection=c", 'X-Kuzzle-Volatile: {"v":1}')
    response = Response("r", headers={"x-a": "b", "set-cookie": "secret"}, has_result=False)
    assert list(orjson.loads(envelope(request, response)).items()) == [
        ("action", None),
        ("collection", "c"),
        ("controller", None),
        ("error", None),
        ("headers", {"x-a": "b"}),
        ("index", "i"),
        ("node", NODE),
        ("requestId", "r"),
        ("status", 200),
        ("volatile", {"v": 1}),
    ]


def test_errors_and_pretty() -> None:
    request = http("GET /now?pretty")
    failure = error("api.assert.missing_argument", "a")
    text = envelope(request, Response("r", status=400, error=failure, is_raw=True))
    assert text.startswith(b'{\n  "action": null')
    assert orjson.loads(text)["error"] == failure.as_json()


@pytest.mark.parametrize(
    ("result", "over_http", "over_socket"),
    [
        ({"a": 1}, b'{"a":1}', b'{"a":1,"room":"r"}'),
        ([1], b"[1]", b"[1]"),
        ("a", b"a", b'"a"'),
        (True, b"true", b"true"),
        (None, b"", b"null"),
        (orjson.Fragment(b"{}"), b"{}", b"{}"),
    ],
)
def test_raw_results(result: object, over_http: bytes, over_socket: bytes) -> None:
    response = Response("r", result=result, is_raw=True)
    assert envelope(http("GET /now"), response) == over_http
    assert envelope(message({}), response) == over_socket


def test_a_result_that_is_no_json_is_our_fault() -> None:
    for is_raw in (False, True):
        with pytest.raises(LocalError):
            envelope(message({}), Response("r", result=object(), is_raw=is_raw))


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["requestId", "controller", "volatile", "body", "index", "jwt"]),
        st.none()
        | st.integers()
        | st.text(max_size=5)
        | st.lists(st.floats(), max_size=2)
        | st.dictionaries(st.text(max_size=3), st.booleans(), max_size=2),
    )
)
def test_whatever_was_asked_can_be_answered(payload: dict[str, object]) -> None:
    try:
        raw = orjson.dumps(payload)
    except orjson.JSONEncodeError:
        return
    for request in (message(raw), http("POST /_query", body=raw)):
        assert orjson.loads(envelope(request, answer(request)))["node"] == NODE
