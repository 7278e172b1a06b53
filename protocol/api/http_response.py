"""HTTP response writer: a Response to bytes (RFC 9110).

Fields that are the same for every response are serialized once, in `ConnectionConfig`.
"""

import re
import zlib

from protocol.api.envelope import format_envelope, format_plain
from protocol.api.request import Request, Response
from protocol.config import ConnectionConfig
from protocol.errors import LocalError
from protocol.http11.head import TOKEN, field_tokens, status_line
from protocol.websocket.deflate import COMPRESS_FROM_BYTES, COMPRESS_UP_TO_BYTES

_COMPRESSION_LEVEL = 4  # most of level 9's gain at a quarter of its time
_FIELD_NAME = re.compile(TOKEN.decode())
_FIELD_VALUE = re.compile(r"[\t -~\x80-\xff]*")
# These frame the response: only this module writes them.
_OURS = frozenset({"connection", "content-length", "transfer-encoding"})
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def format_response(
    request: Request, response: Response, wire: ConnectionConfig, *, closes: bool
) -> bytes:
    """Return the complete response; `closes` means that the connection is closed after it.

    LocalError if a value would split the response, or is not JSON.
    """
    head, request_id = request.head, response.request_id
    if not (request_id.isascii() and request_id.isprintable()):
        raise LocalError("the request id is not a valid header value")
    is_plain = head.is_plain and not closes and response.is_plain
    if is_plain and not request.args and not request.is_pretty:
        body = format_plain(request, response, wire.node)
    else:
        body = format_envelope(request, response, wire.node)
    if is_plain:
        return format_plain_response(request_id, body, wire)
    fields, body = _particular_fields(request, response, wire, body, closes)
    return b"%b%bX-Kuzzle-Request-Id: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status_line(response.status),
        wire.common if "content-type" in response.headers else wire.common_json,
        request_id.encode(),
        _write_fields(fields),
        len(body),
        b"" if head.method == "HEAD" else body,
    )


def format_plain_response(request_id: str, body: bytes, wire: ConnectionConfig) -> bytes:
    """Return the complete response of a plain success, to a request without special headers."""
    return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (
        wire.plain_head,
        request_id.encode(),
        len(body),
        body,
    )


Fields = list[tuple[str, str]]


def _particular_fields(
    request: Request, response: Response, wire: ConnectionConfig, body: bytes, closes: bool
) -> tuple[Fields, bytes]:
    """Return the fields besides the constant ones, and the body, compressed if accepted."""
    head = request.head
    fields: Fields = [("set-cookie", value) for value in response.cookies]
    fields += [
        (name, value) for name, value in response.headers.items() if name.lower() not in _OURS
    ]
    varies = []
    origin = head.headers.get("origin")
    if origin:
        varies.append("Origin")
        if wire.allows_origin(origin):
            fields.append(("Access-Control-Allow-Origin", origin))
            if wire.trusts_origin(origin):
                fields.append(("Access-Control-Allow-Credentials", "true"))
    is_compressible = COMPRESS_FROM_BYTES <= len(body) <= COMPRESS_UP_TO_BYTES
    if is_compressible and not response.is_private:
        varies.append("Accept-Encoding")
        encoding = choose_encoding(head.headers.get("accept-encoding", ""))
        if encoding is not None:
            body = compress(body, encoding)
            fields.append(("Content-Encoding", encoding))
    if varies:
        fields.append(("Vary", ", ".join(varies)))
    if response.is_private:
        fields.append(("Cache-Control", "no-store"))
    fields += _error_fields(request, response)
    options = ["close"] if closes else ["keep-alive"] if head.is_http10 else []
    if response.status == 426:
        options.append("Upgrade")  # RFC 9110 §7.8: it goes with every Upgrade field
    if options:
        fields.append(("Connection", ", ".join(options)))
    return fields, body


def _error_fields(request: Request, response: Response) -> Fields:
    """RFC 6750 §3 for tokens and rights, RFC 9110 §10.2.3 for waits, RFC 6455 §4.4 for versions."""
    fields: Fields = []
    if response.status == 401:
        problem = ' error="invalid_token"' if request.token is not None else ""
        fields.append(("WWW-Authenticate", "Bearer" + problem))
    elif response.status == 403:
        fields.append(("WWW-Authenticate", 'Bearer error="insufficient_scope"'))
    elif response.status == 426:
        fields += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    if response.error is not None and response.error.retry_after_s is not None:
        fields.append(("Retry-After", str(response.error.retry_after_s)))
    return fields


def _write_fields(fields: Fields) -> bytes:
    for name, value in fields:
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise LocalError(f"header {name!r} has characters that would split the response")
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")


def choose_encoding(accepted: str) -> str | None:
    """Return the preferred encoding of an Accept-Encoding, gzip or deflate (RFC 9110 §12.5.3).

    gzip without a preference, None if neither is accepted.
    """
    weights: dict[str, float] = {}
    for member in field_tokens(accepted):
        name, _, parameter = member.partition(";")
        quality = _QUALITY.fullmatch(parameter.strip())
        weights[name.strip()] = float(quality[1]) if quality else 0.0 if parameter else 1.0
    best = max(("gzip", "deflate"), key=lambda name: weights.get(name, weights.get("*", 0.0)))
    return best if weights.get(best, weights.get("*", 0.0)) > 0 else None


def compress(body: bytes, encoding: str) -> bytes:
    """Compress with gzip, or with deflate in its zlib form (RFC 9110 §8.4.1)."""
    window = 31 if encoding == "gzip" else 15
    stream = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, window)
    return stream.compress(body) + stream.flush()


def write_upgrade(fields: Fields) -> bytes:
    """Return the 101 response of a WebSocket handshake."""
    return status_line(101) + _write_fields(fields) + b"\r\n"
