"""Mappings of users, profiles and roles, and what they do to searches
(docs/api/security.md#searches, #mappings)."""

import pytest

from server.auth.search.mappings import MOST_BYTES, MOST_FIELDS, MOST_LEVELS
from server.storage.sqlite.storage import SqliteStorage
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running

KEYWORD = {"type": "keyword"}
INFO = {
    "properties": {
        "author": KEYWORD,
        "createdAt": {"type": "date"},
        "updater": KEYWORD,
        "updatedAt": {"type": "date"},
    }
}
RESTRICTIONS = {"type": "nested", "properties": {"index": KEYWORD, "collections": KEYWORD}}
DEFAULTS = {
    "User": {"profileIds": KEYWORD},
    "Profile": {
        "tags": KEYWORD,
        "policies": {"properties": {"roleId": KEYWORD, "restrictedTo": RESTRICTIONS}},
    },
    "Role": {"tags": KEYWORD},
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", DEFAULTS)
async def test_mappings_are_kept(server: Running, transport: str, kind: str) -> None:
    """docs/api/security.md#searches, #mappings: the defaults, then what was added, with
    `_kuzzle_info` in the answer to a change alone."""
    admin = await server.create_admin()
    get, update = f"security:get{kind}Mapping", f"security:update{kind}Mapping"
    answer = await server.call(transport, get, token=admin)
    assert answer["result"] == {"mapping": DEFAULTS[kind]}
    body = {"properties": {"name": {"type": "text"}, "address": {"properties": {"zip": KEYWORD}}}}
    answer = await server.call(transport, update, token=admin, body=body)
    expected = DEFAULTS[kind] | body["properties"]
    assert answer["result"] == {"dynamic": "false", "properties": expected | {"_kuzzle_info": INFO}}
    body = {
        "dynamic": "strict",
        "_meta": {"by": "us"},
        "dynamic_templates": [],
        "properties": {"address": {"properties": {"city": KEYWORD}}, "name": {"type": "text"}},
    }
    answer = await server.call(transport, update, token=admin, body=body)
    expected["address"] = {"properties": {"zip": KEYWORD, "city": KEYWORD}}
    assert answer["result"] == {
        "_meta": {"by": "us"},
        "dynamic": "strict",
        "properties": expected | {"_kuzzle_info": INFO},
    }
    for other, default in DEFAULTS.items():
        answer = await server.call(transport, f"security:get{other}Mapping", token=admin)
        assert answer["result"] == {"mapping": expected if other == kind else default}


DEEP: dict[str, object] = {"type": "keyword"}
for _ in range(MOST_LEVELS):
    DEEP = {"properties": {"a": DEEP}}
BAD = [
    ({"mappings": {}}, "invalid_mapping"),
    ({"properties": []}, "invalid_mapping"),
    ({"_meta": "x"}, "invalid_mapping"),
    ({"dynamic_templates": {}}, "invalid_mapping"),
    ({"dynamic": "perhaps"}, "invalid_mapping"),
    ({"dynamic": None}, "invalid_mapping"),
    ({"dynamic": 1}, "invalid_mapping"),
    ({"dynamic": ["true"]}, "invalid_mapping"),
    ({"properties": {"a": "keyword"}}, "wrong_mapping_property"),
    ({"properties": {"a": {}}}, "wrong_mapping_property"),
    ({"properties": {"": {"type": "keyword"}}}, "wrong_mapping_property"),
    ({"properties": {"a": {"properties": []}}}, "wrong_mapping_property"),
    ({"properties": {"a": {"type": "colour"}}}, "invalid_mapping_type"),
    ({"properties": {"a": {"type": ["text"]}}}, "invalid_mapping_type"),
    ({"properties": {"profileIds": {"type": "text"}}}, "cannot_change_mapping"),
    ({"properties": {"profileIds": {"properties": {"a": KEYWORD}}}}, "cannot_change_mapping"),
    (
        {"properties": {"_kuzzle_info": {"properties": {"author": {"type": "text"}}}}},
        "cannot_change_mapping",
    ),
    ({"properties": {f"f{at}": KEYWORD for at in range(MOST_FIELDS)}}, "invalid_mapping"),
    ({"_meta": {"a": "x" * MOST_BYTES}}, "invalid_mapping"),
    ({"properties": {"a": DEEP}}, "invalid_mapping"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bad_mappings(server: Running, transport: str) -> None:
    """docs/api/security.md#mappings, "Mapping errors", docs/api/errors.md; nothing is changed."""
    admin = await server.create_admin()
    update = "security:updateUserMapping"
    for body, name in BAD:
        answer = await server.call(transport, update, token=admin, body=body)
        told_as = {"id": f"services.storage.{name}", "status": 400}
        assert told(answer, "id", "status") == told_as, str(body)[:80]
    answer = await server.call(transport, update, token=admin)
    assert told(answer, "id") == {"id": "api.assert.body_required"}
    answer = await server.call(transport, "security:getUserMapping", token=admin)
    assert answer["result"] == {"mapping": DEFAULTS["User"]}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_dynamic_may_be_a_boolean(server: Running, transport: str) -> None:
    """docs/api/security.md#mappings: booleans become text."""
    admin = await server.create_admin()
    for given, kept in ((True, "true"), (False, "false")):
        body = {"dynamic": given}
        answer = await server.call(transport, "security:updateUserMapping", token=admin, body=body)
        assert answer["result"]["dynamic"] == kept


async def make_user(server: Running, admin: str, kuid: str, **content: object) -> None:
    """Make a user without credentials."""
    body = {"content": {"profileIds": ["default"], **content}}
    answer = await server.call("query", "security:createUser", token=admin, body=body, _id=kuid)
    assert answer["status"] == 200, answer


async def found(server: Running, transport: str, admin: str, query: object) -> list[str]:
    """Search users and give their ids."""
    body = {"query": query}
    answer = await server.call(transport, "security:searchUsers", token=admin, body=body)
    assert answer["status"] == 200, answer
    return [hit["_id"] for hit in answer["result"]["hits"]]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_texts_are_searched_by_word(server: Running, transport: str) -> None:
    """docs/api/security.md#searches: a keyword is compared as a whole, a text by its words;
    `query_string` and
    `multi_match` look into the fields of the mapping."""
    admin = await server.create_admin()
    await make_user(server, admin, "ann", bio="Likes long walks", nick="Likes")
    by_word = {"match": {"bio": "WALKS"}}
    assert await found(server, transport, admin, by_word) == []
    assert await found(server, transport, admin, {"match": {"bio": "Likes long walks"}}) == ["ann"]
    body = {"properties": {"bio": {"type": "text"}, "nick": {"type": "keyword"}}}
    await server.call(transport, "security:updateUserMapping", token=admin, body=body)
    assert await found(server, transport, admin, by_word) == ["ann"]
    for query, expected in [
        ({"match_phrase_prefix": {"bio": "long wal"}}, ["ann"]),
        ({"match": {"nick": "likes"}}, []),
        ({"query_string": {"query": "walks"}}, ["ann"]),
        ({"query_string": {"query": "nick:walks"}}, []),
        ({"multi_match": {"query": "Likes", "fields": ["ni*"]}}, ["ann"]),
        ({"multi_match": {"query": "walk", "type": "phrase_prefix"}}, ["ann"]),
    ]:
        assert await found(server, transport, admin, query) == expected, query


async def indexed(server: Running) -> None:
    """Wait until the index is there."""
    storage = server.app.services.storage
    inner = getattr(storage, "_storage", storage)
    assert isinstance(inner, SqliteStorage)
    if inner.indexing is not None:
        await inner.indexing


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_index_changes_no_answer(server: Running, transport: str) -> None:
    """docs/architecture.md: fields of users that a mapping names are found fast, and found the
    same."""
    admin = await server.create_admin()
    await make_user(server, admin, "ann", age=31, tags=["a", "b"], home={"zip": "1"})
    queries = [
        ({"range": {"age": {"gte": 30}}}, ["ann", "bob"]),
        ({"term": {"tags": "b"}}, ["ann"]),
        ({"terms": {"home.zip": ["1", "2"]}}, ["ann", "bob"]),
        ({"bool": {"must": [{"term": {"age": 31}}, {"term": {"tags": "a"}}]}}, ["ann"]),
    ]
    body = {
        "properties": {
            "age": {"type": "integer"},
            "tags": KEYWORD,
            "home": {"properties": {"zip": KEYWORD}},
        }
    }
    await server.call(transport, "security:updateUserMapping", token=admin, body=body)
    await indexed(server)
    await make_user(server, admin, "bob", age=31, home=[{"zip": "2"}])
    for query, expected in queries:
        assert await found(server, transport, admin, query) == expected, query
    await server.call(transport, "security:deleteUser", token=admin, _id="bob")
    for query, _ in queries:
        assert await found(server, transport, admin, query) == ["ann"], query


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refresh(server: Running, transport: str) -> None:
    """docs/api/security.md#mappings: null for the three collections, otherwise 400."""
    admin = await server.create_admin()
    call = {"token": admin}
    for name in ("users", "profiles", "roles"):
        answer = await server.call(transport, "security:refresh", collection=name, **call)
        assert (answer["status"], answer["result"]) == (200, None)
    answer = await server.call(transport, "security:refresh", collection="keys", **call)
    assert told(answer, "id", "status", "props") == {
        "id": "api.assert.unexpected_argument",
        "status": 400,
        "props": ["keys", ["users", "profiles", "roles"]],
    }
    if transport != "http":
        answer = await server.call(transport, "security:refresh", **call)
        assert told(answer, "id") == {"id": "api.assert.missing_argument"}
