"""The strategy `local`: who gets in, what its credentials are, and what it answers
(docs/api/strategies.md#local-credentials, #local-errors)."""

import pytest

from protocol.errors import ApiError, error
from server.auth.passwords import hasher as passwords_module
from server.auth.passwords.hasher import PasswordHasher
from server.auth.passwords.work_owner import WorkOwner
from server.auth.strategies.base import Authenticated, LoginAttempt, Refused
from server.auth.strategies.local import Local
from server.core.ids import is_id
from server.storage.base import Delete, Insert, Missing, Put, Update
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage

PASSWORD = "password"


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
async def storage():
    made = SqliteStorage(":memory:", clock_ms=lambda: 0)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def passwords():
    made = PasswordHasher(cost=4, threads=1, queue=8)
    yield made
    made.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def local(storage, passwords, clock):
    """With alice, who logs in; bob, who is disabled; and carol, who has no local credentials."""
    made = Local(storage, passwords, clock_ms=clock)
    for kuid, disabled in (("k-alice", 0), ("k-bob", 1), ("k-carol", 0)):
        row = {"kuid": kuid, "profile_ids": [], "content": {}, "info": {}, "disabled": disabled}
        await storage.apply([Insert(Table.USERS, row)])
    for name in ("alice", "bob"):
        await add(made, storage, name)
    return made


async def add(local: Local, storage: SqliteStorage, name: str, kuid: str | None = None) -> None:
    credentials = {"username": name, "password": "password"}
    prepared = await local.create(credentials, kuid or f"k-{name}", "boss")
    await storage.apply(prepared.changes)


async def stored(storage: SqliteStorage, name: str):
    return await storage.get(Table.CREDENTIALS, strategy="local", id=name)


async def log_in(local: Local, name: object, password: object = PASSWORD):
    return await local.verify(LoginAttempt(body={"username": name, "password": password}))


async def refused(awaitable) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


CREDENTIALS = {"username": "alice", "password": "password"}
WAYS = (
    LoginAttempt(body=CREDENTIALS),
    LoginAttempt(args=CREDENTIALS),
    LoginAttempt(body={"username": "alice"}, args={"username": "bob", "password": "password"}),
    LoginAttempt(body={"username": "", "password": None}, args=CREDENTIALS),
)


@pytest.mark.parametrize("attempt", WAYS)
async def test_credentials_come_from_the_body_or_else_from_the_arguments(local, attempt):
    assert await local.verify(attempt) == Authenticated("k-alice")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "Password"),
        ("Alice", "password"),
        ("bob", "password"),
        ("bob", "wrong"),
        ("carol", "password"),
        ("nobody", "password"),
        ("x" * 513, "password"),
        ("a\0b", "password"),
        ("\ud800", "password"),
    ],
)
async def test_all_who_cant_log_in_cost_and_learn_the_same(
    local, storage, monkeypatch, name, password
):
    """Security checks A1, A2: the same answer, after one check against a hash of the same cost."""
    costs, real = [], passwords_module.bcrypt.checkpw

    def check(given: bytes, hashed: bytes) -> bool:
        costs.append(hashed[:7])
        return real(given, hashed)

    monkeypatch.setattr(passwords_module.bcrypt, "checkpw", check)
    reads, get = [], storage.get

    async def read(table, **key):
        reads.append(table)
        return await get(table, **key)

    monkeypatch.setattr(storage, "get", read)
    assert await log_in(local, name, password) == Refused("wrong user or password")
    assert costs == [b"$2b$04$"]
    # What can't be anybody's name is not looked for.
    assert reads == ([Table.CREDENTIALS, Table.USERS] if is_id(name) else [Table.USERS])


async def test_credentials_whose_owner_is_gone_open_nothing(local, storage):
    await storage.apply([Delete(Table.USERS, {"kuid": "k-alice"})])
    assert await log_in(local, "alice") == Refused("wrong user or password")


@pytest.mark.parametrize("data", [{}, {"hash": None}, {"hash": "plain"}, []])
async def test_credentials_without_a_hash_open_nothing(local, storage, data):
    key = {"strategy": "local", "id": "alice"}
    await storage.apply([Update(Table.CREDENTIALS, key, {"data": data})])
    assert await log_in(local, "alice") == Refused("wrong user or password")


@pytest.mark.parametrize("body", [{}, {"username": "alice"}, {"password": "password"}])
async def test_a_login_without_name_or_password_is_refused(local, body):
    assert isinstance(await local.verify(LoginAttempt(body=body)), Refused)


@pytest.mark.parametrize("value", [5, True, ["password"], {"a": 1}])
async def test_names_and_passwords_are_text(local, value):
    for attempt in (log_in(local, value), log_in(local, "alice", value)):
        found = await refused(attempt)
        assert (found.status, found.id) == (400, "api.assert.invalid_type")


async def test_a_huge_password_is_refused_before_hashing(local, monkeypatch):
    """Security check P14."""
    monkeypatch.setattr(passwords_module.bcrypt, "checkpw", None)
    assert (await refused(log_in(local, "alice", "x" * 1_000_000))).status == 400


async def test_an_outdated_hash_is_renewed_at_login(local, storage, clock):
    """Security check P12."""
    dearer = PasswordHasher(cost=5, threads=1, queue=1)
    renewing = Local(storage, dearer, clock_ms=clock)
    before = await stored(storage, "alice")
    assert await log_in(renewing, "alice", "wrong") == Refused("wrong user or password")
    assert await stored(storage, "alice") == before
    assert await log_in(renewing, "alice") == Authenticated("k-alice")
    after = await stored(storage, "alice")
    assert dearer.is_current(after["data"]["hash"])
    assert {**after, "data": {**after["data"], "hash": ""}} == {
        **before,
        "data": {"hash": "", "updater": "boss"},
    }
    assert await log_in(renewing, "alice") == Authenticated("k-alice")
    assert await stored(storage, "alice") == after
    dearer.close()


class Dearer(PasswordHasher):
    """Finds every hash outdated; `during` runs while it makes the new one."""

    during = None

    def is_current(self, hashed: str) -> bool:
        return False

    async def hash(self, password: str, *, owner: WorkOwner | None = None) -> str:
        if self.during is not None:
            during, self.during = self.during, None
            await during()
        return await super().hash(password, owner=owner)


@pytest.fixture
def dearer():
    made = Dearer(cost=4, threads=1, queue=8)
    yield made
    made.close()


async def test_renewing_never_brings_back_a_password_just_changed(local, storage, clock, dearer):
    async def change() -> None:
        clock.now_ms += 1
        prepared = await local.update({"password": "new"}, "k-alice", "k-alice")
        await storage.apply(prepared.changes)

    dearer.during = change
    assert await log_in(Local(storage, dearer, clock_ms=clock), "alice") == Authenticated("k-alice")
    assert await log_in(local, "alice", "new") == Authenticated("k-alice")
    assert await log_in(local, "alice") == Refused("wrong user or password")


async def test_a_failed_renewal_is_no_reason_to_refuse(local, storage, clock, dearer):
    async def fail() -> None:
        raise error("api.process.overloaded")

    dearer.during = fail
    assert await log_in(Local(storage, dearer, clock_ms=clock), "alice") == Authenticated("k-alice")


async def test_new_credentials_are_stored_hashed(local, storage, clock, passwords):
    clock.now_ms = 5_000
    prepared = await local.create({"username": "carol", "password": "pässwörd"}, "k-carol", "boss")
    assert list(prepared.shown.items()) == [("username", "carol"), ("kuid", "k-carol")]
    assert await stored(storage, "carol") is None
    await storage.apply(prepared.changes)
    row = await stored(storage, "carol")
    assert (row["kuid"], row["created_at"], row["updated_at"]) == ("k-carol", 5_000, None)
    assert row["data"].keys() == {"hash", "updater"} and row["data"]["updater"] == "boss"
    assert await passwords.verify("pässwörd", row["data"]["hash"])
    assert await local.exists("k-carol")
    assert await log_in(local, "carol", "pässwörd") == Authenticated("k-carol")


async def test_nobody_gets_credentials_who_is_not_there(local, storage):
    with pytest.raises(Missing) as missing:
        await add(local, storage, "dora")
    assert missing.value.table is Table.USERS
    assert not await local.exists("k-dora")


REFUSED = (  # credentials, owner, is an update, status, id
    ({"username": "x", "password": "x", "kuid": "k-carol"}, "k-carol", False, 400, None),
    ({"kuid": None, "username": "x"}, "k-alice", True, 400, None),
    ({"username": "x"}, "k-carol", False, 400, None),
    ({"password": "x"}, "k-carol", False, 400, None),
    ({"username": "x", "password": ""}, "k-carol", False, 400, None),
    ({"username": "", "password": "x"}, "k-carol", False, 400, None),
    ({}, "k-alice", True, 400, None),
    ({"username": None, "password": ""}, "k-alice", True, 400, None),
    ({"password": "x"}, "k-carol", True, 412, None),
    ({"password": "x"}, None, True, 412, None),
    ({"username": "alice", "password": "x"}, "k-carol", False, 412, None),
    ({"username": "alice", "password": "x"}, None, False, 412, None),
    ({"username": "bob"}, "k-alice", True, 412, None),
    ({"username": 5, "password": "x"}, "k-carol", False, 400, "api.assert.invalid_type"),
    ({"username": "x", "password": 5}, "k-carol", False, 400, "api.assert.invalid_type"),
    ({"password": ["x"]}, "k-alice", True, 400, "api.assert.invalid_type"),
    (
        {"username": "x" * 513, "password": "x"},
        "k-carol",
        False,
        400,
        "api.assert.invalid_argument",
    ),
    ({"username": "\ud800", "password": "x"}, "k-carol", False, 400, "api.assert.invalid_argument"),
    (
        {"username": "x", "password": "x" * 4097},
        "k-carol",
        False,
        400,
        "api.assert.invalid_argument",
    ),
)


@pytest.mark.parametrize(("credentials", "kuid", "is_update", "status", "error_id"), REFUSED)
async def test_validation_refuses(local, credentials, kuid, is_update, status, error_id):
    found = await refused(local.validate(credentials, kuid, is_update))
    assert (found.status, found.id) == (status, error_id)


@pytest.mark.parametrize(
    ("credentials", "kuid", "is_update"),
    [
        ({"username": "carol", "password": "x"}, "k-carol", False),
        ({"username": "Alice", "password": "x" * 4096}, None, False),
        ({"username": "alice", "password": "x"}, "k-alice", False),
        ({"username": "alice"}, "k-alice", True),
        ({"username": "alice2", "password": ""}, "k-alice", True),
        ({"password": "x"}, "k-alice", True),
    ],
)
async def test_validation_accepts(local, credentials, kuid, is_update):
    assert await local.validate(credentials, kuid, is_update) is None


async def test_one_user_has_one_name(local):
    found = await refused(local.create({"username": "x", "password": "x"}, "k-alice", "boss"))
    assert (found.status, found.id) == (412, None)


async def test_a_password_changes(local, storage, clock):
    clock.now_ms = 7_000
    prepared = await local.update({"password": "new"}, "k-alice", "k-alice")
    assert prepared.shown == {"username": "alice", "kuid": "k-alice"}
    await storage.apply(prepared.changes)
    row = await stored(storage, "alice")
    assert (row["created_at"], row["updated_at"]) == (1_000, 7_000)
    assert row["data"]["updater"] == "k-alice"
    assert await log_in(local, "alice", "new") == Authenticated("k-alice")
    assert await log_in(local, "alice") == Refused("wrong user or password")


async def test_a_name_changes_and_the_old_one_is_free(local, storage, clock):
    clock.now_ms = 7_000
    before = await stored(storage, "alice")
    prepared = await local.update({"username": "alicia"}, "k-alice", "k-alice")
    assert prepared.shown == {"username": "alicia", "kuid": "k-alice"}
    await storage.apply(prepared.changes)
    assert await stored(storage, "alicia") == {**before, "id": "alicia", "updated_at": 7_000}
    assert await stored(storage, "alice") is None
    await add(local, storage, "alice", "k-carol")
    assert await log_in(local, "alice") == Authenticated("k-carol")


async def test_credentials_end(local, storage):
    prepared = await local.delete("k-alice")
    await storage.apply(prepared.changes)
    assert not await local.exists("k-alice") and await local.exists("k-bob")
    assert await log_in(local, "alice") == Refused("wrong user or password")


async def test_what_is_shown_is_the_name_and_the_owner(local):
    expected = [("username", "alice"), ("kuid", "k-alice")]
    assert list((await local.get_info("k-alice")).items()) == expected
    assert list((await local.get_by_id("alice")).items()) == expected


async def test_who_has_no_credentials_is_told_412(local):
    for call in (
        local.update({"password": "x"}, "k-carol", "boss"),
        local.delete("k-carol"),
        local.get_info("k-carol"),
        local.get_by_id("carol"),
        local.get_by_id("\ud800"),
    ):
        found = await refused(call)
        assert (found.status, found.id) == (412, None)


async def test_the_present_password_where_it_is_required(local, storage, passwords, clock):
    """Security check P9."""
    strict = Local(storage, passwords, clock_ms=clock, require_password=True)
    assert await strict.check_present_password("k-alice", "password") is None
    for kuid, password, status in (
        ("k-alice", None, 400),
        ("k-alice", "", 400),
        ("k-alice", 5, 400),
        ("k-alice", "wrong", 403),
        ("k-carol", "password", 403),
    ):
        assert (await refused(strict.check_present_password(kuid, password))).status == status
    assert await local.check_present_password("k-alice", None) is None


async def test_an_unreadable_row_of_another_strategy_is_not_ours(local, storage):
    row = {**await stored(storage, "alice"), "strategy": "ldap", "id": "eve"}
    await storage.apply([Put(Table.CREDENTIALS, row)])
    assert await log_in(local, "eve") == Refused("wrong user or password")
