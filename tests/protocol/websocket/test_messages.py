"""WebSocket messages and handshakes: fragments, interleaved control frames, UTF-8, closing."""

import pytest

from protocol.errors import ProtocolError
from protocol.http11.head import Head, HeadLimits, parse_head
from protocol.receive_buffer import Buffer
from protocol.websocket.handshake import accept_handshake, is_upgrade
from protocol.websocket.messages import (
    Close,
    Event,
    Message,
    MessageLimits,
    Ping,
    Pong,
    WebSocket,
    close_frame,
)
from tests.support.wire_cases import HANDSHAKE, MASK, cuts, frame

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LIMITS = MessageLimits(message_bytes=300, frames=4)


def read(parts: list[bytes]) -> list[Event | int]:
    """Give the events, and last the close code of a refusal."""
    buffer, socket = Buffer(), WebSocket(LIMITS)
    events: list[Event | int] = []
    try:
        for part in parts:
            buffer.append(part)
            while (event := socket.feed(buffer)) is not None:
                events.append(event)
    except ProtocolError as broken:
        events.append(broken.close_code)
    return events


def code(number: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, number.to_bytes(2, "big") + reason)


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        (frame(TEXT, b"hi"), [Message(b"hi", True)]),
        (frame(TEXT), [Message(b"", True)]),
        (frame(BINARY, b"\xff\x00"), [Message(b"\xff\x00", False)]),
        (frame(TEXT, b"hi", mask=bytes(4)), [Message(b"hi", True)]),
        (frame(TEXT, b"a") + frame(BINARY, b"b"), [Message(b"a", True), Message(b"b", False)]),
        (
            frame(TEXT, b"a", final=False) + frame(0, b"", final=False) + frame(0, b"b"),
            [Message(b"ab", True)],
        ),
        (frame(TEXT, final=False) + frame(0, b"b"), [Message(b"b", True)]),
        (
            frame(TEXT, b"a", final=False) + frame(PING, b"p") + frame(PONG) + frame(0, b"b"),
            [Ping(b"p"), Pong(), Message(b"ab", True)],
        ),
        (frame(PING, b"x" * 125), [Ping(b"x" * 125)]),
        (frame(PONG, b"unasked"), [Pong()]),
        (frame(TEXT, "é€😀".encode()), [Message("é€😀".encode(), True)]),
        (
            frame(TEXT, b"\xf0\x9f", final=False) + frame(PING) + frame(0, b"\x98\x80"),
            [Ping(b""), Message("😀".encode(), True)],
        ),
        (frame(TEXT, b"x" * 300), [Message(b"x" * 300, True)]),
        (
            frame(TEXT, b"x" * 299, final=False) + frame(0, b"y"),
            [Message(b"x" * 299 + b"y", True)],
        ),
        (
            frame(TEXT, final=False) + frame(0, final=False) * 2 + frame(0) + frame(TEXT),
            [Message(b"", True)] * 2,
        ),
        (frame(CLOSE), [Close(None, "")]),
        *(
            (code(number, "bé".encode()), [Close(number, "bé")])
            for number in (1000, 1001, 1002, 1003, 1007, 1014, 3000, 4999)
        ),
        (code(1000, b"x" * 123), [Close(1000, "x" * 123)]),
    ],
)
def test_events(wire: bytes, events: list[Event]) -> None:
    for parts in cuts(wire):
        assert read(parts) == events


@pytest.mark.parametrize(
    ("wire", "close_code"),
    [
        (frame(0, b"x"), 1002),
        (frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), 1002),
        (frame(TEXT, b"x") + frame(0, b"y"), 1002),
        (frame(TEXT, b"x", final=False) + frame(BINARY, b"y"), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        *((code(number), 1002) for number in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
        (code(1000, b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(TEXT, b"\xc0\x80"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
        (frame(TEXT, b"\xc3", final=False) + frame(0, b"x"), 1007),
        (frame(TEXT, b"\xc3", final=False) + frame(0, b""), 1007),
        (frame(TEXT, b"x" * 301), 1009),
        (frame(TEXT, b"x" * 300, final=False) + frame(0, b"y"), 1009),
        (frame(TEXT, final=False) + frame(0, final=False) * 3 + frame(0), 1009),
    ],
)
def test_refused_frames(wire: bytes, close_code: int) -> None:
    for parts in cuts(wire):
        assert [event for event in read(parts) if isinstance(event, int)] == [close_code]


@pytest.mark.parametrize("start", [b"\xff", b"\xf4\x90", b"\xed\xa0\x80", b"\xe2\x82x"])
def test_what_can_not_be_utf8_is_refused_before_the_frame_is_whole(start: bytes) -> None:
    begun = frame(TEXT, start + b"x" * (200 - len(start)))[: 8 + len(start)]
    assert read([begun]) == [1007]
    assert read([begun[at : at + 1] for at in range(len(begun))]) == [1007]


def test_a_message_too_big_is_refused_by_its_head() -> None:
    assert read([b"\x81\xff" + (2**62).to_bytes(8, "big") + MASK]) == [1009]


def test_close_frames_hold_125_bytes_and_whole_characters() -> None:
    assert close_frame(1001, "bye") == b"\x88\x05\x03\xe9bye"
    assert close_frame(1002, "x" * 122 + "é") == b"\x88\x7c\x03\xea" + b"x" * 122


def upgrade(find: bytes = b"", put: bytes = b"") -> Head:
    return parse_head(HANDSHAKE.replace(find, put), HeadLimits())


def test_the_handshake_of_rfc_6455_1_3() -> None:
    assert is_upgrade(upgrade())
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]
    assert accept_handshake(upgrade()) == (fields, None)


@pytest.mark.parametrize(
    ("offer", "chosen"), [(b"json", "json"), (b"a.b/c".replace(b"/", b"-") + b", z", "a.b-c")]
)
def test_the_first_subprotocol_is_taken(offer: bytes, chosen: str) -> None:
    head = upgrade(b"Host: a", b"Host: a\r\nSec-WebSocket-Protocol: " + offer)
    assert accept_handshake(head)[0][-1] == ("Sec-WebSocket-Protocol", chosen)


@pytest.mark.parametrize(
    ("find", "put", "status"),
    [
        (b"Version: 13", b"Version: 8", 426),
        (b"Version: 13", b"Version: 013", 426),
        (b"Sec-WebSocket-Version: 13\r\n", b"", 426),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ==, x", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ==", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"\xe9" * 24, 400),
        (b"GET", b"POST", 400),
        (b"Host: a", b"Host: a\r\nContent-Length: 1", 400),
        (b"Host: a", b"Host: a\r\nTransfer-Encoding: chunked", 400),
        (b"Host: a", b"Host: a\r\nSec-WebSocket-Protocol: \xe9", 400),
        (b"Host: a", b"Host: a\r\nSec-WebSocket-Protocol: ", 400),
        (b"Host: a", b"Host: a\r\nSec-WebSocket-Protocol: a b", 400),
    ],
)
def test_refused_handshakes(find: bytes, put: bytes, status: int) -> None:
    head = upgrade(find, put)
    assert is_upgrade(head)
    with pytest.raises(ProtocolError) as refused:
        accept_handshake(head)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("find", "put"),
    [
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Upgrade: websocket\r\n", b""),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_other_upgrades_are_none(find: bytes, put: bytes) -> None:
    assert not is_upgrade(upgrade(find, put))
