"""Settings: where they come from, what is refused, and that secrets stay unseen."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.config_docs import write_docs
from server.config.model import Config, dump, load
from server.core.config_file import ConfigError, walk
from server.core.settings import Declared, Inner, declared_in

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"
LOCAL = "plugins.kuzzle-plugin-auth-passport-local"
SECRET = "correct-horse-battery-staple-0123"
SUFFIXES = re.compile(r"_(ms|s|bytes)$")


def given_in(name: str, value: object) -> Config:
    return load(None, {}, {name: value})


def attribute_of(config: object, name: str) -> object:
    """Give the value of a setting by its full name."""
    for one in declared_in(type(config)):
        value: object = getattr(config, one.attribute)
        if isinstance(one, Inner) and name.startswith(one.name + "."):
            return attribute_of(value, name.removeprefix(one.name + "."))
        if isinstance(one, Declared) and one.name == name:
            return value
    raise AssertionError(name)


# Keys and defaults of docs/configuration.md, in the units the contract gives them.
CONTRACT = [
    ("security.authToken.algorithm", "HS256"),
    ("security.authToken.expiresIn", 3_600_000),
    ("security.authToken.gracePeriod", 1000),
    ("security.authToken.maxTTL", -1),
    ("security.authToken.secret", None),
    ("security.apiKey.maxTTL", -1),
    ("security.restrictedProfileIds", ("default",)),
    ("limits.documentsFetchCount", 10_000),
    ("limits.documentsWriteCount", 200),
    ("http.accessControlAllowOrigin", ("*",)),
    ("http.accessControlAllowOriginUseRegExp", False),
    ("http.accessControlAllowMethods", "GET,POST,PUT,PATCH,DELETE,OPTIONS,HEAD"),
    (
        "http.accessControlAllowHeaders",
        "Content-Type, Access-Control-Allow-Headers, Authorization, X-Requested-With, "
        "Content-Encoding, Content-Length, X-Kuzzle-Volatile",
    ),
    ("http.cookieAuthentication", True),
    ("server.port", 7512),
    ("server.maxRequestSize", 1_048_576),
    ("server.strictSdkVersion", True),
    ("server.protocols.http.allowCompression", True),
    ("server.protocols.http.maxEncodingLayers", 1),
    ("server.protocols.http.maxRatio", 100),
    ("server.protocols.http.maxInflatedSize", 512 * 1024),
    ("limits.jsonValues", 12_000),
    ("server.protocols.http.maxFormFileSize", 1_048_576),
    ("server.protocols.http.additionalContentTypes", ()),
    ("server.protocols.websocket.enabled", True),
    ("server.protocols.websocket.idleTimeout", 60_000),
    ("server.protocols.websocket.compression", False),
    ("server.protocols.websocket.rateLimit", 0),
    (f"{LOCAL}.requirePassword", False),
    (f"{LOCAL}.passwordPolicies", ()),
    (f"{LOCAL}.resetPasswordExpiresIn", -1),
    ("services.storageEngine.defaults.scrollTTL", 15_000),
    ("services.storageEngine.maxScrollDuration", 60_000),
    # Where docs/architecture.md decide.
    ("limits.loginsPerSecond", 0),
    ("security.passwords.cost", 12),
    ("security.strict", False),
    ("security.authToken.prefix", ""),
    ("server.host", "127.0.0.1"),
    ("server.data", "manykeys.db"),
    ("server.trustedProxies", ()),
]


@pytest.mark.parametrize(("name", "default"), CONTRACT)
def test_defaults(name: str, default: object) -> None:
    assert attribute_of(load(), name) == default


def test_attributes_are_the_names_in_snake_case() -> None:
    def tables(of: type) -> Iterator[type]:
        yield of
        for one in declared_in(of):
            if isinstance(one, Inner):
                yield from tables(one.type)

    for table in tables(Config):
        for one in declared_in(table):
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", one.name).lower()
            if one.name != "kuzzle-plugin-auth-passport-local":
                assert SUFFIXES.sub("", one.attribute) == words


def test_defaults_are_what_their_own_kinds_accept() -> None:
    for name, declared in walk(Config):
        if declared.default is not None:
            value = declared.default
            value = list(value) if isinstance(value, tuple) else value
            assert declared.kind.read(value) == declared.default, name


def test_later_places_win(tmp_path: Path) -> None:
    file = tmp_path / "manykeys.toml"
    file.write_text("[server]\nport = 1\nhost = '::1'\nnode = 'a'\n[logs]\nformat = 'json'\n")
    environment = {
        "kuzzle_server__port": "2",
        "MANYKEYS_server__port": "3",
        "kuzzle_server__node": "b",
    }
    config = load(file, environment, {"server.port": "4"})
    assert (config.server.port, config.server.node, config.server.host) == (4, "b", "::1")
    assert config.logs.format == "json"
    assert load(file, environment).server.port == 3
    assert load(file, {"kuzzle_server__port": "2"}).server.port == 2
    assert load(file).server.port == 1


@pytest.mark.parametrize("prefix", ["MANYKEYS_", "manykeys_", "kuzzle_", "KUZZLE_"])
def test_environment(prefix: str) -> None:
    environment = {prefix + "security__authToken__expiresIn": "2h", "PATH": "/bin"}
    assert load(None, environment).security.auth_token.expires_in_ms == 7_200_000


def test_variables_without_levels_are_no_settings() -> None:
    assert load(None, {"MANYKEYS_REQUIRE_INTEROP": "1", "KUZZLE_VAULT_KEY": "x"}) == load()


ACCEPTED = [
    ("server.port", "7513", 7513),
    ("server.port", 0, 0),
    ("server.maxRequestSize", "64kb", 65_536),
    ("server.maxRequestSize", "2 MB", 2_097_152),
    ("http.cookieAuthentication", "false", False),
    ("http.accessControlAllowOrigin", "https://a, https://b", ("https://a", "https://b")),
    ("http.accessControlAllowOrigin", '*json:["https://a"]', ("https://a",)),
    ("server.trustedProxies", ["10.0.0.0/8", "::1"], ("10.0.0.0/8", "::1")),
    ("server.data", "/home/zoë/a.db", "/home/zoë/a.db"),
    ("security.authToken.expiresIn", -1, -1),
    ("security.authToken.expiresIn", "-1", -1),
    ("security.authToken.expiresIn", "1.5h", 5_400_000),
    ("security.authToken.maxTTL", 0, 0),
    ("security.authToken.secret", "1" * 32, "1" * 32),
    ("security.authToken.secret", "*json:" + "1" * 32, "*json:" + "1" * 32),
    (f"{LOCAL}.passwordPolicies", '*json:[{"appliesTo": "*"}]', ({"appliesTo": "*"},)),
]


@pytest.mark.parametrize(("name", "value", "read"), ACCEPTED)
def test_accepted(name: str, value: object, read: object) -> None:
    assert attribute_of(given_in(name, value), name) == read


REFUSED = [
    ("server.port", 65_536, "from 0 to 65535"),
    ("server.port", True, "whole number"),
    ("server.port", 1.5, "whole number"),
    ("server.port", "7_513", "whole number"),
    ("server.port", "\u0667", "whole number"),
    ("server.maxRequestSize", "1 parsec", "a size"),
    ("server.maxRequestSize", -1, "a size"),
    ("server.node", "a\r\nSet-Cookie: b", "printable ASCII"),
    ("server.node", "", "printable ASCII"),
    ("server.data", "a\0b", "name of a file"),
    ("server.trustedProxies", ["10.0.0.0/33"], "addresses or networks"),
    ("http.cookieAuthentication", "yes", "true or false"),
    ("http.cookieAuthentication", 1, "true or false"),
    ("http.accessControlAllowHeaders", "a\nb", "printable ASCII"),
    ("security.restrictedProfileIds", [], "not empty"),
    ("security.authToken.expiresIn", 0, "at least 1 ms"),
    ("security.authToken.expiresIn", "-1h", "at least 1 ms"),
    ("security.authToken.expiresIn", "soon", '"1h"'),
    ("security.authToken.expiresIn", float("nan"), "a duration"),
    ("security.authToken.algorithm", "none", "HS256"),
    ("security.authToken.prefix", "a b", "letters"),
    ("security.passwords.cost", 31, "from 4 to 16"),
    ("logs.requests", "some", "none, notable, all"),
    (f"{LOCAL}.passwordPolicies", {"appliesTo": "*"}, "a list of tables"),
    ("strategies.google", "oauth", "a table for each name"),
    ("server", 1, "expected a table"),
    ("http.accessControlAllowOrigin", "*json:[", "not JSON"),
]


@pytest.mark.parametrize(("name", "value", "accepted"), REFUSED)
def test_refused_with_name_and_what_is_accepted(name: str, value: object, accepted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        given_in(name, value)
    assert name.startswith(str(raised.value).partition(":")[0])
    assert accepted in str(raised.value)


def test_refusal_shows_the_value() -> None:
    with pytest.raises(ConfigError, match='server.port: "http" is not accepted'):
        given_in("server.port", "http")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("security.authtoken.expiresIn", "security.authToken.expiresIn"),
        ("security.authToken.expireIn", "security.authToken.expiresIn"),
        ("sever.port", "server.port"),
        (f"{LOCAL}.requirePasword", f"{LOCAL}.requirePassword"),
    ],
)
def test_unknown_key_is_refused_with_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{name}: ") + ".*" + re.escape(meant)):
        given_in(name, SECRET)


@pytest.mark.parametrize("name", ["zzz.yyy", "security.jwt.secrets", "services.cache.x"])
def test_unknown_key_is_refused_without_its_value(name: str) -> None:
    with pytest.raises(ConfigError, match="no such setting") as raised:
        given_in(name, SECRET)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "cluster.enabled",
        "plugins.some-plugin",
        "plugins.common.failsafeMode",
        f"{LOCAL}.stretching",
        "security.jwt.expiresIn",
        "security.standard.roles",
        "server.logs.transports",
    ],
)
def test_settings_without_effect_are_told(name: str) -> None:
    config = given_in(name, "x")
    assert config.ignored == (name,)
    assert not load().ignored


def test_older_names_of_the_reference() -> None:
    old = {"security.jwt.gracePeriod": 5, "security.jwt.secret": SECRET}
    token = load(None, {}, old).security.auth_token
    assert (token.grace_period_ms, token.secret) == (5, SECRET)
    both = {**old, "security.authToken.gracePeriod": 7}
    assert load(None, {}, both).security.auth_token.grace_period_ms == 7
    under = load(None, {"kuzzle_security__authToken__gracePeriod": "7"}, old)
    assert under.security.auth_token.grace_period_ms == 7


def test_short_secret_is_refused_unseen() -> None:
    """T8: an HMAC secret has 256 bits or more."""
    with pytest.raises(ConfigError, match="32 bytes") as raised:
        given_in("security.authToken.secret", "short-and-secret")
    assert "short-and-secret" not in str(raised.value)
    assert given_in("security.authToken.secret", "é" * 16).security.auth_token.secret == "é" * 16
    with pytest.raises(ConfigError):
        given_in("security.authToken.secret", 10**40)


STRATEGIES = {
    "strategies.google.use": "oauth",
    "strategies.google.backend": "google-oauth2",
    "strategies.google.key": "client-1",
    "strategies.google.secret": SECRET,
    "strategies.google.port": 636,
    "strategies.google.nested": {"deep": SECRET},
}


def test_strategies_are_free_tables() -> None:
    environment = {
        "MANYKEYS_strategies__google__secret": "123456",
        "MANYKEYS_strategies__google__scope": '*json:["email"]',
    }
    config = load(None, environment)
    assert config.strategies == {"google": {"secret": "123456", "scope": ["email"]}}


def test_secrets_are_not_shown() -> None:
    """X4: neither the dump nor a repr tells a secret."""
    config = load(None, {}, {**STRATEGIES, "security.authToken.secret": SECRET})
    for shown in (dump(config), repr(config), str(config), repr(config.security.auth_token)):
        assert SECRET not in shown
        assert "client-1" not in shown
    assert "# secret: set, not shown" in dump(config)
    assert "# secret: not set" in dump(load())
    shown = tomllib.loads(dump(config))["strategies"]["google"]
    assert shown == {"use": "oauth", "backend": "google-oauth2", "port": 636}


def test_dump_can_be_loaded_again(tmp_path: Path) -> None:
    changed = {
        "server.node": 'a "node" \\ here',
        "server.trustedProxies": ["10.0.0.0/8"],
        "security.authToken.expiresIn": 1500.5,
        f"{LOCAL}.passwordPolicies": [{"appliesTo": {"profiles": ["it's"]}, "expiresAfter": "1d"}],
    }
    config = load(None, {}, changed)
    file = tmp_path / "dumped.toml"
    file.write_text(dump(config))
    assert load(file) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [("port =", "not TOML"), ("[server]\nport = 1\n[server]\n", "not TOML")],
)
def test_file_that_is_not_toml(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        load(file)
    assert str(file) in str(raised.value)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load(tmp_path / "absent.toml")


def test_variable_under_a_value() -> None:
    with pytest.raises(ConfigError, match="no table"):
        load(None, {"kuzzle_server__port": "1", "kuzzle_server__port__x": "2"})


def test_origins_that_must_be_patterns() -> None:
    asked = {"http.accessControlAllowOriginUseRegExp": True}
    with pytest.raises(ConfigError, match="not a regular expression"):
        load(None, {}, {**asked, "http.accessControlAllowOrigin": ["https://("]})
    assert load(None, {}, asked).http.access_control_allow_origin == ("*",)


@given(
    st.dictionaries(
        st.sampled_from([name for name, _ in walk(Config)] + ["a", "security", "x.y"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
def test_any_values_are_read_or_refused(overrides: Mapping[str, object]) -> None:
    try:
        assert isinstance(dump(load(None, {}, overrides)), str)
    except ConfigError as refused:
        assert str(refused)


def test_documentation_is_up_to_date() -> None:
    assert DOCS.read_text(encoding="utf-8") == write_docs(), "run: manykeys config --docs"
