"""An identity provider of SAML, pysaml2's, that does what a test says, wrong things too."""

import base64
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from server.app import strategies as configured
from tests.interop.programs import do_without
from tests.support.login_steps import Client
from tests.support.providers.oidc import location_of
from tests.support.server import Answer, Envelope, Running, cheap_config, running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of libraries it uses, about each other
    from saml2 import BINDING_HTTP_REDIRECT, class_name
    from saml2.authn_context import PASSWORD
    from saml2.config import Config
    from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
    from saml2.server import Server
    from saml2.sigver import RSA_OAEP_MGF1P, pre_encryption_part, pre_signature_part
    from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

Fields = dict[str, str]
AES256_GCM = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
ENTITY, IDP, SSO = "https://login.test/saml", "https://idp.test/saml", "https://idp.test/sso"
CALLBACK = "https://login.test/_login/site"


@cache
def private_key(name: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Give a key to sign with; the one of `curve` is on one."""
    if name == "curve":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def write_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a key, and a certificate by which others know it; give both files."""
    return write_key(folder, name, private_key(name))


def write_key(
    folder: Path, name: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    """Write this key, and a certificate; give both files."""
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1))
    certificate = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = folder / f"{name}.key", folder / f"{name}.crt"
    files[0].write_bytes(pem)
    files[1].write_bytes(certificate.public_bytes(Encoding.PEM))
    return files


@dataclass
class Idp:
    """The provider; whoever was sent to it is `name_id` and `attributes`.

    `changes` is given the response before it is signed, `tampers` its XML afterwards. With
    `encrypts_for` a certificate, `cipher` hides what `hides` makes of the assertion once signed.
    """

    folder: Path
    entity_id: str = IDP
    signer: str = "idp"
    name_id: str = "2f6c-ann"
    format: str = NAMEID_FORMAT_PERSISTENT
    attributes: dict[str, list[str]] = field(
        default_factory=lambda: {"mail": ["ann@mail.test"], "givenName": ["Ann"]}
    )
    signs_assertion: bool = True
    signs_response: bool = False
    algorithms: tuple[str, str] = (DIGEST_SHA256, SIG_RSA_SHA256)
    encrypts_for: str = ""
    cipher: tuple[str, str, str] = (AES256_GCM, RSA_OAEP_MGF1P, "aes-256")
    hides: Callable[[str], str] = lambda text: text
    changes: Callable[[Any], None] = lambda response: None
    tampers: Callable[[str], str] = lambda text: text
    _servers: dict[str, Server] = field(default_factory=dict)

    def settings(self, **more: object) -> dict[str, Any]:
        """Give the table of a strategy `site` that logs in with this provider."""
        key, certificate = write_pair(self.folder, "sp")
        return {
            "use": "saml",
            "entityId": ENTITY,
            "callbackUrl": CALLBACK,
            "key": str(key),
            "certificate": str(certificate),
            "providers": {"main": self.table()},
            **more,
        }

    def table(self, **more: object) -> dict[str, object]:
        """Give the table of the provider itself."""
        certificate = str(write_pair(self.folder, "idp")[1])
        given = {"entityId": self.entity_id, "url": SSO, "certificates": [certificate]}
        return {**given, **more}

    def respond(self, location: str) -> Fields:
        """Do what the provider's page does for a user who agrees: give the form it posts."""
        assert location.startswith(f"{SSO}?"), location
        asked = dict(parse_qsl(urlsplit(location).query))
        server = self._server()
        request = server.parse_authn_request(
            asked["SAMLRequest"],
            BINDING_HTTP_REDIRECT,
            asked["RelayState"],
            asked["SigAlg"],
            asked["Signature"],
        )
        said = request.message
        assert said.assertion_consumer_service_url == CALLBACK
        text = self.tampers(self.sign(said.id))
        return {
            "SAMLResponse": base64.b64encode(text.encode()).decode(),
            "RelayState": asked["RelayState"],
        }

    def sign(self, request_id: str) -> str:
        """Give a response to a request, in XML."""
        server = self._server()
        response = server.create_authn_response(
            self.attributes,
            request_id,
            CALLBACK,
            ENTITY,
            name_id=NameID(format=self.format, text=self.name_id),
            authn={"class_ref": PASSWORD, "authn_auth": self.entity_id},
            sign_assertion=False,
            sign_response=False,
        )
        self.changes(response)
        signed = []
        # From the inside out: what a signature covers must not change any more.
        if self.signs_assertion:
            signed.append(response.assertion)
        if self.signs_response:
            signed.append(response)
        for number, one in enumerate(signed):
            digest, signature = self.algorithms
            one.signature = pre_signature_part(
                one.id, server.sec.my_cert, number, digest_alg=digest, sign_alg=signature
            )
        text = str(response)
        for one in signed:
            if one is response:
                text = self._encrypt(text)
            text = server.sec.sign_statement(text, class_name(one), node_id=one.id)
        return text if response in signed else self._encrypt(text)

    def _encrypt(self, text: str) -> str:
        """Encrypt the assertion of a response, as xmlsec does it."""
        if not self.encrypts_for:
            return text
        found = re.search(r"(?s)<ns1:Assertion.*</ns1:Assertion>", text)
        assert found is not None
        hidden = f"<ns1:EncryptedAssertion>{self.hides(found[0])}</ns1:EncryptedAssertion>"
        cipher, transport, kind = self.cipher
        template = pre_encryption_part(msg_enc=cipher, key_enc=transport)
        crypto = self._server().sec.crypto
        return str(
            crypto.encrypt_assertion(
                text.replace(found[0], hidden), self.encrypts_for, template, kind
            )
        )

    def _server(self) -> Server:
        name = f"{self.signer} of {self.entity_id}"
        if name not in self._servers:
            key, certificate = write_pair(self.folder, self.signer)
            config = cheap_config(strategies={"site": self.settings()})
            endpoints = {"single_sign_on_service": [(SSO, BINDING_HTTP_REDIRECT)]}
            service = {"endpoints": endpoints, "want_authn_requests_signed": True}
            loaded = Config().load(
                {
                    "entityid": self.entity_id,
                    "service": {"idp": service},
                    "key_file": str(key),
                    "cert_file": str(certificate),
                    "xmlsec_binary": shutil.which("xmlsec1"),
                    "metadata": {"inline": [configured.describe(config, "site")]},
                }
            )
            self._servers[name] = Server(config=loaded)
        return self._servers[name]


def served(idp: Idp, **settings: object) -> AbstractAsyncContextManager[Running]:
    """Run a server where one logs in with this provider."""
    return running(cheap_config(strategies={"site": idp.settings(**settings)}))


async def come_back(client: Client, form: Fields) -> Envelope:
    """Bring a response, as a browser is made to by the provider's page, or as arguments."""
    if client.transport != "http":
        back = {"state": form["RelayState"], "SAMLResponse": form["SAMLResponse"]}
        return await client.login("site", **back)
    answer = await post(client.server, form)
    if answer.status != 303:
        return answer.json
    location = dict(parse_qsl(answer.headers["location"].removeprefix("?")))
    assert location["state"] == form["RelayState"]
    return await client.login("site", **location)


async def post(server: Running, form: Fields, **headers: str) -> Answer:
    """Send a form as a page of the provider's does: without our cookie."""
    http = await server.connect()
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://idp.test"}
    path = "/_login/site"
    return await http.ask("POST", path, urlencode(form).encode(), headers=fields | headers)


async def log_in(client: Client, provider: Idp, **more: str) -> Envelope:
    """Take all steps."""
    away = await client.login("site", **more)
    return await come_back(client, provider.respond(location_of(away)))


@contextmanager
def identifying() -> Iterator[Idp]:
    """Have a provider; the test is skipped without the program it signs by."""
    if shutil.which("xmlsec1") is None:
        do_without("xmlsec1 is not installed")
    with TemporaryDirectory() as folder:
        yield Idp(Path(folder))
