"""Heads: what is understood, and every family of what two readers could read differently (H6)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ProtocolError
from protocol.http11.head import (
    CONTINUE,
    Head,
    HeadLimits,
    body_length,
    field_tokens,
    parse_head,
    status_line,
)

LIMITS = HeadLimits(target_bytes=64, head_bytes=512, fields=5)


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes | None = b"a") -> Head:
    fields = (() if host is None else (b"Host: " + host,)) + lines
    return parse_head(b"\r\n".join((first, *fields)) + b"\r\n\r\n", LIMITS)


def test_a_whole_head_is_understood() -> None:
    found = head(
        b"X-One:1", b"X-Two: \t a b\t ", b"x-one: 3", first=b"POST /a/b?c=d?e HTTP/1.1", host=b"h:1"
    )
    assert (found.method, found.path, found.query) == ("POST", "/a/b", "c=d?e")
    assert found.headers == {"host": "h:1", "x-one": "1, 3", "x-two": "a b"}
    assert (found.content_length, found.has_body, found.keep_alive) == (0, False, True)
    assert found.is_plain
    assert not found.is_http10


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET / HTTP/2.0", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/11", 400),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/+1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET /#x HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"GET a HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET a:80 HTTP/1.1", 400),
        (b"GET ftp://a/ HTTP/1.1", 400),
        (b"GET http:///x HTTP/1.1", 400),
        (b"GET http://u@a/ HTTP/1.1", 400),
        (b"GET http://other/ HTTP/1.1", 400),
        (b"CONNECT / HTTP/1.1", 400),
        (b"CONNECT a HTTP/1.1", 400),
        (b"GET /" + b"x" * 64 + b" HTTP/1.1", 414),
    ],
)
def test_refused_request_lines(first: bytes, status: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        head(first=first)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("first", "path", "query"),
    [
        (b"GET /" + b"x" * 63 + b" HTTP/1.1", "/" + "x" * 63, ""),
        (b"GET http://a/b?c HTTP/1.1", "/b", "c"),
        (b"GET HTTPS://A HTTP/1.1", "/", ""),
        (b"GET http://a?c HTTP/1.1", "/", "c"),
        (b"GET //a//b HTTP/1.1", "//a//b", ""),
        (b"OPTIONS * HTTP/1.1", "*", ""),
        (b"CONNECT a:80 HTTP/1.1", "a:80", ""),
        (b"get / HTTP/1.1", "/", ""),
        (b"GET / HTTP/1.2", "/", ""),
    ],
)
def test_targets(first: bytes, path: str, query: str) -> None:
    found = head(first=first)
    assert (found.method, found.path, found.query) == (first.split()[0].decode(), path, query)


@pytest.mark.parametrize(
    "line",
    [
        b"X : 1",
        b" X: 1",
        b"\tX: 1",
        b": 1",
        b"X",
        b"",
        b"X\x00: 1",
        b"X: a\x00b",
        b"X: a\nb",
        b"X: a\rb",
        b"X: a\x0bb",
        b"X: \x7f",
        b"X\xe9: 1",
        b"X Y: 1",
        b"X(: 1",
        b"X: 1\n",
        b"X: 1\r",
    ],
)
def test_refused_fields(line: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        head(line)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "host",
    [None, b"a b", b"a/b", b"a@b", b"[::1", b"::1", b"a:b", b"a:123456", b":80", b"a,b c", b"\xe9"],
)
def test_refused_hosts(host: bytes | None) -> None:
    with pytest.raises(ProtocolError) as refused:
        head(host=host)
    assert refused.value.status == 400


@pytest.mark.parametrize("host", [b"", b"a", b"a:", b"a:80", b"[::1]:80", b"[v1.x:y]", b"%41_~.x"])
def test_accepted_hosts(host: bytes) -> None:
    assert head(host=host).headers["host"] == host.decode()


def test_http10_needs_no_host_and_can_not_have_a_bad_one() -> None:
    assert head(first=b"GET / HTTP/1.0", host=None).is_http10
    with pytest.raises(ProtocolError):
        head(first=b"GET / HTTP/1.0", host=b"a b")


@pytest.mark.parametrize(
    "name", ["Host", "Authorization", "Content-Type", "Origin", "Expect", "X-Kuzzle-Request-Id"]
)
def test_what_may_not_be_repeated(name: str) -> None:
    with pytest.raises(ProtocolError):
        head(f"{name}: 100-continue".encode(), f"{name.upper()}: 100-continue".encode())


def test_repeated_cookies_are_one_cookie_header() -> None:
    assert head(b"Cookie: a=1", b"Cookie: b=2").headers["cookie"] == "a=1; b=2"


def test_as_many_fields_as_allowed_and_one_more() -> None:
    assert len(head(*(b"X%d: 1" % n for n in range(4))).headers) == 5
    with pytest.raises(ProtocolError) as refused:
        head(*(b"X: 1" for _ in range(5)))
    assert refused.value.status == 431


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"content-length": "5", "transfer-encoding": "chunked"}, 400),
        ({"content-length": "0", "transfer-encoding": "chunked"}, 400),
        ({"transfer-encoding": "gzip, chunked"}, 501),
        ({"transfer-encoding": "xchunked"}, 400),
        ({"transfer-encoding": "identity"}, 400),
        ({"transfer-encoding": "chunked, identity"}, 400),
        ({"transfer-encoding": "chunked, chunked"}, 400),
        ({"transfer-encoding": "chunked,"}, 400),
        ({"transfer-encoding": "chunked;q=1"}, 400),
        ({"transfer-encoding": '"chunked"'}, 400),
        ({"transfer-encoding": ""}, 400),
        ({"content-length": ""}, 400),
        ({"content-length": "+5"}, 400),
        ({"content-length": "-5"}, 400),
        ({"content-length": "0x5"}, 400),
        ({"content-length": "5_0"}, 400),
        ({"content-length": "5 5"}, 400),
        ({"content-length": "5, 5"}, 400),
        ({"content-length": "5.0"}, 400),
        ({"content-length": "\u0665"}, 400),
        ({"content-length": "\xb2"}, 400),
        ({"content-length": "1" * 16}, 400),
        ({"content-length": "9" * 5000}, 400),
    ],
)
def test_lengths_two_readers_could_read_differently(fields: dict[str, str], status: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        body_length(fields, is_http10=False)
    assert refused.value.status == status


def test_lengths() -> None:
    assert body_length({}, is_http10=False) == 0
    assert body_length({"content-length": "007"}, is_http10=False) == 7
    assert body_length({"content-length": "9" * 15}, is_http10=False) == 10**15 - 1
    assert body_length({"transfer-encoding": "Chunked"}, is_http10=False) is None
    with pytest.raises(ProtocolError):
        body_length({"transfer-encoding": "chunked"}, is_http10=True)


@pytest.mark.parametrize(
    ("first", "connection", "kept"),
    [
        (b"GET / HTTP/1.1", b"keep-alive", True),
        (b"GET / HTTP/1.1", b"Close", False),
        (b"GET / HTTP/1.1", b"keep-alive , close", False),
        (b"GET / HTTP/1.0", b"x", False),
        (b"GET / HTTP/1.0", b"Keep-Alive", True),
    ],
)
def test_keep_alive(first: bytes, connection: bytes, kept: bool) -> None:
    assert head(b"Connection: " + connection, first=first).keep_alive is kept


def test_expectations() -> None:
    assert head(b"Expect: 100-Continue").expects_continue
    assert not head(b"Expect: 100-continue", first=b"GET / HTTP/1.0").expects_continue
    with pytest.raises(ProtocolError) as refused:
        head(b"Expect: tea")
    assert refused.value.status == 417


@pytest.mark.parametrize(
    "line", [b"Origin: http://a", b"Accept-Encoding: gzip", b"Connection: close"]
)
def test_what_changes_an_answers_head_is_not_plain(line: bytes) -> None:
    assert not head(line).is_plain


@pytest.mark.parametrize(
    ("line", "needs_check"),
    [(b"Origin: http://a", True), (b"Cookie: a=b", True), (b"Accept: */*", False)],
)
def test_what_pages_send_needs_a_check(line: bytes, needs_check: bool) -> None:
    """The short way to an answer is closed to them."""
    assert head(line).needs_check is needs_check


def test_status_lines() -> None:
    assert status_line(404) == b"HTTP/1.1 404 Not Found\r\n"
    assert status_line(299) == b"HTTP/1.1 299 \r\n"
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert field_tokens(" A ,b,\t") == ["a", "b", ""]


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"Host: a", b"A: b"]), max_size=6))
def test_any_head_is_understood_or_refused(lines: list[bytes]) -> None:
    try:
        found = parse_head(b"GET / HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n", LIMITS)
    except ProtocolError:
        return
    assert all(name == name.strip().lower() for name in found.headers)
