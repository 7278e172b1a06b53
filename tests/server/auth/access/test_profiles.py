"""Profiles over every transport (docs/api/security.md#profiles, #profile-actions,
#bulk-deletes)."""

import pytest

from protocol.errors import ApiError
from server.auth.access.profiles import MOST_POLICIES, MOST_RATE, MOST_RESTRICTIONS, check_profile
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running

BASIC = {"policies": [{"roleId": "default"}]}
PLACES = [{"index": "nyc", "collections": ["taxi", "bus"]}, {"index": "paris"}]
RESTRICTED = {"policies": [{"roleId": "default", "restrictedTo": PLACES}]}
WRITES = ("createProfile", "createOrReplaceProfile")


async def write(server: Running, admin: str, profile_id: str, body: object) -> None:
    """Write a profile that must be accepted."""
    answer = await server.call(
        "query", "security:createOrReplaceProfile", token=admin, _id=profile_id, body=body
    )
    assert answer["status"] == 200, answer


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_profile_comes_changes_and_goes(server: Running, transport: str) -> None:
    """docs/api/security.md#profile-actions, #stored-documents: `policies`, `rateLimit`, the rest,
    `_kuzzle_info`; updateProfile merges."""
    admin = await server.create_admin()

    async def ask(action: str, body: object = None) -> dict:
        answer = await server.call(
            transport, f"security:{action}", token=admin, _id="driver", body=body
        )
        return answer["result"]

    given = {
        "tags": ["a"],
        "deep": {"er": [1], "x": 1},
        "_id": "zz",
        "_kuzzle_info": 1,
        **RESTRICTED,
    }
    made = await ask("createProfile", given)
    source = made["_source"]
    assert list(source) == ["policies", "rateLimit", "tags", "deep", "_kuzzle_info"]
    assert (made["_id"], source["policies"], source["rateLimit"]) == (
        "driver",
        RESTRICTED["policies"],
        0,
    )
    info = source["_kuzzle_info"]
    assert list(info) == ["author", "createdAt", "updatedAt", "updater"]
    assert (info["author"], info["updatedAt"], info["updater"]) == ("admin", None, None)
    assert await ask("getProfile") == made

    merged = await ask("updateProfile", {"rateLimit": 7, "deep": {"er": [2], "y": 2}})
    changed = merged["_source"]
    assert changed["policies"] == RESTRICTED["policies"]
    assert (changed["rateLimit"], changed["tags"]) == (7, ["a"])
    assert changed["deep"] == {"er": [2], "x": 1, "y": 2}
    info = changed["_kuzzle_info"]
    assert info["createdAt"] == source["_kuzzle_info"]["createdAt"]
    assert (info["author"], info["updater"]) == ("admin", "admin")
    assert info["updatedAt"] >= info["createdAt"]
    assert await ask("getProfile") == merged
    assert (await ask("updateProfile", BASIC))["_source"]["policies"] == BASIC["policies"]
    assert (await ask("updateProfile", {}))["_source"]["policies"] == BASIC["policies"]

    replaced = await ask("createOrReplaceProfile", BASIC)
    assert await ask("getProfile") == replaced
    info = replaced["_source"].pop("_kuzzle_info")
    assert replaced["_source"] == {**BASIC, "rateLimit": 0}
    assert info["updatedAt"] == info["createdAt"]
    assert (info["author"], info["updater"]) == ("admin", "admin")
    assert await ask("deleteProfile") == {"_id": "driver"}
    gone = await server.call(transport, "security:getProfile", token=admin, _id="driver")
    assert told(gone) == {"id": "security.profile.not_found", "code": 117833729, "status": 404}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_left_out_is_filled_in(server: Running, transport: str) -> None:
    """docs/api/security.md#profiles: no policies are the default role's, a null limit is 0."""
    admin = await server.create_admin()
    rows = [
        ({"policies": []}, {"policies": [{"roleId": "default"}], "rateLimit": 0}),
        ({**BASIC, "rateLimit": None}, {**BASIC, "rateLimit": 0}),
        ({**BASIC, "rateLimit": 10.0}, {**BASIC, "rateLimit": 10}),
        (
            {"policies": [{"roleId": "default", "restrictedTo": None}]},
            {**BASIC, "rateLimit": 0},
        ),
        (
            {"policies": [{"roleId": "default", "restrictedTo": []}]},
            {"policies": [{"roleId": "default", "restrictedTo": []}], "rateLimit": 0},
        ),
        (
            {
                "policies": [
                    {"roleId": "default", "restrictedTo": [{"index": "i", "collections": None}]}
                ]
            },
            {"policies": [{"roleId": "default", "restrictedTo": [{"index": "i"}]}], "rateLimit": 0},
        ),
    ]
    for action in WRITES:
        for number, (body, expected) in enumerate(rows):
            name = f"{action}{number}"
            answer = await server.call(
                transport, f"security:{action}", token=admin, _id=name, body=body
            )
            source = answer["result"]["_source"]
            del source["_kuzzle_info"]
            assert source == expected, (action, body)


def policy(**members: object) -> dict[str, object]:
    return {"policies": [{"roleId": "default"}, {"roleId": "default", **members}]}


# A profile body, and the error with its props (docs/api/security.md#profiles, row by row).
REFUSED = [
    ({"policies": ["x"]}, "api.assert.invalid_type", 400, ["new.policies[0]", "object"]),
    ({"policies": [None]}, "api.assert.invalid_type", 400, ["new.policies[0]", "object"]),
    ({"policies": [{}]}, "security.role.not_found", 404, [None]),
    ({"policies": [{"roleId": ""}]}, "security.role.not_found", 404, [""]),
    (
        {"policies": [{"roleId": 1}]},
        "api.assert.invalid_type",
        400,
        ["new.policies[0].roleId", "string"],
    ),
    ({"policies": [{"roleId": "nope"}]}, "security.role.not_found", 404, ["nope"]),
    ({"policies": [{"roleId": "a\nb"}]}, "security.role.not_found", 404, ["a\nb"]),
    (
        policy(foo=1),
        "api.assert.unexpected_argument",
        400,
        ["new.policies[1].foo", '"roleId", "restrictedTo"'],
    ),
    *(
        (
            policy(restrictedTo=wrong),
            "api.assert.invalid_type",
            400,
            ["new.policies[1].restrictedTo", "object[]"],
        )
        for wrong in ("x", 0, False, {"index": "i"})
    ),
    (
        policy(restrictedTo=[{"index": "i"}, "x"]),
        "api.assert.invalid_type",
        400,
        ["new.policies[1].restrictedTo[1]", "object"],
    ),
    *(
        (
            policy(restrictedTo=[wrong]),
            "api.assert.missing_argument",
            400,
            ["new.policies[1].restrictedTo[0].index"],
        )
        for wrong in ({}, {"index": ""}, {"index": None}, {"collections": ["a"]})
    ),
    (
        policy(restrictedTo=[{"index": 5}]),
        "api.assert.invalid_type",
        400,
        ["new.policies[1].restrictedTo[0].index", "string"],
    ),
    *(
        (
            policy(restrictedTo=[{"index": "i", "collections": wrong}]),
            "api.assert.invalid_type",
            400,
            ["new.policies[1].restrictedTo[0].collections", "string[]"],
        )
        for wrong in ("a", {"a": 1}, [1], ["a", None])
    ),
    (
        policy(restrictedTo=[{"index": "i", "foo": 1}]),
        "api.assert.unexpected_argument",
        400,
        ["new.policies[1].restrictedTo[0].foo", '"index", "collections"'],
    ),
    *(
        ({**BASIC, "rateLimit": wrong}, "api.assert.invalid_type", 400, ["rateLimit", "integer"])
        for wrong in ("5", 1.5, True, [1])
    ),
    *(
        (
            {**BASIC, "rateLimit": wrong},
            "api.assert.invalid_argument",
            400,
            ["rateLimit", f"a number from 0 to {MOST_RATE}"],
        )
        for wrong in (-1, 2**53, 2**63, 1e300)
    ),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("action", WRITES)
async def test_what_is_no_profile(server: Running, transport: str, action: str) -> None:
    """docs/api/security.md#profiles, over every transport and in every action that writes; nothing
    is kept."""
    admin = await server.create_admin()
    rows = [
        *REFUSED,
        (None, "api.assert.body_required", 400, []),
        ({}, "api.assert.missing_argument", 400, ["body.policies"]),
        ({"rateLimit": 1}, "api.assert.missing_argument", 400, ["body.policies"]),
        ({"policies": "x"}, "api.assert.invalid_type", 400, ["body.policies", "array"]),
        ({"policies": None}, "api.assert.invalid_type", 400, ["body.policies", "array"]),
    ]
    for body, error_id, status, props in rows:
        answer = await server.call(
            transport, f"security:{action}", token=admin, _id="new", body=body
        )
        seen = told(answer, "id", "status", "props")
        assert seen == {"id": error_id, "status": status, "props": props}, body
    answer = await server.call(transport, "security:getProfile", token=admin, _id="new")
    assert answer["status"] == 404


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_update_that_makes_it_no_profile(server: Running, transport: str) -> None:
    """docs/api/security.md#profiles, #profile-actions: what results is checked; a refused update
    changes nothing."""
    admin = await server.create_admin()
    await write(server, admin, "new", RESTRICTED)
    before = await server.call(transport, "security:getProfile", token=admin, _id="new")
    rows = [
        *REFUSED,
        (None, "api.assert.body_required", 400, []),
        ({"policies": "x"}, "api.assert.invalid_type", 400, ["new.policies", "object[]"]),
        ({"policies": None}, "api.assert.invalid_type", 400, ["new.policies", "object[]"]),
        ({"policies": {"0": {}}}, "api.assert.invalid_type", 400, ["new.policies", "object[]"]),
    ]
    for body, error_id, status, props in rows:
        answer = await server.call(
            transport, "security:updateProfile", token=admin, _id="new", body=body
        )
        seen = told(answer, "id", "status", "props")
        assert seen == {"id": error_id, "status": status, "props": props}, body
    after = await server.call(transport, "security:getProfile", token=admin, _id="new")
    assert after["result"] == before["result"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_strict_wants_places_that_are_there(server: Running, transport: str) -> None:
    """docs/api/security.md#profiles: an unknown index is 412; here are none."""
    admin = await server.create_admin()
    for action in ("createOrReplaceProfile", "updateProfile"):
        for strict, body, status in (
            (True, RESTRICTED, 412),
            (False, RESTRICTED, 200),
            (True, BASIC, 200),
        ):
            answer = await server.call(
                transport, f"security:{action}", token=admin, _id="p", body=body, strict=strict
            )
            assert answer["status"] == status
            if status == 412:
                assert told(answer, "id", "code", "props") == {
                    "id": "services.storage.unknown_index",
                    "code": 16842753,
                    "props": ["nyc"],
                }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_anonymous_keeps_its_role(server: Running, transport: str) -> None:
    """docs/api/security.md#profiles."""
    admin = await server.create_admin()
    for action in ("createOrReplaceProfile", "updateProfile"):
        for body in (BASIC, {"policies": []}):
            answer = await server.call(
                transport, f"security:{action}", token=admin, _id="anonymous", body=body
            )
            assert told(answer) == {
                "id": "security.profile.missing_anonymous_role",
                "code": 117833733,
                "status": 400,
            }
        body = {"policies": [{"roleId": "default"}, {"roleId": "anonymous"}]}
        answer = await server.call(
            transport, f"security:{action}", token=admin, _id="anonymous", body=body
        )
        assert answer["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ids_that_are_taken_unknown_or_none(server: Running, transport: str) -> None:
    """docs/api/security.md#profile-actions."""
    admin = await server.create_admin()
    await write(server, admin, "known", RESTRICTED)
    unknown = "security.profile.not_found"
    rows = [
        ("createProfile", "known", BASIC, "services.storage.document_already_exists", 400, []),
        ("createProfile", "admin", BASIC, "services.storage.document_already_exists", 400, []),
        ("updateProfile", "new", BASIC, unknown, 404, ["new"]),
        ("getProfile", "new", None, unknown, 404, ["new"]),
        ("getProfileRights", "new", None, unknown, 404, ["new"]),
        ("deleteProfile", "new", None, unknown, 404, ["new"]),
        ("deleteProfile", "x" * 513, None, unknown, 404, ["x" * 513]),
        *(
            ("deleteProfile", name, None, "security.profile.cannot_delete", 400, [])
            for name in ("admin", "default", "anonymous")
        ),
    ]
    for action, name, body, error_id, status, props in rows:
        answer = await server.call(
            transport, f"security:{action}", token=admin, _id=name, body=body
        )
        seen = told(answer, "id", "status", "props")
        assert seen == {"id": error_id, "status": status, "props": props}, action
    for action in WRITES:
        for name in ("x" * 513, "a\nb"):
            answer = await server.call(
                transport, f"security:{action}", token=admin, _id=name, body=BASIC
            )
            assert answer["error"]["id"] == "api.assert.invalid_argument"
            assert answer["error"]["props"][0] == "_id"
    answer = await server.call(transport, "security:getProfile", token=admin, _id="known")
    assert answer["result"]["_source"]["policies"] == RESTRICTED["policies"]


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_an_id_is_required(server: Running, transport: str) -> None:
    """docs/api/security.md: over HTTP it is in the path."""
    admin = await server.create_admin()
    actions = ("getProfile", "getProfileRights", "updateProfile", "deleteProfile", *WRITES)
    for action in actions:
        answer = await server.call(transport, f"security:{action}", token=admin, body=BASIC)
        assert told(answer, "id", "props") == {
            "id": "api.assert.missing_argument",
            "props": ["_id"],
        }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_rights_of_a_profile(server: Running, transport: str) -> None:
    """docs/api/security.md#listed-rights: an item for each policy, action and place."""
    admin = await server.create_admin()
    role = {"controllers": {"document": {"actions": {"get": True, "delete": False}}}}
    await server.call(transport, "security:createRole", token=admin, _id="r", body=role)
    await write(server, admin, "p", {"policies": [{"roleId": "r", "restrictedTo": PLACES}]})
    places = [("nyc", "bus"), ("nyc", "taxi"), ("paris", "*")]
    expected = [
        {
            "action": action,
            "collection": collection,
            "controller": "document",
            "index": index,
            "value": value,
        }
        for action, value in (("delete", "denied"), ("get", "allowed"))
        for index, collection in places
    ]
    for name, hits in (
        ("p", expected),
        ("admin", [dict.fromkeys(expected[0], "*") | {"value": "allowed"}]),
    ):
        answer = await server.call(transport, "security:getProfileRights", token=admin, _id=name)
        assert answer["result"] == {"hits": hits, "total": len(hits)}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_rights_beyond_reading_are_not_listed(server: Running, transport: str) -> None:
    """Actions times places would be a billion items: refused before one is made."""
    admin = await server.create_admin()
    actions = {str(number): True for number in range(1000)}
    role = {"controllers": {"bulk": {"actions": actions}}}
    await server.call(transport, "security:createRole", token=admin, _id="r", body=role)
    places = [{"index": str(number)} for number in range(500)]
    await write(server, admin, "p", {"policies": [{"roleId": "r", "restrictedTo": places}]})
    answer = await server.call(transport, "security:getProfileRights", token=admin, _id="p")
    assert told(answer, "id", "status") == {
        "id": "services.storage.get_limit_exceeded",
        "status": 413,
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_profile_in_use_stays_unless_it_is_taken_away(
    server: Running, transport: str
) -> None:
    """docs/api/security.md#profile-actions: onAssignedUsers; who is left with none becomes
    anonymous."""
    admin = await server.create_admin()
    body = {"policies": [{"roleId": "admin"}]}
    await server.call(transport, "security:createProfile", token=admin, _id="p", body=body)
    tokens = {
        kuid: await server.create_user(admin, kuid, *ids)
        for kuid, ids in {"one": ["p"], "two": ["default", "p"], "other": ["default"]}.items()
    }

    async def delete(**args: object) -> dict:
        return await server.call(transport, "security:deleteProfile", token=admin, _id="p", **args)

    for args in ({}, {"onAssignedUsers": "fail"}, {"onAssignedUsers": "zz"}):
        assert told(await delete(**args), "id", "code", "status", "props") == {
            "id": "security.profile.in_use",
            "code": 117833731,
            "status": 412,
            "props": [],
        }
    answer = await server.call(transport, "server:now", token=tokens["one"])
    assert answer["status"] == 200
    assert (await delete(onAssignedUsers="remove"))["result"] == {"_id": "p"}
    expected = {"one": ["anonymous"], "two": ["default"], "other": ["default"]}
    for kuid, profile_ids in expected.items():
        for name, token, args in (
            ("security:getUser", admin, {"_id": kuid}),
            ("auth:getCurrentUser", tokens[kuid], {}),
        ):
            answer = await server.call(transport, name, token=token, **args)
            assert answer["result"]["_source"]["profileIds"] == profile_ids
        answer = await server.call(transport, "server:now", token=tokens[kuid])
        assert answer["status"] == 403
    gone = await delete(onAssignedUsers="remove")
    assert told(gone, "id") == {"id": "security.profile.not_found"}


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_what_to_do_with_users_is_text(server: Running, transport: str) -> None:
    admin = await server.create_admin()
    answer = await server.call(
        transport, "security:deleteProfile", token=admin, _id="p", onAssignedUsers=True
    )
    assert told(answer, "id", "props") == {
        "id": "api.assert.invalid_type",
        "props": ["onAssignedUsers", "string"],
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_many_are_deleted_as_far_as_they_can_be(server: Running, transport: str) -> None:
    """docs/api/security.md#bulk-deletes: always as with `fail`."""
    admin = await server.create_admin()
    for name in ("a", "b", "c"):
        await write(server, admin, name, BASIC)
    await server.create_user(admin, "user", "b")

    async def ask(ids: list[str]) -> dict:
        return await server.call(
            transport,
            "security:mDeleteProfiles",
            token=admin,
            body={"ids": ids},
            onAssignedUsers="remove",
        )

    answer = await ask(["a", "b", "nope", "default", "c"])
    assert (answer["status"], answer["result"]) == (206, ["a", "c"])
    assert told(answer, "id", "count") == {
        "id": "services.storage.incomplete_delete",
        "count": 3,
    }
    assert [(one["id"], one["document"]["_id"]) for one in answer["error"]["errors"]] == [
        ("security.profile.in_use", "b"),
        ("security.profile.not_found", "nope"),
        ("security.profile.cannot_delete", "default"),
    ]
    answer = await server.call(transport, "security:deleteUser", token=admin, _id="user")
    answer = await ask(["b"])
    assert (answer["status"], answer["result"], answer["error"]) == (200, ["b"], None)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_change_is_in_force_at_once(server: Running, transport: str) -> None:
    """Security check S9: also a rate limit, which was none, and what was kept for live tokens."""
    admin = await server.create_admin()
    role = {"controllers": {"*": {"actions": {"*": True}}}}
    await server.call(transport, "security:createRole", token=admin, _id="r", body=role)
    await write(server, admin, "p", {"policies": [{"roleId": "r"}]})
    user = await server.create_user(admin, "user", "p")
    for allowed in (True, False, True):
        answer = await server.call(transport, "server:now", token=user)
        assert answer["status"] == (200 if allowed else 403)
        answer = await server.call(transport, "auth:getMyRights", token=user)
        assert (answer["result"]["hits"][0]["controller"] == "*") is allowed
        body = {"policies": [{"roleId": "default" if allowed else "r"}]}
        await server.call(transport, "security:updateProfile", token=admin, _id="p", body=body)
    assert server.app.services.tokens.live(user) is None
    await server.call(
        transport, "security:updateProfile", token=admin, _id="p", body={"rateLimit": 1}
    )
    answers = [await server.call(transport, "auth:getCurrentUser", token=user) for _ in range(9)]
    assert 429 in [answer["status"] for answer in answers]


def test_profiles_are_bounded() -> None:
    """Nobody makes the server compile or send more than these."""
    place = {"index": "i"}
    assert check_profile("p", {"policies": [{"roleId": "r"}] * MOST_POLICIES})
    rows = [
        ([{"roleId": "r"}] * (MOST_POLICIES + 1), "too_many_arguments", "p.policies"),
        (
            [{"roleId": "r", "restrictedTo": [place] * (MOST_RESTRICTIONS + 1)}],
            "too_many_arguments",
            "p.policies[0].restrictedTo",
        ),
        (
            [{"roleId": "r", "restrictedTo": [{"index": "i" * 300_000}]}],
            "invalid_argument",
            "body",
        ),
    ]
    for policies, name, prop in rows:
        with pytest.raises(ApiError) as refused:
            check_profile("p", {"policies": policies})
        assert refused.value.id == f"api.assert.{name}"
        assert refused.value.props is not None and refused.value.props[0] == prop


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_series_of_updates_grows_beyond_the_bound(server: Running, transport: str) -> None:
    """Each is small, what they make together is bounded."""
    admin = await server.create_admin()
    await write(server, admin, "p", BASIC)
    statuses = []
    for number in range(4):
        body = {f"note{number}": "x" * 80_000}
        answer = await server.call(
            transport, "security:updateProfile", token=admin, _id="p", body=body
        )
        statuses.append(answer["status"])
    assert statuses == [200, 200, 200, 400]
