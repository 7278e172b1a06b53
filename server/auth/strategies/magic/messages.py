"""What the kind `magic` sends, and how: by a program, by a service, or by SMTP."""

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
"""Letters that may wait to be delivered; further ones are not."""
_WORKERS = 8
_LONGEST_PAUSE_S = 0.5
_MINUTE_MS = 60_000
_PLACE = re.compile(r"\{([A-Za-z]+)\}")
_CODE_TEXT = "Your login code is {code}\n"
_LINK_TEXT = "Your login code is {code}\n\nOr log in by opening this link:\n{link}\n"
_PROOF_TEXT = "To add this address to your account, enter this code there: {code}\n"
_END = (
    "\nIt is good once, for {minutes} minutes. If you did not ask for it, there is nothing to do.\n"
)
_OF_PROOFS = ("code", "minutes")


@dataclass(frozen=True, slots=True)
class Letter:
    """A code on its way; with `is_proof` to who adds an address, else to who logs in. `link` is
    "" where none is sent."""

    to: str
    code: str = field(repr=False)
    link: str = field(default="", repr=False)
    is_proof: bool = False


Send = Callable[[Letter], Awaitable[None]]


class Letters:
    """Delivers letters by the way that is configured. ConfigError for none, or for several."""

    def __init__(self, name: str, settings: MagicSettings, login_ms: float) -> None:
        self._minutes = str(max(1, int(login_ms // _MINUTE_MS)))
        self._random = SystemRandom()
        self._link_url = settings.link_url
        if self._link_url and read_url("linkUrl", self._link_url).fragment:
            raise ConfigError("linkUrl: expected a URL without #")
        self.mailer, self._send = self._choose(settings)
        self._box: Outbox[Letter] = Outbox(
            f"codes of strategy {name}",
            self._deliver,
            _LOG,
            workers=_WORKERS,
            most_waiting=MOST_WAITING,
        )

    def takes(self, address: str) -> bool:
        """Tell whether an address is of the kind that letters are sent to here."""
        return self.mailer is None or is_address(address)

    def put(self, letter: Letter) -> None:
        """Have a letter delivered; nobody waits for it."""
        self._box.put(letter)

    def write_link(self, state: str, code: str) -> str:
        """Give the link that takes the next step of a login, "" without a page for it."""
        if not self._link_url:
            return ""
        sign = "&" if "?" in self._link_url else "?"
        return f"{self._link_url}{sign}{urlencode({'state': state, 'code': code})}"

    async def run(self) -> None:
        """Deliver letters, until cancelled."""
        try:
            await self._box.run()
        finally:
            if self.mailer is not None:
                self.mailer.close()

    def _choose(self, settings: MagicSettings) -> tuple[Mailer | None, Send]:
        is_mail = settings.smtp != SmtpSettings()
        if sum(map(bool, (settings.command, settings.url, is_mail))) != 1:
            raise ConfigError("expected one of command, url and smtp.host, which deliver letters")
        timeout_s = settings.timeout_ms / 1000
        if is_mail:
            return self._choose_mail(settings.smtp, timeout_s)
        if settings.command:
            way: Way = Command(settings.command, timeout_s)
        else:
            way = Post(read_url("url", settings.url), timeout_s)

        async def send(letter: Letter) -> None:
            link = {"link": letter.link} if letter.link else {}
            purpose = "proof" if letter.is_proof else "login"
            message = {"to": letter.to, "code": letter.code, "purpose": purpose, **link}
            await way.deliver({**message, "minutes": int(self._minutes)})

        return None, send

    def _choose_mail(self, given: SmtpSettings, timeout_s: float) -> tuple[Mailer, Send]:
        if not given.host:
            raise ConfigError("smtp.host: not set; expected the mail server")
        place = (given.host, given.port, given.tls)
        server = MailServer(*place, given.username, given.password or "", timeout_s)
        server.check("smtp")
        mailer = Mailer(server, read_sender("smtp.from", given.sender), threads=_WORKERS)
        needed = ("link",) if self._link_url else ("code",)
        known = ("code", "minutes", *(("link",) if self._link_url else ()))
        default = (_LINK_TEXT if self._link_url else _CODE_TEXT) + _END
        login = (given.subject, given.text or default)
        proof = (given.proof_subject, given.proof_text or _PROOF_TEXT + _END)
        _check_places("smtp.text", login[1], known, needed)
        _check_places("smtp.subject", login[0], ("code", "minutes"))
        _check_places("smtp.proofText", proof[1], _OF_PROOFS, ("code",))
        _check_places("smtp.proofSubject", proof[0], _OF_PROOFS)

        async def send(letter: Letter) -> None:
            values = {"code": letter.code, "link": letter.link, "minutes": self._minutes}
            subject, text = (_fill(one, values) for one in (proof if letter.is_proof else login))
            await mailer.deliver(letter.to, subject, text)

        return mailer, send

    async def _deliver(self, letter: Letter) -> None:
        # To start a program holds up everybody for a moment: not the answer to who asked.
        await asyncio.sleep(self._random.uniform(0, _LONGEST_PAUSE_S))
        await self._send(letter)


def examine(name: str, settings: MagicSettings, is_online: bool) -> Examined:
    """Say how letters get away, and with `is_online` whether the mail server lets us in."""
    try:
        mailer = Letters(name, settings, 0).mailer
    except ConfigError as reason:
        return Examined((), (str(reason),))
    if mailer is None:
        way = "a program" if settings.command else "a service"
        return Examined((f"letters are delivered by {way}",))
    host, port = mailer.server.place
    facts = (f"letters are delivered by {host}:{port}, tls: {mailer.server.tls}",)
    failure = mailer.examine() if is_online else ""
    return Examined(facts, (f"a mail server that lets us in: {failure}",) if failure else ())


def _check_places(
    name: str, text: str, known: Collection[str], needed: Collection[str] = ()
) -> None:
    """ConfigError for a text that has a place for something else, or none for what is needed."""
    found = set(_PLACE.findall(text))
    accepted = ", ".join(f"{{{one}}}" for one in known)
    if not found <= set(known):
        raise ConfigError(f"{name}: expected nothing in braces but {accepted}")
    if not found >= set(needed):
        raise ConfigError(f"{name}: expected {', '.join(f'{{{one}}}' for one in needed)} in it")


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: values[place[1]], text)
