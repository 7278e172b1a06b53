"""What the `server` controller tells of the server: rights, configuration, capabilities, health
(docs/api/server.md)."""

import json
import sqlite3
from dataclasses import replace

import pytest

from server.api.actions import TABLE
from server.api.public_api import public_api
from server.config.model import load
from server.core.config_file import shown_tree
from server.system import process as machine
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running, cheap_config, running

SECRET = "a secret that nobody may see, ever, at all"
CLIENT = "client-1"
PLUGIN = "kuzzle-plugin-auth-passport-local"
STORES = ("internalCache", "memoryStorage", "storageEngine")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "name",
    [
        "adminExists",
        "capabilities",
        "getAllStats",
        "getConfig",
        "getLastStats",
        "getStats",
        "healthCheck",
        "info",
        "metrics",
        "now",
    ],
)
async def test_only_administrators_may_ask(server: Running, transport: str, name: str) -> None:
    """docs/api/security.md#default-rights: none of these is among the rights everybody or every
    user begins with."""
    admin = await server.create_admin()
    ann = await server.create_user(admin, "ann")
    refused = {None: "security.rights.unauthorized", ann: "security.rights.forbidden"}
    for token, error_id in refused.items():
        answer = await server.call(transport, f"server:{name}", token=token)
        assert answer["error"]["id"] == error_id
    assert (await server.call(transport, f"server:{name}", token=admin))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_get_config(transport: str) -> None:
    """docs/api/server.md getConfig, security check X4: by the names of the settings, without
    `security`;
    `cluster.enabled` is read by `kourou app:doctor` (docs/api/clients.md#kourou)."""
    config = cheap_config(limits=replace(cheap_config().limits, documents_fetch_count=77))
    token = replace(config.security.auth_token, secret=SECRET)
    config = replace(config, security=replace(config.security, auth_token=token))
    async with running(config) as server:
        admin = await server.create_admin()
        answer = await server.call(transport, "server:getConfig", token=admin)
    shown = answer["result"]
    assert shown["limits"]["documentsFetchCount"] == 77
    assert shown["server"]["protocols"]["websocket"]["idleTimeout"] == "1m"
    assert shown["http"]["accessControlAllowOrigin"] == ["*"]
    assert (shown["version"], shown["cluster"]["enabled"]) == ("2.56.0", False)
    assert "internal" in shown
    assert not {"security", "VAULT_KEY"} & shown.keys()
    assert "routes" not in shown["http"]
    assert SECRET not in json.dumps(answer)


def test_secrets_are_left_out() -> None:
    """Security check X4: wherever the declarations say so, and of a strategy all but what is known
    to be none."""
    given = {
        "security.authToken.secret": SECRET,
        "strategies.google.use": "oauth",
        "strategies.google.backend": "google-oauth2",
        "strategies.google.key": CLIENT,
        "strategies.google.secret": SECRET,
        "strategies.google.port": 636,
        "strategies.google.nested": {"deep": SECRET, "use": SECRET},
        "strategies.google.several": [SECRET],
    }
    shown = shown_tree(load(None, {}, given))
    assert shown["strategies"] == {
        "google": {"use": "oauth", "backend": "google-oauth2", "port": 636}
    }
    assert "secret" not in shown["security"]["authToken"]
    for text in (SECRET, CLIENT):
        assert text not in repr(shown)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_capabilities(server: Running, transport: str) -> None:
    """docs/api/server.md capabilities."""
    admin = await server.create_admin()
    result = (await server.call(transport, "server:capabilities", token=admin))["result"]
    assert result.keys() == {"limits", "plugins", "routes", "services", "version"}
    assert result["limits"]["documentsWriteCount"] == 200
    assert result["limits"]["loginsPerSecond"] == 0
    assert [*result["plugins"]] == [PLUGIN]
    assert isinstance(result["plugins"][PLUGIN]["version"], str)
    assert result["routes"] == public_api()
    backend = {"backend": "sqlite", "version": sqlite3.sqlite_version}
    assert result["services"] == dict.fromkeys(STORES, backend)
    assert result["version"] == "2.56.0"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_info_has_the_shapes_of_the_reference(server: Running, transport: str) -> None:
    """docs/api/server.md info: members of each part, whatever stands behind it."""
    admin = await server.create_admin()
    result = (await server.call(transport, "server:info", token=admin))["result"]["serverInfo"]
    kuzzle, services = result["kuzzle"], result["services"]
    assert kuzzle.keys() == {
        "api",
        "application",
        "memoryUsed",
        "nodeVersion",
        "plugins",
        "system",
        "uptime",
        "version",
    }
    assert kuzzle["plugins"][PLUGIN].keys() == {
        "version",
        "controllers",
        "hooks",
        "manifest",
        "pipes",
        "routes",
        "strategies",
        "imports",
    }
    assert kuzzle["plugins"][PLUGIN]["strategies"] == ["local"]
    assert kuzzle["plugins"][PLUGIN]["controllers"] == [f"{PLUGIN}/password"]
    assert kuzzle["system"]["cpus"]
    assert 0 < kuzzle["memoryUsed"] < kuzzle["system"]["memory"]["total"]
    for name in ("internalCache", "memoryStorage"):
        assert services[name].keys() == {"memoryPeak", "memoryUsed", "mode", "type", "version"}
    for name in ("internalStorage", "publicStorage"):
        assert services[name] == {
            "type": "sqlite",
            "version": sqlite3.sqlite_version,
            "lucene": None,
            "status": "green",
            "spaceUsed": None,
            "nodes": None,
        }


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("services", "found"),
    [
        (None, STORES),
        ("storageEngine", ("storageEngine",)),
        ("memoryStorage,internalCache", ("internalCache", "memoryStorage")),
        (["storageEngine", "nothing"], ("storageEngine",)),
        ("nothing", ()),
        ("", ()),
    ],
)
async def test_health_of_some(
    server: Running, transport: str, services: object, found: tuple[str, ...]
) -> None:
    """docs/api/server.md healthCheck: entries limit the checks; null is as good as absent."""
    admin = await server.create_admin()
    answer = await server.call(transport, "server:healthCheck", token=admin, services=services)
    assert answer["result"] == {"services": dict.fromkeys(found, "green"), "status": "green"}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("services", "found"), [(None, STORES), ("storageEngine", ("storageEngine",))]
)
async def test_a_red_store(
    server: Running, transport: str, services: object, found: tuple[str, ...]
) -> None:
    """docs/api/server.md healthCheck: result and error both, status 500; what is not checked is not
    red."""
    admin = await server.create_admin()
    await server.call(transport, "server:now", token=admin)
    await server.app.services.storage.close()
    answer = await server.call(transport, "server:healthCheck", token=admin, services=services)
    assert answer["result"] == {"services": dict.fromkeys(found, "red"), "status": "red"}
    assert told(answer) == {"id": "core.fatal.service_unavailable", "code": 2, "status": 500}
    assert answer["status"] == 500
    answer = await server.call(transport, "server:healthCheck", token=admin, services="nothing")
    assert (answer["status"], answer["error"]) == (200, None)
    info = await server.call(transport, "server:info", token=admin)
    assert info["result"]["serverInfo"]["services"]["internalStorage"]["status"] == "red"


def test_a_machine_that_says_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc the peak is what is known; without a count of pages nothing is."""

    def refuse(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", refuse)
    assert machine.used_memory_bytes() == machine.peak_memory_bytes() > 0
    monkeypatch.setattr(machine.os, "sysconf_names", {})
    assert machine.machine_memory_bytes() == (0, 0)


def as_the_sdk_chooses(routes: list[dict[str, str]]) -> tuple[str, str]:
    """Give verb and url that the JavaScript SDK uses of an action's routes (docs/api/server.md)."""
    if len({len(route["url"]) for route in routes}) == 1:
        reading = [route for route in routes if route["verb"] == "GET"]
        route = reading[-1] if reading else routes[0]
    else:
        route = min(routes, key=lambda one: len(one["url"]))
    return route["verb"], route["url"]


@pytest.mark.parametrize(
    ("name", "verb", "url"),
    [
        ("auth:getCurrentUser", "GET", "/_me"),
        ("auth:getMyRights", "GET", "/_me/_rights"),
        ("auth:getMyCredentials", "GET", "/credentials/:strategy/_me"),
        ("auth:credentialsExist", "GET", "/credentials/:strategy/_me/_exists"),
        ("auth:createMyCredentials", "POST", "/_me/credentials/:strategy/_create"),
        ("auth:validateMyCredentials", "POST", "/_me/credentials/:strategy/_validate"),
        ("auth:deleteMyCredentials", "DELETE", "/_me/credentials/:strategy"),
        ("auth:updateMyCredentials", "PUT", "/_me/credentials/:strategy/_update"),
        ("auth:updateSelf", "PUT", "/_me"),
        ("auth:login", "GET", "/_login/:strategy"),
        ("security:createFirstAdmin", "POST", "/_createFirstAdmin"),
        ("security:createUser", "POST", "/users/_create"),
        ("security:createRestrictedUser", "POST", "/users/_createRestricted"),
        ("server:info", "GET", "/"),
        ("server:metrics", "GET", "/_metrics"),
        ("server:getAllStats", "GET", "/_getAllStats"),
        ("server:publicApi", "GET", "/_publicApi"),
    ],
)
def test_routes_the_sdk_chooses(name: str, verb: str, url: str) -> None:
    """docs/api/server.md#publicapi: the order of routes decides; `/_metrics` belongs to
    `metrics`."""
    controller, _, action = name.partition(":")
    listed = public_api()[controller][action]
    assert as_the_sdk_chooses(listed["http"]) == (verb, url)
    assert all(route["url"] == route["path"] for route in listed["http"])
    assert all(route["verb"] == route["verb"].upper() for route in listed["http"])


def test_every_action_of_the_contract_is_there() -> None:
    """docs/api/server.md, the table."""
    assert set(TABLE["server"]) == {
        "adminExists",
        "capabilities",
        "getAllStats",
        "getConfig",
        "getLastStats",
        "getStats",
        "healthCheck",
        "info",
        "metrics",
        "now",
        "openapi",
        "publicApi",
    }
