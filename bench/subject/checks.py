"""Whether an answer is the one that must come, and still the same one as before."""

import re

from bench.loads.http_client import WrongAnswer
from bench.subject.sample import Sample

_CHANGING = re.compile(
    rb"(?<=\r\nDate: )[^\r]+|(?<=\r\nX-Kuzzle-Request-Id: )[^\r]+"
    rb'|(?<="requestId":")[^"]+|(?<="room":")[^"]+',
    re.IGNORECASE,
)


def settle(answer: bytes) -> bytes:
    """Blot out what differs from answer to answer, ids and dates, and keep its length."""
    return _CHANGING.sub(lambda found: b"*" * len(found[0]), answer)


def check_user(envelope: dict[str, object], sample: Sample, *, room: str | None = None) -> None:
    """Raise WrongAnswer unless the envelope gives the sample's user, members in their order.

    `room` is the request id a WebSocket answer must carry; an answer over HTTP has none.
    """
    wanted: dict[str, object] = {
        "action": "getCurrentUser",
        "controller": "auth",
        "error": None,
        "headers": {},
        "node": sample.node,
        "requestId": room if room is not None else envelope.get("requestId"),
        "result": sample.result,
        "status": 200,
        "volatile": None,
    }
    if room is not None:
        wanted["room"] = room
    if list(envelope) != list(wanted) or envelope != wanted:
        raise WrongAnswer(f"not the envelope of the user: {envelope}")


def check_result(result: dict[str, object], kuid: str, name: str) -> None:
    """Raise WrongAnswer unless this is what getCurrentUser must tell of the administrator."""
    source = result.get("_source")
    if list(result) != ["_id", "_source", "strategies"] or not isinstance(source, dict):
        raise WrongAnswer(f"not a user: {result}")
    found = (result["_id"], source.get("profileIds"), source.get("name"), result["strategies"])
    if found != (kuid, ["admin"], name, ["local"]):
        raise WrongAnswer(f"not the bench's administrator: {result}")


def check_same(before: bytes, after: bytes) -> None:
    """Raise WrongAnswer unless two answers are the same byte for byte, ids and dates apart."""
    if settle(before) != settle(after):
        raise WrongAnswer(f"the answer changed from {before!r} to {after!r}")
