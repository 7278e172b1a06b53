"""Public API description: controllers, actions and routes, and the version numbers."""

from importlib.metadata import PackageNotFoundError, version

from protocol.api.request import Json
from server.api.actions import TABLE, Action

API_VERSION = "2.56.0"
"""The version of Kuzzle's API that is supported."""


def program_version() -> str:
    """Return the program's own version; "0" when it runs from a folder that was never installed."""
    try:
        return version("manykeys")
    except PackageNotFoundError:
        return "0"


def public_api() -> dict[str, Json]:
    """Return controllers and actions by name, each with its routes in the order of declaration."""
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
