"""One user, many keys: whichever he shows, he is himself, until he takes it away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from server.config.model import Config
from tests.interop.mocked import agree, mocking
from tests.interop.programs import do_without
from tests.support.authenticator import Authenticator
from tests.support.client_certificates import ANN, House
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.passkeys import CREATE, DELETE, TABLE, Page
from tests.support.posted_messages import ANN as ADDRESS
from tests.support.posted_messages import Post, settings_of
from tests.support.providers.ldap import SECRET, Slapd, slapd
from tests.support.providers.oidc import REFUSED, location_of
from tests.support.server import PASSWORD, TRANSPORTS, Envelope, Running, running
from tests.support.totp import Person

pytestmark = pytest.mark.usefixtures("hurry")
LOGIN = "auth:login"
LAST = {"message": "these are the last credentials: add others before removing them", "status": 412}


@dataclass
class Key:
    """Something to log in with by sending `body`, which links it, too; `asserted` is what an
    administrator knows it by, None where he can't."""

    name: str
    body: dict[str, object] | None = None
    asserted: dict[str, object] | None = None

    async def link(self, page: Page) -> Envelope:
        """Give it to who is logged in."""
        return await page.ask(CREATE, self.body or {}, strategy=self.name)

    async def log_in(self, page: Page) -> Envelope:
        """Show it."""
        return await page.ask(LOGIN, self.body, strategy=self.name)

    async def check_is_nobodys(self, page: Page) -> None:
        """See that it lets in nobody."""
        assert told(await self.log_in(page)) == REFUSED


class Account(Key):
    """One whose new owner becomes a user of his own."""

    async def check_is_nobodys(self, page: Page) -> None:
        answer = await self.log_in(page)
        assert answer["status"] == 200, answer
        assert answer["result"]["_id"] != "ann"


class Site(Account):
    """An account with the provider."""

    async def link(self, page: Page) -> Envelope:
        return await self._go_there(page, CREATE)

    async def log_in(self, page: Page) -> Envelope:
        return await self._go_there(page, LOGIN)

    async def _go_there(self, page: Page, action: str) -> Envelope:
        location = location_of(await page.ask(action, {}, strategy=self.name))
        back = urlsplit(await asyncio.to_thread(agree, location))
        given = dict(parse_qsl(back.query))
        if page.transport != "http":
            return await page.ask(action, given, strategy=self.name)
        page.token = None  # a browser that is sent back knows of none
        return await page.ask(LOGIN, strategy=self.name, **given)


@dataclass
class Phone(Key):
    """A passkey."""

    key: Authenticator = field(default_factory=Authenticator)

    async def link(self, page: Page) -> Envelope:
        return await page.register(self.key)

    async def log_in(self, page: Page) -> Envelope:
        return await page.log_in(self.key)


@dataclass
class Mail(Key):
    """An address that codes are sent to."""

    post: Post = field(kw_only=True)

    async def link(self, page: Page) -> Envelope:
        return await self._answer(page, CREATE, await super().link(page), "proof")

    async def log_in(self, page: Page) -> Envelope:
        return await self._answer(page, LOGIN, await super().log_in(page), "login")

    async def check_is_nobodys(self, page: Page) -> None:
        asked = await super().log_in(page)
        body = {"state": asked["result"]["state"], "code": "000000"}
        assert told(await page.ask(LOGIN, body, strategy=self.name)) == REFUSED
        assert self.post.waiting() == []

    async def _answer(self, page: Page, action: str, asked: Envelope, purpose: str) -> Envelope:
        code = await self.post.code(ADDRESS, purpose)
        body = {"state": asked["result"]["state"], "code": code}
        return await page.ask(action, body, strategy=self.name)


@pytest.fixture(scope="module")
def staff(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A directory with Ann."""
    with slapd(tmp_path_factory.mktemp("slapd")) as started:
        started.add_person("ann")
        yield started


@dataclass
class Directories:
    """Those this machine has: tables of their strategies, keys for them, and why others lack."""

    tables: dict[str, object] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


@pytest.fixture
def directories(request: pytest.FixtureRequest) -> Directories:
    """OpenLDAP as `staff`, Active Directory as `domain`; with MANYKEYS_REQUIRE_INTEROP=1 both."""
    found = Directories()
    for name, username in (("staff", "ann"), ("domain", "CORP\\ann")):
        try:
            found.tables[name] = request.getfixturevalue(name).settings()
        except pytest.skip.Exception as reason:
            found.lacking.append(f"{name}: {reason}")
        else:
            body: dict[str, object] = {"username": username, "password": SECRET}
            found.keys.append(Account(name, body, {"username": username}))
    return found


def config_of(house: House, provider: str, directories: Directories, post: Post) -> Config:
    """Give the configuration of one server with TLS and all strategies."""
    site = {
        "use": "oauth",
        "backend": "oidc",
        "key": "manykeys",
        "secret": "the secret",
        "callbackUrl": "https://login.test/_login/site",
        "settings": {"OIDC_ENDPOINT": provider},
    }
    config = house.config()
    mail, totp = settings_of(post.folder, mostCodes=100), {"use": "totp"}
    tables = {"site": site, "passkey": TABLE, "mail": mail, "totp": totp, **directories.tables}
    return replace(config, strategies={**config.strategies, **tables})


@dataclass
class Ann:
    """Who will have all those keys; her computer shows the certificate when it is to."""

    server: Running
    with_certificate: Running
    admin: str
    keys: list[Key]
    token: str = ""

    async def link_all(self, transport: str) -> None:
        """Begin with a password, and add the other keys."""
        self.token = await self.server.create_user(self.admin, "ann")
        for key in self.keys[1:]:
            linked = await key.link(self.page(transport, key, logged_in=True))
            assert linked["status"] == 200, (key.name, linked)

    def page(self, transport: str, key: Key, *, logged_in: bool = False) -> Page:
        """Open a page to use a key with."""
        server = self.with_certificate if key.name == "card" else self.server
        return Page(server, transport, self.token if logged_in else None)

    async def check_leads_here(self, key: Key) -> None:
        """Log in with a key over each transport."""
        for transport in TRANSPORTS:
            answer = await key.log_in(self.page(transport, key))
            assert answer["status"] == 200, (key.name, transport, answer)
            assert answer["result"]["_id"] == "ann", (key.name, transport)

    async def strategies(self, transport: str) -> set[str]:
        """Give what is shown of the keys."""
        me = await self.server.call(transport, "auth:getCurrentUser", token=self.token)
        assert me["result"]["_id"] == "ann"
        return set(me["result"]["strategies"])

    async def unlink(self, transport: str, key: Key) -> Envelope:
        """Take a key away."""
        page = self.page(transport, key, logged_in=True)
        return await page.ask(DELETE, strategy=key.name)


@asynccontextmanager
async def serving_ann(folder: Path, directories: Directories) -> AsyncIterator[Ann]:
    """Run the server, which does not know her yet."""
    house, post = House(folder), Post(folder / "post")
    post.folder.mkdir()
    password: dict[str, object] = {"username": "ann", "password": PASSWORD}
    keys = [
        Key("local", password, password),
        Site("site", {}, {"sub": "ann"}),
        *directories.keys,
        Key("card", {}, {"identifier": ANN.fingerprint}),
        Phone("passkey"),
        Mail("mail", {"address": ADDRESS}, {"address": ADDRESS}, post=post),
    ]
    with mocking() as provider:
        async with running(config_of(house, provider, directories, post)) as server:
            server.tls = house.context()
            admin = await server.create_admin()
            # She is faster here than anybody.
            no_limit = {"body": {"rateLimit": 0}, "_id": "default"}
            await server.call("query", "security:updateProfile", token=admin, **no_limit)
            yield Ann(server, replace(server, tls=house.context(ANN), sockets=[]), admin, keys)
    if directories.lacking:
        do_without("all went well, but without " + "; ".join(directories.lacking))


@pytest.mark.parametrize(
    ("transport", "last"), [("http", "local"), ("query", "card"), ("websocket", "passkey")]
)
async def test_one_user(
    tmp_path: Path, directories: Directories, transport: str, last: str
) -> None:
    """A15: she links each herself, proves it where that can be proved, and is the same
    user with each over all transports; one after the other is taken away, but not the last."""
    async with serving_ann(tmp_path, directories) as ann:
        await ann.link_all(transport)
        for key in ann.keys:
            await ann.check_leads_here(key)
        left = {key.name for key in ann.keys}
        assert await ann.strategies(transport) == left
        for key in sorted(ann.keys, key=lambda one: one.name == last):
            answer = await ann.unlink(transport, key)
            if key.name == last:
                assert told(answer, *LAST) == LAST
                await ann.check_leads_here(key)
            else:
                assert answer["status"] == 200, answer
                left.remove(key.name)
                await key.check_is_nobodys(ann.page(transport, key))
            assert await ann.strategies(transport) == left
        assert left == {last}


async def test_one_stays_whoever_is_faster(tmp_path: Path, directories: Directories) -> None:
    """A15: all are taken away in the same moment."""
    async with serving_ann(tmp_path, directories) as ann:
        await ann.link_all("query")
        answers = await asyncio.gather(*(ann.unlink("query", key) for key in ann.keys))
        refused = [
            (key, answer) for key, answer in zip(ann.keys, answers, strict=True) if answer["error"]
        ]
        ((kept, answer),) = refused
        assert told(answer, *LAST) == LAST
        assert await ann.strategies("query") == {kept.name}
        await ann.check_leads_here(kept)


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_an_administrator_gives_them(
    tmp_path: Path, directories: Directories, transport: str
) -> None:
    """What he knows of somebody becomes a user with all those keys in one request."""
    async with serving_ann(tmp_path, directories) as ann:
        given = {key.name: key.asserted for key in ann.keys if key.asserted}
        body = {"content": {"profileIds": ["default"]}, "credentials": given}
        made = await ann.server.call(
            transport, "security:createUser", token=ann.admin, body=body, _id="ann"
        )
        assert made["status"] == 200, made
        ann.token = await ann.server.login("ann")
        assert await ann.strategies(transport) == set(given)
        for key in ann.keys:
            if key.name in given:
                await ann.check_leads_here(key)


async def test_a_second_factor_after_each(
    tmp_path: Path, directories: Directories, clock: Clock
) -> None:
    """A11: none of them is enough then, and with the code it is her."""
    async with serving_ann(tmp_path, directories) as ann:
        await ann.link_all("websocket")
        app, _ = await Person(ann.server, "query").enrol(ann.token, clock)
        for key in ann.keys:
            for transport in TRANSPORTS:
                page = ann.page(transport, key)
                asked = await key.log_in(page)
                assert asked["status"] == 200, (key.name, transport, asked)
                assert "jwt" not in asked["result"], (key.name, transport)
                assert asked["result"]["challenge"]["factors"] == ["totp"]
                body = {"state": asked["result"]["state"], "code": app.next_code()}
                answer = await page.ask(LOGIN, body, strategy="totp")
                assert answer["status"] == 200, (key.name, transport, answer)
                assert answer["result"]["_id"] == "ann"
