"""A socket's message that says what the one before it said, under another id.

Who asks the same again and again sends the same text but for its `requestId`, masked anew each time
(RFC 6455 §5.3). That is seen in a few operations on whole numbers, without undoing the mask and
without reading the text again: a quarter of what a WebSocket request costs in the bench.
"""

from protocol.api.request import Request

_NAME = b"requestId"
_OPENING = b'"requestId":"'
MOST_BYTES = 1024
"""Longer messages are read anew each time: a silent socket would keep several times its size."""
_MASK_BYTES = 4
# One in every fourth byte: times a mask, it is that mask over and over.
_ONES = int.from_bytes(b"\x01\x00\x00\x00" * (MOST_BYTES // 4), "little")


class Repeat:
    """What the frames of one such message have in common.

    Whole numbers here are texts read with the first byte as the smallest digit.
    """

    __slots__ = (
        "_all_ones",
        "_before_bits",
        "_head",
        "_id_bytes",
        "_ones",
        "_request",
        "_rest",
        "_size",
    )

    def __init__(self, frame: bytes, payload: bytes, id_at: int, request: Request) -> None:
        request_id = (request.request_id or "").encode()
        blank = bytes(len(request_id))
        self._head = frame[: len(frame) - len(payload) - _MASK_BYTES]
        self._size = len(frame)
        self._all_ones = (1 << 8 * len(payload)) - 1
        self._ones = _ONES & self._all_ones
        self._rest = int.from_bytes(
            payload[:id_at] + blank + payload[id_at + len(blank) :], "little"
        )
        self._before_bits, self._id_bytes = 8 * id_at, len(blank)
        self._request = request

    def take(self, data: bytes) -> Request | None:
        """Give the request if `data` is one whole frame with this message, under an id of ASCII
        letters, digits and hyphens; None for anything else.

        It is the same object each time, with the new id: the one before must have been answered.
        """
        if len(data) != self._size or not data.startswith(self._head):
            return None
        at = len(self._head)
        mask = self._ones * int.from_bytes(data[at : at + _MASK_BYTES], "little")
        masked = int.from_bytes(data[at + _MASK_BYTES :], "little")
        differing = (masked ^ mask ^ self._rest) & self._all_ones
        found = differing >> self._before_bits
        if found << self._before_bits != differing or found.bit_length() > 8 * self._id_bytes:
            return None
        request_id = found.to_bytes(self._id_bytes, "little")
        if not request_id.replace(b"-", b"").isalnum():
            return None
        self._request.request_id = request_id.decode()
        return self._request


def learn_repeat(frame: bytes, payload: bytes, request: Request) -> Repeat | None:
    """Give what tells the repetitions of a whole frame's message; None for one that can't be told
    by its text alone.

    The one place of the id must be beyond doubt: its name stands once in a text without escapes.
    Body and arguments, which an action might change, are read anew each time.
    """
    request_id = request.request_id
    is_plain = request.refused is None and request.body is None and not request.args
    if not is_plain or request_id is None or len(payload) > MOST_BYTES:
        return None
    id_at = payload.find(_OPENING) + len(_OPENING)
    if id_at < len(_OPENING) or not payload.startswith(request_id.encode() + b'"', id_at):
        return None
    if payload.count(_NAME) != 1 or b"\\" in payload:
        return None
    return Repeat(frame, payload, id_at, request)
