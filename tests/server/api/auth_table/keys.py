"""Rows of createApiKey, searchApiKeys and deleteApiKey."""

from dataclasses import replace
from uuid import UUID

from server.config.security import ApiKey
from tests.server.api.auth_table.errors import (
    ALREADY_EXISTS,
    API_KEY_FORBIDDEN,
    BAD_QUERY,
    BODY_REQUIRED,
    INVALID_ARGUMENT,
    INVALID_TYPE,
    MISSING_ARGUMENT,
    NOT_FOUND,
    QUERY_KEYWORD,
    RESTRICTED_KEYWORD,
    TTL_EXCEEDED,
)
from tests.server.api.auth_table.made import admin, anns_key, expired_key, key
from tests.server.api.auth_table.rows import (
    KEYS_MAY,
    OPEN,
    TEXT,
    TYPED,
    Expected,
    Gives,
    Maker,
    Row,
    Setting,
    Such,
    token_of,
)
from tests.support.clock import START_MS
from tests.support.server import cheap_config

FINGERPRINT = Such(
    "64 hex digits", lambda value: isinstance(value, str) and len(bytes.fromhex(value)) == 32
)
NEW_ID = Such("a random uuid", lambda value: UUID(str(value)).version == 4)
NIGHTLY = {"description": "nightly"}


def shown(key_id: object, ttl_ms: int = -1, user: str = "admin", text: str = "nightly") -> dict:
    """Give a key as searchApiKeys shows it."""
    source = {
        "description": text,
        "expiresAt": -1 if ttl_ms == -1 else START_MS + ttl_ms,
        "fingerprint": FINGERPRINT,
        "ttl": ttl_ms,
        "userId": user,
    }
    return {"_id": key_id, "_source": source}


def made(key_id: object = NEW_ID, ttl_ms: int = -1, user: str = "admin") -> Gives:
    """Give a key as createApiKey shows it, with its token."""
    shows = shown(key_id, ttl_ms, user)
    info = {"author": user, "createdAt": START_MS, "updatedAt": None, "updater": None}
    token = token_of(user, ttl_ms, "kapikey-")
    return Gives({**shows, "_source": {**shows["_source"], "_kuzzle_info": info, "token": token}})


A_MINUTE = Setting(
    cheap_config(security=replace(cheap_config().security, api_key=ApiKey(max_ttl_ms=60_000)))
)
"""One's own keys live for a minute at most."""


def create(line: str, comes: Expected, body: object = NIGHTLY, **row: object) -> Row:
    """Give a row in which the administrator makes a key."""
    given = {"by": admin} | row
    return Row(f"02 §5 createApiKey, {line}", "createApiKey", comes=comes, body=body, **given)


CREATE = [
    create("result", made()),
    create("with an API key, where it may", made(), by=key, on=KEYS_MAY),
    create("with an API key", API_KEY_FORBIDDEN, by=key),
    create("_id", made("build"), args={"_id": "build", "refresh": "false"}),
    create("_id null; 07 §1.1", made(), args={"_id": None}, ways=TYPED),
    create("expiresIn", made(ttl_ms=7_200_000), args={"expiresIn": "2h"}),
    create("no authenticated-only check", made(user="-1"), by=None, on=OPEN),
    create("failures row 1", ALREADY_EXISTS, args={"_id": "his"}, before=(key,)),
    create(
        "failures row 1, whoever has it", ALREADY_EXISTS, args={"_id": "hers"}, before=(anns_key,)
    ),
    create("failures row 2", MISSING_ARGUMENT.of("body.description"), {}),
    create("failures row 2", BODY_REQUIRED, None),
    *(
        create("description is a string", INVALID_TYPE.of("body.description", "string"), body)
        for body in ({"description": 5}, {"description": None}, {"description": ["x"]})
    ),
    create(
        "a description has an end; CONTRIBUTING.md",
        INVALID_ARGUMENT.of("body.description", TEXT),
        {"description": "x" * 4097},
    ),
    create("body", INVALID_TYPE.of("body", "object"), [NIGHTLY]),
    create(
        "_id of another type; 01 §2.1",
        INVALID_TYPE.of("_id", "string"),
        args={"_id": 5},
        ways=TYPED,
    ),
    create("_id with a NUL", INVALID_ARGUMENT.of("_id", TEXT), args={"_id": "a\0b"}),
    create("_id of 600 bytes", INVALID_ARGUMENT.of("_id", TEXT), args={"_id": "x" * 600}),
    create("expiresIn; 02 §1.4", made(ttl_ms=60_000), args={"expiresIn": "60s"}, on=A_MINUTE),
    create("expiresIn; 02 §1.4", TTL_EXCEEDED, args={"expiresIn": "60001"}, on=A_MINUTE),
    create("expiresIn; 02 §1.4", TTL_EXCEEDED, on=A_MINUTE),
]


def found(*hits: object) -> Gives:
    """Give what searchApiKeys comes to; `total` is the number of hits of the page."""
    return Gives({"hits": list(hits), "total": len(hits)})


HIS, OLD = shown("his", text="x"), shown("old", 10_000, text="x")


def search(line: str, comes: Expected, body: object = None, *before: Maker, **row: object) -> Row:
    """Give a row in which the administrator searches his keys."""
    return Row(
        f"02 §5 searchApiKeys, {line}",
        "searchApiKeys",
        admin,
        comes,
        body=body,
        before=before,
        **row,
    )


SEARCH = [
    search("no keys", found()),
    search("no body", found(HIS), None, key),
    search("empty body", found(HIS), {}, key),
    search("nobody else's", found(HIS), {"match_all": {}}, key, anns_key),
    search("expired keys stay listed", found(OLD), None, expired_key),
    search("description", found(HIS), {"match": {"description": "X"}}, key),
    search("ttl", found(OLD), {"term": {"ttl": "10000"}}, key, expired_key),
    search("userId", found(HIS), {"term": {"userId": "admin"}}, key),
    search("userId", found(), {"term": {"userId": "ann"}}, key, anns_key),
    search("expiresAt", found(OLD), {"range": {"expiresAt": {"gt": 0}}}, key, expired_key),
    search("koncorde", found(HIS), {"equals": {"ttl": -1}}, key, args={"lang": "koncorde"}),
    search("size", found(), None, key, args={"size": 0}),
    search("from", found(), None, key, args={"from": 1}),
    search("a query, not {query: …}", QUERY_KEYWORD.of("query"), {"query": {}}),
    search("unknown keyword; 03 §7.7", QUERY_KEYWORD.of("fuzzy"), {"fuzzy": {"description": "x"}}),
    search("malformed; 03 §7.7", BAD_QUERY.of(TEXT), {"term": "x"}),
    search(
        "koncorde keyword; 03 §7.7",
        RESTRICTED_KEYWORD.of(TEXT, "bool"),
        {"bool": {}},
        args={"lang": "koncorde"},
    ),
    search("lang; 01 §2.1", INVALID_ARGUMENT.of("lang", TEXT), args={"lang": "sql"}),
    search("from", INVALID_ARGUMENT.of("from", TEXT), args={"from": -1}),
    search("size", INVALID_ARGUMENT.of("size", TEXT), args={"size": -1}),
    search("size; 01 §2.1", INVALID_TYPE.of("size", "integer"), args={"size": "many"}),
    search("body", INVALID_TYPE.of("body", "object"), [{}]),
]


def delete(line: str, comes: Expected, key_id: object, **row: object) -> Row:
    """Give a row in which the administrator deletes a key."""
    args = {} if key_id is None else {"_id": key_id}
    given = {"by": admin, "args": args} | row
    return Row(f"02 §5 deleteApiKey, {line}", "deleteApiKey", comes=comes, **given)


DELETED = Gives({"_id": "his"})

DELETE = [
    delete("result", DELETED, "his", ends=(key,), lives=(admin,)),
    delete("refresh", DELETED, "his", ends=(key,), args={"_id": "his", "refresh": "wait_for"}),
    delete("with the key itself", DELETED, "his", by=key, ends=(key,)),
    delete("failures row 3, unknown", NOT_FOUND.of("nobodys"), "nobodys"),
    delete("failures row 3, someone else's", NOT_FOUND.of("hers"), "hers", lives=(anns_key,)),
    delete("_id required; 01 §2.1", MISSING_ARGUMENT.of("_id"), None, ways=TYPED),
    delete("_id required; 01 §2.1", MISSING_ARGUMENT.of("_id"), "", ways=TYPED),
    delete("_id of another type; 01 §2.1", INVALID_TYPE.of("_id", "string"), 5, ways=TYPED),
]
ROWS = [*CREATE, *SEARCH, *DELETE]
