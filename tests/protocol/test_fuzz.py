"""What fuzzers begin with, and a first look with each of them (`python -m tests.fuzz` goes on)."""

import random

import pytest

from tests.fuzz.corpus import CORPUS
from tests.fuzz.differential import compare
from tests.fuzz.readers import read_ours
from tests.fuzz.targets import TARGETS
from tests.fuzz.wires import make_wire


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    """Every input there is, to every target: each was made for one, and none may hurt another."""
    for inputs in CORPUS.values():
        for data in inputs:
            TARGETS[name](data)


def test_what_we_read_others_read_too() -> None:
    """security check H6: nothing is read in two ways, or where h11 or llhttp would not read it."""
    chance = random.Random(20_261_124)
    verdicts = set()
    for _ in range(1500):
        wire = make_wire(chance)
        for name, verdict in compare(wire):
            assert verdict in ("agree", "stricter", "known"), (name, wire)
            verdicts.add(verdict)
    assert verdicts == {"agree", "stricter", "known"}


NEXT = b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "wire",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n\r\n" + NEXT,
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab\r\n" + NEXT,
        b"PUT / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + NEXT,
    ],
)
def test_what_may_stand_between_requests_is_read_alike(wire: bytes) -> None:
    """RFC 9112 §2.2, §9.3: an empty line, and a connection that HTTP/1.0 keeps."""
    assert len(read_ours(wire).requests) == 2
    assert dict(compare(wire)) == {"h11": "agree", "llhttp": "agree"}
