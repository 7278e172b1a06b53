"""Servers of directories: verified, tried in order, given up in time, connected to again (security
check D3)."""

import asyncio
import importlib
import os
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from server.auth.strategies.ldap import channel as ldapchannel
from server.auth.strategies.ldap.settings import LdapSettings, read_servers
from server.config.model import Config
from tests.server.auth.audit.test_events import events
from tests.server.auth.strategies.ldap.test_strategy import (
    REFUSED,
    UNAVAILABLE,
    config_of,
    count,
    kuid_of,
    login,
)
from tests.support.certificates import Authority
from tests.support.errors import told
from tests.support.ports import free_port
from tests.support.providers.ldap import PEOPLE, SECRET, SERVICE, Slapd, python_ldap, slapd
from tests.support.server import Running, running
from tests.support.waiting import until

SILENT = b""
STARTED = bytes.fromhex("300c020101") + b"\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
"""A good answer to StartTLS."""
LONG = bytes.fromhex("308400000010020101788400000007") + b"\x0a\x01\x00\x04\x00\x04\x00"
"""The same as Active Directory writes it."""
Handler = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A directory with Ann."""
    with slapd(tmp_path_factory.mktemp("slapd")) as started:
        started.add_person("ann")
        yield started


@contextmanager
def listening(handle: Handler) -> Iterator[int]:
    """Accept connections on a port, each handled in a thread, until the test is over."""
    accepted: list[socket.socket] = []

    def serve(one: socket.socket) -> None:
        try:
            handle(one)
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                one, _ = server.accept()
            except OSError:
                return
            accepted.append(one)
            threading.Thread(target=serve, args=(one,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in accepted:
                one.close()


def says(answer: bytes, *, then_ends: bool = False) -> Handler:
    """Give what reads something, answers, and says no more."""

    def handle(wire: socket.socket) -> None:
        wire.recv(4096)
        wire.sendall(answer)
        if then_ends:
            wire.close()
        else:
            wire.recv(1)

    return handle


def relayed(to: int, opened: list[socket.socket]) -> Handler:
    """Give what passes everything on to a port, and keeps both ends for whoever cuts them."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
        except OSError:
            return

    def handle(wire: socket.socket) -> None:
        other = socket.create_connection(("127.0.0.1", to))
        opened.extend((wire, other))
        threading.Thread(target=carry, args=(other, wire), daemon=True).start()
        carry(wire, other)

    return handle


def cut(opened: list[socket.socket]) -> None:
    """End relayed connections."""
    for one in opened:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
        finally:
            one.close()
    opened.clear()


async def refused(config: Config, caplog: pytest.LogCaptureFixture, cause: str) -> None:
    """Log in in vain: an error with an id, nothing made, a line in the trail, the cause in the log
    alone, and no password anywhere."""
    async with running(config) as server:
        admin = await server.create_admin()
        before = await count(server)
        answer = await login(server)
        assert told(answer) == UNAVAILABLE
        assert "127.0.0.1" not in repr(answer["error"])
        assert await count(server) == before
        (line,) = await events(server, admin, kind="auth:login", outcome="refused")
        assert line["reason"] in ("directory unavailable", "request refused by the directory")
        assert cause in caplog.text
        assert SECRET not in caplog.text
        assert (await server.login("admin")) != ""  # the others go on


@pytest.mark.parametrize("is_ldaps", [True, False])
async def test_tls_both_ways(directory: Slapd, is_ldaps: bool) -> None:
    """D3: from the beginning, or when asked for."""
    table = directory.settings()
    if not is_ldaps:
        table = directory.settings(servers=[directory.plain_url], startTls=True)
    async with running(config_of(**table)) as server:
        assert await kuid_of(server) == await kuid_of(server)


async def test_tickets_do_not_hold_up_a_question(directory: Slapd) -> None:
    """TLS 1.3: a server of OpenSSL's sends some before anything was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory.files.cert, directory.files.key)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    opened: list[socket.socket] = []
    relay = relayed(directory.port, opened)

    def handle(wire: socket.socket) -> None:
        inner = context.wrap_socket(wire, server_side=True)
        opened.append(inner)
        relay(inner)

    with listening(handle) as port:
        table = directory.settings(servers=[f"ldaps://127.0.0.1:{port}"])
        async with running(config_of(**table)) as server:
            assert await kuid_of(server) == await kuid_of(server)
        cut(opened)


async def test_more_files_than_select_knows(directory: Slapd) -> None:
    """A busy server has thousands of them open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2048:
        pytest.skip(f"only {soft} files may be open")
    with ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        async with running(config_of(**directory.settings())) as server:
            assert await kuid_of(server) == await kuid_of(server)


async def test_this_machine_may_be_asked_without(directory: Slapd) -> None:
    """Nobody is in between."""
    table = directory.settings(servers=[directory.plain_url], caFile="")
    async with running(config_of(**table)) as server:
        assert (await login(server))["status"] == 200


@pytest.mark.parametrize("is_ldaps", [True, False])
@pytest.mark.parametrize("fault", ["untrusted", "system", "host"])
async def test_certificates_are_verified(
    directory: Slapd, tmp_path: Path, is_ldaps: bool, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """D3: signed by whom we know, for the host we asked; there is no setting against it."""
    host = "localhost" if fault == "host" else "127.0.0.1"
    scheme, port = ("ldaps", directory.tls_port) if is_ldaps else ("ldap", directory.port)
    ca = {"untrusted": str(Authority(tmp_path).cert), "system": ""}.get(fault)
    table = directory.settings(servers=[f"{scheme}://{host}:{port}"], startTls=not is_ldaps)
    if ca is not None:
        table["caFile"] = ca
    await refused(config_of(**table), caplog, "certificate not valid")


def test_no_old_tls() -> None:
    """D3: 1.2 at least, certificate and host checked."""
    (server,) = read_servers(LdapSettings(servers=("ldaps://[::1]",)))
    assert server.context is not None
    assert server.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert server.context.check_hostname
    assert server.context.verify_mode is ssl.CERT_REQUIRED
    assert (str(server), server.port) == ("[::1]:636", 636)


@pytest.mark.parametrize("host", ["ldap.test", "10.0.0.1", "127.0.0.1.test"])
def test_insecure_is_said_aloud(host: str) -> None:
    """D3."""
    (server,) = read_servers(LdapSettings(servers=(f"ldap://{host}",), insecure=True))
    assert (server.context, server.port) == (None, 389)


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (SILENT, False),
        (SILENT, True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True),
        (STARTED, False),
        (STARTED, True),
        (STARTED[:6], True),
        (STARTED.replace(b"\x0a\x01\x00", b"\x0a\x01\x34"), False),
        (b"\x30\x84\xff\xff\xff\xff", False),
        (bytes.fromhex("300c020107") + STARTED[5:], False),
        (LONG, True),
        # What is put behind the answer must not count as said inside of TLS (CVE-2011-0411).
        (STARTED + bytes.fromhex("300c02010261070a010004000400"), False),
    ],
)
@pytest.mark.parametrize("scheme", ["ldaps", "ldap", "starttls"])
async def test_servers_that_are_none(
    directory: Slapd, scheme: str, answer: bytes, ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Silent, hanging up, saying something else: given up in time."""
    with listening(says(answer, then_ends=ends)) as port:
        url = f"{'ldaps' if scheme == 'ldaps' else 'ldap'}://127.0.0.1:{port}"
        table = directory.settings(servers=[url], startTls=scheme == "starttls", timeout=100)
        await refused(config_of(**table), caplog, "strategy ldap: ")


async def test_half_a_message_within_tls(
    directory: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that says how long its answer is, and no more, is given up in time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory.files.cert, directory.files.key)

    def handle(wire: socket.socket) -> None:
        with context.wrap_socket(wire, server_side=True) as inner:
            says(b"\x30\x84\x00\x00\xff\xff")(inner)

    with listening(handle) as port:
        table = directory.settings(servers=[f"ldaps://127.0.0.1:{port}"], timeout=200)
        await refused(config_of(**table), caplog, "is unavailable: TIMEOUT")


def test_another_answer_than_to_a_bind_lets_nobody_in() -> None:
    """libldap itself takes it for a success."""
    python_ldap()
    directories = importlib.import_module("server.auth.strategies.ldap.pool")
    with listening(says(STARTED)) as port:
        (server,) = read_servers(LdapSettings(servers=(f"ldap://127.0.0.1:{port}",)))
        link = directories.Link(server, 5.0)
        with pytest.raises(OSError, match="no response to a bind"):
            link.bind(f"uid=ann,{PEOPLE}", SECRET)
        link.close()


def test_an_answer_byte_by_byte_has_an_end() -> None:
    """Each byte comes in time; all together must, too, or a thread waits for hours."""

    def handle(wire: socket.socket) -> None:
        wire.recv(4096)
        wire.settimeout(0.02)
        for one in b"\x30\x7d" + bytes(125):
            wire.sendall(bytes((one,)))
            with suppress(TimeoutError):
                wire.recv(1)

    with listening(handle) as port:
        settings = LdapSettings(servers=(f"ldap://127.0.0.1:{port}",), start_tls=True)
        (server,) = read_servers(settings)
        with pytest.raises(TimeoutError):
            ldapchannel.connect(server, 0.2)


@pytest.mark.parametrize("answer", [STARTED, LONG])
def test_both_forms_of_an_answer(answer: bytes) -> None:
    """StartTLS goes on, into a handshake that this server does not know."""
    with listening(says(answer, then_ends=True)) as port:
        settings = LdapSettings(servers=(f"ldap://127.0.0.1:{port}",), start_tls=True)
        (server,) = read_servers(settings)
        with pytest.raises(OSError) as failed:
            ldapchannel.connect(server, 5.0)
        assert not isinstance(failed.value, ldapchannel.NoTls)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bindPassword": "wrong"}, "bindDn, bindPassword: "),
        ({"base": "dc=other,dc=test"}, "No such object"),
        ({"filter": "(uid{username})"}, "Bad search filter"),
        ({"identifierAttribute": "description"}, "identifierAttribute: an entry has no"),
    ],
)
async def test_mistakes_of_the_operator(
    directory: Slapd, more: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Named in the log, no user's fault, no way in."""
    await refused(config_of(**directory.settings(**more)), caplog, said)


async def test_the_next_server_is_asked(directory: Slapd, caplog: pytest.LogCaptureFixture) -> None:
    """One that failed is tried last for a while, and in its turn again."""
    asked: list[int] = []

    def count_and_end(wire: socket.socket) -> None:
        asked.append(1)
        wire.close()

    with listening(count_and_end) as port:
        first = f"ldap://127.0.0.1:{port}"
        servers = [first, directory.plain_url]
        async with running(config_of(**directory.settings(servers=servers))) as server:
            await kuid_of(server)
            await kuid_of(server)
            assert len(asked) == 1
            assert caplog.text.count("is unavailable") == 1
        async with running(
            config_of(**directory.settings(servers=servers, retryAfter=0))
        ) as server:
            await kuid_of(server)
            assert len(asked) > 2


@pytest.fixture(scope="module")
def lagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A replica that knows another password of the service account, and another Ann."""
    with slapd(tmp_path_factory.mktemp("lagging")) as started:
        started.add_person("ann", "Another-Word-2")
        started.change(SERVICE, userPassword="Another-Word-3")
        yield started


async def test_a_server_that_refuses_the_service_is_passed_over(
    directory: Slapd, lagging: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    """The next one is asked, and first from then on; the log says so once, without a password."""
    servers = [lagging.plain_url, directory.plain_url]
    async with running(config_of(**directory.settings(servers=servers))) as server:
        kuid = await kuid_of(server)
        for _ in range(3):
            assert await kuid_of(server) == kuid
        assert told(await login(server, password="Another-Word-2")) == REFUSED
    assert caplog.text.count("is unavailable: bindDn, bindPassword: refused: wrong password") == 1
    assert f"{lagging.port} is unavailable" in caplog.text
    assert SECRET not in caplog.text


async def test_where_no_server_takes_the_service(
    directory: Slapd, lagging: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is asked once for a login, named once in the log, and one that is down hides nothing."""
    opened: list[socket.socket] = []
    with listening(relayed(lagging.port, opened)) as port:
        servers = [f"ldap://127.0.0.1:{port}", f"ldap://127.0.0.1:{free_port()}"]
        table = directory.settings(servers=[*servers, directory.plain_url], bindPassword="wrong")
        async with running(config_of(**table)) as server:
            admin = await server.create_admin()
            for _ in range(2):
                assert told(await login(server)) == UNAVAILABLE
            lines = await events(server, admin, kind="auth:login", outcome="refused")
            assert {line["reason"] for line in lines} == {"request refused by the directory"}
        assert len(opened) == 4  # two ends for each login
    assert caplog.text.count("is unavailable") == 3
    cut(opened)


async def test_broken_connections_are_replaced(directory: Slapd) -> None:
    """Cut between two logins: nobody notices."""
    opened: list[socket.socket] = []
    with listening(relayed(directory.tls_port, opened)) as port:
        table = directory.settings(servers=[f"ldaps://127.0.0.1:{port}"])
        async with running(config_of(**table)) as server:
            kuid = await kuid_of(server)
            assert len(opened) == 4  # the service's, and one for users: two ends each
            assert await kuid_of(server) == kuid
            assert len(opened) == 4
            cut(opened)
            assert await kuid_of(server) == kuid
            cut(opened)


async def test_connections_are_bounded(directory: Slapd) -> None:
    """As many as configured of each kind, however many log in at once."""
    opened: list[socket.socket] = []
    with listening(relayed(directory.tls_port, opened)) as port:
        table = directory.settings(servers=[f"ldaps://127.0.0.1:{port}"], connections=2)
        async with running(config_of(**table)) as server:
            found = await asyncio.gather(*(kuid_of(server) for _ in range(20)))
            assert len(set(found)) == 1
            assert len(opened) <= 8
        # With the server they end, too.
        await until(lambda: f"ldap 127.0.0.1:{port}" not in _threads())
        cut(opened)


def _threads() -> list[str]:
    return [one.name for one in threading.enumerate()]


async def test_a_silent_directory_holds_up_nobody_else(directory: Slapd) -> None:
    """While it is waited for, others are answered; of those who wait for it, only so many."""
    module = importlib.import_module("server.auth.strategies.ldap.strategy")
    with listening(says(SILENT)) as port:
        table = directory.settings(
            servers=[f"ldaps://127.0.0.1:{port}"], timeout=2000, connections=1
        )
        async with running(config_of(**table)) as server:
            await server.create_admin()
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(module, "MOST_WAITING", 1)
                waiting = asyncio.create_task(login(server))
                await until(lambda: _is_asked(server))
                full = await login(server, "bob")
                assert told(full) == {
                    **{"id": "api.process.overloaded", "code": 33685506, "status": 503}
                }
                assert await server.login("admin") != ""
                assert not waiting.done()
            assert told(await waiting) == UNAVAILABLE


def _is_asked(server: Running) -> bool:
    guarded = server.app.services.strategies.get("ldap")
    return bool(guarded._strategy._in_progress)  # type: ignore[attr-defined]


async def test_an_anonymous_bind_is_none(directory: Slapd) -> None:
    """D2: not even asked for, whoever calls."""
    directories = importlib.import_module("server.auth.strategies.ldap.pool")
    (server,) = read_servers(LdapSettings(servers=(directory.plain_url,)))
    link = directories.Link(server, 5.0)
    for name, password in (("", ""), (f"uid=ann,{PEOPLE}", ""), ("", SECRET)):
        with pytest.raises(ValueError, match="needs a name and a password"):
            link.bind(name, password)
    assert link.bind(f"uid=ann,{PEOPLE}", SECRET) == ""
    link.close()


async def test_an_ended_connection_goes_nowhere(directory: Slapd) -> None:
    """libldap connects again by itself: never to where a password could be read."""
    directories = importlib.import_module("server.auth.strategies.ldap.pool")
    opened: list[socket.socket] = []
    with listening(relayed(directory.port, opened)) as port:
        (server,) = read_servers(LdapSettings(servers=(f"ldap://127.0.0.1:{port}",)))
        link = directories.Link(server, 5.0)
        assert link.bind(f"uid=ann,{PEOPLE}", SECRET) == ""
        cut(opened)
        for _ in range(3):
            with pytest.raises(python_ldap().SERVER_DOWN):
                link.bind(f"uid=ann,{PEOPLE}", SECRET)
        assert opened == []


async def test_a_server_that_is_not_there(
    directory: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    table = directory.settings(servers=[f"ldaps://127.0.0.1:{free_port()}"])
    await refused(config_of(**table), caplog, "Connection refused")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *(("525", "unknown user"), ("52e", "wrong password"), ("530", "not at this time")),
        *(("531", "not from this machine"), ("532", "password expired")),
        *(("533", "disabled account"), ("701", "expired account")),
        *(("773", "password must be changed"), ("775", "locked account"), ("52f", "refused")),
    ],
)
def test_sub_codes_of_active_directory(code: str, reason: str) -> None:
    """D4: also those that the domain of the tests does not give."""
    ldap = python_ldap()
    directories = importlib.import_module("server.auth.strategies.ldap.pool")
    info = (
        f"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {code}, v1"
    )
    refusal = ldap.INVALID_CREDENTIALS({"result": 49, "info": info})
    assert directories._reason_of(refusal) == f"{reason} (AD {code})"
    other = ldap.UNWILLING_TO_PERFORM({"result": 53, "info": "\r\nsecret"})
    assert directories._reason_of(other) == "refused (LDAP result 53)"


async def test_wrong_passwords_are_no_fault_of_a_server(
    directory: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(config_of(**directory.settings())) as server:
        assert told(await login(server, "ann", "wrong")) == REFUSED
        assert "is unavailable" not in caplog.text
