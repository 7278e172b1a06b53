"""YAML writer for JSON values: block style, members in their order.

Strings that could be parsed as anything else are written as in JSON, which YAML accepts
(YAML 1.2 §7.3.1).
"""

import json
import re
from collections.abc import Iterator

from protocol.api.request import Json

# Parsed as a string by YAML 1.1 and 1.2, whatever surrounds it.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
# YAML 1.2 §5.1: characters that must be escaped, and that JSON does not escape.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def write_yaml(tree: dict[str, Json]) -> str:
    """Format a tree of strings, integers, booleans and nulls."""
    return "".join(f"{line}\n" for line in _write_lines(tree)) or "{}\n"


def _write_lines(value: Json) -> Iterator[str]:
    """Yield the lines of a mapping or list that is not empty."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _write_member(f"{_write_text(name)}:", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _write_member("-", inner)


def _write_member(lead: str, value: Json) -> Iterator[str]:
    if isinstance(value, dict | list | tuple) and value:
        yield lead
        yield from (f"  {line}" for line in _write_lines(value))
    else:
        yield f"{lead} {_write_scalar(value)}"


def _write_scalar(value: Json) -> str:
    return _write_text(value) if isinstance(value, str) else json.dumps(value)


def _write_text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    written = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
