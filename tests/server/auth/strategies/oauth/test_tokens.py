"""ID tokens that must not be believed (security check O4): each is refused, makes nobody, and
leaves a line in the audit trail that says why."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.issuer import (
    KEY,
    KID,
    SECRET,
    Claims,
    Issuer,
    issuing,
    private_key,
    settings_for,
    sign_well,
)
from tests.support.login_steps import Client
from tests.support.providers.oidc import log_in, refused_with_a_line, served

Change = Callable[[Claims], None]
Sign = Callable[[Claims], str]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A provider for all of them."""
    with issuing() as started:
        yield started


def put(**claims: object) -> Change:
    """Set claims; None takes one away."""

    def change(given: Claims) -> None:
        given.update(claims)
        for name, value in claims.items():
            if value is None:
                del given[name]

    return change


def moved(name: str, by_s: int) -> Change:
    """Move a time."""

    def change(given: Claims) -> None:
        given[name] = int(time.time()) + by_s

    return change


def both(*changes: Change) -> Change:
    """Make all of these."""

    def change(given: Claims) -> None:
        for one in changes:
            one(given)

    return change


CLAIMS: dict[str, Change] = {
    "another application's": put(aud="another"),
    "several, and not ours": put(aud=["another", "a third"]),
    "several, ours too, for nobody": put(aud=[KEY, "another"]),
    "given to another": put(azp="another"),
    "several, given to another": put(aud=[KEY, "another"], azp="another"),
    "for nobody": put(aud=None),
    "another issuer's": put(iss="https://evil.test"),
    "no issuer's": put(iss=None),
    "of another login": put(nonce="another"),
    "of no login": put(nonce=None),
    "over": both(moved("exp", -10), moved("iat", -60)),
    "without an end": put(exp=None),
    "old": moved("iat", -3600),
    "of no time": put(iat=None),
    "of the future": moved("iat", 3600),
    "not yet good": moved("nbf", 3600),
    "about nobody": put(sub=None),
    "with another access token": put(at_hash="AAAA"),
}


@pytest.mark.parametrize("change", CLAIMS.values(), ids=CLAIMS.keys())
async def test_claims_that_are_wrong(issuer: Issuer, change: Change) -> None:
    """O4: audience, authorized party, issuer, nonce, times, subject."""
    issuer.changes, issuer.sign = change, None
    async with served(issuer) as server:
        assert await refused_with_a_line(server, await log_in(Client(server, "http"), issuer))


def encode(part: object) -> str:
    """Give a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def unsigned(claims: Claims, alg: str = "none") -> str:
    """Give a token without a signature."""
    return f"{encode({'alg': alg, 'kid': 'first'})}.{encode(claims)}."


def by_hmac(claims: Claims, secret: bytes) -> str:
    """Sign with a secret that is none; by hand, as libraries refuse to."""
    text = f"{encode({'alg': 'HS256', 'kid': 'first'})}.{encode(claims)}"
    made = hmac.digest(secret, text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(made).decode().rstrip('=')}"


def public_pem() -> bytes:
    """Give the key everybody knows."""
    public = private_key(KID).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form)


def changed(claims: Claims) -> str:
    """Change a claim of a signed token."""
    head, _, signature = sign_well(claims).split(".")
    return f"{head}.{encode({**claims, 'sub': 'admin'})}.{signature}"


def with_own_key(claims: Claims) -> str:
    """Bring the key along (CVE-2018-0114)."""
    key = private_key("own")
    known = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return jwt.encode(claims, key, "RS256", headers={"jwk": known, "kid": "own"})


SIGNATURES: dict[str, Sign] = {
    "none": unsigned,
    "None": lambda claims: unsigned(claims, "None"),
    "none at all": lambda claims: unsigned(claims, "RS256"),
    "HMAC by the public key": lambda claims: by_hmac(claims, public_pem()),
    "HMAC by the secret": lambda claims: by_hmac(claims, SECRET.encode()),
    "another key": lambda claims: sign_well(claims, key="another"),
    "an unknown key": lambda claims: sign_well(claims, key="another", kid="another"),
    "a key it brings along": with_own_key,
    "of other claims": changed,
    "cut": lambda claims: sign_well(claims)[:-8],
    "no token": lambda claims: "no token",
    "nothing": lambda claims: "",
    "two dots": lambda claims: "..",
}


@pytest.mark.parametrize("sign", SIGNATURES.values(), ids=SIGNATURES.keys())
async def test_signatures_that_are_wrong(issuer: Issuer, sign: Sign) -> None:
    """O4: none, another key's, another algorithm's."""
    issuer.changes, issuer.sign = put(), sign
    async with served(issuer) as server:
        assert await refused_with_a_line(server, await log_in(Client(server, "http"), issuer))


async def test_what_is_right_is_believed(issuer: Issuer) -> None:
    """Without it the others would show nothing."""
    for change in (put(), put(aud=[KEY]), put(aud=[KEY, "another"], azp=KEY), put(azp=KEY)):
        issuer.changes, issuer.sign = change, None
        async with served(issuer) as server:
            assert (await log_in(Client(server, "http"), issuer))["status"] == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"JWT_ALGORITHMS": ["none"]},
        {"JWT_ALGORITHMS": ["RS256", "HS256"]},
        {"JWT_ALGORITHMS": []},
        {"JWT_ALGORITHMS": "RS256"},
        {"SOCIAL_AUTH_OIDC_JWT_ALGORITHMS": ["none"]},
        {"JWT_DECODE_OPTIONS": {"verify_signature": False}},
        {"PKCE_CODE_CHALLENGE_METHOD": "plain"},
    ],
    ids=str,
)
async def test_checks_can_not_be_turned_off(issuer: Issuer, settings: dict[str, object]) -> None:
    """O2, O4: such settings refuse to start."""
    given = settings_for(issuer)["settings"]
    assert isinstance(given, dict)
    with pytest.raises(Exception, match=r"strategies\.site: settings\."):
        async with served(issuer, settings=given | settings):
            pass
