"""Declaration of settings, and the types of values they accept.

A table of settings is a frozen dataclass; `setting` declares a field, `table` a nested table. Each
setting has a kind, which parses a TOML value, or a string from the environment or `--set`.
"""

import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from typing import Any, Generic, TypeVar

from server.core.durations import parse_duration_ms, write_duration

T = TypeVar("T")
Milliseconds = int | float

_UNITS_BYTES = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}
_SIZE = re.compile(r"([0-9]{1,15}) ?([kmgt]?b)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?[0-9]{1,15}", re.ASCII)
_PRINTABLE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """The type of a setting: `accepted` describes it, `read` returns None for an invalid value.

    `write` formats a value as a user would write it.
    """

    accepted: str
    read: Callable[[object], T | None]
    write: Callable[[T], object] = lambda value: value


@dataclass(frozen=True, slots=True)
class Declared:
    """One setting as declared; `name` is its name on the wire, inside its table.

    `also` is the full name of a former key that is used if this one is not given. A setting that
    `is_secret` may also be given as the path of a file that contains it; one that `names_secret` is
    such a path.
    """

    name: str
    attribute: str
    kind: Kind[Any]
    default: object
    help: str
    is_secret: bool
    also: str | None
    names_secret: bool = False


@dataclass(frozen=True, slots=True)
class Inner:
    """A nested table."""

    name: str
    attribute: str
    type: type


def setting(
    name: str,
    kind: Kind[T],
    default: T,
    help: str,
    *,
    secret: bool = False,
    also: str | None = None,
    secret_file: bool = False,
) -> T:
    """Declare a field of a table; a secret one is left out of its repr. With `secret_file` it is
    the path of a file that only the server's user may read."""
    declared = (name, kind, default, help, secret, also, secret_file)
    if isinstance(default, dict):
        return field(
            default_factory=lambda: copy(default), repr=not secret, metadata={"setting": declared}
        )
    return field(default=default, repr=not secret, metadata={"setting": declared})


def table(name: str, of: type[T]) -> T:
    """Declare a nested table."""
    return field(default_factory=of, metadata={"table": (name, of)})


def declared_in(of: type) -> list[Declared | Inner]:
    """Return the settings and nested tables of a table, in order."""
    found: list[Declared | Inner] = []
    for one in fields(of):
        if "setting" in one.metadata:
            name, *declared = one.metadata["setting"]
            found.append(Declared(name, one.name, *declared))
        elif "table" in one.metadata:
            found.append(Inner(one.metadata["table"][0], one.name, one.metadata["table"][1]))
    return found


def _read_yes_no(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value)
    return value if isinstance(value, bool) else None


YES_NO: Kind[bool] = Kind("true or false", _read_yes_no)


def whole(least: int, most: int) -> Kind[int]:
    """Accept integers in this range."""

    def read(value: object) -> int | None:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if least <= value <= most else None

    return Kind(f"a whole number from {least} to {most}", read)


def size(least: int = 1, most: int = 2**30) -> Kind[int]:
    """Accept a size in bytes, as a number or with kb, mb, gb, tb (1024-based)."""

    def read(value: object) -> int | None:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            value = int(match[1]) * _UNITS_BYTES[(match[2] or "").lower()] if match else None
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if least <= value <= most else None

    return Kind(f'a size from {least} to {most} bytes, like 4096, "64kb" or "1MB"', read)


def duration(least: Milliseconds = 0, *, unlimited: bool = False) -> Kind[Milliseconds]:
    """Accept milliseconds or a string like "1h"; -1 too where it means no limit."""

    def read(value: object) -> Milliseconds | None:
        if isinstance(value, str):
            value = parse_duration_ms(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if unlimited and value == -1:
            return -1
        return value if least <= value <= 2**53 else None

    above = f"at least {least} ms" if least else "0 or more"
    accepted = f'a duration like "1h", "90s" or 1500 (milliseconds), {above}'
    return Kind(accepted + (", or -1 for no limit" if unlimited else ""), read, write_duration)


def unset_or(kind: Kind[T]) -> Kind[T | None]:
    """Accept what `kind` accepts; the setting may also be unset, which is None."""

    def write(value: T | None) -> object:
        return None if value is None else kind.write(value)

    return Kind(kind.accepted, kind.read, write)


def text(least: int = 0, most: int = 1024) -> Kind[str]:
    """Accept printable ASCII: such strings are used in header fields and addresses."""

    def read(value: object) -> str | None:
        if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
            return None
        return value if least <= len(value) <= most else None

    return Kind("a string of printable ASCII" + (", not empty" if least else ""), read)


def matching(pattern: str, accepted: str) -> Kind[str]:
    """Accept strings that match the pattern completely."""
    compiled = re.compile(pattern)

    def read(value: object) -> str | None:
        return value if isinstance(value, str) and compiled.fullmatch(value) else None

    return Kind(accepted, read)


def choice(*choices: str) -> Kind[str]:
    """Accept one of these words."""

    def read(value: object) -> str | None:
        return value if isinstance(value, str) and value in choices else None

    return Kind("one of " + ", ".join(choices), read)


def secret_text(least_bytes: int) -> Kind[str | None]:
    """Accept a secret of at least this many bytes (RFC 7518 §3.2); a number is rejected."""

    def read(value: object) -> str | None:
        return value if isinstance(value, str) and len(value.encode()) >= least_bytes else None

    return Kind(f"a string of {least_bytes} bytes or more", read)


def secret_texts(least_bytes: int) -> Kind[tuple[str, ...]]:
    """Accept a secret as `secret_text` does, or a list of secrets, the newest first."""
    one = secret_text(least_bytes)

    def read(value: object) -> tuple[str, ...] | None:
        given = value if isinstance(value, list) else [value]
        fine = [text for text in map(one.read, given) if text is not None]
        return tuple(fine) if fine and len(fine) == len(given) else None

    return Kind(f"{one.accepted}, or a list of such strings, the newest first", read)


def texts(least: int = 0) -> Kind[tuple[str, ...]]:
    """Accept a list of strings, or one string with commas."""

    def read(value: object) -> tuple[str, ...] | None:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        if not isinstance(value, list) or len(value) < least:
            return None
        fine = all(isinstance(one, str) and one and _PRINTABLE.fullmatch(one) for one in value)
        return tuple(value) if fine else None

    accepted = "a list of strings, or one string with commas"
    return Kind(accepted + (", not empty" if least else ""), read)


UNIX_PEERS = "unix"
"""In a list of networks: clients that connect by a Unix socket."""


def _read_networks(value: object) -> tuple[str, ...] | None:
    names = texts().read(value)
    if names is None:
        return None
    try:
        for name in names:
            if name != UNIX_PEERS:
                ip_network(name, strict=False)
    except ValueError:
        return None
    return names


NETWORKS: Kind[tuple[str, ...]] = Kind(
    'a list of addresses or networks, like "10.0.0.0/8", and "unix"', _read_networks
)


def _read_tables(value: object) -> tuple[dict[str, object], ...] | None:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return None
    return tuple(value)


TABLES: Kind[tuple[dict[str, object], ...]] = Kind("a list of tables", _read_tables)


def _read_named_tables(value: object) -> dict[str, dict[str, object]] | None:
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        return None
    return value


NAMED_TABLES: Kind[dict[str, dict[str, object]]] = Kind("a table for each name", _read_named_tables)
