"""What the operator's systems are told, so that they can tell the users (security check A16)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from server.auth.audit import notifier
from server.config.model import Config, load
from server.core.config_file import ConfigError
from tests.support.clock import Clock
from tests.support.issuer import issuing, settings_for
from tests.support.login_steps import state_of
from tests.support.providers.oidc import location_of, prove_address
from tests.support.server import PASSWORD, Running, running
from tests.support.totp import CREATE, DELETE, UPDATE, App, Person, mfa_config, people
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("hurry")
RESET = "kuzzle-plugin-auth-passport-local/password"
SECRETS = (PASSWORD, "battery staple")
# Keeps each message in a file of its own, whole or not at all.
SCRIPT = 'cat > "$0/$$.part" && mv "$0/$$.part" "$0/$$.json"'


def notifying(folder: Path, config: Config | None = None, **more: object) -> Config:
    """Give a configuration whose messages end up in a folder."""
    config = config or mfa_config()
    notify = replace(config.security.notify, command=("/bin/sh", "-c", SCRIPT, str(folder)), **more)
    return replace(config, security=replace(config.security, notify=notify))


class Box:
    """The messages that have arrived."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: set[Path] = set()

    def waiting(self) -> list[Path]:
        """Give those nobody has read."""
        return [path for path in self.folder.glob("*.json") if path not in self.read]

    async def take(self, most: int = 1) -> list[dict]:
        """Wait for so many messages, and give them."""
        await until(lambda: len(self.waiting()) >= most)
        found = self.waiting()
        self.read |= set(found)
        assert len(found) == most, [path.read_text() for path in found]
        texts = [path.read_text() for path in found]
        assert not any(secret in text for secret in SECRETS for text in texts)
        return [json.loads(text) for text in texts]

    async def one(self, kind: str, **members: object) -> dict:
        """Wait for a message of this kind with these members."""
        (message,) = await self.take()
        assert message["kind"] == kind, message
        assert {name: message[name] for name in members} == members
        return message


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
async def server(box: Box, clock: Clock) -> AsyncIterator[Running]:
    async with running(notifying(box.folder)) as started:
        yield started


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_changes_of_credentials(
    server: Running, box: Box, clock: Clock, transport: str
) -> None:
    """A16: a password, a factor added, used, changed and removed, by the user or another one."""
    admin, ann = await people(server)
    person = Person(server, transport)
    about = {"user": "ann", "by": "ann", "outcome": "ok", "address": "127.0.0.1"}
    body: dict[str, object] = {"password": "battery staple"}
    await person.ask(UPDATE, ann, strategy="local", body=body)
    message = await box.one("credentialsChanged", strategy="local", action=UPDATE, **about)
    assert message.keys() == {
        *("kind", "at", "user", "strategy", "action", "outcome", "by", "address", "userAgent")
    }
    assert message["at"] == clock.now_ms
    await person.ask(UPDATE, ann, strategy="local", body={"password": PASSWORD})
    await box.one("credentialsChanged")
    app, codes = await person.enrol(ann, clock)
    added = await box.one("credentialsAdded", strategy="totp", action=CREATE, **about)
    assert not any(code in repr(added) for code in (*codes, app.totp.secret))
    state = state_of(await person.first())
    await person.login("totp", state=state, code=codes[0])
    await box.one("recoveryCodeUsed", strategy="totp", action="auth:login", **about)
    await person.ask(UPDATE, ann, strategy="totp", body={"code": app.next_code()})
    await box.one("credentialsChanged", strategy="totp")
    await person.ask(DELETE, ann, strategy="totp")
    await box.one("credentialsRemoved", strategy="totp", action=DELETE, **about)
    body = {"username": "anna"}
    await person.ask("security:updateCredentials", admin, strategy="local", _id="ann", body=body)
    await box.one("credentialsChanged", user="ann", by="admin")
    made = await person.ask(f"{RESET}:getResetPasswordToken", admin, _id="ann")
    await box.one("resetTokenMade", user="ann", by="admin")
    token = made["result"]["resetToken"]
    await person.ask(f"{RESET}:reset", body={"token": token, "password": PASSWORD}, token=admin)
    changed = await box.one("credentialsChanged", user="ann", strategy="local")
    assert token not in repr(changed)
    await person.ask("auth:createApiKey", admin, body={"description": "x"}, _id="k")
    await box.one("apiKeyAdded", user="admin")
    await person.ask("auth:deleteApiKey", admin, _id="k")
    await box.one("apiKeyRemoved", user="admin")


@pytest.mark.parametrize("by", ["linking", "address"])
@pytest.mark.parametrize("is_asked", [False, True])
async def test_credentials_that_a_provider_brings(
    box: Box, clock: Clock, by: str, is_asked: bool
) -> None:
    """A16: a linking that ends where the provider sends the browser, and one by a verified address,
    before the second factor has been given, too."""
    with issuing() as issuer:
        issuer.claims = {"sub": "1", "email": "ann@mail.test", "email_verified": True}
        site = settings_for(issuer, linkByVerifiedEmail=by == "address")
        config = mfa_config()
        mail = {"use": "magic", "command": ["true"]}
        config = replace(config, strategies={**config.strategies, "site": site, "magic": mail})
        async with running(notifying(box.folder, config)) as server:
            _, ann = await people(server)
            person = Person(server, "http")
            if is_asked:
                await Person(server, "query").enrol(ann, clock)
                await box.one("credentialsAdded", strategy="totp")
            if by == "address":
                await prove_address(server, await server.login("admin"), "ann", "ann@mail.test")
                await box.one("credentialsAdded", strategy="magic", user="ann")
                away = await person.login("site")
            else:
                away = await person.ask(CREATE, ann, strategy="site", body={})
            done = await person.login("site", **issuer.authorize(location_of(away)))
            assert done["status"] == 200, done
            await box.one("credentialsAdded", strategy="site", user="ann")
            if by == "linking":
                away = await person.ask(UPDATE, ann, strategy="site", body={})
                issuer.claims = {"sub": "2"}
                done = await person.login("site", **issuer.authorize(location_of(away)))
                assert done["status"] == 200, done
                await box.one("credentialsChanged", strategy="site", user="ann")


async def test_what_is_refused_is_no_change(server: Running, box: Box, clock: Clock) -> None:
    """Nor what has a further step; the next message is about what did happen."""
    _, ann = await people(server)
    person = Person(server, "websocket")
    await person.ask(CREATE, ann, strategy="totp", body={})
    await person.ask(CREATE, ann, strategy="local", body={"username": "x", "password": "y"})
    await person.ask(DELETE, ann, strategy="totp")
    await person.ask(UPDATE, ann, strategy="local", body={"password": PASSWORD})
    await box.one("credentialsChanged")


async def test_a_reset_that_waits_for_a_factor(server: Running, box: Box, clock: Clock) -> None:
    """The password is another one already, whoever has the second factor."""
    admin, ann = await people(server)
    person = Person(server, "query")
    await person.enrol(ann, clock)
    await box.one("credentialsAdded")
    made = await person.ask(f"{RESET}:getResetPasswordToken", admin, _id="ann")
    await box.one("resetTokenMade")
    body = {"token": made["result"]["resetToken"], "password": "battery staple"}
    assert "challenge" in (await person.ask(f"{RESET}:reset", admin, body=body))["result"]
    await box.one("credentialsChanged", user="ann", strategy="local")


async def test_an_enrolment_at_a_login(box: Box, clock: Clock) -> None:
    config = notifying(box.folder, mfa_config(required_for="*"))
    async with running(config) as server:
        body = {"credentials": {"local": {"username": "ann", "password": PASSWORD}}}
        await server.call("http", "security:createFirstAdmin", body=body, _id="ann")
        person = Person(server, "query")
        asked = await person.login("totp", state=state_of(await person.first()))
        app = App(asked["result"]["challenge"]["uri"], clock)
        await person.login("totp", state=state_of(asked), code=app.code())
        await box.one("credentialsAdded", user="ann", strategy="totp", action="auth:login")


async def test_suspicions(box: Box, clock: Clock) -> None:
    """A16: a code that was used, an account slowed down, once in ten minutes each; nothing of
    names that nobody has, which may be passwords."""
    config = notifying(box.folder)
    limits = replace(config.limits, failed_logins=2)
    async with running(replace(config, limits=limits)) as server:
        _, ann = await people(server)
        person = Person(server, "query")
        app, _ = await person.enrol(ann, clock)
        await box.one("credentialsAdded")
        for _ in range(2):
            state = state_of(await person.first())
            await person.login("totp", state=state, code=app.code())
        about = {"user": "ann", "outcome": "refused", "address": "127.0.0.1"}
        await box.one("reusedCode", strategy="totp", **about)
        for _ in range(2):
            state = state_of(await person.first())
            await person.login("totp", state=state, code=app.code())
        await box.one("throttled", strategy="totp", **about)
        for name in ("nobody", "ann", "ann"):
            for _ in range(3):
                await Person(server, "http").login("local", username=name, password="wrong")
        await box.one("throttled", strategy="local", **about)
        await person.ask(UPDATE, ann, strategy="local", body={"password": PASSWORD})
        await box.one("credentialsChanged")


async def test_it_needs_no_trail(box: Box, clock: Clock) -> None:
    config = notifying(box.folder)
    audit = replace(config.security.audit, enabled=False)
    config = replace(config, security=replace(config.security, audit=audit))
    async with running(config) as server:
        _, ann = await people(server)
        person = Person(server, "query")
        await person.ask(UPDATE, ann, strategy="local", body={"password": PASSWORD})
        await box.one("credentialsChanged", user="ann")


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[tuple[str, list[dict]]]:
    """Run a service that gives this answer; give its place and what it heard."""
    heard: list[dict] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        heard.append(json.loads(await reader.readexactly(size)))
        writer.write(answer)
        await writer.drain()
        writer.close()

    service = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{service.sockets[0].getsockname()[1]}", heard
    finally:
        service.close()


async def test_a_service_that_fails_keeps_nobody(
    box: Box, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The program is told all the same, and the log says so without the URL, which is a secret."""
    async with listening(b"HTTP/1.1 503 Busy\r\n\r\n") as (place, heard):
        config = notifying(box.folder, url=f"http://{place}/hook?key=hidden")
        assert "hidden" not in repr(config)
        async with running(config) as server:
            _, ann = await people(server)
            person = Person(server, "query")
            done = await person.ask(UPDATE, ann, strategy="local", body={"password": PASSWORD})
            assert done["status"] == 200
            (message,) = await box.take()
            await until(
                lambda: (
                    "notices: delivery failed: the webhook responded with status 503" in caplog.text
                )
            )
        assert heard == [message]
    assert "hidden" not in caplog.text


async def test_a_flood_does_not_pile_up(
    box: Box, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifier, "MOST_WAITING", 1)
    monkeypatch.setattr(notifier, "_WORKERS", 0)
    monkeypatch.setattr(notifier, "_LAST_S", 0)
    async with running(notifying(box.folder)) as server:
        _, ann = await people(server)
        person = Person(server, "query")
        for _ in range(3):
            done = await person.ask(UPDATE, ann, strategy="local", body={"password": PASSWORD})
            assert done["status"] == 200
    assert caplog.text.count("notices: delivery queue full, message dropped") == 2


async def test_what_waits_is_sent_at_the_end(box: Box, clock: Clock) -> None:
    async with running(notifying(box.folder)) as server:
        _, ann = await people(server)
        person = Person(server, "query")
        await person.ask(UPDATE, ann, strategy="local", body={"password": PASSWORD})
    assert len(box.waiting()) == 1


def test_a_url_is_checked_at_the_start() -> None:
    with pytest.raises(ConfigError, match="security.notify.url: expected https"):
        load(overrides={"security.notify.url": "http://mail.test/"})
