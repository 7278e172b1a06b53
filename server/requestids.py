"""Request ids: random UUIDs (version 4), made from one block of random bytes at a time."""

import os

_IN_A_BLOCK = 256
_TAIL_DIGITS = 12


class RequestIds:
    """Gives ids nobody gave before; asking the system for each would cost as much as an answer."""

    __slots__ = ("_ready",)

    def __init__(self) -> None:
        self._ready: list[str] = []

    def take(self) -> str:
        """Give an id that was not given before."""
        if not self._ready:
            self._ready = _make_block()
        return self._ready.pop()


def _make_block() -> list[str]:
    """Give ids that share their first 62 random bits; the last 48 tell them apart."""
    # RFC 9562 §5.4: version 4, variant 10.
    head = os.urandom(8).hex()
    shared = f"{head[:8]}-{head[8:12]}-4{head[13:16]}-8{os.urandom(2).hex()[:3]}-"
    tails = os.urandom(_IN_A_BLOCK * _TAIL_DIGITS // 2).hex()
    distinct = {
        shared + tails[at : at + _TAIL_DIGITS] for at in range(0, len(tails), _TAIL_DIGITS)
    }
    return list(distinct)
