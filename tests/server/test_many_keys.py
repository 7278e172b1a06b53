"""One user, many keys: whichever one he comes with, he is the same, over every transport.

A key is made by a coroutine of `KEYS`, which may start what it needs, like a provider, until the
test ends.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.auth.strategies import magicletters
from server.storage.base import Table
from tests.server.clock import Clock
from tests.server.enrolling import CREATE, App, Person
from tests.server.posting import Post, settings_of
from tests.server.running import Envelope, Running, cheap_config, running
from tests.server.stepping import state_of


@dataclass
class Scene:
    """What a test is about: Ann, by her token, and the clock and folder it has."""

    folder: Path
    clock: Clock
    stack: AsyncExitStack
    server: Running | None = None
    token: str = ""


@dataclass
class Key:
    """A way to log in: `table` is its configuration, None where it needs none; `link` gives it to
    who is logged in, `login` shows it. Without `login` it is a second factor, which `answer` takes
    the answer of a first one on from."""

    name: str
    table: dict[str, object] | None
    link: Callable[[Person], Awaitable[None]]
    login: Callable[[Person], Awaitable[Envelope]] | None = None
    answer: Callable[[Person, Envelope], Awaitable[Envelope]] | None = None


async def password(scene: Scene) -> Key:
    """`local`, which Ann was made with."""

    async def link(person: Person) -> None:
        pass

    async def login(person: Person) -> Envelope:
        return await person.first("ann")

    return Key("local", None, link, login)


async def code_by_mail(scene: Scene) -> Key:
    """`magic`, by a program."""
    post = Post(scene.folder)

    async def link(person: Person) -> None:
        body: dict[str, object] = {"address": "ann@mail.test"}
        asked = await person.ask(CREATE, scene.token, strategy="mail", body=body)
        body = {"state": state_of(asked), "code": await post.code(purpose="proof")}
        linked = await person.ask(CREATE, scene.token, strategy="mail", body=body)
        assert linked["status"] == 200, linked

    async def login(person: Person) -> Envelope:
        state = state_of(await person.login("mail", address="ann@mail.test"))
        return await person.login("mail", state=state, code=await post.code())

    return Key("mail", settings_of(scene.folder), link, login)


async def application(scene: Scene) -> Key:
    """`totp`, after each of the others."""
    apps: list[App] = []

    async def link(person: Person) -> None:
        app, _ = await person.enrol(scene.token, scene.clock)
        apps.append(app)

    async def answer(person: Person, asked: Envelope) -> Envelope:
        assert "jwt" not in asked["result"]
        assert asked["result"]["challenge"]["next"] == "secondFactor"
        code = apps[-1].next_code()
        return await person.login("totp", state=state_of(asked), code=code)

    return Key("totp", {"use": "totp"}, link, answer=answer)


KEYS = (password, code_by_mail, application)


@pytest.mark.parametrize("linked_over", ["query", "websocket"])
async def test_one_user(
    linked_over: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key lets in, from any browser and any socket, whom all others let in."""
    monkeypatch.setattr(magicletters, "_LONGEST_PAUSE_S", 0)
    async with AsyncExitStack() as stack:
        scene = Scene(tmp_path, clock, stack)
        keys = [await make(scene) for make in KEYS]
        tables = {key.name: key.table for key in keys if key.table is not None}
        server = await stack.enter_async_context(running(cheap_config(strategies=tables)))
        admin = await server.create_admin()
        scene.server, scene.token = server, await server.create_user(admin, "ann")
        storage = server.app.services.storage
        users = await storage.count(Table.USERS)
        # First factors first: a second one is asked for from then on.
        for key in sorted(keys, key=lambda key: key.login is None):
            await key.link(Person(server, linked_over))
        (second,) = [key for key in keys if key.answer is not None]
        seen = []
        for key in keys:
            for transport in ("query", "websocket"):
                if key.login is None or second.answer is None:
                    continue
                person = Person(server, transport)
                login = await second.answer(person, await key.login(person))
                assert login["status"] == 200, (key.name, login)
                me = await server.call(
                    transport, "auth:getCurrentUser", token=login["result"]["jwt"]
                )
                seen.append((key.name, login["result"]["_id"], me["result"]["_id"]))
                assert set(me["result"]["strategies"]) == {key.name for key in keys}
        firsts = [key.name for key in keys if key.login is not None]
        assert seen == [(name, "ann", "ann") for name in firsts for _ in range(2)]
        assert await storage.count(Table.USERS) == users
