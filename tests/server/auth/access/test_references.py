"""What profiles refer to stays, and what users have, whoever else is at work
(docs/api/security.md#role-actions, #profile-actions, #bulk-deletes, §7.5, §7.8)."""

import asyncio

import pytest

from protocol.errors import ApiError
from server.app.application import build_services
from server.auth.access import profiles as profiles_module
from server.auth.access.builtin import install
from server.auth.access.permissions import PermissionCompiler
from server.auth.access.profiles import Profiles
from server.auth.access.roles import Roles
from server.auth.accounts.users import Users
from server.auth.strategies.registry import Strategies
from server.storage.base import Delete, EventKind, Insert, Put, RemoveProfile
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from tests.support.server import cheap_config
from tests.support.step_up import make_step_up

LOGIN = {"controllers": {"auth": {"actions": {"login": True}}}}
INFO = {"controllers": {"server": {"actions": {"info": True}}}}
NATIVE = {"auth": {"login", "logout"}, "server": {"info"}}


class Rushed(SqliteStorage):
    """A store in which somebody else is faster, as often as `rushes` says: his changes come
    first."""

    def __init__(self) -> None:
        super().__init__(":memory:", clock_ms=lambda: 0)
        self.rushes = []
        self.applied = 0

    async def apply(self, changes):
        self.applied += 1
        if self.rushes:
            await super().apply(self.rushes.pop(0))
        await super().apply(changes)


@pytest.fixture
async def storage():
    made = Rushed()
    await made.open()
    await install(made, (), lambda: 0)
    role = {"id": "r", "body": {"controllers": {}}, "info": {}}
    await made.apply([Insert(Table.ROLES, role)])
    yield made
    await made.close()


@pytest.fixture
def roles(storage):
    return Roles(storage, NATIVE, clock_ms=lambda: 5)


@pytest.fixture
def profiles(storage):
    return Profiles(storage, clock_ms=lambda: 5)


@pytest.fixture
def users(storage):
    strategies = Strategies(storage, timeout_s=1)
    return Users(
        storage, PermissionCompiler(storage), strategies, make_step_up(storage), clock_ms=lambda: 0
    )


def with_role(*names: str) -> dict[str, object]:
    return {"policies": [{"roleId": name} for name in names]}


async def add_user(users: Users, kuid: str, *profile_ids: str) -> None:
    await users.create(
        kuid=kuid,
        kind="human",
        profile_ids=list(profile_ids),
        content={},
        credentials={},
        author="me",
    )


async def refused(awaitable) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def references(storage) -> list[tuple[object, object]]:
    rows = await storage.find(Table.PROFILE_ROLES, limit=100)
    pairs = [(row["profile_id"], row["role_id"]) for row in rows]
    return [pair for pair in pairs if pair[0] not in ("admin", "default", "anonymous")]


async def test_references_are_those_of_the_profiles(profiles, storage):
    await profiles.create("p", with_role("r", "default", "r"), "me", strict=False)
    assert await references(storage) == [("p", "default"), ("p", "r")]
    await profiles.update("p", with_role("admin"), "me", strict=False)
    assert await references(storage) == [("p", "admin")]
    await profiles.update("p", {"rateLimit": 1}, "me", strict=False)
    assert await references(storage) == [("p", "admin")]
    await profiles.create_or_replace("p", with_role("r"), "me", strict=False)
    assert await references(storage) == [("p", "r")]
    await profiles.delete("p")
    assert await references(storage) == []


@pytest.mark.parametrize("action", ["create", "create_or_replace", "update"])
async def test_a_role_that_goes_in_the_same_moment_is_not_there(profiles, storage, action):
    await profiles.create("old", with_role("default"), "me", strict=False)
    name = "old" if action == "update" else "new"
    storage.rushes = [[Delete(Table.ROLES, {"id": "r"})]]
    wrong = await refused(getattr(profiles, action)(name, with_role("r"), "me", strict=False))
    assert (wrong.id, wrong.props) == ("security.role.not_found", ("r",))
    assert await references(storage) == [("old", "default")]
    assert (await profiles.get("old")).body["policies"] == [{"roleId": "default"}]


async def test_an_update_never_undoes_what_came_in_between(profiles, storage):
    """It read before another process wrote: it reads again."""
    await profiles.create("p", with_role("r"), "me", strict=False)
    other = {"policies": [{"roleId": "default"}], "rateLimit": 3, "note": "theirs"}
    storage.rushes = [[Put(Table.PROFILES, {"id": "p", "body": other, "info": {}})]]
    updated = await profiles.update("p", {"rateLimit": 9}, "me", strict=False)
    assert updated.body == {**other, "rateLimit": 9}
    assert (await profiles.get("p")).body == updated.body
    assert await references(storage) == [("p", "default")]


async def test_an_update_gives_up_against_those_who_never_stop(profiles, storage):
    await profiles.create("p", with_role("r"), "me", strict=False)
    row = {"id": "p", "info": {}}
    bodies = [{**with_role("r"), "rateLimit": number} for number in range(1, 20)]
    storage.rushes = [[Put(Table.PROFILES, {**row, "body": body})] for body in bodies]
    wrong = await refused(profiles.update("p", {"rateLimit": 99}, "me", strict=False))
    assert wrong.id == "services.storage.too_many_changes"
    assert (await profiles.get("p")).body["rateLimit"] < 20


async def test_of_updates_at_once_none_is_lost(profiles):
    await profiles.create("p", with_role("r"), "me", strict=False)
    wanted = [profiles.update("p", {f"n{n}": n}, "me", strict=False) for n in range(20)]
    await asyncio.gather(*wanted)
    body = (await profiles.get("p")).body
    assert [body[f"n{n}"] for n in range(20)] == list(range(20))


async def test_a_profile_that_goes_during_an_update_stays_away(profiles, storage):
    await profiles.create("p", with_role("r"), "me", strict=False)
    storage.rushes = [[Delete(Table.PROFILES, {"id": "p"})]]
    wrong = await refused(profiles.update("p", {"rateLimit": 9}, "me", strict=False))
    assert wrong.id == "security.profile.not_found"


async def test_a_user_who_gets_the_profile_in_the_same_moment_keeps_it(profiles, storage, users):
    await profiles.create("p", with_role("r"), "me", strict=False)
    storage.rushes = [[Insert(Table.USER_PROFILES, {"kuid": "u", "profile_id": "p"})]]
    assert (await refused(profiles.delete("p"))).id == "security.profile.in_use"
    assert (await profiles.get("p")).id == "p"


@pytest.mark.parametrize("takes_away", [True, False])
async def test_of_deleting_and_assigning_at_once_no_user_has_what_is_gone(
    profiles, storage, users, takes_away
):
    """Whoever is first: the user has the profile and it is there, or he was refused."""
    for number in range(20):
        name = f"p{number}"
        await profiles.create(name, with_role("r"), "me", strict=False)
        await asyncio.gather(
            add_user(users, f"u{number}", name),
            profiles.delete(name, takes_away=takes_away),
            return_exceptions=True,
        )
        user = await users.get(f"u{number}")
        is_there = await storage.exists(Table.PROFILES, id=name)
        assert is_there or user is None or user.profile_ids == ("anonymous",)
        assert await storage.exists(Table.USER_PROFILES, profile_id=name) == (
            user is not None and user.profile_ids == (name,)
        )


async def test_of_very_many_users_some_lose_it_at_a_time(profiles, storage, users, monkeypatch):
    """Never are all of them read; the last ones lose it in the transaction of its end."""
    monkeypatch.setattr(profiles_module, "_UNASSIGNED_AT_ONCE", 4)
    await profiles.create("p", with_role("r"), "me", strict=False)
    for number in range(10):
        await add_user(users, f"u{number}", *["default", "p"][number % 2 :])
    applied, heard = storage.applied, []
    storage.follow(heard.extend)
    await profiles.delete("p", takes_away=True)
    assert storage.applied - applied == 3
    assert [(entry.noted, entry.subject) for entry in heard] == [(EventKind.RIGHTS, "p")] * 3
    for number in range(10):
        user = await users.get(f"u{number}")
        assert user.profile_ids == (("default",), ("anonymous",))[number % 2]
    assert not await storage.exists(Table.USER_PROFILES, profile_id="p")


async def test_between_two_parts_rights_are_already_the_new_ones(
    profiles, storage, users, monkeypatch
):
    """A store that fails half way leaves nobody with a profile that is not there."""
    monkeypatch.setattr(profiles_module, "_UNASSIGNED_AT_ONCE", 2)
    await profiles.create("p", with_role("r"), "me", strict=False)
    for number in range(5):
        await add_user(users, f"u{number}", "p")
    storage.rushes = [[], [Delete(Table.ROLES, {"id": "nobody"})]]  # the second part fails
    with pytest.raises(Exception, match="roles"):
        await profiles.delete("p", takes_away=True)
    seen = [(await users.get(f"u{number}")).profile_ids for number in range(5)]
    assert seen == [("anonymous",)] * 2 + [("p",)] * 3
    assert (await profiles.get("p")).id == "p"
    await profiles.delete("p", takes_away=True)
    assert (await users.get("u4")).profile_ids == ("anonymous",)


async def test_those_who_get_it_while_it_is_taken_away_lose_it_too_or_keep_it(
    profiles, storage, users, monkeypatch
):
    monkeypatch.setattr(profiles_module, "_UNASSIGNED_AT_ONCE", 2)
    await profiles.create("p", with_role("r"), "me", strict=False)
    late = [Insert(Table.USER_PROFILES, {"kuid": f"u{n}", "profile_id": "p"}) for n in range(3)]
    storage.rushes = [late]
    assert (await refused(profiles.delete("p", takes_away=True))).id == "security.profile.in_use"
    assert await storage.exists(Table.PROFILES, id="p")
    await storage.apply([RemoveProfile("p", "anonymous", 9)])
    await profiles.delete("p")


async def test_a_profile_that_takes_the_role_in_the_same_moment_keeps_it(roles, storage):
    await roles.create("own", LOGIN, "me", force=False)
    reference = {"profile_id": "p", "role_id": "own"}
    storage.rushes = [[Insert(Table.PROFILE_ROLES, reference)]]
    assert (await refused(roles.delete("own"))).id == "security.role.in_use"
    assert (await roles.get("own")).body == LOGIN


async def test_a_role_that_is_deleted_twice_at_once_is_deleted_once(roles, storage):
    gone = [Delete(Table.ROLES, {"id": "own"})]
    await roles.create("own", LOGIN, "me", force=False)
    storage.rushes = [gone]
    assert (await refused(roles.delete("own"))).id == "security.role.not_found"
    await roles.create("own", LOGIN, "me", force=False)
    storage.rushes = [gone]
    wrong = await refused(roles.replace("own", INFO, "me", force=False))
    assert wrong.id == "services.storage.not_found"


async def test_of_many_who_create_one_role_one_does(roles):
    wanted = [roles.create("own", LOGIN, str(number), force=False) for number in range(9)]
    made = await asyncio.gather(*wanted, return_exceptions=True)
    failed = [one.id for one in made if isinstance(one, ApiError)]
    assert failed == ["services.storage.document_already_exists"] * 8


async def test_every_write_is_noted(roles, storage):
    """Other processes follow the journal."""
    heard = []
    storage.follow(heard.extend)
    await roles.create("own", LOGIN, "me", force=False)
    await roles.replace("own", LOGIN, "me", force=False)
    await roles.create_or_replace("own", LOGIN, "me", force=False)
    await roles.delete("own")
    assert [(entry.noted, entry.subject) for entry in heard] == [(EventKind.RIGHTS, "own")] * 4


class Counted(SqliteStorage):
    """A store that counts what it is asked for."""

    asked = 0

    async def _read(self, query):
        self.asked += 1
        return await super()._read(query)

    async def _write(self, write):
        self.asked += 1
        await super()._write(write)


async def test_a_change_of_rights_costs_the_same_however_many_users_are_there():
    """Counted, not timed: with one live token, with two hundred, and with users without any."""
    storage = Counted(":memory:", clock_ms=lambda: 0)
    await storage.open()
    services = await build_services(cheap_config(), storage, open_mode=False)
    costs, seen = [], 0
    await services.roles.create("own", LOGIN, "me", force=False)
    await services.profiles.create("p", with_role("own"), "me", strict=False)
    for last in (1, 200):
        for number in range(seen, last):
            await add_user(services.users, f"live{number}", "p")
            await add_user(services.users, f"idle{number}", "p")
            user = await services.users.get(f"live{number}")
            token = (await services.issuer.issue(user, 60_000)).token
            assert (await services.tokens.verify(token)).person.rights.allows("auth", "login")
        seen, before = last, storage.asked
        await services.roles.replace("own", LOGIN, "me", force=False)
        await services.profiles.update("p", {"rateLimit": 0}, "me", strict=False)
        assert services.tokens.live(token) is None
        await services.tokens.verify(token)  # his document, his profile and its role
        assert services.tokens.live(token) is not None
        costs.append(storage.asked - before)
    assert costs[0] == costs[1]
    services.close()
    await storage.close()
