"""The reference page of the API's errors, made from the error table.

`python -m tests.tools.error_docs` prints docs/api/errors.md.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from protocol.errors import ERRORS, STATUS, Kind

ROOT = Path(__file__).parents[2]
OWN = frozenset(
    f"security.rights.{name}"
    for name in ("second_factor_required", "recent_login_required", "api_key_forbidden")
)
"""Errors that Kuzzle's catalogue does not have."""
# Ids of these families are put together where they are raised, so their names are searched for.
_COMPOSED = ("plugin.kuzzle-plugin-auth-passport-local.", "security.rights.")
_DOMAINS = {
    "core": 0,
    "services": 1,
    "api": 2,
    "network": 3,
    "plugin": 4,
    "validation": 5,
    "protocol": 6,
    "security": 7,
    "cluster": 8,
}

_INTRODUCTION = """# Errors

This page is made by `python -m tests.tools.error_docs`; a test fails when it is out of date.

Every failed request is answered with an [envelope](transport.md#envelope) whose `error` is an
[error object](transport.md#error-object). Programs tell errors apart by `id` and `status`;
`message` is for people and may change.

## Codes

`code` is one integer: domain × 2²⁴ + subdomain × 2¹⁶ + number. Errors that a Kuzzle plugin would
declare have the domain `plugin` and the subdomain 0.

"""
_CLASSES = """
## Classes and statuses

The class name is not sent; it fixes the status. Where an action or a limit calls for another status
than the one of its class, the tables of the other pages say so.

| Class | Status |
|---|---|
"""
_AFTER_CLASSES = """
## Errors without an id

Some errors have only `message` and `status`, as in Kuzzle: those about credentials of a strategy
(`local`, the identity providers), and searches that give both a query and its older alternative.

## Errors with several causes

206 `services.storage.incomplete_delete` has `errors`, a list of error objects, and `count`. Each
of them also has `document`, an object with the `_id`, and `reason`, the message.

## Waiting

429 and 503 are sent with a `Retry-After` header where the server knows when a further attempt makes
sense.
"""
_BEFORE_TABLES = """
## All errors

In a message, `{0}` is the first of the values in `props`. *reserved*: the id is kept for
compatibility, and this server does not raise it. *manykeys*: Kuzzle does not have this id.
"""


def page() -> str:
    """Return docs/api/errors.md."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield "| Domain | Number |\n|---|---|\n"
    yield from (f"| `{name}` | {number} |\n" for name, number in _DOMAINS.items())
    yield _CLASSES
    by_status = sorted(STATUS.items(), key=lambda entry: (entry[1], entry[0]))
    yield from (f"| {name} | {status} |\n" for name, status in by_status)
    yield _AFTER_CLASSES
    yield _BEFORE_TABLES
    family = ""
    for kind in ERRORS.values():
        own_family, _, _ = kind.id.rpartition(".")
        if own_family != family:
            family = own_family
            yield f"\n### {family}\n\n| Id | Code | Status | Message | |\n|---|---|---|---|---|\n"
        cells = (f"`{kind.id}`", str(kind.code), str(kind.status), _cell(kind.text), _note(kind))
        yield f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _note(kind: Kind) -> str:
    if kind.id in OWN:
        return "manykeys"
    return "" if is_raised(kind.id) else "reserved"


def is_raised(error_id: str) -> bool:
    """Return whether the program names this id anywhere but in the error table."""
    family, _, name = error_id.rpartition(".")
    if f'"{error_id}"' in _sources():
        return True
    is_composed = f"{family}." in _COMPOSED
    return is_composed and (f'"{name}"' in _sources() or f'.{name}"' in _sources())


@cache
def _sources() -> str:
    modules = (path for top in ("protocol", "server") for path in (ROOT / top).rglob("*.py"))
    return "\n".join(path.read_text() for path in modules if path.name != "error_table.py")


if __name__ == "__main__":
    print(page(), end="")
