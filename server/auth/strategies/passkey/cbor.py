"""CBOR structure check: what an authenticator may send (RFC 8949; CTAP 2.1 §8: canonical, no tags,
shallow).

Runs before a library decodes the data: with tags, 200 bytes can describe a structure that takes
gigabytes to write out. Nothing is decoded here.
"""

MOST_LEVELS = 8
"""Maximum nesting depth. CTAP allows four levels; extensions get some more."""
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_BYTES, _TEXT, _ARRAY, _MAP, _TAG = 2, 3, 4, 5, 6


def end_of_item(data: bytes, start: int = 0) -> int | None:
    """Return where the item that starts here ends; None if it is incomplete, or not allowed
    here."""
    at, open_items = start, [1]
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        open_items[-1] -= 1
        head = _head(data, at)
        if head is None or len(open_items) > MOST_LEVELS:
            return None
        major, argument, at = head
        if major in (_BYTES, _TEXT):
            at += argument
        elif major in (_ARRAY, _MAP):
            open_items.append(argument if major == _ARRAY else 2 * argument)
        if at > len(data):
            return None
    return at


def is_sequence(data: bytes, start: int, count: int) -> bool:
    """Return whether the rest of the data consists of exactly `count` items."""
    at: int | None = start
    for _ in range(count):
        at = None if at is None else end_of_item(data, at)
    return at == len(data)


def _head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return the major type of an item, its argument, and where its head ends."""
    if at >= len(data):
        return None
    major, low = data[at] >> 5, data[at] & 31
    size = _ARGUMENT_BYTES.get(low, 0)
    if major == _TAG or low > 27 or at + 1 + size > len(data):
        return None
    argument = int.from_bytes(data[at + 1 : at + 1 + size], "big") if size else low
    return major, argument, at + 1 + size
