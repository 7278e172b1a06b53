"""Searches continued page by page: how long, by whom, how many (docs/api/security.md#searches)."""

import pytest

from protocol.errors import ApiError
from server.auth.search.scrolls import MOST_OF_ONE, MOST_SCROLLS, Scrolls
from server.storage.search import USERS, Search
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Running

TTL_MS = 15_000


class Clock:
    """A clock that is set by hand."""

    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def begin(scrolls: Scrolls, owner: str = "ann", ttl_ms: int = TTL_MS) -> str:
    """Begin a scroll of ten hits, two of which are given."""
    return scrolls.begin(owner, Search(USERS), given=2, total=10, last=("b",), ttl_ms=ttl_ms)


def is_there(scrolls: Scrolls, scroll_id: str, owner: str = "ann") -> bool:
    """Tell whether a scroll can be continued."""
    try:
        scrolls.get(scroll_id, owner)
    except ApiError as refused:
        assert (refused.id, refused.status) == ("services.storage.unknown_scroll_id", 404)
        return False
    return True


def test_a_scroll_goes_on_behind_the_last_hit() -> None:
    """Kept is a place in an order, which ends with the id."""
    scrolls = Scrolls(clock_ms=Clock(), ttl_ms=TTL_MS)
    scroll = scrolls.get(begin(scrolls), "ann")
    assert [order.field for order in scroll.search.sort] == ["_id"]
    assert (scroll.search.after, scroll.search.start) == (("b",), 0)


def test_a_scroll_lives_as_long_as_asked_and_then_fifteen_seconds() -> None:
    """docs/api/security.md#searches: the first page's `scroll`, the default for each further
    one."""
    clock = Clock()
    scrolls = Scrolls(clock_ms=clock, ttl_ms=TTL_MS)
    scroll_id = begin(scrolls, ttl_ms=1000)
    clock.now_ms += 999
    scrolls.go_on(scroll_id, scrolls.get(scroll_id, "ann"), 2, ("d",))
    clock.now_ms += TTL_MS - 1
    assert is_there(scrolls, scroll_id)
    clock.now_ms += 1
    assert not is_there(scrolls, scroll_id)


@pytest.mark.parametrize("hits", [8, 0])
def test_the_last_page_ends_a_scroll(hits: int) -> None:
    """docs/api/security.md#searches; so does an empty one, when what was counted is gone."""
    scrolls = Scrolls(clock_ms=Clock(), ttl_ms=TTL_MS)
    scroll_id = begin(scrolls)
    scrolls.go_on(scroll_id, scrolls.get(scroll_id, "ann"), hits, ("z",))
    assert not is_there(scrolls, scroll_id)


def test_two_at_once_do_not_skip_a_page() -> None:
    """Both get the page they asked for; the second note of it changes nothing."""
    scrolls = Scrolls(clock_ms=Clock(), ttl_ms=TTL_MS)
    scroll_id = begin(scrolls)
    scroll = scrolls.get(scroll_id, "ann")
    for _ in range(2):
        scrolls.go_on(scroll_id, scroll, 2, ("d",))
    again = scrolls.get(scroll_id, "ann")
    assert (again.given, again.search.after) == (4, ("d",))


def test_a_scroll_belongs_to_who_began_it() -> None:
    """Whoever else knows the id gets what he would for one that was never there."""
    scrolls = Scrolls(clock_ms=Clock(), ttl_ms=TTL_MS)
    assert not is_there(scrolls, begin(scrolls, "ann"), "bob")


def test_a_users_oldest_scroll_makes_room() -> None:
    """CONTRIBUTING.md, limits."""
    scrolls = Scrolls(clock_ms=Clock(), ttl_ms=TTL_MS)
    made = [begin(scrolls) for _ in range(MOST_OF_ONE + 1)]
    assert not is_there(scrolls, made[0])
    assert all(is_there(scrolls, scroll_id) for scroll_id in made[1:])


def test_all_scrolls_together_are_bounded() -> None:
    """Nobody's scroll ends because of somebody else's; expired ones make room."""
    clock = Clock()
    scrolls = Scrolls(clock_ms=clock, ttl_ms=TTL_MS)
    made = [begin(scrolls, f"u{at % 100}") for at in range(MOST_SCROLLS)]
    with pytest.raises(ApiError) as refused:
        begin(scrolls, "late")
    assert (refused.value.id, refused.value.status) == ("api.process.overloaded", 503)
    own = begin(scrolls, "u0")
    assert not is_there(scrolls, made[0], "u0")
    assert is_there(scrolls, own, "u0")
    clock.now_ms += TTL_MS
    assert is_there(scrolls, begin(scrolls, "late"), "late")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["Users", "Profiles"])
async def test_pages_of_a_scroll(server: Running, transport: str, kind: str) -> None:
    """docs/api/security.md#user-actions, #profile-actions, #searches: every hit once, the same
    total, an end."""
    admin = await server.create_admin()
    for number in range(4):
        await server.create_user(admin, f"u{number}")
    search = {"token": admin, "size": 2, "scroll": "10s", "body": {"sort": [{"_id": "desc"}]}}
    answer = await server.call(transport, f"security:search{kind}", **search)
    total = 5 if kind == "Users" else 3
    seen: list[str] = []
    for _ in range((total + 1) // 2):
        result = answer["result"]
        assert list(result) == ["hits", "total", "scrollId"]
        assert result["total"] == total
        seen += [hit["_id"] for hit in result["hits"]]
        args = {"token": admin, "scrollId": result["scrollId"], "scroll": "1s"}
        answer = await server.call(transport, f"security:scroll{kind}", **args)
    names = (
        ["admin", "u0", "u1", "u2", "u3"] if kind == "Users" else ["admin", "anonymous", "default"]
    )
    assert seen == names[::-1]
    assert told(answer) == {
        "id": "services.storage.unknown_scroll_id",
        "code": 16842766,
        "status": 404,
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ids_that_lead_nowhere(server: Running, transport: str) -> None:
    """docs/api/security.md#user-actions, #profile-actions: unknown, somebody else's, or of the
    other kind: 404."""
    admin = await server.create_admin()
    other = await server.create_user(admin, "ann", "admin")
    answer = await server.call(transport, "security:searchUsers", token=admin, size=1, scroll="10s")
    scroll_id = answer["result"]["scrollId"]
    for token, action, wanted in [
        (admin, "scrollUsers", "nonsense"),
        (other, "scrollUsers", scroll_id),
        (admin, "scrollProfiles", scroll_id),
    ]:
        answer = await server.call(transport, f"security:{action}", token=token, scrollId=wanted)
        assert told(answer, "id") == {"id": "services.storage.unknown_scroll_id"}
    answer = await server.call(transport, "security:scrollUsers", token=admin, scrollId=scroll_id)
    assert [hit["_id"] for hit in answer["result"]["hits"]] == ["ann"]


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_a_scroll_needs_its_id(server: Running, transport: str) -> None:
    """docs/api/transport.md#arguments."""
    admin = await server.create_admin()
    answer = await server.call(transport, "security:scrollUsers", token=admin)
    assert told(answer, "id") == {"id": "api.assert.missing_argument"}
