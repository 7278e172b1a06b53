"""The `server` controller (docs/api/server.md) and the router's own endpoints
(docs/api/transport.md#endpoints-without-an-action)."""

import pytest

from server.api.actions import all_actions
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running

NO_ACTION = {"action": None, "controller": None, "error": None, "status": 200, "volatile": None}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_now(server: Running, transport: str) -> None:
    """docs/api/server.md."""
    answer = await server.call(transport, "server:now", token=await server.create_admin())
    assert isinstance(answer["result"]["now"], int)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_admin_exists(server: Running, transport: str) -> None:
    """docs/api/server.md; docs/api/differences.md#first-administrator: everybody may ask while
    there is none."""
    answer = await server.call(transport, "server:adminExists")
    assert answer["result"] == {"exists": False}
    token = await server.create_admin()
    answer = await server.call(transport, "server:adminExists", token=token)
    assert answer["result"] == {"exists": True}
    answer = await server.call(transport, "server:adminExists")
    assert answer["error"]["id"] == "security.rights.unauthorized"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_public_api(server: Running, transport: str) -> None:
    """docs/api/server.md: routes in the order of declaration, deprecated ones last, anonymous may
    ask."""
    answer = await server.call(transport, "server:publicApi")
    listed = answer["result"]
    assert {(c, a) for c, actions in listed.items() for a in actions} == {
        (entry.controller, entry.name) for entry in all_actions()
    }
    assert listed["auth"]["getCurrentUser"] == {
        "action": "getCurrentUser",
        "controller": "auth",
        "http": [
            {"path": "/_me", "url": "/_me", "verb": "GET"},
            {"path": "/users/_me", "url": "/users/_me", "verb": "GET"},
        ],
    }
    assert [route["verb"] for route in listed["auth"]["login"]["http"]] == ["GET", "POST"]
    assert [route["url"] for route in listed["security"]["createFirstAdmin"]["http"]] == [
        "/_createFirstAdmin/:_id",
        "/_createFirstAdmin",
    ]
    assert [route["url"] for route in listed["security"]["createUser"]["http"]] == [
        "/users/_create",
        "/users/:_id/_create",
    ]
    assert [route["url"] for route in listed["server"]["info"]["http"]] == ["/", "/_serverInfo"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_info(server: Running, transport: str) -> None:
    """docs/api/server.md, docs/api/differences.md#version."""
    answer = await server.call(transport, "server:info", token=await server.create_admin())
    info = answer["result"]["serverInfo"]
    assert info["kuzzle"]["version"] == "2.56.0"
    assert info["kuzzle"]["api"]["routes"]["auth"]["login"]["action"] == "login"
    assert isinstance(info["manykeys"]["version"], str)
    assert set(info["services"]) == {
        "internalCache",
        "internalStorage",
        "memoryStorage",
        "publicStorage",
    }
    assert info["kuzzle"]["memoryUsed"] > 0
    assert info["kuzzle"]["uptime"].endswith("s")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_health_check(server: Running, transport: str) -> None:
    """docs/api/server.md."""
    token = await server.create_admin()
    answer = await server.call(transport, "server:healthCheck", token=token)
    assert answer["result"] == {
        "services": {"internalCache": "green", "memoryStorage": "green", "storageEngine": "green"},
        "status": "green",
    }
    answer = await server.call(
        transport, "server:healthCheck", token=token, services="storageEngine,memoryStorage"
    )
    assert answer["result"]["services"] == {"memoryStorage": "green", "storageEngine": "green"}
    answer = await server.call(transport, "server:healthCheck", token=token, services=[1])
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_type", "status": 400}


async def test_health_check_of_a_broken_store(server: Running) -> None:
    """docs/api/server.md: the result and the error together."""
    token = await server.create_admin()
    await server.call("http", "server:now", token=token)
    await server.app.services.storage.close()
    answer = await server.call("http", "server:healthCheck", token=token)
    assert told(answer) == {"id": "core.fatal.service_unavailable", "code": 2, "status": 500}
    assert answer["result"]["status"] == "red"
    assert set(answer["result"]["services"].values()) == {"red"}
    http = await server.connect()
    ready = await http.ask("GET", "/_ready")
    assert (ready.status, ready.json["error"]["status"]) == (503, 503)


@pytest.mark.parametrize("path", ["/_healthcheck", "/_ready"])
async def test_probes(server: Running, path: str) -> None:
    """docs/api/transport.md#endpoints-without-an-action: no rights, an envelope, `result` null."""
    http = await server.connect()
    answer = await http.ask("GET", path)
    assert answer.status == 200
    envelope = answer.json
    assert {**envelope, **NO_ACTION, "result": None} == envelope


async def test_head_of_the_root(server: Running) -> None:
    """docs/api/transport.md#routing; no body (RFC 9110 §9.3.2)."""
    http = await server.connect()
    answer = await http.ask("HEAD", "/")
    assert answer.status == 200
    assert int(answer.headers["content-length"]) > 0
    assert (await http.ask("HEAD", "/_me")).status == 404
    assert (await http.ask("GET", "/_healthcheck")).status == 200


@pytest.mark.parametrize("path", ["/", "/_me", "/nowhere/at/all"])
async def test_preflight(server: Running, path: str) -> None:
    """docs/api/transport.md#routing, #cors: any path, any origin."""
    http = await server.connect()
    answer = await http.ask("OPTIONS", path, headers={"Origin": "http://app.example"})
    assert answer.status == 200
    assert {**answer.json, **NO_ACTION, "result": {}} == answer.json
    assert answer.headers["access-control-allow-origin"] == "http://app.example"
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["access-control-allow-methods"] == (
        "GET,POST,PUT,PATCH,DELETE,OPTIONS,HEAD"
    )
