"""TLS on the server's own port, and certificates that change under it (security check
H10)."""

import asyncio
import re
import shutil
import signal
import ssl
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.config.model import Config
from server.net.tls import Tls
from tests.server.app.test_serve import CHEAP, serving
from tests.support.certificates import Authority, Files
from tests.support.server import PASSWORD, Http, Socket, cheap_config, running
from tests.support.waiting import until

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def over_tls(files: Files, **more: str) -> Config:
    config = cheap_config()
    tls = replace(config.server.tls, cert=str(files.cert), key=str(files.key), **more)
    return replace(config, server=replace(config.server, tls=tls))


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.cert))


async def connect(port: int, context: ssl.SSLContext) -> Http:
    return Http(*await asyncio.open_connection("127.0.0.1", port, ssl=context))


def serial_of(http: Http) -> int:
    """Give the serial number of the certificate a connection was opened with."""
    return int(http.writer.get_extra_info("peercert")["serialNumber"], 16)


async def test_a_login_over_tls(authority: Authority) -> None:
    """Both protocols on the one port, verified by a client as it comes."""
    files = authority.sign("first")
    async with running(over_tls(files)) as server:
        assert server.app.address.startswith("https://127.0.0.1:")
        http = await connect(server.port, trusting(authority))
        assert http.writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
        body = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
        assert (await http.ask("POST", "/_createFirstAdmin/admin", body)).status == 200
        login = await http.ask("POST", "/_login/local", {"username": "admin", "password": PASSWORD})
        token = login.json["result"]["jwt"]
        assert (await http.ask("GET", "/_me", token=token)).json["result"]["_id"] == "admin"
        await http.send(UPGRADE)
        assert (await http.read()).status == 101
        opened = Socket(http)
        answer = await opened.ask(
            {"controller": "auth", "action": "getCurrentUser", "jwt": token, "requestId": "r"}
        )
        assert answer["result"]["_id"] == "admin"
        http.close()


async def test_old_versions_are_not_spoken(authority: Authority) -> None:
    """`server.tls.minVersion`."""
    files = authority.sign("first")
    async with running(over_tls(files, min_version="1.3")) as server:
        context = trusting(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(server.port, context)
        http = await connect(server.port, trusting(authority))
        assert http.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        http.close()


def test_the_oldest_version_is_1_2(authority: Authority) -> None:
    files = authority.sign("first")
    context = Tls(str(files.cert), str(files.key)).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_plain_text_gets_no_answer(authority: Authority) -> None:
    async with running(over_tls(authority.sign("first"))) as server:
        http = Http(*await asyncio.open_connection("127.0.0.1", server.port))
        await http.send(b"GET /_now HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answered = await http.reader.read()
        except ConnectionError:
            answered = b""
        assert b"HTTP/" not in answered
        http.close()


@pytest.mark.parametrize(("strict_ms", "sent"), [(0, None), (31_536_000_000, "max-age=31536000")])
async def test_browsers_can_be_told_to_come_back_over_tls(
    authority: Authority, strict_ms: int, sent: str | None
) -> None:
    """RFC 6797 §6.1, by option."""
    config = over_tls(authority.sign("first"))
    config = replace(config, http=replace(config.http, strict_transport_security_ms=strict_ms))
    async with running(config) as server:
        http = await connect(server.port, trusting(authority))
        answer = await http.ask("GET", "/_now")
        assert answer.headers.get("strict-transport-security") == sent
        http.close()


async def test_without_tls_it_is_never_said() -> None:
    """RFC 6797 §7.2."""
    config = cheap_config()
    config = replace(config, http=replace(config.http, strict_transport_security_ms=60_000))
    async with running(config) as server:
        http = await server.connect()
        assert "strict-transport-security" not in (await http.ask("GET", "/_now")).headers


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_certificates_are_read_again_on_sighup(
    authority: Authority, tmp_path: Path, loop: str
) -> None:
    """Connections go on; new ones see the new certificate; a bad one is not taken."""
    first, second = authority.sign("first"), authority.sign("second")
    cert, key = tmp_path / "used.pem", tmp_path / "used.key"

    def use(files: Files) -> None:
        shutil.copy(files.cert, cert)
        shutil.copy(files.key, key)

    use(first)
    options = ("--tls-cert", str(cert), "--tls-key", str(key), "--loop", loop)
    async with serving(":memory:", *options) as server:
        context = trusting(authority)
        old = await connect(server.port, context)
        assert serial_of(old) == first.serial
        use(second)
        server.process.send_signal(signal.SIGHUP)
        await until_serial(server.port, context, second.serial)
        assert (await old.ask("GET", "/_ready")).status == 200
        cert.write_text("not a certificate")
        server.process.send_signal(signal.SIGHUP)
        assert (await old.ask("GET", "/_ready")).status == 200
        new = await connect(server.port, context)
        assert serial_of(new) == second.serial
        for http in (old, new):
            http.close()
        errors = await server.stop()
        assert "certificate reload failed" in errors
        assert server.process.returncode == 0


async def until_serial(port: int, context: ssl.SSLContext, serial: int) -> None:
    """Wait until new connections see a certificate."""
    seen: list[int] = []

    async def look() -> None:
        while serial not in seen:
            http = await connect(port, context)
            seen.append(serial_of(http))
            http.close()

    looking = asyncio.create_task(look())
    await until(looking.done)
    await looking


@pytest.mark.parametrize("mistake", ["encrypted", "other key", "no certificate", "no file"])
def test_files_that_do_not_fit(authority: Authority, tmp_path: Path, mistake: str) -> None:
    """A user's mistake names the file, and asks nobody for a password."""
    files, other = authority.sign("first"), authority.sign("locked", b"secret")
    cert, key = files.cert, files.key
    if mistake in ("encrypted", "other key"):
        key = other.key if mistake == "encrypted" else authority.sign("third").key
    elif mistake == "no certificate":
        cert = tmp_path / "empty.pem"
        cert.write_text("")
    else:
        cert = tmp_path / "nowhere.pem"
    if mistake == "encrypted":
        cert = other.cert
    with pytest.raises(LocalError) as refused:
        Tls(str(cert), str(key))
    assert "secret" not in str(refused.value)
    assert str(cert) in str(refused.value) or str(key) in str(refused.value)


def test_the_file_that_lacks_something_is_named(authority: Authority, tmp_path: Path) -> None:
    """And what it lacks, not only that the two do not fit."""
    files, empty, nowhere = authority.sign("first"), tmp_path / "empty.pem", tmp_path / "nowhere"
    empty.write_text("")
    alone = tmp_path / "alone.pem"
    alone.write_text(re.split(r"(?=-----BEGIN [A-Z ]*KEY)", Path(files.cert).read_text())[0])
    for cert, key, said in (
        (alone, "", f"{alone}: expected a key in PEM"),
        (files.cert, empty, f"{empty}: expected a key in PEM"),
        (empty, files.key, f"{empty}: expected a certificate in PEM"),
        (files.cert, nowhere, f"{nowhere}: No such file or directory"),
        (nowhere, files.key, f"{nowhere}: No such file or directory"),
    ):
        with pytest.raises(LocalError) as refused:
            Tls(str(cert), str(key))
        assert str(refused.value) == said


async def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.pem")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", "--port", "0", "--data", ":memory:", *CHEAP),
        *("--tls-cert", missing),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert missing in errors.decode()
    assert errors.decode().count("\n") == 1
