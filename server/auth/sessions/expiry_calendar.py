"""Expiry calendar: which tokens expire when, without a timer for each, and without work for those
that are revoked before."""

import heapq

_SLOT_MS = 100


class ExpirySchedule:
    """Hashes of tokens by the moment in ms since 1970 at which something is due for them."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[bytes, float]] = {}
        # Slots in order, those that have become empty among them.
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._order) + sum(map(len, self._slots.values()))

    def enter(self, token_hash: bytes, at_ms: float) -> None:
        """Add a token; infinity means never."""
        if at_ms == float("inf"):
            return
        number = int(at_ms // _SLOT_MS)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heapq.heappush(self._order, number)
        slot[token_hash] = at_ms

    def leave(self, token_hash: bytes, at_ms: float) -> None:
        """Remove a token that was added for this moment, if it is still there."""
        number = None if at_ms == float("inf") else int(at_ms // _SLOT_MS)
        slot = None if number is None else self._slots.get(number)
        if number is None or slot is None or slot.pop(token_hash, None) is None:
            return
        if not slot:
            del self._slots[number]
            if len(self._order) > 1024 and len(self._order) > 4 * len(self._slots):
                self._order = sorted(self._slots)

    def take_due(self, now_ms: float) -> list[set[bytes]]:
        """Remove and return everything that is due."""
        due: list[set[bytes]] = []
        while self._order and self._order[0] * _SLOT_MS <= now_ms:
            slot = self._slots.get(self._order[0], {})
            if (self._order[0] + 1) * _SLOT_MS > now_ms:
                ripe = {token_hash for token_hash, at_ms in slot.items() if at_ms <= now_ms}
                for token_hash in ripe:
                    del slot[token_hash]
                due.append(ripe)
                if slot:
                    break
            else:
                due.append(set(slot))
            self._slots.pop(heapq.heappop(self._order), None)
        return [hashes for hashes in due if hashes]
