"""Searches over the wire: users, profiles, roles, credentials, their pages and scrolls
(docs/api/security.md)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from server.config.model import Config
from server.storage.base import Insert
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Envelope, Running, cheap_config, running

INFO = {"author": None, "createdAt": 1, "updatedAt": None, "updater": None}
PEOPLE = {
    "ann": {"profileIds": ["default"], "name": "Ann Lee", "age": 31, "city": "Oslo"},
    "bob": {"profileIds": ["default", "editor"], "name": "Bob", "age": 27, "tags": ["a", "b"]},
    "cid": {"profileIds": ["editor"], "name": "Cid Lee", "age": 45, "city": "Bonn"},
    "dan": {"profileIds": ["default"], "name": "dan", "places": [{"town": "Rome"}]},
}


@asynccontextmanager
async def peopled(config: Config | None = None) -> AsyncIterator[tuple[Running, str]]:
    """Run a server with an administrator, whose token is given too, and four people."""
    async with running(config) as server:
        admin = await server.create_admin()
        profile = {"policies": [{"roleId": "default"}, {"roleId": "writer"}], "tags": ["staff"]}
        role = {"controllers": {"document": {"actions": {"*": True}}}, "tags": ["staff"]}
        await server.app.services.storage.apply(
            [
                Insert(Table.PROFILES, {"id": "editor", "body": profile, "info": INFO}),
                Insert(Table.ROLES, {"id": "writer", "body": role, "info": INFO}),
            ]
        )
        for kuid, content in PEOPLE.items():
            body = {"content": content, "credentials": {"local": account(kuid)}}
            made = await server.call(
                "query", "security:createUser", token=admin, body=body, _id=kuid
            )
            assert made["status"] == 200, made
        yield server, admin


def account(kuid: str) -> dict[str, str]:
    """Give credentials."""
    return {"username": f"{kuid}@example.org", "password": "correct horse"}


@pytest.fixture
async def people() -> AsyncIterator[tuple[Running, str]]:
    async with peopled() as started:
        yield started


def ids(answer: Envelope) -> list[str]:
    """Give what was found."""
    assert answer["status"] == 200, answer
    return [hit["_id"] for hit in answer["result"]["hits"]]


FOUND: list[tuple[object, list[str]]] = [
    (None, ["admin", "ann", "bob", "cid", "dan"]),
    ({}, ["admin", "ann", "bob", "cid", "dan"]),
    ({"query": {}}, ["admin", "ann", "bob", "cid", "dan"]),
    ({"query": None, "sort": []}, ["admin", "ann", "bob", "cid", "dan"]),
    ({"query": {"match_all": {}}}, ["admin", "ann", "bob", "cid", "dan"]),
    ({"query": {"term": {"profileIds": "editor"}}}, ["bob", "cid"]),
    ({"query": {"terms": {"_id": ["dan", "ann", "nobody"]}}}, ["ann", "dan"]),
    ({"query": {"ids": {"values": ["cid"]}}}, ["cid"]),
    ({"query": {"match": {"city": "Oslo"}}}, ["ann"]),
    ({"query": {"exists": {"field": "city"}}}, ["ann", "cid"]),
    ({"query": {"bool": {"must_not": {"exists": {"field": "age"}}}}}, ["admin", "dan"]),
    ({"query": {"range": {"age": {"gte": 27, "lt": 45}}}}, ["ann", "bob"]),
    ({"query": {"prefix": {"name": "Bo"}}}, ["bob"]),
    ({"query": {"wildcard": {"name": "*Lee"}}}, ["ann", "cid"]),
    ({"query": {"wildcard": {"name": "?o?"}}}, ["bob"]),
    ({"query": {"regexp": {"_id": "[a-c].[nb]"}}}, ["ann", "bob"]),
    ({"query": {"multi_match": {"query": "Bonn", "fields": ["name", "city"]}}}, ["cid"]),
    ({"query": {"query_string": {"query": "editor"}}}, ["bob", "cid"]),
    ({"query": {"term": {"places.town": "Rome"}}}, ["dan"]),
    ({"query": {"term": {"tags": "b"}}}, ["bob"]),
    ({"query": {"term": {"_kuzzle_info.author": "admin"}}}, ["ann", "bob", "cid", "dan"]),
    (
        {"query": {"term": {"profileIds": "editor"}}, "post_filter": {"term": {"age": 45}}},
        ["cid"],
    ),
    (
        {
            "query": {
                "bool": {
                    "should": [
                        {"term": {"city": "Oslo"}},
                        {"term": {"age": 31}},
                        {"term": {"age": 27}},
                    ],
                    "minimum_should_match": 2,
                }
            }
        },
        ["ann"],
    ),
    ({"sort": ["age"]}, ["bob", "ann", "cid", "admin", "dan"]),
    ({"sort": "age"}, ["bob", "ann", "cid", "admin", "dan"]),
    ({"sort": {"age": "desc"}}, ["cid", "ann", "bob", "admin", "dan"]),
    ({"sort": [{"age": {"order": "desc"}}]}, ["cid", "ann", "bob", "admin", "dan"]),
    ({"sort": [{"city": "asc"}, {"_id": "desc"}]}, ["cid", "ann", "dan", "bob", "admin"]),
    ({"sort": [{"_id": "desc"}], "size": 2}, ["dan", "cid"]),
    ({"from": 3}, ["cid", "dan"]),
    ({"sort": [{"_id": "asc"}], "search_after": ["bob"]}, ["cid", "dan"]),
    ({"sort": ["age", "_id"], "search_after": [31, "ann"]}, ["cid", "admin", "dan"]),
    ({"sort": ["age", "_id"], "search_after": [None, "admin"]}, ["dan"]),
    ({"sort": ["age", "_id"], "search_after": [2**63, ""]}, ["admin", "dan"]),
    ({"sort": ["age", "_id"], "search_after": [2**64 - 1, ""]}, ["admin", "dan"]),
    ({"sort": ["_id"], "search_after": [2**63]}, ["admin", *PEOPLE]),
    ({"highlight": {"fields": {}}, "_source": ["name"], "explain": False}, ["admin", *PEOPLE]),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_users_are_found(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#searches: clauses, orders and pages; `total` counts all matches."""
    server, admin = people
    for body, expected in FOUND:
        answer = await server.call(transport, "security:searchUsers", token=admin, body=body)
        assert ids(answer) == expected, body
        is_page = isinstance(body, dict) and body.keys() & {"from", "size", "search_after"}
        assert answer["result"]["total"] == (5 if is_page else len(expected)), body
        assert list(answer["result"]) == ["hits", "total"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_hit_is_the_user(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#users, #searches, docs/api/clients.md#admin-console: `_id` and
    `_source`, with `_kuzzle_info`; the same as getUser gives."""
    server, admin = people
    body = {"query": {"term": {"_id": "bob"}}}
    answer = await server.call(transport, "security:searchUsers", token=admin, body=body)
    (hit,) = answer["result"]["hits"]
    assert list(hit) == ["_id", "_source"]
    assert list(hit["_source"]) == ["profileIds", "name", "age", "tags", "_kuzzle_info"]
    user = await server.call(transport, "security:getUser", token=admin, _id="bob")
    assert hit == user["result"]


KONCORDE = [
    ({}, ["admin", "ann", "bob", "cid", "dan"]),
    ({"query": {"equals": {"city": "Oslo"}}}, ["ann"]),
    ({"query": {"and": [{"equals": {"profileIds": "editor"}}, {"exists": "city"}]}}, ["cid"]),
    ({"query": {"not": {"in": {"_id": ["ann", "bob"]}}}}, ["admin", "cid", "dan"]),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_koncorde(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#searches; without a query everybody is found."""
    server, admin = people
    for body, expected in KONCORDE:
        answer = await server.call(
            transport, "security:searchUsers", token=admin, body=body, lang="koncorde"
        )
        assert ids(answer) == expected, body


ARGUMENTS = [
    ({"size": 2}, ["admin", "ann"]),
    ({"from": 4, "size": 2}, ["dan"]),
    ({"from": 9}, []),
    ({"size": 0}, []),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_pages(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#searches: `from` and `size` are arguments, and win over the body's."""
    server, admin = people
    for args, expected in ARGUMENTS:
        answer = await server.call(
            transport, "security:searchUsers", token=admin, body={"size": 3, "from": 0}, **args
        )
        assert ids(answer) == (expected or [])[: args.get("size", 3)], args
        assert answer["result"]["total"] == 5


BAD: list[tuple[object, dict[str, object], int, str | None]] = [
    ({"controllers": []}, {}, 400, "services.storage.invalid_search_query"),
    ({"kuery": {}}, {}, 400, "services.storage.invalid_search_query"),
    ({"query": {"fuzzy": {"a": 1}}}, {}, 400, "services.storage.unknown_query_keyword"),
    ({"query": []}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"query": {"regexp": {"a": "(a+)+"}}}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"aggs": {"a": {}}}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": 5}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": [[]]}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": {"a": "up"}}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": {"a": {"order": 1}}}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": {"a": {"missing": "_first"}}}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": {"a" * 600: "asc"}}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": {".".join("a" * 40): "asc"}}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": [f"f{n}" for n in range(9)]}, {}, 400, "api.assert.too_many_arguments"),
    ({"search_after": ["x"]}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": ["_id"], "search_after": [1, 2]}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": ["_id"], "search_after": [[]]}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"sort": ["_id"], "search_after": "x"}, {}, 400, "services.storage.unexpected_bad_request"),
    ({"from": -1}, {}, 400, "api.assert.invalid_argument"),
    ({"size": 1.5}, {}, 400, "api.assert.invalid_argument"),
    ({}, {"from": -1}, 400, "api.assert.invalid_argument"),
    ({}, {"from": 100_001}, 400, "api.assert.invalid_argument"),
    ({}, {"size": "x"}, 400, "api.assert.invalid_type"),
    ({}, {"size": 10_001}, 413, "services.storage.get_limit_exceeded"),
    ({"size": 10_001}, {}, 413, "services.storage.get_limit_exceeded"),
    ({}, {"lang": "sql"}, 400, "api.assert.invalid_argument"),
    ({"query": {"bool": {}}}, {"lang": "koncorde"}, 400, "api.assert.koncorde_restricted_keyword"),
    ({}, {"scroll": "2m"}, 400, "services.storage.scroll_duration_too_great"),
    ({}, {"scroll": "soon"}, 400, "api.assert.invalid_argument"),
    ({}, {"scroll": "0s"}, 400, "api.assert.invalid_argument"),
    ({"query": {"ids": {"values": ["x"] * 10_000}}}, {}, 400, "api.assert.too_many_arguments"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bad_searches(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#searches, docs/api/errors.md, docs/api/differences.md#wrong-types: each
    with its id and status."""
    server, admin = people
    for action in ("searchUsers", "searchProfiles"):
        for body, args, status, error_id in BAD:
            answer = await server.call(
                transport, f"security:{action}", token=admin, body=body, **args
            )
            assert told(answer, "id", "status") == {"id": error_id, "status": status}, body
    answer = await server.call(transport, "security:searchUsers", token=admin, body={"kuery": 1})
    assert answer["error"]["props"] == ["kuery"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_size_is_bounded_by_the_configuration(transport: str) -> None:
    """docs/api/security.md#searches: `limits.documentsFetchCount` is the default and the most."""
    config = cheap_config()
    config = replace(config, limits=replace(config.limits, documents_fetch_count=3))
    async with peopled(config) as (server, admin):
        answer = await server.call(transport, "security:searchUsers", token=admin)
        assert ids(answer) == ["admin", "ann", "bob"]
        assert answer["result"]["total"] == 5
        for action in ("searchUsers", "searchProfiles", "searchRoles", "searchAudit"):
            asked = f"security:{action}"
            answer = await server.call(transport, asked, token=admin, size=3)
            assert len(answer["result"]["hits"]) == 3
            answer = await server.call(transport, asked, token=admin, size=4)
            assert told(answer) == {
                "id": "services.storage.get_limit_exceeded",
                "code": 16842755,
                "status": 413,
            }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_hostile_names_and_values_are_only_that(
    people: tuple[Running, str], transport: str
) -> None:
    """Names and values of fields never become SQL or a path of it."""
    server, admin = people
    names = [
        '"',
        "'",
        "$",
        ".",
        "..",
        "[",
        "[0]",
        "\0",
        "*",
        "a'--",
        '") OR 1=1 --',
        "?1",
        "é\u202e",
    ]
    for name in names:
        for clause in ("term", "prefix", "wildcard", "regexp", "match", "range"):
            said = {"gte": name} if clause == "range" else "x" if clause == "regexp" else name
            body = {"query": {clause: {name: said}}, "sort": [{name: "desc"}]}
            answer = await server.call(transport, "security:searchUsers", token=admin, body=body)
            assert ids(answer) == [], body
    for levels in (19, 1000):
        body = {"query": {"exists": {"field": ".".join("a" * (levels + 1))}}}
        answer = await server.call(transport, "security:searchUsers", token=admin, body=body)
        assert answer["status"] == (200 if levels < 20 else 400)
    deep: dict[str, object] = {"match_all": {}}
    for _ in range(100):
        deep = {"bool": {"must": deep}}
    answer = await server.call(transport, "security:searchUsers", token=admin, body={"query": deep})
    assert answer["status"] == 400


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_duplicate_keys_and_no_numbers(people: tuple[Running, str], transport: str) -> None:
    """JSON that readers could take for different things is one thing here, or refused."""
    server, admin = people
    http = await server.connect()
    bodies = {
        b'{"query":{"term":{"_id":"ann"},"term":{"_id":"bob"}}}': 200,
        b'{"query":{"range":{"age":{"gt":NaN}}}}': 400,
        b'{"query":{"range":{"age":{"gt":1e999}}}}': 400,
        b'{"query":{"term":{"_id":"\\ud800"}}}': 400,
    }
    for body, status in bodies.items():
        answer = await http.ask("POST", "/users/_search", body, token=admin)
        assert answer.status == status, body
    http.close()


PROFILES = [
    ({}, ["admin", "anonymous", "default", "editor"]),
    ({"query": {"term": {"tags": "staff"}}}, ["editor"]),
    ({"query": {"term": {"policies.roleId": "default"}}}, ["default", "editor"]),
    ({"roles": []}, ["admin", "anonymous", "default", "editor"]),
    ({"roles": ["writer", "admin"]}, ["admin", "editor"]),
    ({"roles": ["nobody"]}, []),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_profiles_are_found(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#profile-actions: `roles` is one of the roles in the policies."""
    server, admin = people
    for body, expected in PROFILES:
        answer = await server.call(transport, "security:searchProfiles", token=admin, body=body)
        assert ids(answer) == expected, body
        assert answer["result"]["total"] == len(expected)
    body = {"roles": ["x"], "query": {"match_all": {}}}
    answer = await server.call(transport, "security:searchProfiles", token=admin, body=body)
    assert answer["error"]["status"] == 400
    assert "id" not in answer["error"]


ROLES = [
    ({}, ["admin", "anonymous", "default", "writer"]),
    ({"query": {"term": {"tags": "staff"}}}, ["writer"]),
    ({"controllers": []}, ["admin", "anonymous", "default", "writer"]),
    ({"controllers": ["document"]}, ["admin", "writer"]),
    ({"controllers": ["auth"]}, ["admin", "anonymous", "default"]),
    ({"controllers": ["nothing", "document"]}, ["admin", "writer"]),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_roles_are_found(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#role-actions: `controllers` is one of these or `*`; its total is what
    was filtered."""
    server, admin = people
    for body, expected in ROLES:
        answer = await server.call(transport, "security:searchRoles", token=admin, body=body)
        assert ids(answer) == expected, body
        assert answer["result"]["total"] == len(expected)
        source = answer["result"]["hits"][-1]["_source"]
        assert "controllers" in source
        assert "_kuzzle_info" in source
    answer = await server.call(
        transport,
        "security:searchRoles",
        token=admin,
        body={"controllers": ["a"], "query": {"x": 1}},
    )
    assert answer["error"]["status"] == 400
    assert "id" not in answer["error"]
    for names in ([".".join("a" * 100)], ["a"] * 201, ["a" * 600], [1]):
        body = {"controllers": names}
        answer = await server.call(transport, "security:searchRoles", token=admin, body=body)
        assert answer["status"] == 400, names
    # Roles have no scrolls: the argument is read over.
    answer = await server.call(transport, "security:searchRoles", token=admin, scroll="10s")
    assert "scrollId" not in answer["result"]


CREDENTIALS: list[tuple[object, dict[str, object], list[str]]] = [
    ({}, {}, ["admin", "ann", "bob", "cid", "dan"]),
    ({"query": {"term": {"username": "bob@example.org"}}}, {}, ["bob"]),
    ({"query": {"terms": {"username": ["bob@example.org", "admin"]}}}, {}, ["admin", "bob"]),
    ({"query": {"match": {"username": {"query": "cid@example.org"}}}}, {}, ["cid"]),
    ({"query": {"prefix": {"username": "a"}}}, {}, ["admin", "ann"]),
    ({"query": {"bool": {"must_not": {"prefix": {"username": "a"}}}}}, {}, ["bob", "cid", "dan"]),
    ({"query": {"equals": {"username": "admin"}}}, {"lang": "koncorde"}, ["admin"]),
    ({"sort": [{"kuid": "desc"}]}, {"size": 2}, ["dan", "cid"]),
    ({"sort": {"username": {"order": "asc"}}}, {"from": 3}, ["cid", "dan"]),
]
NOT_CREDENTIALS: list[tuple[object, int]] = [
    ({"query": {"term": {"kuid": "bob"}}}, 403),
    ({"query": {"term": {"userPassword": "x"}}}, 403),
    ({"sort": "userSalt"}, 403),
    ({"query": {"bool": {"should": [{"prefix": {"userPassword": "a"}}]}}}, 403),
    ({"query": {"wildcard": {"username": "a?n*"}}}, 400),
    ({"query": {"exists": {"field": "username"}}}, 400),
    ({"query": {"term": {"colour": "x"}}}, 400),
    ({"sort": ["colour"]}, 400),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_users_are_found_by_credentials(people: tuple[Running, str], transport: str) -> None:
    """docs/api/security.md#credential-actions, docs/api/strategies.md#local-errors: by `username`
    alone, sorted by it or by `kuid`."""
    server, admin = people
    call = {"token": admin, "strategy": "local"}
    action = "security:searchUsersByCredentials"
    for body, args, expected in CREDENTIALS:
        answer = await server.call(transport, action, body=body, **args, **call)
        hits = answer["result"]["hits"]
        assert [hit["kuid"] for hit in hits] == expected, body
        assert all(list(hit) == ["username", "kuid"] for hit in hits)
        is_page = bool(args.keys() & {"from", "size"})
        assert answer["result"]["total"] == (5 if is_page else len(expected))
    for body, status in NOT_CREDENTIALS:
        answer = await server.call(transport, action, body=body, **call)
        assert answer["error"]["status"] == status, body
        assert "id" not in answer["error"]
    for number in range(8):
        await server.create_user(admin, f"more{number}")
    assert len((await server.call(transport, action, **call))["result"]["hits"]) == 10
    answer = await server.call(transport, action, token=admin, strategy="ldap")
    assert told(answer, "id") == {"id": "security.credentials.unknown_strategy"}
    answer = await server.call(transport, action, size=10_001, **call)
    assert told(answer, "id") == {"id": "services.storage.get_limit_exceeded"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_strategy_without_search(people: tuple[Running, str], transport: str) -> None:
    """docs/api/strategies.md#strategy-interface: 500 `plugin.strategy.missing_optional_method`."""
    server, admin = people
    strategies = server.app.services.strategies
    strategies.register("mute", Mute(strategies.get("local")))
    answer = await server.call(
        transport, "security:searchUsersByCredentials", token=admin, strategy="mute"
    )
    assert told(answer, "id", "status") == {
        "id": "plugin.strategy.missing_optional_method",
        "status": 500,
    }


class Mute:
    """A strategy that keeps what it has to itself."""

    name = "mute"
    fields = ()

    def __init__(self, inner: object) -> None:
        self.exists = inner.exists
        self.verify = inner.verify


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nobody_searches_without_the_right(
    people: tuple[Running, str], transport: str
) -> None:
    """docs/api/security.md#default-rights: none of these is a right of the default role."""
    server, _ = people
    token = await server.login("ann@example.org")
    for action, args in [
        ("searchUsers", {}),
        ("searchProfiles", {}),
        ("searchRoles", {}),
        ("searchUsersByCredentials", {"strategy": "local"}),
        ("scrollUsers", {"scrollId": "x"}),
        ("scrollProfiles", {"scrollId": "x"}),
        ("getUserMapping", {}),
        ("updateUserMapping", {"body": {}}),
        ("refresh", {"collection": "users"}),
    ]:
        answer = await server.call(transport, f"security:{action}", token=token, **args)
        assert told(answer, "id") == {"id": "security.rights.forbidden"}, action
