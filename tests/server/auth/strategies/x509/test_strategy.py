"""Client certificates that a trusted proxy passes on: who gets in, who does not, and what is kept
(security checks D5, H8)."""

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509

from protocol.errors import LocalError
from server.config.model import Config
from server.storage.rows import Table
from tests.server.auth.audit.test_events import events
from tests.support.clock import START_MS, Clock
from tests.support.errors import told
from tests.support.login_steps import Client
from tests.support.pki import CLIENT, SERVER, Authority, Shown, make, upn, usage, weak_key
from tests.support.server import TRANSPORTS, Envelope, Running, cheap_config, running

FIELD = "X-Client-Cert"
CREATE, UPDATE = "auth:createMyCredentials", "auth:updateMyCredentials"
REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
WRONG = "wrong user or password"
NEEDED = "a client certificate is required"
NOW = datetime.fromtimestamp(START_MS / 1000, UTC)
ROOT, OTHER_ROOT = Authority("root"), Authority("other root")
BETWEEN = Authority("between", ROOT)
ANN = BETWEEN.sign("ann", x509.RFC822Name("ann@mail.test"), uses=usage("digital_signature"))


def behind_proxy(
    folder: Path, trusted: tuple[str, ...] = ("127.0.0.1",), **table: object
) -> Config:
    """Give the configuration of a server that believes such a proxy; `ca` is ROOT."""
    ca, between = folder / "root.pem", folder / "between.pem"
    ca.write_text(ROOT.pem)
    between.write_text(BETWEEN.pem)
    config = cheap_config(
        strategies={
            "card": {
                "use": "x509",
                "ca": [str(ca)],
                "intermediates": [str(between)],
                "header": FIELD,
                **table,
            }
        }
    )
    return replace(config, server=replace(config.server, trusted_proxies=trusted))


def passed_on(shown: Shown | str) -> dict[str, str]:
    """Give what nginx says of a certificate."""
    return {FIELD: quote(shown if isinstance(shown, str) else shown.pem, safe="")}


@dataclass
class Desk:
    """A server with Ann's certificate known, and its administrator."""

    server: Running
    admin: str
    headers: dict[str, str] = field(default_factory=dict)

    async def login(self, transport: str, shown: Shown, **more: str) -> Envelope:
        """Log in with a certificate."""
        return await Client(self.server, transport, passed_on(shown) | more).login("card")

    async def reasons(self) -> list[str]:
        """Give why logins were refused, oldest first."""
        found = await events(self.server, self.admin, kind="auth:login", outcome="refused")
        return [str(one["reason"]) for one in reversed(found) for _ in range(one["count"])]

    async def rows(self) -> tuple[int, int]:
        """Count users and credentials."""
        storage = self.server.app.services.storage
        users = await storage.find(Table.USERS, limit=99)
        return len(users), len(await storage.find(Table.CREDENTIALS, limit=99))


async def give(server: Running, admin: str, kuid: str, identifier: str) -> Envelope:
    """Have an administrator link a certificate."""
    body = {"identifier": identifier}
    return await server.call(
        "query", "security:createCredentials", token=admin, strategy="card", _id=kuid, body=body
    )


@pytest.fixture
async def desk(tmp_path: Path, clock: Clock) -> AsyncIterator[Desk]:
    async with running(behind_proxy(tmp_path)) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        assert (await give(server, admin, "ann", ANN.fingerprint))["status"] == 200
        yield Desk(server, admin)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_logs_in(desk: Desk, transport: str) -> None:
    """D5: whom the proxy passes on as the holder of a known certificate."""
    answer = await desk.login(transport, ANN)
    assert answer["status"] == 200, answer
    assert answer["result"]["_id"] == "ann"
    token = answer["result"]["jwt"]
    assert (await desk.server.call("http", "auth:getCurrentUser", token=token))["result"][
        "strategies"
    ] == ["local", "card"]


BAD: dict[str, tuple[Callable[[], Shown | str], str]] = {
    "expired": (lambda: ROOT.sign(ends=NOW - timedelta(seconds=1)), "expired"),
    "not yet valid": (lambda: ROOT.sign(begins=NOW + timedelta(seconds=1)), "not yet valid"),
    "for servers": (lambda: ROOT.sign(purposes=[SERVER]), "not for clients"),
    "for nothing": (lambda: ROOT.sign(purposes=[]), "not for clients"),
    "for encryption": (lambda: ROOT.sign(uses=usage("key_encipherment")), "not for signatures"),
    "an authority": (lambda: ROOT.sign(is_authority=True), "certificate of an authority"),
    "the root itself": (lambda: ROOT, "certificate of an authority"),
    "self-signed": (
        lambda: make("ann", None, (x509.ExtendedKeyUsage([CLIENT]), False)),
        "no chain to a trusted authority",
    ),
    "another root": (lambda: OTHER_ROOT.sign(), "no chain to a trusted authority"),
    "a root of the same name": (
        lambda: Authority("root").sign(),
        "no chain to a trusted authority",
    ),
    "signed by a client": (lambda: signed_by_client(), "no chain to a trusted authority"),
    "unknown between": (
        lambda: Authority("unknown", ROOT).sign(),
        "no chain to a trusted authority",
    ),
    "a weak key": (lambda: ROOT.sign(key=weak_key()), "weak key"),
    "something critical": (
        lambda: make(
            "ann",
            ROOT,
            (x509.ExtendedKeyUsage([CLIENT]), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
        ),
        "no chain to a trusted authority",
    ),
    "unknown": (lambda: ROOT.sign("ann"), "unknown certificate"),
    "no PEM": (lambda: "ann", "unreadable header"),
    "cut PEM": (lambda: ANN.pem[:-40], "unreadable header"),
    "two in one": (lambda: ANN.pem + ANN.pem, "unreadable header"),
    "no base64": (lambda: ANN.pem.replace("M", "*"), "unreadable header"),
    "no certificate in it": (
        lambda: f"-----BEGIN CERTIFICATE-----\n{'QUFB' * 9}\n-----END CERTIFICATE-----",
        "unreadable certificate",
    ),
    "cut DER": (
        lambda: pem_of(ANN.der[:-9]),
        "unreadable certificate",
    ),
    "another signature": (
        lambda: pem_of(ANN.der[:-1] + bytes([ANN.der[-1] ^ 1])),
        "no chain to a trusted authority",
    ),
}


def signed_by_client() -> Shown:
    """One whose issuer is no authority, though what it signs says so."""
    client = ROOT.sign("client")
    forged = Authority("client")
    forged.certificate, forged.key = client.certificate, client.key
    return forged.sign("ann")


def pem_of(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_good(desk: Desk, name: str) -> None:
    """D5: one answer to all of it over every transport, nothing made, and the trail knows why."""
    made, reason = BAD[name]
    shown, before = made(), await desk.rows()
    for transport in TRANSPORTS:
        client = Client(desk.server, transport, passed_on(shown))
        answer = await client.login("card")
        assert (told(answer), answer["error"]["message"]) == (REFUSED, WRONG)
    assert await desk.rows() == before
    assert await desk.reasons() == [reason] * len(TRANSPORTS)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_shown(desk: Desk, transport: str) -> None:
    for headers in ({}, {FIELD: ""}):
        answer = await Client(desk.server, transport, headers).login("card")
        assert (told(answer), answer["error"]["message"]) == (REFUSED, NEEDED)
    assert await desk.reasons() == ["no certificate"] * 2


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_field_twice(desk: Desk, transport: str) -> None:
    """D5: a client's own one in front of the proxy's, which does not remove it."""
    value = passed_on(ANN)[FIELD]
    headers = {FIELD: value, FIELD.lower(): passed_on(ROOT.sign("bob"))[FIELD]}
    for fields in (headers, dict(reversed(headers.items())), {FIELD: f"{value}, {value}"}):
        assert told(await Client(desk.server, transport, fields).login("card")) == REFUSED
    assert await desk.reasons() == ["unreadable header"] * 3


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_field_of_a_stranger(tmp_path: Path, transport: str) -> None:
    """D5, H8: only a proxy that is named may say who somebody is."""
    async with running(behind_proxy(tmp_path, ("10.0.0.0/8", "unix"))) as server:
        desk = Desk(server, await server.create_admin())
        await give(server, desk.admin, "admin", ANN.fingerprint)
        answer = await desk.login(transport, ANN)
        assert (told(answer), answer["error"]["message"]) == (REFUSED, NEEDED)
        assert await desk.reasons() == ["header not from a trusted proxy"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_of_another_origin(desk: Desk, transport: str) -> None:
    """H5: a browser shows its user's certificate whichever page asks."""
    for headers in ({"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await desk.login(transport, ANN, **headers)
        assert told(answer) == REFUSED
    assert await desk.reasons() == ["foreign page"] * 2
    own = await desk.login(transport, ANN, Origin="http://localhost")
    assert own["status"] == 200, own


async def test_a_disabled_user(desk: Desk) -> None:
    """A1: he is told what everybody is told."""
    await desk.server.call("query", "security:disableUser", token=desk.admin, _id="ann")
    answer = await desk.login("http", ANN)
    assert (told(answer), answer["error"]["message"]) == (REFUSED, WRONG)


async def test_a_socket_outlives_its_certificate(desk: Desk, clock: Clock) -> None:
    """D5: what is good is decided when somebody logs in, not when he came."""
    shown = ROOT.sign("ann", ends=NOW + timedelta(minutes=1))
    await give(desk.server, desk.admin, "admin", shown.fingerprint)
    client = Client(desk.server, "websocket", passed_on(shown))
    assert (await client.login("card"))["status"] == 200
    clock.now_ms += 60_000
    assert (await client.login("card"))["status"] == 200
    clock.now_ms += 1_000
    assert told(await client.login("card")) == REFUSED


# What names whom


NAMES = (
    x509.RFC822Name("ann@mail.test"),
    x509.DNSName("ANN.Host.test"),
    x509.UniformResourceIdentifier("spiffe://test/ann"),
    upn("Ann@AD.test"),
)


@pytest.mark.parametrize(
    ("way", "name"),
    [
        ("subject", "CN=ann,O=Tests"),
        ("cn", "ann"),
        ("san:email", "ann@mail.test"),
        ("san:dns", "ann.host.test"),
        ("san:uri", "spiffe://test/ann"),
        ("san:upn", "ann@ad.test"),
    ],
)
async def test_ways_to_name_somebody(tmp_path: Path, way: str, name: str) -> None:
    """A renewed certificate with the same name is as good; one with another, none or two is not."""
    async with running(behind_proxy(tmp_path, map=way)) as server:
        desk = Desk(server, await server.create_admin())
        assert (await give(server, desk.admin, "admin", name))["status"] == 200
        for _ in range(2):
            assert (await desk.login("http", ROOT.sign("ann", *NAMES)))["status"] == 200
        others = (
            x509.RFC822Name("bob@mail.test"),
            x509.DNSName("bob.test"),
            x509.UniformResourceIdentifier("spiffe://test/bob"),
            upn("bob@AD.test"),
        )
        wrong = [ROOT.sign("bob", *others)]
        expected = ["unknown certificate"]
        if way.startswith("san"):
            wrong += [ROOT.sign("ann"), ROOT.sign("ann", *NAMES, *others)]
            expected += [f"no {way} in the certificate", f"several {way} in the certificate"]
        for shown in wrong:
            assert told(await desk.login("http", shown)) == REFUSED
        assert await desk.reasons() == expected


async def test_a_name_that_can_not_be_kept(tmp_path: Path) -> None:
    """Control characters, and what is no UTF-8 or longer than it says."""
    bad = (b"\x0c\x03a\nb", b"\x0c\x02\xff\xfe", b"\x0c\x05ann", b"\x16\x03ann", b"\x0c\x80", b"")
    async with running(behind_proxy(tmp_path, map="san:upn", createUsers=True)) as server:
        desk = Desk(server, await server.create_admin())
        before = await desk.rows()
        for value in bad[:-1]:
            name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), value)
            try:
                shown = ROOT.sign("ann", name)
            except ValueError:
                continue
            assert told(await desk.login("http", shown)) == REFUSED
        assert await desk.rows() == before
        assert set(await desk.reasons()) <= {
            "unusable name",
            "unreadable name",
            "unreadable certificate",
        }


async def test_users_made_by_a_first_login(tmp_path: Path) -> None:
    """`createUsers`: once, with `defaultProfiles`; never for a bad certificate."""
    table = {"map": "cn", "createUsers": True, "defaultProfiles": ["default"]}
    async with running(behind_proxy(tmp_path, **table)) as server:
        desk = Desk(server, await server.create_admin())
        first = await desk.login("http", ANN)
        assert first["status"] == 200, first
        users, _ = await desk.rows()
        again = await desk.login("websocket", ROOT.sign("ann"))
        assert again["result"]["_id"] == first["result"]["_id"]
        assert told(await desk.login("http", OTHER_ROOT.sign("bob"))) == REFUSED
        assert (await desk.rows())[0] == users
        shown = await server.call(
            "query", "security:getUser", token=desk.admin, _id=first["result"]["_id"]
        )
        assert shown["result"]["_source"]["profileIds"] == ["default"]


# Linking


@pytest.mark.parametrize("transport", ["http", "query", "websocket"])
async def test_linking_needs_the_certificate(desk: Desk, transport: str) -> None:
    """Who is logged in gets what he shows, whatever the body claims; nobody gets another's."""
    server, shown = desk.server, ROOT.sign("bob")
    token = await server.create_user(desk.admin, "bob")
    asked = {"controller": "auth", "action": "createMyCredentials", "strategy": "card"}
    claimed = {"identifier": ANN.fingerprint}

    async def ask(action: str, headers: dict[str, str]) -> Envelope:
        payload = {**asked, "action": action, "body": claimed}
        if transport == "websocket":
            opened = await server.open_socket(headers)
            answer = await opened.ask({**payload, "jwt": token})
            opened.http.close()
            return answer
        http = await server.connect()
        return (await http.ask("POST", "/_query", payload, token=token, headers=headers)).json

    assert told(await ask("createMyCredentials", {})) == REFUSED
    assert (await ask("createMyCredentials", passed_on(ANN)))["status"] == 412
    linked = await ask("createMyCredentials", passed_on(shown))
    assert linked["result"] == {"identifier": shown.fingerprint, "kuid": "bob"}
    assert (await desk.login("http", shown))["result"]["_id"] == "bob"
    renewed = ROOT.sign("bob")
    changed = await ask("updateMyCredentials", passed_on(renewed))
    assert changed["result"] == {"identifier": renewed.fingerprint, "kuid": "bob"}
    assert told(await desk.login("http", shown)) == REFUSED
    assert (await desk.login("http", renewed))["result"]["_id"] == "bob"
    deleted = await server.call("query", "auth:deleteMyCredentials", token=token, strategy="card")
    assert deleted["status"] == 200, deleted
    assert told(await desk.login("http", renewed)) == REFUSED


async def test_what_an_administrator_may_enter(desk: Desk) -> None:
    """A fingerprint as tools print it, once; anything else is refused by name."""
    server, shown = desk.server, ROOT.sign("bob")
    await server.create_user(desk.admin, "bob")
    digits = shown.fingerprint.upper()
    printed = ":".join(digits[at : at + 2] for at in range(0, 64, 2))
    for wrong in ("", "abc", shown.fingerprint + "00", "\u0660" * 64, 7, None):
        answer = await give(server, desk.admin, "bob", wrong)  # type: ignore[arg-type]
        assert answer["error"]["id"] == "api.assert.invalid_argument", answer
    assert (await give(server, desk.admin, "bob", ANN.fingerprint))["status"] == 412
    made = await give(server, desk.admin, "bob", printed)
    assert made["result"] == {"identifier": shown.fingerprint, "kuid": "bob"}
    second = await give(server, desk.admin, "bob", ROOT.sign("bob").fingerprint)
    assert (second["status"], second["error"]["message"]) == (
        412,
        "the user already has credentials of card",
    )
    by_id = await server.call(
        *("query", "security:getCredentialsById"),
        token=desk.admin,
        strategy="card",
        _id=printed,
    )
    assert by_id["result"] == {"identifier": shown.fingerprint, "kuid": "bob"}
    unknown = await server.call(
        "query", "security:getCredentialsById", token=desk.admin, strategy="card", _id="nobody"
    )
    assert unknown["status"] == 412
    more = {"identifier": shown.fingerprint, "more": 1}
    answer = await server.call(
        *("query", "security:updateCredentials"),
        token=desk.admin,
        strategy="card",
        _id="bob",
        body=more,
    )
    assert answer["status"] == 400


# Settings


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"ca": None}, "strategies.card: ca: not set"),
        ({"ca": ["/no/such/file"]}, "/no/such/file: No such file or directory"),
        ({"ca": ["{folder}/empty"]}, "expected PEM certificates"),
        ({"crl": ["{folder}/empty"]}, "strategies.card: "),
        ({"intermediates": ["{folder}"]}, "Is a directory"),
        ({"map": "sn"}, "strategies.card.map: "),
        ({"header": "X Client"}, "strategies.card.header: "),
        ({"headerFormat": "text"}, "strategies.card.headerFormat: "),
    ],
)
async def test_settings_that_can_not_be(
    tmp_path: Path, table: dict[str, object], said: str
) -> None:
    """A start that would let nobody or everybody in is none."""
    (tmp_path / "empty").write_text("")
    filled = {
        name: [one.format(folder=tmp_path) for one in value] if isinstance(value, list) else value
        for name, value in table.items()
    }
    config = behind_proxy(tmp_path, **filled)
    given = {name: value for name, value in config.strategies["card"].items() if value is not None}
    with pytest.raises(LocalError) as refused:
        async with running(replace(config, strategies={"card": given})):
            pass
    assert said in str(refused.value)
