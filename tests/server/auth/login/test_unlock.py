"""Users who are locked out: unlocked by an administrator, over the wire and by a command, in every
process (security check A5)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.auth.limits.throttle import LoginThrottle
from server.core.limit_counters import Limit
from tests.server.auth.audit.test_events import events
from tests.server.auth.limits.test_rate_limits import TOO_MANY_LOGINS, limited
from tests.support.commands import manykeys
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, running
from tests.support.waiting import deadline

LIMIT = 3
UNLOCK = "security:unlockUser"
FORBIDDEN = {"id": "security.rights.forbidden", "status": 403}
NOT_FOUND = {"id": "security.user.not_found", "status": 404}


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the limits stands still: what must wait, must wait."""
    monkeypatch.setattr("server.app.application.clock_s", lambda: 1000.0)


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    """A server with the administrator `admin`, and Ann."""
    async with running(limited(failed_logins=LIMIT)) as started:
        await started.create_user(await started.create_admin(), "ann")
        yield started


async def try_password(server: Running, password: str, username: str = "ann") -> object:
    """Log in, and give the status."""
    body = {"username": username, "password": password}
    return (await server.call("query", "auth:login", strategy="local", body=body))["status"]


async def lock(server: Running, username: str = "ann") -> None:
    """Guess until the account must wait."""
    for _ in range(LIMIT):
        assert await try_password(server, "wrong", username) == 401
    assert await try_password(server, PASSWORD, username) == 429


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_unlock_user_ends_the_wait_of_the_account(server: Running, transport: str) -> None:
    """At once, and of this account only; a further block needs as many failures as the first."""
    admin = await server.login("admin")
    for username in ("ann", "nobody"):
        await lock(server, username)
    answer = await server.call(transport, UNLOCK, token=admin, _id="ann")
    assert (answer["status"], answer["result"]) == (200, {"_id": "ann"})
    assert await try_password(server, PASSWORD, "nobody") == 429
    await lock(server)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_unlock_user_is_for_administrators(server: Running, transport: str) -> None:
    """And of users who are there."""
    ann, admin = await server.login("ann"), await server.login("admin")
    answer = await server.call(transport, UNLOCK, token=ann, _id="ann")
    assert told(answer, "id", "status") == FORBIDDEN
    for name in ("nobody", "-1"):
        answer = await server.call(transport, UNLOCK, token=admin, _id=name)
        assert told(answer, "id", "status") == NOT_FOUND, name


async def test_block_and_unlock_are_in_the_audit_trail(server: Running) -> None:
    """One event when an account must wait from now on, with its user, and one for the unlocking;
    for a name nobody has, the same without a user."""
    admin = await server.login("admin")
    for username in ("ann", "nobody"):
        await lock(server, username)
        assert await try_password(server, "wrong", username) == 429
    await server.call("query", UNLOCK, token=admin, _id="ann")
    blocked = await events(server, admin, kind="login:blocked")
    assert sorted((one["subject"], one["reason"], one["count"]) for one in blocked) == [
        ("", "too many failed logins of this account from this address", 1),
        ("ann", "too many failed logins of this account from this address", 1),
    ]
    assert {one["address"] for one in blocked} == {"127.0.0.1"}
    (unlocked,) = await events(server, admin, kind=UNLOCK)
    shown = [unlocked[name] for name in ("subject", "actor", "outcome")]
    assert shown == ["ann", "admin", "ok"]


async def test_refused_logins_are_counted_in_the_metrics(server: Running) -> None:
    """As `limits.failedLogins`."""
    admin = await server.login("admin")
    await lock(server)
    answer = await server.call("query", "server:metrics", token=admin)
    assert answer["result"]["limits"][Limit.FAILED_LOGINS.value] == 1


async def test_unlock_user_counts_for_every_strategy_and_factor(server: Running) -> None:
    """Whatever a user logs in with, or answers once logged in; a strategy that fails to say by
    which names it counts keeps none of the others locked."""
    throttle: LoginThrottle = server.app.services.logins._throttle
    local = server.app.services.strategies.get("local")

    class Other:
        name, fields = "other", ()

        def __init__(self, given: object) -> None:
            self.given = given

        verify = local.verify

        async def exists(self, kuid: str) -> bool:
            return False

        async def accounts_of(self, kuid: str) -> object:
            if isinstance(self.given, Exception):
                raise self.given
            return self.given

    given = {"good": [f"{kuid} typed" for kuid in ("ann", "a")], "bad": 7, "odd": [7]}
    for name, names in {**given, "failing": ValueError("x")}.items():
        await server.app.services.strategies.add(name, Other(names))
    accounts = ["local\0ann", "good\0ann typed", "second factor\0ann", "\0ann"]
    for account in accounts:
        for _ in range(LIMIT):
            (await throttle.begin(account, "127.0.0.1")).failed()
    await server.app.services.logins.unlock("ann")
    for account in accounts:
        (await throttle.begin(account, "127.0.0.1")).cancelled()


async def test_unlock_user_reaches_other_processes(tmp_path: Path) -> None:
    """By the journal of the store."""
    data = str(tmp_path / "keys.db")
    config = limited(failed_logins=LIMIT)
    async with running(config, data=data) as one, running(config, data=data) as other:
        admin = await one.create_admin()
        await one.create_user(admin, "ann")
        for server in (one, other):
            await lock(server)
        assert (await one.call("query", UNLOCK, token=admin, _id="ann"))["status"] == 200
        await until_unlocked(other)


async def test_command_unlocks_a_user_beside_a_running_server(tmp_path: Path) -> None:
    """`manykeys user unlock`, by id or by username; unknown users are refused."""
    data = str(tmp_path / "keys.db")
    async with running(limited(failed_logins=LIMIT), data=data) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        for flags in ((), ("--by-username",)):
            await lock(server)
            code, said = await manykeys("user", "unlock", "ann", *flags, "--data", data)
            assert (code, said) == (0, "user ann is unlocked: failed login counters are reset\n")
            await until_unlocked(server)
        code, said = await manykeys("user", "unlock", "who", "--data", data)
        assert code == 2 and "user not found" in said
        (event, _) = await events(server, admin, kind="command:user unlock")
        assert (event["subject"], event["outcome"]) == ("ann", "ok")


async def until_unlocked(server: Running) -> None:
    """Wait until the right password is looked at again."""
    body = {"username": "ann", "password": PASSWORD}
    async with deadline():
        while True:
            answer = await server.call("query", "auth:login", strategy="local", body=body)
            if answer["status"] == 200:
                return
            assert told(answer) == TOO_MANY_LOGINS
            await asyncio.sleep(0.01)
