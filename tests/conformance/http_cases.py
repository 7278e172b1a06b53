"""What a server must make of HTTP/1.1 as it comes (RFC 9112, RFC 9110): raw bytes, and what has to
happen."""

from dataclasses import dataclass
from enum import Enum


class Wanted(Enum):
    """What has to become of the bytes."""

    ANSWERED = "answered with success, and the connection goes on"
    ANSWERED_LAST = "answered with success, and the connection ends"
    REFUSED = "refused with an error, and the connection ends"


@dataclass(frozen=True, slots=True)
class HttpCase:
    """One case: `answers` are the successes wanted before whatever else, `statuses` the errors that
    are right, none for any."""

    section: str
    title: str
    wire: bytes
    wanted: Wanted
    answers: int = 1
    statuses: tuple[int, ...] = ()


def _request(
    line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"", host: str = "a"
) -> bytes:
    lines = [line, *([f"Host: {host}"] if host else []), *fields]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


GET = _request()
_CHUNKED = "Transfer-Encoding: chunked"
_POST = "POST / HTTP/1.1"
_BAD = _request("GET / HTTP/1.1", "A : b")
_HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def _ok(section: str, title: str, wire: bytes, answers: int = 1) -> HttpCase:
    return HttpCase(section, title, wire, Wanted.ANSWERED, answers)


def _last(section: str, title: str, wire: bytes, answers: int = 1) -> HttpCase:
    return HttpCase(section, title, wire, Wanted.ANSWERED_LAST, answers)


def _bad(section: str, title: str, wire: bytes, *statuses: int, answers: int = 0) -> HttpCase:
    return HttpCase(section, title, wire, Wanted.REFUSED, answers, statuses or (400,))


def _chunks(body: bytes) -> bytes:
    return _request(_POST, _CHUNKED, body=body)


CASES: tuple[HttpCase, ...] = (
    # RFC 9112 §2.2
    _ok("9112 §2.2", "an empty line before the request", b"\r\n" + GET),
    _bad("9112 §2.2", "bare CR in a field", _request("GET / HTTP/1.1", "A: b\rC: d")),
    _bad("9112 §2.2", "blanks before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    _bad("9112 §2.2", "no HTTP at all", b"\x16\x03\x01\x00\x05hello\r\n\r\n"),
    # RFC 9112 §2.3, §3
    _bad("9112 §2.3", "HTTP/2.0 in the first line", _request("GET / HTTP/2.0"), 505, 400),
    _bad("9112 §2.3", "lower-case http/1.1", _request("GET / http/1.1"), 400, 505),
    _bad("9112 §2.3", "HTTP/1.10", _request("GET / HTTP/1.10"), 400, 505),
    _ok("9112 §2.3", "HTTP/1.2 is read as HTTP/1.1", _request("GET / HTTP/1.2")),
    _bad("9112 §3", "two spaces in the request line", _request("GET  / HTTP/1.1")),
    _bad("9112 §3", "a tab in the request line", _request("GET\t/ HTTP/1.1")),
    _bad("9112 §3", "a space in the target", _request("GET /a b HTTP/1.1")),
    _bad("9112 §3", "no version", _request("GET /"), 400, 505),
    _bad("9112 §3.1", "a method that is no token", _request("GE(T / HTTP/1.1"), 400, 501, 405),
    _bad("9112 §3.2", "a fragment in the target", _request("GET /a#b HTTP/1.1")),
    _bad("9112 §3.2", "NUL in the target", _request("GET /\x00 HTTP/1.1")),
    _bad("9112 §3.2", "a target of no valid form", _request("GET a HTTP/1.1")),
    _bad("9112 §3.2", "no Host", _request(host="")),
    _bad("9112 §3.2", "two Host fields", _request("GET / HTTP/1.1", "Host: a")),
    _bad("9112 §3.2", "two different Host fields", _request("GET / HTTP/1.1", "Host: b")),
    _bad("9112 §3.2", "a Host that is not valid", _request(host="a b")),
    _bad("9112 §3.2", "a Host with a path", _request(host="a/b")),
    _bad("9112 §3.2", "a Host with user information", _request(host="u@a")),
    _ok("9112 §3.2.2", "the absolute form", _request("GET http://a/ HTTP/1.1")),
    _bad("9112 §3.2.3", "GET with an authority target", _request("GET a:80 HTTP/1.1")),
    _ok("9112 §3.2.4", "OPTIONS *", _request("OPTIONS * HTTP/1.1")),
    _bad("9112 §3.2.4", "GET *", _request("GET * HTTP/1.1")),
    # RFC 9112 §5
    _bad("9112 §5.1", "a space before the colon", _request("GET / HTTP/1.1", "A : b")),
    _bad("9112 §5.1", "a tab before the colon", _request("GET / HTTP/1.1", "A\t: b")),
    _ok(
        "9112 §5.1", "no blank, many blanks, a tab", _request("GET / HTTP/1.1", "A:b", "C:\t d \t")
    ),
    _bad("9112 §5", "a field without a name", _request("GET / HTTP/1.1", ": b")),
    _bad("9112 §5", "a field without a colon", _request("GET / HTTP/1.1", "Ab")),
    _bad("9112 §5.2", "a folded field", _request("GET / HTTP/1.1", "A: b\r\n c")),
    _bad("9110 §5.5", "NUL in a field", _request("GET / HTTP/1.1", "A: b\x00c")),
    _bad("9110 §5.5", "a bare LF in a field", _request("GET / HTTP/1.1", "A: b\nC: d")),
    _bad("9110 §5.1", "a name that is no token", _request("GET / HTTP/1.1", "A(b: c")),
    _ok("9110 §5.5", "bytes above ASCII in a value", _request("GET / HTTP/1.1", "A: \xe9")),
    # RFC 9112 §6.1, §6.3
    _ok("9112 §6.1", "a chunked body", _chunks(_HELLO)),
    _ok(
        "9112 §6.1",
        "Chunked in capitals",
        _request(_POST, "Transfer-Encoding: Chunked", body=_HELLO),
    ),
    _bad("9112 §6.1", "an unknown coding", _request(_POST, "Transfer-Encoding: x"), 501, 400),
    _bad(
        "9112 §6.1",
        "chunked is not last",
        _request(_POST, "Transfer-Encoding: chunked, x", body=_HELLO),
        400,
        501,
    ),
    _bad(
        "9112 §6.1",
        "chunked twice",
        _request(_POST, "Transfer-Encoding: chunked, chunked", body=_HELLO),
        400,
        501,
    ),
    _bad(
        "9112 §6.1",
        "two fields of chunked",
        _request(_POST, _CHUNKED, _CHUNKED, body=_HELLO),
        400,
        501,
    ),
    _bad(
        "9112 §6.1",
        "a vertical tab before chunked",
        _request(_POST, "Transfer-Encoding: \x0bchunked", body=_HELLO),
        400,
        501,
    ),
    _bad(
        "9112 §6.1",
        "chunked in HTTP/1.0",
        _request("POST / HTTP/1.0", _CHUNKED, body=_HELLO),
        400,
        501,
        505,
    ),
    _bad(
        "9112 §6.3",
        "length and chunked",
        _request(_POST, "Content-Length: 15", _CHUNKED, body=_HELLO),
    ),
    _bad(
        "9112 §6.3",
        "chunked and length",
        _request(_POST, _CHUNKED, "Content-Length: 4", body=_HELLO),
    ),
    _bad(
        "9112 §6.3",
        "two lengths that differ",
        _request(_POST, "Content-Length: 5", "Content-Length: 6", body=b"hello!"),
    ),
    _bad(
        "9112 §6.3",
        "a list of lengths that differ",
        _request(_POST, "Content-Length: 5, 6", body=b"hello!"),
    ),
    *(
        _bad(
            "9110 §8.6",
            f"Content-Length: {shown}",
            _request(_POST, f"Content-Length: {value}", body=b"hello"),
            400,
            413,
        )
        for shown, value in (
            ("+5", "+5"),
            ("-5", "-5"),
            ("0x5", "0x5"),
            ("5_0", "5_0"),
            ("5 5", "5 5"),
            ("5.0", "5.0"),
            ("nothing", ""),
            ("5 and NUL", "5\x00"),
            ("Arabic digits", "\xd9\xa5"),
            ("40 digits", "9" * 40),
        )
    ),
    _ok("9112 §6.3", "a length", _request(_POST, "Content-Length: 5", body=b"hello")),
    # RFC 9112 §7
    _ok(
        "9112 §7.1",
        "sizes in capitals and with zeros",
        _chunks(b"00A\r\n0123456789\r\n000\r\n\r\n"),
    ),
    *(
        _bad("9112 §7.1", title, _chunks(body))
        for title, body in (
            ("a size with a sign", b"+5\r\nhello\r\n0\r\n\r\n"),
            ("a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
            ("a size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
            ("a space before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
            ("no size", b"\r\nhello\r\n0\r\n\r\n"),
            ("a size above 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
            ("a bare LF after the size", b"5\nhello\r\n0\r\n\r\n"),
            ("a bare CR after the size", b"5\rhello\r\n0\r\n\r\n"),
            ("no line ending after the data", b"5\r\nhello0\r\n\r\n"),
            ("a bare LF after the data", b"5\r\nhello\n0\r\n\r\n"),
            ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n"),
        )
    ),
    _ok("9112 §7.1.1", "extensions", _chunks(b'5;a;b=c;d="e"\r\nhello\r\n0;f\r\n\r\n')),
    _bad("9112 §7.1.1", "a bare LF in an extension", _chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    _bad("9112 §7.1.1", "NUL in an extension", _chunks(b"5;a\x00\r\nhello\r\n0\r\n\r\n")),
    _ok("9112 §7.1.2", "trailers", _chunks(b"5\r\nhello\r\n0\r\nA: b\r\n\r\n")),
    _bad("9112 §7.1.2", "a trailer with a space before the colon", _chunks(b"0\r\nA : b\r\n\r\n")),
    _bad("9112 §7.1.2", "a folded trailer", _chunks(b"0\r\nA: b\r\n c\r\n\r\n")),
    _bad("9112 §7.1.2", "a bare LF in a trailer", _chunks(b"0\r\nA: b\nC: d\r\n\r\n")),
    # RFC 9112 §9
    _ok("9112 §9.3", "three requests on one connection", GET * 3, 3),
    _ok("9112 §9.3.2", "pipelined with bodies", _chunks(_HELLO) * 2 + GET, 3),
    _last("9112 §9.3", "HTTP/1.0 ends", _request("GET / HTTP/1.0")),
    _ok("9112 §9.3", "HTTP/1.0 kept alive", _request("GET / HTTP/1.0", "Connection: keep-alive")),
    _last("9112 §9.6", "Connection: close", _request("GET / HTTP/1.1", "Connection: close")),
    _last(
        "9112 §9.6",
        "close in a list, in capitals",
        _request("GET / HTTP/1.1", "Connection: x, CLOSE"),
    ),
    _last(
        "9112 §9.6",
        "nothing after a last request",
        _request("GET / HTTP/1.1", "Connection: close") + GET,
    ),
    _bad("9112 §9.3.2", "an invalid request after a valid one", GET + _BAD, answers=1),
    _bad("9112 §11.2", "nothing behind a bad one", _BAD + GET),
    # RFC 9110
    _ok(
        "9110 §7.8",
        "an unknown upgrade",
        _request("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: x/1") + GET,
        2,
    ),
    _ok("9110 §9.3.2", "HEAD", _request("HEAD / HTTP/1.1")),
    _bad(
        "9110 §10.1.1",
        "an unknown expectation",
        _request(_POST, "Expect: x", "Content-Length: 0"),
        417,
    ),
    _ok(
        "9110 §10.1.1",
        "100-continue with its body",
        _request(_POST, "Expect: 100-continue", "Content-Length: 5", body=b"hello"),
    ),
    _bad(
        "9110 §15.5.15",
        "a target of 1 MB",
        _request(f"GET /{'a' * 1_000_000} HTTP/1.1"),
        414,
        431,
        400,
    ),
    _bad(
        "6585 §5", "a field of 1 MB", _request("GET / HTTP/1.1", "A: " + "a" * 1_000_000), 431, 400
    ),
    _bad("6585 §5", "10,000 fields", _request("GET / HTTP/1.1", *["A: b"] * 10_000), 431, 400),
    _bad(
        "6455 §4.2.1",
        "a handshake without a key",
        _request(
            "GET / HTTP/1.1",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
        ),
    ),
    _bad(
        "6455 §4.4",
        "WebSocket version 12",
        _request(
            "GET / HTTP/1.1",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 12",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        426,
        400,
    ),
)
