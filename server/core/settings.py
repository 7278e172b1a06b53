"""How a setting is declared and which values it takes.

A table of settings is a frozen dataclass; `setting` makes a field of it, `table` a table inside it.
Each setting has a kind, which reads a value of TOML or a text out of the environment or `--set`.
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
    """What a setting takes: `accepted` says it to people, `read` gives None for anything else.

    `write` gives what people would write for a value.
    """

    accepted: str
    read: Callable[[object], T | None]
    write: Callable[[T], object] = lambda value: value


@dataclass(frozen=True, slots=True)
class Declared:
    """One setting as declared; `name` is its name on the wire, inside its table.

    `also` is the full name of an older key that is taken where this one is not given. A setting
    that `is_secret` may also be given as the name of a file that holds it; one that `names_secret`
    is the name of such a file.
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
    """A table inside a table."""

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
    """Declare a field of a table; a secret one is left out of its repr. One of a `secret_file` is
    the name of a file that only the server's user may read."""
    declared = (name, kind, default, help, secret, also, secret_file)
    if isinstance(default, dict):
        return field(
            default_factory=lambda: copy(default), repr=not secret, metadata={"setting": declared}
        )
    return field(default=default, repr=not secret, metadata={"setting": declared})


def table(name: str, of: type[T]) -> T:
    """Declare a table inside a table."""
    return field(default_factory=of, metadata={"table": (name, of)})


def declared_in(of: type) -> list[Declared | Inner]:
    """Give what a table declares, in order."""
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
    """Take whole numbers of this range."""

    def read(value: object) -> int | None:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if least <= value <= most else None

    return Kind(f"a whole number from {least} to {most}", read)


def size(least: int = 1, most: int = 2**30) -> Kind[int]:
    """Take a number of bytes, as a number or with kb, mb, gb, tb (1024-based)."""

    def read(value: object) -> int | None:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            value = int(match[1]) * _UNITS_BYTES[(match[2] or "").lower()] if match else None
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if least <= value <= most else None

    return Kind(f'a size from {least} to {most} bytes, like 4096, "64kb" or "1MB"', read)


def duration(least: Milliseconds = 0, *, unlimited: bool = False) -> Kind[Milliseconds]:
    """Take milliseconds or a text like "1h"; -1 too where it stands for no limit."""

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
    """Take what `kind` does; the setting may also be left unset, which is None."""

    def write(value: T | None) -> object:
        return None if value is None else kind.write(value)

    return Kind(kind.accepted, kind.read, write)


def text(least: int = 0, most: int = 1024) -> Kind[str]:
    """Take printable ASCII: such texts end up in header fields and addresses."""

    def read(value: object) -> str | None:
        if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
            return None
        return value if least <= len(value) <= most else None

    return Kind("a text of printable ASCII" + (", not empty" if least else ""), read)


def matching(pattern: str, accepted: str) -> Kind[str]:
    """Take texts that match as a whole."""
    compiled = re.compile(pattern)

    def read(value: object) -> str | None:
        return value if isinstance(value, str) and compiled.fullmatch(value) else None

    return Kind(accepted, read)


def choice(*choices: str) -> Kind[str]:
    """Take one of these words."""

    def read(value: object) -> str | None:
        return value if isinstance(value, str) and value in choices else None

    return Kind("one of " + ", ".join(choices), read)


def secret_text(least_bytes: int) -> Kind[str | None]:
    """Take a secret of at least so many bytes (RFC 7518 §3.2); a number is taken for a mistake."""

    def read(value: object) -> str | None:
        return value if isinstance(value, str) and len(value.encode()) >= least_bytes else None

    return Kind(f"a text of {least_bytes} bytes or more", read)


def secret_texts(least_bytes: int) -> Kind[tuple[str, ...]]:
    """Take a secret as `secret_text` does, or a list of some, the newest first."""
    one = secret_text(least_bytes)

    def read(value: object) -> tuple[str, ...] | None:
        given = value if isinstance(value, list) else [value]
        fine = [text for text in map(one.read, given) if text is not None]
        return tuple(fine) if fine and len(fine) == len(given) else None

    return Kind(f"{one.accepted}, or a list of such texts, the newest first", read)


def texts(least: int = 0) -> Kind[tuple[str, ...]]:
    """Take a list of texts, or one text with commas."""

    def read(value: object) -> tuple[str, ...] | None:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        if not isinstance(value, list) or len(value) < least:
            return None
        fine = all(isinstance(one, str) and one and _PRINTABLE.fullmatch(one) for one in value)
        return tuple(value) if fine else None

    return Kind("a list of texts, or one text with commas" + (", not empty" if least else ""), read)


UNIX_PEERS = "unix"
"""Stands among networks for whoever comes by a Unix socket."""


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
