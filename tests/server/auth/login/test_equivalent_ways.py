"""Ways around what a login asks for: by steps of others, by pages of others, by who may say whose
credentials are (security checks A13, A15, O1, O6)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.auth.strategies.base import Prepared
from server.core.ids import MOST_ID_BYTES
from server.storage.base import Change, Insert, InsertAll, Put, Unchanged, Update
from server.storage.rows import Row, Table
from tests.server.auth.audit.test_notifier import notifying
from tests.server.auth.strategies.magic.test_strategy import settings_of
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.issuer import Issuer, issuing, settings_for
from tests.support.login_steps import Client, state_of
from tests.support.server import PASSWORD, TRANSPORTS, cheap_config, running
from tests.support.totp import App, Person, mfa_config, people

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
FORBIDDEN = {"id": "api.assert.forbidden_argument", "status": 400}
RESTRICTED = "security:createRestrictedUser"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A provider."""
    with issuing() as started:
        yield started


@pytest.mark.parametrize("has_begun", [False, True])
async def test_whoever_enrols_ends_what_others_have_begun(clock: Clock, has_begun: bool) -> None:
    """A13: who knows the password, and began to enrol before the user did, has come too late, with
    another factor, too."""
    config = mfa_config(required_for={"users": ["ann"]}, factors=("totp", "codes"))
    strategies = {"totp": {"use": "totp"}, "codes": {"use": "totp"}}
    async with running(replace(config, strategies=strategies)) as server:
        admin = await server.create_admin()
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "ann", "password": PASSWORD}},
        }
        await server.call("query", "security:createUser", token=admin, body=body, _id="ann")
        attacker, ann = Person(server, "query"), Person(server, "query")
        early, app = await attacker.first(), None
        if has_begun:
            early = await attacker.login("codes", state=state_of(early))
            app = App(early["result"]["challenge"]["uri"], clock)
        asked = await ann.login("totp", state=state_of(await ann.first()))
        his = App(asked["result"]["challenge"]["uri"], clock)
        done = await ann.login("totp", state=state_of(asked), code=his.code())
        assert done["status"] == 200
        before = await server.app.services.storage.count(Table.SESSIONS)
        late = await attacker.login(
            "codes", state=state_of(early), code=app.code() if app else "000000"
        )
        assert told(late) == REFUSED
        storage = server.app.services.storage
        assert await storage.count(Table.SESSIONS) == before
        assert not await storage.exists(Table.CREDENTIALS, strategy="codes")


async def test_a_cookie_is_for_the_browser_that_began(clock: Clock) -> None:
    """O1: a step that any client may take puts no session into the cookies of a browser that a page
    of another origin has take it."""
    async with running(mfa_config(portable=True)) as server:
        _, token = await people(server)
        app, _ = await Person(server, "websocket").enrol(token, clock)
        http = await server.connect()
        body = {"username": "ann", "password": PASSWORD}
        first = await http.ask("POST", "/_login/local?cookieAuth=true", body)
        state = first.json["result"]["state"]
        page = {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}
        path = f"/_login/totp?state={state}&code={app.next_code()}"
        answer = await http.ask("GET", path, headers=page)
        assert "set-cookie" not in answer.headers
        assert told(answer.json) == REFUSED
        portable = (await http.ask("POST", "/_login/local", body)).json["result"]["state"]
        wishing = path.replace(state, portable) + "&cookieAuth=true"
        answer = await http.ask("GET", wishing, headers=page)
        assert "set-cookie" not in answer.headers
        assert answer.json["error"]["id"] == "api.process.unauthorized_origin"
        browser = {"Cookie": first.headers["set-cookie"].partition(";")[0]}
        done = await http.ask("GET", path, headers=browser)
        assert done.headers["set-cookie"].startswith("authToken=")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_registers_himself_proves_what_is_his(
    issuer: Issuer, transport: str, clock: Clock
) -> None:
    """O6: where anybody may register, nobody takes the account that somebody else will come with
    for the first time. Those with a right of their own are believed."""
    config = cheap_config(strategies={"site": settings_for(issuer)})
    async with running(config) as server:
        admin = await server.create_admin()
        rights = {
            "controllers": {
                "auth": {"actions": {"login": True}},
                "security": {"actions": {"createRestrictedUser": True}},
            }
        }
        role = {"_id": "anonymous", "body": rights}
        await server.call("query", "security:updateRole", token=admin, **role)
        credentials = {"local": {"username": "eve", "password": PASSWORD}, "site": {"sub": "ann"}}
        body = {"credentials": credentials}
        storage = server.app.services.storage
        before = await storage.count(Table.USERS)
        answer = await server.call(transport, RESTRICTED, body=body)
        assert told(answer, "id", "status") == FORBIDDEN
        assert "body.credentials.site" in answer["error"]["message"]
        assert await storage.count(Table.USERS) == before
        assert not await storage.exists(Table.CREDENTIALS, strategy="site")
        local = {"credentials": {"local": credentials["local"]}}
        assert (await server.call(transport, RESTRICTED, body=local))["status"] == 200
        credentials["local"]["username"] = "ann"
        made = await server.call(transport, RESTRICTED, token=admin, body=body)
        assert made["status"] == 200, made


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_names_that_are_too_long(tmp_path: Path, clock: Clock, transport: str) -> None:
    """Nobody has them: they are answered as others are, and little is kept of them."""
    config = cheap_config(strategies={"mail": settings_of(tmp_path)})
    async with running(notifying(tmp_path, config)) as server:
        name = "a" * (8000 if transport == "http" else 20_000)
        client, statuses = Client(server, transport), set()
        state = state_of(await client.login("mail", address=name))
        assert told(await client.login("mail", state=state, code="000000")) == REFUSED
        while 429 not in statuses:
            statuses.add((await client.login("local", username=name, password="x"))["status"])
        assert statuses == {401, 429}
        told_of = server.app.services.notifier._told
        assert told_of
        assert max(len(suspect) for _, _, suspect in told_of) <= MOST_ID_BYTES


def test_what_is_prepared_shows_nothing() -> None:
    """X2: in a traceback of somebody's debugger, say."""
    row: Row = {"id": "sekret"}
    changes: list[Change] = [
        Insert(Table.CREDENTIALS, row),
        InsertAll(Table.CREDENTIALS, [("sekret",)]),
        Put(Table.SETTINGS, row),
        Update(Table.SETTINGS, {}, row),
        Unchanged(Table.ONE_TIME, row),
    ]
    said = repr([Prepared({"recoveryCodes": ["sekret"]}, changes), *changes])
    assert "sekret" not in said
    assert said.count("Table.CREDENTIALS") == 2
