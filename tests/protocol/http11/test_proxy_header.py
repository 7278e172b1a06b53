"""The PROXY protocol, versions 1 and 2 (proxy-protocol.txt §2; security check H8)."""

import random
from ipaddress import ip_address

import pytest

from protocol.errors import ProtocolError
from protocol.http11.proxy_header import SIGNATURE, Proxied, parse_proxy
from tests.support.wire_cases import cuts

REST = b"GET / HTTP/1.1\r\n\r\n"


def v2(family: int, body: bytes, *, command: int = 0x21, size: int | None = None) -> bytes:
    """Write a header of version 2; `command` holds the version too."""
    length = len(body) if size is None else size
    return SIGNATURE + bytes([command, family]) + length.to_bytes(2, "big") + body


def addresses(source: str, target: str) -> bytes:
    """Write two addresses with the ports 56324 and 443."""
    packed = ip_address(source).packed + ip_address(target).packed
    return packed + (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")


INET = addresses("203.0.113.7", "10.0.0.1")
INET6 = addresses("2001:db8::7", "2001:db8::1")
TLV = b"\x04\x00\x03abc"

GOOD = [
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n", "203.0.113.7"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 0 443\r\n", "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff:f...f:ffff anything 65535\r\n", ""),
    (v2(0x11, INET), "203.0.113.7"),
    (v2(0x12, INET), "203.0.113.7"),
    (v2(0x11, INET + TLV), "203.0.113.7"),
    (v2(0x21, INET6), "2001:db8::7"),
    (v2(0x21, INET6 + TLV * 100), "2001:db8::7"),
    (v2(0x31, b"/run/client".ljust(216, b"\0")), ""),
    (v2(0x00, b""), ""),
    (v2(0x00, b"x" * 520), ""),
    (v2(0x00, b"", command=0x20), None),
    (v2(0x11, INET, command=0x20), None),
]


@pytest.mark.parametrize(("header", "address"), GOOD)
def test_headers(header: bytes, address: str | None) -> None:
    """However they are cut, and not a byte of what follows."""
    whole = Proxied(address, len(header))
    for parts in cuts(header):
        held = b""
        for part in parts[:-1]:
            held += part
            assert parse_proxy(held) is None
        assert parse_proxy(held + parts[-1]) == whole
    assert parse_proxy(header + REST) == whole


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY\r\n",
        b"proxy TCP4 203.0.113.7 10.0.0.1 56324 443\r\n",
        b"PROXY \r\n",
        b"PROXY TCP5 203.0.113.7 10.0.0.1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 56324\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443 1\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1  56324 443\r\n",
        b"PROXY TCP4 203.0.113.7\t10.0.0.1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.07 10.0.0.1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.256 10.0.0.1 56324 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n",
        b"PROXY TCP6 203.0.113.7 10.0.0.1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 +1 443\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 01 443\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 65536\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\n\r\n",
        b"PROXY TCP4 203.0.113.\xb2 10.0.0.1 56324 443\r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        SIGNATURE[:-1] + b"\r",
        v2(0x11, INET, command=0x11),
        v2(0x11, INET, command=0x31),
        v2(0x11, INET, command=0x22),
        v2(0x41, INET),
        v2(0x13, INET),
        v2(0x11, INET[:-1]),
        v2(0x21, INET6[:-1]),
        v2(0x31, b"x" * 215),
        v2(0x11, INET, size=4097),
    ],
)
def test_headers_that_are_none(header: bytes) -> None:
    """Refused as soon as that can be seen, and never understood."""
    with pytest.raises(ProtocolError):
        parse_proxy(header)
    for end in range(len(header)):
        try:
            assert parse_proxy(header[:end]) is None
        except ProtocolError:
            return


def test_the_longest_line() -> None:
    """§2.1: 107 bytes with CR LF, and not one more is waited for."""
    line = b"PROXY UNKNOWN " + b"x" * 91
    assert parse_proxy(line + b"\r\n") == Proxied("", 107)
    assert parse_proxy(line + b"\r") is None
    with pytest.raises(ProtocolError):
        parse_proxy(line + b"x\r\n")


def test_random_bytes() -> None:
    """Anything is waited for, understood or refused."""
    source = random.Random(20)
    starts = [b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x0c"]
    for _ in range(3000):
        data = source.choice(starts) + source.randbytes(source.randrange(40))
        try:
            found = parse_proxy(data)
        except ProtocolError:
            continue
        assert found is None or 0 < found.size_bytes <= len(data)
