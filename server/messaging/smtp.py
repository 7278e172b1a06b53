"""SMTP client that sends email (RFC 5321, 6409, 8314) to ASCII addresses.

Uses smtplib in a few threads. A connection is closed when its timeout is over, even if the server
is still responding slowly. Errors contain no text of the server, no address and no password.
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
_MAX_LOCAL_CHARACTERS = 64
# RFC 5321 §4.1.2, without quoted strings and address literals, which are not used in practice.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
# Line lengths that every server accepts, and no byte beyond ASCII.
_POLICY = SMTP.clone(cte_type="7bit")


def is_address(text: str) -> bool:
    """Return whether email can be sent to this address, and to no other one by it."""
    local, _, domain = text.rpartition("@")
    is_short = len(text) <= MOST_ADDRESS_CHARACTERS and len(local) <= _MAX_LOCAL_CHARACTERS
    return is_short and bool(_LOCAL.fullmatch(local)) and bool(_DOMAIN.fullmatch(domain))


def read_sender(name: str, text: str) -> Address:
    """Parse an address with an optional display name; raise ConfigError if it is not valid."""
    header = _POLICY.header_factory("From", text)
    found = header.addresses
    if header.defects or len(found) != 1 or not is_address(found[0].addr_spec):
        raise ConfigError(f"{name}: expected an email address, like login@acme.test")
    sender: Address = found[0]
    return sender


@dataclass(frozen=True, slots=True)
class MailServer:
    """How to connect and log in to a mail server; `tls` is "starttls", "tls" or "none", `port` 0 is
    the default port of that."""

    host: str
    port: int
    tls: str
    username: str
    password: str = field(repr=False)
    timeout_s: float

    @property
    def place(self) -> tuple[str, int]:
        """Return host and port."""
        return self.host, self.port or _PORTS[self.tls]

    def check(self, name: str) -> None:
        """Raise ConfigError if a password would be sent in clear text, or if only one of username
        and password is set; `name` is the name of the settings table."""
        if bool(self.username) != bool(self.password):
            raise ConfigError(f"{name}: expected both username and password, or neither")
        if self.username and self.tls == "none" and not is_here(self.host):
            raise ConfigError(f"{name}.tls: expected starttls or tls, because a password is set")


class Mailer:
    """Sends email, at most `threads` messages at a time."""

    def __init__(self, server: MailServer, sender: Address, *, threads: int) -> None:
        self.server = server
        self._sender = sender
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mail")

    async def deliver(self, to: str, subject: str, text: str) -> None:
        """Send an email. Raise `Undelivered` unless the server has accepted it in time."""
        message, line = self._write(to, subject, text), _Connection()
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(self._pool, self._try, line, to, message)
        try:
            done, _ = await asyncio.wait({sending}, timeout=self.server.timeout_s)
        finally:
            line.cut()
        failure = await sending
        if failure:
            raise Undelivered(failure if done else "TimeoutError")

    def examine(self) -> str:
        """Log in to the server without sending anything; return what is wrong, "" if nothing is."""
        line = _Connection()
        timer = threading.Timer(self.server.timeout_s, line.cut)
        timer.start()
        try:
            return self._try(line)
        finally:
            timer.cancel()
            line.cut()

    def close(self) -> None:
        """Stop the threads once they are idle."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _write(self, to: str, subject: str, text: str) -> bytes:
        if not is_address(to):
            raise Undelivered("not a valid email address")
        message = EmailMessage(_POLICY)
        message["From"] = self._sender
        message["To"] = Address(addr_spec=to)
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.domain)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
        message.set_content(text)
        return message.as_bytes()

    def _try(self, line: "_Connection", to: str = "", message: bytes = b"") -> str:
        """Log in and send a message, if one is given, in this thread; return why it failed, "" if
        it did not."""
        try:
            self._talk(line, to, message)
        except smtplib.SMTPResponseException as refusal:
            return f"{type(refusal).__name__} {refusal.smtp_code}"
        except (OSError, EOFError, ValueError) as reason:  # SMTPException is an OSError
            return type(reason).__name__
        return ""

    def _talk(self, line: "_Connection", to: str, message: bytes) -> None:
        server = self.server
        tls = None if server.tls == "none" else ssl.create_default_context()
        session = _Session(server, line, tls if server.tls == "tls" else None)
        try:
            if server.tls == "starttls":
                session.starttls(context=tls)
            if server.username:
                session.login(server.username, server.password)
            if message:
                session.sendmail(self._sender.addr_spec, [to], message)
            with suppress(OSError):
                session.quit()
        finally:
            session.close()


class _Connection:
    """A connection that another thread can shut down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: socket.socket | None = None
        self._is_cut = False

    def hold(self, opened: socket.socket) -> None:
        """Keep a duplicate of the socket, with which it can be shut down whatever wraps it; raise
        TimeoutError if `cut` was called before."""
        with self._lock:
            if self._is_cut:
                raise TimeoutError
            self._held = opened.dup()

    def cut(self) -> None:
        """Shut the connection down, now or as soon as it exists."""
        with self._lock:
            self._is_cut = True
            if self._held is not None:
                with self._held, suppress(OSError):
                    self._held.shutdown(socket.SHUT_RDWR)
                self._held = None


class _Session(smtplib.SMTP):
    """An SMTP session of smtplib, with TLS from the first byte if a context is given."""

    def __init__(self, server: MailServer, line: _Connection, tls: ssl.SSLContext | None) -> None:
        self._line = line
        self._tls = tls
        host, port = server.place
        super().__init__(host, port, _ehlo_name(), server.timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """Connect, instead of smtplib's own way, as its SMTP_SSL does."""
        opened = socket.create_connection((host, port), timeout)
        try:
            self._line.hold(opened)
            # Longer than the timer that calls `cut`: that must fire first, to count as a timeout.
            opened.settimeout(2 * timeout)
            return (
                opened if self._tls is None else self._tls.wrap_socket(opened, server_hostname=host)
            )
        except BaseException:
            opened.close()
            raise


def _ehlo_name() -> str:
    """Return the name for EHLO, without a DNS query: a host name with a dot, or an address
    literal."""
    name = socket.gethostname()
    return name if "." in name and _DOMAIN.fullmatch(name) else "[127.0.0.1]"
