"""Logins with an identity provider of SAML (security checks O1, O6)."""

import base64
import zlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from server.storage.rows import Table
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import Client
from tests.support.providers.oidc import REFUSED, last_line, location_of
from tests.support.providers.saml import (
    CALLBACK,
    ENTITY,
    SSO,
    Idp,
    come_back,
    log_in,
    post,
    served,
    write_pair,
)
from tests.support.server import TRANSPORTS

UNLINK = "auth:deleteMyCredentials"
ROOT = Path(__file__).parents[5]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_first_login_makes_a_user_and_later_ones_find_him(idp: Idp, transport: str) -> None:
    """O6: what is persisted is kept with the credentials, under the mapped names; the provider and
    the NameID are who he is, whatever else changes."""
    given = {
        "persist": ["mail", "idp", "urn:oid:2.5.4.42", "missing"],
        "kuzzleAttributesMapping": {"mail": "address", "urn:oid:2.5.4.42": "name"},
        "userAttributes": {"givenName": "fullName"},
    }
    async with served(idp, **given) as server:
        client = Client(server, transport)
        first = await log_in(client, idp)
        assert first["status"] == 200, first
        token, kuid = first["result"]["jwt"], first["result"]["_id"]
        me = await server.call("query", "auth:getCurrentUser", token=token)
        assert me["result"]["strategies"] == ["site"]
        shown = me["result"]["_source"]
        assert (shown["profileIds"], shown["fullName"]) == (["default"], "Ann")
        info = await server.call("query", "auth:getMyCredentials", token=token, strategy="site")
        assert info["result"] == {"address": "ann@mail.test", "idp": "main", "name": "Ann"}
        idp.attributes = {"mail": ["other@mail.test"]}
        assert (await log_in(client, idp))["result"]["_id"] == kuid
        (kept,) = await server.app.services.storage.find(Table.CREDENTIALS, limit=9)
        assert kept["id"] == f"main:{idp.name_id}"
        idp.name_id, idp.attributes = "another", {"mail": ["ann@mail.test"]}
        assert (await log_in(client, idp))["result"]["_id"] != kuid
        assert await server.app.services.storage.count(Table.ONE_TIME) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_where_a_login_is_sent(idp: Idp, transport: str) -> None:
    """O1: a signed request with our state, whatever who asks may say; nothing of it is kept that a
    copy of the store could be used for."""
    async with served(idp) as server:
        client = Client(server, transport)
        location = location_of(await client.login("site", RelayState="mine", next="https://evil"))
        assert location.startswith(f"{SSO}?")
        sent = dict(parse_qsl(urlsplit(location).query))
        assert list(sent) == ["SAMLRequest", "RelayState", "Signature", "SigAlg"]
        assert len(sent["RelayState"]) == 43
        request = zlib.decompress(base64.b64decode(sent["SAMLRequest"]), -15).decode()
        assert f'AssertionConsumerServiceURL="{CALLBACK}"' in request
        assert f"<saml:Issuer>{ENTITY}</saml:Issuer>" in request
        assert "nameid-format:persistent" in request
        (row,) = await server.app.services.storage.find(Table.ONE_TIME, limit=9)
        assert sent["RelayState"] not in repr(row)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_assertion_is_good_once(idp: Idp, clock: Clock, transport: str) -> None:
    """O1: again, for another login, for somebody else's, late, without having asked."""
    async with served(idp) as server:
        client, stranger = Client(server, transport), Client(server, transport)
        form = idp.respond(location_of(await client.login("site")))
        await stranger.login("site")
        assert told(await come_back(stranger, form)) == REFUSED
        if transport == "http":  # what the stranger's browser posted is no use to him
            assert told(await client.login("site", state=form["RelayState"])) == REFUSED
            assert (await last_line(server))["reason"] == "a form from another browser"
            form = idp.respond(location_of(await client.login("site")))
        answer = await come_back(client, form)
        assert answer["status"] == 200
        assert told(await come_back(client, form)) == REFUSED
        assert (await last_line(server))["reason"] == "unknown state"
        other = idp.respond(location_of(await client.login("site")))
        swapped = other | {"SAMLResponse": form["SAMLResponse"]}
        assert told(await come_back(client, swapped)) == REFUSED
        assert (await last_line(server))["reason"] == "assertion of another request"
        assert told(await client.login("site", SAMLResponse=form["SAMLResponse"])) == REFUSED
        assert (await last_line(server))["reason"] == "the provider's response has no state"
        late = idp.respond(location_of(await client.login("site")))
        clock.now_ms += 600_000
        assert told(await come_back(client, late)) == REFUSED
        assert (await last_line(server))["reason"] == "expired state"
        assert await server.app.services.storage.count(Table.SESSIONS) == 1


async def test_a_provider_of_the_same_site(idp: Idp) -> None:
    """Browsers send the cookies along with its form: it is put aside like any other, and in
    nobody's name, so that a session in a cookie does not get in the way."""
    async with served(idp) as server:
        client = Client(server, "http")
        form = idp.respond(location_of(await client.login("site")))
        cookie = f"{client.cookie}; authToken={(await log_in(client, idp))['result']['jwt']}"
        answer = await post(server, form, Cookie=cookie)
        assert answer.status == 303
        location = dict(parse_qsl(answer.headers["location"].removeprefix("?")))
        assert location["state"] == form["RelayState"]
        assert (await client.login("site", **location))["status"] == 200


async def test_what_is_taken(idp: Idp) -> None:
    """A response that is signed, too; base64 in lines; a declaration before the XML."""
    async with served(idp) as server:
        client = Client(server, "http")
        idp.signs_response = True
        assert (await log_in(client, idp))["status"] == 200
        idp.signs_response = False
        form = idp.respond(location_of(await client.login("site")))
        text = base64.encodebytes(base64.b64decode(form["SAMLResponse"])).decode()
        assert "\n" in text
        wrapped = form | {"SAMLResponse": text.replace("\n", "\r\n")}
        assert (await come_back(client, wrapped))["status"] == 200


async def test_who_does_not_want_to(idp: Idp) -> None:
    """O7: the provider's own word stays where it is."""

    def deny(response) -> None:  # noqa: ANN001
        response.status.status_code.value = "urn:oasis:names:tc:SAML:2.0:status:Responder"

    idp.changes, idp.signs_assertion = deny, False
    async with served(idp) as server:
        answer = await log_in(Client(server, "http"), idp)
        assert told(answer) == REFUSED
        assert answer["error"]["message"] == "declined at the provider"
        assert (await last_line(server))["reason"] == "declined at the provider"


async def test_several_providers(idp: Idp) -> None:
    """O6: one of them says nothing for another, and the same name is somebody else."""
    files = write_pair(idp.folder, "second")
    second = replace(idp, entity_id="https://second.test", signer="second", _servers={})
    other = idp.table(entityId=second.entity_id, certificates=[str(files[1])])
    async with served(idp, providers={"main": idp.table(), "other": other}) as server:
        client = Client(server, "http")
        for given, kind in (({}, "missing"), ({"idp": "third"}, "invalid")):
            answer = await client.login("site", **given)
            assert told(answer, "id", "status") == {
                "id": f"api.assert.{kind}_argument",
                "status": 400,
            }
        first = await log_in(client, idp, idp="main")
        found = await log_in(client, second, idp="other")
        assert (first["status"], found["status"]) == (200, 200)
        assert first["result"]["_id"] != found["result"]["_id"]
        assert told(await log_in(client, second, idp="main")) == REFUSED
        assert (await last_line(server))["reason"] == "wrong issuer"
        second.entity_id = idp.entity_id
        assert told(await log_in(client, second, idp="main")) == REFUSED
        assert (await last_line(server))["reason"] == "invalid signature"


async def test_another_attribute_identifies(idp: Idp) -> None:
    name = "urn:oid:0.9.2342.19200300.100.1.1"
    providers = {"main": idp.table(identifierAttribute=name)}
    async with served(idp, providers=providers) as server:
        client = Client(server, "http")
        idp.attributes = {"uid": ["ann"]}
        first = await log_in(client, idp)
        idp.name_id = "changed"
        assert (await log_in(client, idp))["result"]["_id"] == first["result"]["_id"]
        for values in ([], ["ann", "bob"], [" "]):
            idp.attributes = {"uid": values, "mail": ["ann@mail.test"]}
            assert told(await log_in(client, idp)) == REFUSED
            assert (await last_line(server))["reason"].endswith("no valid user id")


async def test_linking_while_logged_in(idp: Idp) -> None:
    """docs/architecture.md: what a user claims is not believed; another user's account is
    refused."""
    async with served(idp, persist=["mail"]) as server:
        admin = await server.create_admin()
        ann, bob = [await server.create_user(admin, name) for name in ("ann", "bob")]

        async def link(token: str) -> dict:
            client, http = Client(server, "http"), await server.connect()
            headers = {"Authorization": f"Bearer {token}"}
            claimed = {"id": "main:of-somebody"}
            path = "/_me/credentials/site/_create"
            away = await http.ask("POST", path, claimed, headers=headers)
            client.cookie = away.headers["set-cookie"].partition(";")[0]
            return await come_back(client, idp.respond(location_of(away.json)))

        linked = await link(ann)
        assert linked["status"] == 200, linked
        who = f"main:{idp.name_id}"
        assert linked["result"] == {"id": who, "mail": "ann@mail.test", "kuid": "ann"}
        assert (await log_in(Client(server, "http"), idp))["result"]["_id"] == "ann"
        assert told(await link(bob), "status") == {"status": 400}
        gone = await server.call("query", UNLINK, token=ann, strategy="site")
        assert gone["status"] == 200
        assert (await log_in(Client(server, "http"), idp))["result"]["_id"] not in ("ann", "bob")


async def test_linking_over_a_socket(idp: Idp) -> None:
    async with served(idp) as server:
        ann = await server.create_user(await server.create_admin(), "ann")
        socket = await server.open_socket()
        asked = {"controller": "auth", "action": "createMyCredentials", "strategy": "site"}
        away = await socket.ask({**asked, "jwt": ann, "body": {}})
        form = idp.respond(location_of(away))
        back = {"state": form["RelayState"], "SAMLResponse": form["SAMLResponse"]}
        answer = await socket.ask({**asked, "jwt": ann, "body": back})
        assert answer["status"] == 200, answer
        assert answer["result"]["id"] == f"main:{idp.name_id}"


async def test_certificates_are_read_again(idp: Idp, tmp_path: Path) -> None:
    """A provider may change its key while the server runs."""
    file = tmp_path / "signers.pem"
    file.write_bytes(write_pair(idp.folder, "idp")[1].read_bytes())
    providers = {"main": idp.table(certificates=[str(file)])}
    async with served(idp, providers=providers) as server:
        client = Client(server, "http")
        first = await log_in(client, idp)
        idp.signer = "next"
        assert told(await log_in(client, idp)) == REFUSED
        both = file.read_bytes() + write_pair(idp.folder, "next")[1].read_bytes()
        file.write_bytes(both)
        assert (await log_in(client, idp))["result"]["_id"] == first["result"]["_id"]


async def test_an_elliptic_curve(idp: Idp) -> None:
    """A provider may sign with one."""
    _, certificate = write_pair(idp.folder, "curve")
    digest, signature = idp.algorithms
    idp.signer, idp.algorithms = "curve", (digest, signature.replace("rsa", "ecdsa"))
    providers = {"main": idp.table(certificates=[str(certificate)])}
    async with served(idp, providers=providers) as server:
        assert (await log_in(Client(server, "http"), idp))["status"] == 200


async def test_nothing_of_it_in_the_log(idp: Idp, caplog: pytest.LogCaptureFixture) -> None:
    """X2: not at the finest level, whatever a library might write there."""
    caplog.set_level("DEBUG")
    async with served(idp) as server:
        client = Client(server, "http")
        form = idp.respond(location_of(await client.login("site")))
        assert (await come_back(client, form))["status"] == 200
        idp.tampers = lambda text: text.replace("2f6c-ann", "2f6c-bob")
        assert told(await log_in(client, idp)) == REFUSED
    assert "strategy site: invalid signature" in caplog.text
    ours = "\n".join(x.getMessage() for x in caplog.records if not x.name.startswith("saml2"))
    for secret in (form["RelayState"], form["SAMLResponse"][:40], "2f6c", "ann@mail"):
        assert secret not in ours
