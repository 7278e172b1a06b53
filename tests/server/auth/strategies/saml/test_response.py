"""Responses of SAML that must not let anybody in, made by a real identity provider and then changed
(security checks O4, O7)."""

import base64
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from server.auth.strategies.saml import response as messages
from tests.support.errors import told
from tests.support.login_steps import Client
from tests.support.providers.oidc import REFUSED, last_line, location_of, refused_with_a_line
from tests.support.providers.saml import ENTITY, Fields, Idp, come_back, log_in, served, write_pair
from tests.support.providers.saml_forgeries import (
    DS,
    SAML,
    Bad,
    before,
    bomb,
    both,
    confirmation,
    deep,
    on,
    swap,
    time,
    unsigned_with,
    with_prefixes,
    wrapped,
)
from tests.support.server import Running

FORMAT = "urn:oasis:names:tc:SAML:{}:nameid-format:{}"
NAME = "2f6c-ann"
OTHER_ORDER = "signature with a transform that is not allowed"
ALGORITHM = "signature with an algorithm that is not allowed"
MORE_THAN_TEXT = "XML with a document type, comment, CDATA or processing instruction"
NOT_ONE = "not exactly one assertion"
AUDIENCES = "assertion.conditions.audience_restriction.0.audience.0.text"
MAIN = {
    "tampered": Bad("invalid signature", tampers=swap(NAME, "2f6c-bob")),
    "another audience": Bad("wrong audience", on(AUDIENCES, "https://other.test/saml")),
    "expired": Bad("assertion expired", confirmation(not_on_or_after=time(seconds=1))),
    "unsigned": Bad("no signed assertion", more=unsigned_with()),
    "another key": Bad("invalid signature", more=(("signer", "other"),)),
    "wrapped": Bad(NOT_ONE, tampers=wrapped("in extensions")),
}
FURTHER = {
    # What is signed.
    "tampered attribute": Bad("invalid signature", tampers=swap("ann@mail", "bob@mail")),
    "tampered signature": Bad(
        "invalid signature", tampers=swap("<ns2:SignatureValue>....", "<ns2:SignatureValue>AAAA")
    ),
    "only the response": Bad("no signed assertion", more=unsigned_with(signs_response=True)),
    "response tampered": Bad(
        "invalid signature",
        tampers=swap(
            'status:Success"/></', 'status:Success"/><ns0:StatusMessage>x</ns0:StatusMessage></'
        ),
        more=(("signs_response", True),),
    ),
    "SHA-1": Bad(ALGORITHM, more=(("algorithms", (f"{DS}sha1", f"{DS}rsa-sha1")),)),
    "HMAC": Bad(ALGORITHM, tampers=swap("xmldsig-more#rsa-sha256", "xmldsig-more#hmac-sha256")),
    "XSLT": Bad(
        OTHER_ORDER,
        tampers=swap(f"{DS}enveloped-signature", "http://www.w3.org/TR/1999/REC-xslt-19991116"),
    ),
    "XPath": Bad(
        OTHER_ORDER,
        tampers=swap(f"{DS}enveloped-signature", "http://www.w3.org/TR/1999/REC-xpath-19991116"),
    ),
    "a few prefixes": Bad("invalid signature", tampers=with_prefixes(messages.MOST_PREFIXES)),
    "many prefixes": Bad(
        "signature with too many prefixes", tampers=with_prefixes(messages.MOST_PREFIXES + 1)
    ),
    "of everything": Bad(
        "signature of another element", tampers=swap('Reference URI="#[^"]*"', 'Reference URI=""')
    ),
    "of a file": Bad(
        "signature of another element",
        tampers=swap('Reference URI="#[^"]*"', 'Reference URI="file:///etc/passwd"'),
    ),
    "a signature elsewhere": Bad(
        "signature at an unexpected place",
        tampers=swap(
            "<ns0:Status>",
            '<ns0:Extensions><d:Signature xmlns:d="' + DS + '"/></ns0:Extensions><ns0:Status>',
        ),
    ),
    "an empty signature": Bad(
        "malformed signature",
        tampers=swap("<ns0:Status>", '<d:Signature xmlns:d="' + DS + '"/><ns0:Status>'),
    ),
    **{
        f"wrapped, {form}": Bad(reason, tampers=wrapped(form))
        for form, reason in {
            "beside": NOT_ONE,
            "same id": "duplicate ID",
            "keeps the signature": NOT_ONE,
            "in itself": NOT_ONE,
            "renamed": "signature at an unexpected place",
            "by xml:id": "duplicate ID",
        }.items()
    },
    # For whom, when, where.
    "no audience": Bad("wrong audience", on("assertion.conditions.audience_restriction", [])),
    "part of our name": Bad("wrong audience", on(AUDIENCES, ENTITY + "/more")),
    "one condition too many": Bad(
        "unknown conditions",
        tampers=swap(
            "(?=<ns1:AudienceRestriction>)", '<ns1:Condition xmlns:x="urn:x" xsi:type="x:y"/>'
        ),
    ),
    "no conditions": Bad("unknown conditions", on("assertion.conditions", None)),
    "conditions over": Bad(
        "assertion expired",
        both(
            on("assertion.conditions.not_on_or_after", time(hours=1)),
            on("assertion.conditions.not_before", time(hours=2)),
        ),
    ),
    "conditions to come": Bad(
        "assertion too early", on("assertion.conditions.not_before", time(days=-1))
    ),
    "no end": Bad("assertion expired", confirmation(not_on_or_after=None)),
    "an odd end": Bad("malformed time", confirmation(not_on_or_after="9999-99-99T99:99:99Z")),
    "to come": Bad("assertion too early", confirmation(not_before=time(days=-1))),
    "session over": Bad(
        "session expired", on("assertion.authn_statement.0.session_not_on_or_after", time(hours=1))
    ),
    "another recipient": Bad(
        "wrong recipient", confirmation(recipient="https://other.test/_login/site")
    ),
    "a recipient with ours in it": Bad(
        "wrong recipient", confirmation(recipient="https://x.test/?https://login.test/_login/site")
    ),
    "no recipient": Bad("wrong recipient", confirmation(recipient=None)),
    "another destination": Bad(
        "wrong destination", on("destination", "https://login.test/_login/site/more")
    ),
    "nobody's": Bad(
        "no subject confirmation",
        on(
            "assertion.subject.subject_confirmation.0.method",
            "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key",
        ),
    ),
    "another request's": Bad("assertion of another request", confirmation(in_response_to="id-1")),
    "another request's response": Bad("wrong inresponseto", on("in_response_to", "id-1")),
    "nobody asked": Bad(
        "assertion of another request",
        both(confirmation(in_response_to=None), on("in_response_to", None)),
    ),
    # From whom, and who.
    "another issuer": Bad("wrong issuer", on("assertion.issuer.text", "https://other.test")),
    "another sender": Bad("wrong issuer", on("issuer.text", "https://other.test")),
    "an address": Bad(
        "the NameID is an email address", more=(("format", FORMAT.format("1.1", "emailAddress")),)
    ),
    "for once": Bad(
        "the NameID is transient",
        more=(("format", FORMAT.format("2.0", "transient")),),
    ),
    "another's name": Bad(
        "the NameID belongs to another provider",
        on("assertion.subject.name_id.name_qualifier", "https://other.test"),
    ),
    "another application's name": Bad(
        "sp name qualifier name mismatch",
        on("assertion.subject.name_id.sp_name_qualifier", "https://other.test"),
    ),
    "no name": Bad(
        "the provider's response has no valid user id", on("assertion.subject.name_id", None)
    ),
    "a long name": Bad(
        "the provider's response has no valid user id", more=(("name_id", "x" * 2000),)
    ),
    # XML.
    "a comment in the name": Bad(MORE_THAN_TEXT, tampers=swap(NAME, f"{NAME}<!-- -->")),
    "an instruction": Bad(MORE_THAN_TEXT, tampers=swap(NAME, f"{NAME}<?x y?>")),
    "CDATA": Bad(MORE_THAN_TEXT, tampers=swap(NAME, f"<![CDATA[{NAME}]]>")),
    "an external entity": Bad(
        MORE_THAN_TEXT, tampers=before('<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>')
    ),
    "a bomb": Bad(MORE_THAN_TEXT, tampers=before(bomb())),
    "an external type": Bad(
        MORE_THAN_TEXT, tampers=before('<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x">')
    ),
    "another encoding": Bad(
        MORE_THAN_TEXT, tampers=before('<?xml version="1.0" encoding="utf-7"?>')
    ),
    "deep": Bad("response is not XML in base64", tampers=deep),
    "another entity": Bad("response is not XML in base64", tampers=swap(NAME, "&nbsp;")),
    "another root": Bad("not a SAML response", tampers=lambda text: "<Response/>"),
    "no status": Bad("no status", tampers=swap("<ns0:Status>.*</ns0:Status>", "")),
    "encrypted": Bad(
        "unexpected encrypted assertion",
        tampers=swap("</ns0:Response>", f'<e:EncryptedAssertion xmlns:e="{SAML}"/></ns0:Response>'),
    ),
    "no assertion": Bad(NOT_ONE, tampers=swap("(?s)<ns1:Assertion.*</ns1:Assertion>", "")),
    "not of the schema": Bad(
        "invalid xml format", tampers=swap("</ns0:Response>", "<ns0:More/></ns0:Response>")
    ),
}
ROWS = [
    *((transport, name, bad) for name, bad in MAIN.items() for transport in ("http", "websocket")),
    *(("websocket", name, bad) for name, bad in FURTHER.items()),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(provider: Idp) -> AsyncIterator[Running]:
    """A server that none of them may change."""
    async with served(provider) as started:
        yield started


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("transport", "bad"),
    [(transport, bad) for transport, _, bad in ROWS],
    ids=[f"{name}-{transport}" for transport, name, _ in ROWS],
)
async def test_what_lets_nobody_in(
    server: Running, provider: Idp, transport: str, bad: Bad
) -> None:
    """O4, O7: one answer, nobody made, and the reason in the trail alone."""
    idp = replace(provider, changes=bad.changes, tampers=bad.tampers, **dict(bad.more))
    answer = await log_in(Client(server, transport), idp)
    assert await refused_with_a_line(server, answer) == bad.reason
    message = answer["error"]["message"]
    assert message == "the provider's response was not accepted: start the login again"


NONSENSE = {
    "nothing": "",
    "no base64": "%%%",
    "no text": base64.b64encode(b"\xff\xfe<").decode(),
    "UTF-16": base64.b64encode("<a/>".encode("utf-16")).decode(),
    "no XML": base64.b64encode(b"<a>").decode(),
    "NUL": base64.b64encode(b"<a>\0</a>").decode(),
}


async def test_nonsense(provider: Idp) -> None:
    """O7: also no text at all, and what is larger than it may be."""
    async with served(provider) as server:
        client = Client(server, "websocket")

        async def bring(response: object) -> str:
            form = provider.respond(location_of(await client.login("site")))
            answer = await client.login("site", state=form["RelayState"], SAMLResponse=response)
            return await refused_with_a_line(server, answer)

        for response in (*NONSENSE.values(), 7, ["a"], {"a": 1}, None):
            assert await bring(response) == "response is not XML in base64"
        assert await bring("A" * messages.MOST_RESPONSE_CHARACTERS) != "response too large"
        large = "A" * (messages.MOST_RESPONSE_CHARACTERS + 1)
        assert await bring(large) == "response too large"
        form: Fields = provider.respond(location_of(await Client(server, "http").login("site")))
        answer = await come_back(Client(server, "http"), form | {"SAMLResponse": large})
        assert told(answer) == REFUSED
        assert (await last_line(server))["reason"] == "a form that is too large"


async def test_only_configured_certificates_count(provider: Idp) -> None:
    """A certificate that comes along with a signature means nothing."""
    other = write_pair(provider.folder, "other")[1].read_text()
    body = "".join(other.splitlines()[1:-1])

    def bring_certificate(text: str) -> str:
        return re.sub("X509Certificate>[^<]+<", f"X509Certificate>{body}<", text)

    async with served(provider) as server:
        client = Client(server, "http")
        answer = await log_in(client, replace(provider, tampers=bring_certificate))
        assert answer["status"] == 200  # signed by the right key, whatever it says of itself
