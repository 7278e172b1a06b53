"""The `security` controller over every transport (docs/api/security.md)."""

import asyncio
from dataclasses import replace

import pytest

from server.core.ids import ANONYMOUS_ID
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

FIRST = {
    "content": {"name": "Root"},
    "credentials": {"local": {"username": "root", "password": PASSWORD}},
}
USER = {
    "content": {"profileIds": ["default"], "name": "Yağmur", "profile": {"town": "İzmir"}},
    "credentials": {"local": {"username": "yagmur", "password": PASSWORD}},
}
UNAUTHORIZED = {"id": "security.rights.unauthorized", "code": 117637121, "status": 401}
FORBIDDEN = {"id": "security.rights.forbidden", "code": 117637122, "status": 403}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_first_administrator(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions, docs/api/differences.md#first-administrator: once, from
    this machine."""
    before = await server.call(transport, "server:adminExists")
    assert before["result"] == {"exists": False}
    answer = await server.call(transport, "security:createFirstAdmin", body=FIRST, _id="root")
    result = answer["result"]
    assert list(result) == ["_id", "_source"]
    assert list(result["_source"]) == ["profileIds", "name", "_kuzzle_info"]
    assert (result["_id"], result["_source"]["profileIds"]) == ("root", ["admin"])
    token = await server.login("root")
    again = await server.call(transport, "security:createFirstAdmin", body=FIRST, token=token)
    assert told(again) == {"id": "api.process.admin_exists", "code": 33685513, "status": 412}
    stranger = await server.call(transport, "security:createFirstAdmin", body=FIRST)
    assert told(stranger) == UNAUTHORIZED


async def test_of_two_first_administrators_one_wins(server: Running) -> None:
    """docs/api/differences.md#first-administrator, security check A7."""
    bodies = [
        {"credentials": {"local": {"username": f"root{number}", "password": PASSWORD}}}
        for number in range(8)
    ]
    answers = await asyncio.gather(
        *(server.call("http", "security:createFirstAdmin", body=body) for body in bodies)
    )
    statuses = [answer["status"] for answer in answers]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 412}


async def test_a_proxied_stranger_needs_the_setup_code(server: Running) -> None:
    """docs/api/differences.md#first-administrator: a caller behind forwarding headers is no local
    one, the code opens once."""
    http = await server.connect()
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    path = "/_createFirstAdmin/root"
    answer = await http.ask("POST", path, FIRST, headers=forwarded)
    assert told(answer.json) == UNAUTHORIZED
    answer = await http.ask("POST", path + "?setupCode=guess", FIRST)
    assert told(answer.json) == UNAUTHORIZED
    code = server.app.services.first_admin.code
    answer = await http.ask("POST", f"{path}?setupCode={code}", FIRST, headers=forwarded)
    assert answer.status == 200
    answer = await http.ask("POST", f"{path}2?setupCode={code}", FIRST, headers=forwarded)
    assert told(answer.json) == UNAUTHORIZED


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_first_administrators_choose_no_profiles(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions."""
    body = {**FIRST, "content": {"profileIds": ["admin"]}}
    answer = await server.call(transport, "security:createFirstAdmin", body=body)
    assert told(answer, "id", "status", "props") == {
        "id": "api.assert.forbidden_argument",
        "status": 400,
        "props": ["body.content.profileIds"],
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_create_get_and_delete_a_user(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions; a deleted user's token is dead (security check S2)."""
    admin = await server.create_admin()
    made = await server.call(transport, "security:createUser", token=admin, body=USER, _id="yagmur")
    source = made["result"]["_source"]
    assert list(source) == ["profileIds", "name", "profile", "_kuzzle_info"]
    assert source["_kuzzle_info"]["author"] == "admin"
    assert source["_kuzzle_info"]["updatedAt"] is source["_kuzzle_info"]["updater"] is None
    got = await server.call(transport, "security:getUser", token=admin, _id="yagmur")
    assert got["result"] == made["result"]
    token = await server.login("yagmur")
    gone = await server.call(transport, "security:deleteUser", token=admin, _id="yagmur")
    assert gone["result"] == {"_id": "yagmur"}
    for full_name in ("security:getUser", "security:deleteUser"):
        answer = await server.call(transport, full_name, token=admin, _id="yagmur")
        assert told(answer, "id", "code", "status", "props") == {
            "id": "security.user.not_found",
            "code": 117702658,
            "status": 404,
            "props": ["yagmur"],
        }
    answer = await server.call(transport, "auth:getCurrentUser", token=token)
    assert answer["error"]["id"] == "security.token.invalid"
    body = {"username": "yagmur", "password": PASSWORD}
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    assert answer["error"]["id"] == "plugin.strategy.missing_user"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, {"id": "api.assert.body_required", "props": []}),
        ({}, {"id": "api.assert.missing_argument", "props": ["body.content"]}),
        (
            {"content": {}},
            {"id": "api.assert.missing_argument", "props": ["body.content.profileIds"]},
        ),
        (
            {"content": {"profileIds": "default"}},
            {"id": "api.assert.invalid_type", "props": ["body.content.profileIds", "array"]},
        ),
        (
            {"content": {"profileIds": []}},
            {"id": "api.assert.empty_argument", "props": ["body.content.profileIds"]},
        ),
        (
            {"content": {"profileIds": ["default", 3]}},
            {
                "id": "api.assert.invalid_type",
                "props": ["body.content.profileIds", "array of strings"],
            },
        ),
        (
            {"content": {"profileIds": ["nobody"]}},
            {"id": "security.profile.not_found", "props": ["nobody"]},
        ),
        (
            {"content": {"profileIds": ["default"]}, "credentials": {"pigeon": {}}},
            {"id": "security.credentials.unknown_strategy", "props": ["pigeon"]},
        ),
        (
            {"content": {"profileIds": ["default"]}, "credentials": {"local": "x"}},
            {"id": "api.assert.invalid_type", "props": ["body.credentials.local", "object"]},
        ),
    ],
)
async def test_users_that_can_not_be(
    server: Running, transport: str, body: object, expected: dict
) -> None:
    """docs/api/security.md#users, #user-actions, #users-with-credentials; nothing is left of
    them."""
    admin = await server.create_admin()
    answer = await server.call(transport, "security:createUser", token=admin, body=body, _id="new")
    assert told(answer, "id", "props") == expected
    answer = await server.call(transport, "security:getUser", token=admin, _id="new")
    assert answer["status"] == 404


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ids_and_names_are_taken_once(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions, docs/api/differences.md (412 both times),
    docs/api/strategies.md#local-errors."""
    admin = await server.create_admin()
    await server.create_user(admin, "yagmur")
    answer = await server.call(
        transport, "security:createUser", token=admin, body=USER, _id="yagmur"
    )
    assert told(answer) == {
        "id": "security.user.already_exists",
        "code": 117702657,
        "status": 412,
    }
    answer = await server.call(transport, "security:createUser", token=admin, body=USER, _id="two")
    assert answer["status"] == 412
    assert "id" not in answer["error"]
    answer = await server.call(transport, "security:getUser", token=admin, _id="two")
    assert answer["status"] == 404


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_restricted_users(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions; null as an id is none
    (docs/api/clients.md#requests-of-the-sdk)."""
    admin = await server.create_admin()
    body = {"content": {"name": "R"}, "credentials": USER["credentials"]}
    answer = await server.call(
        transport, "security:createRestrictedUser", token=admin, body=body, _id=None
    )
    result = answer["result"]
    assert result["_source"]["profileIds"] == ["default"]
    assert result["_id"].startswith("kuid-")
    answer = await server.call(transport, "security:createRestrictedUser", token=admin)
    assert answer["status"] == 200
    answer = await server.call(transport, "security:createRestrictedUser", token=admin, kuid="uuid")
    assert len(answer["result"]["_id"]) == len("kuid-") + 36
    answer = await server.call(
        transport, "security:createRestrictedUser", token=admin, body=USER, _id="x"
    )
    assert told(answer, "id", "props") == {
        "id": "api.assert.forbidden_argument",
        "props": ["body.content.profileIds"],
    }


async def test_profiles_of_restricted_users_are_configured() -> None:
    """docs/configuration.md, `security.restrictedProfileIds`."""
    config = cheap_config()
    security = replace(config.security, restricted_profile_ids=("anonymous",))
    async with running(replace(config, security=security)) as server:
        admin = await server.create_admin()
        answer = await server.call("http", "security:createRestrictedUser", token=admin)
        assert answer["result"]["_source"]["profileIds"] == ["anonymous"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_anonymous_user_is_always_there(server: Running, transport: str) -> None:
    """docs/api/auth.md#anonymous-user, docs/api/security.md#users."""
    admin = await server.create_admin()
    for kuid in (ANONYMOUS_ID, "anonymous"):
        answer = await server.call(transport, "security:getUser", token=admin, _id=kuid)
        assert answer["result"]["_id"] == ANONYMOUS_ID
        answer = await server.call(
            transport, "security:createRestrictedUser", token=admin, _id=kuid
        )
        assert answer["error"]["id"] == "security.user.already_exists"
        answer = await server.call(transport, "security:deleteUser", token=admin, _id=kuid)
        assert answer["error"]["id"] == "security.user.not_found"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_has_no_rights_learns_nothing(server: Running, transport: str) -> None:
    """docs/api/transport.md#request-pipeline, docs/api/security.md#rights."""
    user = await server.create_user(await server.create_admin(), "user")
    for full_name in ("security:getUser", "security:nothing", "nothing:nothing"):
        if transport == "http" and "nothing" in full_name:
            continue
        answer = await server.call(transport, full_name, _id="admin")
        assert told(answer) == UNAUTHORIZED
        answer = await server.call(transport, full_name, token=user, _id="admin")
        assert told(answer) == FORBIDDEN
        assert answer["error"]["props"] == [*full_name.split(":"), "user"]


@pytest.mark.parametrize("kuid", ["a/b", "a b#c", "İ" * 256, "_id", "\u202e"])
async def test_any_id_means_its_own_user(server: Running, kuid: str) -> None:
    """Identifiers: never confused, on any transport."""
    admin = await server.create_admin()
    for transport in TRANSPORTS:
        args = {"token": admin, "_id": kuid}
        made = await server.call(transport, "security:createRestrictedUser", **args)
        assert made["result"]["_id"] == kuid
        got = await server.call(transport, "security:getUser", **args)
        assert got["result"]["_id"] == kuid
        await server.call(transport, "security:deleteUser", **args)


@pytest.mark.parametrize("kuid", ["x" * 513, "a\nb", "a\x00b"])
async def test_ids_that_can_not_be(server: Running, kuid: str) -> None:
    """Refused by name."""
    admin = await server.create_admin()
    for transport in TRANSPORTS:
        answer = await server.call(
            transport, "security:createRestrictedUser", token=admin, _id=kuid
        )
        assert told(answer, "id", "status") == {
            "id": "api.assert.invalid_argument",
            "status": 400,
        }
        assert answer["error"]["props"][0] == "_id"
