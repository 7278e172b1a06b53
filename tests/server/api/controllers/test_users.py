"""Users over every transport: read, changed, replaced, deleted, looked at
(docs/api/security.md#users, #listed-rights, #user-actions, #bulk-deletes, §7.2, §7.8;
docs/api/differences.md)."""

import asyncio
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.auth.accounts.user_updates import MOST_CONTENT_BYTES
from server.auth.identity.user import MOST_PROFILES
from server.core.ids import ANONYMOUS_ID, ANONYMOUS_IDS, is_id, is_path_step
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

GET, M_GET = "security:getUser", "security:mGetUsers"
UPDATE, REPLACE, UPSERT = "security:updateUser", "security:replaceUser", "security:upsertUser"
M_DELETE = "security:mDeleteUsers"
RIGHTS, STRATEGIES = "security:getUserRights", "security:getUserStrategies"
CHECK, REVOKE = "security:checkRights", "security:revokeTokens"
CONTENT = {"profileIds": ["default"], "name": "Ann", "home": {"town": "İzmir", "tags": [1, 2]}}
ACCOUNT = {"local": {"username": "ann", "password": PASSWORD}}
NO_INFO = dict.fromkeys(("author", "createdAt", "updatedAt", "updater"))
NOT_FOUND = {"id": "security.user.not_found", "code": 117702658, "status": 404}


async def make(server: Running, admin: str, kuid: str = "ann", **content: object) -> dict:
    """Make a user without credentials and give his document."""
    body = {"content": {**CONTENT, **content}}
    made = await server.call("query", "security:createUser", token=admin, _id=kuid, body=body)
    assert made["status"] == 200, made
    return made["result"]["_source"]


async def profile_rows(server: Running, kuid: str) -> list[object]:
    """Give which profiles a user has, as the index of profiles says it."""
    rows = await server.app.services.storage.find(Table.USER_PROFILES, limit=999, kuid=kuid)
    return sorted(str(row["profile_id"]) for row in rows)


# What comes of it


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_update_is_merged(server: Running, transport: str) -> None:
    """docs/api/security.md#stored-documents, #users, #user-actions updateUser;
    docs/api/differences.md#merging: deep merge, answered and stored; the caller is the updater;
    what is no content is ignored."""
    admin = await server.create_admin()
    made = await make(server, admin)
    body = {"home": {"town": "Kars", "tags": []}, "age": 3, "_id": "x", "_kuzzle_info": {"a": 1}}
    answer = await server.call(transport, UPDATE, token=admin, _id="ann", body=body)
    source = answer["result"]["_source"]
    assert answer["result"]["_id"] == "ann"
    assert list(source) == ["profileIds", "name", "home", "age", "_kuzzle_info"]
    info = source["_kuzzle_info"]
    assert info == {
        "author": "admin",
        "createdAt": made["_kuzzle_info"]["createdAt"],
        "updatedAt": info["updatedAt"],
        "updater": "admin",
    }
    assert info["updatedAt"] >= info["createdAt"]
    expected = {"profileIds": ["default"], "name": "Ann", "home": body["home"], "age": 3}
    assert source == {**expected, "_kuzzle_info": info}
    again = await server.call(transport, UPDATE, token=admin, _id="ann", body={"home": {"n": 1}})
    assert again["result"]["_source"]["home"] == {"town": "Kars", "tags": [], "n": 1}
    got = await server.call(transport, GET, token=admin, _id="ann")
    assert got["result"] == again["result"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_other_profiles_are_in_force_at_once(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions updateUser with profileIds, docs/api/auth.md#revocation;
    security check S9: a live token gets and loses rights with the next request, on every
    transport."""
    admin = await server.create_admin()
    token = await server.create_user(admin, "ann")
    for profile_ids, status in ((["default", "admin", "admin"], 200), (["default"], 403)):
        body = {"profileIds": profile_ids}
        answer = await server.call(transport, UPDATE, token=admin, _id="ann", body=body)
        wanted = list(dict.fromkeys(profile_ids))
        assert answer["result"]["_source"]["profileIds"] == wanted
        assert await profile_rows(server, "ann") == sorted(wanted)
        for way in TRANSPORTS:
            seen = await server.call(way, GET, token=token, _id="ann")
            assert seen["status"] == status
            me = await server.call(way, "auth:getCurrentUser", token=token)
            assert me["result"]["_source"]["profileIds"] == wanted


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_replaced_user_has_nothing_of_the_old_one(server: Running, transport: str) -> None:
    """docs/api/security.md#stored-documents, #user-actions replaceUser; his credentials stay (§7.2:
    a document, no account)."""
    admin = await server.create_admin()
    await server.create_user(admin, "ann")
    body = {"profileIds": ["anonymous"], "color": "red", "_id": "x", "_kuzzle_info": 1}
    answer = await server.call(transport, REPLACE, token=admin, _id="ann", body=body)
    source = answer["result"]["_source"]
    info = source["_kuzzle_info"]
    assert info == {**NO_INFO, "author": "admin", "createdAt": info["createdAt"]}
    assert list(source.items()) == [
        ("profileIds", ["anonymous"]),
        ("color", "red"),
        ("_kuzzle_info", info),
    ]
    got = await server.call(transport, GET, token=admin, _id="ann")
    assert got["result"] == answer["result"]
    assert await profile_rows(server, "ann") == ["anonymous"]
    await server.login("ann")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_upsert_creates_then_updates(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions upsertUser: `default` and `credentials` count at the
    creation only, and `content` wins."""
    admin = await server.create_admin()
    body = {
        "content": {"profileIds": ["default"], "name": "Ann", "home": {"town": "Kars"}},
        "default": {"profileIds": ["admin"], "name": "?", "home": {"zip": 1}, "level": 1},
        "credentials": ACCOUNT,
    }
    made = await server.call(transport, UPSERT, token=admin, _id="ann", body=body)
    source = made["result"]["_source"]
    assert source["_kuzzle_info"]["updatedAt"] is None
    home = {"town": "Kars", "zip": 1}
    expected = {"profileIds": ["default"], "name": "Ann", "home": home, "level": 1}
    assert source == {**expected, "_kuzzle_info": source["_kuzzle_info"]}
    await server.login("ann")
    body = {
        "content": {"profileIds": ["anonymous"], "home": {"town": "Van"}},
        "default": {"level": 9, "more": 1},
        "credentials": {"local": {"username": "other", "password": PASSWORD}},
    }
    again = await server.call(transport, UPSERT, token=admin, _id="ann", body=body)
    source = again["result"]["_source"]
    assert source["_kuzzle_info"]["updater"] == "admin"
    expected |= {"profileIds": ["anonymous"], "home": {"town": "Van", "zip": 1}}
    assert source == {**expected, "_kuzzle_info": source["_kuzzle_info"]}
    assert await profile_rows(server, "ann") == ["anonymous"]
    shown = await server.call(
        "query", "security:getCredentials", token=admin, strategy="local", _id="ann"
    )
    assert shown["result"]["username"] == "ann"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_several_users_are_read_at_once(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions mGetUsers: in the order asked for, unknown ones silently
    absent, no total; every hit has `_kuzzle_info` (§1)."""
    admin = await server.create_admin()
    for kuid in ("ann", "bob"):
        await make(server, admin, kuid)
    ids = ["bob", "nobody", "anonymous", "ann", "bob", "x" * 600]
    for args in ({"body": {"ids": ids}}, {"ids": ids}, {"ids": ids, "body": {"ids": []}}):
        answer = await server.call(transport, M_GET, token=admin, **args)
        assert list(answer["result"]) == ["hits"]
        hits = answer["result"]["hits"]
        assert [hit["_id"] for hit in hits] == ["bob", ANONYMOUS_ID, "ann"]
        for hit in hits:
            assert list(hit["_source"]["_kuzzle_info"]) == list(NO_INFO)
    got = await server.call(transport, GET, token=admin, _id="ann")
    assert hits[2] == got["result"]
    answer = await server.call(transport, M_GET, token=admin, ids="nobody,no one")
    assert answer["result"] == {"hits": []}
    answer = await server.call(transport, M_GET, token=admin, ids="ann,bob")
    assert [hit["_id"] for hit in answer["result"]["hits"]] == ["ann", "bob"]


async def test_both_routes_to_several_users(server: Running) -> None:
    """docs/api/security.md: GET and POST."""
    admin = await server.create_admin()
    http = await server.connect()
    for ask in (
        ("GET", "/users/_mGet?ids=admin", None),
        ("GET", '/users/_mGet?ids=["admin"]', None),
        ("POST", "/users/_mGet?ids=admin", None),
        ("POST", "/users/_mGet?ids=nobody", {"ids": ["admin"]}),
    ):
        answer = await http.ask(*ask, token=admin)
        assert [hit["_id"] for hit in answer.json["result"]["hits"]] == ["admin"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_several_users_are_deleted_at_once(server: Running, transport: str) -> None:
    """docs/api/security.md#bulk-deletes: 200 and no error when all are gone; what was theirs is
    gone too."""
    admin = await server.create_admin()
    token = await server.create_user(admin, "ann")
    await make(server, admin, "bob")
    body = {"ids": ["bob", "ann", "bob"]}
    answer = await server.call(transport, M_DELETE, token=admin, body=body)
    assert (answer["status"], answer["error"]) == (200, None)
    assert sorted(answer["result"]) == ["ann", "bob"]
    assert (await server.call(transport, "auth:getCurrentUser", token=token))["status"] == 401
    storage = server.app.services.storage
    for table in (Table.CREDENTIALS, Table.SESSIONS, Table.USER_PROFILES, Table.USERS):
        assert {row["kuid"] for row in await storage.find(table, limit=99)} == {"admin"}
    answer = await server.call(transport, M_DELETE, token=admin, body={"ids": []})
    assert answer["result"] == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_can_not_be_deleted_is_named(server: Running, transport: str) -> None:
    """docs/api/security.md#bulk-deletes, docs/api/differences.md#partial-errors: 206, with
    `document` and `reason` for each of them."""
    admin = await server.create_admin()
    await make(server, admin)
    body = {"ids": ["nobody", "ann", "-1"]}
    answer = await server.call(transport, M_DELETE, token=admin, body=body)
    assert (answer["status"], answer["result"]) == (206, ["ann"])
    partial = answer["error"]
    assert (partial["id"], partial["code"]) == ("services.storage.incomplete_delete", 16842761)
    assert partial["count"] == 2
    for nested, kuid in zip(partial["errors"], ("nobody", "-1"), strict=True):
        assert {name: nested[name] for name in NOT_FOUND} == NOT_FOUND
        assert nested["document"] == {"_id": kuid}
        assert nested["reason"] == nested["message"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_a_user_may_do(server: Running, transport: str) -> None:
    """docs/api/security.md#listed-rights, #user-actions getUserRights; `-1` is the anonymous user
    (§2.1)."""
    admin = await server.create_admin()
    user = await server.create_user(admin, "ann")
    own = await server.call(transport, "auth:getMyRights", token=user)
    answer = await server.call(transport, RIGHTS, token=admin, _id="ann")
    assert answer["result"] == own["result"]
    assert answer["result"]["total"] == len(answer["result"]["hits"]) > 5
    anonymous = await server.call(transport, "auth:getMyRights")
    for kuid in ANONYMOUS_IDS:
        answer = await server.call(transport, RIGHTS, token=admin, _id=kuid)
        assert answer["result"] == anonymous["result"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_how_a_user_logs_in(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions getUserStrategies: `-1` has none."""
    admin = await server.create_admin()
    await make(server, admin)
    for kuid, names in (("admin", ["local"]), ("ann", []), ("-1", []), ("anonymous", [])):
        answer = await server.call(transport, STRATEGIES, token=admin, _id=kuid)
        assert answer["result"] == {"strategies": names, "total": len(names)}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_whether_a_user_might(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions checkRights: of the user named, not of the caller."""
    admin = await server.create_admin()
    await make(server, admin)
    for kuid, action, allowed in (
        ("admin", "getUser", True),
        ("ann", "getUser", False),
        ("-1", "getUser", False),
        ("admin", "nothing", True),
    ):
        body = {"controller": "security", "action": action}
        answer = await server.call(transport, CHECK, token=admin, userId=kuid, body=body)
        assert answer["result"] == {"allowed": allowed}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_first_administrator_may_reset_rights(server: Running, transport: str) -> None:
    """docs/api/security.md#createfirstadmin `reset`, §7.9 restrictDefaultRights: the restricted
    rights of §4 are back; without it they stay as they are."""
    admin = await server.create_admin()
    role = {"controllers": {"*": {"actions": {"*": True}}}}
    name = "security:createOrReplaceRole"
    await server.call("query", name, token=admin, _id="anonymous", body=role)
    await server.call("query", "security:deleteUser", token=admin, _id="admin")
    body = {"credentials": {"local": {"username": "first", "password": PASSWORD}}}
    for reset, kuid, status in ((False, "one", 200), (True, "two", 401)):
        answer = await server.call(
            transport, "security:createFirstAdmin", body=body, _id=kuid, reset=reset
        )
        assert answer["status"] == 200
        answer = await server.call(transport, GET, _id=kuid)
        assert answer["status"] == status
        if not reset:
            await server.call("query", "security:deleteUser", _id=kuid)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["uuid", "human", "other"])
async def test_kinds_of_made_up_ids(server: Running, transport: str, kind: str) -> None:
    """docs/api/security.md#users: any other value acts as `human`; null as an id is none."""
    admin = await server.create_admin()
    answer = await server.call(
        transport, "security:createRestrictedUser", token=admin, kuid=kind, _id=None
    )
    kuid = answer["result"]["_id"]
    assert kuid.startswith("kuid-")
    assert (kuid.count("-") == 5) == (kind == "uuid")


# What is refused

ARGUMENT = "api.assert.invalid_type"
MISSING = "api.assert.missing_argument"
REFUSED: list[tuple[str, object, str, list[object]]] = [  # action, body, id, props
    (UPDATE, None, "api.assert.body_required", []),
    (UPDATE, {"profileIds": "default"}, ARGUMENT, ["body.profileIds", "array"]),
    (UPDATE, {"profileIds": [3]}, ARGUMENT, ["body.profileIds", "array of strings"]),
    (UPDATE, {"profileIds": []}, "api.assert.empty_argument", ["body.profileIds"]),
    (UPDATE, {"profileIds": ["default", "no"]}, "security.profile.not_found", ["no"]),
    (
        UPDATE,
        {"profileIds": [str(n) for n in range(MOST_PROFILES + 1)]},
        "api.assert.too_many_arguments",
        ["body.profileIds", MOST_PROFILES],
    ),
    (REPLACE, None, "api.assert.body_required", []),
    (REPLACE, {"name": "x"}, MISSING, ["body.profileIds"]),
    (REPLACE, {"profileIds": None}, ARGUMENT, ["body.profileIds", "array"]),
    (REPLACE, {"profileIds": {}}, ARGUMENT, ["body.profileIds", "array"]),
    (REPLACE, {"profileIds": []}, "api.assert.empty_argument", ["body.profileIds"]),
    (REPLACE, {"profileIds": ["no"]}, "security.profile.not_found", ["no"]),
    (UPSERT, None, "api.assert.body_required", []),
    (UPSERT, {}, MISSING, ["body.content"]),
    (UPSERT, {"content": []}, ARGUMENT, ["body.content", "object"]),
    (UPSERT, {"content": {}}, MISSING, ["body.content.profileIds"]),
    (
        UPSERT,
        {"content": {"profileIds": []}},
        "api.assert.empty_argument",
        ["body.content.profileIds"],
    ),
    (UPSERT, {"content": {"profileIds": ["no"]}}, "security.profile.not_found", ["no"]),
    (UPSERT, {"content": CONTENT, "default": 1}, ARGUMENT, ["body.default", "object"]),
    (UPSERT, {"content": CONTENT, "credentials": 1}, ARGUMENT, ["body.credentials", "object"]),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "body", "error_id", "props"), REFUSED)
async def test_changes_that_can_not_be(
    server: Running, transport: str, name: str, body: object, error_id: str, props: list[object]
) -> None:
    """docs/api/security.md#users, #user-actions; docs/api/differences.md#wrong-types on empty
    profileIds; nothing has changed."""
    admin = await server.create_admin()
    made = await make(server, admin)
    answer = await server.call(transport, name, token=admin, _id="ann", body=body)
    assert told(answer, "id", "props") == {"id": error_id, "props": props}
    assert 400 <= answer["status"] < 500
    got = await server.call(transport, GET, token=admin, _id="ann")
    assert got["result"]["_source"] == made
    assert await profile_rows(server, "ann") == ["default"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kuid", ["nobody", "x" * 600])
async def test_who_is_not_there(server: Running, transport: str, kuid: str) -> None:
    """docs/api/security.md#user-actions: 404 `security.user.not_found`."""
    admin = await server.create_admin()
    body = {"profileIds": ["default"], "controller": "auth", "action": "login"}
    for name in (GET, UPDATE, REPLACE, RIGHTS, STRATEGIES, CHECK):
        args = {"userId" if name == CHECK else "_id": kuid}
        given = body if name in (UPDATE, REPLACE, CHECK) else None
        answer = await server.call(transport, name, token=admin, body=given, **args)
        assert told(answer) == NOT_FOUND
        assert answer["error"]["props"] == [kuid]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kuid", sorted(ANONYMOUS_IDS))
async def test_the_anonymous_user_never_changes(server: Running, transport: str, kuid: str) -> None:
    """docs/api/security.md#users: always there, and nobody's to change."""
    admin = await server.create_admin()
    body = {"profileIds": ["admin"]}
    for name in (UPDATE, REPLACE):
        answer = await server.call(transport, name, token=admin, _id=kuid, body=body)
        assert told(answer) == NOT_FOUND
    answer = await server.call(transport, UPSERT, token=admin, _id=kuid, body={"content": body})
    assert told(answer, "id", "status") == {"id": "security.user.already_exists", "status": 412}
    answer = await server.call(transport, GET, token=admin, _id=kuid)
    assert answer["result"]["_source"] == {"profileIds": ["anonymous"], "name": "Anonymous"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_has_no_rights_learns_nothing(server: Running, transport: str) -> None:
    """docs/api/transport.md#request-pipeline, docs/api/security.md#default-rights: none of these is
    in the default rights, not even for one's own account."""
    user = await server.create_user(await server.create_admin(), "ann")
    args = {"_id": "ann", "userId": "ann"}
    for name in (GET, M_GET, UPDATE, REPLACE, UPSERT, M_DELETE, RIGHTS, STRATEGIES, CHECK, REVOKE):
        answer = await server.call(transport, name, token=user, **args)
        assert told(answer, "id", "status") == {"id": "security.rights.forbidden", "status": 403}
        answer = await server.call(transport, name, **args)
        assert told(answer, "id", "status") == {"id": "security.rights.unauthorized", "status": 401}
    got = await server.call(transport, "auth:getCurrentUser", token=user)
    assert got["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_check_needs_a_request(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions checkRights."""
    admin = await server.create_admin()
    for body, error_id, props in (
        (None, "api.assert.body_required", []),
        ({"action": "login"}, MISSING, ["body.controller"]),
        ({"controller": "auth"}, MISSING, ["body.action"]),
        ({"controller": 5, "action": "login"}, MISSING, ["body.controller"]),
    ):
        answer = await server.call(transport, CHECK, token=admin, userId="admin", body=body)
        assert told(answer, "id", "status", "props") == {
            "id": error_id,
            "status": 400,
            "props": props,
        }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ids_that_are_none(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions mGetUsers, §7.8; no body at all is body_required, as
    everywhere."""
    admin = await server.create_admin()
    for name, body, error_id, props in (
        (M_GET, None, MISSING, ["ids"]),
        (M_GET, {"ids": []}, MISSING, ["ids"]),
        (M_GET, {"ids": "ann"}, ARGUMENT, ["body.ids", "array"]),
        (M_GET, {"ids": [1]}, ARGUMENT, ["body.ids", "array of strings"]),
        (M_DELETE, None, "api.assert.body_required", []),
        (M_DELETE, {}, MISSING, ["body.ids"]),
        (M_DELETE, {"ids": "ann"}, ARGUMENT, ["body.ids", "array"]),
        (M_DELETE, {"ids": [None]}, ARGUMENT, ["body.ids", "array of strings"]),
    ):
        answer = await server.call(transport, name, token=admin, body=body)
        assert told(answer, "id", "status", "props") == {
            "id": error_id,
            "status": 400,
            "props": props,
        }
    answer = await server.call("websocket", M_GET, token=admin, ids=[])
    assert told(answer, "id") == {"id": MISSING}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_too_many_ids(transport: str) -> None:
    """docs/api/security.md#bulk-deletes: more than `limits.documentsWriteCount`;
    `documentsFetchCount` for reads. Nobody is deleted, and as many as are allowed are taken; ids
    count once."""
    limits = replace(cheap_config().limits, documents_write_count=2, documents_fetch_count=2)
    async with running(cheap_config(limits=limits)) as server:
        admin = await server.create_admin()
        body = {"ids": ["admin", "a", "b"]}
        answer = await server.call(transport, M_DELETE, token=admin, body=body)
        assert told(answer) == {
            "id": "services.storage.write_limit_exceeded",
            "code": 16842756,
            "status": 413,
        }
        answer = await server.call(transport, M_GET, token=admin, body=body)
        assert told(answer) == {
            "id": "services.storage.get_limit_exceeded",
            "code": 16842755,
            "status": 413,
        }
        most = {"ids": ["admin", "a", "a"]}
        answer = await server.call(transport, M_GET, token=admin, body=most)
        assert len(answer["result"]["hits"]) == 1
        for kind in ("Roles", "Profiles"):
            for name in (f"security:mGet{kind}", f"security:mDelete{kind}"):
                refused = await server.call(transport, name, token=admin, body=body)
                assert refused["error"]["id"].endswith("_limit_exceeded"), name
                taken = await server.call(transport, name, token=admin, body=most)
                assert taken["status"] in (206, 404), name  # who is named there is nobody
        for kuid in ("a", "b"):
            await make(server, admin, kuid)
        answer = await server.call(transport, M_DELETE, token=admin, body={"ids": ["a", "b", "b"]})
        assert (answer["status"], answer["result"]) == (200, ["a", "b"])


async def test_a_document_that_grows_too_large(server: Running) -> None:
    """One update after the other makes no document that nobody could read."""
    admin = await server.create_admin()
    await make(server, admin)
    half = "x" * (MOST_CONTENT_BYTES // 2)
    statuses = []
    for name in ("a", "b", "c"):
        answer = await server.call("query", UPDATE, token=admin, _id="ann", body={name: half})
        statuses.append(answer["status"])
    assert statuses == [200, 400, 400]
    assert told(answer, "id") == {"id": "api.assert.invalid_argument"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_refused_upsert_makes_nobody(server: Running, transport: str) -> None:
    """docs/api/security.md#users-with-credentials: the strategy's refusal, and no half of a
    user."""
    admin = await server.create_admin()
    taken = {"local": {"username": "admin", "password": PASSWORD}}
    for credentials, status in ((taken, 412), ({"pigeon": {}}, 400), ({"local": {}}, 400)):
        body = {"content": CONTENT, "credentials": credentials}
        answer = await server.call(transport, UPSERT, token=admin, _id="ann", body=body)
        assert answer["status"] == status
        got = await server.call(transport, GET, token=admin, _id="ann")
        assert got["status"] == 404
    assert await profile_rows(server, "ann") == []


# Who comes at the same time


async def test_two_processes_merge_into_one_document(tmp_path: Path) -> None:
    """docs/api/differences.md#merging: whoever read before the other wrote reads again."""
    data = str(tmp_path / "manykeys.db")
    async with running(data=data) as one, running(data=data) as two:
        admin = await one.create_admin()
        await make(one, admin, "ann")
        answers = await asyncio.gather(
            *(
                server.call(
                    "query", UPDATE, token=admin, _id="ann", body={"n": {f"{name}{number}": 1}}
                )
                for number in range(8)
                for name, server in (("one", one), ("two", two))
            )
        )
        done = [answer for answer in answers if answer["status"] == 200]
        refused = {told(answer, "id")["id"] for answer in answers if answer["status"] != 200}
        assert refused <= {"services.storage.too_many_changes"}
        got = await two.call("query", GET, token=admin, _id="ann")
        assert len(got["result"]["_source"]["n"]) == len(done) >= 8


async def test_many_updates_in_one_process_all_succeed(server: Running) -> None:
    """docs/api/differences.md#merging: they follow each other."""
    admin = await server.create_admin()
    await make(server, admin)
    bodies = [
        {"n": {str(number): 1}, "profileIds": ["default", "anonymous"][: number % 2 + 1]}
        for number in range(20)
    ]
    asked = [server.call("query", UPDATE, token=admin, _id="ann", body=body) for body in bodies]
    assert {answer["status"] for answer in await asyncio.gather(*asked)} == {200}
    got = (await server.call("query", GET, token=admin, _id="ann"))["result"]["_source"]
    assert len(got["n"]) == 20
    assert await profile_rows(server, "ann") == sorted(got["profileIds"])


async def test_of_upserts_at_once_one_creates(server: Running) -> None:
    """docs/api/security.md#user-actions: everybody succeeds, and the user is there once."""
    admin = await server.create_admin()
    asked = [
        server.call(
            "query",
            UPSERT,
            token=admin,
            _id="ann",
            body={"content": {**CONTENT, f"n{number}": 1}, "credentials": ACCOUNT},
        )
        for number in range(6)
    ]
    answers = await asyncio.gather(*asked)
    assert [answer["status"] for answer in answers] == [200] * 6
    got = (await server.call("query", GET, token=admin, _id="ann"))["result"]["_source"]
    assert {f"n{number}" for number in range(6)} <= got.keys()
    made = [a for a in answers if a["result"]["_source"]["_kuzzle_info"]["updatedAt"] is None]
    assert len(made) == 1


async def test_of_creations_with_one_id_one_succeeds(server: Running) -> None:
    """docs/api/differences.md#existing-users: 412 `security.user.already_exists`, with credentials
    too, and never
    500."""
    admin = await server.create_admin()
    asked = [
        server.call(
            "query",
            "security:createUser",
            token=admin,
            _id="ann",
            body={
                "content": CONTENT,
                "credentials": {"local": {"username": f"ann{number}", "password": PASSWORD}},
            },
        )
        for number in range(8)
    ]
    answers = await asyncio.gather(*asked)
    assert sorted(answer["status"] for answer in answers) == [200] + [412] * 7
    rows = await server.app.services.storage.find(Table.CREDENTIALS, limit=9, kuid="ann")
    assert len(rows) == 1


@pytest.mark.parametrize("name", [UPDATE, REPLACE, UPSERT])
async def test_changing_and_deleting_at_once(server: Running, name: str) -> None:
    """docs/architecture.md: whoever is first, no half of a user stays."""
    admin = await server.create_admin()
    document = {**CONTENT, "profileIds": ["default", "anonymous"]}
    body = {"content": document} if name == UPSERT else document
    for number in range(10):
        kuid = f"u{number}"
        await make(server, admin, kuid)
        changed, deleted = await asyncio.gather(
            server.call("query", name, token=admin, _id=kuid, body=body),
            server.call("query", "security:deleteUser", token=admin, _id=kuid),
        )
        assert deleted["status"] == 200
        assert changed["status"] in (200, 404)
        got = await server.call("query", GET, token=admin, _id=kuid)
        is_there = got["status"] == 200
        assert is_there <= (name == UPSERT)
        assert await profile_rows(server, kuid) == (["anonymous", "default"] if is_there else [])


@pytest.mark.parametrize("name", [UPDATE, REPLACE, UPSERT])
@pytest.mark.parametrize("mode", ["fail", "remove"])
async def test_giving_a_profile_that_goes(server: Running, name: str, mode: str) -> None:
    """docs/api/security.md#profile-actions: nobody ends up with a profile that is not there."""
    admin = await server.create_admin()
    await make(server, admin)
    body = {"policies": [{"roleId": "default"}]}
    for number in range(10):
        profile = f"p{number}"
        await server.call("query", "security:createProfile", token=admin, _id=profile, body=body)
        document: dict[str, object] = {"profileIds": [profile]}
        change = {"content": document} if name == UPSERT else document
        changed, deleted = await asyncio.gather(
            server.call("query", name, token=admin, _id="ann", body=change),
            server.call(
                "query", "security:deleteProfile", token=admin, _id=profile, onAssignedUsers=mode
            ),
        )
        assert changed["status"] in (200, 404)
        got = (await server.call("query", GET, token=admin, _id="ann"))["result"]["_source"]
        assert await profile_rows(server, "ann") == sorted(got["profileIds"])
        profiles = server.app.services.storage
        for profile_id in got["profileIds"]:
            assert await profiles.exists(Table.PROFILES, id=profile_id)
        assert deleted["status"] in (200, 412)


# Whatever is sent

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
ODD = st.sampled_from(
    ["a/b", "a#b", "..", "%2e", "%", "a?b=c", "_mGet", "_tokens", "\u202e", "x" * 512, "İ" * 257]
)


@settings(max_examples=25)
@given(kuids=st.lists(TEXTS | ODD, min_size=2, max_size=3, unique=True))
def test_any_id_means_its_own_user(kuids: list[str]) -> None:
    """Identifiers: handled or refused by name, and never confused with each other."""

    async def check() -> None:
        async with running() as server:
            admin = await server.create_admin()
            accepted = []
            for kuid in kuids:
                made = await server.call(
                    "query", UPSERT, token=admin, _id=kuid, body={"content": CONTENT}
                )
                if made["status"] == 200:
                    accepted.append(kuid)
                    continue
                assert not is_id(kuid) or kuid in ANONYMOUS_IDS or is_path_step(kuid)
                assert made["error"]["props"][0] in ("_id", kuid)
            for kuid in accepted:
                for way in ("query", "websocket"):
                    body = {"mine": kuid}
                    changed = await server.call(way, UPDATE, token=admin, _id=kuid, body=body)
                    assert changed["result"]["_id"] == kuid
                http = await server.connect()
                path = f"/users/{quote(kuid, safe='')}/_update"
                changed = await http.ask("PUT", path, {"again": kuid}, token=admin)
                assert changed.json["result"]["_id"] == kuid
                http.close()
            got = await server.call("query", M_GET, token=admin, body={"ids": kuids})
            hits = {hit["_id"]: hit["_source"] for hit in got["result"]["hits"]}
            assert {kuid: hits[kuid]["mine"] for kuid in accepted} == {k: k for k in accepted}
            answer = await server.call("query", M_DELETE, token=admin, body={"ids": accepted[:1]})
            assert answer["result"] == accepted[:1]
            for kuid in accepted[1:]:
                got = await server.call("query", GET, token=admin, _id=kuid)
                assert got["result"]["_source"]["again"] == kuid

    asyncio.run(check())


NAMES = TEXTS.filter(lambda name: name not in ("_id", "_kuzzle_info", "profileIds"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def merged(old: object, new: object) -> object:
    """Say what a deep merge gives: objects member by member, everything else replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {name: merged(old[name], new[name]) for name in old.keys() & new.keys()}
        return {**old, **new, **both}
    return new


@settings(max_examples=40)
@given(documents=st.lists(st.dictionaries(NAMES, JSON, max_size=4), min_size=1, max_size=4))
def test_any_content_can_be_changed_again(documents: list[dict[str, object]]) -> None:
    """docs/api/differences.md#merging: whatever JSON says is kept, merged, and found unchanged by
    the next update."""

    async def check() -> None:
        async with running() as server:
            admin = await server.create_admin()
            await make(server, admin)
            expected: object = CONTENT
            for document in documents:
                answer = await server.call("query", UPDATE, token=admin, _id="ann", body=document)
                assert answer["status"] == 200
                expected = merged(expected, document)
            got = (await server.call("query", GET, token=admin, _id="ann"))["result"]["_source"]
            del got["_kuzzle_info"]
            assert got == expected

    asyncio.run(check())
