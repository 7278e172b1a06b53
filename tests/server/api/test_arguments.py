"""What `security` and `server` refuse in arguments, line by line (docs/api/security.md#validation;
docs/api/server.md; docs/api/transport.md#arguments): the error and what it names, before anything
else is looked at."""

import pytest

from tests.server.api.auth_table.rows import TYPED
from tests.support.errors import told
from tests.support.server import Running

Line = tuple[str, dict[str, object], str, list[object]]
"""An action of `security` unless another is named, its arguments, id and props of the error."""

MISSING, TYPE = "api.assert.missing_argument", "api.assert.invalid_type"
INVALID, UNEXPECTED = "api.assert.invalid_argument", "api.assert.unexpected_argument"
NO_BODY, STORAGE = "api.assert.body_required", "services.storage"
ROLE = {"controllers": {"auth": {"actions": {"checkToken": True}}}}
PLACES = ["users", "profiles", "roles"]
WHOLE = {"body": {"content": {"profileIds": ["default"]}, "profileIds": ["default"]}}

# docs/api/security.md#user-actions, #role-actions, #profile-actions: actions that take `_id`.
OF_AN_ID = (
    *("getUser", "updateUser", "replaceUser", "upsertUser", "deleteUser", "getUserRights"),
    *("getUserStrategies", "revokeTokens", "getRole", "deleteRole", "updateRole", "createRole"),
    *("createOrReplaceRole", "getProfile", "deleteProfile", "getProfileRights", "updateProfile"),
    *("createProfile", "createOrReplaceProfile"),
)
# docs/api/security.md#credential-actions: actions that take `strategy`.
OF_A_STRATEGY = (
    *("createCredentials", "updateCredentials", "validateCredentials", "hasCredentials"),
    *("getCredentials", "getCredentialsById", "deleteCredentials", "getCredentialFields"),
    "searchUsersByCredentials",
)
SEARCHES = ("searchUsers", "searchProfiles", "searchRoles")


def _needed(action: str, name: str, more: dict[str, object]) -> list[Line]:
    """Give the lines of an argument that has to be a text, and be there."""
    absent: Line = (action, more, MISSING, [name])
    return [absent, (action, {**more, name: 12}, TYPE, [name, "string"])]


def _profile(restricted: object, error_id: str, *props: object) -> list[Line]:
    """Give the lines of a profile with a policy restricted like this
    (docs/api/security.md#profiles)."""
    policy = {"roleId": "default", "restrictedTo": restricted}
    args: dict[str, object] = {"_id": "p", "body": {"policies": [policy]}}
    where, *rest = props
    named = [f"p.policies[0].restrictedTo{where}", *rest]
    actions = ("createProfile", "createOrReplaceProfile")
    return [(action, args, error_id, named) for action in actions]


LINES: list[Line] = [
    # docs/api/transport.md#arguments `_id`, text arguments
    *(line for action in OF_AN_ID for line in _needed(action, "_id", WHOLE)),
    *((action, {**WHOLE, "_id": ""}, MISSING, ["_id"]) for action in OF_AN_ID),
    *(line for action in OF_A_STRATEGY for line in _needed(action, "strategy", {"_id": "u"})),
    *_needed("checkRights", "userId", {"body": {"controller": "a", "action": "b"}}),
    *_needed("scrollUsers", "scrollId", {}),
    *_needed("scrollProfiles", "scrollId", {}),
    # docs/api/security.md#roles
    ("createOrReplaceRole", {"_id": "anonymous", "body": ROLE}, "security.role.login_required", []),
    # docs/api/security.md#profiles
    *_profile("x", TYPE, "", "object[]"),
    *_profile([{}], MISSING, "[0].index"),
    *_profile([{"index": "i", "collections": "x"}], TYPE, "[0].collections", "string[]"),
    *_profile([{"index": "i", "more": 1}], UNEXPECTED, "[0].more", '"index", "collections"'),
    (
        "createProfile",
        {"_id": "p", "body": {"policies": [{"roleId": "default", "more": 1}]}},
        UNEXPECTED,
        ["p.policies[0].more", '"roleId", "restrictedTo"'],
    ),
    (
        "createProfile",
        {
            "_id": "p",
            "strict": True,
            "body": {"policies": [{"roleId": "default", "restrictedTo": [{"index": "i"}]}]},
        },
        f"{STORAGE}.unknown_index",
        ["i"],
    ),
    # docs/api/security.md#searches
    *((action, {"from": "x"}, TYPE, ["from", "integer"]) for action in SEARCHES),
    *((action, {"scroll": 5}, TYPE, ["scroll", "string"]) for action in SEARCHES[:2]),
    ("searchRoles", {"lang": "sql"}, INVALID, ["lang", "elasticsearch or koncorde"]),
    (
        "searchRoles",
        {"body": {"query": {"more": {}}}},
        f"{STORAGE}.unknown_query_keyword",
        ["more"],
    ),
    # docs/api/security.md#bulk-deletes
    *((f"mDelete{kind}", {}, NO_BODY, []) for kind in ("Profiles", "Roles")),
    *((f"mDelete{kind}", {"body": {}}, MISSING, ["body.ids"]) for kind in ("Profiles", "Roles")),
    # docs/api/security.md#mappings
    *((f"update{kind}Mapping", {}, NO_BODY, []) for kind in ("Profile", "Role")),
    ("refresh", {}, MISSING, ["collection"]),
    ("refresh", {"collection": "keys"}, UNEXPECTED, ["keys", PLACES]),
    # docs/api/server.md
    ("server:getStats", {"startTime": "x"}, INVALID, ["startTime", "number"]),
    ("server:getStats", {"stopTime": "x"}, INVALID, ["stopTime", "number"]),
    ("server:openapi", {"scope": "x"}, UNEXPECTED, ["x", ["kuzzle", "app"]]),
]


@pytest.mark.parametrize("transport", TYPED)
async def test_what_is_wrong_with_arguments_is_told(server: Running, transport: str) -> None:
    """The lines above; nothing is made of a request that is refused."""
    admin = await server.create_admin()
    before = await _everything(server, admin)
    wrong = []
    for action, args, error_id, props in LINES:
        full_name = action if ":" in action else f"security:{action}"
        answer = await server.call(transport, full_name, token=admin, **args)  # type: ignore[arg-type]
        seen = told(answer, "id", "props") if answer["error"] else answer["result"]
        if seen != {"id": error_id, "props": props}:
            wrong.append((action, args, seen))
    assert wrong == []
    assert await _everything(server, admin) == before


async def _everything(server: Running, admin: str) -> list[object]:
    asked = [f"security:{action}" for action in SEARCHES]
    return [(await server.call("query", name, token=admin))["result"] for name in asked]


# Text of a query string, and what `from` is then; None for what is no integer
# (docs/api/transport.md#arguments).
NUMBERS: list[tuple[str, int | None]] = [
    *(("0", 0), ("2", 2), ("+2", 2), ("2.0", 2), ("2.", 2), ("2e0", 2), ("%202", 2)),
    *(("2abc", 2), ("2_0", 2), ("2%20", 2), ("2,5", 2)),
    *(("", None), ("abc", None), ("1.5", None), (".5", None), ("NaN", None), ("Infinity", None)),
    *(("1e400", None), ("9007199254740993", None), ("%D9%A2", None), ("2&from=3", None)),
]


async def test_numbers_in_a_query_string(server: Running) -> None:
    """docs/api/transport.md#arguments args integer: as JavaScript's parseFloat reads them."""
    admin = await server.create_admin()
    for kuid in ("a", "b"):
        await server.create_user(admin, kuid)
    everybody = ["a", "admin", "b"]
    http = await server.connect()
    for text, start in NUMBERS:
        answer = await http.ask("POST", f"/users/_search?from={text}", {}, token=admin)
        if start is None:
            assert told(answer.json, "id", "props") == {"id": TYPE, "props": ["from", "integer"]}
        else:
            assert [hit["_id"] for hit in answer.json["result"]["hits"]] == everybody[start:], text


@pytest.mark.parametrize(
    "query", ["ids=a,b", "ids=a&ids=b", "ids=%5B%22a%22,%22b%22%5D", "ids=a,b&more=1"]
)
async def test_arrays_in_a_query_string(server: Running, query: str) -> None:
    """docs/api/transport.md#arguments args array, legacy; docs/api/clients.md#http-connections
    sends commas."""
    admin = await server.create_admin()
    for kuid in ("a", "b"):
        await server.create_user(admin, kuid)
    http = await server.connect()
    answer = await http.ask("GET", f"/users/_mGet?{query}", token=admin)
    assert [hit["_id"] for hit in answer.json["result"]["hits"]] == ["a", "b"]
