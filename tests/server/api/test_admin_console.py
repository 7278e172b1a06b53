"""The requests of the admin console and of `kourou app:doctor`, with the arguments they are sent
with, and what these programs read of the answers (docs/api/clients.md#kourou, #admin-console)."""

from dataclasses import dataclass

import pytest

from tests.support.errors import told
from tests.support.server import PASSWORD, Envelope, Running

# A socket is all the console has; Kourou may speak HTTP, and then sends the same payloads.
TRANSPORTS = ("websocket", "query")
VOLATILE = {"sdkInstanceId": "4ff5fc4a-95d6-4ee1-9c86-f3f48a2cd8fd", "sdkName": "js@7.17.1"}
PLUGIN = "kuzzle-plugin-auth-passport-local/password"
TOKEN = "<the caller's token>"
LOGIN = {"username": "admin", "password": PASSWORD}
EVERYTHING = {"controller": "*", "action": "*", "index": "*", "collection": "*", "value": "allowed"}


@dataclass(frozen=True)
class Row:
    """One request of an administrator, and what its result must hold: see `holds`; `first` is the
    step before it."""

    name: str
    result: object
    body: object = None
    args: Envelope | None = None
    first: str = ""


CONSOLE = {
    "start": Row("server:adminExists", {"exists": True}),
    "session, token": Row(
        "auth:checkToken",
        {"valid": True, "expiresAt": int, "kuid": "admin"},
        body={"token": TOKEN},
        args={"cookieAuth": False},
    ),
    "session, user": Row("auth:getCurrentUser", {"_id": "admin", "_source": dict}),
    "session and rights display": Row("auth:getMyRights", {"hits": [EVERYTHING]}),
    "login": Row(
        "auth:login",
        {"jwt": str, "_id": "admin", "expiresAt": int, "ttl": 7_200_000},
        body=LOGIN,
        args={"strategy": "local", "expiresIn": "2h", "cookieAuth": False, "verb": "POST"},
    ),
    "keep-alive": Row(
        "auth:refreshToken", {"jwt": str, "expiresAt": int}, args={"cookieAuth": False}
    ),
    "external links": Row("auth:createToken", {"token": str}, args={"singleUse": True}),
    "users list, strategies": Row("auth:getStrategies", ["local"]),
    "API list": Row(
        "server:publicApi",
        {"auth": {"login": {"http": [{"verb": "GET", "url": str}, {"verb": "POST", "url": str}]}}},
    ),
}

DOCTOR = {
    "doctor, admin": Row("server:adminExists", {"exists": True}),
    "doctor, info": Row("server:info", {"serverInfo": {"kuzzle": {"version": "2.56.0"}}}),
    "doctor, configuration": Row(
        "server:getConfig", {"version": "2.56.0", "cluster": {"enabled": bool}}
    ),
}

ADMIN = {"_id": "admin", "_source": {"profileIds": ["admin"], "_kuzzle_info": dict}}
FIELDS = ["username", "password"]
ROLE = {"controllers": {"auth": {"actions": {"login": True}}}}
ROLES = {"hits": [{"_id": str, "_source": {"controllers": dict}}] * 3, "total": 3}

USERS_PAGE = {
    "users list": Row(
        "security:searchUsers",
        {"hits": [ADMIN], "total": 1},
        body={"sort": []},
        args={"from": 0, "size": 10},
    ),
    "users list, filtered": Row(
        "security:searchUsers",
        {"hits": [ADMIN], "total": 1},
        body={"query": {"bool": {"must": [{"terms": {"_id": ["admin"]}}]}}, "sort": []},
        args={"from": 0, "size": 10},
    ),
    "users list, credentials": Row(
        "security:getCredentials",
        {"username": "admin", "kuid": "admin"},
        args={"_id": "admin", "strategy": "local"},
    ),
    "users list, mapping": Row(
        "security:getUserMapping", {"mapping": {"profileIds": {"type": "keyword"}}}
    ),
    "users list, new mapping": Row(
        "security:updateUserMapping",
        {"properties": {"city": {"type": "keyword"}, "profileIds": {"type": "keyword"}}},
        body={"properties": {"city": {"type": "keyword"}}},
    ),
    "users, create": Row(
        "security:createUser",
        {"_id": "ann", "_source": {"profileIds": ["default"]}},
        body={"content": {"profileIds": ["default"]}},
        args={"_id": "ann"},
    ),
    "users, delete": Row(
        "security:mDeleteUsers", ["ann"], body={"ids": ["ann"]}, first="users, create"
    ),
    "users, fields of a strategy": Row(
        "security:getCredentialFields", FIELDS, args={"strategy": "local"}
    ),
    "users, fields of all strategies": Row("security:getAllCredentialFields", {"local": FIELDS}),
}

PROFILES_AND_ROLES_PAGES = {
    "profiles": Row(
        "security:searchProfiles",
        {"hits": [{"_id": str, "_source": {"policies": list}}] * 3, "total": 3},
        body={},
        args={"size": 100},
    ),
    "profiles, mapping": Row("security:getProfileMapping", {"mapping": dict}),
    "profiles, write": Row(
        "security:createOrReplaceProfile",
        {"_id": "readers", "_source": {"policies": [{"roleId": "default"}]}},
        body={"policies": [{"roleId": "default"}]},
        args={"_id": "readers"},
    ),
    "profiles, delete": Row(
        "security:mDeleteProfiles", ["readers"], body={"ids": ["readers"]}, first="profiles, write"
    ),
    "roles, all": Row("security:searchRoles", ROLES, body={}),
    "roles, of any controller": Row("security:searchRoles", ROLES, body={"controllers": []}),
    "roles, mapping": Row("security:getRoleMapping", {"mapping": dict}),
    "roles, write": Row(
        "security:createOrReplaceRole",
        {"_id": "readers", "_source": ROLE},
        body=ROLE,
        args={"_id": "readers"},
    ),
    "roles, delete": Row(
        "security:mDeleteRoles", ["readers"], body={"ids": ["readers"]}, first="roles, write"
    ),
    "doctor, anonymous role": Row(
        "security:getRole",
        {"_id": "anonymous", "_source": {"controllers": {"auth": {"actions": {"login": True}}}}},
        args={"_id": "anonymous"},
    ),
}
ROWS = CONSOLE | DOCTOR | USERS_PAGE | PROFILES_AND_ROLES_PAGES


def holds(value: object, shown: object) -> bool:
    """Tell whether a value has all that is shown of it: members, items in order, a type or the
    value."""
    if isinstance(shown, dict):
        return isinstance(value, dict) and all(
            name in value and holds(value[name], inner) for name, inner in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(value, list) and len(value) == len(shown) and all(map(holds, value, shown))
        )
    return isinstance(value, shown) if isinstance(shown, type) else value == shown


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("step", ROWS)
async def test_requests_of_an_administrator(server: Running, transport: str, step: str) -> None:
    """docs/api/clients.md#kourou app:doctor and §3, row by row; unknown top-level members are
    ignored."""
    token = await server.create_admin()
    for name in filter(None, (ROWS[step].first, step)):
        await check(server, transport, ROWS[name], token)


async def check(server: Running, transport: str, row: Row, token: str) -> None:
    """Ask what a row asks, and compare."""
    body = {"token": token} if row.body == {"token": TOKEN} else row.body
    # The SDK sends no token with these two (docs/api/clients.md#requests-of-the-sdk).
    sent = None if row.name in ("auth:login", "auth:checkToken") else token
    args = {"volatile": VOLATILE, **(row.args or {})}
    answer = await server.call(transport, row.name, token=sent, body=body, **args)
    assert (answer["status"], answer["error"]) == (200, None)
    assert answer["volatile"] == VOLATILE
    assert holds(answer["result"], row.result), answer["result"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_first_steps(server: Running, transport: str) -> None:
    """docs/api/clients.md#admin-console "start", "session" and "first admin": on a server that has
    no administrator, asked by somebody without a token."""
    asked = await server.call(transport, "server:adminExists", volatile=VOLATILE)
    assert asked["result"] == {"exists": False}
    asked = await server.call(transport, "auth:checkToken", body={}, cookieAuth=False)
    assert asked["result"] == {"expiresAt": None, "kuid": "-1", "valid": True}
    body = {"content": {"name": "Ann"}, "credentials": {"local": LOGIN}}
    args = {"_id": "admin", "reset": True, "refresh": "wait_for"}
    made = await server.call(transport, "security:createFirstAdmin", body=body, **args)
    shown = {"_id": "admin", "_source": {"profileIds": ["admin"], "_kuzzle_info": dict}}
    assert holds(made["result"], shown), made
    token = await server.login("admin")
    asked = await server.call(transport, "server:adminExists", token=token)
    assert asked["result"] == {"exists": True}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_admin_exists_is_not_for_everybody(server: Running, transport: str) -> None:
    """docs/api/clients.md#admin-console "start": 401 and 403 count as yes, anything else would
    not."""
    user = await server.create_user(await server.create_admin(), "ann")
    for token, status in ((None, 401), (user, 403)):
        asked = await server.call(transport, "server:adminExists", token=token)
        assert asked["status"] == status


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_password_reset(server: Running, transport: str) -> None:
    """docs/api/clients.md#admin-console "password reset": `result.jwt` of the plugin's action."""
    token = await server.create_admin()
    made = await server.call(transport, f"{PLUGIN}:getResetPasswordToken", token=token, _id="admin")
    body = {"password": "another password", "token": made["result"]["resetToken"]}
    reset = await server.call(transport, f"{PLUGIN}:reset", token=token, body=body)
    assert holds(reset["result"], {"jwt": str}), reset


async def test_description_of_the_api(server: Running) -> None:
    """docs/api/clients.md#admin-console "API list": the document itself, and the `room` its socket
    waits for."""
    socket = await server.open_socket()
    token = await server.create_admin()
    asked = {"controller": "server", "action": "openapi", "jwt": token, "requestId": "r1"}
    answer = await socket.ask({**asked, "volatile": VOLATILE})
    assert holds(answer, {"swagger": "2.0", "paths": {"/_me": dict}, "room": "r1"})


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("volatile", [{"sdkName": "js@6.2.2"}, {"sdkVersion": "6.2.2"}])
async def test_clients_that_are_too_old(
    server: Running, transport: str, volatile: dict[str, str]
) -> None:
    """docs/api/clients.md#admin-console "id relied upon", docs/api/errors.md: and how its text
    begins."""
    asked = await server.call(transport, "server:publicApi", volatile=volatile)
    assert told(asked, "id", "status") == {
        "id": "api.process.incompatible_sdk_version",
        "status": 400,
    }
    assert asked["error"]["message"].startswith("Incompatible SDK client")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("index:list", {}),
        ("collection:list", {"index": "some", "type": "all"}),
        ("document:search", {"index": "some", "collection": "other", "from": 0, "size": 10}),
        ("realtime:subscribe", {"index": "some", "collection": "other"}),
    ],
)
async def test_pages_about_documents(
    server: Running, transport: str, name: str, args: dict[str, object]
) -> None:
    """docs/api/clients.md#admin-console "out of scope": a clean error."""
    asked = await server.call(transport, name, token=await server.create_admin(), **args)
    assert told(asked, "id", "status", "props") == {
        "id": "api.process.controller_not_found",
        "status": 404,
        "props": [name.partition(":")[0]],
    }
