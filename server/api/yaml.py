"""A tree of JSON as YAML, for people to read: block style, members in their order.

Texts that could be taken for anything else are written as JSON does, which YAML reads too
(YAML 1.2 §7.3.1). Knows nothing of what it writes.
"""

import json
import re
from collections.abc import Iterator

from protocol.api.request import Json

# What YAML 1.1 and 1.2 both take for text, whatever stands around it.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
# YAML 1.2 §5.1: what must not stand there unescaped, and JSON would let stand.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def write_yaml(tree: dict[str, Json]) -> str:
    """Give the text of a tree of texts, whole numbers, booleans and nulls."""
    return "".join(f"{line}\n" for line in _write_lines(tree)) or "{}\n"


def _write_lines(value: Json) -> Iterator[str]:
    """Give the lines of a table or list that is not empty."""
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
