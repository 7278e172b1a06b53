"""Errors: the exception classes, and the lookup of ID, code, class and message in the error table.

The rows are Kuzzle's, in the order of their codes, and additional ones whose codes end in 0x10 and
above; IDs that nothing raises here are reserved. Messages are for people: short, with the argument
and what is accepted. Programs identify errors by ID and status.
"""

import re
from dataclasses import dataclass
from math import isfinite

from protocol.error_table import (
    BAD_REQUEST,
    EXTERNAL,
    FAMILIES,
    FORBIDDEN,
    INTERNAL,
    MULTIPLE,
    NOT_FOUND,
    PARTIAL,
    PLUGIN,
    PRECONDITION,
    SIZE_LIMIT,
    TIMEOUT,
    TOO_MANY,
    UNAUTHORIZED,
    UNAVAILABLE,
    Row,
)

STATUS = {
    PARTIAL: 206,
    BAD_REQUEST: 400,
    MULTIPLE: 400,
    UNAUTHORIZED: 401,
    FORBIDDEN: 403,
    NOT_FOUND: 404,
    PRECONDITION: 412,
    SIZE_LIMIT: 413,
    TOO_MANY: 429,
    INTERNAL: 500,
    EXTERNAL: 500,
    PLUGIN: 500,
    UNAVAILABLE: 503,
    TIMEOUT: 504,
}


_HOLE = re.compile(r"\{([0-9])\}")
_NOT_GIVEN = "?"
_MAX_NESTING = 8
_MAX_BITS = 1024
_TOO_MUCH = "…"


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the error table."""

    id: str
    code: int
    type: str
    status: int
    text: str


class ApiError(Exception):
    """An error that is returned to the caller, mostly the caller's fault; the connection stays
    open.

    `id`, `code` and `props` are None for errors without an ID in Kuzzle. `more` contains additional
    members (`resetToken`, `document`, `reason`), `nested` the errors that a bulk error summarizes.
    `limit` names the limit that was exceeded, to be counted.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        kind: Kind | None = None,
        props: tuple[object, ...] | None = None,
        retry_after_s: int | None = None,
        nested: tuple["ApiError", ...] = (),
        more: dict[str, object] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message)
        self.id = None if kind is None else kind.id
        self.code = None if kind is None else kind.code
        self.message = message
        self.status = status
        self.props = props
        self.retry_after_s = retry_after_s
        self.nested = nested
        self.more = more or {}
        self.limit = limit

    def as_data(self) -> "ApiError":
        """Remove the traceback and return the error: to be called before an error is stored.

        The traceback references its frames, and these the request, its body and mostly the error
        itself: a cycle that only the garbage collector would find.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        for one in self.nested:
            one.as_data()
        return self

    def as_json(self) -> dict[str, object]:
        """Return the error object of a response, keys in the wire's order."""
        written: dict[str, object] = {}
        if self.id is not None:
            written = {"code": self.code, "id": self.id}
        written["message"] = self.message
        if self.props is not None:
            written["props"] = list(self.props)
        written["status"] = self.status
        written.update(self.more)
        if self.nested:
            written["errors"] = [one.as_json() for one in self.nested]
            written["count"] = len(self.nested)
        return written


class ProtocolError(Exception):
    """The peer violated the protocol: the connection is closed.

    `status` is that of the last HTTP response, `close_code` that of a WebSocket (RFC 6455 §7.4.1).
    """

    def __init__(self, reason: str, *, status: int = 400, close_code: int = 1002) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.close_code = close_code


class LocalError(Exception):
    """A server-side error: logged in full, answered with a fixed message."""


def error(
    error_id: str,
    /,
    *props: object,
    message: str | None = None,
    status: int | None = None,
    retry_after_s: int | None = None,
    nested: tuple[ApiError, ...] = (),
    more: dict[str, object] | None = None,
    limit: str | None = None,
) -> ApiError:
    """Create the error with this ID; `message` and `status` replace those of the table, `limit` is
    the name of the limit that was exceeded.

    An unknown ID is a programming error and raises KeyError.
    """
    kind = ERRORS[error_id]
    safe = tuple(_as_json_value(prop) for prop in props)
    return ApiError(
        _fill(kind.text, safe) if message is None else message,
        status=kind.status if status is None else status,
        kind=kind,
        props=safe,
        retry_after_s=retry_after_s,
        nested=nested,
        more=more,
        limit=limit,
    )


def plain_error(status: int, message: str) -> ApiError:
    """Create an error without an ID, as Kuzzle raises some."""
    return ApiError(message, status=status)


def _fill(text: str, props: tuple[object, ...]) -> str:
    """Insert the values, in one pass over the text: braces inside a value have no meaning."""

    def written(hole: re.Match[str]) -> str:
        place = int(hole[1])
        return _as_text(props[place]) if place < len(props) else _NOT_GIVEN

    return _HOLE.sub(written, text)


def _as_text(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(_as_text(item) for item in value)
        case _:
            return str(value)


def _as_json_value(value: object, depth: int = 0) -> object:
    """Return the value itself if orjson can serialize it, else the nearest value that it can."""
    match value:
        case None | bool():
            return value
        case str():
            return value.encode("utf-8", "replace").decode()
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if isfinite(value):
            return value
        case int() if value.bit_length() > _MAX_BITS:
            return _TOO_MUCH
        case bytes():
            return value.decode("utf-8", "replace")
        case list() | tuple() if depth < _MAX_NESTING:
            return [_as_json_value(item, depth + 1) for item in value]
        case dict() if depth < _MAX_NESTING:
            return {
                str(_as_json_value(str(key))): _as_json_value(item, depth + 1)
                for key, item in value.items()
            }
        case list() | tuple() | dict():
            return _TOO_MUCH
        case _:
            return str(value).encode("utf-8", "replace").decode()


def read_table(families: dict[tuple[str, int], tuple[Row, ...]]) -> dict[str, Kind]:
    """Return the rows by ID; ValueError if an ID or a code is duplicate or out of range."""
    table: dict[str, Kind] = {}
    codes: set[int] = set()
    for (family, prefix), rows in families.items():
        for number, kind, name, text in rows:
            error_id, code = f"{family}.{name}", prefix << 16 | number
            if not 0 < number <= 0xFFFF or not 0 <= prefix <= 0xFFFF:
                raise ValueError(f"{error_id} has a number out of range")
            if error_id in table or code in codes:
                raise ValueError(f"{error_id} or its code 0x{code:08x} is declared twice")
            if kind not in STATUS:
                raise ValueError(f"{error_id} has the unknown class {kind}")
            table[error_id] = Kind(error_id, code, kind, STATUS[kind], text)
            codes.add(code)
    return table


ERRORS = read_table(FAMILIES)
