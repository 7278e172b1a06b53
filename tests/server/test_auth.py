"""The `auth` controller over every transport (contract/02)."""

from dataclasses import replace

import jwt
import pytest

from tests.server.errors import told
from tests.server.running import PASSWORD, TRANSPORTS, Running, cheap_config, running

INVALID = {"id": "security.token.invalid", "code": 117506049, "status": 401}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_login_gives_a_token_of_an_hour(server: Running, transport: str) -> None:
    """contract/02 §4 login: `_id, expiresAt, jwt, ttl` in this order."""
    await server.create_admin()
    body = {"username": "admin", "password": PASSWORD}
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    result = answer["result"]
    assert list(result) == ["_id", "expiresAt", "jwt", "ttl"]
    assert (result["_id"], result["ttl"]) == ("admin", 3_600_000)
    claims = jwt.decode(result["jwt"], options={"verify_signature": False})
    assert list(claims) == ["_id", "iat", "exp", "jti"]
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["exp"] * 1000 <= result["expiresAt"] < claims["exp"] * 1000 + 1000


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_credentials_may_stand_among_the_arguments(server: Running, transport: str) -> None:
    """contract/02 §4 login: what Kourou sends with `-a username=… -a password=…`."""
    await server.create_admin()
    answer = await server.call(
        transport, "auth:login", strategy="local", username="admin", password=PASSWORD, body={}
    )
    assert answer["result"]["_id"] == "admin"


async def test_two_logins_never_give_the_same_token(server: Running) -> None:
    """design §4, claims."""
    await server.create_admin()
    assert await server.login("admin") != await server.login("admin")


LIFETIMES = [
    ("2h", 7_200_000),
    ("60", 60),
    ("1.5h", 5_400_000),
    ("2 days", 172_800_000),
    (".5s", 500),
    ("-1", -1),
    ("", 3_600_000),
    ("1y", 31_557_600_000),
]


@pytest.mark.parametrize(("written", "ttl_ms"), LIFETIMES)
async def test_expires_in_is_read_as_written(server: Running, written: str, ttl_ms: int) -> None:
    """contract/02 §1.3."""
    await server.create_admin()
    body = {"username": "admin", "password": PASSWORD}
    answer = await server.call("http", "auth:login", strategy="local", expiresIn=written, body=body)
    result = answer["result"]
    assert result["ttl"] == ttl_ms
    assert (result["expiresAt"] == -1) == (ttl_ms == -1)
    claims = jwt.decode(result["jwt"], options={"verify_signature": False, "verify_exp": False})
    assert ("exp" in claims) == (ttl_ms != -1)


@pytest.mark.parametrize("written", [0, -1, 1000, None, False])
async def test_expires_in_as_a_json_value(server: Running, written: object) -> None:
    """contract/02 §1.3 and contract/09: 0, false and null mean the default."""
    await server.create_admin()
    body = {"username": "admin", "password": PASSWORD}
    answer = await server.call(
        "websocket", "auth:login", strategy="local", expiresIn=written, body=body
    )
    assert answer["result"]["ttl"] == (written if written in (-1, 1000) else 3_600_000)


@pytest.mark.parametrize(
    "written", ["0", "abc", "1mo", "1e3", " 1h", "-2", "-1h", "9" * 101, "1" * 40, "٣h"]
)
async def test_bad_lifetimes_are_refused(server: Running, written: str) -> None:
    """contract/02 §1.3; negative ones by design §4."""
    await server.create_admin()
    for transport in TRANSPORTS:
        answer = await server.call(
            transport,
            "auth:login",
            strategy="local",
            expiresIn=written,
            body={"username": "admin", "password": PASSWORD},
        )
        assert told(answer, "id", "status") == {
            "id": "api.assert.invalid_argument",
            "status": 400,
        }
        assert answer["error"]["props"][0] == "expiresIn"


@pytest.mark.parametrize("written", [True, {}, [], -2, 0.5, 1e300])
async def test_lifetimes_of_other_types_are_refused(server: Running, written: object) -> None:
    """contract/02 §1.3; a lifetime that resolves to 0 ms as well."""
    answer = await server.call("websocket", "auth:login", strategy="local", expiresIn=written)
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_argument", "status": 400}


async def test_sessions_above_the_longest_lifetime_are_refused() -> None:
    """contract/02 §1.4."""
    config = cheap_config()
    token = replace(config.security.auth_token, max_ttl_ms=1000 * 60 * 90)
    config = replace(config, security=replace(config.security, auth_token=token))
    async with running(config) as server:
        await server.create_admin()
        for written, status in (("1h", 200), ("90m", 200), ("5400001", 400), ("-1", 400)):
            body = {"username": "admin", "password": PASSWORD}
            answer = await server.call(
                "http", "auth:login", strategy="local", expiresIn=written, body=body
            )
            assert answer["status"] == status, written
        assert told(answer) == {
            "id": "security.token.ttl_exceeded",
            "code": 117506052,
            "status": 400,
        }


REFUSED = [
    ({"username": "admin", "password": "wrong"}),
    ({"username": "nobody", "password": "wrong"}),
    ({"username": "admin\x00", "password": PASSWORD}),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refused_logins_look_all_the_same(server: Running, transport: str) -> None:
    """contract/02 §4, security check A1."""
    await server.create_admin()
    seen = set()
    for body in REFUSED:
        answer = await server.call(transport, "auth:login", strategy="local", body=body)
        assert told(answer) == {
            "id": "plugin.strategy.missing_user",
            "code": 67305492,
            "status": 401,
        }
        assert answer["result"] is None
        seen.add(str(answer["error"]))
    assert len(seen) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("body", [None, {}, {"username": "admin"}, {"password": "x"}, []])
async def test_logins_without_credentials(server: Running, transport: str, body: object) -> None:
    """contract/02 §4: missing username or password."""
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    assert told(answer, "id", "status") == {"id": "plugin.strategy.missing_user", "status": 401}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_unknown_strategy(server: Running, transport: str) -> None:
    """contract/02 §4."""
    answer = await server.call(transport, "auth:login", strategy="carrier-pigeon", body={})
    assert told(answer) == {
        "id": "security.credentials.unknown_strategy",
        "code": 117571585,
        "status": 400,
    }
    assert answer["error"]["props"] == ["carrier-pigeon"]


async def test_login_without_a_strategy(server: Running) -> None:
    """contract/02 §4: required."""
    answer = await server.call("websocket", "auth:login", body={})
    assert told(answer, "id", "props") == {
        "id": "api.assert.missing_argument",
        "props": ["strategy"],
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_passwords_of_another_type(server: Running, transport: str) -> None:
    """design §4: 400 with an id, never 500."""
    await server.create_admin()
    for password in (12345678, ["x"], {"a": 1}, True):
        body = {"username": "admin", "password": password}
        answer = await server.call(transport, "auth:login", strategy="local", body=body)
        assert told(answer, "id", "status") == {"id": "api.assert.invalid_type", "status": 400}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_user_of_a_token(server: Running, transport: str) -> None:
    """contract/02 §4 getCurrentUser."""
    token = await server.create_admin()
    answer = await server.call(transport, "auth:getCurrentUser", token=token)
    result = answer["result"]
    assert list(result) == ["_id", "_source", "strategies"]
    assert result["_id"] == "admin"
    assert result["strategies"] == ["local"]
    assert result["_source"]["profileIds"] == ["admin"]
    assert list(result["_source"]["_kuzzle_info"]) == [
        "author",
        "createdAt",
        "updatedAt",
        "updater",
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_anonymous_user(server: Running, transport: str) -> None:
    """contract/02 §4 getCurrentUser."""
    answer = await server.call(transport, "auth:getCurrentUser")
    assert answer["result"] == {
        "_id": "-1",
        "_source": {"profileIds": ["anonymous"], "name": "Anonymous"},
        "strategies": [],
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_prefixed_tokens_are_the_same_tokens(server: Running, transport: str) -> None:
    """design §4, session token; security check S1 for both spellings."""
    token = await server.create_admin()
    answer = await server.call(transport, "auth:getCurrentUser", token=f"kauth-{token}")
    assert answer["result"]["_id"] == "admin"
    await server.call(transport, "auth:logout", token=token)
    answer = await server.call(transport, "auth:getCurrentUser", token=f"kauth-{token}")
    assert told(answer) == INVALID


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_logout_ends_this_token_only(server: Running, transport: str) -> None:
    """contract/02 §4 logout; security check S1 on every transport."""
    token, other = await server.create_admin(), await server.login("admin")
    answer = await server.call(transport, "auth:logout", token=token)
    assert answer["result"] == {"acknowledged": True}
    for again in TRANSPORTS:
        assert told(await server.call(again, "auth:getCurrentUser", token=token)) == INVALID
        alive = await server.call(again, "auth:getCurrentUser", token=other)
        assert alive["result"]["_id"] == "admin"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_global_logout_ends_every_session_of_the_user(
    server: Running, transport: str
) -> None:
    """contract/02 §4 logout."""
    token, other = await server.create_admin(), await server.login("admin")
    neighbour = await server.create_user(token, "neighbour")
    args = {"global": True}
    answer = await server.call(transport, "auth:logout", token=token, **args)
    assert answer["result"] == {"acknowledged": True}
    for ended in (token, other):
        assert told(await server.call(transport, "auth:getCurrentUser", token=ended)) == INVALID
    alive = await server.call(transport, "auth:getCurrentUser", token=neighbour)
    assert alive["status"] == 200


@pytest.mark.parametrize(
    ("written", "is_global"),
    [("", True), ("true", True), ("1", True), ("false", False), ("0", False)],
)
async def test_flags_over_http(server: Running, written: str, is_global: bool) -> None:
    """design §4, HTTP booleans."""
    token, other = await server.create_admin(), await server.login("admin")
    await server.call("http", "auth:logout", token=token, **{"global": written})
    answer = await server.call("http", "auth:getCurrentUser", token=other)
    assert (answer["status"] == 401) == is_global


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_flags_that_are_no_flags(server: Running, transport: str) -> None:
    """design §4, HTTP booleans; contract/01 §2.1."""
    token = await server.create_admin()
    answer = await server.call(transport, "auth:logout", token=token, **{"global": "maybe"})
    assert told(answer, "id", "status", "props") == {
        "id": "api.assert.invalid_type",
        "status": 400,
        "props": ["global", "boolean"],
    }
    assert (await server.call(transport, "auth:getCurrentUser", token=token))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_anonymous_can_not_log_out(server: Running, transport: str) -> None:
    """contract/03 §4: not among the rights of anonymous."""
    answer = await server.call(transport, "auth:logout")
    assert told(answer) == {
        "id": "security.rights.unauthorized",
        "code": 117637121,
        "status": 401,
    }
    assert answer["error"]["props"] == ["auth", "logout", "-1"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_check_token(server: Running, transport: str) -> None:
    """contract/02 §4 checkToken; contract/07 §6 row 1."""
    token = await server.create_admin()
    answer = await server.call(transport, "auth:checkToken", body={"token": token})
    result = answer["result"]
    assert list(result) == ["expiresAt", "kuid", "valid"]
    assert (result["kuid"], result["valid"]) == ("admin", True)
    for body in (None, {}, {"token": ""}):
        answer = await server.call(transport, "auth:checkToken", body=body)
        assert answer["result"] == {"expiresAt": None, "kuid": "-1", "valid": True}
    await server.call(transport, "auth:logout", token=token)
    answer = await server.call(transport, "auth:checkToken", body={"token": token})
    assert answer["status"] == 200
    assert list(answer["result"]) == ["state", "valid"]
    assert answer["result"]["valid"] is False


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_check_token_of_another_type(server: Running, transport: str) -> None:
    """contract/02 §4 checkToken; contract/09: null as well."""
    for token in (12, ["x"], {}, True):
        answer = await server.call(transport, "auth:checkToken", body={"token": token})
        assert told(answer, "id", "props") == {
            "id": "api.assert.invalid_type",
            "props": ["body.token", "string"],
        }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_my_rights(server: Running, transport: str) -> None:
    """contract/03 §5 for the roles of contract/03 §4."""
    answer = await server.call(transport, "auth:getMyRights")
    result = answer["result"]
    assert result["total"] == len(result["hits"])
    assert {
        "action": "login",
        "collection": "*",
        "controller": "auth",
        "index": "*",
        "value": "allowed",
    } in result["hits"]
    assert {hit["value"] for hit in result["hits"]} == {"allowed"}
    token = await server.create_admin()
    answer = await server.call(transport, "auth:getMyRights", token=token)
    assert answer["result"]["hits"] == [
        {"action": "*", "collection": "*", "controller": "*", "index": "*", "value": "allowed"}
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_strategies(server: Running, transport: str) -> None:
    """contract/02 §4 getStrategies."""
    token = await server.create_admin()
    answer = await server.call(transport, "auth:getStrategies", token=token)
    assert answer["result"] == ["local"]


async def test_deprecated_routes_are_alive(server: Running) -> None:
    """contract/02 §4; contract/07 §6 row 7."""
    token = await server.create_admin()
    http = await server.connect()
    for path, action in (("/users/_me", "getCurrentUser"), ("/users/_me/_rights", "getMyRights")):
        answer = await http.ask("GET", path, token=token)
        assert (answer.status, answer.json["action"]) == (200, action)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_users_token_decides_who_logs_in(server: Running, transport: str) -> None:
    """contract/09: a login sent with the token of a user who may not log in is refused."""
    user = await server.create_user(await server.create_admin(), "user")
    body = {"username": "user", "password": PASSWORD}
    answer = await server.call(transport, "auth:login", strategy="local", token=user, body=body)
    assert told(answer) == {"id": "security.rights.forbidden", "code": 117637122, "status": 403}
