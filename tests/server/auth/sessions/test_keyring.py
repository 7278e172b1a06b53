"""All signing keys: made at first start, rotated, retired, and kept as the store has them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.auth.sessions import keyring as keyrings_module
from server.auth.sessions.keyring import Keyring, Signing, add_key, open_keyring, read_keys
from server.storage.base import Entry, EventKind, Insert, JournalEvent, Unavailable
from server.storage.rows import Row, Table, Value
from server.storage.sqlite.storage import SqliteStorage
from tests.support.keyrings import (
    ALGORITHMS,
    ASYMMETRIC,
    CLAIMS,
    NOW_MS,
    OTHER_SECRET,
    SECRET,
    clock_ms,
    following,
    kid_of,
    opened,
    retire,
    stored_keys,
)
from tests.support.waiting import until

HOUR_MS = 3_600_000


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """New keys sign as soon as they are read."""
    monkeypatch.setattr(keyrings_module, "SETTLE_S", 0.0)


async def ring(storage: SqliteStorage, algorithm: str, secret: str | None = None) -> Keyring:
    """Open a keyring of an algorithm and perhaps a secret."""
    return await open_keyring(storage, Signing(algorithm, secret), clock_ms=clock_ms)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_first_start_makes_a_key(tmp_path: Path, algorithm: str) -> None:
    """The next start signs with the same one."""
    path = str(tmp_path / "keys.db")
    async with opened(path) as storage:
        token = (await ring(storage, algorithm)).sign(CLAIMS)
    async with opened(path) as storage:
        keyring = await ring(storage, algorithm)
        (row,) = await stored_keys(storage)
    assert (row["algorithm"], row["created_at"], row["retired_at"]) == (algorithm, NOW_MS, None)
    assert kid_of(token) == row["kid"] == kid_of(keyring.sign(CLAIMS))
    assert keyring.read(token) == CLAIMS


async def test_two_first_starts_at_once_make_one_key(tmp_path: Path) -> None:
    path = str(tmp_path / "keys.db")
    async with opened(path) as one, opened(path) as other:
        rings = await asyncio.gather(*(ring(storage, "ES256") for storage in (one, other) * 2))
        assert len(await stored_keys(one)) == 1
        tokens = [keyring.sign(CLAIMS) for keyring in rings]
        assert all(keyring.read(token) == CLAIMS for keyring in rings for token in tokens)


async def test_another_algorithm_makes_another_key() -> None:
    """T9: the tokens of the former one stay good, and going back uses its key again."""
    async with opened() as storage:
        before = await ring(storage, "HS256")
        old = before.sign(CLAIMS)
        after = await ring(storage, "EdDSA")
        new = after.sign(CLAIMS)
        assert kid_of(new) != kid_of(old)
        assert after.read(old) == after.read(new) == CLAIMS
        again = await ring(storage, "HS256")
        assert kid_of(again.sign(CLAIMS)) == kid_of(old)
        assert again.read(new) == CLAIMS


async def test_a_new_key_signs_and_the_old_one_verifies(at_once: None) -> None:
    """T9: rotation with overlap, in a server that is running."""
    async with opened() as storage, following(storage, Signing("ES256")) as keyring:
        old = keyring.sign(CLAIMS)
        kid = await add_key(storage, "ES256", NOW_MS + 1)
        await until(lambda: kid_of(keyring.sign(CLAIMS)) == kid)
        assert keyring.read(old) == keyring.read(keyring.sign(CLAIMS)) == CLAIMS
        listed = [key["kid"] for key in keyring.public_keys()["keys"]]
        assert sorted(listed) == sorted([kid, str(kid_of(old))])


async def test_a_new_key_verifies_before_it_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has heard of the key first gives out no token the others would refuse."""
    monkeypatch.setattr(keyrings_module, "SETTLE_S", 3600.0)
    async with opened() as storage, following(storage, Signing("ES256")) as keyring:
        old = keyring.sign(CLAIMS)
        kid = await add_key(storage, "ES256", NOW_MS + 1)
        await until(lambda: len(keyring.public_keys()["keys"]) == 2)
        (new,) = [key for key in await read_keys(storage) if key.kid == kid]
        assert keyring.read(new.sign(b'{"_id":"ann","iat":1}')) == {"_id": "ann", "iat": 1}
        assert kid_of(keyring.sign(CLAIMS)) == kid_of(old)
        monkeypatch.setattr(keyrings_module, "SETTLE_S", 0.0)
        await add_key(storage, "HS256", NOW_MS)
        await until(lambda: kid_of(keyring.sign(CLAIMS)) == kid)


async def test_a_retired_key_verifies_nothing(at_once: None) -> None:
    """T9: from the moment its retirement is acknowledged, and after the keys were read again."""
    async with opened() as storage, following(storage, Signing("ES256")) as keyring:
        old = keyring.sign(CLAIMS)
        kid = await add_key(storage, "ES256", NOW_MS + 1)
        await until(lambda: kid_of(keyring.sign(CLAIMS)) == kid)
        await retire(storage, kid_of(old))
        assert keyring.read(old) is None
        third = await add_key(storage, "ES256", NOW_MS + 2)
        await until(lambda: kid_of(keyring.sign(CLAIMS)) == third)
        assert keyring.read(old) is None
        assert kid_of(old) not in [key["kid"] for key in keyring.public_keys()["keys"]]


async def test_a_retired_signer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retired by somebody who has other settings: this server goes on with a new key, at once."""
    monkeypatch.setattr(keyrings_module, "SETTLE_S", 3600.0)
    async with opened() as storage, following(storage, Signing("HS256")) as keyring:
        old = keyring.sign(CLAIMS)
        await retire(storage, kid_of(old))
        await until(lambda: kid_of(keyring.sign(CLAIMS)) != kid_of(old))
        assert keyring.read(old) is None
        assert keyring.read(keyring.sign(CLAIMS)) == CLAIMS


async def test_other_servers_follow(tmp_path: Path, at_once: None) -> None:
    """A key added or retired through another connection."""
    path, signing = str(tmp_path / "keys.db"), Signing("EdDSA")
    async with opened(path) as here, opened(path) as there, following(here, signing) as keyring:
        old = keyring.sign(CLAIMS)
        kid = await add_key(there, "EdDSA", NOW_MS + 1)
        await until(lambda: kid_of(keyring.sign(CLAIMS)) == kid)
        await retire(there, kid_of(old))
        await until(lambda: keyring.read(old) is None)
        assert keyring.read(keyring.sign(CLAIMS)) == CLAIMS


async def test_a_key_in_doubt_comes_back() -> None:
    """An entry about a key that is not retired after all, as a server meets it that starts late."""
    async with opened() as storage, following(storage, Signing()) as keyring:
        token = keyring.sign(CLAIMS)
        await storage.apply([JournalEvent(EventKind.SIGNING_KEYS, str(kid_of(token)))])
        assert keyring.read(token) is None
        await until(lambda: keyring.read(token) == CLAIMS)


async def test_what_changes_before_anybody_listens_is_read(at_once: None) -> None:
    async with opened() as storage:
        keyring = await ring(storage, "HS256")
        old = keyring.sign(CLAIMS)
        kid = await add_key(storage, "HS256", NOW_MS + 1)
        await retire(storage, kid_of(old))
        chore = asyncio.create_task(keyring.keep_fresh())
        await until(lambda: kid_of(keyring.sign(CLAIMS)) == kid)
        assert keyring.read(old) is None
        chore.cancel()
        await asyncio.gather(chore, return_exceptions=True)


async def test_only_key_entries_matter() -> None:
    async with opened() as storage:
        keyring = await ring(storage, "HS256")
        token = keyring.sign(CLAIMS)
        kid = str(kid_of(token))
        assert not keyring.notice(
            [Entry(1, EventKind.USER, kid), Entry(2, EventKind.SIGNING_KEYS, "new")]
        )
        assert keyring.read(token) == CLAIMS
        assert keyring.notice([Entry(3, EventKind.SIGNING_KEYS, kid)])


class Slow(SqliteStorage):
    """A store whose answer about keys can be held back, or fail."""

    def __init__(self) -> None:
        super().__init__(":memory:", clock_ms=clock_ms)
        self.held: asyncio.Event | None = None
        self.has_read = asyncio.Event()
        self.failures = 0

    async def find(self, table: Table, *, limit: int, **where: Value) -> list[Row]:
        """Read now, answer later."""
        if self.failures:
            self.failures -= 1
            raise Unavailable("locked")
        rows = await super().find(table, limit=limit, **where)
        if self.held is not None:
            self.has_read.set()
            await self.held.wait()
        return rows


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    storage = Slow()
    await storage.open()
    yield storage
    await storage.close()


async def test_what_was_read_before_a_retirement_is_not_kept(slow: Slow, at_once: None) -> None:
    async with following(slow, Signing()) as keyring:
        old = keyring.sign(CLAIMS)
        slow.held = asyncio.Event()
        kid = await add_key(slow, "HS256", NOW_MS + 1)
        await slow.has_read.wait()
        await retire(slow, kid_of(old))
        slow.held.set()
        while kid_of(keyring.sign(CLAIMS)) != kid:
            assert keyring.read(old) is None
            await asyncio.sleep(0)
        assert keyring.read(old) is None


async def test_a_store_that_fails_is_asked_again(
    slow: Slow, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the server goes on with the keys it has."""
    monkeypatch.setattr(keyrings_module, "_RETRY_S", 0.0)
    async with following(slow, Signing()) as keyring:
        await until(lambda: keyring.read(keyring.sign(CLAIMS)) == CLAIMS)
        slow.failures = 3
        kid = await add_key(slow, "HS256", NOW_MS + 1)
        await until(lambda: slow.failures == 0)
        await until(lambda: kid_of(keyring.sign(CLAIMS)) == kid)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_configured_secret_signs_and_is_not_stored(algorithm: str) -> None:
    async with opened() as storage:
        keyring = await ring(storage, algorithm, SECRET)
        token = keyring.sign(CLAIMS)
        assert await stored_keys(storage) == []
        settings = await storage.find(Table.SETTINGS, limit=10)
        assert SECRET not in repr(settings)
        again = await ring(storage, algorithm, SECRET)
        assert again.read(token) == CLAIMS
        assert kid_of(again.sign(CLAIMS)) == kid_of(token)
        assert (await ring(storage, algorithm, OTHER_SECRET)).read(token) is None
        assert (await ring(storage, algorithm)).read(token) is None
        assert keyring.public_keys() == {"keys": []}


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_secret_does_not_go_with_key_pairs(algorithm: str) -> None:
    """T8: refused before anything is written."""
    async with opened() as storage:
        with pytest.raises(LocalError, match="security.authToken.algorithm"):
            await ring(storage, algorithm, SECRET)
        assert await stored_keys(storage) == []
        assert await storage.count(Table.SETTINGS) == 0


async def fill(storage: SqliteStorage) -> None:
    """Store a session and an API key."""
    session: Row = {
        "token_hash": b"s",
        "id": "s",
        "kuid": "ann",
        "created_at": NOW_MS,
        "expires_at": NOW_MS + HOUR_MS,
        "ttl": HOUR_MS,
        "single_use": 0,
        "refreshed_at": None,
        "family": "s",
        "started_at": NOW_MS,
        "used_at": NOW_MS,
        "data": {},
    }
    key: Row = {
        "id": "k",
        "token_hash": b"k",
        "kuid": "ann",
        "description": "",
        "expires_at": None,
        "ttl": -1,
        "info": {},
    }
    await storage.apply([Insert(Table.SESSIONS, session), Insert(Table.API_KEYS, key)])


CHANGES = [
    (("HS256", SECRET), ("HS256", SECRET), 1),
    (("HS256", SECRET), ("HS256", OTHER_SECRET), 0),
    (("HS512", SECRET), ("HS256", SECRET), 0),
    (("HS256", SECRET), ("HS256", None), 0),
    (("HS256", SECRET), ("ES256", None), 0),
    (("HS256", None), ("HS256", SECRET), 1),
    (("HS256", None), ("ES256", None), 1),
]


@pytest.mark.parametrize(("before", "after", "sessions"), CHANGES)
async def test_a_changed_secret_ends_all_sessions(
    before: tuple[str, str | None], after: tuple[str, str | None], sessions: int
) -> None:
    """T9, docs/api/auth.md#signing-keys: once, at the start that follows; API keys are kept."""
    noted: list[Entry] = []
    async with opened() as storage:
        storage.follow(noted.extend)
        token = (await ring(storage, *before)).sign(CLAIMS)
        await fill(storage)
        noted.clear()
        keyring = await ring(storage, *after)
        assert (keyring.read(token) == CLAIMS) == (sessions == 1)
        assert await storage.count(Table.SESSIONS) == sessions
        assert await storage.count(Table.API_KEYS) == 1
        # The other servers on this store are told, by the name of the key whose tokens have ended.
        told = kid_of(token) in [entry.subject for entry in noted]
        assert told == (sessions == 0)
        noted.clear()
        await ring(storage, *after)
        assert not noted


async def test_stored_keys_stay_good_beside_a_configured_secret(at_once: None) -> None:
    """A server that begins to use a secret refuses no token until the stored key is retired."""
    async with opened() as storage:
        token = (await ring(storage, "HS256")).sign(CLAIMS)
        async with following(storage, Signing("HS256", SECRET)) as keyring:
            assert keyring.read(token) == CLAIMS
            assert kid_of(keyring.sign(CLAIMS)) != kid_of(token)
            await retire(storage, kid_of(token))
            assert keyring.read(token) is None
            assert keyring.read(keyring.sign(CLAIMS)) == CLAIMS


async def test_a_damaged_key_refuses_to_start() -> None:
    row: Row = {
        "kid": "k9",
        "algorithm": "ES256",
        "secret": "no key",
        "created_at": 0,
        "retired_at": None,
    }
    async with opened() as storage:
        await storage.apply([Insert(Table.SIGNING_KEYS, row)])
        with pytest.raises(LocalError, match="k9"):
            await ring(storage, "HS256")
