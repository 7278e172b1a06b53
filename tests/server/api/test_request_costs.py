"""What a request costs: questions to the store and verified signatures (docs/architecture.md, issue
3)."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.auth.sessions.keyring import Keyring
from server.storage.base import Change
from server.storage.rows import Row, Table, Value
from server.storage.sqlite.storage import SqliteStorage
from server.storage.tables import SHAPES
from tests.support.server import TRANSPORTS, Running, running


@dataclass
class Costs:
    """What was asked since the last look."""

    asked: list[str] = field(default_factory=list)
    verified: int = 0

    def take(self) -> tuple[list[str], int]:
        """Give what was asked and how many signatures were verified, and begin anew."""
        taken = self.asked, self.verified
        self.asked, self.verified = [], 0
        return taken


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    """Count what servers ask from now on."""
    counted = Costs()

    class Counting(SqliteStorage):
        async def get(self, table: Table, **key: Value) -> Row | None:
            counted.asked.append(f"get {table.value} by {', '.join(key)}")
            return await super().get(table, **key)

        async def find(self, table: Table, *, limit: int, **where: Value) -> list[Row]:
            counted.asked.append(f"find {table.value}")
            return await super().find(table, limit=limit, **where)

        async def exists(self, table: Table, **where: Value) -> bool:
            counted.asked.append(f"exists {table.value}")
            return await super().exists(table, **where)

        async def apply(self, changes: Iterable[Change]) -> None:
            counted.asked.append("apply")
            await super().apply(changes)

    read = Keyring.read

    def counting_read(self: Keyring, token: str) -> dict[str, object] | None:
        counted.verified += 1
        return read(self, token)

    monkeypatch.setattr("server.app.application.SqliteStorage", Counting)
    monkeypatch.setattr(Keyring, "read", counting_read)
    return counted


@pytest.fixture
async def server(costs: Costs, tmp_path: Path) -> AsyncIterator[Running]:
    """Give a server on a file, whose questions are counted."""
    async with running(data=str(tmp_path / "manykeys.db")) as server:
        yield server


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_live_token_costs_nothing(server: Running, costs: Costs, transport: str) -> None:
    """docs/architecture.md: no signature, no SQL, not even for an action whose answer is not
    kept."""
    token = await server.create_admin()
    await server.call(transport, "auth:getCurrentUser", token=token)
    costs.take()
    for action in ("auth:getCurrentUser", "server:now", "auth:getStrategies"):
        answer = await server.call(transport, action, token=token)
        assert answer["status"] == 200
    assert costs.take() == ([], 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_unknown_token_costs_one_look_up(
    server: Running, costs: Costs, transport: str
) -> None:
    """One row by its key and one signature, then the token is live; its user is known."""
    first = await server.create_admin()
    token = await server.login("admin")
    await server.call(transport, "auth:getCurrentUser", token=first)
    costs.take()
    answer = await server.call(transport, "auth:getCurrentUser", token=token)
    assert answer["status"] == 200
    assert costs.take() == (["get sessions by token_hash"], 1)
    assert SHAPES[Table.SESSIONS].key == ("token_hash",)
    await server.call(transport, "auth:getCurrentUser", token=token)
    assert costs.take() == ([], 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_forged_token_costs_no_look_up(
    server: Running, costs: Costs, transport: str
) -> None:
    """docs/architecture.md: made-up tokens are kept away from the store."""
    token = await server.create_admin()
    await server.call(transport, "auth:getCurrentUser", token=token)
    costs.take()
    head, payload, signature = token.split(".")
    forged = f"{head}.{payload}.{signature[::-1]}"
    for wrong in (forged, "eyJhbGciOiJub25lIn0.e30.", "x"):
        answer = await server.call(transport, "auth:getCurrentUser", token=wrong)
        assert answer["status"] == 401
    asked, verified = costs.take()
    assert asked == []
    assert verified <= 2  # what has not even the form of a token is not verified


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_user_is_read_once_for_all_his_tokens(
    costs: Costs, transport: str, tmp_path: Path
) -> None:
    """After a restart the first token reads its user and his rights, the others do not."""
    data = str(tmp_path / "manykeys.db")
    async with running(data=data) as server:
        tokens = [await server.create_admin(), await server.login("admin")]
    async with running(data=data) as server:
        await server.call(transport, "auth:getCurrentUser", token=tokens[0])
        costs.take()
        await server.call(transport, "auth:getCurrentUser", token=tokens[1])
        assert costs.take() == (["get sessions by token_hash"], 1)
