"""The caller's own credentials over every transport (docs/api/auth.md,
docs/api/strategies.md#local-errors)."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from server.auth.strategies.local import Local
from server.storage.base import EventKind, Exists, Missing
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.sample_strategy import Badge
from tests.support.server import PASSWORD, TRANSPORTS, Running, running

NEW = "battery staple"
CREATE, UPDATE = "auth:createMyCredentials", "auth:updateMyCredentials"
VALIDATE, DELETE = "auth:validateMyCredentials", "auth:deleteMyCredentials"
GET, EXIST = "auth:getMyCredentials", "auth:credentialsExist"
ALL = (CREATE, UPDATE, VALIDATE, DELETE, GET, EXIST)
WITH_BODY = (CREATE, UPDATE, VALIDATE)
FULL = {"username": "someone", "password": NEW}


async def status_of_login(server: Running, username: str, password: str) -> int:
    body = {"username": username, "password": password}
    return (await server.call("query", "auth:login", strategy="local", body=body))["status"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_password_changes(server: Running, transport: str) -> None:
    """docs/api/auth.md updateMyCredentials; the answer is the strategy's."""
    user = await server.create_user(await server.create_admin(), "user")
    body = {"password": NEW}
    answer = await server.call(transport, UPDATE, token=user, strategy="local", body=body)
    assert list(answer["result"].items()) == [("username", "user"), ("kuid", "user")]
    assert await status_of_login(server, "user", PASSWORD) == 401
    assert await status_of_login(server, "user", NEW) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_name_changes(server: Running, transport: str) -> None:
    """docs/api/strategies.md#local-errors: under the new name, the old one is free."""
    user = await server.create_user(await server.create_admin(), "user")
    body = {"username": "other"}
    answer = await server.call(transport, UPDATE, token=user, strategy="local", body=body)
    assert answer["result"] == {"username": "other", "kuid": "user"}
    assert await status_of_login(server, "user", PASSWORD) == 401
    assert await status_of_login(server, "other", PASSWORD) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_validating_changes_nothing(server: Running, transport: str) -> None:
    """docs/api/auth.md validateMyCredentials: `true`."""
    user = await server.create_user(await server.create_admin(), "user")
    body = {"username": "other", "password": NEW}
    answer = await server.call(transport, VALIDATE, token=user, strategy="local", body=body)
    assert answer["result"] is True
    assert await status_of_login(server, "user", PASSWORD) == 200
    assert await status_of_login(server, "other", NEW) == 401


@pytest.fixture
async def badged() -> AsyncIterator[Running]:
    """A server with a second strategy, and a user without credentials of the first one."""
    async with running() as server:
        services = server.app.services
        services.strategies.register("badge", Badge(services.storage))
        yield server


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_linking_and_unlinking(badged: Running, transport: str) -> None:
    """docs/api/auth.md; docs/architecture.md: one user, several ways in; `{}` where nothing can be
    shown."""
    token = await badged.create_admin()

    async def strategies() -> object:
        answer = await badged.call(transport, "auth:getCurrentUser", token=token)
        return answer["result"]["strategies"]

    assert await strategies() == ["local"]
    body = {"number": "b-7"}
    answer = await badged.call(transport, CREATE, token=token, strategy="badge", body=body)
    assert answer["result"] == body
    assert await strategies() == ["local", "badge"]
    shown = await badged.call(transport, GET, token=token, strategy="badge")
    assert shown["result"] == {}
    answer = await badged.call(transport, DELETE, token=token, strategy="local")
    assert answer["result"] == {"acknowledged": True}
    assert await strategies() == ["badge"]
    assert await status_of_login(badged, "admin", PASSWORD) == 401
    there = await badged.call(transport, EXIST, token=token, strategy="local")
    assert there["result"] is False
    for name, body in ((GET, None), (DELETE, None), (UPDATE, {"password": NEW})):
        answer = await badged.call(transport, name, token=token, strategy="local", body=body)
        assert (answer["status"], answer["error"].get("id")) == (412, None), name
    body = {"username": "chief", "password": NEW}
    answer = await badged.call(transport, CREATE, token=token, strategy="local", body=body)
    assert answer["result"] == {"username": "chief", "kuid": "admin"}
    assert await status_of_login(badged, "chief", NEW) == 200


async def test_of_two_ways_removed_at_once_one_stays(badged: Running) -> None:
    """docs/architecture.md: also when each removal counts on the other one."""
    token = await badged.create_admin()
    await badged.call("query", CREATE, token=token, strategy="badge", body={"number": "b-7"})
    both = [badged.call("query", DELETE, token=token, strategy=name) for name in ("local", "badge")]
    assert sorted(answer["status"] for answer in await asyncio.gather(*both)) == [200, 412]
    rows = await badged.app.services.storage.find(Table.CREDENTIALS, limit=9, kuid="admin")
    assert len(rows) == 1


async def test_of_two_callers_who_want_one_name_one_gets_it(server: Running) -> None:
    """docs/api/strategies.md#local-credentials: names are unique; the other one is told 412, never
    500."""
    admin = await server.create_admin()
    tokens = [await server.create_user(admin, kuid) for kuid in ("first", "second")]
    body = {"username": "wanted"}
    both = [server.call("query", UPDATE, token=one, strategy="local", body=body) for one in tokens]
    assert sorted(answer["status"] for answer in await asyncio.gather(*both)) == [200, 412]


@pytest.mark.parametrize("refusal", [Exists(Table.CREDENTIALS), Missing(Table.CREDENTIALS)])
@pytest.mark.parametrize(("times", "status"), [(1, 200), (99, 500)])
async def test_lost_races_are_run_again_and_not_for_ever(
    server: Running, monkeypatch: pytest.MonkeyPatch, refusal: Exception, times: int, status: int
) -> None:
    """docs/api/errors.md `services.storage.too_many_changes`."""
    token = await server.create_admin()
    storage, left = server.app.services.storage, [refusal] * times
    apply = storage.apply

    async def lose(changes: object) -> None:
        if left:
            raise left.pop()
        await apply(changes)

    monkeypatch.setattr(storage, "apply", lose)
    body = {"password": NEW}
    answer = await server.call("query", UPDATE, token=token, strategy="local", body=body)
    assert answer["status"] == status
    if status == 500:
        assert answer["error"]["id"] == "services.storage.too_many_changes"


RIVALS = [  # what the slower one asks for, and the name and password that hold at last
    ({"username": "other"}, "other", NEW),
    ({"password": "a third"}, "admin", "a third"),
]


@pytest.mark.parametrize(("body", "username", "password"), RIVALS)
async def test_a_change_brings_back_nothing_that_was_changed_meanwhile(
    server: Running,
    monkeypatch: pytest.MonkeyPatch,
    body: Mapping[str, object],
    username: str,
    password: str,
) -> None:
    """security check S3: a new name, given in the same millisecond, does not restore the password
    of before."""
    token = await server.create_admin()
    services = server.app.services
    services.strategies.register(
        "local", Local(services.storage, services.passwords, clock_ms=lambda: 0)
    )
    body_of_before = {"password": PASSWORD, "username": "admin"}
    await server.call("query", UPDATE, token=token, strategy="local", body=body_of_before)
    apply = services.storage.apply

    async def come_second(changes: object) -> None:
        monkeypatch.setattr(services.storage, "apply", apply)
        first = {"password": NEW}
        answer = await server.call("query", UPDATE, token=token, strategy="local", body=first)
        assert answer["status"] == 200
        await apply(changes)

    monkeypatch.setattr(services.storage, "apply", come_second)
    answer = await server.call("query", UPDATE, token=token, strategy="local", body=body)
    assert answer["status"] == 200
    assert await status_of_login(server, username, password) == 200
    assert await status_of_login(server, username, PASSWORD) == 401


async def test_who_was_deleted_meanwhile_gets_no_credentials(
    badged: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/api/errors.md `security.user.not_found`."""
    token = await badged.create_admin()
    storage = badged.app.services.storage

    async def lose(changes: object) -> None:
        raise Missing(Table.USERS)

    monkeypatch.setattr(storage, "apply", lose)
    body = {"number": "b-7"}
    answer = await badged.call("query", CREATE, token=token, strategy="badge", body=body)
    assert told(answer, "id", "status") == {"id": "security.user.not_found", "status": 404}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_change_can_end_the_other_sessions(server: Running, transport: str) -> None:
    """docs/api/differences.md#revoking-other-sessions, credentials change; security check S3.
    Without the flag they go on."""
    admin = await server.create_admin()
    user = await server.create_user(admin, "user")
    other = await server.login("user")
    for revokes, status in ((False, 200), (True, 401)):
        answer = await server.call(
            transport,
            UPDATE,
            token=user,
            strategy="local",
            body={"password": PASSWORD},
            revokeTokens=revokes,
        )
        assert answer["status"] == 200
        for token, expected in ((other, status), (user, 200), (admin, 200)):
            seen = await server.call(transport, "auth:getCurrentUser", token=token)
            assert seen["status"] == expected


async def test_a_refused_change_ends_no_session(server: Running) -> None:
    """security check P9: nothing changed."""
    user = await server.create_user(await server.create_admin(), "user")
    other = await server.login("user")
    answer = await server.call(
        "query", UPDATE, token=user, strategy="local", body={}, revokeTokens=True
    )
    assert answer["status"] == 400
    assert (await server.call("query", "auth:getCurrentUser", token=other))["status"] == 200


async def test_changes_are_written_into_the_journal(badged: Running) -> None:
    """docs/architecture.md: every change that others must notice; here the strategies of a user."""
    token = await badged.create_admin()
    seen = []
    badged.app.services.storage.follow(seen.extend)
    body = {"number": "b-7"}
    await badged.call("query", CREATE, token=token, strategy="badge", body=body)
    await badged.call("query", UPDATE, token=token, strategy="local", body={"password": NEW})
    await badged.call("query", DELETE, token=token, strategy="badge")
    assert [(entry.noted, entry.subject) for entry in seen] == [(EventKind.USER, "admin")] * 3
