"""Emails by SMTP, to a real server that is well, refuses, lies, or says nothing."""

from email.headerregistry import Address
from pathlib import Path

import pytest

from server.core.config_file import ConfigError
from server.messaging.delivery import Undelivered
from server.messaging.smtp import (
    MOST_ADDRESS_CHARACTERS,
    Mailer,
    MailServer,
    is_address,
    read_sender,
)
from tests.support.certificates import Authority
from tests.support.providers.smtp import (
    PASSWORD,
    USERNAME,
    MailHost,
    Talk,
    context_of,
    drip,
    hang,
    mail_host,
    saying,
    talking,
)

TO = "ann@mail.test"
SENDER = Address("J\u00f6rg, of Acme", addr_spec="login@acme.test")
TEXT = f"Gr\u00fc\u00dfe\nFrom here\n.\n{'x' * 2000}\n"


def mailer_to(
    port: int, tls: str = "none", password: str = "", *, timeout_s: float = 10.0
) -> Mailer:
    """Give what sends letters to this port."""
    username = USERNAME if password else ""
    server = MailServer("127.0.0.1", port, tls, username, password, timeout_s)
    return Mailer(server, SENDER, threads=2)


async def send(mailer: Mailer, to: str = TO) -> str:
    """Send a letter; give why it could not be, "" if it was."""
    try:
        await mailer.deliver(to, "\u00dcber 123456", TEXT)
    except Undelivered as reason:
        return str(reason)
    finally:
        mailer.close()
    return ""


async def check(host: MailHost, *, is_tls: bool) -> None:
    """The letter is there as it was meant."""
    taken = await host.take()
    assert (taken.sender, taken.to) == ("login@acme.test", [TO])
    assert (taken.is_tls, taken.username) == (is_tls, USERNAME if is_tls else "")
    letter = taken.letter
    assert letter["From"].addresses == (SENDER,)
    assert (letter["To"], letter["Subject"]) == (TO, "\u00dcber 123456")
    assert (letter["Auto-Submitted"], letter["Message-ID"][-11:]) == (
        "auto-generated",
        "@acme.test>",
    )
    assert taken.text == TEXT
    assert not host.letters


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that this machine trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.cert))
    return made


@pytest.mark.parametrize("way", ["starttls", "tls"])
async def test_a_letter_arrives_safely(authority: Authority, way: str) -> None:
    async with mail_host(context_of(authority), way=way) as host:
        assert await send(mailer_to(host.port, way, PASSWORD)) == ""
        await check(host, is_tls=True)


async def test_a_letter_arrives_here() -> None:
    """Without TLS, which a server on this machine may do without."""
    async with mail_host() as host:
        assert await send(mailer_to(host.port)) == ""
        await check(host, is_tls=False)


@pytest.mark.parametrize("way", ["starttls", "tls"])
async def test_a_server_must_prove_its_name(tmp_path: Path, way: str) -> None:
    """By an authority that is trusted; nothing is said to any other."""
    async with mail_host(context_of(Authority(tmp_path)), way=way) as host:
        assert await send(mailer_to(host.port, way, PASSWORD)) == "SSLCertVerificationError"
        assert not host.letters


async def test_tls_is_not_done_without() -> None:
    """Where a server offers none, it may be somebody in between."""
    async with mail_host() as host:
        assert await send(mailer_to(host.port, "starttls")) == "SMTPNotSupportedError"
        assert await send(mailer_to(host.port, "tls")) == "SSLError"
        assert not host.letters


async def test_a_wrong_password(authority: Authority) -> None:
    async with mail_host(context_of(authority), way="starttls") as host:
        said = await send(mailer_to(host.port, "starttls", "guessed"))
        assert said == "SMTPAuthenticationError 535"


async def test_a_server_that_takes_no_letter() -> None:
    async with mail_host() as host:
        host.answer = "554 spam"
        assert await send(mailer_to(host.port)) == "SMTPDataError 554"


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (saying(b"554 go away\r\n"), "SMTPConnectError 554"),
        (saying(b"SSH-2.0-x\r\n"), "SMTPConnectError -1"),
        (saying(), "SMTPServerDisconnected"),
        (saying(b"x" * 20_000), "SMTPResponseException 500"),
        (
            saying(b"220 x\r\n", b"250 x\r\n", b"250 x\r\n", b"550 nobody\r\n"),
            "SMTPRecipientsRefused",
        ),
        (hang, "TimeoutError"),
        (drip, "TimeoutError"),
    ],
    ids=["refuses", "SSH", "closes", "flood", "recipient", "hangs", "drips"],
)
async def test_a_server_that_fails(talk: Talk, said: str) -> None:
    """It is told apart, without its words; nobody waits for good."""
    timeout_s = 0.3 if talk in (hang, drip) else 20.0
    async with talking(talk) as port:
        assert (await send(mailer_to(port, timeout_s=timeout_s))).startswith(said)


async def test_nobody_there() -> None:
    async with talking(hang) as port:
        pass
    assert await send(mailer_to(port)) == "ConnectionRefusedError"


ADDRESSES = [
    *("ann@mail.test", "a.b+c'd@x-y.test", "root@localhost", "a@1.test"),
    "a" * 64 + "@mail.test",
    "a@" + "b" * 63 + ".test",
]
NO_ADDRESSES = [
    *("", "ann", "@mail.test", "ann@", "a@b@c.test", ".a@b.test", "a.@b.test", "a..b@c.test"),
    *("a b@c.test", '"a b"@c.test', "a@[127.0.0.1]", "a@-b.test", "a@b-.test", "a@b..test"),
    *("<a@b.test>", "Ann <a@b.test>", "a@b.test, c@d.test", "a@b.test;c@d.test", "a@b.test\n"),
    *("a@b.test\r\nBcc: c@d.test", "a\r\n@b.test", "a@b.test\0", "a%0d%0a@b test", "a@b.test "),
    *("J\u00f6rg@mail.test", "a@m\u00fcller.test", "a@b.test>\r\nRCPT TO:<c@d.test", "a@b\ttest"),
    "a" * 65 + "@mail.test",
    "a@" + "b" * 64 + ".test",
    "a@" + "b." * 130 + "test",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", NO_ADDRESSES)
async def test_what_is_no_address(text: str) -> None:
    """A letter goes to one address, and has the headers we wrote: nothing is even connected to."""
    assert not is_address(text)
    assert await send(mailer_to(1), text) == "not a valid email address"


def test_an_address_is_so_long_at_most() -> None:
    domain = "b" * 60 + "."
    text = "a" * (MOST_ADDRESS_CHARACTERS - 1 - 4 * 61) + "@" + domain * 4
    assert is_address(text[:-1]) and len(text) == MOST_ADDRESS_CHARACTERS
    assert is_address(text[:-1] + "b")
    assert not is_address(text[:-1] + "bb")


@pytest.mark.parametrize(
    "text", ["", "Acme", "a@b.test, c@d.test", "Acme <a@b", "a@b.test\r\nX: y"]
)
def test_what_is_no_sender(text: str) -> None:
    with pytest.raises(ConfigError, match="smtp.from: expected an email address"):
        read_sender("smtp.from", text)


@pytest.mark.parametrize("text", ["a@b.test", "Acme <a@b.test>", '"Acme, Inc." <a@b.test>'])
def test_senders(text: str) -> None:
    assert read_sender("smtp.from", text).addr_spec == "a@b.test"


def test_a_password_goes_nowhere_in_the_clear() -> None:
    """But on this machine; and it is not in what anybody may print."""
    server = MailServer("mail.test", 0, "none", "u", "sekret", 1.0)
    with pytest.raises(ConfigError, match="smtp.tls: expected starttls or tls"):
        server.check("smtp")
    MailServer("localhost", 0, "none", "u", "sekret", 1.0).check("smtp")
    assert "sekret" not in repr(server)
    with pytest.raises(ConfigError, match="smtp: expected both username and password"):
        MailServer("mail.test", 0, "tls", "u", "", 1.0).check("smtp")


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_usual_ports(tls: str, port: int) -> None:
    assert MailServer("mail.test", 0, tls, "", "", 1.0).place == ("mail.test", port)
