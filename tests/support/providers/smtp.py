"""A mail server on this machine (aiosmtpd), and sockets that are none."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.certificates import Authority
from tests.support.waiting import until

USERNAME, PASSWORD = "mailer", "what-the-mail-server-knows"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Taken:
    """One letter as it came: from whom to whom it was said to be, over TLS or not, by whom."""

    sender: str
    to: list[str]
    letter: EmailMessage
    is_tls: bool
    username: str

    @property
    def text(self) -> str:
        """Give what the letter says."""
        return cast(str, self.letter.get_content()).replace("\r\n", "\n")


@dataclass
class MailHost:
    """The letters that have arrived."""

    port: int = 0
    letters: list[Taken] = field(default_factory=list)
    answer: str = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a letter."""
        content = envelope.original_content
        assert isinstance(content, bytes) and content.isascii()
        letter = message_from_bytes(content, policy=POLICY)
        assert isinstance(letter, EmailMessage)
        self.letters.append(
            Taken(
                str(envelope.mail_from),
                list(map(str, envelope.rcpt_tos)),
                letter,
                server.transport.get_extra_info("sslcontext") is not None,
                str(session.auth_data or ""),
            )
        )
        return self.answer

    async def take(self) -> Taken:
        """Wait for the next letter."""
        await until(lambda: bool(self.letters))
        return self.letters.pop(0)


def context_of(authority: Authority) -> ssl.SSLContext:
    """Give a server's TLS, with a certificate of this authority."""
    made = authority.sign("mail")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(made.cert, made.key)
    return tls


@asynccontextmanager
async def mail_host(tls: ssl.SSLContext | None = None, *, way: str = "") -> AsyncIterator[MailHost]:
    """Run one: with `way` "starttls" or "tls" it wants USERNAME and PASSWORD."""
    host = MailHost()

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        is_right = (given.login, given.password) == (USERNAME.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False, auth_data=given.login.decode())

    def make() -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of passwords without TLS: it can't see ours
            return SMTP(
                host,
                hostname="mail.test",
                tls_context=tls if way == "starttls" else None,
                require_starttls=way == "starttls",
                authenticator=authenticate,
                auth_required=bool(way),
                auth_require_tls=way == "starttls",
            )

    loop = asyncio.get_running_loop()
    served = await loop.create_server(make, "127.0.0.1", 0, ssl=tls if way == "tls" else None)
    host.port = served.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        served.close()


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[int]:
    """Run something else on a port, and give that."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    served = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield served.sockets[0].getsockname()[1]
    finally:
        served.close()


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer for ever, a few bytes at a time."""
    while True:
        writer.write(b"220-x\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


def saying(*answers: bytes) -> Talk:
    """Say these lines, each when the one before was answered."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()
            await reader.readline()

    return talk
