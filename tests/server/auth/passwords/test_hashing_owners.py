"""Whose hashing is whose: every action that hashes passwords names an account and an address
(security check X3)."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import bcrypt
import pytest

from server.auth.passwords import hasher as module
from server.auth.passwords.fair_queue import FairQueue, Place
from server.auth.passwords.work_owner import (
    UNATTRIBUTED,
    WorkOwner,
    attribute,
    current_owner,
    owner_of,
)
from server.config.model import Config
from tests.support.errors import told
from tests.support.server import PASSWORD, Http, Running, cheap_config, running
from tests.support.waiting import until

HOME, OFFICE = "203.0.113.7", "203.0.113.8"
OVERLOADED = {"id": "api.process.overloaded", "status": 503}
ANONYMOUS_AT_HOME = owner_of("-1", HOME)


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> list[WorkOwner]:
    """The owners of everything that is hashed, each once, in their order."""
    seen: list[WorkOwner] = []
    real = FairQueue.enter

    def enter(queue: FairQueue[object], owner: WorkOwner, job: object) -> object:
        if owner not in seen:
            seen.append(owner)
        return real(queue, owner, job)

    monkeypatch.setattr(FairQueue, "enter", enter)
    return seen


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The accounts of everything that was hashed, in this order."""
    finished: list[str] = []
    accounts: dict[int, str] = {}
    enter, finish = FairQueue.enter, FairQueue.finish

    def note_enter(queue: FairQueue[object], owner: WorkOwner, job: object) -> object:
        entered = enter(queue, owner, job)
        accounts[entered[0].number] = owner.account
        return entered

    def note_finish(queue: FairQueue[object], place: Place[object], cost_s: float) -> None:
        finished.append(accounts[place.number])
        finish(queue, place, cost_s)

    monkeypatch.setattr(FairQueue, "enter", note_enter)
    monkeypatch.setattr(FairQueue, "finish", note_finish)
    return finished


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make every check against a hash wait for `.set()`."""
    event, real = threading.Event(), bcrypt.checkpw

    def check(password: bytes, hashed: bytes) -> bool:
        event.wait(10)
        return real(password, hashed)

    monkeypatch.setattr(module.bcrypt, "checkpw", check)
    yield event
    event.set()


def proxied(queue: int = 64) -> Config:
    """Give a configuration in which a test says where its connections come from, and in which
    everything that may hash does."""
    config = cheap_config()
    passwords = replace(config.security.passwords, queue=queue)
    local = replace(
        config.plugins.local,
        require_password=True,
        password_policies=({"appliesTo": "*", "forbidReusedPasswordCount": 3},),
    )
    return replace(
        config,
        security=replace(config.security, passwords=passwords),
        plugins=replace(config.plugins, local=local),
        server=replace(config.server, trusted_proxies=("127.0.0.1",), proxy_protocol=True),
    )


@asynccontextmanager
async def serving(queue: int = 64) -> AsyncIterator[tuple[Running, str]]:
    """Run a server with an administrator `admin`, and give a token of theirs."""
    async with running(proxied(queue)) as server:
        http = await connect(server, HOME)
        body = {"credentials": local("admin")}
        code = server.app.services.first_admin.code
        path = f"/_createFirstAdmin/admin?setupCode={code}"
        assert (await http.ask("POST", path, body)).status == 200
        yield server, await log_in(http, "admin")


async def connect(server: Running, address: str) -> Http:
    """Open a connection as from this address."""
    http = await server.connect()
    await http.send(f"PROXY TCP4 {address} 192.0.2.1 1 2\r\n".encode())
    return http


def local(name: str, password: str = PASSWORD) -> dict[str, object]:
    """Give credentials of a user."""
    return {"local": {"username": name, "password": password}}


async def log_in(http: Http, name: str) -> str:
    """Log in, and give the token."""
    answer = await http.ask("POST", "/_login/local", local(name)["local"])
    assert answer.status == 200, answer
    return str(answer.json["result"]["jwt"])  # type: ignore[index]


async def create(http: Http, admin: str, name: str) -> None:
    """Create a user who logs in."""
    body = {"content": {"profileIds": ["default"]}, "credentials": local(name)}
    assert (await http.ask("POST", f"/users/{name}/_create", body, token=admin)).status == 200


async def test_a_login_belongs_to_the_name_that_was_given_and_its_address(
    owners: list[WorkOwner],
) -> None:
    """Whether there is such a user or not."""
    async with serving() as (server, _):
        for name in ("admin", "unknown"):
            owners.clear()
            http = await connect(server, OFFICE)
            credentials = {"username": name, "password": "wrong"}
            assert (await http.ask("POST", "/_login/local", credentials)).status == 401
            assert owners == [WorkOwner(f"local\0{name}", OFFICE)]


async def test_the_first_administrator_belongs_to_anonymous_clients_at_the_address(
    owners: list[WorkOwner],
) -> None:
    async with serving():
        assert owners[0] == ANONYMOUS_AT_HOME


async def test_a_registration_belongs_to_anonymous_clients_at_the_address(
    owners: list[WorkOwner],
) -> None:
    """Those at other addresses have their own share."""
    async with serving() as (server, admin):
        http = await connect(server, HOME)
        rights = {"controllers": {"*": {"actions": {"*": True}}}}
        path = "/roles/anonymous/_update?force=true"
        assert (await http.ask("PUT", path, rights, token=admin)).status == 200
        owners.clear()
        for address in (HOME, OFFICE):
            http = await connect(server, address)
            body = {"content": {}, "credentials": local(f"new at {address}")}
            assert (await http.ask("POST", "/users/_createRestricted", body)).status == 200
        assert owners == [ANONYMOUS_AT_HOME, owner_of("-1", OFFICE)]
        assert len({one.account for one in owners}) == 2


ADMIN_DOES = {
    "createUser": ("POST", "/users/eve/_create", {"profileIds": ["default"]}, local("eve")),
    "createRestrictedUser": ("POST", "/users/eve/_createRestricted", {}, local("eve")),
    "upsertUser": ("POST", "/users/eve/_upsert", {"profileIds": ["default"]}, local("eve")),
}


@pytest.mark.parametrize("name", ADMIN_DOES)
async def test_what_an_administrator_creates_belongs_to_the_administrator(
    owners: list[WorkOwner], name: str
) -> None:
    method, path, content, credentials = ADMIN_DOES[name]
    async with serving() as (server, admin):
        owners.clear()
        http = await connect(server, OFFICE)
        body = {"content": content, "credentials": credentials}
        assert (await http.ask(method, path, body, token=admin)).status == 200
        assert owners == [WorkOwner("admin", OFFICE)]


async def test_changed_credentials_belong_to_the_user_who_changes_them(
    owners: list[WorkOwner],
) -> None:
    """Those of others, and one's own with the present and all earlier passwords."""
    async with serving() as (server, admin):
        http = await connect(server, OFFICE)
        await create(http, admin, "ann")
        body = {"content": {"profileIds": ["default"]}}
        assert (await http.ask("POST", "/users/bob/_create", body, token=admin)).status == 200
        ann = await log_in(http, "ann")
        owners.clear()
        new = {"password": "another horse", "currentPassword": PASSWORD}
        for method, path, given, token in (
            ("POST", "/credentials/local/bob/_create", local("bob")["local"], admin),
            ("PUT", "/credentials/local/bob/_update", {"password": "other"}, admin),
            ("POST", "/credentials/local/ann/_validate", local("ann")["local"], admin),
            ("PUT", "/_me/credentials/local/_update", new, ann),
        ):
            answer = await http.ask(method, path, given, token=token)
            assert answer.status == 200, (path, answer)
        path = "/_me/credentials/local?password=wrong"
        assert (await http.ask("DELETE", path, token=ann)).status == 403
        assert owners == [WorkOwner("admin", OFFICE), WorkOwner("ann", OFFICE)]


async def test_a_reset_belongs_to_the_caller(
    owners: list[WorkOwner],
) -> None:
    async with serving() as (server, admin):
        http = await connect(server, HOME)
        await create(http, admin, "ann")
        answer = await http.ask("GET", "/_/password/resetToken/ann", token=admin)
        token = answer.json["result"]["resetToken"]  # type: ignore[index]
        owners.clear()
        body = {"token": token, "password": "new"}
        assert (await http.ask("POST", "/_/password/reset", body, token=admin)).status == 200
        assert owners == [WorkOwner("admin", HOME)]


async def test_an_owner_ends_with_its_work() -> None:
    """In one task, one after the other, and for several at once."""
    ann, bob = WorkOwner("ann", HOME), WorkOwner("bob", OFFICE)

    async def read() -> WorkOwner:
        await asyncio.sleep(0)
        return current_owner()

    assert await asyncio.gather(attribute(ann, read()), attribute(bob, read())) == [ann, bob]
    assert await read() == UNATTRIBUTED


@pytest.mark.parametrize("address", [HOME, OFFICE])
async def test_a_flood_of_logins_leaves_places_and_turns_to_other_accounts(
    held: threading.Event, done: list[str], address: str
) -> None:
    """Security check X3: a login beside seven accounts with ten connections each at one address,
    from the same address as well as from another one; with the queue full before any is done."""
    held.set()
    async with serving(queue=20) as (server, admin):
        http = await connect(server, HOME)
        names = [f"flood-{number}" for number in range(7)]
        for name in [*names, "ann"]:
            await create(http, admin, name)
        for name in names:  # they log in all the time
            await log_in(http, name)
        held.clear()
        done.clear()
        ended: list[tuple[str, int]] = []

        async def one(name: str, at: str) -> None:
            http = await connect(server, at)
            answer = await http.ask("POST", "/_login/local", local(name)["local"])
            if answer.status != 200:
                assert told(answer.json, "id", "status") == OVERLOADED
                assert int(answer.headers["retry-after"]) >= 1
            ended.append((name, answer.status))

        tallies = server.app.services.counting.limits
        flood = [asyncio.create_task(one(name, HOME)) for name in names * 10]
        await until(lambda: len(ended) == 70 - 11)  # 11 of 21 places are one address's share
        assert {status for _, status in ended} == {503}
        victim = asyncio.create_task(one("ann", address))
        entered = 1 if address == HOME else 0  # one of the flood's gives up its place
        await until(lambda: len(server.app.services.passwords) == 11 + 1 - entered)
        await until(lambda: len(ended) == 59 + entered)
        held.set()
        await asyncio.gather(*flood, victim)
        assert done[1] == "local\0ann"  # behind the one that had begun
        assert ("ann", 200) in ended
        assert len(done) == 11 + 1 - entered
        assert tallies.to_dict()["hashingShare"] == 59 + entered
