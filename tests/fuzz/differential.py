"""Our HTTP parser beside h11 and llhttp on made-up input: whatever we read, they must read too.

What we refuse and another reads is stricter on purpose; it is only counted. What we read and
another refuses, or reads as something else, is a finding, since somebody in front of us could see
other requests; save for what the RFC says must be read.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator

from tests.fuzz.readers import OTHERS, Reading, read_ours
from tests.fuzz.wires import make_wire

# llhttp knows a list of methods; to us any token is one (RFC 9110 §9.1), which has no route.
_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH ACL BIND CHECKOUT COPY LINK LOCK MERGE"
    b" M-SEARCH MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE QUERY REBIND"
    b" REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
_REQUIRED = (
    # To be read as HTTP/1.1 (RFC 9110 §2.5).
    re.compile(rb" HTTP/1\.[2-9]\r\n"),
    # Blanks at the end of a field are not part of it (RFC 9112 §5.1).
    re.compile(rb"(?i)chunked[ \t]+\r\n"),
    # Blanks around the semicolon must be read though nobody may write them (§7.1.1, BWS).
    re.compile(rb"\r\n[0-9A-Fa-f]+[ \t]*(?:;[ \t]*[\w=\"]+[ \t]*)*;?[ \t]"),
)


def compare(wire: bytes) -> Iterator[tuple[str, str]]:
    """Give, for each other reader, its name and how our reading stands beside its own: "agree",
    "stricter", "known" or a finding."""
    ours = read_ours(wire)
    for name, read in OTHERS.items():
        yield name, judge(ours, read(wire), wire)


def judge(ours: Reading, theirs: Reading, wire: bytes) -> str:
    """Say how two readings of the same bytes stand to each other."""
    for mine, other in zip(ours.requests, theirs.requests, strict=False):
        if (mine.method, mine.body) != (other.method, other.body):
            return "different"
    if len(ours.requests) > len(theirs.requests):
        unread = ours.requests[len(theirs.requests)]
        is_required = any(known.search(wire) for known in _REQUIRED)
        if unread.method not in _METHODS or is_required:
            return "known"
        return "laxer" if theirs.is_refused else "more"
    if ours.is_refused and (not theirs.is_refused or len(ours.requests) < len(theirs.requests)):
        return "stricter"
    return "agree" if len(ours.requests) == len(theirs.requests) else "less"


Found = list[tuple[str, bytes]]
_MOST_SHOWN = 20


def run(seconds: float, seed: int) -> tuple[int, Counter[tuple[str, str]], Found]:
    """Compare for some time; give how many wires there were, the counts and what was found."""
    chance, counts, found = random.Random(seed), Counter[tuple[str, str]](), Found()
    end_s, wires = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        wire = make_wire(chance)
        wires += 1
        for name, verdict in compare(wire):
            counts[name, verdict] += 1
            if verdict not in ("agree", "stricter", "known") and len(found) < _MOST_SHOWN:
                found.append((f"{verdict} than {name}", wire))
    return wires, counts, found
