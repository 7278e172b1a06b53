"""An authenticator in software, with the browser around it: it answers as it is asked to, or with
whatever a test wants to be wrong."""

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

ORIGIN = "https://app.keys.test"
RP_ID = "keys.test"
PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, ATTESTED, EXTENDED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
GOOD = PRESENT | VERIFIED
Json = dict[str, object]


def encode(value: bytes) -> str:
    """Give base64url without padding."""
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Give the bytes of base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Es256:
    """ECDSA on P-256."""

    number = -7

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def cose(self) -> dict[int, object]:
        """Give the public key (RFC 9053 §7.1)."""
        numbers = self._key.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
        return {1: 2, 3: self.number, -1: 1, -2: x, -3: y}

    def sign(self, data: bytes) -> bytes:
        """Sign."""
        return self._key.sign(data, ec.ECDSA(SHA256()))


class EdDsa:
    """Ed25519."""

    number = -8

    def __init__(self) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate()

    def cose(self) -> dict[int, object]:
        """Give the public key."""
        return {1: 1, 3: self.number, -1: 6, -2: self._key.public_key().public_bytes_raw()}

    def sign(self, data: bytes) -> bytes:
        """Sign."""
        return self._key.sign(data)


class Rs256:
    """RSA with PKCS #1 v1.5."""

    number = -257

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    def cose(self) -> dict[int, object]:
        """Give the public key (RFC 8230)."""
        numbers = self._key.public_key().public_numbers()
        return {1: 3, 3: self.number, -1: numbers.n.to_bytes(256, "big"), -2: b"\x01\x00\x01"}

    def sign(self, data: bytes) -> bytes:
        """Sign."""
        return self._key.sign(data, padding.PKCS1v15(), SHA256())


@dataclass
class Answers:
    """What may be wrong with an answer; None is what it should be."""

    origin: object = ORIGIN
    challenge: str | None = None
    kind: object = None
    rp_id: str = RP_ID
    flags: int = GOOD
    count: int | None = None
    handle: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    """Further members of the client data."""
    behind: bytes = b""
    """What follows the authenticator's data."""


class Authenticator:
    """Has one key after it was asked to make one."""

    def __init__(self, kind: Callable[[], Es256 | EdDsa | Rs256] = Es256, count: int = 0) -> None:
        self.key = kind()
        self.id = os.urandom(32)
        self.handle = ""
        self.count = count
        """Of signatures; 0 for one that does not count."""

    def create(self, asked: Json, wrong: Answers | None = None, fmt: str = "none") -> Json:
        """Make a key: the JSON form of what `navigator.credentials.create` gives."""
        wrong = wrong or Answers()
        user = asked["user"]
        assert isinstance(user, dict)
        self.handle = str(user["id"])
        client_data = self._client_data(asked, "webauthn.create", wrong)
        data = self._data(wrong, self.count, ATTESTED) + self.attested() + wrong.behind
        statement: Json = {}
        if fmt == "packed":
            signed = data + hashlib.sha256(client_data).digest()
            statement = {"alg": self.key.number, "sig": self.key.sign(signed)}
        attestation = cbor2.dumps({"fmt": fmt, "attStmt": statement, "authData": data})
        return self._credential(
            {
                "clientDataJSON": encode(client_data),
                "attestationObject": encode(attestation),
                "transports": ["internal", "hybrid"],
            }
        )

    def get(self, asked: Json, wrong: Answers | None = None) -> Json:
        """Sign: the JSON form of what `navigator.credentials.get` gives."""
        wrong = wrong or Answers()
        if self.count:
            self.count += 1
        count = self.count if wrong.count is None else wrong.count
        client_data = self._client_data(asked, "webauthn.get", wrong)
        data = self._data(wrong, count, 0) + wrong.behind
        signature = self.key.sign(data + hashlib.sha256(client_data).digest())
        return self._credential(
            {
                "clientDataJSON": encode(client_data),
                "authenticatorData": encode(data),
                "signature": encode(signature),
                "userHandle": self.handle if wrong.handle is None else wrong.handle,
            }
        )

    def attested(self) -> bytes:
        """Give what an authenticator says of a new key (WebAuthn §6.5.1)."""
        length = len(self.id).to_bytes(2, "big")
        return bytes(16) + length + self.id + cbor2.dumps(self.key.cose())

    def _client_data(self, asked: Json, kind: str, wrong: Answers) -> bytes:
        members = {
            "type": kind if wrong.kind is None else wrong.kind,
            "challenge": asked["challenge"] if wrong.challenge is None else wrong.challenge,
            "origin": wrong.origin,
            "crossOrigin": False,
        }
        return json.dumps(members | dict(wrong.more)).encode()

    def _data(self, wrong: Answers, count: int, flags: int) -> bytes:
        rp_id_hash = hashlib.sha256(wrong.rp_id.encode()).digest()
        return rp_id_hash + bytes([wrong.flags | flags]) + count.to_bytes(4, "big")

    def _credential(self, response: Json) -> Json:
        own = encode(self.id)
        shown: Json = {"id": own, "rawId": own, "type": "public-key", "response": response}
        return shown | {"clientExtensionResults": {}, "authenticatorAttachment": "platform"}
