"""Codes and links for one login, delivered by a program of the operator's (security checks A3,
A4, O1)."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from server.auth.strategies.magic import messages as magicletters
from server.auth.strategies.magic import strategy as magic
from server.storage.rows import Table
from tests.server.auth.audit.test_events import ends, events
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import Client, state_of
from tests.support.posted_messages import ANN, Post, assign, posting, settings_of
from tests.support.server import TRANSPORTS, Running, cheap_config, running
from tests.support.totp import UPDATE, Person
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("hurry")
REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
TOO_MANY = {"id": "api.process.too_many_logins_requests", "code": 33685517, "status": 429}
PAGE = "https://app.test/in?from=mail"


@pytest.fixture
async def server(post: Post, clock: Clock) -> AsyncIterator[Running]:
    """A server with such a strategy, and Ann with an address."""
    async with posting(post) as started:
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_code_lets_in_once(server: Running, post: Post, transport: str) -> None:
    """From who asked for it, one time."""
    client = Client(server, transport)
    asked = await client.login("mail", address=ANN)
    assert asked["result"]["challenge"] == {"next": "code"}
    code = await post.code()
    assert len(code) == 6
    assert code.isdecimal()
    state = state_of(asked)
    foreign = await Client(server, transport).login("mail", state=state, code=code)
    assert told(foreign) == REFUSED
    login = await client.login("mail", state=state, code=code)
    assert login["result"]["_id"] == "ann"
    assert told(await client.login("mail", state=state, code=code)) == REFUSED


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_wrong_code_is_the_last(server: Running, post: Post, transport: str) -> None:
    """Nobody tries one after the other."""
    client = Client(server, transport)
    state = state_of(await client.login("mail", address=ANN))
    code = await post.code()
    wrong = str((int(code) + 1) % 1_000_000).zfill(6)
    for given in (wrong, code):
        assert told(await client.login("mail", state=state, code=given)) == REFUSED


async def test_the_trail_knows_why(server: Running, post: Post, clock: Clock) -> None:
    """X1: the reason, and of whom it is known; the code is in none of it."""
    client, other = Client(server, "query"), Client(server, "query")
    state = state_of(await client.login("mail", address=ANN))
    code = await post.code()
    await other.login("mail", state=state, code=code)
    await client.login("mail", state=state, code="1")
    await client.login("mail", state=state, code=code)
    unknown = state_of(await client.login("mail", address="nobody@mail.test"))
    await client.login("mail", state=unknown, code="1")
    late = state_of(await client.login("mail", address="nobody@mail.test"))
    clock.now_ms += 600_000
    await client.login("mail", state=late, code="1")
    found = await events(server, await server.login("admin"), kind="auth:login")
    asked = [one for one in ends(found) if one[0] == "pending"]
    assert asked == [("pending", "", "ann", "-1"), ("pending", "", "", "-1")]
    refused = [one for one in ends(found) if one[0] == "refused"]
    assert refused == [
        ("refused", "foreign state", "", "-1"),
        ("refused", "wrong code", "ann", "-1"),
        ("refused", "unknown state", "", "-1"),
        ("refused", "unknown address", "", "-1"),
        ("refused", "expired state", "", "-1"),
    ]
    assert code not in repr(found) and "nobody" not in repr(found)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "\u0661\u0662\u0663\u0664\u0665\u0666"])
async def test_what_is_no_code_is_a_wrong_one(server: Running, post: Post, code: str) -> None:
    client = Client(server, "query")
    state = state_of(await client.login("mail", address=ANN))
    await post.code()
    assert told(await client.login("mail", state=state, code=code)) == REFUSED


async def test_a_code_has_its_time(server: Running, post: Post, clock: Clock) -> None:
    """`timeouts.login`."""
    client = Client(server, "http")
    state = state_of(await client.login("mail", address=ANN))
    code = await post.code()
    clock.now_ms += 600_000
    assert told(await client.login("mail", state=state, code=code)) == REFUSED


async def test_a_code_is_for_its_own_login(server: Running, post: Post) -> None:
    """Two logins at once of one browser do not mix."""
    client = Client(server, "http")
    first = state_of(await client.login("mail", address=ANN))
    await post.code()
    second = state_of(await client.login("mail", address=ANN))
    code = await post.code()
    assert first != second
    assert told(await client.login("mail", state=first, code=code)) == REFUSED
    assert (await client.login("mail", state=second, code=code))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_strangers_learn_nothing(
    server: Running, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: an unknown address, a disabled user, somebody's other key: all are asked for a code, and
    none is sent."""
    sent: list[str] = []
    monkeypatch.setattr(magic.Magic, "_send", lambda self, letter: sent.append(letter.to))
    admin = await server.login("admin")
    await assign(server, admin, "boss@mail.test")
    await server.call("query", "security:disableUser", token=admin, _id="ann")
    for address in ("boss@mail.test", ANN, "ann", "nobody@mail.test", "x" * 2000, "a\0"):
        client = Client(server, transport)
        asked = await client.login("mail", address=address)
        assert asked["status"] == 200, asked
        assert asked["result"].keys() == {"challenge", "expiresAt", "state"}
        assert asked["result"]["challenge"] == {"next": "code"}
        guess = await client.login("mail", state=state_of(asked), code="no code")
        assert (told(guess), guess["error"]["message"]) == (REFUSED, "wrong user or password")
    assert sent == ["boss@mail.test"]


@pytest.mark.parametrize("address", [ANN, "nobody@mail.test"])
async def test_only_so_many_codes(server: Running, address: str, clock: Clock) -> None:
    """A4: nobody's mailbox is flooded; who has none is slowed down alike, and not for good."""
    answers = [await Client(server, "http").login("mail", address=address) for _ in range(6)]
    assert [answer["status"] for answer in answers] == [200] * 5 + [429]
    assert told(answers[-1]) == TOO_MANY
    clock.now_ms += 3_600_000
    assert (await Client(server, "http").login("mail", address=address))["status"] == 200


async def test_wrong_codes_count(post: Post) -> None:
    """A4: guesses are counted by address, from whatever browser."""
    config = cheap_config(strategies={"mail": settings_of(post.folder, mostCodes=100)})
    limits = replace(config.limits, failed_logins=3)
    async with running(replace(config, limits=limits)) as server:
        for _ in range(3):
            client = Client(server, "http")
            state = state_of(await client.login("mail", address=ANN))
            assert told(await client.login("mail", state=state, code="1")) == REFUSED
        assert told(await Client(server, "http").login("mail", address=ANN)) == TOO_MANY


@pytest.mark.parametrize("args", [{}, {"address": ""}, {"address": 7}, {"address": ["a"]}])
async def test_an_address_is_required(server: Running, args: dict[str, object]) -> None:
    answer = await Client(server, "query").login("mail", **args)
    assert (told(answer), answer["error"]["message"]) == (REFUSED, "address is required")


async def test_an_address_that_changes_hands(server: Running, post: Post) -> None:
    """Who has it when the code comes back is who logs in; who gave it away does not."""
    client = Client(server, "http")
    state = state_of(await client.login("mail", address=ANN))
    code = await post.code()
    token, person = await server.login("ann"), Person(server, "query")
    asked = await person.ask(UPDATE, token, strategy="mail", body={"address": "new@mail.test"})
    body = {"state": state_of(asked), "code": await post.code("new@mail.test", "proof")}
    changed = await person.ask(UPDATE, token, strategy="mail", body=body)
    assert changed["result"] == {"address": "new@mail.test", "kuid": "ann"}
    shown = await server.call("query", "auth:getMyCredentials", token=token, strategy="mail")
    assert shown["result"] == {"address": "new@mail.test", "kuid": "ann"}
    assert told(await client.login("mail", state=state, code=code)) == REFUSED


async def test_a_code_is_for_who_had_the_address(server: Running, post: Post) -> None:
    """What was sent to one user lets in no other, whom an administrator has given the address."""
    admin, client = await server.login("admin"), Client(server, "http")
    state = state_of(await client.login("mail", address=ANN))
    code = await post.code()
    gone = {"token": admin, "strategy": "mail", "_id": "ann"}
    await server.call("query", "security:deleteCredentials", **gone)
    await assign(server, admin, ANN)
    assert told(await client.login("mail", state=state, code=code)) == REFUSED


async def test_the_store_holds_no_code(server: Running, post: Post) -> None:
    """T11: and nothing to try codes on."""
    state = state_of(await Client(server, "http").login("mail", address=ANN))
    code = await post.code()
    (row,) = await server.app.services.storage.find(Table.ONE_TIME, limit=9)
    assert state not in repr(row)
    assert not {state, code} & {row["data"]["kept"]["address"], *row["data"]["kept"]["proofs"]}  # type: ignore[index]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/no/such/program"], "delivery failed: FileNotFoundError"),
        (["/bin/sh", "-c", "exit 3"], "delivery failed: the command exited with status 3"),
        (["/bin/sh", "-c", "exec sleep 60"], "delivery failed: TimeoutError"),
    ],
)
async def test_a_program_that_fails(
    caplog: pytest.LogCaptureFixture, command: list[str], said: str
) -> None:
    """The operator is told, the client is not; the next one is tried as before."""
    table = {"use": "magic", "command": command, "timeout": 100}
    async with running(cheap_config(strategies={"mail": table})) as server:
        await assign(server, await server.create_admin(), ANN)
        for times in (1, 2):
            asked = await Client(server, "http").login("mail", address=ANN)
            assert asked["status"] == 200
            await until(lambda times=times: caplog.text.count(said) == times)
    assert ANN not in caplog.text


async def test_a_flood_does_not_pile_up(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(magicletters, "MOST_WAITING", 1)
    monkeypatch.setattr(magicletters, "_WORKERS", 0)
    config = cheap_config(strategies={"mail": settings_of(post.folder)})
    async with running(config) as server:
        await assign(server, await server.create_admin(), ANN)
        asked = [await Client(server, "http").login("mail", address=ANN) for _ in range(2)]
        assert [answer["status"] for answer in asked] == [200, 200]
        assert caplog.text.count("message dropped") == 1


# Links.


@pytest.fixture
async def linked(post: Post, clock: Clock) -> AsyncIterator[Running]:
    """A server whose letters have links, too."""
    async with posting(post, linkUrl=PAGE) as started:
        yield started


def read_link(letter: dict[str, str]) -> dict[str, str]:
    """Give what the page of a link does with it: the arguments of a login."""
    page, _, query = letter["link"].partition("&")
    assert page == PAGE
    given = dict(parse_qsl(query))
    assert given.keys() == {"state", "code"}
    assert len(base64.urlsafe_b64decode(given["code"])) >= 16
    return given


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_link_lets_in_once(linked: Running, post: Post, transport: str) -> None:
    """O1: the browser or socket that asked for it, one time; the code beside it is used up too."""
    client = Client(linked, transport)
    state = state_of(await client.login("mail", address=ANN))
    letter = await post.letter()
    given = read_link(letter)
    assert given["state"] == state
    assert told(await Client(linked, transport).login("mail", **given)) == REFUSED
    assert (await client.login("mail", **given))["result"]["_id"] == "ann"
    for code in (given["code"], letter["code"]):
        assert told(await client.login("mail", state=state, code=code)) == REFUSED


async def test_a_code_beside_a_link(linked: Running, post: Post) -> None:
    """Is as good, and ends it."""
    client = Client(linked, "query")
    state = state_of(await client.login("mail", address=ANN))
    letter = await post.letter()
    assert (await client.login("mail", state=state, code=letter["code"]))["status"] == 200
    assert told(await client.login("mail", **read_link(letter))) == REFUSED


async def test_a_link_has_its_time(linked: Running, post: Post, clock: Clock) -> None:
    client = Client(linked, "http")
    await client.login("mail", address=ANN)
    given = read_link(await post.letter())
    clock.now_ms += 600_000
    assert told(await client.login("mail", **given)) == REFUSED


async def test_a_portable_link(post: Post) -> None:
    """Whoever has the letter may come, from wherever he likes, one time."""
    async with posting(post, linkUrl=PAGE, portable=True) as server:
        await Client(server, "query").login("mail", address=ANN)
        given = read_link(await post.letter())
        assert (await Client(server, "http").login("mail", **given))["status"] == 200
        assert told(await Client(server, "http").login("mail", **given)) == REFUSED
