"""Roles over every transport (docs/api/security.md#roles, #role-actions, #bulk-deletes), and the
rights there are at first (§7.9)."""

from dataclasses import replace

import pytest

from protocol.errors import ApiError
from server.auth.access.documents import MOST_DOCUMENT_BYTES
from server.auth.access.roles import MOST_ACTIONS, MOST_CONTROLLERS, check_role
from server.storage.base import Delete, EventKind, Insert, JournalEvent
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.failing_storage import fail_at
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

LOGIN = {"controllers": {"auth": {"actions": {"login": True}}}}
INFO = {"controllers": {"server": {"actions": {"info": True}}}}
EVERYTHING = {"controllers": {"*": {"actions": {"*": True}}}}
NATIVE = {"auth": {"login", "logout"}, "server": {"info"}}


def rights(**controllers: object) -> dict[str, object]:
    return {"controllers": controllers}


async def write(server: Running, admin: str, role_id: str, body: object) -> None:
    """Write a role that must be accepted."""
    answer = await server.call(
        "query", "security:createOrReplaceRole", token=admin, _id=role_id, body=body
    )
    assert answer["status"] == 200, answer


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_role_comes_changes_and_goes(server: Running, transport: str) -> None:
    """docs/api/security.md#role-actions, #stored-documents: S with `_kuzzle_info` last; updateRole
    replaces the whole role."""
    admin = await server.create_admin()

    async def ask(action: str, body: object = None) -> dict:
        answer = await server.call(
            transport, f"security:{action}", token=admin, _id="reader", body=body
        )
        return answer["result"]

    made = await ask("createRole", {"tags": ["a"], **LOGIN, "_id": "x", "_kuzzle_info": 1})
    assert list(made) == ["_id", "_source"] and made["_id"] == "reader"
    info = made["_source"].pop("_kuzzle_info")
    assert list(made["_source"].items()) == [*LOGIN.items(), ("tags", ["a"])]
    assert info == {
        "author": "admin",
        "createdAt": info["createdAt"],
        "updatedAt": None,
        "updater": None,
    }
    made["_source"]["_kuzzle_info"] = info
    assert await ask("getRole") == made
    for action in ("updateRole", "createOrReplaceRole"):
        replaced = await ask(action, INFO)
        assert await ask("getRole") == replaced
        info = replaced["_source"].pop("_kuzzle_info")
        assert replaced == {"_id": "reader", "_source": INFO}
        assert (info["author"], info["updater"]) == ("admin", "admin")
        assert info["updatedAt"] == info["createdAt"]
    assert await ask("deleteRole") == {"_id": "reader"}
    gone = await server.call(transport, "security:getRole", token=admin, _id="reader")
    assert told(gone, "id", "status", "props") == {
        "id": "security.role.not_found",
        "status": 404,
        "props": ["reader"],
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_built_in_roles_are_there(server: Running, transport: str) -> None:
    """docs/api/security.md#default-rights."""
    admin = await server.create_admin()
    ids = {"ids": ["admin", "default", "anonymous", "admin"]}
    answer = await server.call(transport, "security:mGetRoles", token=admin, body=ids)
    assert list(answer["result"]) == ["hits"]
    found = {hit["_id"]: hit["_source"]["controllers"] for hit in answer["result"]["hits"]}
    assert list(found) == ["admin", "default", "anonymous"]
    assert found["admin"] == EVERYTHING["controllers"]
    assert found["anonymous"]["auth"]["actions"]["login"] is True
    assert found["default"]["auth"]["actions"]["logout"] is True
    answer = await server.call(transport, "security:mGetRoles", token=admin, body={"ids": []})
    assert answer["result"] == {"hits": []}


# A role body, and the error with its props (docs/api/security.md#roles, row by row).
REFUSED = [
    (rights() | {"controllers": None}, "api.assert.missing_argument", ["new.controllers"]),
    ({}, "api.assert.empty_argument", ["new.controllers"]),
    ({"tags": ["a"]}, "api.assert.empty_argument", ["new.controllers"]),
    (rights(), "api.assert.empty_argument", ["new.controllers"]),
    ({"controllers": "x"}, "api.assert.invalid_type", ["new.controllers", "object"]),
    ({"controllers": [LOGIN]}, "api.assert.invalid_type", ["new.controllers", "object"]),
    ({"controllers": 0}, "api.assert.invalid_type", ["new.controllers", "object"]),
    (rights(auth="x"), "api.assert.invalid_type", ["auth", "object"]),
    (rights(auth=None), "api.assert.invalid_type", ["auth", "object"]),
    (rights(auth=[]), "api.assert.invalid_type", ["auth", "object"]),
    (rights(auth={}), "api.assert.empty_argument", ["auth"]),
    (rights(auth={"login": True}), "api.assert.missing_argument", ["auth"]),
    (rights(auth={"actions": "x"}), "api.assert.invalid_type", ["auth.actions", "object"]),
    (rights(auth={"actions": None}), "api.assert.invalid_type", ["auth.actions", "object"]),
    (rights(auth={"actions": {}}), "api.assert.empty_argument", ["auth.actions"]),
    *(
        (
            rights(auth={"actions": {"login": value}}),
            "api.assert.invalid_type",
            ["auth.actions.login", "boolean"],
        )
        for value in ("x", 1, None, {"test": "return true"}, [True])
    ),
    (
        rights(**{"*": {"actions": {"login": True}}}),
        "security.role.unknown_action",
        ["new", "login", "*"],
    ),
    (
        rights(**{"*": {"actions": {"*": True, "now": True}}}),
        "security.role.unknown_action",
        ["new", "now", "*"],
    ),
    (
        rights(auth={"actions": {"*": True, "bar": True}}),
        "security.role.unknown_action",
        ["new", "bar", "auth", ""],
    ),
    (
        rights(foo={"actions": {"bar": True}}),
        "security.role.unknown_controller",
        ["new", "foo", ""],
    ),
    (None, "api.assert.body_required", []),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("action", ["createRole", "createOrReplaceRole", "updateRole"])
async def test_what_is_no_role(server: Running, transport: str, action: str) -> None:
    """docs/api/security.md#roles, over every transport and in every action that writes; nothing is
    kept."""
    admin = await server.create_admin()
    name = f"security:{action}"
    for body, error_id, props in REFUSED:
        answer = await server.call(transport, name, token=admin, _id="new", body=body)
        seen = told(answer, "id", "status", "props")
        assert seen == {"id": error_id, "status": 400, "props": props}, body
    for body in ([], "x", 5):  # docs/api/transport.md#arguments
        answer = await server.call(transport, name, token=admin, _id="new", body=body)
        assert answer["status"] == 400, body
    answer = await server.call(transport, "security:getRole", token=admin, _id="new")
    assert answer["status"] == 404


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_force_is_for_unknown_controllers_only(server: Running, transport: str) -> None:
    """docs/api/security.md#roles: an unknown action of a native controller is refused all the
    same."""
    admin = await server.create_admin()
    plugin = rights(**{"plugin/things": {"actions": {"bar": True}}})

    async def ask(body: object, **args: object) -> dict:
        return await server.call(
            transport, "security:createOrReplaceRole", token=admin, _id="r", body=body, **args
        )

    assert (await ask(plugin, force=False))["status"] == 400
    assert (await ask(plugin, force=True))["result"]["_source"]["controllers"] == (
        plugin["controllers"]
    )
    wrong = await ask(rights(auth={"actions": {"bar": True}}), force=True)
    assert told(wrong, "id") == {"id": "security.role.unknown_action"}
    wrong = await ask(rights(**{"*": {"actions": {"bar": True}}}), force=True)
    assert told(wrong, "id") == {"id": "security.role.unknown_action"}
    wrong = await ask(plugin, force="perhaps")
    assert told(wrong, "id", "props") == {
        "id": "api.assert.invalid_type",
        "props": ["force", "boolean"],
    }


def test_roles_written_for_the_reference_are_taken_over() -> None:
    """docs/api/security.md#roles: its native controllers are known, whatever the action."""
    names = "bulk cluster collection debug document index realtime admin memoryStorage ms".split()
    body = rights(**{name: {"actions": {"anything": True, "*": False}} for name in names})
    assert check_role("r", body, NATIVE) == body
    assert check_role("r", EVERYTHING, NATIVE) == EVERYTHING


def test_what_is_kept_beside_the_document_is_no_part_of_it() -> None:
    """docs/api/security.md#users, of all documents: `_id` and `_kuzzle_info` are overridden."""
    assert check_role("r", {"_id": "x", "_kuzzle_info": 1, **LOGIN}, NATIVE) == LOGIN


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_anonymous_must_be_able_to_log_in(server: Running, transport: str) -> None:
    """docs/api/security.md#roles; a `*` that an exact name hides allows nothing (§3)."""
    admin = await server.create_admin()
    refused = [
        INFO,
        rights(auth={"actions": {"login": False}}),
        rights(auth={"actions": {"login": False, "*": True}}),
        rights(**{"*": {"actions": {"*": True}}, "auth": {"actions": {"logout": True}}}),
    ]
    accepted = [LOGIN, EVERYTHING, rights(auth={"actions": {"*": True}})]
    for body, status in [(b, 400) for b in refused] + [(b, 200) for b in accepted]:
        answer = await server.call(
            transport, "security:updateRole", token=admin, _id="anonymous", body=body
        )
        assert answer["status"] == status, body
        if status == 400:
            assert told(answer) == {
                "id": "security.role.login_required",
                "code": 117768194,
                "status": 400,
            }
        assert await server.login("admin")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ids_that_are_taken_unknown_or_none(server: Running, transport: str) -> None:
    """docs/api/security.md#role-actions."""
    admin = await server.create_admin()
    await write(server, admin, "known", LOGIN)
    rows = [
        ("createRole", "known", LOGIN, "services.storage.document_already_exists", 400, []),
        ("createRole", "admin", LOGIN, "services.storage.document_already_exists", 400, []),
        ("updateRole", "new", LOGIN, "services.storage.not_found", 404, ["new"]),
        ("getRole", "new", None, "security.role.not_found", 404, ["new"]),
        ("deleteRole", "new", None, "security.role.not_found", 404, ["new"]),
        ("deleteRole", "x" * 513, None, "security.role.not_found", 404, ["x" * 513]),
        ("deleteRole", "admin", None, "security.role.cannot_delete", 400, []),
        ("deleteRole", "default", None, "security.role.cannot_delete", 400, []),
        ("deleteRole", "anonymous", None, "security.role.cannot_delete", 400, []),
    ]
    for action, role_id, body, error_id, status, props in rows:
        answer = await server.call(
            transport, f"security:{action}", token=admin, _id=role_id, body=body
        )
        seen = told(answer, "id", "status", "props")
        assert seen == {"id": error_id, "status": status, "props": props}, action
    for action in ("createRole", "createOrReplaceRole", "updateRole"):
        for role_id in ("x" * 513, "a\nb"):
            answer = await server.call(
                transport, f"security:{action}", token=admin, _id=role_id, body=LOGIN
            )
            assert answer["error"]["id"] == "api.assert.invalid_argument"
            assert answer["error"]["props"][0] == "_id"
    answer = await server.call(transport, "security:getRole", token=admin, _id="known")
    assert answer["result"]["_source"]["controllers"] == LOGIN["controllers"]


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_an_id_is_required(server: Running, transport: str) -> None:
    """docs/api/security.md: over HTTP it is in the path."""
    admin = await server.create_admin()
    for action in ("createRole", "createOrReplaceRole", "updateRole", "getRole", "deleteRole"):
        for args, error_id in (
            ({}, "missing_argument"),
            ({"_id": ""}, "missing_argument"),
            ({"_id": 12}, "invalid_type"),
        ):
            answer = await server.call(
                transport, f"security:{action}", token=admin, body=LOGIN, **args
            )
            assert answer["error"]["id"] == f"api.assert.{error_id}"
            assert answer["error"]["props"][0] == "_id"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_retry_on_conflict_is_a_number(server: Running, transport: str) -> None:
    """docs/api/security.md, common arguments."""
    admin = await server.create_admin()
    content = {"profileIds": ["default"]}
    for action, body in (
        *(("updateRole", LOGIN), ("updateProfile", LOGIN)),
        *(("updateUser", content), ("upsertUser", {"content": content})),
    ):
        answer = await server.call(
            transport,
            f"security:{action}",
            token=admin,
            _id="default",
            retryOnConflict="a",
            body=body,
        )
        assert told(answer, "id", "props") == {
            "id": "api.assert.invalid_type",
            "props": ["retryOnConflict", "integer"],
        }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_role_in_use_stays(server: Running, transport: str) -> None:
    """docs/api/security.md#role-actions: 412 while a profile has it, also when only one of many
    policies names it."""
    admin = await server.create_admin()
    await write(server, admin, "used", LOGIN)
    policies = [{"roleId": "default"}, {"roleId": "used", "restrictedTo": []}, {"roleId": "used"}]

    async def ask(action: str, name: str, body: object = None) -> dict:
        return await server.call(transport, f"security:{action}", token=admin, _id=name, body=body)

    await ask("createProfile", "p", {"policies": policies})
    for _ in range(2):
        assert told(await ask("deleteRole", "used"), "id", "code", "status", "props") == {
            "id": "security.role.in_use",
            "code": 117768196,
            "status": 412,
            "props": ["used"],
        }
    await ask("updateProfile", "p", {"policies": [{"roleId": "default"}]})
    assert (await ask("deleteRole", "used"))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_several_are_given_or_none(server: Running, transport: str) -> None:
    """docs/api/security.md#role-actions mGetRoles, §7.5 mGetProfiles: any unknown id is 404 for
    all."""
    admin = await server.create_admin()
    for kind in ("Roles", "Profiles"):
        name = f"security:mGet{kind}"
        one = kind[:-1].lower()
        rows = [
            ({"ids": ["admin", "nope", "no"]}, f"security.{one}.not_found", 404, ["nope"]),
            (None, "api.assert.body_required", 400, []),
            ({}, "api.assert.missing_argument", 400, ["body.ids"]),
            ({"ids": "admin"}, "api.assert.invalid_type", 400, ["body.ids", "array"]),
            ({"ids": [1]}, "api.assert.invalid_type", 400, ["body.ids", "array of strings"]),
        ]
        for body, error_id, status, props in rows:
            answer = await server.call(transport, name, token=admin, body=body)
            seen = told(answer, "id", "status", "props")
            assert seen == {"id": error_id, "status": status, "props": props}, body


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_many_are_deleted_as_far_as_they_can_be(server: Running, transport: str) -> None:
    """docs/api/security.md#bulk-deletes, docs/api/differences.md#partial-errors: status 206, and
    each nested error says about what and why."""
    admin = await server.create_admin()

    async def ask(ids: object) -> dict:
        return await server.call(transport, "security:mDeleteRoles", token=admin, body={"ids": ids})

    for name in ("a", "b", "c"):
        await write(server, admin, name, LOGIN)
    body = {"policies": [{"roleId": "b"}]}
    await server.call(transport, "security:createProfile", token=admin, _id="p", body=body)
    assert (await ask([]))["result"] == []
    answer = await ask(["a", "b", "nope", "admin", "c", "a"])
    assert (answer["status"], answer["result"]) == (206, ["a", "c"])
    assert told(answer, "id", "code", "status", "count") == {
        "id": "services.storage.incomplete_delete",
        "code": 16842761,
        "status": 206,
        "count": 3,
    }
    nested = answer["error"]["errors"]
    assert [(one["id"], one["status"], one["document"]) for one in nested] == [
        ("security.role.in_use", 412, {"_id": "b"}),
        ("security.role.not_found", 404, {"_id": "nope"}),
        ("security.role.cannot_delete", 400, {"_id": "admin"}),
    ]
    assert all(one["reason"] == one["message"] for one in nested)
    await server.call(transport, "security:deleteProfile", token=admin, _id="p")
    answer = await ask(["b"])
    assert (answer["status"], answer["result"], answer["error"]) == (200, ["b"], None)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_only_so_much_at_once(
    server: Running, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand documents of a megabyte are no answer: 413, as for a page of a search."""
    monkeypatch.setattr("server.core.documents.MOST_ANSWERED_BYTES", 2000)
    admin = await server.create_admin()
    tag, content = "x" * 800, {"profileIds": ["default"]}
    for name in ("a", "b", "c"):
        await write(server, admin, name, {**LOGIN, "tag": tag})
        for kind, body in (
            ("createProfile", {"policies": [], "tag": tag}),
            ("createUser", {"content": {**content, "tag": tag}}),
        ):
            made = await server.call("query", f"security:{kind}", token=admin, body=body, _id=name)
            assert made["status"] == 200
    for kind in ("Roles", "Profiles", "Users"):
        for ids, status in ((["a", "b"], 200), (["a", "b", "a"], 200), (["a", "b", "c"], 413)):
            body = {"ids": ids}
            answer = await server.call(transport, f"security:mGet{kind}", token=admin, body=body)
            assert answer["status"] == status, kind
        assert told(answer, "id") == {"id": "services.storage.get_limit_exceeded"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_only_so_many_at_once(transport: str) -> None:
    """docs/api/security.md#bulk-deletes, docs/configuration.md `limits`: 413, and nothing is
    deleted."""
    config = cheap_config()
    limits = replace(config.limits, documents_write_count=2, documents_fetch_count=2)
    async with running(replace(config, limits=limits)) as server:
        admin = await server.create_admin()
        await write(server, admin, "a", LOGIN)
        for verb, count in (("mDelete", "write_limit"), ("mGet", "get_limit")):
            for kind in ("Roles", "Profiles"):
                name = f"security:{verb}{kind}"
                body = {"ids": ["a", "x", "y"]}
                answer = await server.call(transport, name, token=admin, body=body)
                seen = told(answer, "id", "status")
                assert seen == {"id": f"services.storage.{count}_exceeded", "status": 413}
                body = {"ids": ["admin", "default", "admin"]}
                answer = await server.call(transport, name, token=admin, body=body)
                assert answer["status"] == (200 if verb == "mGet" else 206)
        answer = await server.call(transport, "security:getRole", token=admin, _id="a")
        assert answer["status"] == 200


def test_roles_are_bounded() -> None:
    """Nobody makes the server compile or send more than these."""
    full = {"actions": dict.fromkeys(map(str, range(MOST_ACTIONS)), True)}
    assert check_role("r", rights(bulk=full), NATIVE)
    rows = [
        (
            rights(bulk={"actions": full["actions"] | {"more": True}}),
            "api.assert.too_many_arguments",
            ("bulk.actions", MOST_ACTIONS),
        ),
        (
            rights(**dict.fromkeys(map(str, range(MOST_CONTROLLERS + 1)), full)),
            "api.assert.invalid_argument",
            ("body", f"a document of at most {MOST_DOCUMENT_BYTES} bytes"),
        ),
        (
            rights(**{str(n): {"actions": {"*": True}} for n in range(MOST_CONTROLLERS + 1)}),
            "api.assert.too_many_arguments",
            ("r.controllers", MOST_CONTROLLERS),
        ),
    ]
    for body, error_id, props in rows:
        with pytest.raises(ApiError) as refused:
            check_role("r", body, NATIVE, force=True)
        assert (refused.value.id, refused.value.props) == (error_id, props)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_change_is_in_force_at_once(server: Running, transport: str) -> None:
    """Security check S9: live tokens have the new rights at their next request, and so has what
    was kept for them."""
    admin = await server.create_admin()
    await write(server, admin, "r", EVERYTHING)
    body = {"policies": [{"roleId": "r"}]}
    await server.call(transport, "security:createProfile", token=admin, _id="p", body=body)
    user = await server.create_user(admin, "user", "p")
    for allowed in (True, False, True):
        for _ in range(2):
            for name in ("auth:getCurrentUser", "server:now"):
                answer = await server.call(transport, name, token=user)
                assert answer["status"] == (200 if allowed else 403)
        await write(server, admin, "r", LOGIN if allowed else EVERYTHING)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_first_rights_can_be_had_again(server: Running, transport: str) -> None:
    """docs/api/security.md#mappings, #default-rights: restrictDefaultRights has no `result` key."""
    admin = await server.create_admin()

    async def seen() -> list[dict]:
        documents = []
        for kind in ("Roles", "Profiles"):
            body = {"ids": ["admin", "default", "anonymous"]}
            answer = await server.call(transport, f"security:mGet{kind}", token=admin, body=body)
            documents += answer["result"]["hits"]
        for document in documents:
            del document["_source"]["_kuzzle_info"]
        return documents

    first = await seen()
    await write(server, admin, "own", LOGIN)
    for name in ("default", "anonymous"):
        await write(server, admin, name, EVERYTHING)
        body = {"policies": [{"roleId": name}, {"roleId": "own"}], "rateLimit": 7}
        await server.call(
            transport, "security:createOrReplaceProfile", token=admin, _id=name, body=body
        )
    assert await seen() != first
    assert (await server.call(transport, "security:getRole", _id="own"))["status"] == 200
    answer = await server.call(transport, "security:restrictDefaultRights", token=admin)
    assert (answer["status"], answer["error"]) == (200, None)
    assert "result" not in answer
    assert await seen() == first
    assert (await server.call(transport, "security:getRole", _id="own"))["status"] == 401
    answer = await server.call(transport, "security:deleteRole", token=admin, _id="own")
    assert answer["status"] == 200  # no profile refers to it any more


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("reset", [True, False])
async def test_the_first_administrator_may_ask_for_them(
    server: Running, transport: str, reset: bool
) -> None:
    """docs/api/security.md#user-actions, `reset`."""
    row = {"id": "anonymous", "body": EVERYTHING, "info": {}}
    storage = server.app.services.storage
    await storage.apply([*_replaced(row), JournalEvent(EventKind.RIGHTS, "anonymous")])
    body = {"credentials": {"local": {"username": "root", "password": PASSWORD}}}
    answer = await server.call(
        transport, "security:createFirstAdmin", body=body, _id="root", reset=reset
    )
    assert answer["result"]["_id"] == "root"
    answer = await server.call(transport, "security:getRole", _id="admin")
    assert answer["status"] == (401 if reset else 200)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_administrator_without_the_rights_he_asked_for(
    server: Running, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/api/security.md#user-actions, `reset`: where the rights can't be written there is no
    user either, and the same request is good later."""
    storage = server.app.services.storage
    body = {"credentials": {"local": {"username": "root", "password": PASSWORD}}}
    asked = {"body": body, "_id": "root", "reset": True}
    with monkeypatch.context() as patch:
        fail_at(Table.ROLES, server, patch)
        answer = await server.call(transport, "security:createFirstAdmin", **asked)
        assert answer["status"] == 503
    for table in (Table.USERS, Table.USER_PROFILES, Table.CREDENTIALS):
        assert await storage.count(table) == 0
    row = {"id": "anonymous", "body": EVERYTHING, "info": {}}
    await storage.apply([*_replaced(row), JournalEvent(EventKind.RIGHTS, "anonymous")])
    assert (await server.call(transport, "security:createFirstAdmin", **asked))["status"] == 200
    assert (await server.call(transport, "security:getRole", _id="admin"))["status"] == 401


def _replaced(row: dict) -> list:
    return [Delete(Table.ROLES, {"id": row["id"]}), Insert(Table.ROLES, row)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_has_no_rights_changes_none(server: Running, transport: str) -> None:
    """docs/api/security.md#default-rights: nothing of this is a default user's or anybody's."""
    admin = await server.create_admin()
    user = await server.create_user(admin, "user")
    body = {**LOGIN, "policies": [{"roleId": "admin"}], "ids": ["own"]}
    await write(server, admin, "own", LOGIN)
    kinds = ("create{}", "createOrReplace{}", "update{}", "get{}", "delete{}", "mGet{}s")
    actions = [form.format(kind) for kind in ("Role", "Profile") for form in kinds]
    actions += ["mDeleteRoles", "mDeleteProfiles", "getProfileRights", "restrictDefaultRights"]
    for action in actions:
        name = f"security:{action}"
        answer = await server.call(transport, name, _id="default", body=body)
        assert answer["error"]["id"] == "security.rights.unauthorized"
        answer = await server.call(transport, name, token=user, _id="default", body=body)
        assert answer["error"]["id"] == "security.rights.forbidden"
    answer = await server.call(transport, "security:getRole", token=admin, _id="own")
    assert answer["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_audit_trail_tells_of_every_change(server: Running, transport: str) -> None:
    """Security check X1: which role or profile, by whom, in the order of time."""
    admin = await server.create_admin()
    policies = {"policies": [{"roleId": "r"}]}
    calls = [
        ("createRole", "r", LOGIN, ["r"]),
        ("createOrReplaceRole", "s", LOGIN, ["s"]),
        ("updateRole", "r", INFO, ["r"]),
        ("createProfile", "p", policies, ["p"]),
        ("createOrReplaceProfile", "q", policies, ["q"]),
        ("updateProfile", "p", {"rateLimit": 1}, ["p"]),
        ("deleteProfile", "p", None, ["p"]),
        ("mDeleteProfiles", None, {"ids": ["q", "nobody"]}, ["q"]),
        ("mDeleteRoles", None, {"ids": ["admin", "r", "s"]}, ["r", "s"]),
        ("restrictDefaultRights", None, None, ["admin", "default", "anonymous"]),
    ]
    expected = []
    for action, name, body, subjects in calls:
        args = {} if name is None else {"_id": name}
        answer = await server.call(transport, f"security:{action}", token=admin, body=body, **args)
        assert answer["status"] in (200, 206), answer
        expected += [(f"security:{action}", subject, "admin", "ok") for subject in subjects]
    answer = await server.call(transport, "security:searchAudit", token=admin, size=len(expected))
    seen = [
        tuple(hit["_source"][key] for key in ("kind", "subject", "actor", "outcome"))
        for hit in answer["result"]["hits"]
    ]
    assert seen[::-1] == expected
