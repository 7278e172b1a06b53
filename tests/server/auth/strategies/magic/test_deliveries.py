"""The ways codes and links take: a mail server, a service; and those that lead nowhere."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from protocol.errors import LocalError
from server.cli import main as cli
from server.config.model import load
from server.core.config_file import write_toml
from tests.server.auth.audit.test_events import ends, events
from tests.server.messaging.test_delivery import saying as answering
from tests.server.messaging.test_delivery import service
from tests.support.certificates import Authority
from tests.support.errors import told
from tests.support.login_steps import Client, state_of
from tests.support.posted_messages import ANN, assign
from tests.support.providers.smtp import (
    PASSWORD,
    USERNAME,
    MailHost,
    Taken,
    Talk,
    context_of,
    drip,
    hang,
    mail_host,
    saying,
    talking,
)
from tests.support.server import TRANSPORTS, Running, cheap_config, running
from tests.support.totp import CREATE, Person
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("hurry")
NEW = "new@mail.test"
PAGE = "http://localhost:3000/in"
REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}


def smtp_of(port: int, tls: str = "none", **more: object) -> dict[str, object]:
    """Give the table of a mail server."""
    login = {} if tls == "none" else {"username": USERNAME, "password": PASSWORD}
    place = {"host": "127.0.0.1", "port": port, "tls": tls}
    return {**place, **login, "from": "Acme <login@acme.test>", **more}


@asynccontextmanager
async def sending(**table: object) -> AsyncIterator[Running]:
    """Run a server that sends codes this way, with an administrator who has an address."""
    config = cheap_config(strategies={"mail": {"use": "magic", **table}})
    async with running(config) as server:
        await assign(server, await server.create_admin(), ANN)
        yield server


def code_in(taken: Taken) -> str:
    """Give the code in a letter."""
    found = re.search(r"\b[0-9]{6}\b", taken.text)
    assert found is not None, taken.text
    return found[0]


@pytest.mark.parametrize("transport", ["query", "websocket"])
@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_codes_by_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str, tls: str
) -> None:
    """An address is proved, and lets in, by letters that came over TLS from who we are."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    async with (
        mail_host(context_of(authority), way=tls) as host,
        sending(smtp=smtp_of(host.port, tls)) as server,
    ):
        ann = await server.create_user(await server.login("admin"), "ann")
        person = Person(server, transport)
        asked = await person.ask(CREATE, ann, strategy="mail", body={"address": NEW})
        taken = await host.take()
        assert (taken.to, taken.is_tls, taken.username) == ([NEW], True, USERNAME)
        assert (taken.letter["To"], taken.letter["From"]) == (NEW, "Acme <login@acme.test>")
        assert taken.letter["Subject"] == "Confirm your address"
        body = {"state": state_of(asked), "code": code_in(taken)}
        made = await person.ask(CREATE, ann, strategy="mail", body=body)
        assert made["result"] == {"address": NEW, "kuid": "ann"}
        state = state_of(await person.login("mail", address=NEW))
        taken = await host.take()
        assert taken.letter["Subject"] == "Your login code"
        assert "10 minutes" in taken.text
        login = await person.login("mail", state=state, code=code_in(taken))
        assert login["result"]["_id"] == "ann"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_links_by_mail(transport: str) -> None:
    """In the operator's words, and in his page's hands."""
    words = {
        "subject": "{code} ist Ihr Code f\u00fcr {minutes} Minuten",
        "text": "Gr\u00fc\u00dfe!\n\n{link}\n\n{not a place}",
    }
    async with (
        mail_host() as host,
        sending(smtp=smtp_of(host.port, **words), linkUrl=PAGE) as server,
    ):
        client = Client(server, transport)
        await client.login("mail", address=ANN)
        taken = await host.take()
        subject = str(taken.letter["Subject"])
        assert re.fullmatch(r"[0-9]{6} ist Ihr Code f\u00fcr 10 Minuten", subject), subject
        hello, _, link, _, rest = taken.text.rstrip().split("\n")
        assert (hello, rest) == ("Gr\u00fc\u00dfe!", "{not a place}")
        page, _, query = link.partition("?")
        assert page == PAGE
        login = await client.login("mail", **dict(parse_qsl(query)))
        assert login["result"]["_id"] == "admin"


async def test_our_own_words_with_a_link() -> None:
    """A letter to an address that is added has none all the same."""
    async with mail_host() as host, sending(smtp=smtp_of(host.port), linkUrl=PAGE) as server:
        person = Person(server, "query")
        await person.login("mail", address=ANN)
        text = (await host.take()).text
        assert re.search(r"\b[0-9]{6}\n", text) and f"\n{PAGE}?state=" in text
        admin = await server.login("admin")
        await person.ask(CREATE, admin, strategy="mail", body={"address": NEW})
        text = (await host.take()).text
        assert re.search(r"\b[0-9]{6}\n", text) and PAGE not in text


BAD = ["a@b.test\r\nBcc: c@d.test", "a@b.test, c@d.test", "ann", "<a@b.test>", "J\u00f6rg@b.test"]


@pytest.mark.parametrize("address", BAD)
async def test_what_mail_can_not_be_sent_to(address: str) -> None:
    """Nobody gets it for an address, not by an administrator either, and nothing is sent; who tries
    to log in with it is answered as for any other that nobody has."""
    async with mail_host() as host, sending(smtp=smtp_of(host.port)) as server:
        admin, person = await server.login("admin"), Person(server, "query")
        answers = [await person.ask(CREATE, admin, strategy="mail", body={"address": address})]
        for full_name in ("security:createCredentials", "security:updateCredentials"):
            given = {"_id": "admin", "strategy": "mail", "body": {"address": address}}
            answers.append(await person.ask(full_name, admin, **given))
        for answer in answers:
            assert (answer["status"], answer["error"]["id"]) == (400, "api.assert.invalid_argument")
        trail = await events(server, admin, kind=CREATE)
        assert ends(trail) == [("refused", "api.assert.invalid_argument", "admin", "admin")]
        state = state_of(await person.login("mail", address=address))
        assert told(await person.login("mail", state=state, code="123456")) == REFUSED
        # What was taken before: the next letter is the first one.
        await person.login("mail", address=ANN)
        assert (await host.take()).to == [ANN]
        assert not host.letters


async def test_codes_by_a_service() -> None:
    heard: list[bytes] = []
    async with (
        service(answering(b"HTTP/1.1 204 No Content\r\n\r\n", heard)) as place,
        sending(url=f"http://{place}/send?key=1", linkUrl=PAGE) as server,
    ):
        client = Client(server, "query")
        state = state_of(await client.login("mail", address=ANN))
        await until(lambda: len(heard) == 2)
        message = json.loads(heard[1])
        assert heard[0].startswith(b"POST /send?key=1 HTTP/1.1\r\n")
        assert message.keys() == {"to", "code", "link", "purpose", "minutes"}
        assert (message["to"], message["purpose"], message["minutes"]) == (ANN, "login", 10)
        assert message["link"].startswith(f"{PAGE}?state={state}&code=")
        login = await client.login("mail", state=state, code=message["code"])
        assert login["status"] == 200


@asynccontextmanager
async def mail_of_a_stranger(folder: Path) -> AsyncIterator[dict[str, object]]:
    """Give a way to a mail server whose certificate nobody trusts."""
    async with mail_host(context_of(Authority(folder)), way="starttls") as host:
        yield {"smtp": smtp_of(host.port, "starttls")}


@asynccontextmanager
async def service_of_a_stranger(folder: Path) -> AsyncIterator[dict[str, object]]:
    """Give a way to a service whose certificate nobody trusts."""
    tls = context_of(Authority(folder))
    async with service(answering(b"HTTP/1.1 200 OK\r\n\r\n"), tls) as place:
        yield {"url": f"https://{place}/"}


async def answers(server: Running, caplog: pytest.LogCaptureFixture, said: str) -> None:
    """Somebody's login and a stranger's are answered alike while nothing can be sent, and again
    once that is known; the operator is told, without a code or an address."""
    line = f"codes of strategy mail: delivery failed: {said}"
    for times in (1, 2):
        shown = []
        for address in (NEW, ANN):
            asked = await Client(server, "query").login("mail", address=address)
            shown.append((asked["status"], asked["result"]["challenge"], asked["error"]))
        assert shown == [(200, {"next": "code"}, None)] * 2
        await until(lambda times=times: caplog.text.count(line) >= times)
    assert ANN not in caplog.text and PASSWORD not in caplog.text
    assert not any(re.search(r"\b[0-9]{6}\b", message) for message in caplog.messages)


@pytest.mark.parametrize(
    ("talk", "timeout_ms", "said"),
    [
        (hang, 200, "TimeoutError"),
        (drip, 200, "TimeoutError"),
        (saying(b"554 go away\r\n"), 20_000, "SMTPConnectError 554"),
        (saying(), 20_000, "SMTPServerDisconnected"),
    ],
    ids=["hangs", "drips", "refuses", "closes"],
)
async def test_a_mail_server_that_fails(
    caplog: pytest.LogCaptureFixture, talk: Talk, timeout_ms: int, said: str
) -> None:
    async with (
        talking(talk) as port,
        sending(smtp=smtp_of(port), timeout=timeout_ms) as server,
    ):
        await answers(server, caplog, said)


@pytest.mark.parametrize("way", [mail_of_a_stranger, service_of_a_stranger])
async def test_a_bad_certificate(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, way: object
) -> None:
    async with way(tmp_path) as table, sending(**table) as server:  # type: ignore[operator]
        await answers(server, caplog, "SSLCertVerificationError")


async def test_a_service_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        service(answering(b"HTTP/1.1 500 Oh\r\n\r\n")) as place,
        sending(url=f"http://{place}/") as server,
    ):
        await answers(server, caplog, "the webhook responded with status 500")


async def test_a_stop_waits_for_no_mail_server(caplog: pytest.LogCaptureFixture) -> None:
    """What hangs is cut off, long before its time is over."""
    began = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began.set()
        await reader.read()

    async with talking(talk) as port, asyncio.timeout(60):
        async with sending(smtp=smtp_of(port), timeout="1h") as server:
            await Client(server, "query").login("mail", address=ANN)
            await began.wait()


SMTP = smtp_of(25)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "strategies.mail: expected exactly one of command, url and smtp.host"),
        ({"command": ["x"], "smtp": SMTP}, "expected exactly one of command, url and smtp.host"),
        ({"command": ["x"], "url": "https://a.test/"}, "expected exactly one of command, url and"),
        ({"url": "http://a.test/"}, "url: expected https://"),
        ({"smtp": SMTP | {"host": ""}}, "smtp.host: not set"),
        (
            {"command": ["x"], "smtp": {"port": 25}},
            "expected exactly one of command, url and smtp.host",
        ),
        ({"smtp": SMTP | {"from": "nobody"}}, "smtp.from: expected an email address"),
        ({"smtp": SMTP | {"username": "u"}}, "smtp: expected both username and password"),
        (
            {"smtp": SMTP | {"host": "a.test", "username": "u", "password": "p"}},
            "smtp.tls: expected starttls or tls",
        ),
        ({"smtp": SMTP | {"tls": "maybe"}}, "smtp.tls: .*expected one of starttls, tls, none"),
        ({"smtp": SMTP | {"text": "no place"}}, r"smtp.text: must contain \{code\}"),
        ({"smtp": SMTP | {"text": "{code} {link}"}}, "unknown placeholder; allowed:"),
        ({"smtp": SMTP | {"text": "{code}"}, "linkUrl": PAGE}, r"must contain \{link\}"),
        ({"smtp": SMTP | {"proofText": "{code} {link}"}}, "smtp.proofText: unknown placeholder"),
        ({"smtp": SMTP | {"subject": "{to}"}}, "smtp.subject: unknown placeholder; allowed:"),
        ({"smtp": SMTP | {"subject": "a\nBcc: b@c.test"}}, "smtp.subject: .*one line of text"),
        ({"smtp": SMTP | {"from": "a@b.test\r\nX: y"}}, "smtp.from: .*one line of text"),
        ({"smtp": SMTP | {"helo": "x"}}, "smtp.helo: unknown setting"),
        ({"command": ["x"], "linkUrl": "http://app.test/"}, "linkUrl: expected https://"),
        ({"command": ["x"], "linkUrl": f"{PAGE}#x"}, "linkUrl: expected a URL without #"),
    ],
)
async def test_what_does_not_start(table: dict[str, object], said: str) -> None:
    with pytest.raises(LocalError, match=said):
        async with sending(**table):
            pass


FILE = """
[strategies.mail]
use = "magic"
linkUrl = "https://app.test/in"
[strategies.mail.smtp]
host = "127.0.0.1"
port = PORT
tls = "none"
from = "login@acme.test"
[strategies.none]
use = "magic"
"""


def run_check(folder: Path, *arguments: object, port: int = 1) -> int:
    """Run `manykeys strategies check`."""
    file = folder / "keys.toml"
    file.write_text(FILE.replace("PORT", str(port)))
    return cli.main(["strategies", "check", *map(str, arguments), "--config", str(file)])


async def test_a_mail_server_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`manykeys strategies check`, with `--online` as far as the login; no letter is sent."""
    async with mail_host() as host:
        given = (tmp_path, "mail", "--online")
        assert await asyncio.to_thread(run_check, *given, port=host.port) == 0
        assert (
            f"emails are delivered by 127.0.0.1:{host.port}, tls: none" in capsys.readouterr().out
        )
        assert not host.letters
    async with talking(saying(b"554 go away\r\n")) as port:
        assert await asyncio.to_thread(run_check, *given, port=port) == 2
        assert "login to the mail server failed: SMTPConnectError 554" in capsys.readouterr().out
    assert run_check(tmp_path, "mail") == 0
    assert run_check(tmp_path, "none") == 2
    assert "missing: expected exactly one of command, url and smtp.host" in capsys.readouterr().out


def test_settings_by_variables() -> None:
    """As for a password that belongs into no file; nothing of it is shown."""
    environment = {
        "MANYKEYS_strategies__mail__use": "magic",
        "MANYKEYS_strategies__mail__smtp__host": "mail.test",
        "MANYKEYS_strategies__mail__smtp__password": "sekret",
    }
    config = load(environment=environment)
    assert config.strategies["mail"]["smtp"] == {"host": "mail.test", "password": "sekret"}
    assert "sekret" not in write_toml(config) and "sekret" not in repr(config)


async def test_a_letter_that_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Is the only one: the next one is sent. What the server says of it is not in the log."""
    async with mail_host() as host, sending(smtp=smtp_of(host.port)) as server:
        host.answer = "554 " + "x" * 100
        await Client(server, "query").login("mail", address=ANN)
        await until(lambda: "delivery failed: SMTPDataError 554" in caplog.text)
        host.answer = MailHost().answer
        host.letters.clear()
        await Client(server, "query").login("mail", address=ANN)
        assert (await host.take()).to == [ANN]
        assert "xxx" not in caplog.text
