"""Settings of SAML that do, and those that can't (security check O6); its commands."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree

from protocol.errors import LocalError
from server.cli import main as cli
from tests.support.login_steps import Client
from tests.support.providers.saml import (
    CALLBACK,
    ENTITY,
    Idp,
    log_in,
    served,
    write_key,
    write_pair,
)
from tests.support.server import cheap_config, running

UNLINK = "auth:deleteMyCredentials"
ROOT = Path(__file__).parents[5]


async def test_the_configuration_of_the_page(idp: Idp) -> None:
    """docs/strategies/saml.md shows a table that works as it is, but for names."""
    page = (ROOT / "docs/strategies/saml.md").read_text()
    found = re.search(r"```toml\n(\[strategies\.corp\].*?)```", page, re.DOTALL)
    assert found is not None
    text = found[1].replace("example.com", "test").replace("corp", "site")
    for name, shown in (("sp", "saml"), ("idp", "idp")):
        for file in write_pair(idp.folder, name):
            text = text.replace(f"/etc/manykeys/{shown}{file.suffix}", str(file))
    assert "/etc/" not in text
    idp.attributes["displayName"] = ["Ann"]
    async with running(cheap_config(**tomllib.loads(text))) as server:
        answer = await log_in(Client(server, "http"), idp)
        assert answer["status"] == 200, answer
        token = answer["result"]["jwt"]
        me = await server.call("query", "auth:getCurrentUser", token=token)
        assert me["result"]["_source"]["name"] == "Ann"
        info = await server.call("query", "auth:getMyCredentials", token=token, strategy="site")
        assert info["result"] == {"mail": "ann@mail.test"}


def run(capsys: pytest.CaptureFixture[str], config: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command; give its exit code and what it printed."""
    code = cli.main(["strategies", *arguments, "--config", str(config)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_commands(idp: Idp, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What to register, and what is in effect."""
    given = idp.settings()
    lines = [f"{key} = {json.dumps(given[key])}" for key in given if key != "providers"]
    table = [f"{key} = {json.dumps(value)}" for key, value in idp.table().items()]
    text = ["[strategies.site]", *lines, "[strategies.site.providers.main]", *table]
    config = tmp_path / "keys.toml"
    config.write_text("\n".join([*text, "[strategies.mail]", 'use = "magic"']))
    code, out, _ = run(capsys, config, "metadata", "site")
    assert code == 0
    root = etree.fromstring(out.encode())
    assert root.get("entityID") == ENTITY
    (service,) = root.iter("{*}AssertionConsumerService")
    assert service.get("Location") == CALLBACK
    (described,) = root.iter("{*}SPSSODescriptor")
    assert described.get("WantAssertionsSigned") == "true"
    assert [key.get("use") for key in root.iter("{*}KeyDescriptor")] == ["signing"]
    code, out, err = run(capsys, config, "check", "site")
    assert (code, err) == (0, "")
    assert f"assertion consumer service: {CALLBACK}" in out
    assert "main: signing certificate valid until" in out
    assert "PRIVATE KEY" not in out
    config.write_text(config.read_text().replace("/_login/site", "/_login/other"))
    code, out, _ = run(capsys, config, "check", "site")
    assert (code, "missing: callbackUrl" in out) == (2, True)
    for name, reason in (("mail", "has no metadata"), ("other", "unknown strategy")):
        code, _, err = run(capsys, config, "metadata", name)
        assert (code, reason in err) == (2, True)


WRONG = {
    "no entity id": ({"entityId": ""}, "entityId: not set"),
    "odd entity id": ({"entityId": 'a"b'}, "entityId: .*expected a URI"),
    "no callback": ({"callbackUrl": ""}, "callbackUrl: .*/_login/NAME"),
    "no provider": ({"providers": {}}, "providers: not set"),
    "half a pair": ({"key": ""}, "key, certificate: expected both or neither"),
    "no file": ({"key": "/nowhere/at/all"}, "/nowhere/at/all: No such file"),
    "a word": ({"nameIdFormat": "emailAddress"}, "nameIdFormat: .*persistent"),
}
WRONG_PROVIDER = {
    "no name": ({"entityId": ""}, "providers.main.entityId: not set"),
    "no address": ({"url": ""}, "providers.main.url: not set"),
    "plain address": ({"url": "http://idp.test/sso"}, "providers.main.url: .*https://"),
    "no certificate": ({"certificates": []}, "providers.main.certificates: "),
    "no such file": ({"certificates": ["/nowhere"]}, "/nowhere: No such file"),
    "unknown": ({"certificate": "x"}, "providers.main.certificate: unknown setting"),
    **{
        name: ({"identifierAttribute": name}, "must not be an email address: it can be reassigned")
        for name in (
            "mail",
            "emailAddress",
            "user.email",
            "urn:oid:0.9.2342.19200300.100.1.3",
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
        )
    },
}


async def refuse_to_start(idp: Idp, reason: str, **settings: object) -> None:
    """See that such settings are refused."""
    with pytest.raises(LocalError, match=reason):
        async with served(idp, **settings):
            pass


@pytest.mark.parametrize(("given", "reason"), WRONG.values(), ids=WRONG.keys())
async def test_settings_that_can_not_do(idp: Idp, given: dict[str, object], reason: str) -> None:
    await refuse_to_start(idp, f"strategies.site.*{reason}", **given)


@pytest.mark.parametrize(("given", "reason"), WRONG_PROVIDER.values(), ids=WRONG_PROVIDER.keys())
async def test_providers_that_can_not_do(idp: Idp, given: dict[str, object], reason: str) -> None:
    """O6 among others: whatever the operator may want."""
    await refuse_to_start(idp, reason, providers={"main": idp.table(**given)})


async def test_names_and_files_that_can_not_do(idp: Idp, tmp_path: Path) -> None:
    odd = {"a:b": idp.table()}
    await refuse_to_start(idp, "providers.a:b: expected a name", providers=odd)
    for name in ("access_token", "password"):
        await refuse_to_start(idp, "must not be stored", persist=[name])
    other = str(write_pair(idp.folder, "second")[0])
    await refuse_to_start(idp, "second.key: does not match", key=other)
    certificate = write_pair(idp.folder, "idp")[1]
    await refuse_to_start(idp, "expected a PEM key", key=str(certificate))
    # Too weak, which is the point.
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    files = {"main": idp.table(certificates=[str(write_key(tmp_path, "weak", weak)[1])])}
    await refuse_to_start(idp, "RSA keys of at least 2048 bits", providers=files)
    key, certificate = write_pair(idp.folder, "curve")
    pair = {"key": str(key), "certificate": str(certificate)}
    await refuse_to_start(idp, "curve.key: expected an RSA key", **pair)
    (tmp_path / "empty.pem").write_bytes(b"")
    files = {"main": idp.table(certificates=[str(tmp_path / "empty.pem")])}
    await refuse_to_start(idp, "expected PEM certificates", providers=files)
