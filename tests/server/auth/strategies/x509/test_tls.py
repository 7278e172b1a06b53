"""Client certificates on the server's own port: real handshakes, over HTTP and WebSocket (security
checks D5, H10)."""

import asyncio
import json
import logging
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.config.model import Config
from server.net.tls import Tls
from tests.interop.programs import find_program
from tests.server.app.test_serve import serving
from tests.server.auth.strategies.x509.test_strategy import NEEDED, REFUSED, WRONG, passed_on
from tests.server.net.test_tls import UPGRADE
from tests.support.client_certificates import ANN, BETWEEN, OTHER_ROOT, ROOT, House
from tests.support.clock import START_MS, Clock
from tests.support.errors import told
from tests.support.pki import BEGINS, SERVER, Authority, Shown, make
from tests.support.server import Envelope, Http, Running, Socket, running
from tests.support.waiting import deadline, in_time, until

NOW = datetime.fromtimestamp(START_MS / 1000, UTC)
FOREIGN = Authority("foreign")
SENT = {"controller": "auth", "action": "login", "strategy": "card"}
LOOPS = ("uvloop", "asyncio")
WAYS = ("http", "query", "websocket")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@dataclass
class Secured:
    """A server under test, its administrator who has Ann's certificate, and who connects."""

    house: House
    server: Running
    admin: str = ""
    opened: list[Http] = field(default_factory=list)

    async def connect(self, shown: Shown | None = None) -> Http:
        """Connect with a certificate."""
        context = self.house.context(shown)
        opening = asyncio.open_connection("127.0.0.1", self.server.port, ssl=context)
        self.opened.append(Http(*await in_time(opening)))
        return self.opened[-1]

    async def ask(self, action: str, token: str | None = None, **args: object) -> Envelope:
        """Ask for something, on a connection without a certificate."""
        controller, _, name = action.partition(":")
        http = await self.connect()
        payload = {"controller": controller, "action": name, **args}
        return (await http.ask("POST", "/_query", payload, token=token)).json

    async def create_admin(self) -> None:
        """Make the first administrator."""
        body = {"credentials": {"local": {"username": "admin", "password": "correct horse"}}}
        code = self.server.app.services.first_admin.code
        await self.ask("security:createFirstAdmin", body=body, _id="admin", setupCode=code)
        body = {"username": "admin", "password": "correct horse"}
        answer = await self.ask("auth:login", strategy="local", body=body)
        self.admin = answer["result"]["jwt"]

    async def give(self, shown: Shown) -> None:
        """Let the administrator log in with a certificate."""
        body = {"identifier": shown.fingerprint}
        args = {"strategy": "card", "_id": "admin", "body": body}
        answer = await self.ask("security:createCredentials", self.admin, **args)
        assert answer["status"] == 200, answer

    async def reasons(self) -> list[str]:
        """Give why logins were refused, oldest first."""
        await self.server.app.services.trail.flush(is_last=True)
        body = {"kind": "auth:login", "outcome": "refused"}
        found = await self.ask("security:searchAudit", self.admin, body=body, size=99)
        hits = [hit["_source"] for hit in reversed(found["result"]["hits"])]
        return [one["reason"] for one in hits for _ in range(one["count"])]


@asynccontextmanager
async def secured(house: House, config: Config | None = None) -> AsyncIterator[Secured]:
    """Run such a server."""
    async with running(config or house.config()) as server:
        under = Secured(house, server)
        try:
            await under.create_admin()
            yield under
        finally:
            for http in under.opened:
                http.close()


async def log_in(http: Http, transport: str, headers: dict[str, str] | None = None) -> Envelope:
    """Log in with what the connection shows."""
    if transport == "http":
        return (await http.ask("POST", "/_login/card", headers=headers)).json
    if transport == "query":
        return (await http.ask("POST", "/_query", SENT, headers=headers)).json
    await http.send(UPGRADE.replace(b"\r\n\r\n", write_fields(headers)))
    assert (await http.read()).status == 101
    return await Socket(http).ask(SENT)


def write_fields(headers: dict[str, str] | None) -> bytes:
    lines = [f"\r\n{name}: {value}" for name, value in (headers or {}).items()]
    return "".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize("transport", WAYS)
async def test_a_login_by_certificate(house: House, transport: str) -> None:
    """D5: the client sends along what leads to the authority; without a body."""
    async with secured(house) as under:
        await under.give(ANN)
        answer = await log_in(await under.connect(ANN), transport)
        assert answer["status"] == 200, answer
        assert answer["result"]["_id"] == "admin"
        nothing = await log_in(await under.connect(), transport)
        assert (told(nothing), nothing["error"]["message"]) == (REFUSED, NEEDED)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_is_resumed(house: House, version: ssl.TLSVersion) -> None:
    """What was verified once is verified again, with all that leads to an authority."""
    async with secured(house) as under:
        await under.give(ANN)
        context = house.context(ANN)
        context.minimum_version = context.maximum_version = version
        for _ in range(3):
            opening = asyncio.open_connection("127.0.0.1", under.server.port, ssl=context)
            http = Http(*await opening)
            under.opened.append(http)
            assert (await log_in(http, "http"))["status"] == 200
            session = http.writer.get_extra_info("ssl_object").session
            assert session is None or not session.has_ticket


REFUSED_BY_TLS = {
    "expired": lambda: ROOT.sign(ends=BEGINS + timedelta(days=1)),
    "not yet valid": lambda: ROOT.sign(begins=datetime(2048, 1, 1, tzinfo=UTC)),
    "for servers": lambda: ROOT.sign(purposes=[SERVER]),
    "foreign": lambda: FOREIGN.sign(),
    "self-signed": lambda: make("ann", None),
    "without what leads there": lambda: replace_between(ANN),
}


def replace_between(shown: Shown) -> Shown:
    return Shown(shown.certificate, shown.key)


@pytest.mark.parametrize("name", REFUSED_BY_TLS)
async def test_what_tls_refuses(house: House, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """D5: no request of theirs is read, and the log says why, without a name of theirs."""
    caplog.set_level(logging.INFO, "manykeys.tls")
    async with secured(house) as under:
        try:
            http = await under.connect(REFUSED_BY_TLS[name]())
            with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
                await log_in(http, "http")
        except (ConnectionError, ssl.SSLError):
            pass
        await until(lambda: "client certificate rejected" in caplog.text)
        assert await under.reasons() == []


REFUSED_HERE = {
    "another authority": (lambda: OTHER_ROOT.sign(), "no chain to a trusted authority"),
    "unknown": (lambda: ROOT.sign(), "unknown certificate"),
    "for nothing": (lambda: ROOT.sign(purposes=[]), "not for clients"),
    "an authority": (lambda: ROOT.sign(is_authority=True), "certificate of an authority"),
}


@pytest.mark.parametrize("name", REFUSED_HERE)
async def test_what_the_strategy_refuses(house: House, name: str) -> None:
    """D5: it may trust fewer than TLS does."""
    made, reason = REFUSED_HERE[name]
    async with secured(house) as under:
        for transport in WAYS:
            answer = await log_in(await under.connect(made()), transport)
            assert (told(answer), answer["error"]["message"]) == (REFUSED, WRONG)
        assert await under.reasons() == [reason] * len(WAYS)


async def test_a_revoked_certificate(house: House) -> None:
    """D5: a list that comes while the server runs counts at the next login of a living socket."""
    crl = house.folder / "all.crl"
    crl.write_text(ROOT.revoke() + BETWEEN.revoke())
    async with secured(house, house.config(crl=[str(crl)])) as under:
        await under.give(ANN)
        http = await under.connect(ANN)
        assert (await log_in(http, "websocket"))["status"] == 200
        crl.write_text(ROOT.revoke() + BETWEEN.revoke(ANN))
        assert told(await Socket(http).ask(SENT)) == REFUSED
        assert await under.reasons() == ["revoked"]


async def test_a_socket_outlives_its_certificate(house: House, clock: Clock) -> None:
    """D5: valid at the handshake is not valid at the login."""
    shown = ROOT.sign("ann", ends=NOW + timedelta(minutes=1))
    async with secured(house) as under:
        await under.give(shown)
        http = await under.connect(shown)
        assert (await log_in(http, "websocket"))["status"] == 200
        clock.now_ms += 61_000
        assert told(await Socket(http).ask(SENT)) == REFUSED
        clock.now_ms -= 61_000
        assert await under.reasons() == ["expired"]


@pytest.mark.parametrize("transport", WAYS)
async def test_headers_are_not_believed(house: House, transport: str) -> None:
    """D5: without `header` none is looked at; with it, and one's own certificate beside, neither
    counts; a trusted proxy's own certificate is nobody's login."""
    bob = ROOT.sign("bob")
    for trusted, table, reasons in (
        ((), {}, ["unknown certificate", "no certificate"]),
        (
            (),
            {"header": "X-Client-Cert"},
            ["header not from a trusted proxy"] * 2,
        ),
        (("127.0.0.1",), {"header": "X-Client-Cert"}, ["two certificates"]),
        (("127.0.0.1",), {}, ["the certificate belongs to a proxy", "no certificate"]),
    ):
        async with secured(house, house.config(trusted, **table)) as under:
            await under.give(ROOT.sign("ann") if "two" not in reasons[0] else ANN)
            for shown in (bob, None)[: len(reasons)]:
                answer = await log_in(await under.connect(shown), transport, passed_on(ANN))
                assert told(answer) == REFUSED
            assert await under.reasons() == reasons


async def test_linking_by_certificate(house: House) -> None:
    """The certificate of the connection that asks, whatever the body says."""
    async with secured(house) as under:
        http = await under.connect(ANN)
        sent = {**SENT, "action": "createMyCredentials", "body": {"identifier": "f" * 64}}
        made = (await http.ask("POST", "/_query", sent, token=under.admin)).json
        assert made["result"] == {"identifier": ANN.fingerprint, "kuid": "admin"}
        assert (await log_in(await under.connect(ANN), "http"))["result"]["_id"] == "admin"


@pytest.mark.parametrize("loop", LOOPS)
async def test_the_program_with_curl(house: House, loop: str) -> None:
    """`curl --cert`; after SIGHUP new authorities count for new connections, and an unreadable
    file for none."""
    curl = find_program("curl")
    first, second = ANN.write(house.folder / "first.pem"), FOREIGN.sign("ann")
    later = second.write(house.folder / "second.pem")
    options = {
        "server.tls.cert": house.files.cert,
        "server.tls.key": house.files.key,
        "server.tls.clientCa": house.client_ca,
    }
    config = house.folder / "keys.toml"
    house.ca.write_text(ROOT.pem + FOREIGN.pem)
    config.write_text(
        f'[strategies.card]\nuse = "x509"\nca = ["{house.ca}"]\nmap = "cn"\ncreateUsers = true\n'
    )
    sets = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    async with serving(":memory:", "--config", str(config), *sets, "--loop", loop) as server:

        async def log_in_with(pem: Path) -> tuple[int | None, bytes]:
            process = await asyncio.create_subprocess_exec(
                *(curl, "-s", "-X", "POST", "--cacert", str(house.signer.cert)),
                *("--cert", str(pem), f"https://127.0.0.1:{server.port}/_login/card"),
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await in_time(process.communicate())
            return process.returncode, printed

        async def until_in(pem: Path) -> str:
            async with deadline():
                while True:
                    code, printed = await log_in_with(pem)
                    if code == 0:
                        answer = json.loads(printed)
                        assert answer["status"] == 200, answer
                        return str(answer["result"]["_id"])

        known = await until_in(first)
        assert (await log_in_with(later))[0] != 0
        house.client_ca.write_text(FOREIGN.pem)
        server.process.send_signal(signal.SIGHUP)
        assert await until_in(later) == known
        assert (await log_in_with(first))[0] != 0
        house.client_ca.write_text("rubbish")
        server.process.send_signal(signal.SIGHUP)
        assert await until_in(later) == known
        errors = await server.stop()
    assert "certificate reload failed" in errors
    assert "client certificate rejected" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("mistake", ["no file", "no certificates", "without cert"])
async def test_authorities_that_can_not_be_used(house: House, mistake: str) -> None:
    """A user's mistake names the file or the setting."""
    if mistake == "without cert":
        config = house.config()
        tls = replace(config.server.tls, cert="", key="")
        config = replace(config, server=replace(config.server, tls=tls))
        with pytest.raises(LocalError, match="server.tls.clientCa: server.tls.cert is required"):
            async with running(config):
                pass
        return
    if mistake == "no file":
        house.client_ca.unlink()
    else:
        house.client_ca.write_text("")
    with pytest.raises(LocalError, match=str(house.client_ca)):
        Tls(str(house.files.cert), str(house.files.key), client_ca=str(house.client_ca))
