"""Which built-in roles and profiles there are, and when they are written
(docs/api/security.md#default-rights, docs/api/differences.md)."""

import asyncio
from dataclasses import dataclass

import pytest

from server.auth.access.builtin import builtin_profiles, builtin_roles, install, restrict
from server.storage.base import EventKind, Put
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage

NOW_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Declared:
    controller: str
    name: str
    granted: tuple[str, ...] = ()


ACTIONS = (
    Declared("auth", "login", ("anonymous",)),
    Declared("auth", "logout", ("default",)),
    Declared("auth", "checkToken", ("default", "anonymous")),
    Declared("server", "publicApi", ("default", "anonymous")),
    Declared("security", "deleteUser"),
)
EVERYTHING = {"controllers": {"*": {"actions": {"*": True}}}}
RESTRICTED = {
    "admin": EVERYTHING,
    "default": {
        "controllers": {
            "auth": {"actions": {"logout": True, "checkToken": True}},
            "server": {"actions": {"publicApi": True}},
        }
    },
    "anonymous": {
        "controllers": {
            "auth": {"actions": {"login": True, "checkToken": True}},
            "server": {"actions": {"publicApi": True}},
        }
    },
}
PROFILES = {
    "admin": {"policies": [{"roleId": "admin"}], "rateLimit": 0},
    "default": {"policies": [{"roleId": "default"}], "rateLimit": 10},
    "anonymous": {"policies": [{"roleId": "anonymous"}], "rateLimit": 200},
}


@pytest.fixture
async def storage():
    made = SqliteStorage(":memory:", clock_ms=lambda: NOW_MS)
    await made.open()
    yield made
    await made.close()


def test_roles_are_what_the_actions_declare():
    assert builtin_roles(ACTIONS, False) == RESTRICTED


def test_in_open_mode_everybody_may_do_everything_without_limit():
    assert builtin_roles(ACTIONS, True) == dict.fromkeys(RESTRICTED, EVERYTHING)
    assert {body["rateLimit"] for body in builtin_profiles(open_mode=True).values()} == {0}


def test_profiles_are_the_contracts():
    assert builtin_profiles() == PROFILES


async def test_a_new_store_gets_them_all(storage):
    entries = []
    storage.follow(entries.extend)
    await install(storage, ACTIONS, lambda: NOW_MS)
    info = {"author": None, "createdAt": NOW_MS, "updatedAt": None, "updater": None}
    for table, bodies in ((Table.ROLES, RESTRICTED), (Table.PROFILES, PROFILES)):
        for name, body in bodies.items():
            assert await storage.get(table, id=name) == {"id": name, "body": body, "info": info}
    assert {(entry.noted, entry.subject) for entry in entries} == {
        (EventKind.RIGHTS, name) for name in RESTRICTED
    }


async def test_what_an_operator_wrote_stays(storage):
    own = {"id": "default", "body": {"controllers": {}}, "info": {}}
    await storage.apply([Put(Table.ROLES, own)])
    await install(storage, ACTIONS, lambda: NOW_MS)
    assert await storage.get(Table.ROLES, id="default") == own
    assert await storage.count(Table.ROLES) == 3


async def test_they_are_written_once_in_a_stores_life(storage):
    await install(storage, ACTIONS, lambda: NOW_MS)
    changed = {"id": "anonymous", "body": {"controllers": {}}, "info": {}}
    await storage.apply([Put(Table.ROLES, changed)])
    await install(storage, (*ACTIONS, Declared("auth", "new", ("anonymous",))), lambda: NOW_MS + 1)
    assert await storage.get(Table.ROLES, id="anonymous") == changed


async def test_profiles_refer_to_their_roles(storage):
    """In a new store and after they were written anew, so that no role in use can be deleted."""
    own = [{"profile_id": name, "role_id": name} for name in sorted(PROFILES)]
    await install(storage, ACTIONS, lambda: NOW_MS)
    assert await storage.find(Table.PROFILE_ROLES, limit=10) == own
    await storage.apply([Put(Table.PROFILE_ROLES, {"profile_id": "default", "role_id": "own"})])
    await storage.apply(restrict(ACTIONS, NOW_MS))
    assert await storage.find(Table.PROFILE_ROLES, limit=10) == own


async def test_restricting_writes_them_anew_and_tells(storage):
    """docs/api/security.md#stored-documents, "createOrReplace"."""
    await install(storage, ACTIONS, lambda: NOW_MS)
    changed = {"body": {"controllers": {}, "policies": []}, "info": {}}
    own = {"id": "own", **changed}
    for table in (Table.ROLES, Table.PROFILES):
        await storage.apply([Put(table, {"id": name, **changed}) for name in RESTRICTED])
        await storage.apply([Put(table, own)])
    entries = []
    storage.follow(entries.extend)
    await storage.apply(restrict(ACTIONS, NOW_MS + 1))
    at_ms = NOW_MS + 1
    info = {"author": None, "createdAt": at_ms, "updatedAt": at_ms, "updater": None}
    for table, bodies in ((Table.ROLES, RESTRICTED), (Table.PROFILES, PROFILES)):
        for name, body in bodies.items():
            assert await storage.get(table, id=name) == {"id": name, "body": body, "info": info}
        assert await storage.get(table, id="own") == own
    assert {(entry.noted, entry.subject) for entry in entries} == {
        (EventKind.RIGHTS, name) for name in RESTRICTED
    }


async def test_several_processes_may_start_at_once(storage):
    await asyncio.gather(*(install(storage, ACTIONS, lambda: NOW_MS) for _ in range(5)))
    assert await storage.count(Table.ROLES) == await storage.count(Table.PROFILES) == 3
