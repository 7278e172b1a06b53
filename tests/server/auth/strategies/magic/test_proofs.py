"""Addresses that somebody adds: a code that is sent there comes back first (security checks A3, A4,
O1)."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.server.auth.audit.test_events import ends, events
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import Client, state_of
from tests.support.posted_messages import ANN, Post, posting, settings_of
from tests.support.server import Running, cheap_config, running
from tests.support.totp import CREATE, DELETE, UPDATE, Person

pytestmark = pytest.mark.usefixtures("hurry")
REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
TOO_MANY = {"id": "api.process.too_many_logins_requests", "code": 33685517, "status": 429}
PAGE = "https://app.test/in?from=mail"
NEW = "new@mail.test"
WRONG = (REFUSED, "wrong code")


@pytest.fixture
async def server(post: Post, clock: Clock) -> AsyncIterator[Running]:
    """A server with such a strategy, and Ann with an address."""
    async with posting(post) as started:
        yield started


async def has(server: Running, kuid: str) -> bool:
    """Tell whether somebody has an address."""
    exists: bool = await server.app.services.strategies.get("mail").exists(kuid)
    return exists


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_an_address_is_proved(server: Running, post: Post, transport: str) -> None:
    """Nothing is linked before the code that was sent there comes back, once; then it lets in."""
    admin = await server.login("admin")
    person = Person(server, transport)
    asked = await person.ask(CREATE, admin, strategy="mail", body={"address": NEW})
    assert asked["result"].keys() == {"challenge", "expiresAt", "state"}
    assert asked["result"]["challenge"] == {"next": "code"}
    assert not await has(server, "admin")
    body = {"state": state_of(asked), "code": await post.code(NEW, "proof")}
    made = await person.ask(CREATE, admin, strategy="mail", body=body)
    assert made["result"] == {"address": NEW, "kuid": "admin"}
    state = state_of(await person.login("mail", address=NEW))
    login = await person.login("mail", state=state, code=await post.code(NEW))
    assert login["result"]["_id"] == "admin"
    assert told(await person.ask(CREATE, admin, strategy="mail", body=body)) == REFUSED
    trail = ends(await events(server, admin, kind=CREATE))
    assert trail[:2] == [("pending", "", "admin", "admin"), ("ok", "", "admin", "admin")], trail
    assert trail[2][:2] == ("refused", "unknown state")


async def test_a_proof_is_good_for_who_asked(server: Running, post: Post, clock: Clock) -> None:
    """O1: not for another browser, another user, a login, another address, another time; a wrong
    code is the last."""
    admin, ann = await server.login("admin"), await server.login("ann")
    person, other = Person(server, "query"), Person(server, "query")

    async def ask(address: str = NEW) -> dict[str, object]:
        asked = await person.ask(CREATE, admin, strategy="mail", body={"address": address})
        code = await post.code(address, "proof")
        return {"state": state_of(asked), "code": code}

    first, second = await ask(), await ask("newer@mail.test")
    assert told(await other.ask(CREATE, admin, strategy="mail", body=first)) == REFUSED
    assert told(await person.ask(CREATE, ann, strategy="mail", body=first)) == REFUSED
    for body in (first | {"code": second["code"]}, first):
        assert told(await person.ask(CREATE, admin, strategy="mail", body=body)) == REFUSED
    third = await ask()
    clock.now_ms += 600_000
    assert told(await person.ask(CREATE, admin, strategy="mail", body=third)) == REFUSED
    assert not await has(server, "admin")
    reasons = [reason for _, reason, *_ in ends(await events(server, admin, kind=CREATE))]
    wanted = ["foreign state", "another user's state", "wrong code", "unknown state"]
    assert [one for one in reasons if one] == [*wanted, "expired state"]
    # What is named in the last step does not count.
    fourth = await ask() | {"address": "else@mail.test"}
    made = await person.ask(CREATE, admin, strategy="mail", body=fourth)
    assert made["result"]["address"] == NEW


async def test_a_login_is_no_proof(server: Running, post: Post) -> None:
    """Nor the other way round, with a code of the same address and in the same browser."""
    ann, person = await server.login("ann"), Person(server, "query")
    state = state_of(await person.login("mail", address=ANN))
    body: dict[str, object] = {"state": state, "code": await post.code()}
    assert told(await person.ask(UPDATE, ann, strategy="mail", body=body)) == REFUSED
    asked = await person.ask(UPDATE, ann, strategy="mail", body={"address": ANN})
    body = {"state": state_of(asked), "code": await post.code(ANN, "proof")}
    answer = await person.login("mail", **body)
    assert "jwt" not in answer["result"]
    assert answer["result"] == {"address": ANN, "kuid": "ann"}


async def test_who_adds_an_address_learns_nothing(server: Running, post: Post) -> None:
    """A3: one that is somebody's is answered alike, and sent a code, too; who has proved that it is
    his is told that it is taken."""
    admin, person = await server.login("admin"), Person(server, "query")
    shown = []
    for address in (NEW, ANN):
        for full_name in (CREATE, "auth:validateMyCredentials"):
            body: dict[str, object] = {"address": address}
            answer = await person.ask(full_name, admin, strategy="mail", body=body)
            assert answer["status"] == 200, answer
            if full_name == CREATE:
                code, state = await post.code(address, "proof"), state_of(answer)
                answer["result"] = answer["result"] | {"state": len(state)}
            shown.append((address, answer["result"]))
    assert [result for address, result in shown if address == NEW] == [
        result for address, result in shown if address == ANN
    ]
    taken = await person.ask(CREATE, admin, strategy="mail", body={"state": state, "code": code})
    assert (taken["status"], taken["error"]["message"]) == (412, "the address is already taken")
    assert not await has(server, "admin")


async def test_one_address_for_each(server: Running, post: Post) -> None:
    """Who has one changes it, and does not add another."""
    ann, person = await server.login("ann"), Person(server, "query")
    asked = await person.ask(CREATE, ann, strategy="mail", body={"address": NEW})
    body = {"state": state_of(asked), "code": await post.code(NEW, "proof")}
    assert (await person.ask(CREATE, ann, strategy="mail", body=body))["status"] == 412
    asked = await person.ask(UPDATE, ann, strategy="mail", body={"address": NEW})
    body = {"state": state_of(asked), "code": await post.code(NEW, "proof")}
    assert (await person.ask(UPDATE, ann, strategy="mail", body=body))["status"] == 200


async def test_an_administrators_word(server: Running) -> None:
    """Taken as it is, unless the address is somebody's or is none."""
    admin = await server.login("admin")
    for address, status in ((ANN, 412), ("", 400), (7, 400), (None, 400), ("a\r\nb", 400)):
        made = await server.call(
            "query",
            "security:createUser",
            token=admin,
            body={
                "content": {"profileIds": ["default"]},
                "credentials": {"mail": {"address": address}},
            },
        )
        assert made["status"] == status, made
    body = {"address": ANN}
    for full_name in ("security:createCredentials", "security:updateCredentials"):
        made = await server.call(
            "query", full_name, token=admin, strategy="mail", _id="admin", body=body
        )
        assert made["status"] == 412


@pytest.mark.parametrize(
    ("body", "id"),
    [
        ({}, "api.assert.missing_argument"),
        ({"address": ""}, "api.assert.missing_argument"),
        ({"address": 7}, "api.assert.invalid_argument"),
        ({"address": ["a@b.test"]}, "api.assert.invalid_argument"),
        ({"address": "a@b.test\r\nBcc: c@d.test"}, "api.assert.invalid_argument"),
        ({"address": "x" * 600}, "api.assert.invalid_argument"),
    ],
)
async def test_what_is_no_address_is_not_proved(
    server: Running, post: Post, body: dict[str, object], id: str
) -> None:
    admin = await server.login("admin")
    answer = await Person(server, "query").ask(CREATE, admin, strategy="mail", body=body)
    assert (answer["status"], answer["error"]["id"]) == (400, id)
    assert not post.waiting()
    assert ends(await events(server, admin, kind=CREATE))[-1][0] == "refused"


async def test_only_so_many_proofs(server: Running, clock: Clock) -> None:
    """A4: neither to one address nor by one user; logins and proofs fill the same mailbox."""
    admin, ann = await server.login("admin"), await server.login("ann")
    person = Person(server, "query")

    async def ask(token: str, address: str) -> int:
        answer = await person.ask(CREATE, token, strategy="mail", body={"address": address})
        return int(answer["status"])

    assert [await ask(admin, f"{at}@mail.test") for at in range(6)] == [200] * 5 + [429]
    for _ in range(5):
        await Client(server, "query").login("mail", address=NEW)
    assert await ask(ann, NEW) == 429
    assert await ask(ann, "newer@mail.test") == 200


async def test_wrong_proofs_count(post: Post) -> None:
    """A4: as wrong codes at logins do."""
    config = cheap_config(strategies={"mail": settings_of(post.folder, mostCodes=100)})
    limits = replace(config.limits, failed_logins=3)
    async with running(replace(config, limits=limits)) as server:
        admin, person = await server.create_admin(), Person(server, "query")
        for _ in range(3):
            asked = await person.ask(CREATE, admin, strategy="mail", body={"address": NEW})
            body = {"state": state_of(asked), "code": "1"}
            answer = await person.ask(CREATE, admin, strategy="mail", body=body)
            assert (told(answer), answer["error"]["message"]) == WRONG
        answer = await person.ask(CREATE, admin, strategy="mail", body={"address": NEW})
        assert told(answer) == TOO_MANY


async def test_a_proof_without_cookies(post: Post) -> None:
    """`portable`: whoever has the state and the token of who asked."""
    async with posting(post, portable=True, linkUrl=PAGE) as server:
        admin, ann = await server.login("admin"), await server.login("ann")
        await server.call("query", DELETE, token=ann, strategy="mail")
        asked = await server.call(
            "query", CREATE, token=ann, strategy="mail", body={"address": NEW}
        )
        # No link, which somebody might open for whom it is a stranger's account.
        body = {"state": state_of(asked), "code": await post.code(NEW, "proof")}
        foreign = await server.call("query", CREATE, token=admin, strategy="mail", body=body)
        assert told(foreign) == REFUSED
        made = await server.call("query", CREATE, token=ann, strategy="mail", body=body)
        assert made["result"] == {"address": NEW, "kuid": "ann"}
