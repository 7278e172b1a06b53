"""Logins with a provider of OpenID Connect (docs/api/strategies.md#multi-step-logins,
#provider-logins)."""

import json
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest

from protocol.errors import LocalError
from server.auth.strategies import attributes
from server.storage.rows import Table
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.issuer import KEY, Issuer, issuing, settings_for
from tests.support.login_steps import Client
from tests.support.providers.oidc import (
    REFUSED,
    kuid_of,
    last_line,
    location_of,
    log_in,
    prove_address,
    refused_with_a_line,
    served,
)
from tests.support.server import TRANSPORTS, cheap_config, running

LINK, UNLINK = "auth:createMyCredentials", "auth:deleteMyCredentials"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A provider."""
    with issuing() as started:
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_first_login_makes_a_user_and_later_ones_find_him(
    issuer: Issuer, transport: str
) -> None:
    """docs/api/strategies.md#multi-step-logins, #provider-logins: what is persisted is kept with
    the credentials, under the mapped names; O6, O8."""
    given = {
        "persist": ["email", "address.city", "emails[1]", "missing"],
        "kuzzleAttributesMapping": {"email": "mail", "address.city": "city"},
        "userAttributes": {"name": "fullName"},
    }
    issuer.claims |= {"address": {"city": "Rome"}, "emails": ["a", "b"], "name": "Ann"}
    async with served(issuer, **given) as server:
        client = Client(server, transport)
        first = await log_in(client, issuer)
        assert first["status"] == 200, first
        token, kuid = first["result"]["jwt"], first["result"]["_id"]
        me = await server.call("query", "auth:getCurrentUser", token=token)
        assert me["result"]["strategies"] == ["site"]
        shown = me["result"]["_source"]
        assert (shown["profileIds"], shown["fullName"]) == (["default"], "Ann")
        info = await server.call("query", "auth:getMyCredentials", token=token, strategy="site")
        assert info["result"] == {"mail": "ann@mail.test", "city": "Rome", "emails[1]": "b"}
        issuer.claims = {"sub": issuer.claims["sub"], "email": "other@mail.test"}
        assert (await log_in(client, issuer))["result"]["_id"] == kuid
        kept = await server.app.services.storage.find(Table.CREDENTIALS, limit=9)
        assert [row["id"] for row in kept] == [issuer.claims["sub"]]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_where_a_login_is_sent(issuer: Issuer, transport: str) -> None:
    """O1, O2, O3, O5: our state, PKCE, a nonce, exactly the address that is configured, whatever
    who asks may say; none of it is kept in the clear that a copy of the store could be used for."""
    async with served(issuer, scope=["phone"]) as server:
        client = Client(server, transport)
        evil = {"redirect_uri": "https://evil.test", "client_id": "other", "scope": "all"}
        location = location_of(await client.login("site", **evil))
        query = parse_qsl(urlsplit(location).query)
        sent = dict(query)
        assert len(query) == len(sent)
        assert location.startswith(f"{issuer.url}/authorize?")
        state, nonce, challenge = (sent.pop(x) for x in ("state", "nonce", "code_challenge"))
        assert (len(state), len(nonce), len(challenge)) == (43, 64, 43)
        assert sent == {
            "client_id": KEY,
            "redirect_uri": "https://login.test/_login/site",
            "response_type": "code",
            "scope": "phone openid profile email",
            "code_challenge_method": "S256",
        }
        (row,) = await server.app.services.storage.find(Table.ONE_TIME, limit=9)
        assert state not in repr(row)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_callbacks_that_are_not_his(issuer: Issuer, clock: Clock, transport: str) -> None:
    """O1: forged, foreign, replayed, late, for another strategy, without a state: the provider is
    not even asked."""
    tables = {"site": settings_for(issuer), "other": settings_for(issuer)}
    async with running(cheap_config(strategies=tables)) as server:
        client, stranger = Client(server, transport), Client(server, transport)
        await stranger.login("site")
        back = issuer.authorize(location_of(await client.login("site")))
        late = issuer.authorize(location_of(await client.login("site")))
        forged = [
            await stranger.login("site", **back),
            await client.login("other", **back),
            await client.login("site", **(back | {"state": "x" * 43})),
            await client.login("site", code=back["code"]),
            await client.login("site", error="access_denied"),
        ]
        for answer in forged:
            assert await refused_with_a_line(server, answer)
        assert "/token" not in issuer.paths()
        assert (await client.login("site", **back))["status"] == 200
        asked = len(issuer.asked)
        assert told(await client.login("site", **back)) == REFUSED
        clock.now_ms += 600_000
        assert told(await client.login("site", **late)) == REFUSED
        assert (await last_line(server))["reason"] == "expired state"
        assert len(issuer.asked) == asked


@pytest.mark.parametrize(
    ("iss", "described", "status"),
    [
        (None, {}, 200),
        ("URL", {}, 200),
        ("https://evil.test", {}, 401),
        ("", {}, 401),
        (None, {"authorization_response_iss_parameter_supported": True}, 401),
        ("URL", {"authorization_response_iss_parameter_supported": True}, 200),
    ],
)
async def test_whose_answer_it_is(
    issuer: Issuer, iss: str | None, described: dict[str, object], status: int
) -> None:
    """O3, RFC 9207: an answer of another provider's never reaches this one's token endpoint."""
    issuer.description = described
    async with served(issuer) as server:
        more = {} if iss is None else {"iss": iss.replace("URL", issuer.url)}
        answer = await log_in(Client(server, "http"), issuer, **more)
        assert answer["status"] == status
        if status == 401:
            assert "issuer" in await refused_with_a_line(server, answer)
            assert "/token" not in issuer.paths()


async def test_an_address_is_no_identity(issuer: Issuer) -> None:
    """O6: neither one account with another address, nor one address with another account."""
    async with served(issuer) as server:
        ann = await kuid_of(server, issuer, sub="1", email="ann@mail.test", email_verified=True)
        other = await kuid_of(server, issuer, sub="2", email="ann@mail.test", email_verified=True)
        again = await kuid_of(server, issuer, sub="1", email="new@mail.test")
        assert ann != other
        assert again == ann


@pytest.mark.parametrize("name", ["email", "user.email", "EMail", "emails[0]"])
async def test_an_address_can_not_be_made_one(issuer: Issuer, name: str) -> None:
    """O6: whatever the operator may want."""
    for more in ({"identifierAttribute": name}, {"settings": {"ID_KEY": name}}):
        with pytest.raises(LocalError, match="must not be an email address: it can be reassigned"):
            async with served(issuer, **more):
                pass


async def test_another_attribute_identifies(issuer: Issuer) -> None:
    given = {"identifierAttribute": "employee.number", "persist": ["employee.number"]}
    async with served(issuer, **given) as server:
        ann = await kuid_of(server, issuer, sub="1", employee={"number": 7})
        assert await kuid_of(server, issuer, sub="2", employee={"number": 7}) == ann
        issuer.claims = {"sub": "3"}
        answer = await log_in(Client(server, "http"), issuer)
        assert told(answer) == REFUSED


async def make_user(server, **content: object) -> str:
    """Make a user with some content and give his kuid."""
    admin = await server.login("admin")
    body = {"content": {"profileIds": ["default"], **content}, "credentials": {}}
    made = await server.call("query", "security:createUser", token=admin, body=body)
    assert made["status"] == 200, made
    return made["result"]["_id"]


@pytest.mark.parametrize(
    ("verified", "is_on", "is_proved", "is_linked"),
    [
        (True, True, True, True),
        (False, True, True, False),
        ("true", True, True, False),
        (None, True, True, False),
        (True, False, False, False),
        (True, True, False, False),
    ],
)
async def test_link_by_verified_email_needs_a_proved_address(
    issuer: Issuer, verified: object, is_on: bool, is_proved: bool, is_linked: bool
) -> None:
    """O6, F4: only where the operator says so, and where both sides have verified the address."""
    async with served(issuer, linkByVerifiedEmail=is_on) as server:
        admin = await server.create_admin()
        kuids = [await make_user(server)]
        if is_proved:
            await prove_address(server, admin, kuids[0], "ann@mail.test")
        await make_user(server, email="ann@mail.test", mail="ann@mail.test")
        claims = {"sub": "1", "email": "ann@mail.test", "email_verified": verified}
        kuid = await kuid_of(server, issuer, **claims)
        assert ([kuid] == kuids) is is_linked
        assert (kuid in kuids) is is_linked
        assert await kuid_of(server, issuer, sub="1") == kuid
        # A second account with this address is not his, too.
        assert await kuid_of(server, issuer, **(claims | {"sub": "2"})) != kuid


@pytest.mark.parametrize(
    "content",
    [
        {"email": "ann@mail.test"},
        {"email": ["bob@mail.test", "ann@mail.test", *(f"u{n}@mail.test" for n in range(500))]},
        {"address": "ann@mail.test", "magic": {"address": "ann@mail.test"}},
    ],
    ids=["text", "array", "object"],
)
async def test_link_by_verified_email_ignores_what_users_write(
    issuer: Issuer, content: dict[str, object]
) -> None:
    """F4: nobody waits for another user's first login with an address in their own document."""
    async with served(issuer, linkByVerifiedEmail=True) as server:
        mallory = await server.create_user(await server.create_admin(), "mallory")
        changed = await server.call("query", "auth:updateSelf", token=mallory, body=content)
        assert changed["status"] == 200
        claims = {"sub": "1", "email": "ann@mail.test", "email_verified": True}
        assert await kuid_of(server, issuer, **claims) != "mallory"


async def test_link_by_verified_email_of_a_second_account_is_logged(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """F4: who has an account of the provider already keeps it, and the log says that another one
    with this address came."""
    async with served(issuer, linkByVerifiedEmail=True) as server:
        admin = await server.create_admin()
        ann = await make_user(server)
        await prove_address(server, admin, ann, "ann@mail.test")
        claims = {"sub": "1", "email": "ann@mail.test", "email_verified": True}
        assert await kuid_of(server, issuer, **claims) == ann
        assert await kuid_of(server, issuer, **(claims | {"sub": "2"})) != ann
    assert f"of user {ann} was not linked" in caplog.text


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"linkByVerifiedEmail": True}, "emailStrategy"),
        ({"linkByVerifiedEmail": True, "emailStrategy": "local"}, "emailStrategy"),
        ({"linkByVerifiedEmail": True, "emailStrategy": "site"}, "emailStrategy"),
        ({"emailField": "mail"}, "emailField"),
    ],
    ids=str,
)
async def test_link_by_verified_email_without_proved_addresses_refuses_to_start(
    issuer: Issuer, given: dict[str, object], named: str
) -> None:
    """F4: an older configuration is not silently weaker than it says."""
    config = cheap_config(strategies={"site": settings_for(issuer, **given)})
    with pytest.raises(LocalError, match=named):
        async with running(config):
            pass


async def link(client: Client, token: str, issuer: Issuer) -> dict:
    """Link a provider's account to a user who is logged in."""
    server, headers = client.server, {"Authorization": f"Bearer {token}"}
    http = await server.connect()
    away = await http.ask("POST", "/_me/credentials/site/_create", {}, headers=headers)
    assert away.status == 302, away.json
    client.cookie = away.headers["set-cookie"].partition(";")[0]
    return await client.login("site", **issuer.authorize(location_of(away.json)))


async def test_linking_while_logged_in(issuer: Issuer) -> None:
    """docs/architecture.md: what a user claims is not believed; another user's account is
    refused."""
    async with served(issuer, persist=["email"]) as server:
        token = await server.create_user(await server.create_admin(), "ann")
        linked = await link(Client(server, "http"), token, issuer)
        assert linked["status"] == 200, linked
        assert linked["result"] == {
            "sub": issuer.claims["sub"],
            "email": "ann@mail.test",
            "kuid": "ann",
        }
        assert (await log_in(Client(server, "http"), issuer))["result"]["_id"] == "ann"
        bob = await server.create_user(await server.login("admin"), "bob")
        taken = await link(Client(server, "http"), bob, issuer)
        assert told(taken, "status") == {"status": 400}
        claimed = {"sub": issuer.claims["sub"]}
        asked = await server.call("query", LINK, token=bob, strategy="site", body=claimed)
        assert asked["status"] == 302
        gone = await server.call("query", UNLINK, token=token, strategy="site")
        assert gone["status"] == 200
        assert (await log_in(Client(server, "http"), issuer))["result"]["_id"] not in ("ann", "bob")


async def test_what_an_administrator_asserts(issuer: Issuer) -> None:
    """docs/api/strategies.md#provider-logins: validate, create, update, getInfo, getById,
    delete."""
    given = {"persist": ["email"], "kuzzleAttributesMapping": {"email": "mail"}}
    async with served(issuer, **given) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        await server.create_user(admin, "bob")

        async def ask(action: str, kuid: str, body: dict | None = None) -> tuple[int, object]:
            answer = await server.call(
                "query", f"security:{action}", token=admin, strategy="site", _id=kuid, body=body
            )
            shown = answer["result"] if answer["error"] is None else answer["error"].get("id")
            return answer["status"], shown

        create, update = "createCredentials", "updateCredentials"
        fields = await server.call(
            "query", "security:getCredentialFields", token=admin, strategy="site"
        )
        assert fields["result"] == ["sub", "mail"]
        assert await ask(create, "ann", {"mail": "a@b.test"}) == (400, None)
        assert (await ask(create, "ann", {"sub": 7}))[0] == 400
        assert (await ask(create, "ann", {"sub": "7", "more": "x"}))[0] == 400
        assert (await ask(create, "ann", {"sub": "7", "kuid": "bob"}))[0] == 400
        assert await ask("getCredentials", "ann") == (404, None)
        assert await ask("deleteCredentials", "ann") == (404, None)
        shown = {"sub": "7", "mail": "a@b.test", "kuid": "ann"}
        assert await ask(create, "ann", {"sub": "7", "mail": "a@b.test"}) == (200, shown)
        assert await ask(create, "ann", {"sub": "8"}) == (400, None)
        assert await ask(create, "bob", {"sub": "7"}) == (400, None)
        assert await ask("getCredentials", "ann") == (200, {"mail": "a@b.test"})
        assert await ask("getCredentialsById", "7") == (200, shown)
        assert await ask("getCredentialsById", "8") == (400, None)
        assert (await ask(update, "ann", {"sub": "9"}))[0] == 200
        assert await ask("getCredentialsById", "9") == (200, shown | {"sub": "9"})
        assert await kuid_of(server, issuer, sub="9") == "ann"
        assert (await ask("deleteCredentials", "ann"))[0] == 200
        assert await kuid_of(server, issuer, sub="9") != "ann"


@pytest.mark.parametrize(
    "persist",
    ["access_token", "refresh_token", "id_token", "user.secret", "authed_user.access_token"],
)
async def test_tokens_of_a_provider_can_not_be_kept(issuer: Issuer, persist: str) -> None:
    """O8."""
    with pytest.raises(LocalError, match="must not be stored"):
        async with served(issuer, persist=[persist]):
            pass


async def test_tokens_of_a_provider_are_forgotten(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """O8: neither in the store nor in an answer nor in the log, however deep they are hidden."""
    caplog.set_level("DEBUG")
    issuer.claims |= {"more": {"api_token": "deep-token", "a": 1}, "list": [{"secret": "deep"}]}
    async with served(issuer, persist=["more", "list", "email"]) as server:
        answer = await log_in(Client(server, "http"), issuer)
        assert answer["status"] == 200
        storage = server.app.services.storage
        kept = [await storage.find(table, limit=100) for table in Table]
        assert await server.app.services.storage.count(Table.CREDENTIALS) == 1
        for secret in ("provider-access", "deep-token"):
            assert secret not in repr(kept) + json.dumps(answer) + caplog.text


async def test_large_attributes_are_left_out(issuer: Issuer) -> None:
    """At the bound and one past it."""
    most = attributes.MOST_ATTRIBUTE_BYTES - 2
    issuer.claims |= {"fits": "x" * most, "large": "x" * (most + 1)}
    async with served(issuer, persist=["fits", "large"]) as server:
        answer = await log_in(Client(server, "http"), issuer)
        token = answer["result"]["jwt"]
        info = await server.call("query", "auth:getMyCredentials", token=token, strategy="site")
        assert info["result"] == {"fits": "x" * most}
