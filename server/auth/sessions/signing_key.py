"""Signing key: sign and verify JSON Web Signatures with one key (RFC 7515, 7518, 8037).

The header of a token is never parsed: it must be, byte for byte, the one its key writes. So a token
can choose neither its algorithm nor where a key comes from (RFC 8725 §3.1, §3.10): `alg: none`,
`jku`, `jwk`, `crit` and `zip` have no effect. Knows no storage.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, cast

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protocol.errors import LocalError

# RFC 7518 §3.2: an HMAC secret is at least as long as the hash output.
_MIN_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_SECRET_BYTES = 64
_RSA_BITS = 2048
_KID_BYTES = 8
_PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")  # of a JWK, RFC 7518 §6 and RFC 8037 §2
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class SigningKey:
    """A key with its public half, which for HMAC is the same bytes.

    `header` is the first segment of all its tokens.
    """

    kid: str
    algorithm: str
    created_at_ms: int
    header: str
    # The keys of PyJWT's algorithms have no common type but Any.
    _private: Any
    _public: Any

    def sign(self, payload: bytes) -> str:
        """Return the compact form of a JSON Web Token (RFC 7515 §7.1)."""
        signed = f"{self.header}.{_write_base64(payload)}"
        signature = jwt.get_algorithm_by_name(self.algorithm).sign(signed.encode(), self._private)
        return f"{signed}.{_write_base64(signature)}"

    def open(self, token: str) -> bytes | None:
        """Return the payload of a token that this key signed, None for any other string."""
        segments = token.split(".", 3)
        if len(segments) != 3 or segments[0] != self.header:
            return None
        header, payload, signature = segments
        read, proof = _read_base64(payload), _read_base64(signature)
        if not read or not proof:
            return None
        method = jwt.get_algorithm_by_name(self.algorithm)
        is_ours = method.verify(f"{header}.{payload}".encode(), self._public, proof)
        return read if is_ours else None

    def public_jwk(self) -> dict[str, str] | None:
        """Return the public key for verifiers (RFC 7517 §4); None for HMAC, which has none."""
        if self.algorithm in _MIN_SECRET_BYTES:
            return None
        jwk = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self._public, as_dict=True)
        public = {name: str(jwk[name]) for name in _PUBLIC_MEMBERS if name in jwk}
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}


def make_secret(algorithm: str) -> str:
    """Return a new key as it is stored: an HMAC secret in hexadecimal, or a PEM string (PKCS #8).

    RSA takes tenths of a second: not for the event loop.
    """
    key: PrivateKey
    match algorithm:
        case "EdDSA":
            key = ed25519.Ed25519PrivateKey.generate()
        case "ES256":
            key = ec.generate_private_key(ec.SECP256R1())
        case "RS256":
            key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        case _:
            return secrets.token_hex(_SECRET_BYTES)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def make_kid() -> str:
    """Return the ID of a new key."""
    return secrets.token_hex(_KID_BYTES)


def load_stored(kid: str, algorithm: str, secret: str, created_at_ms: int) -> SigningKey:
    """Return the key of a string from `make_secret`; LocalError if it is not one, or too weak."""
    try:
        if algorithm in _MIN_SECRET_BYTES:
            return _hmac_key(kid, algorithm, bytes.fromhex(secret), created_at_ms)
        private = jwt.get_algorithm_by_name(algorithm).prepare_key(secret)
        if isinstance(private, rsa.RSAPrivateKey) and private.key_size < _RSA_BITS:
            raise LocalError(f"the signing key {kid} has fewer than {_RSA_BITS} bits")
        public = cast(PrivateKey, private).public_key()
    except (jwt.PyJWTError, NotImplementedError, ValueError, TypeError, AttributeError):
        raise LocalError(f"cannot read the signing key {kid} ({algorithm})") from None
    return SigningKey(kid, algorithm, created_at_ms, _write_header(kid, algorithm), private, public)


def load_configured(algorithm: str, secret: str) -> SigningKey:
    """Return the key of a configured secret; its kid changes with the secret and the algorithm.

    LocalError if the algorithm does not use a secret, or requires a longer one.
    """
    setting = "security.authToken.secret"
    min_bytes = _MIN_SECRET_BYTES.get(algorithm)
    if min_bytes is None:
        raise LocalError(
            f"{setting}: cannot be used with security.authToken.algorithm = {algorithm}, whose "
            "keys are generated; expected one of " + ", ".join(_MIN_SECRET_BYTES)
        )
    text = secret.encode()
    if len(text) < min_bytes:
        raise LocalError(
            f"{setting}: too short for security.authToken.algorithm = {algorithm}; "
            f"expected {min_bytes} bytes or more"
        )
    kid = hashlib.sha256(algorithm.encode() + b"\0" + text).hexdigest()[: 2 * _KID_BYTES]
    return _hmac_key(kid, algorithm, text, 0)


def _hmac_key(kid: str, algorithm: str, secret: bytes, created_at_ms: int) -> SigningKey:
    if len(secret) < _MIN_SECRET_BYTES[algorithm]:
        raise LocalError(f"the signing key {kid} is too short for {algorithm}")
    return SigningKey(kid, algorithm, created_at_ms, _write_header(kid, algorithm), secret, secret)


def _write_header(kid: str, algorithm: str) -> str:
    # The order of members is part of every token issued: a change would refuse them all.
    return _write_base64(orjson.dumps({"alg": algorithm, "typ": "JWT", "kid": kid}))


def _write_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _read_base64(text: str) -> bytes | None:
    """Decode base64url as RFC 7515 §2 defines it; None for every other spelling of the bytes."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return data if _write_base64(data) == text else None
