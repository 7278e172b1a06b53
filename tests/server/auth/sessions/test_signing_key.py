"""One signing key: which texts it takes for its tokens (security-checks T1–T3, T5, T8, T14)."""

import hmac
import json
import socket
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import LocalError
from server.auth.sessions.keyring import Keyring, Signing, open_keyring
from server.auth.sessions.signing_key import SigningKey, load_configured, load_stored, make_secret
from tests.support.keyrings import (
    ALGORITHMS,
    ASYMMETRIC,
    CLAIMS,
    OTHER_SECRET,
    SECRET,
    clock_ms,
    decode,
    encode,
    opened,
    stored_keys,
)

SECRETS = {name: make_secret(name) for name in ALGORITHMS}
KEYS = {name: load_stored("k1", name, SECRETS[name], 0) for name in ALGORITHMS}
PAYLOAD = json.dumps(CLAIMS, separators=(",", ":")).encode()
TOKENS = {name: key.sign(PAYLOAD) for name, key in KEYS.items()}
SPKI = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CHARACTERS = (*"AZaz09-_", *"+/=.", *" \n\0", "é", "Ａ", "\ud800")
"""One or more of each kind: base64url, base64, separator, blank, control, beyond ASCII."""


@pytest.fixture
async def configured() -> Keyring:
    """A keyring that signs with `SECRET`, so that a test can sign too."""
    async with opened() as storage:
        return await open_keyring(storage, Signing("HS256", SECRET), clock_ms=clock_ms)


def resign(payload: bytes, **header: object) -> str:
    """Sign with `SECRET` under its own header, changed by `header`."""
    own = decode(load_configured("HS256", SECRET).header)
    signed = f"{encode({**own, **header})}.{encode(payload)}"
    return f"{signed}.{encode(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_another_library_reads_our_tokens(algorithm: str) -> None:
    """The header is `alg`, `typ`, `kid`; the claims keep their order; PyJWT verifies."""
    async with opened() as storage:
        keyring = await open_keyring(storage, Signing(algorithm), clock_ms=clock_ms)
        (row,) = await stored_keys(storage)
    token = keyring.sign(CLAIMS)
    header, payload, _ = token.split(".")
    assert decode(header) == {"alg": algorithm, "typ": "JWT", "kid": row["kid"]}
    assert list(decode(payload)) == list(CLAIMS)
    if algorithm in ASYMMETRIC:
        key: object = jwt.PyJWK(keyring.public_keys()["keys"][0]).key
    else:
        key = bytes.fromhex(str(row["secret"]))
    claims = jwt.decode(token, key, algorithms=[algorithm], options={"verify_exp": False})
    assert claims == keyring.read(token) == CLAIMS


def confused(key: SigningKey) -> Iterator[str]:
    """Give tokens that would get in if they could choose how they are verified."""
    header, payload, signature = TOKENS[key.algorithm].split(".")
    fields = decode(header)
    for name in ("none", "None", "NONE", "nOnE", ""):
        head = encode(fields | {"alg": name})
        yield from (f"{head}.{payload}.", f"{head}.{payload}.{signature}", f"{head}.{payload}")
    for name in set(ALGORITHMS) - {key.algorithm}:
        yield f"{encode(fields | {'alg': name})}.{payload}.{signature}"
        yield KEYS[name].sign(PAYLOAD)
    jwk = key.public_jwk()
    if jwk is not None:
        pem = jwt.PyJWK(jwk).key.public_bytes(*SPKI)
        for head in (encode(fields | {"alg": "HS256"}), header):
            for public in (pem, pem.strip(), json.dumps(jwk).encode()):
                mac = hmac.digest(public, f"{head}.{payload}".encode(), "sha256")
                yield f"{head}.{payload}.{encode(mac)}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_does_not_choose_its_algorithm(algorithm: str) -> None:
    """T1: `none` in any case, another algorithm's key, a MAC made with the public key."""
    key = KEYS[algorithm]
    assert key.open(TOKENS[algorithm]) == PAYLOAD
    for token in confused(key):
        assert key.open(token) is None, token


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_every_character_counts(algorithm: str) -> None:
    """T2: each character of header, payload and signature, changed to one of each kind."""
    key, token = KEYS[algorithm], TOKENS[algorithm]
    for at, held in enumerate(token):
        for character in CHARACTERS:
            if character != held:
                assert key.open(token[:at] + character + token[at + 1 :]) is None, (at, character)
        assert key.open(token[:at]) is None
        assert key.open(token[:at] + token[at + 1 :]) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_spelling_only(algorithm: str) -> None:
    """T2: another last character that stands for the same bytes, padding, blanks, more segments."""
    key, token = KEYS[algorithm], TOKENS[algorithm]
    others = [token[:-1] + last for last in ALPHABET if last != token[-1]]
    same = [other for other in others if decodes_alike(other, token)]
    assert len(same) == {0: 0, 2: 15, 3: 3}[len(token.rpartition(".")[2]) % 4]
    header, payload, signature = token.split(".")
    spelled = [
        *(token + end for end in ("=", "==", "\n", " ", ".", ".x", "." + signature)),
        *(start + token for start in (" ", ".", "Bearer ", header + ".")),
        f"{header}.{payload}=.{signature}",
        f"{header}={'.'.join(('', payload, signature))}",
        f"{header}..{signature}",
        f"{header}.{payload}",
        f"{payload}.{header}.{signature}",
        "..",
        "",
    ]
    for text in same + spelled:
        assert key.open(text) is None, text


def decodes_alike(text: str, token: str) -> bool:
    """Tell whether two signatures are the same bytes for a reader who doesn't care."""
    one, other = (part.rpartition(".")[2] for part in (text, token))
    return jwt.utils.base64url_decode(one) == jwt.utils.base64url_decode(other)


@st.composite
def damaged(draw: st.DrawFn, algorithm: str) -> str:
    """Give a token of ours after a few edits, wherever they hit."""
    token = TOKENS[algorithm]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(token)))
        end = draw(st.integers(start, min(len(token), start + 4)))
        middle = draw(st.text(st.sampled_from(CHARACTERS) | st.characters(), max_size=4))
        token = token[:start] + middle + token[end:]
    return token


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_tokens_never_verify_and_never_raise(algorithm: str, data: st.DataObject) -> None:
    """T2: whatever a text is, it is the token or it is refused."""
    token = data.draw(damaged(algorithm) | st.text() | st.from_regex(r"[\w-]+\.[\w-]+\.[\w-]+"))
    opened_payload = KEYS[algorithm].open(token)
    assert (opened_payload is not None) == (token == TOKENS[algorithm])


LINK = "http://127.0.0.1:9/keys"
JWK = {"kty": "oct", "k": encode(SECRET.encode())}
HEADERS = [
    {"jku": LINK},
    {"x5u": LINK},
    {"jwk": JWK},
    {"x5c": ["MIIB"]},
    {"kid": "another"},
    {"kid": None},
    {"kid": ["k1"]},
    {"kid": "../../etc/passwd"},
    {"crit": ["exp"]},
    {"crit": []},
    {"b64": False, "crit": ["b64"]},
    {"typ": "JWE"},
    {"typ": "at+jwt"},
    {"cty": "JWT"},
    {"zip": "DEF"},
    {"enc": "A256GCM"},
    {"alg": "dir", "enc": "A256GCM"},
]


@pytest.mark.parametrize("header", HEADERS, ids=json.dumps)
async def test_other_headers_are_refused(
    configured: Keyring, monkeypatch: pytest.MonkeyPatch, header: dict[str, object]
) -> None:
    """T3, T14: signed with our secret, but with a header that asks for more; nothing is fetched."""

    def connect(*address: object) -> None:
        pytest.fail(f"asked {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert configured.read(resign(PAYLOAD)) == CLAIMS
    assert configured.read(resign(PAYLOAD, **header)) is None


async def test_encrypted_tokens_are_refused(configured: Keyring) -> None:
    """T14: the five segments of a JWE (RFC 7516 §3.1)."""
    header = encode({"alg": "dir", "enc": "A256GCM", "zip": "DEF"})
    own = resign(PAYLOAD).partition(".")[0]
    for first in (header, own):
        assert configured.read(f"{first}..{encode(b'i' * 12)}.{encode(PAYLOAD)}.MAC") is None


UNSOUND = {
    "exp": ["1700003600", 1700003600.5, 1e300, 2**64, 10**400, True, None, [1], {}],
    "iat": ["1", 1.5, 10**30, False, None, []],
    "_id": [None, 1, True, ["ann"], {"ann": 1}],
}
ODD = [(name, value) for name, values in UNSOUND.items() for value in values]


@pytest.mark.parametrize(("name", "value"), ODD)
async def test_claims_of_another_kind_are_refused(
    configured: Keyring, name: str, value: object
) -> None:
    """T5: huge, broken, textual and missing numbers, though signed with our secret."""
    assert configured.read(resign(json.dumps(CLAIMS | {name: value}).encode())) is None


async def test_the_end_may_be_anywhere_or_nowhere(configured: Keyring) -> None:
    """T5: without `exp` a token has no end; whether an end is over is the store's to say."""
    for end in ({}, {"exp": -1}, {"exp": 0}, {"exp": 2**53}):
        claims = {"_id": "ann", "iat": 1, **end}
        assert configured.read(resign(json.dumps(claims).encode())) == claims


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"ann"',
        b"1",
        b"NaN",
        b'{"_id":"ann"',
        b'{"_id":"\xff","iat":1}',
        b'{"_id":"ann","iat":NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
        b'{"iat":1}',
        b'{"_id":"ann"}',
    ],
    ids=lambda payload: payload[:24],
)
async def test_payloads_that_are_no_claims_are_refused(configured: Keyring, payload: bytes) -> None:
    """T2, T5: deep, huge, broken or foreign, though signed with our secret."""
    assert configured.read(resign(payload)) is None


async def test_issuer_and_audience() -> None:
    """T7: both are claims of our tokens, and tokens of another issuer or audience are refused."""
    async with opened() as storage:

        async def ring(issuer: str = "", audience: str = "") -> Keyring:
            signing = Signing("HS256", SECRET, issuer, audience)
            return await open_keyring(storage, signing, clock_ms=clock_ms)

        plain, here = await ring(), await ring("https://here", "app")
        token = here.sign(CLAIMS)
        claims = CLAIMS | {"iss": "https://here", "aud": "app"}
        assert here.read(token) == plain.read(token) == claims
        others = [("https://there", "app"), ("https://here", "other"), ("", "other"), ("x", "")]
        for issuer, audience in others:
            assert (await ring(issuer, audience)).read(token) is None
        assert here.read(plain.sign(CLAIMS)) is None
        assert here.read(plain.sign(claims | {"aud": ["app"]})) is None


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_public_members_only(algorithm: str) -> None:
    """T9: RFC 7517 §4, RFC 7518 §6 and RFC 8037 §2, and nothing of the private half."""
    kinds = {
        "ES256": ({"kty": "EC", "crv": "P-256"}, {"x", "y"}),
        "RS256": ({"kty": "RSA", "e": "AQAB"}, {"n"}),
        "EdDSA": ({"kty": "OKP", "crv": "Ed25519"}, {"x"}),
    }
    fixed, named = kinds[algorithm]
    jwk = KEYS[algorithm].public_jwk()
    assert jwk is not None
    assert {name: jwk.pop(name) for name in fixed} == fixed
    assert {name: jwk.pop(name) for name in ("kid", "alg", "use")} == {
        "kid": "k1",
        "alg": algorithm,
        "use": "sig",
    }
    assert set(jwk) == named


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_shared_secrets_are_not_published(algorithm: str) -> None:
    """T9: an HMAC key has no public half."""
    assert KEYS[algorithm].public_jwk() is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys_are_strong(algorithm: str) -> None:
    """T8: what is made here; RFC 7518 §3.2 and §3.3."""
    secret = SECRETS[algorithm]
    if algorithm not in ASYMMETRIC:
        assert len(bytes.fromhex(secret)) == 64
        assert make_secret(algorithm) != secret
    elif algorithm == "RS256":
        jwk = KEYS[algorithm].public_jwk()
        assert jwk is not None
        assert jwt.PyJWK(jwk).key.key_size >= 2048


@pytest.mark.parametrize(
    ("algorithm", "least_bytes"), [("HS256", 32), ("HS384", 48), ("HS512", 64)]
)
def test_weak_secrets_are_refused(algorithm: str, least_bytes: int) -> None:
    """T8: a secret is at least as long as the hash (RFC 7518 §3.2); bytes count, not characters."""
    assert load_configured(algorithm, "é" * (least_bytes // 2)).algorithm == algorithm
    with pytest.raises(LocalError, match="security.authToken.secret") as refused:
        load_configured(algorithm, "x" * (least_bytes - 1))
    assert f"{least_bytes} bytes" in str(refused.value)
    assert "xx" not in str(refused.value)
    with pytest.raises(LocalError, match="too short"):
        load_stored("k1", algorithm, "ab" * (least_bytes - 1), 0)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_secret_makes_no_key_pair(algorithm: str) -> None:
    with pytest.raises(LocalError) as refused:
        load_configured(algorithm, SECRET)
    for named in ("security.authToken.secret", "security.authToken.algorithm", algorithm):
        assert named in str(refused.value)


def test_a_secret_names_its_key() -> None:
    """Another secret, or the same one for another algorithm, is another key."""
    named = [("HS256", SECRET), ("HS256", OTHER_SECRET), ("HS384", SECRET), ("HS512", SECRET)]
    kids = [load_configured(*pair).kid for pair in named]
    assert len(set(kids)) == 4
    assert kids == [load_configured(*pair).kid for pair in named]


@pytest.mark.parametrize(
    ("algorithm", "secret"),
    [
        ("HS256", "no hexadecimal"),
        ("ES256", SECRETS["RS256"]),
        ("RS256", SECRETS["EdDSA"]),
        ("EdDSA", SECRETS["ES256"]),
        ("EdDSA", ""),
        ("ES256", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
        ("HS1024", "00" * 64),
        ("none", "00" * 64),
    ],
)
def test_damaged_keys_are_refused(algorithm: str, secret: str) -> None:
    with pytest.raises(LocalError, match="k1"):
        load_stored("k1", algorithm, secret, 0)


def test_public_keys_do_not_sign() -> None:
    """T1: a stored public key can't be taken for a private one."""
    jwk = KEYS["ES256"].public_jwk()
    assert jwk is not None
    pem = jwt.PyJWK(jwk).key.public_bytes(*SPKI).decode()
    with pytest.raises(LocalError, match="cannot read the signing key"):
        load_stored("k1", "ES256", pem, 0)


def test_keys_do_not_show_their_secret() -> None:
    for name, key in KEYS.items():
        assert SECRETS[name][:20] not in repr(key)
    assert SECRET not in repr(load_configured("HS256", SECRET)) + repr(Signing("HS256", SECRET))
