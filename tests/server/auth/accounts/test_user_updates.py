"""What a change of a user writes, and what happens when somebody else is faster
(docs/api/security.md#stored-documents, #users, §2.1; docs/architecture.md)."""

import pytest

from protocol.errors import ApiError
from server.auth.access.builtin import install
from server.auth.access.permissions import PermissionCompiler
from server.auth.accounts.user_updates import UserChanges
from server.auth.accounts.users import Users
from server.auth.strategies.registry import Strategies
from server.storage.base import (
    Delete,
    DeleteAll,
    EventKind,
    Insert,
    JournalEvent,
    Put,
    RemoveProfile,
    Update,
)
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from tests.support.step_up import make_step_up, operator_as

ME = operator_as("me")
NOW_MS = 1_700_000_000_000
ALICE = {"kuid": "alice"}


class Rushed(SqliteStorage):
    """A store in which others are faster: before each of our writes comes one of theirs."""

    def __init__(self) -> None:
        super().__init__(":memory:", clock_ms=lambda: NOW_MS)
        self.rushes: list[list] = []

    async def apply(self, changes):
        if self.rushes:
            await super().apply(self.rushes.pop(0))
        await super().apply(changes)


@pytest.fixture
async def storage():
    made = Rushed()
    await made.open()
    await install(made, (), lambda: NOW_MS)
    body = {"policies": [{"roleId": "default"}], "rateLimit": 0}
    await made.apply([Put(Table.PROFILES, {"id": "p", "body": body, "info": {}})])
    yield made
    await made.close()


@pytest.fixture
async def users(storage):
    made = Users(
        storage,
        PermissionCompiler(storage),
        Strategies(storage, timeout_s=1),
        make_step_up(storage),
        clock_ms=lambda: NOW_MS,
    )
    await made.create(
        kuid="alice",
        kind="",
        profile_ids=["default"],
        content={"name": "Alice", "n": 1},
        credentials={},
        author="boss",
    )
    return made


@pytest.fixture
def changes(storage, users):
    return UserChanges(
        storage,
        users,
        PermissionCompiler(storage),
        make_step_up(storage),
        clock_ms=lambda: NOW_MS + 1,
    )


async def refused(awaitable) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def profile_rows(storage) -> set[object]:
    rows = await storage.find(Table.USER_PROFILES, limit=99, kuid="alice")
    return {row["profile_id"] for row in rows}


async def test_each_change_is_one_note_for_the_others(changes, storage):
    """docs/architecture.md: in the same transaction, so that every process reads him again."""
    entries = []
    storage.follow(entries.extend)
    for change in (
        changes.update("alice", {"n": 2}, ME),
        changes.update("alice", {}, ME, ["p", "default"]),
        changes.replace("alice", {}, ["p"], ME),
        changes.enable("alice", ME),
    ):
        entries.clear()
        await change
        assert [(entry.noted, entry.subject) for entry in entries] == [(EventKind.USER, "alice")]
    entries.clear()
    await changes.disable("alice", ME)
    assert {(entry.noted, entry.subject) for entry in entries} == {
        (EventKind.USER, "alice"),
        (EventKind.SESSIONS, "alice"),
    }


async def test_a_disabled_user_has_no_one_time_tokens(changes, storage):
    """S2: a reset token of before is no way back in."""
    rows = [
        {"token_hash": kuid.encode(), "kind": "reset", "kuid": kuid, "expires_at": None, "data": {}}
        for kuid in ("alice", "bob")
    ]
    await storage.apply([Insert(Table.ONE_TIME, row) for row in rows])
    await changes.disable("alice", ME)
    (left,) = await storage.find(Table.ONE_TIME, limit=9, kind="reset")
    assert left["kuid"] == "bob"


async def test_an_update_never_undoes_what_came_in_between(changes, users, storage):
    storage.rushes = [[Update(Table.USERS, ALICE, {"content": {"theirs": 1}, "disabled": 1})]]
    updated = await changes.update("alice", {"ours": 2}, ME)
    assert updated == await users.get("alice")
    assert (updated.content, updated.is_disabled) == ({"theirs": 1, "ours": 2}, True)


async def test_a_profile_that_is_taken_away_in_between_stays_away(changes, users, storage):
    """docs/api/security.md#profile-actions `onAssignedUsers`: `remove`."""
    await changes.update("alice", {}, ME, ["p"])
    storage.rushes = [[RemoveProfile("p", "anonymous", 9), Delete(Table.PROFILES, {"id": "p"})]]
    updated = await changes.update("alice", {"n": 3}, ME)
    assert updated.profile_ids == ("anonymous",)
    assert await profile_rows(storage) == {"anonymous"}


@pytest.mark.parametrize("name", ["update", "replace"])
async def test_a_profile_that_goes_in_between_is_not_given(changes, users, storage, name):
    storage.rushes = [[Delete(Table.PROFILES, {"id": "p"})]]
    if name == "update":
        error = await refused(changes.update("alice", {}, ME, ["p"]))
    else:
        error = await refused(changes.replace("alice", {}, ["p"], ME))
    assert (error.id, error.props) == ("security.profile.not_found", ("p",))
    assert await profile_rows(storage) == {"default"}
    assert (await users.get("alice")).content == {"name": "Alice", "n": 1}


GONE = [
    Delete(Table.USERS, ALICE),
    DeleteAll(Table.USER_PROFILES, ALICE),
    JournalEvent(EventKind.USER, "a"),
]


@pytest.mark.parametrize("name", ["update", "replace", "disable", "enable"])
async def test_who_goes_in_between_is_not_there(changes, users, storage, name):
    storage.rushes = [GONE]
    asked = {
        "update": lambda: changes.update("alice", {}, ME, ["p"]),
        "replace": lambda: changes.replace("alice", {}, ["p"], ME),
        "disable": lambda: changes.disable("alice", ME),
        "enable": lambda: changes.enable("alice", ME),
    }
    error = await refused(asked[name]())
    assert (error.status, error.id) == (404, "security.user.not_found")
    assert await users.get("alice") is None
    assert await profile_rows(storage) == set()


async def test_an_upsert_creates_who_goes_in_between(changes, users, storage):
    storage.rushes = [GONE]
    user = await changes.upsert(
        "alice", content={"n": 5}, profile_ids=["p"], defaults={"d": 1}, credentials={}, by=ME
    )
    assert user == await users.get("alice")
    assert (user.content, user.info["author"]) == ({"d": 1, "n": 5}, "me")
    assert await profile_rows(storage) == {"p"}


async def test_a_user_who_never_holds_still_is_given_up(changes, users, storage):
    storage.rushes = [[Update(Table.USERS, ALICE, {"content": {"n": n}})] for n in range(20)]
    error = await refused(changes.update("alice", {"ours": 1}, ME))
    assert error.id == "services.storage.too_many_changes"
    assert "ours" not in (await users.get("alice")).content


async def test_nothing_is_remembered_of_who_was_changed(changes, users):
    """The turns of changes are forgotten with the last one who waits."""
    await changes.update("alice", {"n": 2}, ME)
    for kuid in ("nobody", "\ud800", "-1"):
        try:  # `refused` would keep the error in a cycle of its own
            await changes.update(kuid, {}, ME)
        except ApiError as error:
            assert error.id == "security.user.not_found"
        else:
            pytest.fail(kuid)
    assert not changes._turns
