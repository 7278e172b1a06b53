"""Emails with login codes and magic links of the kind `magic`, and their delivery by a command, a
webhook or SMTP."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from random import SystemRandom
from urllib.parse import urlencode

from server.auth.strategies.base import Examined
from server.auth.strategies.magic.settings import MagicSettings, SmtpSettings
from server.core.config_file import ConfigError
from server.messaging.delivery import Command, Outbox, Post, Way, read_url
from server.messaging.smtp import Mailer, MailServer, is_address, read_sender

_LOG = logging.getLogger("manykeys.magic")
MOST_WAITING = 1000
"""Maximum number of messages in the delivery queue; further ones are dropped."""
_WORKERS = 8
_LONGEST_PAUSE_S = 0.5
_MINUTE_MS = 60_000
_PLACEHOLDER = re.compile(r"\{([A-Za-z]+)\}")
_CODE_TEXT = "Your login code is {code}\n"
_LINK_TEXT = "Your login code is {code}\n\nOr log in by opening this link:\n{link}\n"
_PROOF_TEXT = "To add this address to your account, enter this code there: {code}\n"
_FOOTER = (
    "\nIt can be used once and expires in {minutes} minutes."
    " If you didn't request it, ignore this email.\n"
)
_PROOF_PLACEHOLDERS = ("code", "minutes")


@dataclass(frozen=True, slots=True)
class Email:
    """An email with a code. With `is_proof` it goes to a user who adds the address, else to one who
    logs in. `link` is "" if the email has no link."""

    to: str
    code: str = field(repr=False)
    link: str = field(default="", repr=False)
    is_proof: bool = False


Send = Callable[[Email], Awaitable[None]]


class EmailMessages:
    """Sends these emails by the configured method of delivery. ConfigError if none is configured,
    or several."""

    def __init__(self, name: str, settings: MagicSettings, login_ms: float) -> None:
        self._minutes = str(max(1, int(login_ms // _MINUTE_MS)))
        self._random = SystemRandom()
        self._link_url = settings.link_url
        if self._link_url and read_url("linkUrl", self._link_url).fragment:
            raise ConfigError("linkUrl: expected a URL without #")
        self.mailer, self._send = self._choose(settings)
        self._box: Outbox[Email] = Outbox(
            f"codes of strategy {name}",
            self._deliver,
            _LOG,
            workers=_WORKERS,
            most_waiting=MOST_WAITING,
        )

    def takes(self, address: str) -> bool:
        """Return whether an address is valid for the method of delivery."""
        return self.mailer is None or is_address(address)

    def put(self, message: Email) -> None:
        """Queue a message for delivery; return at once."""
        self._box.put(message)

    def write_link(self, state: str, code: str) -> str:
        """Return the link for the next step of a login, "" if `linkUrl` is not set."""
        if not self._link_url:
            return ""
        sign = "&" if "?" in self._link_url else "?"
        return f"{self._link_url}{sign}{urlencode({'state': state, 'code': code})}"

    async def run(self) -> None:
        """Deliver messages until cancelled."""
        try:
            await self._box.run()
        finally:
            if self.mailer is not None:
                self.mailer.close()

    def _choose(self, settings: MagicSettings) -> tuple[Mailer | None, Send]:
        is_mail = settings.smtp != SmtpSettings()
        if sum(map(bool, (settings.command, settings.url, is_mail))) != 1:
            raise ConfigError("expected exactly one of command, url and smtp.host, to send email")
        timeout_s = settings.timeout_ms / 1000
        if is_mail:
            return self._choose_mail(settings.smtp, timeout_s)
        if settings.command:
            receiver: Way = Command(settings.command, timeout_s)
        else:
            receiver = Post(read_url("url", settings.url), timeout_s)

        async def send(message: Email) -> None:
            link = {"link": message.link} if message.link else {}
            purpose = "proof" if message.is_proof else "login"
            body = {"to": message.to, "code": message.code, "purpose": purpose, **link}
            await receiver.deliver({**body, "minutes": int(self._minutes)})

        return None, send

    def _choose_mail(self, given: SmtpSettings, timeout_s: float) -> tuple[Mailer, Send]:
        if not given.host:
            raise ConfigError("smtp.host: not set; expected the host name of the mail server")
        place = (given.host, given.port, given.tls)
        server = MailServer(*place, given.username, given.password or "", timeout_s)
        server.check("smtp")
        mailer = Mailer(server, read_sender("smtp.from", given.sender), threads=_WORKERS)
        needed = ("link",) if self._link_url else ("code",)
        known = ("code", "minutes", *(("link",) if self._link_url else ()))
        default = (_LINK_TEXT if self._link_url else _CODE_TEXT) + _FOOTER
        login = (given.subject, given.text or default)
        proof = (given.proof_subject, given.proof_text or _PROOF_TEXT + _FOOTER)
        _check_placeholders("smtp.text", login[1], known, needed)
        _check_placeholders("smtp.subject", login[0], ("code", "minutes"))
        _check_placeholders("smtp.proofText", proof[1], _PROOF_PLACEHOLDERS, ("code",))
        _check_placeholders("smtp.proofSubject", proof[0], _PROOF_PLACEHOLDERS)

        async def send(message: Email) -> None:
            values = {"code": message.code, "link": message.link, "minutes": self._minutes}
            subject, text = (_fill(one, values) for one in (proof if message.is_proof else login))
            await mailer.deliver(message.to, subject, text)

        return mailer, send

    async def _deliver(self, message: Email) -> None:
        # Starting a command blocks the event loop for a moment. After a random delay, the time of
        # the response does not reveal whether an email is sent.
        await asyncio.sleep(self._random.uniform(0, _LONGEST_PAUSE_S))
        await self._send(message)


def examine(name: str, settings: MagicSettings, is_online: bool) -> Examined:
    """Report how emails are delivered, and with `is_online` whether the mail server accepts the
    login."""
    try:
        mailer = EmailMessages(name, settings, 0).mailer
    except ConfigError as reason:
        return Examined((), (str(reason),))
    if mailer is None:
        method = "a command" if settings.command else "a webhook"
        return Examined((f"emails are delivered by {method}",))
    host, port = mailer.server.place
    facts = (f"emails are delivered by {host}:{port}, tls: {mailer.server.tls}",)
    failure = mailer.examine() if is_online else ""
    return Examined(facts, (f"login to the mail server failed: {failure}",) if failure else ())


def _check_placeholders(
    name: str, text: str, known: Collection[str], needed: Collection[str] = ()
) -> None:
    """Raise ConfigError for a text with an unknown placeholder, or without a required one."""
    found = set(_PLACEHOLDER.findall(text))
    accepted = ", ".join(f"{{{one}}}" for one in known)
    if not found <= set(known):
        raise ConfigError(f"{name}: unknown placeholder; allowed: {accepted}")
    if not found >= set(needed):
        raise ConfigError(f"{name}: must contain {', '.join(f'{{{one}}}' for one in needed)}")


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda place: values[place[1]], text)
