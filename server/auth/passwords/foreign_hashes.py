"""Password hashes imported from other programs: verified until the first login, which replaces them
with this server's.

Supported are the records of Kuzzle, bcrypt, Django's PBKDF2 and, where argon2-cffi is installed,
Argon2. The work of each form is limited, so that no record blocks a thread. Knows no user and no
storage; runs in the threads of `server.auth.passwords.hasher`.
"""

import base64
import binascii
import hashlib
import hmac
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from functools import partial

import bcrypt

Record = Mapping[str, object]
"""`{"hash": notation}`, or `{"kuzzle": record}` as Kuzzle stores it, with `digest` for its
encoding."""
Check = Callable[[str], bool | None]
"""Returns whether a password is correct; None if that cannot be checked."""
Derive = Callable[[bytes], bytes]

MOST_BCRYPT_COST = 16
MOST_ITERATIONS = 3_000_000
"""Of PBKDF2: one to two seconds."""
_MOST_ARGON2_KIB, _MOST_ARGON2_PASSES, _MOST_ARGON2_LANES = 262_144, 16, 16
_MAX_SALT_CHARACTERS = 4096
_BCRYPT_BYTES = 72
_KUZZLE_ITERATIONS = 10_000

_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_DJANGO = re.compile(
    r"pbkdf2_(sha1|sha256)\$([0-9]{1,9})\$([^$]{1,128})\$([A-Za-z0-9+/]{1,88}={0,2})"
)
_ARGON2 = re.compile(
    r"\$argon2(id|i|d)\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})"
    r"\$[A-Za-z0-9+/]{8,88}\$[A-Za-z0-9+/]{8,172}"
)
_KUZZLE_ALGORITHM = re.compile(
    r"(?:RSA-)?(sha(?:1|224|256|384|512))(?:WithRSAEncryption)?", re.IGNORECASE
)
# In bytes, although Kuzzle took its own numbers as bits.
_KUZZLE_BYTES = {"sha1": 40, "sha224": 224, "sha256": 256, "sha384": 384, "sha512": 512}
_argon2 = (
    importlib.import_module("argon2.low_level") if importlib.util.find_spec("argon2") else None
)


def verify(password: str, record: Record) -> bool | None:
    """Return whether this is the record's password; None for a record that cannot be read, or that
    exceeds the work limit."""
    check = _find_check(record)
    return None if check is None else check(password)


def is_readable(record: Record) -> bool:
    """Return whether passwords can be verified with a record, without hashing."""
    return _find_check(record) is not None


def _find_check(record: Record) -> Check | None:
    kuzzle = record.get("kuzzle")
    if isinstance(kuzzle, dict):
        return _find_kuzzle(kuzzle)
    notation = record.get("hash")
    if not isinstance(notation, str) or not notation.isascii():
        return None
    if match := _BCRYPT.fullmatch(notation):
        is_bounded = 4 <= int(match[1]) <= MOST_BCRYPT_COST
        return partial(_verify_bcrypt, notation.encode()) if is_bounded else None
    if match := _DJANGO.fullmatch(notation):
        iterations = int(match[2])
        is_bounded = 0 < iterations <= MOST_ITERATIONS
        found = partial(_verify_django, match[1], iterations, match[3].encode(), match[4].encode())
        return found if is_bounded else None
    if match := _ARGON2.fullmatch(notation):
        is_bounded = _argon2 is not None and (
            int(match[2]) <= _MOST_ARGON2_KIB
            and int(match[3]) <= _MOST_ARGON2_PASSES
            and int(match[4]) <= _MOST_ARGON2_LANES
        )
        return partial(_verify_argon2, notation.encode(), match[1]) if is_bounded else None
    return None


def is_slow(record: Record) -> bool:
    """Return whether verifying takes about as long as with this server's own hashes."""
    notation = record.get("hash")
    return isinstance(notation, str) and _BCRYPT.fullmatch(notation) is not None


def _verify_bcrypt(notation: bytes, password: str) -> bool | None:
    try:
        # Other programs have ignored what follows byte 72.
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], notation)
    except ValueError:
        return None  # a salt that is not in bcrypt's notation


def _verify_django(
    algorithm: str, iterations: int, salt: bytes, encoded: bytes, password: str
) -> bool:
    key = hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations)
    return hmac.compare_digest(base64.b64encode(key), encoded)


def _verify_argon2(notation: bytes, variant: str, password: str) -> bool | None:
    if _argon2 is None:
        return None
    kind = {"id": _argon2.Type.ID, "i": _argon2.Type.I, "d": _argon2.Type.D}[variant]
    try:
        return bool(_argon2.verify_secret(notation, password.encode(), kind))
    except _argon2.VerifyMismatchError:
        return False
    except _argon2.VerificationError:
        return None


def _find_kuzzle(record: Record) -> Check | None:
    stored, salt = record.get("userPassword"), record.get("userSalt")
    algorithm = record.get("algorithm")
    match = _KUZZLE_ALGORITHM.fullmatch(algorithm) if isinstance(algorithm, str) else None
    if match is None or not isinstance(stored, str) or not isinstance(salt, str):
        return None
    expected = _decode(stored, record.get("digest", "hex"))
    derive = _find_kuzzle_derivation(salt, match[1].lower(), record)
    # A pepper was never stored with the record, so nothing can be verified with one.
    if expected is None or derive is None or record.get("pepper"):
        return None
    return partial(_verify_kuzzle, derive, expected)


def _find_kuzzle_derivation(salt: str, name: str, record: Record) -> Derive | None:
    """Return how Kuzzle derived a password's hash; the salt is used as a string, although it looks
    like hexadecimal."""
    encryption = record.get("encryption") or "hmac"
    try:
        key = salt.encode()
    except UnicodeEncodeError:
        return None
    if len(salt) > _MAX_SALT_CHARACTERS:
        return None
    if record.get("stretching"):
        length = _KUZZLE_BYTES[name]
        return lambda password: hashlib.pbkdf2_hmac(name, password, key, _KUZZLE_ITERATIONS, length)
    if encryption == "hmac":
        return lambda password: hmac.digest(key, password, name)
    if encryption == "hash":
        prefix = key + b":" if key else b""
        return lambda password: hashlib.new(name, prefix + password).digest()
    return None


def _verify_kuzzle(derive: Derive, expected: bytes, password: str) -> bool | None:
    try:
        return hmac.compare_digest(derive(password.encode()), expected)
    except UnicodeEncodeError:
        return None


def _decode(text: str, encoding: object) -> bytes | None:
    try:
        if encoding == "hex":
            return bytes.fromhex(text)
        if encoding == "base64":
            return base64.b64decode(text, validate=True)
        if encoding == "base64url":
            padded = text + "=" * (-len(text) % 4)
            return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        pass
    return None
