"""Request body parser: decompression with limits, then JSON, urlencoded or multipart form.

Independent of routes and responses.
"""

import base64
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from urllib.parse import unquote_to_bytes

import orjson

from protocol.errors import ApiError, error

# Far below the 254 levels orjson writes: any parsed value can be serialized again, also inside an
# envelope, a stored document or a page of results.
_NESTING = 100
JSON_VALUES = 12_000
"""Default limit on brackets, braces and commas in a JSON text: a text of some kilobytes could
otherwise cost a hundred times its size in objects, and the time to create them."""
# Of one part of a multipart form; longer than any browser's.
_PART_HEAD_BYTES = 1024
_PART_HEAD_LINES = 8
_PART_ESCAPES = 16  # in its name and in that of its file
# Names of the limits in the counters.
JSON_LIMIT, FORM_LIMIT, INFLATION = "jsonValues", "formParts", "inflation"
_PLUS_IS_BLANK = bytes.maketrans(b"+", b" ")
_NOT_BEGINNINGS = bytes(set(range(256)) - set(b"[{,"))

_CHARSET = re.compile(r"charset=([\w-]+)", re.IGNORECASE)
_BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"]{1,70})"|([^\s";]{1,70}))', re.IGNORECASE)
_PARAMETER = re.compile(r';[ \t]*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")

JSON, FORM, MULTIPART = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of a body: `body_bytes` as it is sent, `file_bytes` for one form file.

    A compressed one may have `inflated_bytes` decompressed, and `inflation` times its compressed
    size beyond `free_bytes`. `json_values` limits the brackets, braces and commas in a JSON text.
    `form_bytes` and `form_escapes` limit a urlencoded form and its percent escapes,
    `part_heads_bytes` the headers of all parts of a multipart form: the most expensive items to
    parse in each.
    """

    body_bytes: int = 1024 * 1024
    file_bytes: int = 1024 * 1024
    encoding_layers: int = 1
    inflation: int = 100
    inflated_bytes: int = 512 * 1024
    free_bytes: int = 64 * 1024
    json_values: int = JSON_VALUES
    form_fields: int = 1000
    form_bytes: int = 256 * 1024
    form_escapes: int = 4000
    part_heads_bytes: int = 32 * 1024
    more_types: tuple[str, ...] = ()
    allow_compression: bool = True


Body = dict[str, object] | list[object] | None


def check_content_type(header: str | None, limits: BodyLimits) -> str:
    """Return the media type a body is parsed as; 400 for an unsupported type, or a charset other
    than UTF-8."""
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
    """Parse an HTTP body; ApiError if it is not valid."""
    media_type = check_content_type(headers.get("content-type"), limits)
    if not raw:
        return None
    raw = decompress(raw, headers.get("content-encoding"), limits)
    if media_type == FORM:
        return read_form(raw, limits)
    if media_type == MULTIPART:
        return read_multipart(raw, headers["content-type"], limits)
    return read_json(raw, limits.json_values)


def decompress(raw: bytes, encodings: str | None, limits: BodyLimits) -> bytes:
    """Decode the layers of Content-Encoding, last one first; the result of each is limited, also by
    the size of the compressed body.

    Stricter than RFC 1952: one gzip member, and nothing after it.
    """
    if not encodings:
        return raw
    layers = [layer.strip().lower() for layer in encodings.split(",")]
    if len(layers) > limits.encoding_layers:
        raise error("network.http.too_many_encodings", limits.encoding_layers)
    most_bytes = min(limits.inflated_bytes, max(limits.free_bytes, len(raw) * limits.inflation))
    for layer in reversed(layers):
        if layer == "identity":
            continue
        if not limits.allow_compression:
            raise error("network.http.compression_disabled")
        if layer not in ("gzip", "deflate"):
            raise error("network.http.unsupported_compression", layer)
        raw = _inflate(raw, 31 if layer == "gzip" else 15, most_bytes)
    return raw


def _inflate(raw: bytes, window: int, most_bytes: int) -> bytes:
    stream = zlib.decompressobj(window)
    try:
        plain = stream.decompress(raw, most_bytes + 1)
    except zlib.error:
        raise error("network.http.unexpected_error", "corrupt compressed body") from None
    if len(plain) > most_bytes:
        message = f"The request is larger than {most_bytes} bytes when decompressed"
        raise error("network.http.request_too_large", message=message, limit=INFLATION)
    if not stream.eof or stream.unused_data:
        raise error("network.http.unexpected_error", "corrupt compressed body")
    return plain


def read_json(raw: bytes, most_values: int = JSON_VALUES) -> Body:
    """Return an object, an array or None; 400 for anything else.

    None is returned for an empty array and for null, 0, false and "".
    """
    try:
        value = parse_json(raw, most_values)
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


def parse_json(raw: bytes, most_values: int = JSON_VALUES, place: str = "body") -> object:
    """Parse a JSON text; ValueError if it is malformed or nested too deeply, ApiError 400 if it has
    more than `most_values`, which is checked before it is parsed."""
    containers = count_values(raw, most_values, place)
    value: object = orjson.loads(raw)
    check_nesting(raw, value, containers)
    return value


def count_values(raw: bytes, most: int, place: str) -> int | None:
    """Count brackets, braces and commas in a JSON text, also inside strings: ApiError 400 above
    `most`, which names the text as `place`.

    Return how many are brackets and braces; None for a text that is too short for so many.
    """
    if len(raw) <= most:
        return None
    marks = raw.translate(None, _NOT_BEGINNINGS)
    if len(marks) > most:
        raise error("api.assert.too_many_arguments", place, most, limit=JSON_LIMIT)
    return marks.count(b"[") + marks.count(b"{")


def check_nesting(raw: bytes, value: object, containers: int | None = None) -> None:
    """Raise ValueError if `value`, parsed from `raw`, is nested too deeply to be serialized again;
    `containers` is what `count_values` returned for it."""
    if containers is None:
        containers = raw.count(b"[") + raw.count(b"{")
    if containers > _NESTING and _is_deep(value):
        raise ValueError("nested too deeply")


def _is_deep(value: object) -> bool:
    """Check level by level, with few interpreter steps for each value."""
    level: list[object] = [value]
    for _ in range(_NESTING + 1):
        lists = [one for one in level if type(one) is list]
        objects = [one for one in level if type(one) is dict]
        if not lists and not objects:
            return False
        level = list(chain(*lists, *map(dict.values, objects)))
    return True


def read_form(raw: bytes, limits: BodyLimits) -> Body:
    """Return the fields of a urlencoded form; a repeated name has an array."""
    if len(raw) > limits.form_bytes:
        message = f"A form has at most {limits.form_bytes} bytes"
        raise error("network.http.request_too_large", message=message, limit=FORM_LIMIT)
    if raw.count(b"%") > limits.form_escapes:
        raise too_many_parts("percent escapes", limits.form_escapes)
    fields: dict[str, object] = {}
    for name, value in parse_pairs(raw, limits.form_fields, "body"):
        add_field(fields, name, value)
    return fields


def parse_pairs(raw: bytes, most: int, place: str) -> Iterator[tuple[str, str]]:
    """Split `a=1&b` into pairs, with `+` and percent escapes decoded; 400 above `most` of them, and
    if the result is not UTF-8.

    `place` names their source in the errors.
    """
    if raw.count(b"&") >= most:
        raise error("api.assert.too_many_arguments", place, most, limit=FORM_LIMIT)
    for pair in raw.translate(_PLUS_IS_BLANK).split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            yield _unescape(name, place), _unescape(value, place)


def _unescape(written: bytes, place: str) -> str:
    try:
        return (unquote_to_bytes(written) if b"%" in written else written).decode()
    except UnicodeDecodeError:
        raise error("api.assert.invalid_argument", place, "UTF-8") from None


def add_field(fields: dict[str, object], name: str, value: str) -> None:
    """Set a field, or append to an array if it exists already."""
    if name not in fields:
        fields[name] = value
        return
    present = fields[name]
    if isinstance(present, list):
        present.append(value)
    else:
        fields[name] = [present, value]


def read_multipart(raw: bytes, content_type: str, limits: BodyLimits) -> Body:
    """Return the parts of a multipart form (RFC 7578) by name, the last of a name winning.

    A part is a string, or with a file name `{encoding, file (base64), filename}`.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise error("network.http.body_parse_failed", "multipart without a boundary")
    mark = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1")
    pieces = (b"\r\n" + raw).split(mark, limits.form_fields + 2)
    if len(pieces) > limits.form_fields + 2:
        raise error("api.assert.too_many_arguments", "body", limits.form_fields, limit=FORM_LIMIT)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise error("network.http.body_parse_failed", "multipart without a closing boundary")
    fields: dict[str, object] = {}
    heads_bytes = 0
    for piece in pieces[1:-1]:
        head, separator, content = piece.partition(b"\r\n\r\n")
        if not separator or not head.startswith(b"\r\n") or len(head) > _PART_HEAD_BYTES:
            raise _bad_part()
        heads_bytes += len(head)
        if heads_bytes > limits.part_heads_bytes:
            raise too_many_parts("bytes of heads of parts", limits.part_heads_bytes)
        try:
            name, value = _read_part(head[2:].decode(), content, limits)
        except UnicodeDecodeError:
            raise error("api.assert.invalid_argument", "body", "UTF-8") from None
        fields[name] = value
    return fields


def _read_part(head: str, content: bytes, limits: BodyLimits) -> tuple[str, object]:
    """Return name and value of a part. UnicodeDecodeError for a text that is not UTF-8."""
    lines = head.split("\r\n", _PART_HEAD_LINES)
    if len(lines) > _PART_HEAD_LINES:
        raise _bad_part()
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    parameters: dict[str, str] = {}
    for found in _PARAMETER.finditer(headers.get("content-disposition", "")):
        name, value = found[1].lower(), found[2]
        if name in parameters:  # other parsers could use the other one
            raise _bad_part()
        if value.count("\\") > _PART_ESCAPES:
            raise _bad_part()
        parameters[name] = _ESCAPED.sub(r"\1", value)
    if "name" not in parameters:
        raise _bad_part()
    if "filename" not in parameters:
        return parameters["name"], content.decode()
    if len(content) > limits.file_bytes:
        raise error("network.http.file_too_large")
    return parameters["name"], {
        "encoding": headers.get("content-type", "text/plain"),
        "file": base64.b64encode(content).decode(),
        "filename": parameters["filename"],
    }


def too_many_parts(what: str, most: int) -> ApiError:
    """Return the error for a form with too many parts."""
    message = f'"body" has too many {what}: at most {most}'
    return error("api.assert.too_many_arguments", "body", most, message=message, limit=FORM_LIMIT)


def _bad_part() -> ApiError:
    return error("network.http.body_parse_failed", "multipart part without a name")
