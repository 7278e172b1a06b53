"""How users come, are read and go (docs/api/security.md#users, #user-actions,
#users-with-credentials): always whole, whoever else is at work."""

import asyncio
import re

import pytest

from protocol.errors import ApiError, plain_error
from server.auth.access.builtin import install
from server.auth.access.permissions import PermissionCompiler
from server.auth.accounts.users import Users
from server.auth.identity.user import MOST_PROFILES, User
from server.auth.strategies.base import Authenticated, Prepared
from server.auth.strategies.registry import Strategies
from server.storage.base import Delete, DeleteAll, EventKind, Insert, Put
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from server.storage.tables import SHAPES
from tests.support.step_up import make_step_up

NOW_MS = 1_700_000_000_000
INFO = {"author": "boss", "createdAt": NOW_MS, "updatedAt": None, "updater": None}


class Badge:
    """A strategy whose credentials are a badge number, kept as all are."""

    fields = ("number",)

    def __init__(self, storage: SqliteStorage, name: str) -> None:
        self.name = name
        self.storage = storage
        self.prepared = 0

    async def verify(self, attempt):
        return Authenticated(str(attempt.body["number"]))

    async def exists(self, kuid):
        return await self.storage.exists(Table.CREDENTIALS, strategy=self.name, kuid=kuid)

    async def validate(self, credentials, kuid, is_update):
        number = credentials["number"]
        row = await self.storage.get(Table.CREDENTIALS, strategy=self.name, id=number)
        if number == "bad" or row is not None:
            raise plain_error(412 if row else 400, f"badge {number}")

    async def create(self, credentials, kuid, by):
        self.prepared += 1
        row = {
            "strategy": self.name,
            "id": credentials["number"],
            "kuid": kuid,
            "data": {"by": by},
            "created_at": NOW_MS,
            "updated_at": None,
        }
        return Prepared({}, [Insert(Table.CREDENTIALS, row)])

    async def update(self, credentials, kuid, by):
        raise NotImplementedError

    async def delete(self, kuid):
        if await self.storage.exists(Table.CREDENTIALS, strategy=self.name, id="stuck"):
            raise plain_error(500, "the badge is stuck")
        return Prepared({}, [DeleteAll(Table.CREDENTIALS, {"strategy": self.name, "kuid": kuid})])


class Rushed(SqliteStorage):
    """A store in which somebody else is faster, once: his changes come first."""

    first = None

    async def apply(self, changes):
        if self.first is not None:
            first, self.first = self.first, None
            await super().apply(first)
        await super().apply(changes)


@pytest.fixture
async def storage():
    made = Rushed(":memory:", clock_ms=lambda: NOW_MS)
    await made.open()
    await install(made, (), lambda: NOW_MS)
    yield made
    await made.close()


@pytest.fixture
def strategies(storage):
    made = Strategies(storage, timeout_s=1)
    for name in ("badge", "ring"):
        made.register(name, Badge(storage, name))
    return made


@pytest.fixture
def users(storage, strategies):
    step_up = make_step_up(storage, strategies)
    return Users(storage, PermissionCompiler(storage), strategies, step_up, clock_ms=lambda: NOW_MS)


def create(users: Users, kuid: str | None = "alice", **wanted):
    given = {"kind": "human", "profile_ids": ["default"], "content": {}, "credentials": {}}
    return users.create(kuid=kuid, author="boss", **{**given, **wanted})


async def counts(storage):
    tables = (Table.USERS, Table.USER_PROFILES, Table.CREDENTIALS)
    return [await storage.count(table) for table in tables]


async def refused(awaitable) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_a_user_comes_with_profiles_and_all_credentials(users, storage):
    entries = []
    storage.follow(entries.extend)
    user = await create(
        users,
        profile_ids=["default", "admin", "default"],
        content={"name": "Alice", "deep": {"er": [1]}},
        credentials={"badge": {"number": "7"}, "ring": {"number": "8"}},
    )
    expected = User(
        "alice", ("default", "admin"), {"name": "Alice", "deep": {"er": [1]}}, INFO, False
    )
    assert user == expected == await users.get("alice")
    assert await counts(storage) == [1, 2, 2]
    row = await storage.get(Table.CREDENTIALS, strategy="ring", id="8")
    assert (row["kuid"], row["data"]) == ("alice", {"by": "boss"})
    assert await users.strategies_of("alice") == ["badge", "ring"]
    assert [(entry.noted, entry.subject) for entry in entries] == [(EventKind.USER, "alice")]


async def test_the_document_shows_profiles_first_and_info_last(users):
    content = {"_id": "x", "name": "Alice", "profileIds": ["admin"], "_kuzzle_info": 1}
    await create(users, content=content)
    source = (await users.get("alice")).source()
    assert list(source.items()) == [
        ("profileIds", ["default"]),
        ("name", "Alice"),
        ("_kuzzle_info", INFO),
    ]


@pytest.mark.parametrize("kuid", ["-1", "anonymous"])
async def test_two_ids_are_the_anonymous_user(users, kuid):
    user = await users.get(kuid)
    assert (user.kuid, user.is_disabled) == ("-1", False)
    assert user.source() == {"profileIds": ["anonymous"], "name": "Anonymous"}


async def test_who_is_not_there_is_none(users):
    assert await users.get("alice") is None
    assert await users.get("\ud800") is None
    assert await users.strategies_of("alice") == []


async def test_a_disabled_user_is_read_as_one(users, storage):
    row = {"kuid": "a", "profile_ids": [], "content": {}, "info": {}, "disabled": 1}
    await storage.apply([Put(Table.USERS, row)])
    assert (await users.get("a")).is_disabled


@pytest.mark.parametrize(
    ("kind", "pattern"), [("human", r"kuid-[a-z]+-[a-z]+-[0-9]+"), ("uuid", r"kuid-[0-9a-f-]{36}")]
)
async def test_without_an_id_one_is_made_up(users, kind, pattern):
    user = await create(users, None, kind=kind)
    assert re.fullmatch(pattern, user.kuid)
    assert await users.get(user.kuid) == user


async def test_a_made_up_id_that_is_taken_is_made_up_again(users, monkeypatch):
    await create(users, "taken")
    made_up = iter(["taken", "free"])
    monkeypatch.setattr("server.auth.accounts.users.make_kuid", lambda kind: next(made_up))
    assert (await create(users, None)).kuid == "free"


async def test_a_made_up_id_that_a_strategy_knows_is_made_up_again(users, storage, monkeypatch):
    """docs/api/security.md#users."""
    orphan = {"strategy": "ring", "id": "1", "kuid": "known", "data": {}, "created_at": 0}
    await storage.apply([Put(Table.CREDENTIALS, {**orphan, "updated_at": None})])
    made_up = iter(["known", "free"])
    monkeypatch.setattr("server.auth.accounts.users.make_kuid", lambda kind: next(made_up))
    assert (await create(users, None)).kuid == "free"


async def test_who_is_made_while_it_is_looked_for_his_credentials_is_no_orphan(
    users, strategies, storage
):
    """docs/api/differences.md#existing-users: 412, not 500, also for the one of two who comes
    second by a hair."""

    class Overtaken(Badge):
        async def exists(self, kuid):
            strategies.register("badge", Badge(storage, "badge"))
            await create(users, "alice", credentials={"badge": {"number": "1"}})
            return await super().exists(kuid)

    strategies.register("badge", Overtaken(storage, "badge"))
    error = await refused(create(users, "alice", credentials={"badge": {"number": "2"}}))
    assert (error.status, error.id) == (412, "security.user.already_exists")
    assert await counts(storage) == [1, 1, 1]


async def test_several_are_read_at_once_and_each_once(users, monkeypatch):
    monkeypatch.setattr("server.auth.accounts.users._READ_AT_ONCE", 2)
    for kuid in ("a", "b", "c"):
        await create(users, kuid)
    found = await users.get_all(["c", "-1", "nobody", "a", "anonymous", "c", "b", "\ud800"])
    assert [user.kuid for user in found] == ["c", "-1", "a", "b"]


async def test_when_all_readable_ids_seem_taken_a_uuid_is_made_up(users, monkeypatch):
    await create(users, "human")
    monkeypatch.setattr("server.auth.accounts.users.make_kuid", lambda kind: kind)
    assert (await create(users, None)).kuid == "uuid"


REFUSALS = (  # what is asked, status, id, props
    ({"kuid": ""}, 400, "api.assert.empty_argument", ("_id",)),
    ({"kuid": "-1"}, 412, "security.user.already_exists", ("-1",)),
    ({"kuid": "taken"}, 412, "security.user.already_exists", ("taken",)),
    ({"profile_ids": []}, 400, "api.assert.empty_argument", ("body.content.profileIds",)),
    (
        {"profile_ids": ["default", 5]},
        400,
        "api.assert.invalid_type",
        ("body.content.profileIds", "array of strings"),
    ),
    (
        {"profile_ids": [str(n) for n in range(MOST_PROFILES + 1)]},
        400,
        "api.assert.too_many_arguments",
        ("body.content.profileIds", MOST_PROFILES),
    ),
    ({"profile_ids": ["default", "no"]}, 404, "security.profile.not_found", ("no",)),
    ({"credentials": {"no": {}}}, 400, "security.credentials.unknown_strategy", ("no",)),
    (
        {"credentials": {"badge": "7"}},
        400,
        "api.assert.invalid_type",
        ("body.credentials.badge", "object"),
    ),
    ({"credentials": {"badge": {"number": "bad"}}}, 400, None, None),
    (
        {"kuid": "orphan", "credentials": {"badge": {"number": "9"}}},
        500,
        "security.credentials.database_inconsistency",
        ("orphan",),
    ),
)


@pytest.mark.parametrize(("wanted", "status", "error_id", "props"), REFUSALS)
async def test_what_is_refused_leaves_nothing(users, storage, wanted, status, error_id, props):
    await create(users, "taken")
    orphan = {
        "strategy": "badge",
        "id": "1",
        "kuid": "orphan",
        "data": {},
        "created_at": 0,
        "updated_at": None,
    }
    await storage.apply([Put(Table.CREDENTIALS, orphan)])
    before = await counts(storage)
    error = await refused(create(users, **wanted))
    assert (error.status, error.id, error.props) == (status, error_id, props)
    assert await counts(storage) == before


async def test_nothing_is_prepared_before_every_strategy_has_agreed(users, strategies):
    credentials = {"badge": {"number": "7"}, "ring": {"number": "bad"}}
    assert (await refused(create(users, credentials=credentials))).status == 400
    assert strategies.get("badge").prepared == 0


async def test_of_two_at_once_with_one_id_one_is_told_so(users, storage):
    results = await asyncio.gather(create(users), create(users), return_exceptions=True)
    (error,) = (result for result in results if isinstance(result, ApiError))
    assert (error.status, error.id) == (412, "security.user.already_exists")
    assert await counts(storage) == [1, 1, 0]


async def test_of_two_at_once_with_one_badge_one_is_told_so(users, storage):
    badge = {"badge": {"number": "7"}}
    calls = (create(users, kuid, credentials=badge) for kuid in ("alice", "bob"))
    results = await asyncio.gather(*calls, return_exceptions=True)
    (error,) = (result for result in results if isinstance(result, ApiError))
    assert (error.status, error.message) == (412, "badge 7")
    assert await counts(storage) == [1, 1, 1]


async def test_a_profile_that_goes_in_the_meantime_is_not_given(users, storage):
    storage.first = [Delete(Table.PROFILES, {"id": "default"})]
    error = await refused(create(users))
    assert (error.status, error.id) == (404, "security.profile.not_found")
    assert await counts(storage) == [0, 0, 0]


async def test_a_store_that_never_holds_still_is_given_up(users, strategies, storage):
    class Late(Badge):
        async def create(self, credentials, kuid, by):
            return Prepared({}, [Delete(Table.CREDENTIALS, {"strategy": "x", "id": "x"})])

    strategies.register("badge", Late(storage, "badge"))
    error = await refused(create(users, credentials={"badge": {"number": "7"}}))
    assert error.id == "services.storage.too_many_changes"
    assert await counts(storage) == [0, 0, 0]


async def test_of_several_first_admins_exactly_one_wins(users, storage):
    """Security check A7."""
    assert not await users.admin_exists()
    calls = (
        create(users, f"admin{n}", profile_ids=["admin"], only_if_no_admin=True) for n in range(5)
    )
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, ApiError)]
    assert {(error.status, error.id) for error in errors} == {(412, "api.process.admin_exists")}
    assert len(errors) == 4
    assert await users.admin_exists()
    assert await counts(storage) == [1, 1, 0]


async def test_a_second_admin_is_told_before_anything_is_prepared(users, strategies):
    await create(users, "root", profile_ids=["admin"])
    badge = {"badge": {"number": "7"}}
    error = await refused(
        create(users, profile_ids=["admin"], credentials=badge, only_if_no_admin=True)
    )
    assert error.id == "api.process.admin_exists"
    assert strategies.get("badge").prepared == 0


def session(token: bytes, kuid: str) -> Insert:
    row = {"token_hash": token, "id": token.hex(), "kuid": kuid, "created_at": 0, "expires_at": 1}
    more = {"ttl": 1, "single_use": 0, "refreshed_at": None, "family": "f", "data": {}}
    more |= {"started_at": 1, "used_at": 1}
    return Insert(Table.SESSIONS, {**row, **more})


def api_key(token: bytes, kuid: str) -> Insert:
    row = {"id": token.hex(), "token_hash": token, "kuid": kuid, "description": "", "ttl": -1}
    return Insert(Table.API_KEYS, {**row, "expires_at": None, "info": {}})


def passkey(key_id: str, kuid: str) -> Insert:
    row = {"strategy": "gone", "id": key_id, "kuid": kuid, "name": "", "public_key": b"k"}
    more = {"sign_count": 0, "backed_up": 0, "transports": [], "created_at": 0, "used_at": None}
    return Insert(Table.PASSKEYS, {**row, **more})


def one_time(token: bytes, kuid: str) -> Insert:
    row = {"token_hash": token, "kind": "reset", "kuid": kuid, "expires_at": 1, "data": {}}
    return Insert(Table.ONE_TIME, row)


async def test_all_that_is_a_users_goes_with_him_and_nothing_else(users, storage):
    """Security check S2: from every table, also what a strategy keeps that is not there now."""
    for number, kuid in (("1", "alice"), ("2", "bob")):
        await create(users, kuid, credentials={"badge": {"number": number}})
        await storage.apply([session(kuid.encode(), kuid), api_key(kuid.encode(), kuid)])
        await storage.apply([passkey(number, kuid), one_time(kuid.encode(), kuid)])
    entries = []
    storage.follow(entries.extend)
    await users.delete("alice")
    assert {(entry.noted, entry.subject) for entry in entries} == {
        (EventKind.API_KEY, b"alice".hex()),
        (EventKind.SESSIONS, "alice"),
        (EventKind.USER, "alice"),
    }
    for table in (table for table, shape in SHAPES.items() if "kuid" in shape.columns):
        # That no device is known to them any more is kept, in case the id is given again.
        rows = [
            row
            for row in await storage.find(table, limit=10)
            if row.get("kind") != "devices revoked"
        ]
        assert [row["kuid"] for row in rows] == ["bob"]


@pytest.mark.parametrize("kuid", ["alice", "-1", "anonymous", "\ud800"])
async def test_who_is_not_there_cant_be_deleted(users, kuid):
    error = await refused(users.delete(kuid))
    assert (error.status, error.id) == (404, "security.user.not_found")


async def test_who_is_deleted_in_the_meantime_is_not_there(users, storage):
    await create(users)
    storage.first = [Delete(Table.USERS, {"kuid": "alice"})]
    assert (await refused(users.delete("alice"))).id == "security.user.not_found"


async def test_credentials_that_go_while_their_owner_is_deleted_are_no_unknown_user(
    users, strategies, storage
):
    class Late(Badge):
        async def delete(self, kuid):
            return Prepared({}, [Delete(Table.CREDENTIALS, {"strategy": "x", "id": "x"})])

    await create(users, credentials={"badge": {"number": "7"}})
    strategies.register("badge", Late(storage, "badge"))
    assert (await refused(users.delete("alice"))).id == "services.storage.too_many_changes"
    assert await counts(storage) == [1, 1, 1]


async def test_a_strategy_that_keeps_its_credentials_keeps_the_user(users, storage):
    await create(users, credentials={"badge": {"number": "stuck"}})
    error = await refused(users.delete("alice"))
    assert (error.status, error.id) == (400, "security.credentials.rejected")
    assert error.props == ("the badge is stuck",)
    assert await counts(storage) == [1, 1, 1]


async def test_strategies_are_known_by_name_in_order_until_removed(storage):
    strategies = Strategies(storage, timeout_s=1)
    first, second = Badge(storage, "a"), Badge(storage, "b")
    for name, strategy in (("b", second), ("a", first)):
        strategies.register(name, strategy)
    assert (strategies.names(), strategies.get("a")) == (["b", "a"], first)
    await strategies.remove("b")
    assert strategies.names() == ["a"]
    with pytest.raises(ApiError) as unknown:
        await strategies.remove("b")
    assert (unknown.value.status, unknown.value.id) == (404, "plugin.strategy.strategy_not_found")
