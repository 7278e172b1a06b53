"""The JavaScript SDK, unmodified, in Node: over WebSocket and over HTTP
(docs/api/clients.md#javascript-sdk, #kourou)."""

import jwt
import pytest

from tests.interop.conftest import RunScript
from tests.interop.serving import PASSWORD, Served
from tests.interop.sessions import check_session

pytestmark = pytest.mark.interop

TRANSPORTS = ("websocket", "http")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_session(server: Served, run_script: RunScript, transport: str) -> None:
    """Connect, log in, look around, log out."""
    check_session(run_script("run_session.cjs", transport, server.port, "admin", PASSWORD))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_administration(empty_server: Served, run_script: RunScript, transport: str) -> None:
    """The first administrator makes, reads and deletes a user."""
    seen = run_script("administer.cjs", transport, empty_server.port, PASSWORD)
    ann = {"_id": "ann", "profileIds": ["default"], "team": "web"}
    for name in ("admin", "created", "read"):
        assert seen[name].pop("_kuzzle_info")["createdAt"] > 0
    assert seen == {
        "existed": False,
        "admin": {"_id": "boss", "profileIds": ["admin"], "team": "ops"},
        "second": {"id": "api.process.admin_exists", "status": 412},
        "exists": True,
        "created": ann,
        "read": ann,
        "deleted": {"_id": "ann"},
        "gone": {"id": "security.user.not_found", "status": 404},
        "loginOfGone": {"id": "plugin.strategy.missing_user", "status": 401},
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_roles_and_profiles(server: Served, run_script: RunScript, transport: str) -> None:
    """docs/api/security.md#role-actions, #profile-actions, #bulk-deletes, through the SDK's own
    objects."""
    seen = run_script("grant.cjs", transport, server.port, "admin", PASSWORD)
    rights = {"document": {"actions": {"get": True, "delete": False}}}
    policies = [{"roleId": "reader", "restrictedTo": [{"index": "nyc", "collections": ["taxi"]}]}]
    place = {"controller": "document", "index": "nyc", "collection": "taxi"}
    assert seen == {
        "role": {"_id": "reader", "controllers": rights},
        "again": refusal("services.storage.document_already_exists", 400),
        "unknown": refusal("security.role.unknown_controller", 400),
        "forced": "odd",
        "updated": rights,
        "roles": ["reader", "odd"],
        "profile": {"_id": "driver", "policies": policies, "rateLimit": 5},
        "merged": policies,
        "read": 9,
        "profiles": ["driver", "admin"],
        "rights": [
            place | {"action": "delete", "value": "denied"},
            place | {"action": "get", "value": "allowed"},
        ],
        "rolesOfProfile": ["reader"],
        "roleInUse": refusal("security.role.in_use", 412),
        "profileInUse": refusal("security.profile.in_use", 412),
        "some": refusal("services.storage.incomplete_delete", 206)
        | {
            "errors": [
                {"id": "security.role.in_use", "document": {"_id": "reader"}},
                {"id": "security.role.not_found", "document": {"_id": "nobody"}},
            ]
        },
        "taken": {"_id": "driver"},
        "left": ["anonymous"],
        "deleted": ["reader"],
        "gone": refusal("security.role.not_found", 404),
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_users_and_their_credentials(server: Served, run_script: RunScript, transport: str) -> None:
    """docs/api/security.md#user-actions, #credential-actions: an administrator changes users and
    what they log in with."""
    account = {"username": "ann", "kuid": "ann"}
    fields = ["username", "password"]
    assert run_script("manage_users.cjs", transport, server.port, "admin", PASSWORD) == {
        "updated": {
            "_id": "ann",
            "profileIds": ["default", "anonymous"],
            "home": {"town": "Kars", "zip": 1},
        },
        "replaced": {"_id": "ann", "profileIds": ["default"], "team": "web"},
        "upserted": [["ann", "ops", None], ["bob", "ops", 1]],
        "restricted": {"_id": "eve", "profileIds": ["default"]},
        "several": ["bob", "ann"],
        "rights": True,
        "may": [False, True],
        "fields": fields,
        "allFields": {"local": fields},
        "valid": True,
        "before": False,
        "account": {"username": "annie", "kuid": "ann"},
        "renamed": account,
        "shown": account,
        "byId": account,
        "after": True,
        "strategies": ["local"],
        "revoked": None,
        "refused": refusal("security.token.invalid", 401),
        "unlinked": {"acknowledged": True},
        "none": [],
        "some": refusal("services.storage.incomplete_delete", 206)
        | {"errors": [{"id": "security.user.not_found", "document": {"_id": "nobody"}}]},
        "deleted": ["bob", "eve"],
        "gone": refusal("security.user.not_found", 404),
    }


def refusal(error_id: str, status: int) -> dict[str, object]:
    """Give what a script tells of a refused call about one thing."""
    return {"id": error_id, "status": status, "errors": []}


# Over HTTP the SDK sends only what the server's list of routes has: it refuses the last by itself.
UNKNOWN = {
    "websocket": {"id": "api.process.controller_not_found", "status": 404},
    "http": {},
}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_requests_of_kourou(server: Served, run_script: RunScript, transport: str) -> None:
    """Credentials are arguments, the body is empty, and `volatile` names the client."""
    seen = run_script("as_kourou.cjs", transport, server.port, "admin", PASSWORD)
    login = seen["login"]
    assert (login["_id"], login["ttl"]) == ("admin", 3_600_000)
    assert jwt.decode(login["jwt"], options={"verify_signature": False})["_id"] == "admin"
    me = seen["me"]
    assert (me["status"], me["_id"]) == (200, "admin")
    assert me["volatile"]["client"] == "kourou@1.2.0"
    assert seen["unknown"] == UNKNOWN[transport]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_exports_and_imports_of_kourou(
    server: Served, run_script: RunScript, transport: str
) -> None:
    """docs/api/clients.md#kourou: what one command wrote down another brings back, all of it at
    once; who exists already is told so. Numbers of a command line are text."""
    exists = "security.user.already_exists"
    assert run_script("move.cjs", transport, server.port, "admin", PASSWORD) == {
        "roles": dict.fromkeys(("admin", "anonymous", "default", "reader"), "done"),
        "profiles": dict.fromkeys(("admin", "anonymous", "default", "driver"), "done"),
        "users": {"admin": exists, "ann": "done", "bob": "done"},
        "same": True,
        "mapping": {"profileIds": {"type": "keyword"}, "name": {"type": "keyword"}},
        "as": "ann",
        "keys": ["key"],
        "keysLeft": 0,
        "valid": False,
    }


def test_pings(server: Served, run_script: RunScript) -> None:
    """A ping frame gets a pong frame, the message `{"p":1}` gets `{"p":2}`
    (docs/api/clients.md#websocket-connections)."""
    assert run_script("pings.cjs", server.port) == {"frame": True, "message": {"p": 2}}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_searches(server: Served, run_script: RunScript, transport: str) -> None:
    """Pages by `next` in its three ways, searches of everything, mappings
    (docs/api/clients.md#results-the-sdk-reads)."""
    keyword = {"type": "keyword"}
    assert run_script("search.cjs", transport, server.port, PASSWORD) == {
        "from": {"total": 5, "seen": [["u0", "u1"], ["u2", "u3"], ["u4"]]},
        "after": {"total": 5, "seen": [["u1", "u3"], ["u0", "u2"], ["u4"]]},
        "scroll": {"total": 5, "seen": [["u1", "u3"], ["u0", "u2"], ["u4"]]},
        "user": {"id": "u3", "rank": 1, "profileIds": ["default"]},
        "profiles": {"total": 3, "seen": [["admin", "anonymous"], ["default"]]},
        "byRole": [["admin", "admin"]],
        "roles": ["admin", "anonymous", "default"],
        "before": 0,
        "changed": {"type": "text"},
        "mapping": {
            "mapping": {
                "profileIds": keyword,
                "bio": {"type": "text"},
                "rank": {"type": "integer"},
            }
        },
        "profileMapping": ["tags", "policies"],
        "roleMapping": ["tags"],
        "refreshed": None,
        "found": 5,
        "keys": ["key"],
        "credentials": {"hits": [{"username": "name2", "kuid": "u2"}], "total": 1},
        "gone": {"id": "services.storage.unknown_scroll_id", "status": 404},
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_spent_token_of_the_sdk_is_401_and_ends_nothing_but_by_its_own_refresh(
    server: Served, run_script: RunScript, transport: str
) -> None:
    """Security check S8, with the scenario of the SDK's own tests: after a refresh the previous
    token is invalid and the current one valid, though others ask about the previous one."""
    invalid = "security.token.invalid"
    assert run_script("spent.cjs", transport, server.port, PASSWORD) == {
        "before": "admin",
        "previousIsValid": False,
        "currentIsValid": True,
        "second": invalid,
        "first": "admin",
        "expired": [],
        "secondRefreshes": invalid,
        "freshIsValid": False,
    }
