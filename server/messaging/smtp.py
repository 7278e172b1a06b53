"""Letters by SMTP (RFC 5321, 6409, 8314), to addresses of plain ASCII.

smtplib speaks it, in a few threads; a connection is cut off when its time is over, however slowly
the server goes on answering. Errors name no text of the server's, no address and no password.
"""

import asyncio
import re
import smtplib
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

from server.core.config_file import ConfigError
from server.messaging.delivery import Undelivered, is_here

MOST_ADDRESS_CHARACTERS = 254
_MOST_LOCAL_CHARACTERS = 64
# RFC 5321 §4.1.2, without quoted names and address literals: nobody's mail needs them.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
# Lines as short as every server takes them, and none with a byte beyond ASCII.
_POLICY = SMTP.clone(cte_type="7bit")


def is_address(text: str) -> bool:
    """Tell whether letters can be sent to this address, and nowhere else by it."""
    local, _, domain = text.rpartition("@")
    is_short = len(text) <= MOST_ADDRESS_CHARACTERS and len(local) <= _MOST_LOCAL_CHARACTERS
    return is_short and bool(_LOCAL.fullmatch(local)) and bool(_DOMAIN.fullmatch(domain))


def read_sender(name: str, text: str) -> Address:
    """Read an address with or without the name of who has it; ConfigError for any other text."""
    header = _POLICY.header_factory("From", text)
    found = header.addresses
    if header.defects or len(found) != 1 or not is_address(found[0].addr_spec):
        raise ConfigError(f"{name}: expected an address, like login@acme.test")
    sender: Address = found[0]
    return sender


@dataclass(frozen=True, slots=True)
class MailServer:
    """How to reach a server and log in to it; `tls` is "starttls", "tls" or "none", `port` 0 stands
    for the usual one."""

    host: str
    port: int
    tls: str
    username: str
    password: str = field(repr=False)
    timeout_s: float

    @property
    def place(self) -> tuple[str, int]:
        """Give host and port."""
        return self.host, self.port or _PORTS[self.tls]

    def check(self, name: str) -> None:
        """ConfigError for what would show a password to everybody on the way, and for half a
        login; `name` is that of the table."""
        if bool(self.username) != bool(self.password):
            raise ConfigError(f"{name}: expected username and password, or none of them")
        if self.username and self.tls == "none" and not is_here(self.host):
            raise ConfigError(f"{name}.tls: expected starttls or tls where there is a password")


class Mailer:
    """Sends letters, at most `threads` at a time."""

    def __init__(self, server: MailServer, sender: Address, *, threads: int) -> None:
        self.server = server
        self._sender = sender
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mail")

    async def deliver(self, to: str, subject: str, text: str) -> None:
        """Send a letter. `Undelivered` unless the server has taken it in time."""
        letter, line = self._write(to, subject, text), _Line()
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(self._pool, self._try, line, to, letter)
        try:
            done, _ = await asyncio.wait({sending}, timeout=self.server.timeout_s)
        finally:
            line.cut()
        failure = await sending
        if failure:
            raise Undelivered(failure if done else "TimeoutError")

    def examine(self) -> str:
        """Log in to the server without sending anything; give what is wrong, "" for nothing."""
        line = _Line()
        timer = threading.Timer(self.server.timeout_s, line.cut)
        timer.start()
        try:
            return self._try(line)
        finally:
            timer.cancel()
            line.cut()

    def close(self) -> None:
        """End the threads, once they have nothing to do."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _write(self, to: str, subject: str, text: str) -> bytes:
        if not is_address(to):
            raise Undelivered("no address for letters")
        letter = EmailMessage(_POLICY)
        letter["From"] = self._sender
        letter["To"] = Address(addr_spec=to)
        letter["Subject"] = subject
        letter["Date"] = formatdate()
        letter["Message-ID"] = make_msgid(domain=self._sender.domain)
        letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is answered
        letter.set_content(text)
        return letter.as_bytes()

    def _try(self, line: "_Line", to: str = "", letter: bytes = b"") -> str:
        """Send a letter, if one is given, in this thread; give why it failed, "" if it did not."""
        try:
            self._talk(line, to, letter)
        except smtplib.SMTPResponseException as refusal:
            return f"{type(refusal).__name__} {refusal.smtp_code}"
        except (OSError, EOFError, ValueError) as reason:  # SMTPException is an OSError
            return type(reason).__name__
        return ""

    def _talk(self, line: "_Line", to: str, letter: bytes) -> None:
        server = self.server
        tls = None if server.tls == "none" else ssl.create_default_context()
        session = _Session(server, line, tls if server.tls == "tls" else None)
        try:
            if server.tls == "starttls":
                session.starttls(context=tls)
            if server.username:
                session.login(server.username, server.password)
            if letter:
                session.sendmail(self._sender.addr_spec, [to], letter)
            with suppress(OSError):
                session.quit()
        finally:
            session.close()


class _Line:
    """A connection, which another thread may cut off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: socket.socket | None = None
        self._is_cut = False

    def hold(self, opened: socket.socket) -> None:
        """Keep what cuts off a connection, whatever wraps it; TimeoutError if it was cut off."""
        with self._lock:
            if self._is_cut:
                raise TimeoutError
            self._held = opened.dup()

    def cut(self) -> None:
        """Cut the connection off, now or as soon as it is there."""
        with self._lock:
            self._is_cut = True
            if self._held is not None:
                with self._held, suppress(OSError):
                    self._held.shutdown(socket.SHUT_RDWR)
                self._held = None


class _Session(smtplib.SMTP):
    """One of smtplib's, with TLS from the first byte if a context is given."""

    def __init__(self, server: MailServer, line: _Line, tls: ssl.SSLContext | None) -> None:
        self._line = line
        self._tls = tls
        host, port = server.place
        super().__init__(host, port, _own_name(), server.timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """Connect, in the place of what smtplib would do, as its own SMTP_SSL does."""
        opened = socket.create_connection((host, port), timeout)
        try:
            self._line.hold(opened)
            # What cuts the line off comes first, and knows that it was time.
            opened.settimeout(2 * timeout)
            return (
                opened if self._tls is None else self._tls.wrap_socket(opened, server_hostname=host)
            )
        except BaseException:
            opened.close()
            raise


def _own_name() -> str:
    """Give what we call ourselves, without asking anybody: a name with a dot, or an address."""
    name = socket.gethostname()
    return name if "." in name and _DOMAIN.fullmatch(name) else "[127.0.0.1]"
