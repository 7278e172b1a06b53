"""`manykeys strategies`, and starts with and without what a strategy needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.app import strategies as configured
from server.cli import main as cli
from tests.support.issuer import issuing
from tests.support.server import cheap_config

TABLE = """
[strategies.google]
use = "oauth"
backend = "google-oauth2"
key = "k"
secret = "a-secret"
callbackUrl = "https://login.test/_login/google"
[strategies.site]
use = "oauth"
backend = "oidc"
callbackUrl = "https://login.test/_login/other"
[strategies.described]
use = "oauth"
backend = "oidc"
key = "k"
secret = "a-secret"
callbackUrl = "https://login.test/_login/described"
settings = { OIDC_ENDPOINT = "SITE" }
"""


def run(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str, site: str = ""
) -> tuple[int, str, str]:
    """Run a command with this configuration; give its exit code and what it printed."""
    file = folder / "keys.toml"
    file.write_text(TABLE.replace("SITE", site or "http://127.0.0.1:1"))
    code = cli.main(["strategies", *arguments, "--config", str(file)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_what_there_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, tmp_path, "list")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["local", "local", "-"] in lines
    assert ["google", "oauth", "google-oauth2"] in lines
    words = out.replace(",", " ").split()
    assert {"magic", "oauth:", "github", "keycloak", "oidc"} <= set(words)
    assert "a-secret" not in out


def test_one_that_lacks_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nobody is asked: there is no such provider here."""
    code, out, err = run(capsys, tmp_path, "check", "google")
    assert (code, err) == (0, "")
    assert "a login starts at: https://accounts.google.com/o/oauth2/auth" in out
    assert "google: OK" in out
    assert "a-secret" not in out


def test_one_that_lacks_much(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, tmp_path, "check", "site")
    assert code == 2
    assert [line for line in out.splitlines() if line.startswith("missing: ")] == [
        "missing: callbackUrl: expected a URL that ends in /_login/site",
        "missing: secret: not set; expected the client secret that the provider issued",
        "missing: key: not set",
        "missing: settings.OIDC_ENDPOINT: not set",
    ]
    assert err == "manykeys: site: 4 required items are missing\n"


def test_one_there_is_not(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, tmp_path, "check", "gogle")
    assert code == 2
    assert "unknown strategy; expected one of: google, site, described" in err
    assert cli.main(["strategies", "check", "google"]) == 2
    assert "none is configured, see --config" in capsys.readouterr().err


def test_the_description_is_read_when_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(capsys, tmp_path, "check", "described", "--online")
    assert (code, "cannot be read: connection_failed" in out) == (2, True)
    with issuing() as issuer:
        code, out, _ = run(capsys, tmp_path, "check", "described", site=issuer.url)
        assert (code, issuer.asked) == (0, [])
        code, out, _ = run(capsys, tmp_path, "check", "described", "--online", site=issuer.url)
        assert (code, issuer.paths()) == (0, ["/.well-known/openid-configuration"])
        assert f"discovery document: {issuer.url}/.well-known/openid-configuration" in out


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is named, with what brings it."""
    kept = {name: module for name, module in sys.modules.items() if ".oauth." in name}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "social_core", None)
    for name in [name for name in sys.modules if name.startswith("social_core.")]:
        monkeypatch.delitem(sys.modules, name)
    config = cheap_config(strategies={"site": {"use": "oauth", "backend": "oidc"}})
    with pytest.raises(LocalError, match=r"pip install 'manykeys\[oauth\]'"):
        configured.check(config)


def test_without_the_extra_of_saml(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if ".strategies.saml." in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onelogin.saml2.constants", None)
    config = cheap_config(strategies={"site": {"use": "saml"}})
    with pytest.raises(LocalError, match=r"saml needs .*pip install 'manykeys\[saml\]'"):
        configured.check(config)


def test_who_does_not_use_it_does_not_pay() -> None:
    """The command line, the server, its documents: none of them needs the extra."""
    code = (
        "import sys, server.cli.main, server.cli.config_docs; server.cli.config_docs.write_docs(); "
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('social_core', 'requests', 'openid', 'oauthlib', 'onelogin', 'lxml', 'xmlsec')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
