"""Configuration loader: settings from TOML files, environment variables and flags, and back to
TOML.

Works on any tree of tables declared with `server.core.settings`; a tree of values is a parsed TOML
document.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from protocol.errors import LocalError
from server.core.settings import NAMED_TABLES, Declared, Inner, declared_in

T = TypeVar("T")
Tree = dict[str, object]

# The later one wins.
PREFIXES = ("kuzzle_", "manykeys_")
FILE = "file"
"""The key under a secret whose value is the path of its file."""
MAX_SECRET_BYTES = 65_536
"""Maximum size of a secret file."""
_JSON = "*json:"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# Settings of a strategy that may be shown: any other string may be a key or a password.
_SHOWN = ("use", "backend")
_NOT_SHOWN = "# {}: set, not shown"


class ConfigError(LocalError):
    """An invalid setting; the message names it and what is accepted."""


def read_file(path: Path) -> Tree:
    """Return the settings of a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise ConfigError(f"{path}: cannot be read: {reason.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        raise ConfigError(f"{path}: not TOML: {reason}") from None


def read_environment(environment: Mapping[str, str]) -> Tree:
    """Return the settings among the variables: a prefix, then names with `__` between the levels.

    Variables without `__` are ignored: other programs use the prefix too.
    """
    tree: Tree = {}
    for prefix in PREFIXES:
        for variable, value in environment.items():
            name = variable[len(prefix) :]
            if variable.lower().startswith(prefix) and "__" in name:
                _put(tree, name.split("__"), value)
    return tree


def read_overrides(overrides: Mapping[str, object]) -> Tree:
    """Return the settings named in full, with dots between the levels."""
    tree: Tree = {}
    for name, value in overrides.items():
        _put(tree, name.split("."), value)
    return tree


def _put(tree: Tree, path: list[str], value: object) -> None:
    for step in path[:-1]:
        inner = tree.setdefault(step, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(path)}: {step} already has a value; expected a table")
        tree = inner
    tree[path[-1]] = value


def merge(below: Tree, above: Tree) -> Tree:
    """Return both trees merged; `above` wins, key by key in tables, as a whole elsewhere."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        if isinstance(under, dict) and isinstance(value, dict):
            value = merge(under, value)
        merged[name] = value
    return merged


def fill(
    of: type[T], tree: Tree, ignored: tuple[str, ...], *, path: str = ""
) -> tuple[T, tuple[str, ...]]:
    """Return the table with its values, and the names that were given but have no effect.

    `ignored` are such names; one that ends in `.*` matches all undeclared names below it.
    `path` is the table's own full name with a dot at the end, where it is not the whole tree.
    """
    names = dict(walk(of, path))
    filler = _Filler(names, ignored)
    return filler.fill(of, _rename(deepcopy(tree), names), path), tuple(filler.without_effect)


def walk(of: type, path: str = "") -> Iterator[tuple[str, Declared]]:
    """Yield every setting with its full name."""
    for one in declared_in(of):
        name = path + one.name
        if isinstance(one, Inner):
            yield from walk(one.type, name + ".")
        else:
            yield name, one


def _rename(tree: Tree, names: Mapping[str, Declared]) -> Tree:
    """Move values given under a former name to the current one, which wins if both are given."""
    for name, declared in names.items():
        if declared.also is None:
            continue
        *path, last = declared.also.split(".")
        table: object = tree
        for step in path:
            table = table.get(step) if isinstance(table, dict) else None
        if isinstance(table, dict) and last in table:
            tree = merge(read_overrides({name: table.pop(last)}), tree)
    return tree


class _Filler:
    """Fills tables from one tree; collects the given names that have no effect."""

    def __init__(self, names: Mapping[str, Declared], ignored: tuple[str, ...]) -> None:
        self._names = names
        self._ignored = ignored
        self.without_effect: list[str] = []

    def fill(self, of: type[T], tree: Tree, path: str) -> T:
        """Return the table `of`; `path` is its full name with a dot at the end."""
        declared = {one.name: one for one in declared_in(of)}
        values: dict[str, object] = {}
        for name, value in tree.items():
            one = declared.get(name)
            if one is None:
                self._pass_over(path, path + name, value)
            elif isinstance(one, Declared):
                values[one.attribute] = _read(path + name, one, value)
            elif isinstance(value, dict):
                values[one.attribute] = self.fill(one.type, value, f"{path}{name}.")
            else:
                raise ConfigError(f"{path}{name}: expected a table, not a value")
        return of(**values)

    def _pass_over(self, table: str, name: str, value: object) -> None:
        """Accept an undeclared name if it is listed as one without effect; ConfigError if not."""
        if name in self._ignored:
            self.without_effect.append(name)
        elif isinstance(value, dict):
            for inner, one in value.items():
                self._pass_over(table, f"{name}.{inner}", one)
        elif self._is_below_ignored(table, name):
            self.without_effect.append(name)
        else:
            raise ConfigError(f"{name}: unknown setting{self._suggest(table, name)}")

    def _suggest(self, table: str, name: str) -> str:
        keys = [one.removeprefix(table) for one in self._names if one.startswith(table)]
        near = [table + key for key in get_close_matches(name.removeprefix(table), keys, 1)]
        near = near or get_close_matches(name, self._names, 1, 0.8)
        return f"; did you mean {near[0]}?" if near else ""

    def _is_below_ignored(self, table: str, name: str) -> bool:
        """Return whether a `.*` matches the name; one above the table does not reach into it."""
        listed = (entry[:-1] for entry in self._ignored if entry.endswith(".*"))
        return any(name.startswith(above) and above.startswith(table) for above in listed)


def leaves(tree: Mapping[str, object], path: str = "") -> Iterator[str]:
    """Yield the full name of every value in a tree."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield path + name


def value_at(tree: Mapping[str, object], name: str) -> object:
    """Return the value with a full name; None where there is none."""
    value: object = tree
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _read(name: str, declared: Declared, value: object) -> object:
    if declared.kind is NAMED_TABLES:
        value = _expand(name, value)
    elif not declared.is_secret:
        value = _parse(name, value)
    elif not isinstance(declared.default, dict):
        value = _read_secret(name, value)
    elif isinstance(value, dict):
        value = {key: _read_secret(f"{name}.{key}", one) for key, one in value.items()}
    read: object = declared.kind.read(value)
    if read is None:
        shown = "(not shown)" if declared.is_secret else write_value(value)
        raise ConfigError(f"{name}: {shown} is not accepted; expected {declared.kind.accepted}")
    return read


def _read_secret(name: str, value: object) -> object:
    """Return a secret; for `{file = "…"}` the contents of the file, without a final line break. Of
    several secrets each may be in a file."""
    if isinstance(value, list):
        return [_read_secret(name, one) for one in value]
    if not isinstance(value, dict) or value.keys() != {FILE} or not isinstance(value[FILE], str):
        return value
    path = value[FILE]
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        text = data.decode()
    except OSError as reason:
        raise ConfigError(f"{name}.{FILE}: {path}: cannot be read: {reason.strerror}") from None
    except ValueError:
        raise ConfigError(f"{name}.{FILE}: {path}: expected UTF-8") from None
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"{name}.{FILE}: {path}: expected at most {MAX_SECRET_BYTES} bytes")
    return text.removesuffix("\n").removesuffix("\r")


def _expand(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {key: _expand(f"{name}.{key}", inner) for key, inner in value.items()}
    return _parse(name, value)


def _parse(name: str, value: object) -> object:
    """Return the parsed value of a `*json:` string, and any other value unchanged."""
    if not isinstance(value, str) or not value.startswith(_JSON):
        return value
    try:
        return json.loads(value.removeprefix(_JSON))
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}: what follows {_JSON} is not JSON") from None


def shown_tree(filled: object) -> Tree:
    """Return a filled table without its secrets."""
    tree: Tree = {}
    for one in declared_in(type(filled)):
        value = getattr(filled, one.attribute)
        if isinstance(one, Inner):
            tree[one.name] = shown_tree(value)
        elif one.kind is NAMED_TABLES:
            tree[one.name] = {
                name: {key: inner for key, inner in table.items() if _is_shown(key, inner)}
                for name, table in value.items()
            }
        elif not one.is_secret:
            tree[one.name] = one.kind.write(value)
    return tree


def write_toml(filled: object) -> str:
    """Return a filled table as TOML: secrets are named in a comment, never shown."""
    return "\n".join(_write_table(filled, "")).strip() + "\n"


def _write_table(filled: object, path: str) -> Iterator[str]:
    inner: list[Inner] = []
    lines: list[str] = []
    named: Tree = {}
    for one in declared_in(type(filled)):
        value = getattr(filled, one.attribute)
        if isinstance(one, Inner):
            inner.append(one)
        elif one.kind is NAMED_TABLES:
            named = {f"{path}{_write_key(one.name)}.{_write_key(key)}": value[key] for key in value}
        elif one.is_secret or value is None:
            lines.append(_NOT_SHOWN.format(one.name) if value else f"# {one.name}: not set")
        else:
            lines.append(f"{_write_key(one.name)} = {write_value(one.kind.write(value))}")
    if lines:
        yield f"\n[{path.removesuffix('.')}]"
    yield from lines
    for one in inner:
        yield from _write_table(getattr(filled, one.attribute), f"{path}{_write_key(one.name)}.")
    for name, table in named.items():
        yield f"\n[{name}]"
        if isinstance(table, dict):
            yield from (_write_free(key, value) for key, value in table.items())


def _is_shown(key: str, value: object) -> bool:
    """Return whether a setting of a strategy may be shown."""
    return key in _SHOWN or isinstance(value, int | float)


def _write_free(key: str, value: object) -> str:
    if _is_shown(key, value):
        return f"{_write_key(key)} = {write_value(value)}"
    return _NOT_SHOWN.format(_write_key(key))


def _write_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _write_text(name)


def _write_text(value: str) -> str:
    """Return a TOML string: a JSON string, except that TOML requires DEL to be escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_value(value: object) -> str:
    """Format a value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _write_text(value)
        case list() | tuple():
            return "[" + ", ".join(write_value(one) for one in value) + "]"
        case dict():
            inside = (f"{_write_key(key)} = {write_value(one)}" for key, one in value.items())
            return "{ " + ", ".join(inside) + " }" if value else "{}"
        case _:
            return str(value)
