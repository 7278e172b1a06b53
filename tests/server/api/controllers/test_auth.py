"""The `auth` controller over every transport (docs/api/auth.md)."""

import pytest

from server.auth.login import flow as logins
from server.storage.base import EventKind, JournalEvent, Put
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running

INVALID = {"id": "security.token.invalid", "code": 117506049, "status": 401}


async def test_two_logins_never_give_the_same_token(server: Running) -> None:
    """docs/api/differences.md#claims, claims."""
    await server.create_admin()
    assert await server.login("admin") != await server.login("admin")


REFUSED = [
    ({"username": "admin", "password": "wrong"}),
    ({"username": "nobody", "password": "wrong"}),
    ({"username": "admin\x00", "password": PASSWORD}),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refused_logins_look_all_the_same(server: Running, transport: str) -> None:
    """docs/api/auth.md, security check A1."""
    await server.create_admin()
    seen = set()
    for body in REFUSED:
        answer = await server.call(transport, "auth:login", strategy="local", body=body)
        assert told(answer) == {
            "id": "plugin.strategy.missing_user",
            "code": 67305492,
            "status": 401,
        }
        assert answer["result"] is None
        seen.add(str(answer["error"]))
    assert len(seen) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refused_logins_wait_for_a_random_moment(
    server: Running, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Security check A2: what is found on the way takes microseconds, and is lost in it; who gets
    in does not wait."""
    waited: list[float] = []

    async def wait(delay_s: float) -> None:
        waited.append(delay_s)

    monkeypatch.setattr(logins, "_pause", wait)
    await server.create_admin()
    assert waited == []
    for body in REFUSED * 5:
        await server.call(transport, "auth:login", strategy="local", body=body)
    assert len(set(waited)) == len(REFUSED * 5)
    assert all(0 <= delay_s <= 0.004 for delay_s in waited)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_prefixed_tokens_are_the_same_tokens(server: Running, transport: str) -> None:
    """docs/api/differences.md#session-token, session token; security check S1 for both
    spellings."""
    token = await server.create_admin()
    answer = await server.call(transport, "auth:getCurrentUser", token=f"kauth-{token}")
    assert answer["result"]["_id"] == "admin"
    await server.call(transport, "auth:logout", token=token)
    answer = await server.call(transport, "auth:getCurrentUser", token=f"kauth-{token}")
    assert told(answer) == INVALID


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_logout_ends_this_token_only(server: Running, transport: str) -> None:
    """docs/api/auth.md#logout; security check S1 on every transport."""
    token, other = await server.create_admin(), await server.login("admin")
    answer = await server.call(transport, "auth:logout", token=token)
    assert answer["result"] == {"acknowledged": True}
    for again in TRANSPORTS:
        assert told(await server.call(again, "auth:getCurrentUser", token=token)) == INVALID
        alive = await server.call(again, "auth:getCurrentUser", token=other)
        assert alive["result"]["_id"] == "admin"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_is_nobody_yet_needs_the_right_to_log_in(server: Running, transport: str) -> None:
    """Login runs with the caller's rights; if the anonymous user may not, nobody can."""
    await server.create_admin()
    body = {"username": "admin", "password": PASSWORD}
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    assert answer["status"] == 200
    stripped = {"controllers": {"auth": {"actions": {"login": False, "checkToken": True}}}}
    role = Put(Table.ROLES, {"id": "anonymous", "body": stripped, "info": {}})
    await server.app.services.storage.apply([role, JournalEvent(EventKind.RIGHTS, "anonymous")])
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    assert (answer["status"], answer["error"]["id"]) == (401, "security.rights.unauthorized")
