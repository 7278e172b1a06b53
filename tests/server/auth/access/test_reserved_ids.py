"""Ids that clients resolve as steps of a path (`.`, `..`): refused for what is new, and what is
stored goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from server.storage.base import Insert, Put
from server.storage.rows import Table
from tests.support.commands import Desk
from tests.support.server import PASSWORD, Running, running

STEPS = [".", "..", "%2e%2E"]
INFO = {"author": "-1", "createdAt": 1, "updatedAt": None, "updater": None}


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running() as server:
        yield server


def creations(step: str) -> list[tuple[str, dict[str, object], dict[str, object]]]:
    """Return every action that creates something under an id of the caller's, its arguments and
    its body."""
    credentials = {"local": {"username": "x", "password": PASSWORD}}
    user = {"content": {"profileIds": ["default"]}, "credentials": credentials}
    policies = {"policies": [{"roleId": "default"}]}
    controllers = {"controllers": {"auth": {"actions": {"login": True}}}}
    named = {"local": {"username": step, "password": PASSWORD}}
    return [
        ("security:createUser", {"_id": step}, user),
        ("security:createRestrictedUser", {"_id": step}, {"credentials": credentials}),
        ("security:upsertUser", {"_id": step}, user),
        ("security:createProfile", {"_id": step}, policies),
        ("security:createOrReplaceProfile", {"_id": step}, policies),
        ("security:createRole", {"_id": step}, controllers),
        ("security:createOrReplaceRole", {"_id": step}, controllers),
        ("security:createApiKey", {"userId": "admin", "_id": step}, {"description": "d"}),
        ("auth:createApiKey", {"_id": step}, {"description": "d"}),
        ("security:createUser", {"_id": "fine"}, {**user, "credentials": named}),
        ("security:updateCredentials", {"_id": "admin", "strategy": "local"}, named["local"]),
        ("auth:updateMyCredentials", {"strategy": "local"}, named["local"]),
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_creation_under_a_step_of_a_path_is_refused(
    server: Running, transport: str, step: str
) -> None:
    admin = await server.create_admin()
    for action, args, body in creations(step):
        answer = await server.call(transport, action, token=admin, body=body, **args)
        assert answer["status"] == 400, (action, answer)
        assert answer["error"]["id"] == "api.assert.invalid_argument", (action, answer)


async def test_first_admin_under_a_step_of_a_path_is_refused(server: Running) -> None:
    body = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
    answer = await server.call("query", "security:createFirstAdmin", body=body, _id="..")
    assert (answer["status"], answer["error"]["id"]) == (400, "api.assert.invalid_argument")


async def test_stored_ids_that_are_steps_of_a_path_go_on(server: Running) -> None:
    """They are read, changed and deleted by messages that name them in a body or an argument."""
    admin = await server.create_admin()
    storage = server.app.services.storage
    document = {"id": "..", "info": INFO}
    await storage.apply(
        [
            Put(Table.ROLES, {**document, "body": {"controllers": {}}}),
            Put(Table.PROFILES, {**document, "body": {"policies": [], "rateLimit": 0}}),
            Insert(
                Table.USERS,
                {
                    "kuid": "..",
                    "profile_ids": ["default"],
                    "content": {},
                    "info": INFO,
                    "disabled": 0,
                },
            ),
        ]
    )
    content = {"content": {"profileIds": ["default"], "seen": 2}}
    controllers = {"controllers": {"auth": {"actions": {"login": True}}}}
    asked: list[tuple[str, object]] = [
        ("security:getUser", None),
        ("security:updateUser", {"seen": 1}),
        ("security:upsertUser", content),
        ("security:updateRole", controllers),
        ("security:getRole", None),
        ("security:updateProfile", {"policies": [{"roleId": ".."}]}),
        ("security:getProfile", None),
        ("security:deleteUser", None),
        ("security:deleteProfile", None),
        ("security:deleteRole", None),
    ]
    for action, body in asked:
        answer = await server.call("websocket", action, token=admin, body=body, _id="..")
        assert answer["status"] == 200, (action, answer)


def test_commands_refuse_steps_of_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`user create` and `import` say so, and store nothing."""
    commands = Desk(tmp_path / "keys.db", monkeypatch, capsys)
    commands.run("create-admin", "ann", "--password-stdin", stdin=f"{PASSWORD}\n")
    code, _, errors = commands.run("user", "create", "..", "--no-password")
    assert code == 2
    assert "URLs cannot contain" in errors
    lines = [
        {"collection": "roles", "_id": "..", "_source": {"controllers": {}}},
        {"collection": "profiles", "_id": "..", "_source": {"policies": [{"roleId": "default"}]}},
        {"collection": "users", "_id": ".", "_source": {"profileIds": ["default"]}},
    ]
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    code, said, errors = commands.run("import", str(file), "--json")
    assert code == 2
    outcome = orjson.loads(said)
    assert [outcome[kind]["refused"] for kind in ("roles", "profiles", "users")] == [1, 1, 1]
    assert errors.count("URLs cannot contain") == 3
