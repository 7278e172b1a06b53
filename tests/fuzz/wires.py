"""Makes up HTTP/1.1 as nobody should send it: sound requests, each bent in a few places."""

import random

_METHODS = (
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"get",
    b"G\x00T",
    b"PO ST",
    b"",
)
_TARGETS = (
    *(b"/", b"/_me", b"/a?b=c", b"/%2e%2e/", b"*", b"http://a/x", b"a:80", b"//a/b", b"/a b"),
    *(b"/\xc3\xa9", b"/a#b", b"/a\tb", b"/" + b"a" * 200),
)
_VERSIONS = (b"HTTP/1.1",) * 6 + (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/01.1")
_LENGTHS = (
    *(b"0", b"5", b"5", b"5", b"+5", b"-5", b"05", b"5, 5", b"5,6", b"5 5", b"0x5", b"5_0"),
    *(b"", b"9" * 20, b"\x355", b"5\x00", b"5\x0b", b"\xd9\xa5"),
)
_CODINGS = (
    *(b"chunked",) * 4,
    *(b"Chunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"identity", b""),
    *(b"\x0bchunked", b"chunked\x00", b'"chunked"', b"chunked;a=b", b",chunked", b"xchunked"),
)
_NAMES = (b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"X-A", b"Expect")
_SPACES = (b"", b"", b"", b" ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\r")
_ENDS = (b"\r\n",) * 12 + (b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n ", b"\r\n\t")
_SIZES = (
    b"5",
    b"5",
    b"5",
    b"05",
    b"0x5",
    b"+5",
    b"-5",
    b"5 ",
    b" 5",
    b"5_",
    b"",
    b"f" * 17,
    b"5\n",
)
_EXTENSIONS = (b"", b"", b"", b";", b";a", b";a=b", b';a="b"', b";a=\n", b"; a", b";\x00", b" ;a=b")
_TRAILERS = (b"X: y\r\n", b"Content-Length: 5\r\n", b"X : y\r\n", b" y\r\n")
_BODY = b"hello"


def make_wire(chance: random.Random) -> bytes:
    """Give a few requests, each sound but for what chance bends, and maybe a byte changed."""
    wire = b"".join(_make_request(chance) for _ in range(chance.randint(1, 3)))
    if chance.random() < 0.3:
        at = chance.randrange(len(wire))
        wire = wire[:at] + bytes([chance.randrange(256)]) + wire[at + chance.randint(0, 1) :]
    return wire


def _bent(chance: random.Random, sound: bytes, odd: tuple[bytes, ...]) -> bytes:
    """Give what is sound, now and then something odd."""
    return chance.choice(odd) if chance.random() < 0.15 else sound


def _make_request(chance: random.Random) -> bytes:
    method = _bent(chance, chance.choice((b"GET", b"POST", b"PUT")), _METHODS)
    target, version = _bent(chance, b"/", _TARGETS), _bent(chance, b"HTTP/1.1", _VERSIONS)
    end = _bent(chance, b"\r\n", _ENDS)
    lines = [b" ".join((method, target, version)) + end, b"Host: a\r\n"]
    framing = chance.choice(("none", "length", "chunked", "both", "odd"))
    if framing in ("length", "both"):
        lines.append(_field(chance, b"Content-Length", _bent(chance, b"5", _LENGTHS)))
    if framing in ("chunked", "both"):
        lines.append(_field(chance, b"Transfer-Encoding", _bent(chance, b"chunked", _CODINGS)))
    if framing == "odd":
        name = chance.choice(_NAMES)
        values = _LENGTHS + _CODINGS + (b"close", b"keep-alive", b"100-continue", b"b")
        lines.append(_field(chance, name, chance.choice(values)))
    if chance.random() < 0.1:
        lines.append(chance.choice(lines[1:]))
    chance.shuffle(lines[1:])
    return b"".join(lines) + b"\r\n" + _make_body(chance, framing)


def _field(chance: random.Random, name: bytes, value: bytes) -> bytes:
    before, after = _bent(chance, b"", _SPACES), _bent(chance, b" ", _SPACES)
    return (
        name
        + before
        + b":"
        + after
        + value
        + _bent(chance, b"", _SPACES)
        + _bent(chance, b"\r\n", _ENDS)
    )


def _make_body(chance: random.Random, framing: str) -> bytes:
    if framing == "length":
        return _BODY
    if framing in ("chunked", "both"):
        size, extension = _bent(chance, b"5", _SIZES), _bent(chance, b"", _EXTENSIONS)
        end = _bent(chance, b"\r\n", _ENDS)
        trailer = _bent(
            chance, b"", (b"X: y\r\n", b"Content-Length: 5\r\n", b"X : y\r\n", b" y\r\n")
        )
        last = _bent(chance, b"0", (b"00", b"000000000000000000", b"0;a", b"-0"))
        return size + extension + end + _BODY + b"\r\n" + last + b"\r\n" + trailer + b"\r\n"
    return chance.choice((b"", b"", _BODY))
