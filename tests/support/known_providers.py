"""What the best-known providers answer, in the shapes of their documentation."""

import time
from collections.abc import Callable

from tests.support.issuer import KEY, KID, public_jwk, sign_well

Json = dict[str, object]
TOKEN: Json = {"access_token": "provider-access", "token_type": "bearer", "expires_in": 3600}
Shape = tuple[dict[str, object], dict[str, object], str]
"""Settings beyond key and secret; answers by what an address begins with; the id expected."""

GOOGLE = "https://www.googleapis.com/oauth2/v3/userinfo"
MICROSOFT = "https://login.microsoftonline.com/"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"


def id_token(iss: str, sub: str, **more: object) -> Callable[[Json], Json]:
    """Give what makes a token answer for what a login was begun with."""

    def make(begun: Json) -> Json:
        now = int(time.time())
        claims: Json = {"iss": iss, "sub": sub, "aud": KEY, "exp": now + 600, "iat": now}
        if "nonce" in begun:
            claims["nonce"] = begun["nonce"]
        return {**TOKEN, "id_token": sign_well({**claims, **more})}

    return make


def keys() -> Json:
    """Give the key set of every provider here."""
    return {"keys": [public_jwk(KID)]}


def described(issuer: str) -> Json:
    """Give the description of a provider of OpenID Connect."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwks",
    }


def openid(issuer: str, sub: str, userinfo: Json | None = None) -> dict[str, object]:
    """Give the answers of a provider of OpenID Connect."""
    return {
        f"{issuer}/.well-known/openid-configuration": described(issuer),
        f"{issuer}/token": id_token(issuer, sub),
        f"{issuer}/jwks": keys,
        f"{issuer}/userinfo": {"sub": sub, **(userinfo or {"email": "ann@mail.test"})},
    }


def keycloak_token(begun: Json) -> Json:
    """Give an access token that is a JWT, as Keycloak's are."""
    claims: Json = {"sub": "f:1:ann", "aud": KEY, "exp": int(time.time()) + 60, "email": "a@b.test"}
    return {**TOKEN, "access_token": sign_well(claims)}


KNOWN: dict[str, Shape] = {
    "google-oauth2": (
        {},
        {
            "https://accounts.google.com/o/oauth2/token": TOKEN,
            GOOGLE: {
                "sub": "110169484474386276334",
                "name": "Ann",
                "email": "ann@gmail.test",
                "email_verified": True,
            },
        },
        "110169484474386276334",
    ),
    "facebook": (
        {},
        {
            "https://graph.facebook.com/v24.0/oauth/access_token": TOKEN,
            "https://graph.facebook.com/v24.0/me": {"id": "1234567890", "name": "Ann"},
        },
        "1234567890",
    ),
    "github": (
        {},
        {
            "https://github.com/login/oauth/access_token": {**TOKEN, "scope": "repo,gist"},
            "https://api.github.com/user/emails": [
                {"email": "a@b.test", "primary": True, "verified": True}
            ],
            "https://api.github.com/user": {"login": "octocat", "id": 583231, "email": None},
        },
        "583231",
    ),
    "gitlab": (
        {},
        {
            "https://gitlab.com/oauth/token": TOKEN,
            "https://gitlab.com/api/v4/user": {"id": 1, "username": "ann", "email": "a@b.test"},
        },
        "1",
    ),
    "bitbucket-oauth2": (
        {},
        {
            "https://bitbucket.org/site/oauth2/access_token": TOKEN,
            "https://api.bitbucket.org/2.0/user/emails": {"values": []},
            "https://api.bitbucket.org/2.0/user": {
                "username": "ann",
                "display_name": "Ann",
                "uuid": "{c788b2da-b7a2-404c-9e26-d3f077557007}",
            },
        },
        "{c788b2da-b7a2-404c-9e26-d3f077557007}",
    ),
    "microsoft-graph": (
        {},
        {
            f"{MICROSOFT}common/oauth2/v2.0/token": TOKEN,
            "https://graph.microsoft.com/v1.0/me": {
                "id": "87d349ed-44d7-43e1-9a83-5f2406dee5bd",
                "userPrincipalName": "ann@contoso.test",
                "mail": "ann@contoso.test",
            },
        },
        "87d349ed-44d7-43e1-9a83-5f2406dee5bd",
    ),
    "azuread-v2-tenant-oauth2": (
        {"TENANT_ID": TENANT},
        {
            f"{MICROSOFT}{TENANT}/v2.0/.well-known/openid-configuration": {
                **described(f"{MICROSOFT}{TENANT}/v2.0"),
                "jwks_uri": f"{MICROSOFT}{TENANT}/discovery/v2.0/keys",
            },
            f"{MICROSOFT}{TENANT}/oauth2/v2.0/token": id_token(
                f"{MICROSOFT}{TENANT}/v2.0",
                "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
                oid="00000000-0000-0000-66f3-3332eca7ea81",
                tid=TENANT,
                preferred_username="ann@contoso.test",
            ),
            f"{MICROSOFT}{TENANT}/discovery/v2.0/keys": keys,
        },
        "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    ),
    "keycloak": (
        {
            "AUTHORIZATION_URL": "https://kc.test/auth",
            "ACCESS_TOKEN_URL": "https://kc.test/token",
            "PUBLIC_KEY": "KEYCLOAK",
        },
        {"https://kc.test/token": keycloak_token},
        "f:1:ann",
    ),
    "linkedin-openidconnect": (
        {},
        {
            "https://www.linkedin.com/oauth/.well-known/openid-configuration": {
                **described("https://www.linkedin.com/oauth"),
                "token_endpoint": "https://www.linkedin.com/oauth/v2/accessToken",
                "userinfo_endpoint": "https://api.linkedin.com/v2/userinfo",
            },
            "https://www.linkedin.com/oauth/v2/accessToken": id_token(
                "https://www.linkedin.com/oauth", "782bbtaQ"
            ),
            "https://www.linkedin.com/oauth/jwks": keys,
            "https://www.linkedin.com/oauth/openid/jwks": keys,
            "https://api.linkedin.com/v2/userinfo": {"sub": "782bbtaQ", "name": "Ann"},
        },
        "782bbtaQ",
    ),
    "twitter-oauth2": (
        {},
        {
            "https://api.x.com/2/oauth2/token": TOKEN,
            "https://api.twitter.com/2/oauth2/token": TOKEN,
            "https://api.x.com/2/users/me": {
                "data": {"id": "2244994945", "name": "Ann", "username": "ann"}
            },
            "https://api.twitter.com/2/users/me": {
                "data": {"id": "2244994945", "name": "Ann", "username": "ann"}
            },
        },
        "2244994945",
    ),
    "discord": (
        {},
        {
            "https://discord.com/api/oauth2/token": TOKEN,
            "https://discord.com/api/users/@me": {"id": "80351110224678912", "username": "Nelly"},
        },
        "80351110224678912",
    ),
    "slack": (
        {},
        {
            "https://slack.com/api/oauth.access": {"ok": True, **TOKEN},
            "https://slack.com/api/users.identity": {
                "ok": True,
                "user": {"name": "Ann", "id": "U0G9QF9C6", "email": "a@b.test"},
                "team": {"id": "T0G9PQBBK", "name": "Team"},
            },
        },
        "U0G9QF9C6",
    ),
    "amazon": (
        {},
        {
            "https://api.amazon.com/auth/o2/token": TOKEN,
            "https://api.amazon.com/user/profile": {
                "user_id": "amzn1.account.K2LI23KL2LK2",
                "name": "Ann",
                "email": "a@b.test",
            },
        },
        "amzn1.account.K2LI23KL2LK2",
    ),
    "spotify": (
        {},
        {
            "https://accounts.spotify.com/api/token": TOKEN,
            "https://api.spotify.com/v1/me": {"id": "smedjan", "display_name": "Ann"},
        },
        "smedjan",
    ),
    "dropbox-oauth2": (
        {},
        {
            "https://api.dropboxapi.com/oauth2/token": {**TOKEN, "account_id": "dbid:AAH4f99T0"},
            "https://api.dropboxapi.com/2/users/get_current_account": {
                "account_id": "dbid:AAH4f99T0",
                "name": {"display_name": "Ann", "given_name": "Ann", "surname": "B"},
                "email": "a@b.test",
            },
        },
        "dbid:AAH4f99T0",
    ),
    "reddit": (
        {},
        {
            "https://ssl.reddit.com/api/v1/access_token": TOKEN,
            "https://www.reddit.com/api/v1/access_token": TOKEN,
            "https://oauth.reddit.com/api/v1/me": {"id": "6pnm8", "name": "ann"},
        },
        "6pnm8",
    ),
    "auth0": (
        {"DOMAIN": "site.auth0.test"},
        {
            "https://site.auth0.test/.well-known/jwks.json": keys,
            "https://site.auth0.test/oauth/token": id_token(
                "https://site.auth0.test/", "auth0|507f1f77bcf86cd799439020", nickname="ann"
            ),
        },
        "auth0|507f1f77bcf86cd799439020",
    ),
    "okta-openidconnect": (
        {"API_URL": "https://site.okta.test/oauth2"},
        {
            **openid("https://site.okta.test", "00uid4BxXw6I6TV4m0g3"),
            "https://site.okta.test/.well-known/openid-configuration": {
                **described("https://site.okta.test"),
                "token_endpoint": "https://site.okta.test/oauth2/v1/token",
                "userinfo_endpoint": "https://site.okta.test/oauth2/v1/userinfo",
                "jwks_uri": "https://site.okta.test/oauth2/v1/keys",
            },
            "https://site.okta.test/oauth2/v1/token": id_token(
                "https://site.okta.test", "00uid4BxXw6I6TV4m0g3"
            ),
            "https://site.okta.test/oauth2/v1/keys": keys,
            "https://site.okta.test/oauth2/v1/userinfo": {
                "sub": "00uid4BxXw6I6TV4m0g3",
                "preferred_username": "ann",
            },
        },
        "00uid4BxXw6I6TV4m0g3",
    ),
    "zoom-oauth2": (
        {},
        {
            "https://zoom.us/oauth/token": TOKEN,
            "https://api.zoom.us/v2/users/me": {
                "id": "KDcuGIm1QgePTO8WbOqwIQ",
                "email": "a@b.test",
            },
        },
        "KDcuGIm1QgePTO8WbOqwIQ",
    ),
    "yandex-oauth2": (
        {},
        {
            "https://oauth.yandex.com/token": TOKEN,
            "https://oauth.yandex.ru/token": TOKEN,
            "https://login.yandex.ru/info": {"id": "1000034426", "login": "ann"},
        },
        "1000034426",
    ),
    "apple-id": (
        {"TEAM": "T", "CLIENT": KEY, "SECRET": "APPLE"},
        {
            "https://appleid.apple.com/auth/token": id_token(
                "https://appleid.apple.com", "001234.abcdef.0123", email="a@privaterelay.test"
            ),
            "https://appleid.apple.com/auth/keys": keys,
        },
        "001234.abcdef.0123",
    ),
    "oidc": (
        {"OIDC_ENDPOINT": "https://id.test"},
        openid("https://id.test", "sub-1"),
        "sub-1",
    ),
}
