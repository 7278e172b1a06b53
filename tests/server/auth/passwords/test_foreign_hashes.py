"""Passwords hashed by other programs: read, bounded, and replaced at the next login
(docs/api/strategies.md#imported-hashes; security checks P12, P13)."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

import bcrypt
import pytest

from server.auth.passwords import foreign_hashes as foreignhashes
from server.auth.passwords.foreign_hashes import verify
from server.auth.passwords.hasher import PasswordHasher
from server.storage.base import Update
from server.storage.rows import Table
from tests.support.server import PASSWORD, TRANSPORTS, Running

SALT = "5e1f" * 64
SHA2 = ("sha224", "sha256", "sha384", "sha512")
KEY_BYTES = {"sha1": 40, "sha224": 224, "sha256": 256, "sha384": 384, "sha512": 512}


def kuzzle(stored: str, **members: object) -> Mapping[str, object]:
    """Give a record as the reference stores it (docs/api/strategies.md#stored-passwords)."""
    record = {
        "userPassword": stored,
        "userSalt": SALT,
        "algorithm": "sha512",
        "stretching": True,
        "encryption": "hmac",
        "pepper": False,
    }
    return {"kuzzle": {**record, **members}}


def stretched(name: str, password: str = PASSWORD) -> bytes:
    """docs/api/strategies.md#imported-hashes: the salt as text, 10 000 iterations, keylen in
    bytes."""
    key_bytes = KEY_BYTES[name]
    return hashlib.pbkdf2_hmac(name, password.encode(), SALT.encode(), 10_000, key_bytes)


SPELLINGS = [
    (spelling, name)
    for name in ("sha1", *SHA2)
    for spelling in (name, f"RSA-{name.upper()}", f"{name}WithRSAEncryption")
]


@pytest.mark.parametrize(("spelling", "name"), SPELLINGS)
def test_stretched_records(spelling: str, name: str) -> None:
    """docs/api/strategies.md#imported-hashes, row 1, in the three spellings of each algorithm."""
    record = kuzzle(stretched(name).hex(), algorithm=spelling)
    assert verify(PASSWORD, record) is True
    assert verify(PASSWORD + "x", record) is False


def test_the_default_record_is_1024_characters_long() -> None:
    """docs/api/strategies.md#imported-hashes: PBKDF2-SHA512 of 512 bytes."""
    assert len(stretched("sha512").hex()) == 1024


@pytest.mark.parametrize("name", SHA2)
@pytest.mark.parametrize("encryption", [{"encryption": "hmac"}, {"encryption": None}])
def test_hmac_records(name: str, encryption: Mapping[str, object]) -> None:
    """docs/api/strategies.md#imported-hashes, row 2: also where the record names no encryption."""
    stored = hmac.new(SALT.encode(), PASSWORD.encode(), name).hexdigest()
    record = kuzzle(stored, algorithm=name, stretching=False, **encryption)
    assert verify(PASSWORD, record) is True
    assert verify("wrong", record) is False


@pytest.mark.parametrize("salt", [SALT, ""])
def test_hash_records(salt: str) -> None:
    """docs/api/strategies.md#imported-hashes, row 3: `<salt>:<password>`, or the password alone
    without a salt."""
    stored = hashlib.sha256((f"{salt}:{PASSWORD}" if salt else PASSWORD).encode()).hexdigest()
    record = kuzzle(stored, algorithm="sha256", stretching=False, encryption="hash", userSalt=salt)
    assert verify(PASSWORD, record) is True
    assert verify("wrong", record) is False


def test_a_record_of_before() -> None:
    """A fixed point: SHA-1 of "password" as such, FIPS 180 applied elsewhere."""
    stored = "5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8"
    record = kuzzle(stored, algorithm="sha1", stretching=False, encryption="hash", userSalt="")
    assert verify("password", record) is True


@pytest.mark.parametrize(
    ("digest", "write"),
    [
        ("hex", bytes.hex),
        ("base64", lambda key: base64.b64encode(key).decode()),
        ("base64url", lambda key: base64.urlsafe_b64encode(key).decode().rstrip("=")),
    ],
)
def test_encodings(digest: str, write) -> None:
    """docs/api/strategies.md#local-options `digest`."""
    stored = write(stretched("sha256"))
    record = kuzzle(stored, algorithm="sha256", digest=digest)
    assert verify(PASSWORD, record) is True
    assert verify("wrong", record) is False


GOOD = stretched("sha512").hex()
# `bcrypt` of the reference implementation: "U*U" at cost 5 (its own test vectors).
VECTOR = "CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
def test_bcrypt_in_its_three_spellings(version: str) -> None:
    """The published test vector of the reference implementation."""
    assert verify("U*U", {"hash": f"${version}$05${VECTOR}"}) is True
    assert verify("U*U*", {"hash": f"${version}$05${VECTOR}"}) is False


def test_bcrypt_of_others_ends_at_byte_72() -> None:
    """Whoever hashed a longer password with plain bcrypt can still log in."""
    notation = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert verify("x" * 72 + "any", {"hash": notation}) is True
    assert verify("x" * 71, {"hash": notation}) is False


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_django_records(name: str) -> None:
    """`algorithm$iterations$salt$base64`."""
    key = hashlib.pbkdf2_hmac(name, PASSWORD.encode(), b"seasalt", 1000)
    notation = f"pbkdf2_{name}$1000$seasalt${base64.b64encode(key).decode()}"
    assert verify(PASSWORD, {"hash": notation}) is True
    assert verify("wrong", {"hash": notation}) is False


def test_a_record_written_by_django() -> None:
    """From Django's own tests: "lètmein", 10 000 iterations."""
    notation = "pbkdf2_sha256$10000$seasalt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY="
    assert verify("lètmein", {"hash": notation}) is True
    assert verify("lètmeiN", {"hash": notation}) is False


ARGON2 = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"


def test_argon2_where_its_library_is() -> None:
    """The published test vector of the reference implementation ("password", "somesalt")."""
    assert verify("password", {"hash": ARGON2}) is True
    assert verify("passwork", {"hash": ARGON2}) is False
    assert verify("password", {"hash": ARGON2[:-2]}) is not True


REFUSED = [
    {},
    {"hash": None},
    {"hash": 5},
    {"hash": "plain"},
    {"hash": "$2b$31$" + "." * 53},
    {"hash": "$2b$17$" + "." * 53},
    {"hash": "$2b$03$" + "." * 53},
    {"hash": "$2b$99$" + "." * 53},
    {"hash": "$2x$05$" + VECTOR},
    {"hash": "$2b$05$" + VECTOR[:-1]},
    {"hash": "$2b$05$" + "." * 21 + "9" + "." * 31},
    {"hash": "$2b$05$" + VECTOR + "\n"},
    {"hash": "$2b$0٥$" + VECTOR},
    {"hash": "pbkdf2_sha256$0$salt$AAAA"},
    {"hash": "pbkdf2_sha256$999999999$salt$AAAA"},
    {"hash": "pbkdf2_md5$1000$salt$AAAA"},
    {"hash": "pbkdf2_sha256$1000$salt"},
    {"hash": "$argon2id$v=19$m=999999999,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAA"},
    {"hash": "$argon2id$v=19$m=256,t=999999999,p=1$c29tZXNhbHQ$AAAAAAAAAAAA"},
    {"hash": "$argon2id$v=19$m=256,t=2,p=999$c29tZXNhbHQ$AAAAAAAAAAAA"},
    {"kuzzle": "text"},
    {"kuzzle": {}},
    kuzzle(GOOD, algorithm="md5"),
    kuzzle(GOOD, algorithm=512),
    kuzzle(GOOD, stretching=False, encryption="bcrypt"),
    kuzzle(GOOD, pepper="ground"),
    kuzzle(GOOD, userSalt=None),
    kuzzle(GOOD, userSalt="\ud800"),
    kuzzle(GOOD, userSalt="x" * 1_000_000),
    kuzzle(GOOD, digest="latin1"),
    kuzzle("no hexadecimal"),
    kuzzle("é", digest="base64"),
    kuzzle(None),
]


@pytest.mark.parametrize("record", REFUSED)
def test_what_cant_be_read_or_costs_too_much_is_refused(
    record: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """security check P13: without any of the work it asks for."""
    monkeypatch.setattr(foreignhashes.hashlib, "pbkdf2_hmac", None)
    assert verify(PASSWORD, record) is None


@pytest.mark.parametrize("stored", ["", "00"])
def test_an_empty_hash_is_nobodys(stored: str) -> None:
    """A truncated record opens nothing."""
    assert verify(PASSWORD, kuzzle(stored)) is False


@pytest.mark.parametrize("record", [*REFUSED[:12], kuzzle(GOOD), kuzzle(None)])
async def test_wrong_passwords_cost_a_hash_whatever_is_stored(
    record: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/api/differences.md#equal-answers, unknown user and wrong password: the same answer after
    the same work."""
    costs, real = [], bcrypt.checkpw

    def check(given: bytes, hashed: bytes) -> bool:
        costs.append(hashed[:7])
        return real(given, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", check)
    passwords = PasswordHasher(cost=4, threads=1, queue=1)
    assert await passwords.verify("wrong", record) is False
    assert costs[-1:] == [b"$2b$04$"]
    passwords.close()


IMPORTED = [
    kuzzle(GOOD),
    kuzzle(
        hmac.new(SALT.encode(), PASSWORD.encode(), "sha256").hexdigest(),
        algorithm="sha256",
        stretching=False,
    ),
    {"hash": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()},
    {
        "hash": "pbkdf2_sha256$1000$seasalt$"
        + base64.b64encode(
            hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"seasalt", 1000)
        ).decode()
    },
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("record", IMPORTED)
async def test_the_next_login_makes_it_ours(
    server: Running, transport: str, record: Mapping[str, object]
) -> None:
    """security check P12; a wrong password changes nothing, and what else is kept stays."""
    await server.create_admin()
    services, key = server.app.services, {"strategy": "local", "id": "admin"}
    imported = {**record, "updater": "-1"}
    await services.storage.apply([Update(Table.CREDENTIALS, key, {"data": imported})])

    async def log_in(password: str) -> int:
        body = {"username": "admin", "password": password}
        return (await server.call(transport, "auth:login", strategy="local", body=body))["status"]

    async def stored() -> dict:
        return (await services.storage.get(Table.CREDENTIALS, **key))["data"]

    assert await log_in("wrong") == 401
    assert await stored() == imported
    assert await log_in(PASSWORD) == 200
    renewed = await stored()
    assert renewed.keys() == {"hash", "updater"} and renewed["updater"] == "-1"
    assert services.passwords.is_current(renewed["hash"])
    assert await log_in(PASSWORD) == 200
    assert await log_in("wrong") == 401


# The store takes no text that is not Unicode.
STORABLE = [record for record in REFUSED if "\\ud800" not in repr(record)]


@pytest.mark.parametrize("record", STORABLE)
async def test_logins_against_unreadable_records(
    server: Running, record: Mapping[str, object]
) -> None:
    """security check P13: 401 like any other, never 500."""
    await server.create_admin()
    body = {"username": "admin", "password": PASSWORD}
    key = {"strategy": "local", "id": "admin"}
    changed = Update(Table.CREDENTIALS, key, {"data": dict(record)})
    await server.app.services.storage.apply([changed])
    answer = await server.call("query", "auth:login", strategy="local", body=body)
    assert (answer["status"], answer["error"]["id"]) == (401, "plugin.strategy.missing_user")
