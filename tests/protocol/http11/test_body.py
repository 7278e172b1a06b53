"""Request bodies: docs/api/transport.md#http-requests, #bodies, every bound at its limit and one
past it (T13, H7)."""

import gzip
import json
import re
import zlib
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ApiError
from protocol.http11.body import BodyLimits, parse_json, read_body

LIMITS = BodyLimits(
    body_bytes=200,
    inflated_bytes=200,
    form_bytes=60,
    file_bytes=16,
    encoding_layers=3,
    form_fields=4,
    form_escapes=4,
    part_heads_bytes=200,
    more_types=("text/x-more",),
)
FORM = "application/x-www-form-urlencoded"
MULTIPART = 'multipart/form-data; charset=utf-8; boundary="B"'


def read(raw: bytes, content_type: str | None = None, encoding: str | None = None) -> object:
    headers = {} if content_type is None else {"content-type": content_type}
    if encoding is not None:
        headers["content-encoding"] = encoding
    return read_body(raw, headers, LIMITS)


def refusal(raw: bytes, content_type: str | None = None, encoding: str | None = None) -> str:
    with pytest.raises(ApiError) as refused:
        read(raw, content_type, encoding)
    assert refused.value.id is not None
    return refused.value.id


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"", None),
        (b'{"a":1}', {"a": 1}),
        (b"{}", {}),
        (b"[1]", [1]),
        (b"[]", None),
        (b"null", None),
        (b"0", None),
        (b"false", None),
        (b'""', None),
    ],
)
def test_json(raw: bytes, body: object) -> None:
    for content_type in (None, "application/json", "text/x-more", "application/json;charset=UTF-8"):
        assert read(raw, content_type) == body


@pytest.mark.parametrize("raw", [b"1", b'"a"', b"true"])
def test_scalars_are_no_body(raw: bytes) -> None:
    assert refusal(raw) == "api.assert.invalid_type"


@pytest.mark.parametrize(
    "raw",
    [b"{", b"{'a':1}", b"\xff", b'{"a":NaN}', b"{} {}", b'"\\ud800"', b"1e999", b"\xef\xbb\xbf{}"],
)
def test_what_is_not_json(raw: bytes) -> None:
    assert refusal(raw) == "network.http.body_parse_failed"


def test_nesting_as_deep_as_allowed_and_one_deeper() -> None:
    deep = b"[" * 100 + b"1" + b"]" * 100
    assert parse_json(deep) == orjson.loads(deep)
    mixed = b'{"a":' * 100 + b"[]" + b"}" * 100
    for raw in (b"[" + deep + b"]", mixed, b"[" * 10_000, b"[" * 1000 + b"]" * 1000):
        with pytest.raises(ValueError):
            parse_json(raw)
    wide = b"[" + b",".join([b"[{}]"] * 500) + b"]"
    assert len(parse_json(wide)) == 500  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [b"[]," * 4 + b"[]", b'{"":{}},' * 2 + b'{"":{}}', b"1," * 8 + b"1", b'"[[[[[[[["']
)
def test_json_values_at_the_limit_and_one_past_it(values: bytes) -> None:
    """Security check M3. Counted in the text, also within strings."""
    raw = b"[" + values + b"]"
    marks = len(re.findall(rb"[\[{,]", raw))
    padded = raw + b" " * 20
    assert parse_json(padded, marks) == orjson.loads(raw)
    with pytest.raises(ApiError) as refused:
        parse_json(padded, marks - 1, "targets")
    assert (refused.value.status, refused.value.id) == (400, "api.assert.too_many_arguments")
    assert refused.value.props == ("targets", marks - 1)


def test_json_with_too_many_values_is_not_read() -> None:
    """Counting comes first: what follows would be malformed."""
    with pytest.raises(ApiError):
        parse_json(b"[" * 30, 20)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(VALUES)
def test_what_was_read_can_be_written(value: object) -> None:
    try:
        found = parse_json(json.dumps(value).encode("utf-8", "surrogatepass"))
    except ValueError:
        return
    assert parse_json(orjson.dumps(found)) == found


@pytest.mark.parametrize(
    ("content_type", "error_id"),
    [
        ("text/plain", "network.http.unsupported_content"),
        ("Application/json", "network.http.unsupported_content"),
        ("", "network.http.unsupported_content"),
        ("application/json, text/plain", "network.http.unsupported_content"),
        ("application/json; charset=latin-1", "network.http.unsupported_charset"),
        ("application/json; CHARSET=utf8", "network.http.unsupported_charset"),
    ],
)
def test_refused_content_types_even_without_a_body(content_type: str, error_id: str) -> None:
    assert refusal(b"", content_type) == error_id


def test_a_quoted_charset_passes() -> None:
    assert read(b"[1]", 'application/json; charset="latin-1"') == [1]


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (gzip.compress(b"[1]", mtime=0), "gzip"),
        (gzip.compress(b"[1]", mtime=0), " GZIP "),
        (zlib.compress(b"[1]"), "deflate"),
        (b"[1]", "identity"),
        (zlib.compress(gzip.compress(b"[1]", mtime=0)), "gzip, deflate"),
        (gzip.compress(b"[1]", mtime=0), "identity, gzip, identity"),
    ],
)
def test_encodings_are_undone_last_one_first(raw: bytes, encoding: str) -> None:
    assert read(raw, None, encoding) == [1]


@pytest.mark.parametrize(
    ("raw", "encoding", "error_id"),
    [
        (b"[1]", "gzip", "unexpected_error"),
        (gzip.compress(b"[1]", mtime=0)[:-1], "gzip", "unexpected_error"),
        (gzip.compress(b"[1]", mtime=0) + b"x", "gzip", "unexpected_error"),
        (gzip.compress(b"[1]", mtime=0) * 2, "gzip", "unexpected_error"),
        (zlib.compress(b"[1]"), "gzip", "unexpected_error"),
        (zlib.compress(b"[1]", wbits=-15), "deflate", "unexpected_error"),
        (b"[1]", "br", "unsupported_compression"),
        (b"[1]", "gzip,", "unsupported_compression"),
        (b"[1]", "identity," * 3 + "identity", "too_many_encodings"),
    ],
)
def test_refused_encodings(raw: bytes, encoding: str, error_id: str) -> None:
    assert refusal(raw, None, encoding) == f"network.http.{error_id}"


def test_compression_can_be_turned_off() -> None:
    limits = BodyLimits(allow_compression=False)
    assert read_body(b"[1]", {"content-encoding": "identity"}, limits) == [1]
    with pytest.raises(ApiError) as refused:
        read_body(gzip.compress(b"[1]", mtime=0), {"content-encoding": "gzip"}, limits)
    assert refused.value.id == "network.http.compression_disabled"


def test_inflated_size_at_the_limit_and_one_past_it() -> None:
    """`LIMITS` allow 200 bytes."""
    fits = b'["' + b"x" * 196 + b'"]'
    assert read(gzip.compress(fits), None, "gzip") == ["x" * 196]
    assert refusal(gzip.compress(fits + b" "), None, "gzip") == "network.http.request_too_large"
    bomb = gzip.compress(gzip.compress(b" " * 10_000_000))
    assert refusal(bomb, None, "gzip, gzip") == "network.http.request_too_large"


@pytest.mark.parametrize("layers", [1, 2])
def test_inflation_at_the_limit_and_one_past_it(layers: int) -> None:
    """Security check M3: of all layers together, beyond what is free."""
    plain = b'["' + b"x" * 4000 + b'"]'
    raw = plain
    for _ in range(layers):
        raw = gzip.compress(raw)
    encoding = ", ".join(["gzip"] * layers)
    ratio, rest = divmod(len(plain), len(raw))
    fits = BodyLimits(encoding_layers=2, inflation=ratio + (rest > 0), free_bytes=0)
    assert read_body(raw, {"content-encoding": encoding}, fits) == ["x" * 4000]
    free = BodyLimits(encoding_layers=2, inflation=1, free_bytes=len(plain))
    assert read_body(raw, {"content-encoding": encoding}, free) == ["x" * 4000]
    for beyond in (replace(fits, inflation=ratio - 1), replace(free, free_bytes=len(plain) - 1)):
        with pytest.raises(ApiError) as refused:
            read_body(raw, {"content-encoding": encoding}, beyond)
        assert (refused.value.status, refused.value.id) == (413, "network.http.request_too_large")


def test_one_layer_unless_configured() -> None:
    """Security check M3."""
    twice = gzip.compress(gzip.compress(b"[1]"))
    with pytest.raises(ApiError) as refused:
        read_body(twice, {"content-encoding": "gzip, gzip"}, BodyLimits())
    assert refused.value.id == "network.http.too_many_encodings"


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"a=1&b=+%20x&a=2&a=3", {"a": ["1", "2", "3"], "b": "  x"}),
        (b'{"a":1}', {'{"a":1}': ""}),
        (b"a=%zz&b=%c3%A9&c=\xc3\xa9&d", {"a": "%zz", "b": "é", "c": "é", "d": ""}),
        (b"%64&&", {"d": ""}),
        (b"%C3%A9=%2B%26", {"é": "+&"}),
    ],
)
def test_forms(raw: bytes, body: object) -> None:
    assert read(raw, FORM) == body


def test_form_fields_at_the_limit_and_one_past_it() -> None:
    assert read(b"a&b&c&d", FORM) == dict.fromkeys("abcd", "")
    assert refusal(b"a&b&c&d&e", FORM) == "api.assert.too_many_arguments"


@pytest.mark.parametrize("raw", [b"a=caf%E9", b"a=caf\xe9", b"%ff=a", b"\xff", b"a=%C3&b=%A9"])
def test_forms_that_are_not_utf8(raw: bytes) -> None:
    """Two passwords that differ in such bytes must not become one."""
    assert refusal(raw, FORM) == "api.assert.invalid_argument"


def test_form_bytes_at_the_limit_and_one_past_it() -> None:
    assert read(b"a=" + b"x" * 58, FORM) == {"a": "x" * 58}
    assert refusal(b"a=" + b"x" * 59, FORM) == "network.http.request_too_large"


def test_form_escapes_at_the_limit_and_one_past_it() -> None:
    assert read(b"a=%41%42%&b=%43", FORM) == {"a": "AB%", "b": "C"}
    assert refusal(b"a=%41%42%&b=%43%44", FORM) == "api.assert.too_many_arguments"


def part(disposition: bytes, content: bytes, more: bytes = b"") -> bytes:
    head = b"--B\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + more
    return head + b"\r\n" + content + b"\r\n"


def test_multipart() -> None:
    raw = b"preamble\r\n" + part(b'name="t"', b"old") + part(b'name="t"', "é\r\n".encode())
    raw += part(b'name="f"; filename="a\\"b"', b"\x00\xff", b"Content-Type: image/png\r\n")
    assert read(raw + b"--B--\r\nepilogue", MULTIPART) == {
        "t": "é\r\n",
        "f": {"encoding": "image/png", "file": "AP8=", "filename": 'a"b'},
    }
    assert read(b"--B--\r\n", MULTIPART) == {}


@pytest.mark.parametrize(
    "raw", [part(b'name="t"', b"caf\xe9"), part(b'name="caf\xe9"', b"x"), part(b'name="\xff"', b"")]
)
def test_multiparts_that_are_not_utf8(raw: bytes) -> None:
    assert refusal(raw + b"--B--", MULTIPART) == "api.assert.invalid_argument"


@pytest.mark.parametrize(
    ("raw", "error_id"),
    [
        (b"", "body_parse_failed"),
        (part(b'name="t"', b"x"), "body_parse_failed"),
        (b"--B\r\n\r\nx\r\n--B--", "body_parse_failed"),
        (b"--Bx\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--B--", "body_parse_failed"),
        (part(b"x", b"x") + b"--B--", "body_parse_failed"),
        (part(b'name="' + b"x" * 9000 + b'"', b"x") + b"--B--", "body_parse_failed"),
        (part(b'name="a"; name="b"', b"x") + b"--B--", "body_parse_failed"),
        (part(b'name="a"', b"x", b"a: b\r\n" * 8) + b"--B--", "body_parse_failed"),
        (part(b'name="' + b"\\x" * 17 + b'"', b"x") + b"--B--", "body_parse_failed"),
        (part(b'name="f"; filename="a"', b"x" * 17) + b"--B--", "file_too_large"),
    ],
)
def test_refused_multiparts(raw: bytes, error_id: str) -> None:
    assert refusal(raw or b" ", MULTIPART) == f"network.http.{error_id}"


def test_multipart_bounds() -> None:
    four = b"".join(part(b'name="%d"' % n, b"x") for n in range(4))
    assert read(four + b"--B--", MULTIPART) == dict.fromkeys("0123", "x")
    five = four + part(b'name="4"', b"x") + b"--B--"
    assert refusal(five, MULTIPART) == "api.assert.too_many_arguments"
    long = part(b'name="t"', b"", b"a: " + b"x" * 153 + b"\r\n")
    assert read(long + b"--B--", MULTIPART) == {"t": ""}
    longer = part(b'name="t"', b"", b"a: " + b"x" * 154 + b"\r\n")
    assert refusal(longer + b"--B--", MULTIPART) == "api.assert.too_many_arguments"
    most_lines = part(b'name="a"', b"x", b"a: b\r\n" * 7) + b"--B--"
    assert read(most_lines, MULTIPART) == {"a": "x"}
    file = part(b'name="f"; filename="a"', b"x" * 16) + b"--B--"
    assert isinstance(read(file, MULTIPART), dict)
    assert refusal(b"x", "multipart/form-data") == "network.http.body_parse_failed"


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.binary(max_size=60),
    st.sampled_from([None, FORM, MULTIPART]),
    st.sampled_from([None, "gzip"]),
)
def test_any_body_is_read_or_refused(raw: bytes, content_type: str, encoding: str) -> None:
    if content_type == MULTIPART:
        raw = re.sub(rb"[\x80-\xff]", b"\r\n--B", raw)
    try:
        orjson.dumps(read(raw, content_type, encoding))
    except ApiError as refused:
        orjson.dumps(refused.as_json())
