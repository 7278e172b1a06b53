"""The inputs fuzzers begin with: own cases, one for each thing there is to be read."""

import gzip

import orjson

from protocol.websocket.deflate import Agreement, deflate

_MASK = b"\x01\x02\x03\x04"


def frame(first: int, payload: bytes) -> bytes:
    """Give a client's frame below 64 KiB."""
    size = len(payload)
    head = bytes((first, 0x80 | size))
    if size >= 126:
        head = bytes((first, 0xFE, size >> 8, size & 255))
    masked = bytes(byte ^ _MASK[at & 3] for at, byte in enumerate(payload))
    return head + _MASK + masked


def _http(line: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join((line + " HTTP/1.1", "Host: a", *fields, "", "")).encode("latin-1") + body


_MESSAGE = orjson.dumps(
    {"controller": "auth", "action": "login", "strategy": "local", "requestId": "r", "jwt": "a.b"}
)
_FORM = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n"
_CHUNKS = b"2;a=b\r\n{}\r\n0\r\nA: b\r\n\r\n"
_JSON = "Content-Type: application/json"

CORPUS: dict[str, tuple[bytes, ...]] = {
    "http": (
        _http("GET /_me", "Authorization: Bearer a.b.c"),
        _http("GET /?a=b&a=c&pretty&flag", "X-Kuzzle-Request-Id: r"),
        _http("HEAD /"),
        _http("OPTIONS *"),
        _http("GET http://a/b"),
        _http("POST /_query", _JSON, "Content-Length: 2", body=b"{}"),
        _http("POST /", _JSON, "Transfer-Encoding: chunked", body=_CHUNKS),
        _http("POST /", "Content-Length: 2", "Expect: 100-continue"),
        _http("GET /", "Connection: close"),
        _http("GET /") * 3,
        _http("GET /").replace(b"HTTP/1.1", b"HTTP/1.0"),
        _http("GET /", "Accept-Encoding: gzip", "Origin: http://b", "Cookie: authToken=x"),
        _http("GET /", 'X-Kuzzle-Volatile: {"a": 1}'),
        _http("GET /", "Content-Length: 1", "Transfer-Encoding: chunked"),
        b"\r\n" + _http("GET /"),
    ),
    "websocket": (
        frame(0x81, _MESSAGE),
        frame(0x82, _MESSAGE),
        frame(0x81, _MESSAGE) * 3,
        frame(0x01, _MESSAGE[:9]) + frame(0x89, b"p") + frame(0x80, _MESSAGE[9:]),
        frame(0xC1, deflate(_MESSAGE, Agreement())),
        frame(0x41, deflate(_MESSAGE, Agreement())[:5])
        + frame(0x80, deflate(_MESSAGE, Agreement())[5:]),
        frame(0x88, b"\x03\xe8bye"),
        frame(0x8A, b""),
        frame(0x81, b'{"p":1}'),
        frame(0x81, b"\xff"),
        frame(0x81, b"x" * 200),
    ),
    "json": (
        _MESSAGE,
        b'{"controller":"a","action":"b","body":{"c":[1,2.5,null,true,"d"]},"volatile":{"e":1}}',
        b'{"controller":1,"targets":[{"index":"i"}]}',
        b"a=b&a=c&d=%20",
        _FORM,
        gzip.compress(b'{"a":1}'),
        b"[" * 60 + b"]" * 60,
        b'{"a":1,"a":2}',
        b"null",
        '{"é":"\\ud83d\\ude00"}'.encode(),
    ),
}
