"""Action table: each API action with its handler, HTTP routes, initial permissions and published
description.

A handler is `async def handler(services, caller, request)`; it returns the result, or an `Outcome`
if the response is more than a result. Independent of sockets, tokens and storage.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from protocol.api.request import Json, Request
from protocol.errors import ApiError

if TYPE_CHECKING:
    from server.auth.sessions.principal import Caller

VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
ROLES = ("default", "anonymous")
"""The built-in roles an action may be granted to initially; `admin` is allowed everything."""


@dataclass(slots=True)
class Outcome:
    """A response that is more than its result: another status, headers, an error beside the result,
    `cookies` in addition to the one in `headers`, `is_private` if it contains a token, `is_raw` if
    the result alone is the response body, `has_result` False if there is no result."""

    result: Json = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
    error: ApiError | None = None
    is_private: bool = False
    is_raw: bool = False
    has_result: bool = True


Handler = Callable[[Any, "Caller", Request], Awaitable[Json | Outcome]]
"""The first argument is the context, `server.api.context.AppContext`."""


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP route of an action; `is_deprecated` ones stay for old clients."""

    verb: str
    path: str
    is_deprecated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """One action. `needs_user` rejects the anonymous user after the permission check;
    `while_no_admin` allows all clients until there is an administrator. The result of an
    `is_personal` action depends on the caller's user, credentials and permissions alone, and is
    cached until one of them changes, unless it is an `Outcome`. `is_audited` actions and their
    refusals are recorded in the audit log. The cost of actions that `hashes` passwords is
    attributed to their caller. `query` names the arguments besides those in the path, for the
    published description; `produces` the content types of a response without an envelope."""

    controller: str
    name: str
    handler: Handler
    routes: tuple[Route, ...]
    granted: tuple[str, ...]
    needs_user: bool
    while_no_admin: bool
    is_personal: bool
    is_audited: bool
    text: str
    query: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    hashes: bool = False

    @property
    def full_name(self) -> str:
        """`controller:action`, as in roles and logs."""
        return f"{self.controller}:{self.name}"


# Name prefixes of read-only actions.
_READING = (
    *("get", "mGet", "search", "scroll", "list", "check", "validate", "has", "credentialsExist"),
    *("now", "info", "exists", "adminExists", "healthCheck", "publicApi", "openapi"),
    *("capabilities", "metrics"),
)
_GRANTING_ACCESS = ("getResetPasswordToken",)

TABLE: dict[str, dict[str, Action]] = {}


def is_reading(name: str) -> bool:
    """Return whether an action of this name is read-only and grants no access."""
    return name.startswith(_READING) and name not in _GRANTING_ACCESS


def action(
    full_name: str,
    *routes: str,
    deprecated: Iterable[str] = (),
    granted: tuple[str, ...] = (),
    needs_user: bool = False,
    while_no_admin: bool = False,
    is_personal: bool = False,
    is_audited: bool = False,
    query: tuple[str, ...] = (),
    produces: tuple[str, ...] = (),
    hashes: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a handler in the table; routes are written "VERB /path/:param", current ones before
    deprecated ones.

    Raises ValueError for a programming error: a duplicate action, no docstring, an unknown role or
    verb.
    """

    def enter(handler: Handler) -> Handler:
        controller, _, name = full_name.rpartition(":")
        entries = TABLE.setdefault(controller, {})
        text = (handler.__doc__ or "").strip()
        if name in entries or not text or not set(granted) <= set(ROLES):
            raise ValueError(
                f"{full_name}: declared twice, without a docstring, or for an unknown role"
            )
        listed = tuple(_route(route, False) for route in routes)
        listed += tuple(_route(route, True) for route in deprecated)
        entries[name] = Action(
            controller,
            name,
            handler,
            listed,
            granted,
            needs_user,
            while_no_admin,
            is_personal,
            is_audited,
            text,
            query,
            produces,
            hashes,
        )
        return handler

    return enter


def _route(written: str, is_deprecated: bool) -> Route:
    verb, _, path = written.partition(" ")
    if verb not in VERBS or not path.startswith("/"):
        raise ValueError(f"not a valid route: {written}")
    return Route(verb, path, is_deprecated)


def find(controller: str, name: str) -> Action | None:
    """Return an action, or None."""
    entries = TABLE.get(controller)
    return None if entries is None else entries.get(name)


def all_actions() -> list[Action]:
    """Return every action, by controller, in the order of declaration."""
    return [entry for entries in TABLE.values() for entry in entries.values()]
