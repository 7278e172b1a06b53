"""Compressed messages (RFC 7692): what is agreed, what is read, what is sent."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.http11.head import HeadLimits
from protocol.receive_buffer import Buffer
from protocol.websocket.deflate import (
    COMPRESS_FROM_BYTES,
    COMPRESS_UP_TO_BYTES,
    Agreement,
    InflateLimits,
    Inflating,
    choose_offer,
    deflate,
)
from protocol.websocket.messages import Event, Message, MessageLimits, Ping, WebSocket, write_text
from tests.support.wire_cases import (
    HANDSHAKE,
    answer,
    as_json,
    cuts,
    frame,
    frames_sent,
    serve,
    small_wire,
)

TEXT, BINARY, PING = 1, 2, 9
RSV1 = 0x40
ALL = Agreement()
PLAIN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
# RFC 7692 §7.2.3.1 to §7.2.3.5: "Hello" in one block, without compression, in a last block, and in
# two blocks.
HELLOS = (
    bytes.fromhex("f248cdc9c90700"),
    bytes.fromhex("000500faff48656c6c6f00"),
    bytes.fromhex("f348cdc9c9070000"),
    bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")),
)


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("permessage-deflate", PLAIN),
        ("permessage-deflate; client_max_window_bits", PLAIN),
        ("permessage-deflate;client_max_window_bits=8", PLAIN),
        ('permessage-deflate; client_max_window_bits="15"', PLAIN),
        ("permessage-deflate; client_no_context_takeover", PLAIN),
        ("permessage-deflate; server_no_context_takeover", PLAIN),
        ("permessage-deflate; server_max_window_bits=9", PLAIN + "; server_max_window_bits=9"),
        ("x; y=1, permessage-deflate", PLAIN),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", PLAIN),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("permessage-deflate; more", None),
        ("permessage-bzip2", None),
    ],
)
def test_offers(offered: str, answered: str | None) -> None:
    """RFC 7692 §5, §7.1."""
    agreement = choose_offer(offered)
    assert (None if agreement is None else str(agreement)) == answered


@pytest.mark.parametrize(
    "offered",
    ["", ";", "a;", "a; =1", "a; b=", "a b", ", a", "a; b=\x22", "a" + " " * 20_000 + "b"],
)
def test_fields_that_are_no_list(offered: str) -> None:
    """RFC 6455 §9.1."""
    with pytest.raises(ProtocolError):
        choose_offer(offered)


def inflate(parts: list[bytes], limits: InflateLimits | None = None) -> bytes:
    inflating = Inflating(limits or InflateLimits(1 << 20, 1100))
    last = len(parts) - 1
    return b"".join(inflating.feed(part, is_last=at == last) for at, part in enumerate(parts))


@pytest.mark.parametrize("payload", HELLOS, ids=bytes.hex)
def test_the_rfcs_examples(payload: bytes) -> None:
    for parts in cuts(payload):
        assert inflate(parts) == b"Hello"


@given(st.binary(max_size=4000), st.sampled_from([None, 9, 12, 15]))
def test_what_is_sent_can_be_read(payload: bytes, bits: int | None) -> None:
    sent = deflate(payload, Agreement(bits))
    assert not sent.endswith(b"\x00\x00\xff\xff")
    assert zlib.decompress(sent + b"\x00\x00\xff\xff\x03\x00", -(bits or 15)) == payload
    assert inflate([sent]) == payload


@pytest.mark.parametrize(
    ("size", "is_compressed"),
    [
        (COMPRESS_FROM_BYTES - 1, False),
        (COMPRESS_FROM_BYTES, True),
        (COMPRESS_UP_TO_BYTES, True),
        (COMPRESS_UP_TO_BYTES + 1, False),
    ],
)
def test_small_and_large_messages_are_sent_as_they_are(size: int, is_compressed: bool) -> None:
    sent = write_text(bytes(size), Agreement(None))
    assert bool(sent[0] & RSV1) is is_compressed
    assert (len(sent) > size) is not is_compressed


@given(st.binary(max_size=300))
def test_whatever_comes_inflates_or_is_refused(payload: bytes) -> None:
    try:
        inflate([payload])
    except ProtocolError as refused:
        assert refused.close_code in (1007, 1009)


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
def test_the_inflated_size_is_bounded(size: int, fits: bool) -> None:
    """At the bound and one past it, however little of it was sent and however it was cut."""
    limits = InflateLimits(1000, 1100)
    for parts in cuts(deflate(b"x" * size, ALL)):
        if fits:
            assert inflate(parts, limits) == b"x" * size
        else:
            with pytest.raises(ProtocolError) as refused:
                inflate(parts, limits)
            assert refused.value.close_code == 1009


def test_the_ratio_is_bounded_beyond_what_is_free() -> None:
    sent = deflate(b"x" * 100_000, ALL)
    assert len(sent) * 100 < 100_000
    assert inflate([deflate(b"x" * 65_536, ALL)], InflateLimits(1 << 20, 100)) == b"x" * 65_536
    with pytest.raises(ProtocolError) as refused:
        inflate([sent], InflateLimits(1 << 20, 100))
    assert refused.value.close_code == 1009


def test_last_blocks_are_counted() -> None:
    """Each would cost a new stream."""
    empty = bytes.fromhex("0300")  # a last block of nothing
    assert inflate([empty * 7]) == b""
    with pytest.raises(ProtocolError) as refused:
        inflate([empty * 8])
    assert refused.value.close_code == 1007


def compressed(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    wire = bytearray(frame(opcode, payload, final=final))
    wire[0] |= RSV1
    return bytes(wire)


def read(parts: list[bytes], agreement: Agreement | None = ALL) -> list[Event | int]:
    buffer = Buffer()
    socket = WebSocket(MessageLimits(message_bytes=300, frames=4), agreement)
    events: list[Event | int] = []
    try:
        for part in parts:
            buffer.append(part)
            while (event := socket.feed(buffer)) is not None:
                events.append(event)
    except ProtocolError as broken:
        events.append(broken.close_code)
    return events


HALF = HELLOS[0][:3], HELLOS[0][3:]
LONG = b"ab" * 150


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        (compressed(TEXT, HELLOS[0]), [Message(b"Hello", True)]),
        (compressed(TEXT, HELLOS[0]) * 2, [Message(b"Hello", True)] * 2),
        (compressed(BINARY, HELLOS[1]), [Message(b"Hello", False)]),
        (frame(TEXT, b"plain"), [Message(b"plain", True)]),
        (compressed(TEXT, b"\x00"), [Message(b"", True)]),
        (
            compressed(TEXT, HALF[0], final=False) + frame(PING, b"p") + frame(0, HALF[1]),
            [Ping(b"p"), Message(b"Hello", True)],
        ),
        (
            compressed(TEXT, HELLOS[0], final=False) + frame(0, b""),
            [Message(b"Hello", True)],
        ),
        (compressed(TEXT, deflate(LONG, ALL)), [Message(LONG, True)]),
        (compressed(TEXT, deflate(LONG + b"a", ALL)), [1009]),
        (compressed(BINARY, bytes(301)), [1009]),
        (compressed(TEXT, deflate(b"\xff", ALL)), [1007]),
        (compressed(TEXT, deflate("é".encode()[:1], ALL)), [1007]),
        (compressed(TEXT, b"\xff\xff"), [1007]),
        (compressed(PING, b""), [1002]),
        (frame(TEXT, b"a", final=False) + compressed(0, b""), [1002]),
        (compressed(0, b""), [1002]),
    ],
)
def test_compressed_frames(wire: bytes, events: list[Event | int]) -> None:
    """RFC 7692 §6, §7.2.2, whole, byte by byte and cut at every place."""
    for parts in cuts(wire):
        assert read(parts) == events


def test_without_an_agreement_the_bit_is_reserved() -> None:
    """RFC 6455 §5.2."""
    assert read([compressed(TEXT, HELLOS[0])], None) == [1002]


@pytest.mark.parametrize("bit", [0x20, 0x10])
def test_the_other_reserved_bits(bit: int) -> None:
    wire = bytearray(frame(TEXT, b"a"))
    wire[0] |= bit
    assert read([bytes(wire)]) == [1002]


OFFER = HANDSHAKE.replace(
    b"Host: a", b"Host: a\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
)


@pytest.mark.parametrize(
    ("enabled", "offer", "agreed"),
    [(True, OFFER, True), (True, HANDSHAKE, False), (False, OFFER, False)],
)
def test_answers_are_compressed_where_it_was_agreed(
    enabled: bool, offer: bytes, agreed: bool
) -> None:
    connection = Connection(small_wire(compresses_messages=enabled, head_limits=HeadLimits()))
    connection.receive(offer)
    connection.receive(b"")
    head = connection.bytes_to_send()
    assert (b"\r\nSec-WebSocket-Extensions: " + PLAIN.encode() in head) == agreed
    message = b'{"controller":"server","action":"now","requestId":"r"}'
    for result, is_private, is_packed in (
        ("x" * 2000, False, agreed),
        ("x" * 2000, True, False),
        ("x", False, False),
    ):
        [request] = connection.receive(frame(TEXT, message))
        connection.send(request, answer(request, result=result, is_private=is_private))
        out = connection.bytes_to_send()
        assert out[0] == (0xC1 if is_packed else 0x81)
        payload = out[2 if out[1] < 126 else 4 :]
        text = inflate([payload]) if is_packed else payload
        assert as_json(text)["result"] == result


def test_a_refused_compression_closes_with_its_code() -> None:
    connection = Connection(small_wire(compresses_messages=True, head_limits=HeadLimits()))
    connection.receive(OFFER)
    connection.receive(b"")
    connection.bytes_to_send()
    _, out = serve(connection, compressed(TEXT, b"\xff\xff"))
    [(opcode, payload)] = frames_sent(out)
    assert (opcode, payload[:2]) == (8, (1007).to_bytes(2, "big"))
