"""Encrypted assertions of SAML, made by a real identity provider (security checks O4, O7): opened
with our key alone, and believed no more than what comes in the clear."""

import base64
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio
from lxml import etree
from saml2.sigver import RSA_1_5, RSA_OAEP_MGF1P, TRIPLE_DES_CBC

from server.app import strategies as configured
from tests.server.auth.strategies.saml.test_settings import refuse_to_start
from tests.support.login_steps import Client
from tests.support.providers.oidc import last_line, location_of, refused_with_a_line
from tests.support.providers.saml import (
    AES256_GCM,
    Idp,
    come_back,
    identifying,
    log_in,
    served,
    write_pair,
)
from tests.support.providers.saml_forgeries import SAML, Bad, on, swap, unsigned_with
from tests.support.server import TRANSPORTS, Running, cheap_config

CLOSED = "the assertion cannot be decrypted"
NONE = "decrypted content is not an assertion"
MESSAGE = "the provider's response was not accepted: start the login again"
CBC = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
GCM = "http://www.w3.org/2009/xmlenc11#aes{}-gcm"


@pytest.fixture(scope="module")
def shared() -> Iterator[Idp]:
    """A provider that encrypts for us, whose keys take a while."""
    with identifying() as idp:
        yield replace(idp, encrypts_for=str(write_pair(idp.folder, "sp")[1]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shared: Idp) -> AsyncIterator[Running]:
    """A server that no refusal may change."""
    async with served(shared, encryption="accepted") as started:
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("signs_response", [False, True])
async def test_a_login(shared: Idp, transport: str, signs_response: bool) -> None:
    """He is who he is in the clear, whichever key of AES hides him."""
    async with served(shared, encryption="accepted", persist=["mail"]) as server:
        client, idp = Client(server, transport), replace(shared, signs_response=signs_response)
        first = await log_in(client, replace(idp, encrypts_for=""))
        assert first["status"] == 200, first
        for bits in (128, 192, 256):
            cipher = GCM.format(bits), RSA_OAEP_MGF1P, f"aes-{bits}"
            answer = await log_in(client, replace(idp, cipher=cipher))
            assert answer["status"] == 200, await last_line(server)
            assert answer["result"]["_id"] == first["result"]["_id"]


async def test_what_must_be_encrypted(shared: Idp) -> None:
    """Or must not be."""
    plain = replace(shared, encrypts_for="")
    async with served(shared, encryption="required") as server:
        answer = await log_in(Client(server, "http"), plain)
        assert await refused_with_a_line(server, answer) == "assertion not encrypted"
        assert (await log_in(Client(server, "http"), shared))["status"] == 200
    async with served(shared) as server:
        answer = await log_in(Client(server, "http"), shared)
        assert await refused_with_a_line(server, answer) == "unexpected encrypted assertion"
        assert (await log_in(Client(server, "http"), plain))["status"] == 200


def changed(at: int, value: int = 0) -> Callable[[str], str]:
    """Change a byte of one of the two values, that of the key and that of what it hides."""

    def change(text: str) -> str:
        found = list(re.finditer(r"CipherValue>([^<]+)<", text))[value]
        data = bytearray(base64.b64decode(found[1]))
        data[at] ^= 1
        return text[: found.start(1)] + base64.b64encode(data).decode() + text[found.end(1) :]

    return change


def cut(text: str) -> str:
    """Leave too little of what is hidden."""
    found = list(re.finditer(r"CipherValue>([^<]+)<", text))[1]
    return f"{text[: found.start(1)]}AAAA{text[found.end(1) :]}"


def beside(text: str) -> str:
    """Add an assertion in the clear."""
    return text.replace("</ns0:Response>", f'<x:Assertion xmlns:x="{SAML}" ID="x"/></ns0:Response>')


def hiding(hides: Callable[[str], str]) -> tuple[tuple[str, object], ...]:
    """Change what is encrypted."""
    return (("hides", hides),)


def by(*cipher: str) -> tuple[tuple[str, object], ...]:
    """Encrypt in this way."""
    return (("cipher", cipher),)


BAD = {
    # Not for us, or changed on the way.
    "another key": Bad(CLOSED, more=(("encrypts_for", "other"),)),
    "a changed key": Bad(CLOSED, tampers=changed(40)),
    "changed at its beginning": Bad(CLOSED, tampers=changed(0, 1)),
    "changed in the middle": Bad(CLOSED, tampers=changed(400, 1)),
    "changed at its end": Bad(CLOSED, tampers=changed(-1, 1)),
    "cut": Bad(CLOSED, tampers=cut),
    "no base64": Bad(CLOSED, tampers=swap("<ns0:CipherValue>..", "<ns0:CipherValue>%%")),
    "no data": Bad(CLOSED, tampers=swap("(?s)<ns0:EncryptedData.*</ns0:EncryptedData>", "")),
    # Ways that would tell somebody what a stolen one says.
    "CBC": Bad(CLOSED, more=by(CBC, RSA_OAEP_MGF1P, "aes-128")),
    "3DES": Bad(CLOSED, more=by(TRIPLE_DES_CBC, RSA_OAEP_MGF1P, "des-192")),
    "RSA 1.5": Bad(CLOSED, more=by(AES256_GCM, RSA_1_5, "aes-256")),
    "another cipher's key": Bad(CLOSED, tampers=swap("aes256-gcm", "aes128-gcm")),
    # Signed as it must be in the clear.
    "unsigned": Bad("no signed assertion", more=unsigned_with()),
    "only the response": Bad("no signed assertion", more=unsigned_with(signs_response=True)),
    "another signer": Bad("invalid signature", more=(("signer", "other"),)),
    "another signer's response": Bad(
        "invalid signature", more=(("signer", "other"), ("signs_response", True))
    ),
    "a changed response": Bad(
        "invalid signature", tampers=changed(400, 1), more=(("signs_response", True),)
    ),
    "tampered": Bad("invalid signature", more=hiding(swap("2f6c-ann", "2f6c-bob"))),
    "another audience": Bad(
        "wrong audience",
        on("assertion.conditions.audience_restriction.0.audience.0.text", "https://other.test"),
    ),
    # One assertion, and nothing that has a second meaning.
    "one in the clear": Bad("not exactly one assertion", tampers=beside),
    "one in another": Bad(
        "not exactly one assertion",
        more=hiding(lambda text: f'<ns1:Assertion ID="x">{text}</ns1:Assertion>'),
    ),
    "something else": Bad(NONE, more=hiding(lambda text: '<x:Assertion xmlns:x="urn:x"/>')),
    "a comment": Bad(
        "XML with a document type, comment, CDATA or processing instruction",
        more=hiding(swap("2f6c-ann", "2f6c<!-- -->-ann")),
    ),
    "another in it": Bad(
        "unexpected encrypted assertion",
        more=hiding(swap("<ns1:Conditions", "<ns1:EncryptedAssertion/><ns1:Conditions")),
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_what_lets_nobody_in(server: Running, shared: Idp, bad: Bad) -> None:
    """O4, O7: one answer, whatever was wrong, so that nobody learns what is hidden."""
    more = dict(bad.more)
    if "encrypts_for" in more:
        more["encrypts_for"] = str(write_pair(shared.folder, "other")[1])
    idp = replace(shared, changes=bad.changes, tampers=bad.tampers, **more)
    answer = await log_in(Client(server, "websocket"), idp)
    assert await refused_with_a_line(server, answer) == bad.reason
    assert answer["error"]["message"] == MESSAGE


async def test_what_is_registered(shared: Idp) -> None:
    """The key is shown as one to encrypt for, with the ways that are taken."""
    settings = shared.settings(encryption="accepted")
    root = etree.fromstring(
        configured.describe(cheap_config(strategies={"site": settings}), "site").encode()
    )
    shown = {key.get("use"): key for key in root.iter("{*}KeyDescriptor")}
    assert sorted(shown) == ["encryption", "signing"]
    methods = [one.get("Algorithm") for one in shown["encryption"].iter("{*}EncryptionMethod")]
    assert methods[0] == AES256_GCM
    assert not any("cbc" in one or "1_5" in one for one in methods)
    await refuse_to_start(
        shared, "encryption: requires key", encryption="accepted", key="", certificate=""
    )
    await refuse_to_start(shared, "encryption: .*expected", encryption="yes")


async def test_nothing_of_it_in_the_log(shared: Idp, caplog: pytest.LogCaptureFixture) -> None:
    """X2: neither what was hidden nor what opens it."""
    caplog.set_level("DEBUG")
    async with served(shared, encryption="accepted") as server:
        client = Client(server, "http")
        form = shared.respond(location_of(await client.login("site")))
        assert (await come_back(client, form))["status"] == 200
        bad = replace(shared, hides=swap("2f6c-ann", "2f6c-bob"))
        assert (await log_in(client, bad))["status"] == 401
        strategy = server.app.services.strategies.get("site")
        assert "PRIVATE" not in repr(strategy) + repr(vars(strategy))
    ours = "\n".join(x.getMessage() for x in caplog.records if not x.name.startswith("saml2"))
    for secret in ("2f6c-ann", "2f6c-bob", "ann@mail", "PRIVATE KEY"):
        assert secret not in ours
