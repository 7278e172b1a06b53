"""Emails with codes that a program has put into a folder, and servers that send them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.server import Running, cheap_config, running
from tests.support.waiting import until

ANN = "ann@mail.test"
# Keeps each letter in a file of its own, whole or not at all.
SCRIPT = 'cat > "$0/$$.part" && mv "$0/$$.part" "$0/$$.json"'


def settings_of(folder: Path, **more: object) -> dict[str, object]:
    """Give the table of a strategy whose letters end up in a folder."""
    return {"use": "magic", "command": ["/bin/sh", "-c", SCRIPT, str(folder)], **more}


class Post:
    """The letters that have arrived."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: set[Path] = set()

    def waiting(self) -> list[Path]:
        """Give those nobody has read."""
        return [path for path in self.folder.glob("*.json") if path not in self.read]

    async def letter(self, to: str = ANN, purpose: str = "login") -> dict[str, str]:
        """Wait for the next letter."""
        await until(lambda: bool(self.waiting()))
        (path,) = self.waiting()
        self.read.add(path)
        letter: dict[str, str] = json.loads(path.read_text())
        assert letter.keys() - {"link"} == {"to", "code", "purpose", "minutes"}
        assert (letter["to"], letter["purpose"], letter["minutes"]) == (to, purpose, 10)
        return letter

    async def code(self, to: str = ANN, purpose: str = "login") -> str:
        """Wait for the next letter, which has no link, and give the code in it."""
        letter = await self.letter(to, purpose)
        assert "link" not in letter
        return letter["code"]


async def assign(server: Running, admin: str, address: str, kuid: str = "admin") -> None:
    """Give somebody an address, by an administrator's word."""
    made = await server.call(
        "query",
        "security:createCredentials",
        token=admin,
        strategy="mail",
        _id=kuid,
        body={"address": address},
    )
    assert made["result"] == {"address": address, "kuid": kuid}, made


@asynccontextmanager
async def posting(post: Post, **more: object) -> AsyncIterator[Running]:
    """Run a server with such a strategy, an administrator, and Ann with an address."""
    async with running(
        cheap_config(strategies={"mail": settings_of(post.folder, **more)})
    ) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        await assign(server, admin, ANN, "ann")
        yield server
