"""Messages that repeat the one before them: nothing but a new id is ever taken from them."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.api.request import Request, from_websocket
from protocol.api.request_template import RequestTemplate, make_template
from protocol.connection import Connection
from protocol.http11.head import NO_HEAD
from protocol.websocket.frames import take_whole_text
from tests.support.wire_cases import HANDSHAKE, as_json, frame, frames_sent, serve, small_wire

TEXT = 1
MASKS = st.binary(min_size=4, max_size=4)
ID = "0f9e-11"


def text_of(request_id: object = ID, **more: object) -> bytes:
    payload = {"controller": "auth", "action": "now", "jwt": "a.b.c" * 9, **more}
    return orjson.dumps({**payload, "requestId": request_id})


def learn(text: bytes) -> RequestTemplate | None:
    return make_template(frame(TEXT, text), text, from_websocket(text, NO_HEAD, None))


def said(request: Request) -> tuple[object, ...]:
    return (
        request.controller,
        request.action,
        request.token,
        request.volatile,
        request.body,
        request.args,
        request.request_id,
        request.refused,
        request.has_room,
    )


@given(MASKS, st.from_regex(r"[A-Za-z0-9-]{7}", fullmatch=True))
def test_another_id_under_another_mask(mask: bytes, request_id: str) -> None:
    repeat = learn(text_of(volatile={"sdkName": "js"}))
    assert repeat is not None
    text = text_of(request_id, volatile={"sdkName": "js"})
    request = repeat.take(frame(TEXT, text, mask=mask))
    if request_id == "-------":
        assert request is None
    else:
        assert request is not None
        assert said(request) == said(from_websocket(text, NO_HEAD, None))


@given(MASKS, st.data())
def test_whatever_is_taken_is_read_the_same(mask: bytes, data: st.DataObject) -> None:
    """A frame changed anywhere gives what reading it in full gives, or is left to that."""
    repeat = learn(text_of())
    assert repeat is not None
    wire = bytearray(frame(TEXT, text_of(), mask=mask))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at] = data.draw(st.integers(0, 255))
    request = repeat.take(bytes(wire))
    if request is not None:
        payload = take_whole_text(bytes(wire))
        assert payload is not None
        assert said(request) == said(from_websocket(payload, NO_HEAD, None))


@pytest.mark.parametrize(
    "text",
    [
        text_of("new-id!"),
        text_of('a","b":'),
        text_of("1234567\x80"[:7].replace("7", "é")),
        text_of("short"),
        text_of("longer than it"),
        text_of("       "),
        text_of(action="not"),
        text_of(jwt="a.b.d" * 9),
        text_of(volatile=None),
    ],
)
def test_other_messages_are_read_in_full(text: bytes) -> None:
    repeat = learn(text_of())
    assert repeat is not None
    assert repeat.take(frame(TEXT, text)) is None


@pytest.mark.parametrize(
    "wire",
    [
        frame(TEXT, text_of())[:-1],
        frame(TEXT, text_of()) + b"\x00",
        frame(2, text_of()),
        frame(TEXT, text_of(), final=False),
        b"",
    ],
)
def test_other_frames_are_read_in_full(wire: bytes) -> None:
    repeat = learn(text_of())
    assert repeat is not None
    assert repeat.take(wire) is None


@pytest.mark.parametrize(
    "text",
    [
        text_of(None),
        text_of(""),
        text_of(5),
        text_of(body={"a": 1}),
        text_of(index="i"),
        text_of(volatile={"requestId": ID}),
        text_of(volatile={"a": 'the "requestId"'}),
        text_of("a\\b"),
        text_of().replace(b'"requestId":', b'"requestId" :'),
        text_of().replace(b'"requestId"', b'"requestId":"x","requestId"'),
        text_of().replace(b'"requestId"', b'"r\\u0065questId"'),
        text_of(jwt="x" * 5000),
        text_of(controller=1),
    ],
)
def test_what_can_not_be_told_by_its_text_is_not_learned(text: bytes) -> None:
    assert learn(text) is None


def test_a_connection_learns_from_the_second_and_answers_each_with_its_own_id() -> None:
    connection = Connection(small_wire())
    serve(connection, HANDSHAKE)
    asked = [f"id-{number}" for number in range(6)]
    answered, taken = [], []
    for request_id in asked:
        requests, out = serve(connection, frame(TEXT, text_of(request_id)))
        assert [request.request_id for request in requests] == [request_id]
        taken += requests
        answered += [as_json(text)["requestId"] for _, text in frames_sent(out)]
    assert answered == asked
    assert taken[0] is not taken[1]
    assert taken[1] is taken[2] is taken[5]
    [other], _ = serve(connection, frame(TEXT, text_of("id-0", action="else")))
    assert (other.action, other.request_id) == ("else", "id-0")


def test_requests_in_progress_are_never_given_another_id() -> None:
    """The one before must have been answered; until then messages are read in full."""
    connection = Connection(small_wire())
    serve(connection, HANDSHAKE)
    for request_id in ("id-0", "id-1", "id-2"):
        serve(connection, frame(TEXT, text_of(request_id)))
    [first] = connection.receive(frame(TEXT, text_of("id-3")))
    [second] = connection.receive(frame(TEXT, text_of("id-4")))
    assert (first.request_id, second.request_id) == ("id-3", "id-4")
