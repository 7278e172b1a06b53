"""Request ids: random UUIDs (version 4), made from one block of random bytes at a time."""

import os

_IN_A_BLOCK = 256
_ID_BYTES = 16


class RequestIds:
    """Gives ids nobody can foretell; asking the system for each of them would cost as much as a whole answer."""

    __slots__ = ("_ready",)

    def __init__(self) -> None:
        self._ready: list[str] = []

    def take(self) -> str:
        """Give an id that was not given before."""
        if not self._ready:
            self._ready = _make_block()
        return self._ready.pop()


def _make_block() -> list[str]:
    digits = os.urandom(_IN_A_BLOCK * _ID_BYTES).hex()
    # RFC 9562 §5.4: version 4, variant 10; the variant's two free bits stay 0, 120 random ones are plenty.
    return [
        f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-4{digits[at + 13 : at + 16]}"
        f"-8{digits[at + 17 : at + 20]}-{digits[at + 20 : at + 32]}"
        for at in range(0, len(digits), 2 * _ID_BYTES)
    ]
