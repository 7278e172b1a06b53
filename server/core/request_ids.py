"""Request IDs: random UUIDs (version 4), generated from one block of random bytes at a time.

A system call for each of them would cost as much as a whole response.
"""

import os
from collections.abc import Iterator

_IN_A_BLOCK = 256
_TAIL_DIGITS = 12


def make_ids() -> Iterator[str]:
    """Yield unique IDs without end."""
    while True:
        # RFC 9562 §5.4: version 4, variant 10. A block shares its first 62 random bits.
        head, middle = os.urandom(8).hex(), os.urandom(2).hex()
        shared = f"{head[:8]}-{head[8:12]}-4{head[13:16]}-8{middle[:3]}-"
        tails = os.urandom(_IN_A_BLOCK * _TAIL_DIGITS // 2).hex()
        given: set[str] = set()
        for at in range(0, len(tails), _TAIL_DIGITS):
            tail = tails[at : at + _TAIL_DIGITS]
            if tail not in given:
                given.add(tail)
                yield shared + tail
