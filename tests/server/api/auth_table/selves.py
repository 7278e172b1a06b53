"""Rows of getCurrentUser, getMyRights, checkRights, updateSelf and getStrategies."""

from tests.server.api.auth_table.errors import (
    BODY_REQUIRED,
    FORBIDDEN_ARGUMENT,
    INVALID_TYPE,
    MISSING_ARGUMENT,
)
from tests.server.api.auth_table.made import (
    admin,
    ann,
    anns_badge,
    anns_key,
    badges,
    documented_ann,
    key,
    passwordless,
    single_use,
)
from tests.server.api.auth_table.rows import Expected, Gives, Maker, Row, Such
from tests.support.clock import START_MS

DEFAULT_ROLE = {
    *(
        "checkToken",
        "getCurrentUser",
        "getMyRights",
        "logout",
        "updateSelf",
    ),  # docs/api/security.md#default-rights
    *("refreshToken", "checkRights", "getStrategies", "credentialsExist", "getMyCredentials"),
    *("createMyCredentials", "updateMyCredentials", "validateMyCredentials"),
    *(
        "deleteMyCredentials",
        "getMySessions",
        "deleteMySession",
    ),  # docs/api/differences.md#default-role, default role
}
ANONYMOUS_ROLE = {"checkToken", "getCurrentUser", "getMyRights", "login"}


def info(author: str, updater: str | None = None) -> dict[str, object]:
    """Give the `_kuzzle_info` of a user made, and maybe updated, at the start
    (docs/api/differences.md#authors)."""
    updated_at = None if updater is None else START_MS
    return {"author": author, "createdAt": START_MS, "updatedAt": updated_at, "updater": updater}


def document(updater: str | None = None, **content: object) -> dict[str, object]:
    """Give Ann as `_id` and `_source`."""
    source = {"profileIds": ["default"], **content, "_kuzzle_info": info("admin", updater)}
    return {"_id": "ann", "_source": source}


def me(line: str, comes: object, by: Maker | None, *before: Maker) -> Row:
    """Give a row in which somebody asks who he is."""
    return Row(f"02 §4 getCurrentUser, {line}", "getCurrentUser", by, Gives(comes), before=before)


def ann_with(*strategies: str) -> dict[str, object]:
    """Give what Ann is told of herself."""
    return document() | {"strategies": list(strategies)}


ANONYMOUS = {
    "_id": "-1",
    "_source": {"profileIds": ["anonymous"], "name": "Anonymous"},
    "strategies": [],
}
ADMINS = {
    "_id": "admin",
    "_source": {"profileIds": ["admin"], "_kuzzle_info": info("-1")},
    "strategies": ["local"],
}

GET_CURRENT_USER = [
    me("result", ann_with("local"), ann),
    me("result", ADMINS, admin),
    me("with an API key", ann_with("local"), anns_key),
    me("with a token for one request", ADMINS, single_use),
    me(
        "strategies in the order of registration",
        ann_with("local", "badge"),
        ann,
        anns_badge,
    ),
    me("no credentials", ann_with(), anns_key, passwordless),
    me("anonymous; design: []", ANONYMOUS, None),
]


def allowed(controller: str, action: str) -> dict[str, object]:
    """Give an item of getMyRights."""
    return {
        "action": action,
        "collection": "*",
        "controller": controller,
        "index": "*",
        "value": "allowed",
    }


def are_rights(in_auth: set[str]) -> Such:
    """Give rights that have these actions of `auth` and no others of it, each once."""

    def holds(value: object) -> bool:
        assert isinstance(value, dict) and list(value) == ["hits", "total"]
        hits = value["hits"]
        assert value["total"] == len(hits)
        seen = [hit for hit in hits if hit["controller"] == "auth"]
        assert all(list(hit) == list(allowed("", "")) for hit in hits)
        wanted = [allowed("auth", action) for action in sorted(in_auth)]
        return sorted(seen, key=lambda hit: hit["action"]) == wanted

    return Such(f"the rights to {sorted(in_auth)}", holds)


def rights(line: str, comes: object, by: Maker | None) -> Row:
    """Give a row in which somebody asks what he may do."""
    return Row(f"02 §4 getMyRights, {line}; 03 §5", "getMyRights", by, Gives(comes))


GET_MY_RIGHTS = [
    rights("everything", {"hits": [allowed("*", "*")], "total": 1}, admin),
    rights("everything", {"hits": [allowed("*", "*")], "total": 1}, key),
    rights("default role", are_rights(DEFAULT_ROLE), ann),
    rights("anonymous; 03 §4", are_rights(ANONYMOUS_ROLE), None),
]


def rights_check(line: str, comes: Expected, body: object, by: Maker | None = ann) -> Row:
    """Give a row in which Ann asks whether she could do something."""
    return Row(f"02 §4 checkRights, {line}", "checkRights", by, comes, body=body)


YES, NO = Gives({"allowed": True}), Gives({"allowed": False})


def asked(controller: str, action: str, **more: object) -> dict[str, object]:
    """Give the body of a checkRights."""
    return {"controller": controller, "action": action, **more}


CHECK_RIGHTS = [
    rights_check("result", YES, asked("auth", "logout")),
    rights_check("result", NO, asked("security", "deleteUser", _id="ann")),
    rights_check("index and collection", YES, asked("auth", "logout", index="i", collection="c")),
    rights_check("existence is not checked", NO, asked("no", "such")),
    rights_check("existence is not checked", YES, asked("no", "such"), admin),
    rights_check("for the caller", NO, asked("auth", "login")),
    rights_check("controller required", MISSING_ARGUMENT.of("body.controller"), {"action": "x"}),
    rights_check("action required", MISSING_ARGUMENT.of("body.action"), {"controller": "auth"}),
    rights_check("strings", MISSING_ARGUMENT.of("body.controller"), asked(5, "x")),  # type: ignore[arg-type]
    rights_check("strings", MISSING_ARGUMENT.of("body.action"), asked("auth", None)),  # type: ignore[arg-type]
    rights_check("body", BODY_REQUIRED, None),
    rights_check("body", INVALID_TYPE.of("body", "object"), [asked("auth", "logout")]),
]


def update(line: str, comes: Expected, body: object, **row: object) -> Row:
    """Give a row in which Ann changes her document."""
    return Row(f"02 §4 updateSelf, {line}", "updateSelf", ann, comes, body=body, **row)


DEEP = Gives(document("ann", a={"b": 1, "c": 2}, tags=[]))

UPDATE_SELF = [
    update("result", Gives(document("ann", town="İzmir")), {"town": "İzmir"}),
    update(
        "deep merge; docs/api/differences.md#merging",
        DEEP,
        {"a": {"c": 2}, "tags": []},
        before=(documented_ann,),
    ),
    update("nothing", Gives(document("ann")), {}),
    update("falsy _id and profileIds", Gives(document("ann")), {"_id": "", "profileIds": None}),
    update("_kuzzle_info; 03 §2.1", Gives(document("ann")), {"_kuzzle_info": {"author": "x"}}),
    update(
        "refresh and retryOnConflict",
        Gives(document("ann", a=1)),
        {"a": 1},
        args={"refresh": "false", "retryOnConflict": 3},
    ),
    update(
        "retryOnConflict; 01 §2.1",
        INVALID_TYPE.of("retryOnConflict", "integer"),
        {"a": 1},
        args={"retryOnConflict": "x"},
    ),
    update("_id", FORBIDDEN_ARGUMENT.of("body._id"), {"_id": "admin"}),
    update("profileIds", FORBIDDEN_ARGUMENT.of("body.profileIds"), {"profileIds": ["admin"]}),
    update("profileIds", FORBIDDEN_ARGUMENT.of("body.profileIds"), {"profileIds": []}),
    update("body", BODY_REQUIRED, None),
    update("body", INVALID_TYPE.of("body", "object"), [{"a": 1}]),
]


def strategies(line: str, names: list[str], by: Maker, *before: Maker) -> Row:
    """Give a row in which somebody asks how one may log in."""
    return Row(f"02 §4 getStrategies, {line}", "getStrategies", by, Gives(names), before=before)


GET_STRATEGIES = [
    strategies("registered names", ["local"], ann),
    strategies("registered names", ["local", "badge"], admin, badges),
]
ROWS = [*GET_CURRENT_USER, *GET_MY_RIGHTS, *CHECK_RIGHTS, *UPDATE_SELF, *GET_STRATEGIES]
