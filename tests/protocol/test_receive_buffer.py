"""The buffer: what it gives back, and that no byte is searched twice."""

import re

import pytest

from protocol.receive_buffer import Buffer
from tests.support.wire_cases import cuts

BARE_LF = re.compile(rb"(?<!\r)\n")


def filled(*parts: bytes) -> Buffer:
    buffer = Buffer()
    for part in parts:
        buffer.append(part)
    return buffer


def test_takes_what_was_appended_in_order() -> None:
    buffer = filled(b"abc", b"", b"def")
    assert (len(buffer), buffer.peek(2), buffer.take(4)) == (6, b"ab", b"abcd")
    assert (buffer.peek(9), buffer.take_all(), len(buffer)) == (b"ef", b"ef", 0)
    assert (buffer.take(1), buffer.take_all()) == (b"", b"")


def test_take_through_finds_the_first_mark_however_cut() -> None:
    for parts in cuts(b"one\r\n\r\ntwo\r\n\r\n"):
        buffer, taken = Buffer(), []
        for part in parts:
            buffer.append(part)
            while (found := buffer.take_through(b"\r\n\r\n")) is not None:
                taken.append(found)
        assert taken == [b"one\r\n\r\n", b"two\r\n\r\n"]


def test_line_end_is_the_first_and_forgotten_after_taking() -> None:
    for parts in cuts(b"one\r\ntwo\r\n"):
        buffer = Buffer()
        for part in parts:
            buffer.append(part)
            buffer.line_end()
        assert buffer.line_end() == 3
        buffer.take(5)
        assert buffer.line_end() == 3
        buffer.take(5)
        assert buffer.line_end() == -1


@pytest.mark.parametrize(
    ("wire", "holds"), [(b"a\r\nb\r\n", False), (b"a\nb", True), (b"\n", True), (b"a\r\n\n", True)]
)
def test_holds_new_sees_across_cuts(wire: bytes, holds: bool) -> None:
    for parts in cuts(wire):
        buffer = Buffer()
        found = False
        for part in parts:
            buffer.append(part)
            found = buffer.holds_new(BARE_LF) or found
        assert found is holds


class Counting(bytearray):
    """Counts the bytes a search may look at."""

    looked = 0

    def find(self, mark: bytes, start: int = 0) -> int:  # type: ignore[override]
        self.looked += len(self) - start
        return super().find(mark, start)


def test_searching_byte_by_byte_is_linear() -> None:
    buffer = Buffer()
    buffer.held = counted = Counting()
    for _ in range(4000):
        buffer.append(b"x")
        assert buffer.take_through(b"\r\n\r\n") is None
        assert buffer.line_end() == -1
    # Each byte is new once, and up to three before it are looked at again for a cut mark.
    assert counted.looked <= 4000 * 6
