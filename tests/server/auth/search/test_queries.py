"""Searches in both languages: what they find, what they refuse, how large they may be
(docs/api/security.md#searches)."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ApiError
from server.auth.search.clauses import Fields
from server.auth.search.parser import parse_query
from server.auth.search.patterns import read_expressions
from server.auth.search.terms import (
    MOST_CHARACTERS,
    MOST_LEAVES,
    MOST_LEVELS,
    MOST_NAMES,
    MOST_PARTS,
    MOST_PATTERN_WEIGHT,
    MOST_PATTERNS,
)
from server.core.limit_counters import Limit
from server.storage.automata import MOST_ITEMS
from server.storage.query import (
    AllOf,
    Everything,
    Has,
    Holds,
    InRange,
    InWords,
    IsIn,
    Not,
    Query,
    SomeOf,
)
from tests.support.search_model import matches

SEARCHED = Fields(frozenset({"description"}), ("_id", "userId", "description"))
KEY = {
    "_id": "k1",
    "userId": "kuid-ann",
    "ttl": -1,
    "description": "My nightly Backup key",
    "expiresAt": 1_700_000_000_000,
    "fingerprint": "ab" * 32,
}
USER = {
    "_id": "u1",
    "profileIds": ["default", "editor"],
    "name": {"first": "Ann", "last": None},
    "places": [{"town": "İzmir"}, {"town": "Oslo"}],
    "tags": [],
    "is_new": True,
    "score": 1.0,
}


def parse(query: object, lang: str = "elasticsearch") -> Query:
    """Read a query as the search of API keys does."""
    return parse_query(query, lang=lang, fields=SEARCHED)


def refusal(query: object, lang: str = "elasticsearch") -> ApiError:
    """Give what a query is refused with."""
    with pytest.raises(ApiError) as refused:
        parse(query, lang)
    return refused.value


FOUND = [
    (None, True),
    ({}, True),
    ({"match_all": {}}, True),
    ({"match_all": {"boost": 2}}, True),
    ({"term": {"userId": "kuid-ann"}}, True),
    ({"term": {"userId": {"value": "kuid-ann", "boost": 1}}}, True),
    ({"term": {"userId": "kuid"}}, False),
    ({"term": {"ttl": -1}}, True),
    ({"term": {"ttl": "-1"}}, True),
    ({"term": {"ttl": -1.0}}, True),
    ({"term": {"ttl": 1}}, False),
    ({"term": {"nowhere": "x"}}, False),
    ({"term": {"_id": "k1"}}, True),
    ({"term": {"fingerprint": "ab" * 32}}, True),
    ({"term": {"description": "backup"}}, True),
    ({"term": {"description": "My nightly Backup key"}}, True),
    ({"term": {"description": "back"}}, False),
    ({"terms": {"_id": ["k0", "k1"]}}, True),
    ({"terms": {"_id": []}}, False),
    ({"terms": {"_id": ["k0"], "boost": 1.5}}, False),
    ({"ids": {"values": ["k1"]}}, True),
    ({"ids": {"values": "k1"}}, True),
    ({"ids": {"values": ["k2"]}}, False),
    ({"match": {"description": "KEY of mine"}}, True),
    ({"match": {"description": "mine"}}, False),
    ({"match": {"description": ""}}, False),
    ({"match": {"description": {"query": "key nightly", "operator": "and"}}}, True),
    ({"match": {"description": {"query": "key daily", "operator": "AND"}}}, False),
    ({"match": {"description": {"query": "key my x", "minimum_should_match": 2}}}, True),
    ({"match": {"description": {"query": "key x y", "minimum_should_match": 2}}}, False),
    ({"match": {"userId": "kuid-ann"}}, True),
    ({"match": {"userId": "kuid-bob"}}, False),
    ({"prefix": {"userId": "kuid-"}}, True),
    ({"prefix": {"userId": {"value": "ann"}}}, False),
    ({"prefix": {"description": "night"}}, True),
    ({"prefix": {"description": "My night"}}, True),
    ({"exists": {"field": "expiresAt"}}, True),
    ({"exists": {"field": "nowhere"}}, False),
    ({"range": {"expiresAt": {"gte": 1_700_000_000_000}}}, True),
    ({"range": {"expiresAt": {"gt": 1_700_000_000_000}}}, False),
    ({"range": {"expiresAt": {"lte": 1_700_000_000_000, "gt": 0}}}, True),
    ({"range": {"expiresAt": {"lt": 1_700_000_000_000}}}, False),
    ({"range": {"expiresAt": {"lt": "1700000000001"}}}, True),
    ({"range": {"expiresAt": {"lt": "now"}}}, False),
    ({"range": {"expiresAt": {}}}, True),
    ({"range": {"userId": {"gte": "kuid-a", "lt": "kuid-b"}}}, True),
    ({"range": {"userId": {"lt": 5}}}, False),
    ({"range": {"nowhere": {"gte": 0}}}, False),
    ({"match_phrase": {"description": "nightly backup"}}, True),
    ({"match_phrase": {"description": {"query": "backup nightly"}}}, False),
    ({"match_phrase": {"userId": "kuid-ann"}}, True),
    ({"match_phrase_prefix": {"description": "NIGHTLY back"}}, True),
    ({"match_phrase_prefix": {"description": "night back"}}, False),
    ({"match_phrase_prefix": {"userId": {"query": "kuid-"}}}, True),
    ({"wildcard": {"userId": "kuid-*"}}, True),
    ({"wildcard": {"userId": {"value": "*-ann"}}}, True),
    ({"wildcard": {"userId": {"wildcard": "*d-a*"}}}, True),
    ({"wildcard": {"userId": "k?id*n"}}, True),
    ({"wildcard": {"userId": "k?d*n"}}, False),
    ({"wildcard": {"userId": "kuid"}}, False),
    ({"wildcard": {"userId": "kuid-an\\*"}}, False),
    ({"wildcard": {"description": "back*p"}}, True),
    ({"regexp": {"userId": "kuid-[a-n]+"}}, True),
    ({"regexp": {"userId": {"value": "kuid-...", "flags": "NONE"}}}, True),
    ({"regexp": {"userId": "kuid-b.*|kuid-a.*"}}, True),
    ({"regexp": {"userId": "uid"}}, False),
    ({"regexp": {"userId": "k[^i]?id\\-a?n+"}}, True),
    ({"regexp": {"description": "night.*"}}, True),
    ({"multi_match": {"query": "kuid-ann", "fields": ["_id", "userId^3"]}}, True),
    ({"multi_match": {"query": "backup mine", "fields": ["desc*"]}}, True),
    ({"multi_match": {"query": "backup mine", "fields": ["desc*"], "operator": "and"}}, False),
    ({"multi_match": {"query": "night", "type": "phrase_prefix"}}, True),
    ({"multi_match": {"query": "kuid-a", "fields": ["userId"], "type": "phrase_prefix"}}, True),
    ({"multi_match": {"query": "kuid-a", "fields": ["userId"]}}, False),
    ({"multi_match": {"query": "k1"}}, True),
    ({"multi_match": {"query": "k1", "fields": []}}, False),
    ({"query_string": {"query": "backup"}}, True),
    ({"query_string": {"query": "mine"}}, False),
    ({"query_string": {"query": "mine OR backup"}}, True),
    ({"query_string": {"query": "mine backup", "default_operator": "AND"}}, False),
    ({"query_string": {"query": "userId:kuid-* AND NOT ttl:5"}}, True),
    ({"query_string": {"query": "userId:kuid-* -ttl:\\-1"}}, False),
    ({"query_string": {"query": "userId:kuid-* -description:nightly"}}, False),
    ({"query_string": {"query": '+description:"nightly backup" mine'}}, True),
    ({"query_string": {"query": "nowhere:*"}}, False),
    ({"query_string": {"query": "*", "default_field": "nowhere"}}, True),
    ({"query_string": {"query": ""}}, True),
    ({"bool": {}}, True),
    ({"bool": {"must": [{"term": {"_id": "k1"}}, {"term": {"ttl": -1}}]}}, True),
    ({"bool": {"must": [{"term": {"_id": "k1"}}, {"term": {"ttl": 0}}]}}, False),
    ({"bool": {"filter": {"term": {"ttl": 0}}}}, False),
    ({"bool": {"must_not": {"term": {"ttl": 0}}}}, True),
    ({"bool": {"must_not": [{"exists": {"field": "ttl"}}]}}, False),
    ({"bool": {"should": [{"term": {"ttl": 0}}, {"term": {"_id": "k1"}}]}}, True),
    ({"bool": {"should": [{"term": {"ttl": 0}}]}}, False),
    ({"bool": {"should": [{"term": {"ttl": 0}}], "must": {"match_all": {}}}}, True),
    ({"bool": {"should": [{"term": {"ttl": 0}}], "filter": [{"match_all": {}}]}}, True),
    (
        {
            "bool": {
                "should": [{"term": {"ttl": 0}}],
                "must": {"match_all": {}},
                "minimum_should_match": 1,
            }
        },
        False,
    ),
]


@pytest.mark.parametrize(("query", "is_found"), FOUND, ids=lambda value: json.dumps(value)[:60])
def test_clauses(query: object, is_found: bool) -> None:
    """docs/api/security.md#searches, docs/api/auth.md#api-keys: `ttl` is found as text,
    `description` by word."""
    assert matches(parse(query), KEY) is is_found


FILTERED = [
    ({}, True),
    ({"equals": {"ttl": -1}}, True),
    ({"equals": {"userId": "kuid-bob"}}, False),
    ({"in": {"_id": ["k1", "k2"]}}, True),
    ({"exists": "description"}, True),
    ({"exists": {"field": "description"}}, True),
    ({"exists": "nowhere"}, False),
    ({"exists": 'userId["kuid-ann"]'}, True),
    ({"exists": "ttl[-1]"}, True),
    ({"exists": "ttl[2]"}, False),
    ({"missing": "nowhere"}, True),
    ({"missing": {"field": "ttl"}}, False),
    ({"ids": {"values": ["k1"]}}, True),
    ({"range": {"expiresAt": {"gte": 0, "lt": 1}}}, False),
    ({"and": [{"equals": {"ttl": -1}}, {"exists": "ttl"}]}, True),
    ({"and": [{"equals": {"ttl": -1}}, {"missing": "ttl"}]}, False),
    ({"and": []}, True),
    ({"or": [{"equals": {"ttl": 0}}, {"exists": "ttl"}]}, True),
    ({"or": [{"equals": {"ttl": 0}}]}, False),
    ({"not": {"equals": {"ttl": 0}}}, True),
    ({"not": {"exists": "ttl"}}, False),
    ({"match": {"description": "nightly"}}, True),
    ({"equals": {"ttl": -1}, "nonsense": 1}, True),
]


@pytest.mark.parametrize(("query", "is_found"), FILTERED, ids=lambda value: json.dumps(value)[:60])
def test_filters_of_koncorde(query: object, is_found: bool) -> None:
    """docs/api/security.md#searches: operators become clauses, other clauses pass, only the first
    member counts."""
    assert matches(parse(query, "koncorde"), KEY) is is_found


IN_DOCUMENTS = [
    ({"term": {"profileIds": "editor"}}, True),
    ({"term": {"profileIds": "default editor"}}, False),
    ({"prefix": {"profileIds": "ed"}}, True),
    ({"term": {"name.first": "Ann"}}, True),
    ({"exists": {"field": "name"}}, True),
    ({"exists": {"field": "places"}}, True),
    ({"exists": {"field": "name.last"}}, False),
    ({"term": {"places.town": "Oslo"}}, True),
    ({"exists": {"field": "tags"}}, False),
    ({"term": {"is_new": True}}, True),
    ({"term": {"is_new": "true"}}, True),
    ({"term": {"is_new": 1}}, False),
    ({"range": {"is_new": {"gte": 0}}}, False),
    ({"term": {"score": 1}}, True),
    ({"range": {"score": {"gt": 0.5}}}, True),
    ({"exists": {"field": "..."}}, False),
]


@pytest.mark.parametrize(("query", "is_found"), IN_DOCUMENTS, ids=str)
def test_documents_with_arrays_and_objects(query: object, is_found: bool) -> None:
    """docs/api/security.md#searches: `profileIds` is an array of keywords, a dot leads into
    objects."""
    assert matches(parse(query), USER) is is_found


SHARES = [
    (1, 3, 1),
    ("2", 3, 2),
    (-1, 3, 2),
    ("-1", 3, 2),
    (-9, 3, 0),
    ("50%", 3, 1),
    ("100%", 3, 3),
    ("-25%", 3, 3),
    ("-25%", 4, 3),
    (0, 3, 0),
]


@pytest.mark.parametrize(("written", "clauses", "least"), SHARES)
def test_minimum_should_match(written: object, clauses: int, least: int) -> None:
    """docs/api/security.md#searches; a share is rounded towards zero, a negative one counts what
    may miss."""
    should = [{"term": {"a": str(number)}} for number in range(clauses)]
    query = parse({"bool": {"should": should, "minimum_should_match": written}})
    for met in range(clauses + 1):
        document = {"a": [str(number) for number in range(met)]}
        assert matches(query, document) is (met >= least)


def test_trees_are_plain() -> None:
    """What a storage backend gets to see: nodes that compare by value."""
    query = {
        "bool": {
            "must": [{"term": {"a": 1}}, {"range": {"b": {"gte": 2}}}],
            "should": [{"prefix": {"description": "x"}}, {"match": {"description": "y Z"}}],
            "must_not": {"exists": {"field": "c"}},
            "filter": {"match_all": {}},
        }
    }
    words = tuple(InWords("description", (word,)) for word in ("y", "z"))
    starts = SomeOf((Holds("description", "x"), InWords("description", ("x",), last_is_start=True)))
    assert parse(query) == AllOf(
        (
            IsIn("a", frozenset({"1"})),
            InRange("b", gte=2),
            Everything(),
            Not(Has("c")),
            SomeOf((starts, SomeOf(words)), 0),
        )
    )


UNKNOWN = ["query", "fuzzy", "nested", "script", "foo", "", "equals", "and"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_clauses(name: str) -> None:
    """docs/api/security.md#searches."""
    for query in ({name: {"a": "(a+)+$"}}, {"bool": {"must": [{name: {}}]}}):
        refused = refusal(query)
        assert (refused.id, refused.status) == ("services.storage.unknown_query_keyword", 400)
        assert refused.props == (name,)


@pytest.mark.parametrize("name", ["foo", "geoDistance"])
def test_unknown_filters(name: str) -> None:
    """docs/api/security.md#searches: passed through, where no clause has that name."""
    refused = refusal({"and": [{name: "description"}]}, "koncorde")
    assert (refused.id, refused.status) == ("services.storage.unknown_query_keyword", 400)


@pytest.mark.parametrize("query", [{"bool": {}}, {"not": {"bool": {"must": []}}}])
def test_bool_is_no_filter(query: object) -> None:
    """docs/api/security.md#searches."""
    refused = refusal(query, "koncorde")
    assert (refused.id, refused.status) == ("api.assert.koncorde_restricted_keyword", 400)
    assert refused.props == ("operator", "bool")


@pytest.mark.parametrize("lang", ["", "sql", "Koncorde"])
def test_other_languages(lang: str) -> None:
    """docs/api/transport.md#arguments."""
    refused = refusal({}, lang)
    assert (refused.id, refused.status) == ("api.assert.invalid_argument", 400)
    assert refused.props is not None
    assert refused.props[0] == "lang"


MALFORMED = [
    [],
    "x",
    {"term": "x"},
    {"term": {}},
    {"term": {"a": 1, "b": 2}},
    {"term": {"a": None}},
    {"term": {"a": []}},
    {"term": {"a": {}}},
    {"term": {"a": {"value": "x", "case_insensitive": True}}},
    {"term": {"a": 1}, "match_all": {}},
    {"terms": {"a": "x"}},
    {"terms": {"a": [[]]}},
    {"terms": {"a": {"index": "users", "id": "1", "path": "x"}}},
    {"ids": []},
    {"ids": {}},
    {"ids": {"values": [None]}},
    {"ids": {"values": ["a"], "type": "x"}},
    {"match": {"description": None}},
    {"match": {"description": {"query": ["x"]}}},
    {"match": {"description": {"query": "x", "fuzziness": 2}}},
    {"match": {"description": {"query": "x", "operator": "xor"}}},
    {"match": {"description": {"query": "x", "minimum_should_match": "2<75%"}}},
    {"match_all": []},
    {"prefix": {"a": None}},
    {"range": {"a": 5}},
    {"range": {"a": {"from": 5}}},
    {"range": {"a": {"gte": True}}},
    {"range": {"a": {"gte": {}}}},
    {"range": {"a": {"gte": 1, "format": "yyyy"}}},
    {"regexp": {"a": "(a+)+$"}},
    {"regexp": {"a": "(a|a)*"}},
    {"regexp": {"a": "a{1,9}"}},
    {"regexp": {"a": "a**"}},
    {"regexp": {"a": "*"}},
    {"regexp": {"a": "[a"}},
    {"regexp": {"a": "[]"}},
    {"regexp": {"a": "a\\"}},
    {"regexp": {"a": "\\d"}},
    {"regexp": {"a": "a" * (MOST_ITEMS + 1)}},
    {"wildcard": {"a": "?" * (MOST_ITEMS + 1)}},
    {"wildcard": {"a": ["*"]}},
    {"multi_match": {"query": "x", "fields": [1]}},
    {"multi_match": {"query": "x", "fields": ["a"], "type": "best"}},
    {"multi_match": {"fields": ["a"]}},
    {"query_string": {"query": 5}},
    {"query_string": {"query": "(a OR b)"}},
    {"query_string": {"query": "a:[1 TO 2]"}},
    {"query_string": {"query": "a AND b OR c"}},
    {"query_string": {"query": '"a'}},
    {"term": {"": 1}},
    {"term": {"a" * 513: 1}},
    {"term": {".".join("a" * (MOST_NAMES + 1)): 1}},
    {"term": {".".join("a" * 200): 1}},
    {"exists": "a"},
    {"exists": {}},
    {"exists": {"field": ""}},
    {"exists": {"field": ["a"]}},
    {"bool": []},
    {"bool": {"musst": []}},
    {"bool": {"must": "x"}},
    {"bool": {"must": [None]}},
    {"bool": {"should": [{}], "minimum_should_match": "all"}},
    {"bool": {"should": [{}], "minimum_should_match": True}},
    {"bool": {"should": [{}], "minimum_should_match": 10**18}},
]


@pytest.mark.parametrize("query", MALFORMED, ids=lambda value: json.dumps(value)[:60])
def test_malformed_queries(query: object) -> None:
    """docs/api/differences.md#wrong-types: 400 with an id, never 500."""
    refused = refusal(query)
    assert (refused.id, refused.status) == ("services.storage.unexpected_bad_request", 400)


BAD_FILTERS = [
    ({"and": {}}, "services.storage.unexpected_bad_request"),
    ({"or": "x"}, "services.storage.unexpected_bad_request"),
    ({"not": []}, "services.storage.unexpected_bad_request"),
    ({"exists": 5}, "services.storage.unexpected_bad_request"),
    ({"exists": "a[{}]"}, "services.storage.unexpected_bad_request"),
    ({"exists": "a[b]"}, "api.assert.koncorde_dsl_error"),
    ({"missing": None}, "services.storage.unexpected_bad_request"),
]


@pytest.mark.parametrize(("query", "error_id"), BAD_FILTERS)
def test_malformed_filters(query: object, error_id: str) -> None:
    """docs/api/differences.md#wrong-types: 400 with an id, never 500."""
    refused = refusal(query, "koncorde")
    assert (refused.id, refused.status) == (error_id, 400)


def nested(levels: int, wrap: str) -> object:
    """Give a query of so many clauses inside of one another."""
    query: object = {"match_all": {}}
    for _ in range(levels - 1):
        query = {"not": query} if wrap == "not" else {"bool": {wrap: [query]}}
    return query


@pytest.mark.parametrize(
    ("wrap", "lang"), [("must", "elasticsearch"), ("should", "elasticsearch"), ("not", "koncorde")]
)
def test_depth_is_bounded(wrap: str, lang: str) -> None:
    """security check T13's spirit: a query can't exhaust the stack."""
    parse(nested(MOST_LEVELS, wrap), lang)
    for levels in (MOST_LEVELS + 1, 5000):
        refused = refusal(nested(levels, wrap), lang)
        assert (refused.id, refused.status) == ("api.assert.invalid_argument", 400)


@pytest.mark.parametrize(
    ("make", "lang"),
    [
        (lambda parts: {"terms": {"a": list(range(parts - 1))}}, "elasticsearch"),
        (lambda parts: {"ids": {"values": ["x"] * (parts - 1)}}, "elasticsearch"),
        (lambda parts: {"bool": {"should": [{}] * (parts - 1)}}, "elasticsearch"),
        (lambda parts: {"or": [{}] * (parts - 1)}, "koncorde"),
        (lambda parts: {"in": {"a": list(range(parts - 1))}}, "koncorde"),
    ],
)
def test_width_is_bounded(make, lang: str) -> None:
    """A query's work is bounded, whatever its body weighs."""
    parse(make(MOST_PARTS), lang)
    refused = refusal(make(MOST_PARTS + 1), lang)
    assert (refused.id, refused.status) == ("api.assert.too_many_arguments", 400)


MEMBERS = "".join(map(chr, range(0x4E00, 0x4E00 + MOST_PATTERN_WEIGHT)))
DOT = [{"regexp": {"a": "."}}]
WIDE = [
    {"bool": {"should": [{"range": {"a": {"gte": "1", "lt": "2"}}}] * (MOST_LEAVES + 1)}},
    {"match": {"description": "x " * (MOST_LEAVES + 1)}},
    {"bool": {"should": [{"exists": {"field": ".".join("abcdefghijklmnopqrst")}}] * 60}},
    {"multi_match": {"query": "x", "fields": ["b"] * MOST_PARTS}},
    {"query_string": {"query": "x " * MOST_PARTS}},
    {"regexp": {"a": "|".join("x" * (MOST_PARTS + 1))}},
    {"match_phrase": {"description": "x " * (MOST_PARTS + 1)}},
    {
        "bool": {
            "should": [{"multi_match": {"query": "a b c", "fields": ["description"] * 30}}] * 20
        }
    },
]


@pytest.mark.parametrize(
    "make",
    [
        lambda at: {"regexp": {"a": "|".join([".x."] * (MOST_PATTERNS + at))}},
        lambda at: {"bool": {"must": [{"wildcard": {"a": "x?y"}}] * (MOST_PATTERNS + at)}},
        lambda at: {"query_string": {"query": "x?y " * (MOST_PATTERNS + at), "fields": ["a"]}},
        lambda at: {"regexp": {"a": f"[{MEMBERS[: MOST_PATTERN_WEIGHT - 1 + at]}]."}},
        lambda at: {
            "bool": {"must": [{"regexp": {"a": f"[{MEMBERS[:511]}]."}}] * 2, "must_not": DOT * at}
        },
        lambda at: {"bool": {"should": [{"wildcard": {"a": "?" + "x" * 255}}] * 4 + DOT * at}},
    ],
)
def test_query_patterns_beyond_their_sum_are_refused(make) -> None:
    """All patterns of a query count together, with the members of their classes: each character of
    each text is held against them."""
    limits: list[Limit] = []
    parse_query(make(0), lang="elasticsearch", on_limit=limits.append)
    assert not limits
    with pytest.raises(ApiError) as refused:
        parse_query(make(1), lang="elasticsearch", on_limit=limits.append)
    assert (refused.value.id, refused.value.status) == ("api.assert.invalid_argument", 400)
    assert limits == [Limit.SEARCH_PATTERNS]


@pytest.mark.parametrize("query", WIDE, ids=range(len(WIDE)))
def test_what_clauses_multiply_is_counted(query: object) -> None:
    """Names in a field, fields, terms, alternatives and words count, not only clauses."""
    assert refusal(query).id == "api.assert.too_many_arguments"


@pytest.mark.parametrize("clause", ["term", "prefix", "match", "wildcard", "regexp"])
def test_weight_is_bounded(clause: str) -> None:
    """A scroll keeps its query: it must not keep a megabyte."""
    long = "x" * (MOST_CHARACTERS + 1)
    refused = refusal({clause: {"a": long}})
    assert (refused.id, refused.status) == ("api.assert.invalid_argument", 400)


WORDS = st.sampled_from(["a", "b", "c", "1", "2"])
VALUES = st.one_of(WORDS, st.integers(0, 3))
TEXTS = st.lists(WORDS, max_size=3).map(" ".join)
FIELDS = st.sampled_from(["tag", "count", "description"])
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "tag": st.one_of(WORDS, st.lists(WORDS, max_size=3)),
        "count": st.integers(0, 3),
        "description": TEXTS,
    },
)
LEAVES = st.one_of(
    st.just({"match_all": {}}),
    st.builds(lambda field, value: {"term": {field: value}}, FIELDS, VALUES),
    st.builds(lambda field, values: {"terms": {field: values}}, FIELDS, st.lists(VALUES)),
    st.builds(lambda field: {"exists": {"field": field}}, FIELDS),
    st.builds(lambda text: {"match": {"description": text}}, TEXTS),
    st.builds(lambda field, start: {"prefix": {field: start}}, FIELDS, WORDS),
    st.builds(
        lambda bounds: {"range": {"count": bounds}},
        st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.integers(0, 3)),
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "must": st.lists(inner, max_size=2),
            "filter": st.lists(inner, max_size=2),
            "should": st.lists(inner, max_size=3),
            "must_not": st.lists(inner, max_size=2),
            "minimum_should_match": st.integers(0, 3),
        },
    ).map(lambda groups: {"bool": groups}),
    max_leaves=12,
)


def is_met(query: dict, document: dict) -> bool:
    """Say it again, as simply as can be, straight from the JSON."""
    ((name, said),) = query.items()
    if name == "match_all":
        return True
    if name == "bool":
        met = {
            kind: [is_met(part, document) for part in said.get(kind, [])]
            for kind in ("must", "filter", "should", "must_not")
        }
        least = said.get("minimum_should_match")
        if least is None:
            least = 0 if met["must"] or met["filter"] else 1
        is_enough = not met["should"] or sum(met["should"]) >= least
        return all(met["must"] + met["filter"]) and not any(met["must_not"]) and is_enough
    if name == "exists":
        return document.get(said["field"], []) != []
    ((field, wanted),) = said.items()
    held = document.get(field, [])
    held = held if isinstance(held, list) else [held]
    texts = [str(value) for value in held]
    if field == "description":
        texts += " ".join(texts).split()
    if name == "range":
        tests = {
            "gt": lambda value, bound: value > bound,
            "gte": lambda value, bound: value >= bound,
            "lt": lambda value, bound: value < bound,
            "lte": lambda value, bound: value <= bound,
        }
        return any(all(tests[end](value, wanted[end]) for end in wanted) for value in held)
    if name == "prefix":
        is_text = field != "count"  # numbers begin with nothing
        return is_text and any(text[: len(wanted)] == wanted for text in texts)
    if name == "match":
        return any(word in texts for word in wanted.split())
    return any(str(value) in texts for value in (wanted if name == "terms" else [wanted]))


@settings(deadline=None)
@given(TREES, DOCUMENTS)
def test_trees_find_what_they_say(query: dict, document: dict) -> None:
    """Against an evaluation that knows no tree."""
    assert matches(parse(query), document) is is_met(query, document)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(
                    "bool must should must_not term terms match range exists ids prefix and or not "
                    "in equals missing field values query gt lte value minimum_should_match".split()
                ),
                st.text(max_size=3),
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON, st.sampled_from(["elasticsearch", "koncorde"]), JSON)
def test_any_json_is_a_query_or_refused(query: object, lang: str, held: object) -> None:
    """docs/api/differences.md#wrong-types: never an error of ours, whatever is sent and whatever is
    stored."""
    try:
        parsed = parse(query, lang)
    except ApiError as refused:
        assert refused.status == 400
        assert refused.id is not None
    else:
        assert matches(parsed, {"field": held, "value": held}) in (True, False)


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(ApiError, match="range whose end is before its start"):
        read_expressions("[z-a]")
    assert read_expressions("[a-a]")
