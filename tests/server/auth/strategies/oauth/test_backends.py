"""Every backend of social-auth-core somebody can log in with: begun without a network, with what
it takes beyond a key and a secret."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.auth.strategies.federated import Declined
from server.auth.strategies.oauth import catalog
from server.auth.strategies.oauth.check import backends, missing_settings
from server.auth.strategies.oauth.provider import Provider
from server.auth.strategies.oauth.settings import OAuthSettings
from server.core.config_file import ConfigError

SITE = "https://site.test"
HOME = "https://login.test/_login/x"
PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)
# What each needs beside `key` and `secret`; the first one is what is said to be missing.
NEEDS: dict[str, dict[str, object]] = {
    "apple-id": {"TEAM": "t", "SECRET": PEM, "CLIENT": "c"},
    "auth0": {"DOMAIN": "site.test"},
    "auth0_openidconnect": {"DOMAIN": "site.test"},
    "azuread-b2c-oauth2": {"POLICY": "b2c_p", "TENANT_ID": "t", "TENANT_NAME": "t"},
    "bitbucket-datacenter-oauth2": {"URL": SITE},
    "cas": {"OIDC_ENDPOINT": SITE},
    "casdoor": {"OIDC_ENDPOINT": SITE},
    "cognito": {"POOL_DOMAIN": SITE},
    "discourse": {"SERVER_URL": SITE},
    "eduid-staging": {"OIDC_ENDPOINT": SITE},
    "github-enterprise": {"URL": SITE, "API_URL": SITE},
    "github-enterprise-org": {"URL": SITE, "API_URL": SITE},
    "github-enterprise-team": {"URL": SITE, "API_URL": SITE},
    "keycloak": {"AUTHORIZATION_URL": f"{SITE}/auth"},
    "mediawiki": {"MEDIAWIKI_URL": f"{SITE}/index.php"},
    "nationbuilder": {"SLUG": "s"},
    "oidc": {"OIDC_ENDPOINT": SITE},
    "okta-oauth2": {"API_URL": f"{SITE}/oauth2"},
    "okta-openidconnect": {"API_URL": f"{SITE}/oauth2"},
    "openshift": {"URL": SITE},
    "ping": {"OIDC_ENDPOINT": SITE},
    "uffd": {"BASE_URL": SITE},
    "vault": {"OIDC_ENDPOINT": SITE},
}


def settings_of(backend: str, **settings: object) -> OAuthSettings:
    """Give the settings of a strategy with a backend."""
    return OAuthSettings(backend=backend, key="k", secret="s", callback_url=HOME, settings=settings)


@pytest.mark.parametrize("name", backends())
def test_each_begins(name: str) -> None:
    """With nothing but a key and a secret, or with the one setting named that is missing. O2: what
    is an address at once has a challenge of PKCE wherever a code will be exchanged, and our
    state."""
    needed = NEEDS.get(name, {})
    first = [f"settings.{next(iter(needed))}: not set"] if needed else []
    assert missing_settings(settings_of(name)) == first
    settings = settings_of(name, **needed)
    assert missing_settings(settings) == []
    kind = catalog.find(name)
    if not catalog.exchanges_code(kind) or hasattr(kind, "oidc_config_url"):
        return
    url, session = Provider(settings).begin("the-state", {})
    sent = dict(parse_qsl(urlsplit(url).query))
    assert sent["code_challenge_method"] == "S256"
    assert len(sent["code_challenge"]) == 43
    is_there = sent.get("state") == "the-state" or "state=the-state" in url.replace("%3D", "=")
    assert is_there, url
    assert session


def test_there_are_many() -> None:
    assert len(backends()) >= 190
    assert NEEDS.keys() <= set(backends())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "backend: not set; expected one of"),
        ("gooogle", "backend: gooogle; expected one of"),
        ("email", "it has no identity provider"),
        ("mixcloud", "it can only link accounts"),
        ("telegram", "its login starts on a page"),
        ("openid", "choose the URL that is fetched"),
        ("no.such.Thing", "cannot be loaded"),
        ("os.path.join", "is not a backend"),
    ],
)
def test_those_of_no_use(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        catalog.find(name)


def test_a_class_by_its_full_name() -> None:
    name = "social_core.backends.github.GithubMemberOAuth2"
    assert catalog.find(name).__qualname__ == "GithubMemberOAuth2"


def test_a_page_is_no_redirect() -> None:
    """What a provider can't be begun with is said when it turns out."""
    provider = Provider(settings_of("github"))
    provider._backend.uses_redirect = lambda self: False  # type: ignore[method-assign]
    provider._backend.auth_html = lambda self: "<form>"  # type: ignore[method-assign]
    with pytest.raises(Declined, match="requires a page"):
        provider.begin("s", {})
