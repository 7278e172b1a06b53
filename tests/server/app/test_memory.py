"""Memory of the real program under floods of a stranger: default settings, nothing forced."""

import asyncio
from pathlib import Path

import pytest

from bench.loads.memory_floods import (
    FLOODS,
    MORE_BYTES,
    is_answered,
    least_resident_bytes,
    resident_bytes,
)
from tests.server.app.test_serve import serving

FLOOD_S = 1.0
ADDRESS_SPACE = 2**30
BOMBS = ("compressed, too many values", "compressed, as many values as may be")


async def test_memory_after_floods_returns_to_its_level(tmp_path: Path) -> None:
    """Security check M1: of each kind a second, one after the other on one server."""
    async with serving(tmp_path / "keys.db", "--set", "logs.requests=none") as server:
        pid, port = server.process.pid, server.port
        assert await asyncio.to_thread(is_answered, port)
        level = resident_bytes(pid)
        for name, flood in FLOODS.items():
            count, held = await asyncio.to_thread(flood, port, FLOOD_S)
            assert count > 0, name
            left = await asyncio.to_thread(least_resident_bytes, pid, level + MORE_BYTES)
            assert left <= level + MORE_BYTES, (name, left, level)
            assert await asyncio.to_thread(is_answered, port), name
            for opened in held:
                opened.close()


@pytest.mark.parametrize("name", [*BOMBS, "refused messages of 1 MiB"])
async def test_flood_with_little_address_space_is_survived(tmp_path: Path, name: str) -> None:
    """Security check M1: with 1 GiB of address space the process lives, and others are answered
    meanwhile."""
    bounded = ("prlimit", f"--as={ADDRESS_SPACE}")
    flags = ("--set", "logs.requests=none")
    async with serving(tmp_path / "keys.db", *flags, before=bounded) as server:
        flooding = asyncio.create_task(asyncio.to_thread(FLOODS[name], server.port, 2 * FLOOD_S))
        answered = 0
        while not flooding.done():
            answered += await asyncio.to_thread(is_answered, server.port)
        assert (await flooding)[0] > 0
        assert answered > 0
        assert server.process.returncode is None
        assert await asyncio.to_thread(is_answered, server.port)
