"""What the lines of a file to be imported say (docs/import.md)."""

import io
import json
import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.admin.importing.formats import (
    MOST_LINE_BYTES,
    BadLine,
    Kind,
    Line,
    Record,
    find_first_kind,
    parse_line,
    read_lines,
)

SOURCE = {"profileIds": ["default"]}


def parse(value: object) -> list[Record]:
    """Parse a line that says this."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_line(Line(1, data, len(data)))


SHAPES = [
    ({"collection": "users", "_id": "a", "_source": SOURCE}, Kind.USERS),
    ({"collection": "roles", "_id": "a", "_source": SOURCE}, Kind.ROLES),
    ({"collection": "profiles", "_id": "a", "_source": SOURCE}, Kind.PROFILES),
    ({"collection": "credentials", "_id": "a", "_source": SOURCE}, Kind.CREDENTIALS),
    ({"_index": "%kuzzle.users", "_type": "_doc", "_id": "a", "_source": SOURCE}, Kind.USERS),
    ({"_index": "&kuzzle.roles", "_id": "a", "_score": 1, "_source": SOURCE}, Kind.ROLES),
    (
        {
            "_index": "%plugin-kuzzle-plugin-auth-passport-local.users",
            "_id": "a",
            "_source": SOURCE,
        },
        Kind.CREDENTIALS,
    ),
    ({"users": {"a": SOURCE}}, Kind.USERS),
    ({"users": {"a": {"content": SOURCE}}}, Kind.USERS),
    ({"type": "profiles", "content": {"a": SOURCE}}, Kind.PROFILES),
]


@pytest.mark.parametrize(("value", "kind"), SHAPES)
def test_shapes(value: object, kind: Kind) -> None:
    """Our own lines, Elasticsearch's dumps, the body of admin:loadSecurities, Kourou's exports."""
    assert parse(value) == [Record(kind, "a", SOURCE)]


def test_what_stands_beside_a_user() -> None:
    local = {"local": {"username": "a", "password": "p"}}
    line = {"collection": "users", "_id": "a", "_source": {}, "credentials": local}
    assert parse({**line, "disabled": True}) == [Record(Kind.USERS, "a", {}, local, True)]
    assert parse({"users": {"a": {"content": {}, "credentials": local}}}) == [
        Record(Kind.USERS, "a", {}, local)
    ]


def test_a_fixture_holds_many() -> None:
    found = parse({"users": {"u": {}, "v": {}}, "roles": {"r": {}}, "profiles": {"p": {}}})
    assert [(one.kind, one.id) for one in found] == [
        (Kind.ROLES, "r"),
        (Kind.PROFILES, "p"),
        (Kind.USERS, "u"),
        (Kind.USERS, "v"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        {"_index": "%kuzzle.config", "_id": "a", "_source": {}},
        {"_index": "&nyc-open-data.yellow-taxi", "_id": "a", "_source": {}},
        {"_index": 7},
        {"collection": "api-keys", "_id": "a", "_source": {}},
    ],
)
def test_other_collections_are_left_out(value: object) -> None:
    assert parse(value) == []


BAD = [
    b"",
    b"{",
    b"nul",
    b'{"a": "\xff"}',
    b'{"a": NaN}',
    b"[" * 5000 + b"]" * 5000,
    b'{"users": ' + b'{"a":' * 300 + b"{}" + b"}" * 301,
    [],
    "users",
    7,
    {},
    {"collection": "user", "_id": "a", "_source": {}},
    {"collection": ["users"], "_id": "a", "_source": {}},
    {"collection": "users", "_source": {}},
    {"collection": "users", "_id": 7, "_source": {}},
    {"collection": "users", "_id": "", "_source": {}},
    {"collection": "users", "_id": "a"},
    {"collection": "users", "_id": "a", "_source": []},
    {"collection": "users", "_id": "a", "_source": {}, "credentials": []},
    {"collection": "users", "_id": "a", "_source": {}, "disabled": "yes"},
    {"collection": "credentials", "_id": "a", "_source": {}, "strategy": 1},
    {"users": []},
    {"users": {"a": 7}},
    {"users": {}, "others": {}},
    {"type": "indexes", "content": {}},
    {"type": ["users"], "content": {}},
]


@pytest.mark.parametrize("value", BAD, ids=lambda value: str(value)[:40])
def test_lines_nothing_can_be_made_of(value: object) -> None:
    with pytest.raises(BadLine):
        parse(value)


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["collection", "_id", "_source", "users", "type", "content", "_index"])
        | st.text(max_size=3),
        inner | st.sampled_from(["users", "roles", "%kuzzle.users"]),
        max_size=4,
    ),
    max_leaves=12,
).map(orjson.dumps))  # fmt: skip
def test_any_line_is_read_or_refused(data: bytes) -> None:
    """Whatever bytes come, nothing but `BadLine` is raised, and records hold what they promise."""
    try:
        records = parse_line(Line(1, data, len(data)))
    except BadLine:
        return
    for record in records:
        assert isinstance(record.id, str) and record.id
        assert isinstance(record.source, dict) and isinstance(record.credentials, dict)


LINES = st.lists(st.sampled_from([b"{}", b"  ", b"", b'{"a": 1}', b"[", b"x" * 40]), max_size=12)


@settings(max_examples=200)
@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_lines_are_counted(lines: list[bytes], end: bytes, is_ended: bool) -> None:
    """Each line keeps its number, blank ones count and are left out, the last needs no end."""
    data = end.join(lines) + (end if is_ended and lines else b"")
    if lines and lines[0] == b"[":
        return  # may be the beginning of one document on many lines
    found = list(read_lines(io.BytesIO(data)))
    expected = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    assert [(one.number, (one.data or b"").rstrip(b"\r\n")) for one in found] == expected
    ends = [one.end for one in found]
    assert ends == sorted(ends) and (not ends or ends[-1] <= len(data))


def test_a_line_that_is_too_long_is_never_held() -> None:
    """The reader goes on behind it, having kept no more than the bound."""

    class Counting(io.BytesIO):
        most = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            self.most = max(self.most, len(line))
            return line

    data = b"{}\n" + b"x" * (3 * MOST_LINE_BYTES) + b"\n[]\n"
    file = Counting(data)
    found = list(read_lines(file))
    assert [(one.number, one.data) for one in found] == [(1, b"{}\n"), (2, None), (3, b"[]\n")]
    assert found[-1].end == len(data) and file.most <= MOST_LINE_BYTES + 1
    with pytest.raises(BadLine, match="bytes"):
        parse_line(found[1])


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_document_on_many_lines_is_one(mark: bytes) -> None:
    """Kuzzle's fixtures and Kourou's exports are written with indentation."""
    written = json.dumps({"type": "users", "content": {"a": SOURCE}}, indent=2).encode()
    (line,) = read_lines(io.BytesIO(mark + written))
    assert parse_line(line) == [Record(Kind.USERS, "a", SOURCE)]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    data = b'\xef\xbb\xbf{"users": {}}\n{"users": {}}\n'
    assert [parse_line(line) for line in read_lines(io.BytesIO(data))] == [[], []]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('{"collection":"users"}', Kind.USERS),
        ('{"_index":"%kuzzle.roles"}', Kind.ROLES),
        ('{"users":1}{"profiles":1}', Kind.PROFILES),
        ('{"profileIds":[]}', Kind.USERS),
        ("x" * (1024 * 1024 - 3) + 'roles"', Kind.ROLES),  # across two readings
        ("", Kind.USERS),
    ],
)
def test_the_first_kind(text: str, first: Kind) -> None:
    assert find_first_kind(io.BytesIO(text.encode())) is first


def test_the_lines_the_documentation_shows() -> None:
    """docs/import.md shows a line for each collection, and one with all that stands beside a
    user."""
    text = (Path(__file__).parents[4] / "docs/import.md").read_text()
    first, second = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    found = [record for line in first.splitlines() for record in parse(line.encode())]
    assert [record.kind for record in found] == list(Kind)
    (beside,) = parse(second.encode())
    assert beside.kind is Kind.USERS and "local" in beside.credentials
