"""Request bodies: decompressed within a bound, then read as JSON, as a form or as a multipart form.

Knows nothing of routes or answers. Source: contract/01 §3 (steps 2 to 7) and §3.1.
"""

import base64
import re
import zlib
from dataclasses import dataclass
from urllib.parse import parse_qsl

import orjson

from protocol.errors import ApiError, error

# Far below the 254 levels orjson writes: what was read here can be written again, also inside an
# envelope, a stored document or a page of results.
_NESTING = 100
_PART_HEAD_BYTES = 8 * 1024

_CHARSET = re.compile(r"charset=([\w-]+)", re.IGNORECASE)
_BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"]{1,70})"|([^\s";]{1,70}))', re.IGNORECASE)
_PARAMETER = re.compile(r';[ \t]*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)

JSON, FORM, MULTIPART = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds of a body: `body_bytes` before and after inflating, `file_bytes` for one form file."""

    body_bytes: int = 1024 * 1024
    file_bytes: int = 1024 * 1024
    encoding_layers: int = 3
    form_fields: int = 1000
    more_types: tuple[str, ...] = ()
    allow_compression: bool = True


Body = dict[str, object] | list[object] | None


def check_content_type(header: str | None, limits: BodyLimits) -> str:
    """Give the media type a body is read as; 400 for a foreign type, or a charset but UTF-8."""
    if header is None:
        return JSON
    media_type = header.partition(";")[0].strip()
    if media_type not in (JSON, FORM, MULTIPART) and media_type not in limits.more_types:
        raise error("network.http.unsupported_content", media_type)
    charset = _CHARSET.search(header)
    if charset is not None and charset[1].lower() != "utf-8":
        raise error("network.http.unsupported_charset", charset[1])
    return media_type


def read_body(raw: bytes, headers: dict[str, str], limits: BodyLimits) -> Body:
    """Give what a HTTP body says; ApiError when it can't be read."""
    media_type = check_content_type(headers.get("content-type"), limits)
    if not raw:
        return None
    raw = decompress(raw, headers.get("content-encoding"), limits)
    if media_type == FORM:
        return read_form(raw, limits)
    if media_type == MULTIPART:
        return read_multipart(raw, headers["content-type"], limits)
    return read_json(raw)


def decompress(raw: bytes, encodings: str | None, limits: BodyLimits) -> bytes:
    """Undo the layers of Content-Encoding, last one first; the result of each is bounded.

    Stricter than RFC 1952: one member of gzip, and nothing behind it.
    """
    if not encodings:
        return raw
    layers = [layer.strip().lower() for layer in encodings.split(",")]
    if len(layers) > limits.encoding_layers:
        raise error("network.http.too_many_encodings", limits.encoding_layers)
    for layer in reversed(layers):
        if layer == "identity":
            continue
        if not limits.allow_compression:
            raise error("network.http.compression_disabled")
        if layer not in ("gzip", "deflate"):
            raise error("network.http.unsupported_compression", layer)
        raw = _inflate(raw, 31 if layer == "gzip" else 15, limits.body_bytes)
    return raw


def _inflate(raw: bytes, window: int, most_bytes: int) -> bytes:
    stream = zlib.decompressobj(window)
    try:
        plain = stream.decompress(raw, most_bytes + 1)
    except zlib.error:
        raise error("network.http.unexpected_error", "corrupt compressed body") from None
    if len(plain) > most_bytes:
        raise error("network.http.request_too_large")
    if not stream.eof or stream.unused_data:
        raise error("network.http.unexpected_error", "corrupt compressed body")
    return plain


def read_json(raw: bytes) -> Body:
    """Give an object, an array or None; 400 for anything else.

    None stands for an empty array and for null, 0, false and "" (contract/01 §3.1).
    """
    try:
        value = parse_json(raw)
    except ValueError:
        shown = raw[:50].decode(errors="replace")
        raise error("network.http.body_parse_failed", shown) from None
    if isinstance(value, dict):
        return value
    if not value:
        return None
    if isinstance(value, list):
        return value
    raise error("api.assert.invalid_type", "body", "object")


def parse_json(raw: bytes) -> object:
    """Give what a JSON text says; ValueError when it is malformed or nested too deeply."""
    value: object = orjson.loads(raw)
    check_nesting(raw, value)
    return value


def check_nesting(raw: bytes, value: object) -> None:
    """Raise ValueError if `value`, which `raw` says, is nested too deeply to be written again."""
    if raw.count(b"[") + raw.count(b"{") > _NESTING and _is_deep(value):
        raise ValueError("nested too deeply")


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_NESTING):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def read_form(raw: bytes, limits: BodyLimits) -> Body:
    """Give the fields of a urlencoded form; a repeated name holds an array."""
    fields: dict[str, object] = {}
    for name, value in parse_pairs(raw.decode(errors="replace"), limits.form_fields, "body"):
        add_field(fields, name, value)
    return fields


def parse_pairs(text: str, most: int, place: str) -> list[tuple[str, str]]:
    """Split `a=1&b` into pairs, `+` and percent escapes undone; 400 above `most` of them.

    `place` names in that error what holds them.
    """
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=most, errors="replace")
    except ValueError:
        raise error("api.assert.too_many_arguments", place, most) from None


def add_field(fields: dict[str, object], name: str, value: str) -> None:
    """Set a field, or make an array of it when it is there already."""
    if name not in fields:
        fields[name] = value
        return
    present = fields[name]
    if isinstance(present, list):
        present.append(value)
    else:
        fields[name] = [present, value]


def read_multipart(raw: bytes, content_type: str, limits: BodyLimits) -> Body:
    """Give the parts of a multipart form (RFC 7578) by name, the last of a name winning.

    A part is text, or with a file name `{encoding, file (base64), filename}`.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise error("network.http.body_parse_failed", "multipart without a boundary")
    mark = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1")
    pieces = (b"\r\n" + raw).split(mark, limits.form_fields + 2)
    if len(pieces) > limits.form_fields + 2:
        raise error("api.assert.too_many_arguments", "body", limits.form_fields)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise error("network.http.body_parse_failed", "multipart without an end")
    fields: dict[str, object] = {}
    for piece in pieces[1:-1]:
        name, value = _read_part(piece, limits)
        fields[name] = value
    return fields


def _read_part(piece: bytes, limits: BodyLimits) -> tuple[str, object]:
    head, separator, content = piece.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"\r\n") or len(head) > _PART_HEAD_BYTES:
        raise _bad_part()
    headers: dict[str, str] = {}
    for line in head[2:].split(b"\r\n"):
        name, _, value = line.decode(errors="replace").partition(":")
        headers[name.lower()] = value.strip()
    parameters = {
        found[1].lower(): re.sub(r"\\(.)", r"\1", found[2])
        for found in _PARAMETER.finditer(headers.get("content-disposition", ""))
    }
    if "name" not in parameters:
        raise _bad_part()
    if "filename" not in parameters:
        return parameters["name"], content.decode(errors="replace")
    if len(content) > limits.file_bytes:
        raise error("network.http.file_too_large")
    return parameters["name"], {
        "encoding": headers.get("content-type", "text/plain"),
        "file": base64.b64encode(content).decode(),
        "filename": parameters["filename"],
    }


def _bad_part() -> ApiError:
    return error("network.http.body_parse_failed", "multipart part without a name")
