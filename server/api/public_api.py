"""What is published about the API, all of it derived from the action table."""

from importlib.metadata import PackageNotFoundError, version

from protocol.api.request import Json
from server.api.actions import TABLE, Action

API_VERSION = "2.56.0"
"""The level of the reference's API that is spoken."""


def program_version() -> str:
    """Give the program's own version; "0" when it runs from a folder that was never installed."""
    try:
        return version("manykeys")
    except PackageNotFoundError:
        return "0"


def public_api() -> dict[str, Json]:
    """Give controllers and actions by name, each with its routes in the order of declaration
    (contract/04)."""
    return {
        controller: {name: _show(entries[name]) for name in sorted(entries)}
        for controller, entries in sorted(TABLE.items())
    }


def _show(entry: Action) -> Json:
    shown: dict[str, Json] = {"action": entry.name, "controller": entry.controller}
    if entry.routes:
        shown["http"] = [
            {"path": route.path, "url": route.path, "verb": route.verb} for route in entry.routes
        ]
    return shown
