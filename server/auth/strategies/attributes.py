"""User attributes from an identity provider, without the provider's own tokens (security check
O8)."""

import re
from collections.abc import Mapping

import orjson

MOST_ATTRIBUTE_BYTES = 8192
"""Maximum size of one stored attribute, as JSON; larger ones are left out."""
_SECRET = re.compile(r"token|secret|password|(?:^|_)(?:code|assertion)$", re.IGNORECASE)
_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]{1,4})\]")
_MAX_DEPTH = 16


def is_secret(path: str) -> bool:
    """Return whether an attribute of this name may be a token or other credential."""
    return _SECRET.search(path) is not None


def without_secrets(value: object, depth: int = 0) -> object:
    """Return what a provider has sent without credentials for the provider itself."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {
            name: without_secrets(inner, depth + 1)
            for name, inner in value.items()
            if isinstance(name, str) and not is_secret(name)
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner, depth + 1) for inner in value]
    return value if isinstance(value, str | int | float | bool) else None


def find(attributes: Mapping[str, object], path: str) -> object:
    """Return the attribute at a path like `email`, `address.city` or `emails[0].value`, None if
    there is none."""
    if path in attributes:
        return attributes[path]
    found: object = attributes
    for step in _STEP.finditer(path):
        if step[1] is not None and isinstance(found, Mapping):
            found = found.get(step[1])
        elif step[2] is not None and isinstance(found, list) and int(step[2]) < len(found):
            found = found[int(step[2])]
        else:
            return None
    return found


def pick(attributes: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    """Return the attributes at these paths, by their new names; what is missing or too large is
    left out."""
    picked: dict[str, object] = {}
    for path, name in names.items():
        value = find(attributes, path)
        if value is not None and _is_small(value):
            picked[name] = value
    return picked


def _is_small(value: object) -> bool:
    try:
        return len(orjson.dumps(value)) <= MOST_ATTRIBUTE_BYTES
    except TypeError:
        return False
