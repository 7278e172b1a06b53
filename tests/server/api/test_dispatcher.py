"""The order of checks, and answers to requests that are wrong in themselves
(docs/api/transport.md)."""

import gzip
import json
import logging
from dataclasses import replace

import pytest

from server.api import pipeline
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running, cheap_config, running

NO_RIGHTS = "security.rights.unauthorized"


@pytest.mark.parametrize("transport", ["query", "websocket"])
@pytest.mark.parametrize(
    ("payload", "missing"),
    [
        ({}, "controller"),
        ({"controller": ""}, "controller"),
        ({"controller": None, "action": "now"}, "controller"),
        ({"controller": "server"}, "action"),
        ({"controller": "server", "action": ""}, "action"),
    ],
)
async def test_names_come_first(
    server: Running, transport: str, payload: dict, missing: str
) -> None:
    """docs/api/transport.md#request-pipeline: before tokens, rights and origins."""
    if transport == "websocket":
        socket = await server.open_socket()
        answer = await socket.ask({**payload, "jwt": "nonsense", "requestId": "r1"})
        assert (answer["room"], answer["requestId"]) == ("r1", "r1")
    else:
        http = await server.connect()
        asked = await http.ask("POST", "/_query", {**payload, "jwt": "nonsense"})
        answer = asked.json
        if payload == {}:
            payload = {"controller": None}
    assert told(answer, "id", "code", "status", "props") == {
        "id": "api.assert.missing_argument",
        "code": 33619971,
        "status": 400,
        "props": [missing],
    }


@pytest.mark.parametrize("transport", ["query", "websocket"])
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("controller", 3, "string"),
        ("action", ["now"], "string"),
        ("jwt", {"a": 1}, "string"),
        ("volatile", ["x"], "object"),
        ("volatile", "x", "object"),
        ("body", "text", "object"),
        ("body", 3, "object"),
        ("requestId", 12, "string"),
    ],
)
async def test_fields_of_the_wrong_type(
    server: Running, transport: str, field: str, value: object, expected: str
) -> None:
    """docs/api/transport.md#request; docs/api/differences.md#messages-that-are-not-requests: 400
    with an id, the connection goes on, no `room` (§7)."""
    payload = {"controller": "auth", "action": "getCurrentUser", field: value}
    if transport == "websocket":
        socket = await server.open_socket()
        answer = await socket.ask(payload)
        assert "room" not in answer
        assert (await socket.ask({"controller": "auth", "action": "getCurrentUser"}))["result"]
    else:
        http = await server.connect()
        answer = (await http.ask("POST", "/_query", payload)).json
        if field == "requestId":
            assert answer["status"] in (200, 400)
            return
        assert (await http.ask("GET", "/_me")).status == 200
    assert told(answer, "id", "status", "props") == {
        "id": "api.assert.invalid_type",
        "status": 400,
        "props": [field, expected],
    }


@pytest.mark.parametrize("message", [b"null", b"3", b'"text"', b"true", b"[]", b"[1]"])
async def test_messages_that_are_no_objects(server: Running, message: bytes) -> None:
    """docs/api/transport.md#websocket; docs/api/differences.md#messages-that-are-not-requests: 400
    with an id, never silence."""
    socket = await server.open_socket()
    answer = await socket.ask(message)
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_type", "status": 400}
    assert "room" not in answer
    assert (answer["controller"], answer["action"]) == (None, None)


@pytest.mark.parametrize("message", [b"{", b"{]", b"\xef\xbb\xbf{}", b"[" * 5000])
async def test_messages_that_are_no_json(server: Running, message: bytes) -> None:
    """docs/api/transport.md#websocket."""
    socket = await server.open_socket()
    answer = await socket.ask(message)
    assert told(answer) == {
        "id": "network.websocket.unexpected_error",
        "code": 50528257,
        "status": 400,
    }
    assert "room" not in answer
    assert len(answer["requestId"]) == 36


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_controllers_and_actions_that_do_not_exist(server: Running, transport: str) -> None:
    """docs/api/transport.md#request-pipeline and 13: rights come first."""
    admin = await server.create_admin()
    answer = await server.call(transport, "document:get", token=admin)
    assert told(answer, "id", "code", "status", "props") == {
        "id": "api.process.controller_not_found",
        "code": 33685508,
        "status": 404,
        "props": ["document"],
    }
    answer = await server.call(transport, "auth:fly", token=admin)
    assert told(answer, "id", "code", "status", "props") == {
        "id": "api.process.action_not_found",
        "code": 33685509,
        "status": 404,
        "props": ["auth", "fly"],
    }
    for full_name in ("document:get", "auth:fly"):
        assert told(await server.call(transport, full_name), "id") == {"id": NO_RIGHTS}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nowhere", ("network.http.url_not_found", 50397191, 404, ["/nowhere"])),
        ("POST", "/_me", ("network.http.url_not_found", 50397191, 404, ["/_me"])),
        ("BREW", "/_me", ("network.http.unsupported_verb", 50397190, 400, ["BREW"])),
    ],
)
async def test_routes_that_do_not_exist(
    server: Running, method: str, path: str, expected: tuple
) -> None:
    """docs/api/transport.md#routing."""
    http = await server.connect()
    answer = await http.ask(method, path)
    envelope = answer.json
    assert tuple(told(envelope, "id", "code", "status", "props").values()) == expected
    assert list(envelope) == [
        "action",
        "controller",
        "error",
        "headers",
        "node",
        "requestId",
        "result",
        "status",
        "volatile",
    ]
    assert (await http.ask("GET", "/_me")).status == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_targets_exclude_a_single_place(server: Running, transport: str) -> None:
    """docs/api/transport.md#request-pipeline."""
    targets = [{"index": "i", "collections": ["c"]}]
    answer = await server.call(transport, "auth:getCurrentUser", targets=targets, index="i")
    assert told(answer, "id", "props") == {
        "id": "api.assert.mutually_exclusive",
        "props": ["index, collection", "targets"],
    }
    answer = await server.call(transport, "auth:getCurrentUser", targets=targets)
    assert answer["status"] == 200
    answer = await server.call(transport, "auth:getCurrentUser", targets="everything")
    assert told(answer, "id", "props") == {
        "id": "api.assert.invalid_type",
        "props": ["targets", "array"],
    }


async def test_origins() -> None:
    """docs/api/transport.md#cors: before the token; HTTP and the socket's upgrade request."""
    config = cheap_config()
    http_config = replace(
        config.http, access_control_allow_origin=("http://good.example", "http://too.example")
    )
    async with running(replace(config, http=http_config)) as server:
        http = await server.connect()
        for origin, status in (("http://good.example", 200), ("http://evil.example", 401)):
            headers = {"Origin": origin, "Authorization": "Bearer nonsense"}
            answer = await http.ask("GET", "/_me", headers=headers)
            socket = await server.open_socket({"Origin": origin})
            message = await socket.ask({"controller": "auth", "action": "getCurrentUser"})
            assert message["status"] == status
            allowed = answer.headers.get("access-control-allow-origin")
            if status == 200:
                assert answer.json["error"]["id"] == "security.token.invalid"
                assert allowed == origin
            else:
                for refused in (answer.json, message):
                    assert told(refused, "id", "code", "props") == {
                        "id": "api.process.unauthorized_origin",
                        "code": 33685516,
                        "props": [origin],
                    }
                assert allowed is None
        assert (await http.ask("GET", "/_me")).status == 200


async def test_origin_patterns() -> None:
    """docs/api/transport.md#cors, `accessControlAllowOriginUseRegExp`; a pattern matches the whole
    origin."""
    config = cheap_config()
    http_config = replace(
        config.http,
        access_control_allow_origin=(r"https://[a-z]+\.good\.example",),
        access_control_allow_origin_use_reg_exp=True,
    )
    async with running(replace(config, http=http_config)) as server:
        http = await server.connect()
        for origin, status in (
            ("https://app.good.example", 200),
            ("https://app.good.example.evil.example", 401),
            ("http://app.good.example", 401),
        ):
            assert (await http.ask("GET", "/_me", headers={"Origin": origin})).status == status


@pytest.mark.parametrize("transport", ["query", "websocket"])
@pytest.mark.parametrize(
    ("volatile", "props"),
    [
        ({"sdkName": "js@7.17.1"}, None),
        ({"sdkName": "js@10.1.0"}, None),
        ({"sdkName": "other@0.1"}, None),
        ({"sdkName": 7}, None),
        ({"anything": "js@1"}, None),
        ({"sdkName": "js@6.2.0"}, ["6.2.0", "min: 7, max: none"]),
        ({"sdkName": "android@4.9"}, ["4.9", "min: 5, max: none"]),
        ({"sdkVersion": "5.0.0"}, ["5.0.0", "min: 7, max: none"]),
    ],
)
async def test_sdk_versions(
    server: Running, transport: str, volatile: dict, props: list | None
) -> None:
    """docs/api/transport.md#sdk-versions; majors are compared as numbers."""
    answer = await server.call(transport, "auth:getCurrentUser", volatile=volatile)
    assert answer["volatile"] == volatile
    if props is None:
        assert answer["status"] == 200
    else:
        assert told(answer, "id", "status", "props") == {
            "id": "api.process.incompatible_sdk_version",
            "status": 400,
            "props": props,
        }
        assert answer["error"]["message"].startswith("Incompatible SDK client")


async def test_sdk_versions_may_be_ignored() -> None:
    """docs/configuration.md, `server.strictSdkVersion`."""
    config = cheap_config()
    lax = replace(config.server, strict_sdk_version=False)
    async with running(replace(config, server=lax)) as server:
        answer = await server.call(
            "websocket", "auth:getCurrentUser", volatile={"sdkName": "js@1.0.0"}
        )
        assert answer["status"] == 200


@pytest.mark.parametrize("field", ["jwt", "controller", "action", "volatile", "body", "requestId"])
async def test_the_query_string_steers_nothing(server: Running, field: str) -> None:
    """docs/api/differences.md#query-string."""
    token = await server.create_admin()
    values = {"jwt": token, "controller": "server", "action": "now"}
    http = await server.connect()
    answer = await http.ask("GET", f"/_me?{field}={values.get(field, 'x')}")
    assert answer.json["result"]["_id"] == "-1"
    assert answer.json["requestId"] != "x"
    assert answer.json["volatile"] is None


@pytest.mark.parametrize(
    ("authorization", "kuid"),
    [
        ("Bearer {}", "admin"),
        ("bearer {}", "admin"),
        ("BEARER {}", "admin"),
        ("Bearer kauth-{}", "admin"),
        ("Basic {}", "-1"),
        ("Token {}", "-1"),
        ("{}", "-1"),
        ("Bearer", None),
        ("Bearer  {}", None),
        ("Bearer {} ", "admin"),
        ("Bearer {} x", None),
        ("Bearer \xff", None),
    ],
)
async def test_authorization_headers(server: Running, authorization: str, kuid: str | None) -> None:
    """docs/api/differences.md#authorization-header; security check H3. White space around a field's
    value is not part of it."""
    token = await server.create_admin()
    http = await server.connect()
    lines = f"GET /_me HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization.format(token)}\r\n\r\n"
    await http.send(lines.encode("latin-1"))
    answer = await http.read()
    if kuid is None:
        assert told(answer.json, "id", "status") == {
            "id": "security.token.invalid",
            "status": 401,
        }
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    else:
        assert answer.json["result"]["_id"] == kuid


async def test_authenticate_headers(server: Running) -> None:
    """docs/api/differences.md#status-401; security check H1 (RFC 6750 §3)."""
    user = await server.create_user(await server.create_admin(), "user")
    http = await server.connect()
    answer = await http.ask("GET", "/_now")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    answer = await http.ask("GET", "/_now", token=user)
    assert answer.status == 403
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


async def test_two_authorization_headers(server: Running) -> None:
    """docs/api/differences.md#cookie-and-token: 400, whatever they say."""
    http = await server.connect()
    await http.send(
        b"GET /_me HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Basic eA==\r\nAuthorization: Bearer x\r\n\r\n"
    )
    answer = await http.read()
    assert answer.status == 400
    assert await http.read_end() == b""


async def test_tokens_are_not_cached(server: Running) -> None:
    """docs/api/differences.md#status-401; security check H4."""
    await server.create_admin()
    http = await server.connect()
    body = {"username": "admin", "password": "correct horse"}
    answer = await http.ask(
        "POST", "/_login/local", body, headers={"Accept-Encoding": "gzip, deflate"}
    )
    assert answer.headers["cache-control"] == "no-store"
    assert "content-encoding" not in answer.headers


async def test_a_fault_of_ours_tells_nothing(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """docs/api/transport.md#error-object: 500 with a fixed text; the cause is in the log only."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    entry = pipeline.find("auth", "getCurrentUser")
    assert entry is not None
    monkeypatch.setitem(pipeline.TABLE["auth"], "getCurrentUser", replace(entry, handler=broken))
    with caplog.at_level(logging.ERROR):
        for transport in TRANSPORTS:
            answer = await server.call(transport, "auth:getCurrentUser")
            assert told(answer) == {
                "id": "plugin.runtime.unexpected_error",
                "code": 67239938,
                "status": 500,
            }
            assert "secret detail" not in str(answer)
    assert "secret detail" in caplog.text


async def test_a_store_that_is_gone(server: Running) -> None:
    """docs/architecture.md: a clear error on every transport, 503 and when to come
    back."""
    await server.create_admin()
    await server.app.services.storage.close()
    body = {"username": "admin", "password": "correct horse"}
    for transport in TRANSPORTS:
        answer = await server.call(transport, "auth:login", strategy="local", body=body)
        assert told(answer, "id", "status") == {
            "id": "services.storage.not_connected",
            "status": 503,
        }


async def test_large_bodies_are_read_off_the_loop(server: Running) -> None:
    """Bodies above 64 KiB take another way to the same answer."""
    token = await server.create_admin()
    content = {"profileIds": ["default"], "text": "x" * 100_000}
    for transport in TRANSPORTS:
        answer = await server.call(
            transport, "security:createUser", token=token, body={"content": content}
        )
        assert answer["result"]["_source"]["text"] == content["text"]
    http = await server.connect()
    answer = await http.ask("POST", "/_query", b"[" + b" " * 100_000, token=token)
    assert told(answer.json, "id") == {"id": "network.http.body_parse_failed"}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("padding", ["", "x" * 100_000])
async def test_json_with_too_many_values_is_refused_and_counted(
    server: Running, transport: str, padding: str
) -> None:
    """Security check M3: on the loop and off it."""
    most = server.app.services.config.limits.json_values
    body = {"values": [[]] * (most // 2), "padding": padding}
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    assert told(answer, "id", "status") == {"id": "api.assert.too_many_arguments", "status": 400}
    body["values"] = [[]] * (most // 2 - 10)
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    assert told(answer, "id") == {"id": "plugin.strategy.missing_user"}
    counted = server.app.services.counting.limits.to_dict()
    assert counted["jsonValues"] == 1


async def test_arguments_that_carry_too_much_json_are_refused(server: Running) -> None:
    """Security check M3: text within text is counted when it is read."""
    most = server.app.services.config.limits.json_values
    escaped = "[" + "[]," * (most // 2) + "[]]"
    written = json.dumps(escaped).replace("[", "\\u005b").replace(",", "\\u002c").encode()
    message = b'{"controller":"auth","action":"getCurrentUser","targets":%b}' % written
    opened = await server.open_socket()
    answer = await opened.ask(message)
    assert told(answer, "id", "status") == {"id": "api.assert.too_many_arguments", "status": 400}


async def test_limits_of_compressed_bodies_and_forms_are_counted(server: Running) -> None:
    """Security check M3."""
    http = await server.connect()
    bomb = gzip.compress(b'{"a":"' + b" " * 10**6 + b'"}')
    answer = await http.ask("POST", "/_login/local", bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status, told(answer.json, "id")) == (
        413,
        {"id": "network.http.request_too_large"},
    )
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await http.ask("POST", "/_login/local", b"&" * 1000, headers=form)
    assert told(answer.json, "id", "status") == {
        "id": "api.assert.too_many_arguments",
        "status": 400,
    }
    counted = server.app.services.counting.limits.to_dict()
    assert (counted["inflation"], counted["formParts"]) == (1, 1)


async def test_query_string_that_is_not_utf8_is_refused(server: Running) -> None:
    http = await server.connect()
    answer = await http.ask("GET", "/_me?a=caf%E9")
    assert told(answer.json, "id", "status") == {
        "id": "api.assert.invalid_argument",
        "status": 400,
    }
