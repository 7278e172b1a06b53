"""Verification of WebAuthn responses (WebAuthn level 3 §7.1, §7.2; security check A14).

Knows nothing of users and of the store. All input is untrusted: its size and structure are checked
first, with a reason for the audit log, then it is verified by a library that knows the formats.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from protocol.errors import LocalError
from server.auth.strategies.passkey.cbor import is_sequence
from server.auth.strategies.passkey.settings import ALGORITHMS

try:
    import webauthn
    from webauthn.helpers import (
        decode_credential_public_key,
        decoded_public_key_to_cryptography,
        parse_cbor,
    )
    from webauthn.helpers.cose import COSEAlgorithmIdentifier
except ImportError:
    raise LocalError("needs webauthn: pip install 'manykeys[passkeys]'") from None

MOST_ID_BYTES = 1023
MOST_HANDLE_BYTES = 64
MOST_CLIENT_DATA_BYTES = 4096
MOST_AUTHENTICATOR_DATA_BYTES = 4096
MOST_ATTESTATION_BYTES = 16_384
MOST_SIGNATURE_BYTES = 1024
MOST_PUBLIC_KEY_BYTES = 2048
"""Maximum sizes of what is sent. The first two are WebAuthn's own; the others are several times
what occurs."""
TRANSPORTS = ("ble", "cable", "hybrid", "internal", "nfc", "smart-card", "usb")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_HEAD_BYTES = 37  # hash of rpId, flags, counter
_PRESENT, _VERIFIED, _ATTESTED, _EXTENDED = 0x01, 0x04, 0x40, 0x80

T = TypeVar("T")


class Rejected(Exception):
    """A response that proves nothing; the text says why, for the audit log."""


class Cloned(Rejected):
    """A response which shows that two authenticators have the same key."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a response must match. Origins of frames are refused unless they are in
    `top_origins`."""

    challenge: str = field(repr=False)
    rp_id: str
    origins: tuple[str, ...]
    top_origins: tuple[str, ...]
    must_be_verified: bool


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that an authenticator has created."""

    id: str
    public_key: bytes = field(repr=False)
    sign_count: int
    is_backed_up: bool
    transports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signature as it was sent, not verified: `id` is the key's, `handle` the user's if the
    authenticator sends it."""

    id: str
    handle: str | None
    client_data: bytes = field(repr=False)
    data: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Used:
    """New state of a key after a verified signature."""

    sign_count: int
    is_backed_up: bool


def read_bytes(value: object, limit: int) -> bytes | None:
    """Return the bytes of a base64url string, None for anything else and for more than `limit`
    bytes."""
    if not isinstance(value, str) or len(value) > limit * 4 // 3 + 1:
        return None
    if not _BASE64URL.fullmatch(value) or len(value) % 4 == 1:
        return None
    found = urlsafe_b64decode(value + "=" * (-len(value) % 4))
    return found if write_bytes(found) == value else None


def write_bytes(value: bytes) -> str:
    """Return bytes in base64url."""
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def read_assertion(credential: object) -> Assertion:
    """Parse the JSON form of the result of `navigator.credentials.get`; Rejected if it is
    malformed."""
    key_id, response = _read_credential(credential)
    handle = response.get("userHandle")
    if handle is not None and not read_bytes(handle, MOST_HANDLE_BYTES):
        raise Rejected("malformed userHandle")
    return Assertion(
        key_id,
        None if handle is None else str(handle),
        _member(response, "clientDataJSON", MOST_CLIENT_DATA_BYTES),
        _member(response, "authenticatorData", MOST_AUTHENTICATOR_DATA_BYTES),
        _member(response, "signature", MOST_SIGNATURE_BYTES),
    )


def verify_assertion(
    assertion: Assertion, expected: Expected, *, public_key: bytes, sign_count: int
) -> Used:
    """Verify a signature by the key it names, whose counter was `sign_count` the last time;
    Rejected unless everything is as expected."""
    _check_client_data(assertion.client_data, "webauthn.get", expected)
    flags = _check_head(assertion.data, expected)
    if flags & _ATTESTED or not is_sequence(
        assertion.data, _HEAD_BYTES, 1 if flags & _EXTENDED else 0
    ):
        raise Rejected("malformed authenticatorData")
    verified = _ask(
        lambda: webauthn.verify_authentication_response(
            credential={
                "id": assertion.id,
                "rawId": assertion.id,
                "type": "public-key",
                "response": {
                    "clientDataJSON": write_bytes(assertion.client_data),
                    "authenticatorData": write_bytes(assertion.data),
                    "signature": write_bytes(assertion.signature),
                },
            },
            expected_challenge=webauthn.base64url_to_bytes(expected.challenge),
            expected_rp_id=expected.rp_id,
            expected_origin=list(expected.origins),
            credential_public_key=public_key,
            # Compared below, once the signature is verified: otherwise an attacker without the key
            # could trigger the alarm.
            credential_current_sign_count=0,
            require_user_verification=expected.must_be_verified,
        )
    )
    count = verified.new_sign_count
    if (count or sign_count) and count <= sign_count:
        raise Cloned("possible clone of the key: its counter went back")
    return Used(count, verified.credential_backed_up)


def verify_registration(
    credential: object, expected: Expected, *, algorithms: tuple[str, ...]
) -> NewKey:
    """Verify the JSON form of the result of `navigator.credentials.create`; Rejected unless
    everything is as expected."""
    key_id, response = _read_credential(credential)
    client_data = _member(response, "clientDataJSON", MOST_CLIENT_DATA_BYTES)
    attestation = _member(response, "attestationObject", MOST_ATTESTATION_BYTES)
    _check_client_data(client_data, "webauthn.create", expected)
    if not is_sequence(attestation, 0, 1):
        raise Rejected("malformed attestationObject")
    data = _data_in(attestation)
    _check_attested(data, _check_head(data, expected))
    verified = _ask(
        lambda: webauthn.verify_registration_response(
            credential={
                "id": key_id,
                "rawId": key_id,
                "type": "public-key",
                "response": {
                    "clientDataJSON": write_bytes(client_data),
                    "attestationObject": write_bytes(attestation),
                },
            },
            expected_challenge=webauthn.base64url_to_bytes(expected.challenge),
            expected_rp_id=expected.rp_id,
            expected_origin=list(expected.origins),
            require_user_verification=expected.must_be_verified,
            supported_pub_key_algs=numbers_of(algorithms),
        )
    )
    if write_bytes(verified.credential_id) != key_id:
        raise Rejected("different ids of the key")
    check_public_key(verified.credential_public_key, algorithms)
    return NewKey(
        key_id,
        verified.credential_public_key,
        verified.sign_count,
        verified.credential_backed_up,
        transports_in(response.get("transports")),
    )


def check_public_key(public_key: bytes, algorithms: tuple[str, ...]) -> None:
    """Raise Rejected unless it is a COSE key of one of these algorithms."""
    if len(public_key) > MOST_PUBLIC_KEY_BYTES or not is_sequence(public_key, 0, 1):
        raise Rejected("malformed public key")
    decoded = _ask(lambda: decode_credential_public_key(public_key))
    if decoded.alg not in numbers_of(algorithms):
        raise Rejected("a key of another algorithm")
    _ask(lambda: decoded_public_key_to_cryptography(decoded))


def numbers_of(algorithms: tuple[str, ...]) -> list[COSEAlgorithmIdentifier]:
    """Return the algorithms as the library names them."""
    return [COSEAlgorithmIdentifier(ALGORITHMS[name]) for name in algorithms]


def transports_in(given: object) -> tuple[str, ...]:
    """Return the known transports among those given; they are only hints."""
    if not isinstance(given, list):
        return ()
    return tuple(name for name in TRANSPORTS if name in given)


def _read_credential(credential: object) -> tuple[str, Mapping[str, object]]:
    """Return the id of a credential, and its response."""
    if not isinstance(credential, dict) or credential.get("type") != "public-key":
        raise Rejected("malformed credential")
    key_id, response = credential.get("id"), credential.get("response")
    if not read_bytes(key_id, MOST_ID_BYTES) or credential.get("rawId", key_id) != key_id:
        raise Rejected("malformed credential")
    if not isinstance(response, dict):
        raise Rejected("malformed credential")
    return str(key_id), response


def _member(response: Mapping[str, object], name: str, limit: int) -> bytes:
    found = read_bytes(response.get(name), limit)
    if not found:
        raise Rejected(f"malformed {name}")
    return found


def _check_client_data(raw: bytes, kind: str, expected: Expected) -> None:
    """Check what the browser says: which challenge, and on which page (WebAuthn §5.8.1)."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise Rejected("malformed clientDataJSON")
    if data.get("type") != kind:
        raise Rejected("a response to another kind of request")
    challenge = data.get("challenge")
    given = challenge.encode(errors="replace") if isinstance(challenge, str) else b""
    if not hmac.compare_digest(given, expected.challenge.encode()):
        raise Rejected("another challenge")
    if data.get("origin") not in expected.origins:
        raise Rejected("another origin")
    is_framed = data.get("crossOrigin", False) is not False or "topOrigin" in data
    if is_framed and data.get("topOrigin") not in expected.top_origins:
        raise Rejected("a page in a frame of another site")


def _check_head(data: bytes, expected: Expected) -> int:
    """Check what the authenticator says: for which domain, and what the user did. Return its flags
    (WebAuthn §6.1)."""
    if len(data) < _HEAD_BYTES:
        raise Rejected("malformed authenticatorData")
    if data[:32] != hashlib.sha256(expected.rp_id.encode()).digest():
        raise Rejected("another rpId")
    flags = data[32]
    if not flags & _PRESENT:
        raise Rejected("no user was present")
    if expected.must_be_verified and not flags & _VERIFIED:
        raise Rejected("the user was not verified")
    return flags


def _data_in(attestation: bytes) -> bytes:
    """Return the authenticator data of an attestation (WebAuthn §6.5.4)."""
    parsed = _ask(lambda: parse_cbor(attestation))
    data = parsed.get("authData") if isinstance(parsed, dict) else None
    if not isinstance(data, bytes):
        raise Rejected("malformed attestationObject")
    return data


def _check_attested(data: bytes, flags: int) -> None:
    """Check that the new key follows the head: AAGUID, id with its length, public key (WebAuthn
    §6.5.1)."""
    length = int.from_bytes(data[_HEAD_BYTES + 16 : _HEAD_BYTES + 18], "big")
    count = 2 if flags & _EXTENDED else 1
    is_sound = flags & _ATTESTED and length <= MOST_ID_BYTES
    if not is_sound or not is_sequence(data, _HEAD_BYTES + 18 + length, count):
        raise Rejected("malformed authenticatorData")


def _ask(verify: Callable[[], T]) -> T:
    """Return the result of a library call.

    For unexpected input the library raises more than its own exceptions: whatever it is, nothing is
    proved. Its text may contain what was sent.
    """
    try:
        return verify()
    except Exception as refusal:
        raise Rejected(f"not verified: {type(refusal).__name__}") from None
