"""The controller table: each action once, with its handler, HTTP routes, first rights and published
text.

A handler is `async def handler(services, caller, request)`; it returns the result, or an `Outcome`
when the answer is more than a result. Knows nothing of sockets, tokens or storage.
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
"""The built-in roles an action may be granted to at first; `admin` may do everything."""


@dataclass(slots=True)
class Outcome:
    """An answer that is more than its result: another status, headers, an error beside the result,
    `cookies` beside the one in `headers`, `is_private` when it holds a token, `is_raw` when the
    result alone is the answer, `has_result` False when there is none at all."""

    result: Json = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
    error: ApiError | None = None
    is_private: bool = False
    is_raw: bool = False
    has_result: bool = True


Handler = Callable[[Any, "Caller", Request], Awaitable[Json | Outcome]]
"""The first argument is the context, `server.api.context.Services`."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way over HTTP to an action; `is_deprecated` ones stay for the clients that know no
    other."""

    verb: str
    path: str
    is_deprecated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """One row of the table. `needs_user` refuses the anonymous user after the rights check
    (contract/02 §3); `while_no_admin` allows everybody until there is an administrator (design §4).
    The result of an `is_personal` one depends on the caller's user, credentials and rights alone,
    and is kept until one of them changes, unless it comes as an `Outcome`. The audit trail tells of
    an `is_audited` one, its refusals too. What one that `hashes` passwords costs is attributed to
    its caller. `query` names the arguments beside those in the path, for the published description;
    `produces` the types of content of one that answers without an envelope."""

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
        """`controller:action`, as roles and logs say it."""
        return f"{self.controller}:{self.name}"


# How the names of actions begin that change nothing; the list follows contract/02 to 04.
_READING = (
    *("get", "mGet", "search", "scroll", "list", "check", "validate", "has", "credentialsExist"),
    *("now", "info", "exists", "adminExists", "healthCheck", "publicApi", "openapi"),
    *("capabilities", "metrics"),
)
_GIVING_ACCESS = ("getResetPasswordToken",)

TABLE: dict[str, dict[str, Action]] = {}


def is_reading(name: str) -> bool:
    """Tell whether an action of this name changes nothing and gives no access."""
    return name.startswith(_READING) and name not in _GIVING_ACCESS


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
    """Enter a handler in the table; routes are written "VERB /path/:param", current ones before
    deprecated ones.

    Refuses (ValueError) what would be a mistake in the program: an action twice, no docstring, an
    unknown role or verb.
    """

    def enter(handler: Handler) -> Handler:
        controller, _, name = full_name.rpartition(":")
        entries = TABLE.setdefault(controller, {})
        text = (handler.__doc__ or "").strip()
        if name in entries or not text or not set(granted) <= set(ROLES):
            raise ValueError(
                f"{full_name}: declared twice, without a docstring, or for no known role"
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
        raise ValueError(f"no route: {written}")
    return Route(verb, path, is_deprecated)


def find(controller: str, name: str) -> Action | None:
    """Give an action of the table, or None."""
    entries = TABLE.get(controller)
    return None if entries is None else entries.get(name)


def all_actions() -> list[Action]:
    """Give every action, by controller, in the order of declaration."""
    return [entry for entries in TABLE.values() for entry in entries.values()]
