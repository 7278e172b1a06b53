"""What the comparable servers do: find the token's user in a dict, write the envelope with orjson.

The ids they give are a counter, the cheapest there is, so that none pays for good randomness.
"""

from itertools import count

import orjson

from bench.subject.sample import read_sample

_SAMPLE = read_sample()
_USERS = {str(_SAMPLE.result["_id"]): _SAMPLE.result}
_TOKENS = {_SAMPLE.token: str(_SAMPLE.result["_id"])}
_NODE = _SAMPLE.node
_COUNTER = count()
_REFUSED = {"code": 0x07010005, "id": "security.token.invalid", "message": "bad token"}


def me_over_http(authorization: bytes) -> tuple[int, bytes]:
    """Give status and body for the value of an `Authorization` field."""
    kuid = _TOKENS.get(authorization[7:].decode("latin-1"))
    envelope = _envelope(kuid, f"{next(_COUNTER):036x}")
    return (200 if kuid is not None else 401), orjson.dumps(envelope)


def me_over_websocket(message: bytes | str | memoryview) -> bytes:
    """Give the payload that answers a message."""
    request = orjson.loads(message)
    request_id = request["requestId"]
    envelope = _envelope(_TOKENS.get(request["jwt"]), request_id)
    envelope["room"] = request_id
    return orjson.dumps(envelope)


def _envelope(kuid: str | None, request_id: str) -> dict[str, object]:
    known = kuid is not None
    return {
        "action": "getCurrentUser",
        "controller": "auth",
        "error": None if known else _REFUSED,
        "headers": {},
        "node": _NODE,
        "requestId": request_id,
        "result": _USERS[kuid] if kuid is not None else None,
        "status": 200 if known else 401,
        "volatile": None,
    }
