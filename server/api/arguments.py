"""Readers of request arguments and body members: the value, its default, or ApiError 400.

Over HTTP arguments are strings and are parsed; `request.is_typed` is False then.
"""

import re
from typing import cast

from protocol.api.request import Request
from protocol.errors import ApiError, error
from protocol.http11.body import parse_json

REQUIRED = object()
"""The default of an argument without default."""

_TRUE, _FALSE = frozenset({"", "true", "1"}), frozenset({"false", "0"})
_MAX_SAFE_INTEGER = 2**53 - 1
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_ABSENT = object()


def read_flag(request: Request, name: str) -> bool:
    """Return a boolean argument, False when it is absent or null; over HTTP `?flag`, `=true` and
    `=1` are true."""
    value = request.args.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    if not request.is_typed and isinstance(value, str):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
    raise error("api.assert.invalid_type", name, "boolean")


def read_integer(request: Request, name: str, default: int) -> int:
    """Return an integer argument; a string that begins with a number is accepted, as JavaScript's
    `parseFloat` does."""
    value = _find(request.args, name)
    if value is _ABSENT:
        return default
    if isinstance(value, str):
        number = _NUMBER.match(value)
        value = float(number[1]) if number else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_SAFE_INTEGER:
        raise error("api.assert.invalid_type", name, "integer")
    return value


def check_retries(request: Request) -> None:
    """Raise 400 for a `retryOnConflict` that is not an integer. Its value is not used: the server
    decides how often to retry."""
    read_integer(request, "retryOnConflict", 0)


def read_natural(request: Request, name: str, default: int) -> int:
    """Return an integer argument that is not negative."""
    value = read_integer(request, name, default)
    if value < 0:
        raise error("api.assert.invalid_argument", name, "a number from 0 up")
    return value


def read_text(request: Request, name: str, default: object = REQUIRED) -> str:
    """Return a string argument; null counts as absent."""
    return cast(str, _checked(request.args, name, name, str, default))


def read_identifier(request: Request, name: str = "_id") -> str:
    """Return a required, non-empty string argument."""
    value = read_text(request, name)
    if not value:
        raise error("api.assert.missing_argument", name)
    return value


def read_optional_identifier(request: Request, name: str = "_id") -> str | None:
    """Return a string argument, or None when it is absent, null or empty."""
    return read_text(request, name, "") or None


def read_array(request: Request, name: str, default: object = REQUIRED) -> list[object]:
    """Return an array argument; over HTTP a JSON array in a string is accepted."""
    return cast("list[object]", _structured(request, name, list, default))


def read_object(request: Request, name: str, default: object = REQUIRED) -> dict[str, object]:
    """Return an object argument; over HTTP a JSON object in a string is accepted."""
    return cast("dict[str, object]", _structured(request, name, dict, default))


def read_names(request: Request, name: str) -> list[str]:
    """Return an argument that is an array of strings or, in the older style, a string with
    commas."""
    value = request.args.get(name)
    if isinstance(value, str):
        value = _from_json(request, name, value, list)
        if isinstance(value, str):
            return value.split(",")
    if value is None:
        raise error("api.assert.missing_argument", name)
    if not isinstance(value, list) or not all(isinstance(member, str) for member in value):
        raise error("api.assert.invalid_type", name, "array of strings")
    return cast("list[str]", value)


def read_body(request: Request) -> dict[str, object]:
    """Return the body, which must be an object."""
    if request.body is None:
        raise error("api.assert.body_required")
    if not isinstance(request.body, dict):
        raise error("api.assert.invalid_type", "body", "object")
    return request.body


def read_optional_body(request: Request) -> dict[str, object]:
    """Return the body, or an empty object when there is none."""
    return {} if request.body is None else read_body(request)


def body_text(request: Request, name: str, default: object = REQUIRED) -> str:
    """Return a string member of the body; a dot in `name` separates nested objects."""
    return cast(str, _body_member(request, name, str, default))


def body_object(request: Request, name: str, default: object = REQUIRED) -> dict[str, object]:
    """Return an object member of the body."""
    return cast("dict[str, object]", _body_member(request, name, dict, default))


def body_array(request: Request, name: str, default: object = REQUIRED) -> list[object]:
    """Return an array member of the body."""
    return cast("list[object]", _body_member(request, name, list, default))


def body_names(request: Request, name: str, default: object = REQUIRED) -> list[str]:
    """Return an array member of the body that contains only strings."""
    names = body_array(request, name, default)
    if not all(isinstance(member, str) for member in names):
        raise error("api.assert.invalid_type", f"body.{name}", "array of strings")
    return cast("list[str]", names)


_NAMES: dict[type, str] = {str: "string", dict: "object", list: "array"}


def _body_member(request: Request, name: str, wanted: type, default: object) -> object:
    if request.body is None and default is not REQUIRED:
        return default
    body = read_body(request)
    if _find(body, name) is None:
        raise _wrong_type(f"body.{name}", wanted)  # unlike in arguments, null is a value here
    return _checked(body, name, f"body.{name}", wanted, default)


def _checked(
    values: dict[str, object], path: str, shown: str, wanted: type, default: object
) -> object:
    value = _find(values, path)
    if value is _ABSENT or (value is None and default is not REQUIRED):
        if default is REQUIRED:
            raise error("api.assert.missing_argument", shown)
        return default
    if not isinstance(value, wanted):
        raise _wrong_type(shown, wanted)
    return value


def _structured(request: Request, name: str, wanted: type, default: object) -> object:
    value = _find(request.args, name)
    if value is _ABSENT:
        if default is REQUIRED:
            raise error("api.assert.missing_argument", name)
        return default
    if isinstance(value, str):
        value = _from_json(request, name, value, wanted)
    if not isinstance(value, wanted):
        raise _wrong_type(name, wanted)
    return value


def _from_json(request: Request, name: str, value: str, wanted: type) -> object:
    """Return a string argument of an HTTP request parsed as JSON, or unchanged if it is not JSON of
    that type."""
    if request.is_typed:
        return value
    try:
        parsed = parse_json(value.encode(), place=name)
    except ValueError:
        return value
    return parsed if isinstance(parsed, wanted) else value


def _find(values: dict[str, object], path: str) -> object:
    value: object = values
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _wrong_type(name: str, wanted: type) -> ApiError:
    return error("api.assert.invalid_type", name, _NAMES[wanted])
