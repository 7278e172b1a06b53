"""User information is asked for where the ID token lacks what the settings want, and only there;
the key of a token is found by its name."""

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from social_core.backends.open_id_connect import OpenIdConnectAuth

from server.auth.strategies.oauth import openid_backend as openid
from server.auth.strategies.oauth.catalog import Backend
from server.auth.strategies.oauth.settings import OAuthSettings
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.issuer import KID, Claims, Issuer, issuing, private_key, public_jwk, settings_for
from tests.support.login_steps import Client
from tests.support.providers.oidc import REFUSED, log_in, prove_address, refused_with_a_line, served
from tests.support.server import Running

ANN: Claims = {
    "sub": "1",
    "email": "ann@mail.test",
    "email_verified": True,
    "preferred_username": "ann",
    "address": {"city": "Rome"},
    "groups": ["staff"],
}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A provider that knows a little of Ann."""
    with issuing() as started:
        started.claims = dict(ANN)
        yield started


def settings_of(issuer: Issuer, **more: object) -> Claims:
    """Give the settings of a backend, and of the provider."""
    given = settings_for(issuer)["settings"]
    assert isinstance(given, dict)
    return {"settings": {**given, **more}}


def as_dict(kept: object) -> dict[str, Any]:
    """Give what a row holds as an object."""
    assert isinstance(kept, dict)
    return kept


async def ann(server: Running, issuer: Issuer) -> dict[str, Any]:
    """Log Ann in, and give what is kept of her: her content and her credentials."""
    answer = await log_in(Client(server, "http"), issuer)
    assert answer["status"] == 200, answer
    storage = server.app.services.storage
    (credentials,) = await storage.find(Table.CREDENTIALS, limit=2, strategy="site")
    (user,) = await storage.find(Table.USERS, limit=2, kuid=answer["result"]["_id"])
    return {**as_dict(user["content"]), **as_dict(credentials["data"])}


ASKS: list[tuple[dict[str, object], str, dict[str, object]]] = [
    ({"persist": ["email"]}, "email", {"email": "ann@mail.test"}),
    ({"persist": ["address.city"]}, "address", {"address.city": "Rome"}),
    ({"persist": ["username"]}, "preferred_username", {"username": "ann"}),
    ({"userAttributes": {"email": "mail"}}, "email", {"mail": "ann@mail.test"}),
    ({"persist": ["email"], "userAttributes": {"groups": "teams"}}, "groups", {"teams": ["staff"]}),
]


@pytest.mark.parametrize(("given", "claim", "wanted"), ASKS, ids=str)
async def test_what_the_id_token_tells_is_not_asked_for(
    issuer: Issuer, given: dict[str, object], claim: str, wanted: Claims
) -> None:
    """And what it does not tell is, at every login; the same is kept either way."""
    async with served(issuer, **given) as server:
        assert wanted.items() <= (await ann(server, issuer)).items()
        assert "/userinfo" not in issuer.paths()
    issuer.kept_back = frozenset({claim})
    async with served(issuer, **given) as server:
        for times in (1, 2):
            assert wanted.items() <= (await ann(server, issuer)).items()
            assert issuer.paths().count("/userinfo") == times


async def test_who_wants_nothing_needs_no_user_information(issuer: Issuer) -> None:
    """The same where a provider has none, as OpenID Connect allows (Discovery 1.0 §3)."""
    issuer.description = {"userinfo_endpoint": None}
    async with served(issuer) as server:
        await ann(server, issuer)
    assert issuer.paths().count("/token") == 1
    async with served(issuer, persist=["nickname"]) as server:
        assert await refused_with_a_line(server, await log_in(Client(server, "http"), issuer))


async def test_a_claim_of_null_is_none(issuer: Issuer) -> None:
    issuer.changes = lambda claims: claims.update(email=None)
    async with served(issuer, persist=["email"]) as server:
        assert (await ann(server, issuer))["email"] == "ann@mail.test"


@pytest.mark.parametrize("claim", ["email", "email_verified", ""])
async def test_linking_by_an_address(issuer: Issuer, claim: str) -> None:
    """O6: the address and its being verified, whichever of them is told later."""
    issuer.kept_back = frozenset({claim})
    async with served(issuer, linkByVerifiedEmail=True) as server:
        admin = await server.create_admin()
        body = {"content": {"profileIds": ["default"]}, "credentials": {}}
        made = await server.call("query", "security:createUser", token=admin, body=body)
        await prove_address(server, admin, made["result"]["_id"], ANN["email"])
        answer = await log_in(Client(server, "http"), issuer)
        assert answer["result"]["_id"] == made["result"]["_id"]
        assert ("/userinfo" in issuer.paths()) is bool(claim)


LISTS: list[tuple[dict[str, object], dict[str, object], str]] = [
    ({"WHITELISTED_DOMAINS": ["mail.test"]}, {"email": "ann@other.test"}, "email"),
    ({"WHITELISTED_EMAILS": ["ann@mail.test"]}, {"email": "bob@mail.test"}, "email"),
    ({"WHITELISTED_EMAILS": ["a@b.test"], "EMAIL_KEY": "upn"}, {"upn": "a@c.test"}, "upn"),
    ({"ALLOW_GROUPS": ["staff"], "GROUPS_KEY": "groups"}, {"groups": ["guests"]}, "groups"),
]


@pytest.mark.parametrize("is_kept_back", [True, False])
@pytest.mark.parametrize(("lists", "others", "claim"), LISTS, ids=str)
async def test_who_is_let_in(
    issuer: Issuer, lists: Claims, others: Claims, claim: str, is_kept_back: bool
) -> None:
    """Lists of who may come are held against the same claims, wherever they are told."""
    issuer.kept_back = frozenset({claim} if is_kept_back else ())
    issuer.claims["upn"] = "a@b.test"
    async with served(issuer, **settings_of(issuer, **lists)) as server:
        issuer.claims |= {"sub": "2", **others}
        assert await refused_with_a_line(server, await log_in(Client(server, "http"), issuer))
        issuer.claims |= {**ANN, "upn": "a@b.test"}
        assert (await log_in(Client(server, "http"), issuer))["status"] == 200
    assert issuer.paths().count("/userinfo") == (2 if is_kept_back else 0)


@pytest.mark.parametrize("way", ["identifierAttribute", "ID_KEY"])
async def test_another_identity_is_the_one_that_user_information_tells(
    issuer: Issuer, way: str
) -> None:
    """Or somebody would be another user whenever something else is wanted of him."""
    issuer.claims["number"] = "of user information"
    issuer.changes = lambda claims: claims.update(number="of the token")
    given = {way: "number"} if way != "ID_KEY" else settings_of(issuer, ID_KEY="number")
    async with served(issuer, **given) as server:
        await ann(server, issuer)
        (row,) = await server.app.services.storage.find(Table.CREDENTIALS, limit=2)
        assert row["id"] == "of user information"


async def test_user_information_about_somebody_else(issuer: Issuer) -> None:
    """O4: where it is asked for, it is held against the token."""
    issuer.kept_back = frozenset({"email"})
    issuer.changes = lambda claims: claims.update(sub="2")
    async with served(issuer, persist=["email"]) as server:
        assert await refused_with_a_line(server, await log_in(Client(server, "http"), issuer))
        assert "/userinfo" in issuer.paths()


class OwnDetails(OpenIdConnectAuth):
    """A backend that reads more than the claims that are wanted."""

    name = "own-details"

    def get_user_details(self, response: Any) -> dict[str, Any]:
        """See `BaseAuth`."""
        return {"username": response["nickname"]}


async def test_a_backend_with_its_own_way_of_reading(issuer: Issuer) -> None:
    issuer.claims["nickname"] = "annie"
    issuer.kept_back = frozenset({"nickname"})
    name = f"{__name__}.{OwnDetails.__qualname__}"
    async with served(issuer, backend=name, persist=["username"]) as server:
        assert (await ann(server, issuer))["username"] == "annie"


class OwnKey(OpenIdConnectAuth):
    """A backend that finds its key otherwise."""

    name = "own-key"

    def find_valid_key(self, id_token: str) -> Any:
        """See `OpenIdConnectAuth`."""
        return None


async def test_a_backend_with_its_own_key(issuer: Issuer) -> None:
    async with served(issuer, backend=f"{__name__}.{OwnKey.__qualname__}") as server:
        answer = await log_in(Client(server, "http"), issuer)
        assert await refused_with_a_line(server, answer) == "invalid_signature at token_validation"


@pytest.mark.parametrize("kind", [OpenIdConnectAuth, OwnDetails, OwnKey])
def test_what_a_backend_leaves_out(kind: Backend) -> None:
    """Only what it does as OpenID Connect in general does."""
    made = openid.quicker(kind, OAuthSettings(), {})
    assert (made.user_data is kind.user_data) is (kind is OwnDetails)
    assert (made.find_valid_key is kind.find_valid_key) is (kind is OwnKey)


def signed(algorithm: str, **headers: object) -> Any:
    """Give a signer."""
    return lambda claims: jwt.encode(claims, private_key(KID), algorithm, headers=headers)


def jwks(*keys: dict[str, object]) -> tuple[int, bytes]:
    """Give an answer with these keys."""
    return 200, json.dumps({"keys": keys}).encode()


FIRST, BARE = public_jwk(KID), {**public_jwk(KID), "alg": None}
del BARE["alg"]
OTHER = {**public_jwk("other"), "kid": KID}


@pytest.mark.parametrize(
    ("keys", "algorithm", "headers", "status"),
    [
        ((FIRST,), "RS256", {"kid": KID}, 200),
        ((BARE,), "RS256", {"kid": KID}, 200),
        ((FIRST,), "RS256", {}, 200),
        ((OTHER, FIRST), "RS256", {"kid": KID}, 200),
        ((FIRST, OTHER), "RS256", {}, 200),
        ((OTHER,), "RS256", {"kid": KID}, 401),
        ((FIRST,), "RS512", {"kid": KID}, 401),
        ((BARE,), "RS512", {"kid": KID}, 401),
        (({**FIRST, "alg": "RS512"},), "RS512", {"kid": KID}, 200),
        (({**FIRST, "alg": "RS512"},), "RS256", {"kid": KID}, 401),
        (({**FIRST, "alg": "RS384"},), "RS384", {"kid": KID}, 401),
    ],
)
async def test_the_key_of_a_token(
    issuer: Issuer,
    keys: tuple[dict[str, object], ...],
    algorithm: str,
    headers: dict[str, object],
    status: int,
) -> None:
    """O4: the one of the token's name, by the algorithm it is for, among those allowed."""
    issuer.answers["/jwks"], issuer.sign = jwks(*keys), signed(algorithm, **headers)
    given = settings_of(issuer, JWT_ALGORITHMS=["RS256", "RS512"])
    async with served(issuer, **given) as server:
        answer = await log_in(Client(server, "http"), issuer)
        assert answer["status"] == status, answer
        assert status == 200 or told(answer) == REFUSED


async def test_a_new_key_is_read(issuer: Issuer) -> None:
    """Keys are kept until a token has one that is not among them."""
    async with served(issuer) as server:
        for _ in range(2):
            await ann(server, issuer)
        assert issuer.paths().count("/jwks") == 1
        issuer.answers["/jwks"] = jwks(FIRST, public_jwk("second"))
        issuer.sign = lambda claims: jwt.encode(
            claims, private_key("second"), "RS256", headers={"kid": "second"}
        )
        await ann(server, issuer)
        assert issuer.paths().count("/jwks") == 2
