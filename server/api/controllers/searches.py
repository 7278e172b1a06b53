"""Search actions (`security` controller): users, profiles, roles, and users by credentials."""

from typing import Protocol, runtime_checkable

from protocol.api.request import Json, Request
from protocol.errors import error, plain_error
from server.api.actions import action
from server.api.arguments import (
    body_names,
    read_identifier,
    read_natural,
    read_optional_body,
    read_text,
)
from server.api.context import AppContext
from server.auth.search.body import read_search_body
from server.auth.search.mappings import (
    PROFILE_COLLECTION,
    ROLE_COLLECTION,
    USER_COLLECTION,
    Collection,
)
from server.auth.search.parser import parse_query
from server.auth.search.service import Page, check_page
from server.auth.search.terms import MOST_LEAVES, Budget
from server.auth.sessions.principal import Caller
from server.core.durations import parse_duration_ms
from server.storage.query import Has, IsIn, Query, SomeOf
from server.storage.search import Order

_CREDENTIALS_PAGE = 10
_LANG = "elasticsearch"
_QUERY = "from", "size", "lang"
_PAGED = (*_QUERY, "scroll")
_ANY_CONTROLLER = "*"


@runtime_checkable
class Searches(Protocol):
    """A strategy with searchable credentials."""

    async def search(
        self, query: Query, sort: tuple[Order, ...], start: int, size: int
    ) -> dict[str, object]:
        """Return the `hits` of a page and their `total`. ApiError for unsupported fields."""


@action("security:searchUsers", "POST /users/_search", query=_PAGED)
async def search_users(services: AppContext, caller: Caller, request: Request) -> Json:
    """Search users. The body contains a query, a sort order and, to continue after a hit,
    `search_after`. With `scroll`, a lifetime, the result has an ID for the next page."""
    return await _search(services, caller, request, USER_COLLECTION)


@action("security:scrollUsers", "GET /users/_scroll/:scrollId", query=("scroll",))
async def scroll_users(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the next page of a search of users; the last page closes the scroll."""
    scroll_id = read_identifier(request, "scrollId")
    return await services.searches.scroll(USER_COLLECTION, scroll_id, caller.kuid)


@action("security:searchProfiles", "POST /profiles/_search", query=_PAGED)
async def search_profiles(services: AppContext, caller: Caller, request: Request) -> Json:
    """Search profiles by a query or, in the older style, by one of the `roles` in their
    policies."""
    body = dict(read_optional_body(request))
    role_ids = body_names(request, "roles", [])
    if body.pop("roles", None) is None:
        return await _search(services, caller, request, PROFILE_COLLECTION)
    if body.get("query") is not None:
        raise plain_error(400, "a search is by query or by roles, not by both")
    budget = Budget()
    budget.count(len(role_ids))
    wanted = frozenset(map(budget.weigh, role_ids))
    demand = IsIn("policies.roleId", wanted) if wanted else None
    return await _search(services, caller, request, PROFILE_COLLECTION, body, demand)


@action("security:scrollProfiles", "GET /profiles/_scroll/:scrollId", query=("scroll",))
async def scroll_profiles(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the next page of a search of profiles; the last page closes the scroll."""
    scroll_id = read_identifier(request, "scrollId")
    return await services.searches.scroll(PROFILE_COLLECTION, scroll_id, caller.kuid)


@action("security:searchRoles", "POST /roles/_search", query=_QUERY)
async def search_roles(services: AppContext, caller: Caller, request: Request) -> Json:
    """Search roles by a query or by the `controllers` they contain."""
    body = dict(read_optional_body(request))
    names = body_names(request, "controllers", [])
    if body.pop("controllers", None) is None:
        return await _search(services, caller, request, ROLE_COLLECTION)
    if body.get("query") is not None:
        raise plain_error(400, "a search is by query or by controllers, not by both")
    if len(names) > MOST_LEAVES:
        raise error("api.assert.too_many_arguments", "body.controllers", MOST_LEAVES)
    budget = Budget()
    fields = [budget.field(f"controllers.{name}") for name in (*names, _ANY_CONTROLLER)]
    demand = SomeOf(tuple(map(Has, fields))) if names else None
    return await _search(services, caller, request, ROLE_COLLECTION, body, demand)


@action(
    "security:searchUsersByCredentials", "POST /credentials/:strategy/users/_search", query=_QUERY
)
async def search_users_by_credentials(
    services: AppContext, caller: Caller, request: Request
) -> Json:
    """Search users by the searchable credentials of a strategy."""
    name = read_identifier(request, "strategy")
    strategy = services.strategies.get(name)
    if not isinstance(strategy, Searches):
        raise error("plugin.strategy.missing_optional_method", "search", name)
    body = read_search_body(read_optional_body(request))
    start = read_natural(request, "from", body.start or 0)
    size = read_natural(request, "size", _CREDENTIALS_PAGE if body.size is None else body.size)
    check_page(start, size, services.config.limits.documents_fetch_count)
    lang = read_text(request, "lang", _LANG)
    query = parse_query(body.query, lang=lang, on_limit=services.counting.limits.count)
    return await strategy.search(query, body.sort, start, size)


async def _search(
    services: AppContext,
    caller: Caller,
    request: Request,
    collection: Collection,
    given: dict[str, object] | None = None,
    demand: Query | None = None,
) -> Json:
    """Run a search by the body, or `given` in its place, and by `demand`."""
    body = read_search_body(read_optional_body(request) if given is None else given)
    most = services.config.limits.documents_fetch_count
    page = Page(
        start=read_natural(request, "from", body.start or 0),
        size=read_natural(request, "size", most if body.size is None else body.size),
        lang=read_text(request, "lang", _LANG),
        scroll_ms=None if collection is ROLE_COLLECTION else _read_scroll_ms(services, request),
    )
    return await services.searches.search(collection, body, page, caller.kuid, demand)


def _read_scroll_ms(services: AppContext, request: Request) -> int | None:
    """Return the scroll lifetime, None without `scroll`."""
    written = read_text(request, "scroll", "")
    if not written:
        return None
    life_ms = parse_duration_ms(written)
    if life_ms is None or life_ms < 1:
        raise error("api.assert.invalid_argument", "scroll", 'a lifetime such as "10s"')
    if life_ms > services.config.services.storage_engine.max_scroll_duration_ms:
        raise error("services.storage.scroll_duration_too_great", written)
    return int(life_ms)
