"""Strategies come and go while the server runs, and a user has several
(docs/api/strategies.md#registration; docs/architecture.md)."""

from collections.abc import AsyncIterator

import pytest

import server.auth.strategies
from server.auth.strategies.base import Authenticated, NewUser, Parts
from server.storage.base import Entry, EventKind
from server.storage.rows import Table
from tests.sample_strategy import badges, detours
from tests.support.errors import told
from tests.support.login_steps import Client, Steps, state_of
from tests.support.sample_strategy import Badge
from tests.support.server import PASSWORD, TRANSPORTS, Envelope, Running, running

WHO, STRATEGIES = "auth:getCurrentUser", "auth:getStrategies"
CREATE, DELETE = "auth:createMyCredentials", "auth:deleteMyCredentials"
UPDATE, GET = "auth:updateMyCredentials", "auth:getMyCredentials"
CODE, OTHER_CODE = "A1B2C3D4E5F6", "F6E5D4C3B2A1"
BADGE = {"number": "b-7", "code": CODE}
UNKNOWN = {"id": "security.credentials.unknown_strategy", "code": 117571585, "status": 400}


@pytest.fixture
async def several() -> AsyncIterator[Running]:
    """A server with three strategies, and Ann."""
    async with running() as server:
        services = server.app.services
        parts = Parts(services.storage, services.clock_ms)
        badge = badges.KIND.make("badge", badges.Settings(key="k" * 32), parts)
        detour = detours.KIND.make("detour", detours.Settings(), parts)
        await services.strategies.add("badge", badge)
        await services.strategies.add("detour", detour)
        await server.create_user(await server.create_admin(), "ann")
        yield server


async def shown(server: Running, transport: str, token: str) -> object:
    """Give the strategies `getCurrentUser` shows."""
    return (await server.call(transport, WHO, token=token))["result"]["strategies"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_they_come_and_go(server: Running, transport: str) -> None:
    """docs/api/strategies.md#registration: what is kept of a user shows it at once; his token stays
    good."""
    entries: list[Entry] = []
    services = server.app.services
    services.storage.follow(entries.extend)
    token = await server.create_admin()
    assert await shown(server, transport, token) == ["local"]
    badge = Badge(services.storage, Authenticated("admin"))
    await services.strategies.add("badge", badge)
    body = {"number": "7"}
    made = await server.call(transport, CREATE, token=token, strategy="badge", body=body)
    assert made["status"] == 200
    login = await server.call(transport, "auth:login", strategy="badge", body={})
    assert await shown(server, transport, token) == ["local", "badge"]
    names = await server.call(transport, STRATEGIES, token=token)
    assert names["result"] == ["local", "badge"]
    await services.strategies.remove("badge")
    assert await shown(server, transport, token) == ["local"]
    assert await shown(server, transport, login["result"]["jwt"]) == ["local"]
    gone = await server.call(transport, "auth:login", strategy="badge", body={})
    assert told(gone) == UNKNOWN
    await services.strategies.add("badge", badge)
    assert await shown(server, transport, token) == ["local", "badge"]
    noted = [entry.subject for entry in entries if entry.noted is EventKind.STRATEGY]
    assert noted == ["badge"] * 3


@pytest.mark.parametrize("again", ["add", "remove"])
async def test_logins_do_not_outlive_their_strategy(server: Running, again: str) -> None:
    """What one kept is not another's to read."""
    services = server.app.services
    await services.strategies.add("steps", Steps(services.storage))
    client = Client(server, "http")
    state = state_of(await client.login())
    if again == "remove":
        await services.strategies.remove("steps")
    await services.strategies.add("steps", Steps(services.storage))
    assert (await client.login(state=state, code="ann"))["status"] == 401
    assert await services.storage.count(Table.ONE_TIME) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_one_user_and_many_keys(several: Running, transport: str) -> None:
    """docs/architecture.md: linking, logging in with each, changing one, unlinking all but the
    last."""
    token = await several.login("ann")

    async def call(action: str, strategy: str, body: object = None) -> Envelope:
        return await several.call(transport, action, token=token, strategy=strategy, body=body)

    linked = await call(CREATE, "badge", BADGE)
    assert linked["result"] == {"number": "b-7"}
    assert (await call(CREATE, "detour", {"subject": "subject-5"}))["status"] == 200
    assert await shown(several, transport, token) == ["local", "badge", "detour"]

    login = await several.call("query", "auth:login", strategy="badge", body=BADGE)
    assert login["result"]["_id"] == "ann"
    client = Client(several, transport)
    away = (await client.login("detour"))["result"]["headers"]["Location"]
    back = await client.login("detour", state=away.partition("state=")[2], code="5")
    assert back["result"]["_id"] == "ann"

    changed = {"number": "b-8", "code": OTHER_CODE}
    assert (await call(UPDATE, "badge", changed))["result"] == {"number": "b-8"}
    for body, status in ((BADGE, 401), (changed, 200)):
        login = await several.call("query", "auth:login", strategy="badge", body=body)
        assert login["status"] == status
    assert (await call(GET, "badge"))["result"] == {}

    for name, status in (("local", 200), ("detour", 200), ("badge", 412)):
        assert (await call(DELETE, name))["status"] == status
    assert await shown(several, transport, token) == ["badge"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_keys_are_one_users(several: Running, transport: str) -> None:
    """412 for what is another's, 400 for what can't be one; nothing of it is stored."""
    ann, admin = await several.login("ann"), await several.login("admin")
    call = several.call
    made = await call(transport, CREATE, token=ann, strategy="badge", body=BADGE)
    assert made["status"] == 200
    for body, status in (
        (BADGE, 412),
        ({**BADGE, "number": 7}, 400),
        ({**BADGE, "number": "x" * 600}, 400),
        ({**BADGE, "number": "a\0"}, 400),
        ({"number": "b-9"}, 400),
    ):
        taken = await call(transport, CREATE, token=admin, strategy="badge", body=body)
        assert taken["status"] == status, body
    none = await call(transport, DELETE, token=admin, strategy="badge")
    assert none["status"] == 412
    rows = await several.app.services.storage.find(Table.CREDENTIALS, limit=9, strategy="badge")
    assert [(row["id"], row["kuid"]) for row in rows] == [("b-7", "ann")]
    assert CODE not in repr(rows)


async def test_a_user_begins_and_ends_with_all_keys(several: Running) -> None:
    """docs/architecture.md: one transaction; a key that is refused leaves no user."""
    admin = await several.login("admin")
    local = {"username": "bob", "password": PASSWORD}
    for badge, status in (({"number": "b-1"}, 400), (BADGE, 200)):
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": local, "badge": badge},
        }
        made = await several.call("query", "security:createUser", token=admin, body=body, _id="bob")
        assert made["status"] == status
    gone = await several.call("query", "security:deleteUser", token=admin, _id="bob")
    assert gone["status"] == 200
    storage = several.app.services.storage
    assert await storage.find(Table.CREDENTIALS, limit=9, kuid="bob") == []


def test_renamed_public_name_works_with_a_warning() -> None:
    """docs/migration.md: for one release."""
    with pytest.warns(DeprecationWarning, match="use NewUser"):
        assert server.auth.strategies.Newcomer is NewUser
    with pytest.raises(AttributeError, match="NoSuchName"):
        _ = server.auth.strategies.NoSuchName
