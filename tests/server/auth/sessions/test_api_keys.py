"""API keys over every transport (docs/api/auth.md#api-keys,
docs/api/security.md#credential-actions), and how they are stored."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import jwt
import pytest

from protocol.errors import ApiError
from server.auth.identity.user import User
from server.auth.search.parser import parse_query
from server.auth.search.terms import MOST_PARTS
from server.auth.sessions.api_keys import MOST_DESCRIPTION_CHARACTERS, MOST_KEYS, ApiKeys
from server.auth.sessions.keyring import Signing, open_keyring
from server.storage.base import Entry, EventKind, Insert, Put
from server.storage.query import Everything
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running, cheap_config, running
from tests.support.step_up import make_step_up, operator_as

INVALID = {"id": "security.token.invalid", "code": 117506049, "status": 401}
FORBIDDEN = {"id": "security.rights.forbidden", "code": 117637122, "status": 403}
NOT_FOUND = {"id": "services.storage.not_found", "code": 16842763, "status": 404}
TAKEN = {"id": "services.storage.document_already_exists", "code": 16842769, "status": 400}
UNKNOWN_USER = {"id": "security.user.not_found", "status": 404}
NOW_MS = 1_700_000_000_500


async def make_key(
    server: Running, token: str, description: str = "for tests", **args: object
) -> dict:
    """Make a key of the caller's and give the result."""
    body = {"description": description}
    answer = await server.call("query", "auth:createApiKey", token=token, body=body, **args)
    assert answer["status"] == 200, answer
    return answer["result"]


async def ids_found(
    server: Running, transport: str, token: str, query: object = None, **args: object
) -> list[str]:
    """Search the caller's keys and give the ids of what is found."""
    answer = await server.call(transport, "auth:searchApiKeys", token=token, body=query, **args)
    assert answer["status"] == 200, answer
    hits = answer["result"]["hits"]
    assert answer["result"]["total"] == len(hits)
    return [hit["_id"] for hit in hits]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_key_is_shown_with_its_token_once(server: Running, transport: str) -> None:
    """docs/api/auth.md#token-format, #api-keys createApiKey; T11: the fingerprint is the SHA-256 of
    the whole text."""
    token = await server.create_admin()
    body = {"description": "nightly"}
    answer = await server.call(transport, "auth:createApiKey", token=token, body=body)
    result = answer["result"]
    assert list(result) == ["_id", "_source"]
    assert len(result["_id"]) == 36
    source = result["_source"]
    assert list(source) == [
        "description",
        "expiresAt",
        "fingerprint",
        "ttl",
        "userId",
        "_kuzzle_info",
        "token",
    ]
    assert (source["description"], source["userId"]) == ("nightly", "admin")
    assert (source["expiresAt"], source["ttl"]) == (-1, -1)
    assert source["fingerprint"] == hashlib.sha256(source["token"].encode()).hexdigest()
    info = source["_kuzzle_info"]
    assert list(info) == ["author", "createdAt", "updatedAt", "updater"]
    assert (info["author"], info["updatedAt"], info["updater"]) == ("admin", None, None)
    assert source["token"].startswith("kapikey-eyJ")
    claims = jwt.decode(
        source["token"].removeprefix("kapikey-"), options={"verify_signature": False}
    )
    assert list(claims) == ["_id", "iat", "jti"]
    assert claims["_id"] == "admin"
    found = await server.call(transport, "auth:searchApiKeys", token=token)
    del source["_kuzzle_info"], source["token"]
    assert found["result"] == {"hits": [{"_id": result["_id"], "_source": source}], "total": 1}


async def test_answers_that_hold_a_key_are_not_cached(server: Running) -> None:
    """docs/api/differences.md#status-401; security check H4."""
    token = await server.create_admin()
    http = await server.connect()
    for path in ("/api-keys/_create", "/users/admin/api-keys/_create"):
        answer = await http.ask("POST", path, {"description": "x"}, token=token)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"


LIFETIMES = [
    ("http", "2h", 7_200_000),
    ("http", "10000", 10_000),
    ("http", "-1", -1),
    ("http", "", -1),
    ("websocket", 0, -1),
    ("websocket", None, -1),
    ("websocket", "", -1),
    ("websocket", -1, -1),
    ("websocket", 10_000, 10_000),
    ("query", "1y", 31_557_600_000),
]


@pytest.mark.parametrize(("transport", "written", "ttl_ms"), LIFETIMES)
async def test_lifetimes(server: Running, transport: str, written: object, ttl_ms: int) -> None:
    """docs/api/auth.md#expiresin, docs/api/security.md#credential-actions: without end by default,
    for 0 and for ""."""
    token = await server.create_admin()
    answer = await server.call(
        transport,
        "security:createApiKey",
        token=token,
        body={"description": "x"},
        expiresIn=written,
        userId="admin",
    )
    source = answer["result"]["_source"]
    assert source["ttl"] == ttl_ms
    created_at = source["_kuzzle_info"]["createdAt"]
    assert source["expiresAt"] == (-1 if ttl_ms == -1 else created_at + ttl_ms)


async def test_the_longest_lifetime_is_for_ones_own_keys() -> None:
    """docs/api/auth.md#maximum-lifetime: `security.apiKey.maxTTL` never limits
    `security:createApiKey`."""
    config = cheap_config()
    limit = replace(config.security.api_key, max_ttl_ms=60_000)
    config = replace(config, security=replace(config.security, api_key=limit))
    async with running(config) as server:
        token = await server.create_admin()
        for transport in TRANSPORTS:
            for written, status in (("60s", 200), ("60001", 400), ("-1", 400), (None, 400)):
                asked = {"token": token, "body": {"description": "x"}, "expiresIn": written}
                own = await server.call(transport, "auth:createApiKey", **asked)
                assert own["status"] == status, written
                other = await server.call(
                    transport, "security:createApiKey", userId="admin", **asked
                )
                assert other["status"] == 200, written
            assert told(own) == {
                "id": "security.token.ttl_exceeded",
                "code": 117506052,
                "status": 400,
            }


REFUSED = [
    (None, {}, {"id": "api.assert.body_required", "status": 400, "props": []}),
    (
        {},
        {},
        {"id": "api.assert.missing_argument", "status": 400, "props": ["body.description"]},
    ),
    (
        {"description": 5},
        {},
        {"id": "api.assert.invalid_type", "status": 400, "props": ["body.description", "string"]},
    ),
    (
        {"description": None},
        {},
        {"id": "api.assert.invalid_type", "status": 400, "props": ["body.description", "string"]},
    ),
    (
        {"description": "x" * (MOST_DESCRIPTION_CHARACTERS + 1)},
        {},
        {
            "id": "api.assert.invalid_argument",
            "status": 400,
            "props": ["body.description", "at most 4096 characters"],
        },
    ),
    (
        {"description": "x"},
        {"_id": "a\x00b"},
        {
            "id": "api.assert.invalid_argument",
            "status": 400,
            "props": ["_id", "a string of at most 512 bytes without control characters"],
        },
    ),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("body", "args", "refused"), REFUSED)
async def test_what_no_key_can_be_made_of(
    server: Running, transport: str, body: object, args: dict, refused: dict
) -> None:
    """docs/api/auth.md#api-keys, failures of createApiKey; docs/api/security.md#credential-actions:
    as for one's own."""
    args = args | {"token": await server.create_admin(), "userId": "admin"}
    answer = await server.call(transport, "security:createApiKey", body=body, **args)
    assert told(answer, "id", "status", "props") == refused
    assert await ids_found(server, transport, args["token"]) == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ids_are_chosen_and_taken(server: Running, transport: str) -> None:
    """docs/api/auth.md#api-keys: an existing `_id`, whoever has it."""
    token = await server.create_admin()
    other = await server.create_user(token, "ann", "admin")
    for number, (caller, expected) in enumerate([(token, 200), (token, 400), (other, 400)]):
        answer = await server.call(
            transport,
            "auth:createApiKey",
            token=caller,
            _id="build",
            refresh="false",
            body={"description": str(number)},
        )
        assert answer["status"] == expected
    assert told(answer) == TAKEN
    answer = await server.call(transport, "auth:searchApiKeys", token=token)
    assert [hit["_id"] for hit in answer["result"]["hits"]] == ["build"]
    assert answer["result"]["hits"][0]["_source"]["description"] == "0"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_key_works_until_it_is_deleted(server: Running, transport: str) -> None:
    """docs/api/auth.md#verification, §5 deleteApiKey; security check S1 for keys."""
    token = await server.create_admin()
    made = await make_key(server, token)
    key = made["_source"]["token"]
    for again in TRANSPORTS:
        answer = await server.call(again, "auth:getCurrentUser", token=key)
        assert answer["result"]["_id"] == "admin"
    answer = await server.call(
        transport, "auth:deleteApiKey", token=key, _id=made["_id"], refresh="wait_for"
    )
    assert answer["result"] == {"_id": made["_id"]}
    for again in TRANSPORTS:
        assert told(await server.call(again, "auth:getCurrentUser", token=key)) == INVALID
        alive = await server.call(again, "auth:getCurrentUser", token=token)
        assert alive["status"] == 200
    answer = await server.call(transport, "auth:deleteApiKey", token=token, _id=made["_id"])
    assert told(answer) == NOT_FOUND


async def test_all_keys_of_a_user_work(server: Running) -> None:
    """docs/api/auth.md#verification: not just the first ten; two made at once are not the same
    (§1.1)."""
    token = await server.create_admin()
    made = [await make_key(server, token) for _ in range(12)]
    keys = {one["_source"]["token"] for one in made}
    assert len(keys) == 12
    for key in keys:
        answer = await server.call("websocket", "auth:getCurrentUser", token=key)
        assert answer["status"] == 200


async def test_expired_keys_work_no_more_and_stay_listed(server: Running) -> None:
    """docs/api/auth.md#api-keys; security check T4."""
    token = await server.create_admin()
    made = await make_key(server, token, expiresIn="1h", _id="old")
    row = await server.app.services.storage.get(Table.API_KEYS, id="old")
    assert row is not None
    ended = Put(Table.API_KEYS, {**row, "expires_at": server.app.services.clock_ms()})
    await server.app.services.storage.apply([ended])
    answer = await server.call("http", "auth:getCurrentUser", token=made["_source"]["token"])
    assert told(answer) == INVALID
    assert await ids_found(server, "http", token) == ["old"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_other_users_keys_are_not_there(server: Running, transport: str) -> None:
    """docs/api/auth.md#api-keys: delete of somebody else's key is 404, search never shows it."""
    admin = await server.create_admin()
    await make_key(server, admin, _id="his")
    other = await server.create_user(admin, "ann", "admin")
    await make_key(server, other, _id="hers")
    assert await ids_found(server, transport, other) == ["hers"]
    everything = {"bool": {"should": [{"match_all": {}}, {"term": {"userId": "admin"}}]}}
    assert await ids_found(server, transport, other, everything) == ["hers"]
    for key_id in ("his", "nobodys", "x" * 600):
        answer = await server.call(transport, "auth:deleteApiKey", token=other, _id=key_id)
        assert told(answer) == NOT_FOUND
        assert answer["error"]["props"] == [key_id]
    assert await ids_found(server, transport, admin) == ["his"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_deleting_needs_an_id(server: Running, transport: str) -> None:
    """docs/api/transport.md#arguments `_id`."""
    if transport == "http":
        return  # the route has no path without one
    args = {"token": await server.create_admin(), "userId": "admin"}
    answer = await server.call(transport, "security:deleteApiKey", **args)
    assert told(answer, "id", "props") == {"id": "api.assert.missing_argument", "props": ["_id"]}
    answer = await server.call(transport, "security:deleteApiKey", _id=5, **args)
    assert told(answer, "id", "props") == {
        "id": "api.assert.invalid_type",
        "props": ["_id", "string"],
    }


SEARCHES = [
    (None, "elasticsearch", ["backup", "deploy", "report"]),
    ({}, "elasticsearch", ["backup", "deploy", "report"]),
    ({"match_all": {}}, "elasticsearch", ["backup", "deploy", "report"]),
    ({"ids": {"values": ["deploy"]}}, "elasticsearch", ["deploy"]),
    ({"match": {"description": "NIGHTLY job"}}, "elasticsearch", ["backup", "report"]),
    ({"term": {"ttl": "3600000"}}, "elasticsearch", ["report"]),
    ({"term": {"userId": "admin"}}, "elasticsearch", ["backup", "deploy", "report"]),
    ({"bool": {"must_not": {"term": {"ttl": -1}}}}, "elasticsearch", ["report"]),
    ({"range": {"expiresAt": {"gt": 0}}}, "elasticsearch", ["report"]),
    ({"terms": {"_id": ["backup", "report"]}}, "elasticsearch", ["backup", "report"]),
    ({"prefix": {"_id": "de"}}, "elasticsearch", ["deploy"]),
    ({"term": {"token": "x"}}, "elasticsearch", []),
    ({"exists": "description"}, "koncorde", ["backup", "deploy", "report"]),
    ({"equals": {"ttl": -1}}, "koncorde", ["backup", "deploy"]),
    ({"not": {"in": {"_id": ["backup"]}}}, "koncorde", ["deploy", "report"]),
    ({"or": [{"equals": {"_id": "deploy"}}, {"missing": "ttl"}]}, "koncorde", ["deploy"]),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_searches(server: Running, transport: str) -> None:
    """docs/api/auth.md#api-keys searchApiKeys: the body is the query itself; both languages."""
    token = await server.create_admin()
    made = [
        await make_key(server, token, "nightly backup", _id="backup"),
        await make_key(server, token, "deployments", _id="deploy"),
        await make_key(server, token, "nightly report", _id="report", expiresIn="1h"),
    ]
    for query, lang, expected in SEARCHES:
        found = await ids_found(server, transport, token, query, lang=lang)
        assert sorted(found) == expected, query
        answer = await server.call(
            transport, "security:searchApiKeys", token=token, body=query, lang=lang, userId="admin"
        )
        assert sorted(hit["_id"] for hit in answer["result"]["hits"]) == expected, query
    query = {"term": {"fingerprint": made[1]["_source"]["fingerprint"]}}
    assert await ids_found(server, transport, token, query) == ["deploy"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_pages(server: Running, transport: str) -> None:
    """docs/api/auth.md#api-keys: from 0, size 10; `total` is the number of hits of the page."""
    token = await server.create_admin()
    for number in range(12):
        await make_key(server, token, _id=f"k{number:02}")
    everyone = [f"k{number:02}" for number in range(12)]
    query = {"exists": {"field": "ttl"}}
    for asked in (None, query):
        assert len(await ids_found(server, transport, token, asked)) == 10
        assert len(await ids_found(server, transport, token, asked, size=0)) == 0
        pages = [
            await ids_found(server, transport, token, asked, **{"from": start, "size": 5})
            for start in (0, 5, 10, 15)
        ]
        assert [len(page) for page in pages] == [5, 5, 2, 0]
        assert sorted(sum(pages, [])) == everyone


BAD_SEARCHES = [
    ({"query": {}}, {}, "services.storage.unknown_query_keyword"),
    ({"regexp": {"description": "(a+)+"}}, {}, "services.storage.unexpected_bad_request"),
    ({"equals": {"ttl": -1}}, {}, "services.storage.unknown_query_keyword"),
    ({"term": "x"}, {}, "services.storage.unexpected_bad_request"),
    ({"bool": {}}, {"lang": "koncorde"}, "api.assert.koncorde_restricted_keyword"),
    ({}, {"lang": "sql"}, "api.assert.invalid_argument"),
    ({}, {"from": -1}, "api.assert.invalid_argument"),
    ({}, {"size": -1}, "api.assert.invalid_argument"),
    ({}, {"size": "many"}, "api.assert.invalid_type"),
    ([{}], {}, "api.assert.invalid_type"),
    ({"terms": {"ttl": list(range(MOST_PARTS))}}, {}, "api.assert.too_many_arguments"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bad_searches(server: Running, transport: str) -> None:
    """docs/api/security.md#searches, docs/api/transport.md#arguments;
    docs/api/differences.md#wrong-types: 400 with an id."""
    token = await server.create_admin()
    for query, args, error_id in BAD_SEARCHES:
        for name, more in (("auth", {}), ("security", {"userId": "admin"})):
            full_name = f"{name}:searchApiKeys"
            answer = await server.call(
                transport, full_name, token=token, body=query, **args, **more
            )
            assert told(answer, "id", "status") == {"id": error_id, "status": 400}, query


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_administrator_keeps_others_keys(server: Running, transport: str) -> None:
    """docs/api/security.md#credential-actions, API keys of a user: author is the caller, unknown
    users are 404."""
    admin = await server.create_admin()
    await server.create_user(admin, "ann")
    args = {"token": admin, "userId": "ann"}
    body = {"description": "given"}
    answer = await server.call(
        transport, "security:createApiKey", body=body, _id="given", expiresIn="2h", **args
    )
    source = answer["result"]["_source"]
    assert (answer["result"]["_id"], source["userId"], source["ttl"]) == ("given", "ann", 7_200_000)
    assert source["_kuzzle_info"]["author"] == "admin"
    me = await server.call(transport, "auth:getCurrentUser", token=source["token"])
    assert me["result"]["_id"] == "ann"
    found = await server.call(transport, "security:searchApiKeys", **args)
    assert [hit["_id"] for hit in found["result"]["hits"]] == ["given"]
    assert found["result"]["total"] == 1
    assert await ids_found(server, transport, admin) == []
    mistaken = await server.call(
        transport, "security:deleteApiKey", token=admin, userId="admin", _id="given"
    )
    assert told(mistaken) == NOT_FOUND
    ended = await server.call(transport, "security:deleteApiKey", _id="given", **args)
    assert ended["result"] == {"_id": "given"}
    me = await server.call(transport, "auth:getCurrentUser", token=source["token"])
    assert told(me) == INVALID


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_keys_of_unknown_users(server: Running, transport: str) -> None:
    """docs/api/security.md#credential-actions: 404 at creation."""
    token = await server.create_admin()
    args = {"token": token, "userId": "nobody"}
    body = {"description": "x"}
    answer = await server.call(transport, "security:createApiKey", body=body, **args)
    assert told(answer, "id", "status") == UNKNOWN_USER
    answer = await server.call(transport, "security:searchApiKeys", **args)
    assert answer["result"] == {"hits": [], "total": 0}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_keys_are_not_for_everybody(server: Running, transport: str) -> None:
    """docs/api/security.md#default-rights: not among the rights of the default role, nor of
    anonymous."""
    user = await server.create_user(await server.create_admin(), "ann")
    for verb in ("createApiKey", "searchApiKeys", "deleteApiKey"):
        args = {"userId": "ann"} | ({"_id": "x"} if verb == "deleteApiKey" else {})
        full_name = f"security:{verb}"
        answer = await server.call(transport, full_name, token=user, **args)
        assert told(answer) == FORBIDDEN, full_name
        answer = await server.call(transport, full_name, **args)
        assert told(answer, "id") == {"id": "security.rights.unauthorized"}, full_name


async def test_keys_end_with_their_user(server: Running) -> None:
    """docs/api/auth.md#revocation; security check S2."""
    admin = await server.create_admin()
    key = (await make_key(server, await server.create_user(admin, "ann", "admin")))["_source"]
    assert (await server.call("http", "auth:getCurrentUser", token=key["token"]))["status"] == 200
    await server.call("http", "security:deleteUser", token=admin, _id="ann")
    answer = await server.call("http", "auth:getCurrentUser", token=key["token"])
    assert answer["status"] in (401, 404)
    assert answer["error"]["id"] in ("security.token.invalid", "security.user.not_found")


@dataclass
class Bench:
    """API keys on a store, with the journal's entries."""

    storage: SqliteStorage
    keys: ApiKeys
    noted: list[Entry]

    async def add_user(self, kuid: str, *, disabled: int = 0) -> User:
        """Store a user and give him."""
        row = {"kuid": kuid, "profile_ids": [], "content": {}, "info": {}, "disabled": disabled}
        await self.storage.apply([Insert(Table.USERS, row)])
        return User(kuid, ())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """API keys on a store in memory, at a fixed time."""
    clock: Callable[[], int] = lambda: NOW_MS  # noqa: E731
    storage = SqliteStorage(":memory:", clock_ms=clock)
    await storage.open()
    keyring = await open_keyring(storage, Signing(), clock_ms=clock)
    noted: list[Entry] = []
    storage.follow(noted.extend)
    api_keys = ApiKeys(storage, keyring, make_step_up(storage), clock_ms=clock)
    yield Bench(storage, api_keys, noted)
    await storage.close()


async def test_only_the_hash_is_stored(bench: Bench) -> None:
    """Security check T11: nothing of the token is in the store."""
    made = await bench.keys.create(await bench.add_user("ann"), "x", -1, "k", operator_as("boss"))
    token = made["_source"]["token"]
    row = await bench.storage.get(Table.API_KEYS, id="k")
    assert row == {
        "id": "k",
        "token_hash": hashlib.sha256(token.encode()).digest(),
        "kuid": "ann",
        "description": "x",
        "expires_at": None,
        "ttl": -1,
        "info": {"author": "boss", "createdAt": NOW_MS, "updatedAt": None, "updater": None},
        "amr": [],
    }
    secret = token.rpartition(".")[2]
    assert secret not in repr(row)


async def test_deleting_tells_the_journal(bench: Bench) -> None:
    """docs/architecture.md: what others must notice is written in the same transaction."""
    made = await bench.keys.create(await bench.add_user("ann"), "x", -1, "k", operator_as("ann"))
    bench.noted.clear()
    await bench.keys.delete("ann", "k")
    assert [(entry.noted, entry.subject) for entry in bench.noted] == [
        (EventKind.API_KEY, made["_source"]["fingerprint"])
    ]


async def test_of_two_deletions_one_finds_the_key(bench: Bench) -> None:
    """docs/api/auth.md#api-keys: the other one is 404."""
    await bench.keys.create(await bench.add_user("ann"), "x", -1, "k", operator_as("ann"))
    ended = await asyncio.gather(
        bench.keys.delete("ann", "k"), bench.keys.delete("ann", "k"), return_exceptions=True
    )
    refused = [one for one in ended if one is not None]
    assert [one.id for one in refused] == ["services.storage.not_found"]


@pytest.mark.parametrize("disabled", [0, 1])
async def test_no_key_for_a_user_who_is_gone(bench: Bench, disabled: int) -> None:
    """docs/api/security.md#credential-actions, security check S2: checked in the transaction that
    stores the key."""
    user = await bench.add_user("ann", disabled=1) if disabled else User("ann", ())
    with pytest.raises(ApiError) as refused:
        await bench.keys.create(user, "x", -1, None, operator_as("boss"))
    assert refused.value.id == "security.user.not_found"
    assert await bench.storage.count(Table.API_KEYS) == 0


async def test_the_anonymous_user_may_have_keys(bench: Bench) -> None:
    """docs/api/auth.md#api-keys: no check for a user of one's own."""
    made = await bench.keys.create(User("-1", ()), "x", -1, None, operator_as("-1"))
    assert made["_source"]["userId"] == "-1"


async def test_the_number_of_keys_is_bounded(bench: Bench) -> None:
    """CONTRIBUTING.md, limits; other users' keys don't count."""
    ann, bob = await bench.add_user("ann"), await bench.add_user("bob")
    await bench.storage.apply([Insert(Table.API_KEYS, stored_key(at)) for at in range(MOST_KEYS)])
    with pytest.raises(ApiError) as refused:
        await bench.keys.create(ann, "x", -1, None, operator_as("ann"))
    assert refused.value.status == 412
    await bench.keys.create(bob, "x", -1, None, operator_as("bob"))
    await bench.keys.delete("ann", "k7")
    await bench.keys.create(ann, "x", -1, None, operator_as("ann"))


def stored_key(number: int) -> dict[str, object]:
    """Give a row of Ann's, the older the greater its number."""
    return {
        "id": f"k{number}",
        "token_hash": number.to_bytes(32, "big"),
        "kuid": "ann",
        "description": f"number {number}",
        "expires_at": None,
        "ttl": -1,
        "info": {"author": "ann", "createdAt": NOW_MS - number, "updatedAt": None, "updater": None},
        "amr": None,
    }


async def test_the_oldest_come_first(bench: Bench) -> None:
    """Pages stay in order while keys are added."""
    await bench.storage.apply([Insert(Table.API_KEYS, stored_key(at)) for at in range(50)])
    query = parse_query({"term": {"description": "number"}}, lang="elasticsearch")
    assert await bench.keys.search("ann", query, start=0, size=10) == []
    query = parse_query({"exists": {"field": "ttl"}}, lang="elasticsearch")
    for asked in (Everything(), query):
        page = await bench.keys.search("ann", asked, start=3, size=2)
        assert [hit["_id"] for hit in page] == ["k46", "k45"]
