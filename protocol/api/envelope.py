"""JSON response envelope, for HTTP and WebSocket.

Uses Request and Response, independent of the transport.
"""

import orjson

from protocol.api.request import Origin, Request, Response
from protocol.errors import LocalError

# Looked up for each answer, and a module global is ten times faster than an enum member.
_HTTP, _WEBSOCKET = Origin.HTTP, Origin.WEBSOCKET


class PreparedJson:
    """A cached result, serialized once for many responses; `json` is its JSON text.

    The envelope of a plain success is cached with it, as for the last request.
    """

    __slots__ = ("_after", "_before", "_names", "json")

    def __init__(self, result: object) -> None:
        self.json = orjson.dumps(result)
        self._names: tuple[str | None, ...] = ()
        self._before = self._after = b""

    def around(self, action: str | None, controller: str | None, node: str) -> tuple[bytes, bytes]:
        """Return the envelope before and after the request ID, without the last brace."""
        names = (action, controller, node)
        if names != self._names:
            opening: dict[str, object] = {
                "action": action,
                "controller": controller,
                "error": None,
                "headers": {},
                "node": node,
                "requestId": 0,
            }
            self._before = orjson.dumps(opening).removesuffix(b"0}")
            self._after = b',"result":%b,"status":200,"volatile":null' % self.json
            self._names = names
        return self._before, self._after


def format_envelope(request: Request, response: Response, node: str) -> bytes:
    """Return the JSON text of a response, keys in Kuzzle's order.

    A raw result has no envelope; over WebSocket an object gets a `room`. LocalError if the result
    of an action is not serializable as JSON.
    """
    args = request.args
    if not args and not request.is_pretty and response.is_plain:
        return format_plain(request, response, node)
    if response.is_raw and response.error is None:
        return _write_raw(request, response)
    envelope: dict[str, object] = {"action": response.action}
    if "collection" in args:
        envelope["collection"] = args["collection"]
    envelope["controller"] = response.controller
    envelope["error"] = None if response.error is None else response.error.as_json()
    envelope["headers"] = _shown_headers(response.headers) if response.headers else {}
    if "index" in args:
        envelope["index"] = args["index"]
    envelope["node"] = node
    envelope["requestId"] = response.request_id
    if response.has_result:
        envelope["result"] = response.result
    envelope["status"] = response.status
    envelope["volatile"] = request.volatile
    if request.origin is _WEBSOCKET and request.has_room:
        envelope["room"] = response.request_id
    if not request.is_pretty:
        return _write_json(envelope)
    # Cached parts are indented too once the whole text is parsed again.
    return _write_json(orjson.loads(_write_json(envelope)), orjson.OPT_INDENT_2)


def format_plain(request: Request, response: Response, node: str) -> bytes:
    """Return the envelope of a plain success to a request without arguments, as `format_envelope`
    does.

    Most responses are like that, so this decides the server's throughput.
    """
    if type(response.result) is PreparedJson and request.volatile is None:
        return format_prepared(request, response.request_id, response.result, node)
    envelope = {
        "action": response.action,
        "controller": response.controller,
        "error": None,
        "headers": {},
        "node": node,
        "requestId": response.request_id,
        "result": response.result,
        "status": 200,
        "volatile": request.volatile,
    }
    if request.origin is _WEBSOCKET:
        envelope["room"] = response.request_id
    try:
        return orjson.dumps(envelope, default=_write_kept)
    except orjson.JSONEncodeError as reason:
        raise LocalError("a result that is not JSON") from reason


def format_prepared(request: Request, request_id: str, kept: PreparedJson, node: str) -> bytes:
    """Return the envelope of a plain success with a kept result, as `format_plain` does, to a
    request without arguments and `volatile`."""
    before, after = kept.around(request.action, request.controller, node)
    shown_id = orjson.dumps(request_id)
    if request.origin is _HTTP:
        return b"%b%b%b}" % (before, shown_id, after)
    return b'%b%b%b,"room":%b}' % (before, shown_id, after, shown_id)


def _write_kept(result: object) -> orjson.Fragment:
    if isinstance(result, PreparedJson):
        return orjson.Fragment(result.json)
    raise TypeError


def _shown_headers(headers: dict[str, str]) -> dict[str, str]:
    """Remove the cookie: scripts must not see its value."""
    return {name: value for name, value in headers.items() if name != "set-cookie"}


def _write_json(value: object, option: int = 0) -> bytes:
    try:
        return orjson.dumps(value, default=_write_kept, option=option)
    except orjson.JSONEncodeError as reason:
        raise LocalError("a result that is not JSON") from reason


def _write_raw(request: Request, response: Response) -> bytes:
    result = response.result
    if request.origin is _WEBSOCKET:
        if isinstance(result, dict):
            result = {**result, "room": response.request_id}
        return _write_json(result)
    if result is None:
        return b""
    return result.encode() if isinstance(result, str) else _write_json(result)
