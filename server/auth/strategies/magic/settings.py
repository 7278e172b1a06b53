"""Settings of the kind `magic`, apart from what delivers letters."""

import re
from dataclasses import dataclass

from server.core.settings import (
    YES_NO,
    Kind,
    Milliseconds,
    choice,
    duration,
    secret_text,
    setting,
    table,
    text,
    texts,
    whole,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MOST_CHARACTERS = 10_000


def _prose(accepted: str, *, allowing: str = "") -> Kind[str]:
    """Take text for people, without control characters other than those that are allowed."""

    def read(value: object) -> str | None:
        if not isinstance(value, str) or len(value) > _MOST_CHARACTERS:
            return None
        is_clean = not any(one not in allowing for one in _CONTROL.findall(value))
        return value if is_clean else None

    return Kind(accepted, read)


_LINE = _prose("one line of text")
_TEXT = _prose(f"a text of at most {_MOST_CHARACTERS} characters", allowing="\n")


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """`[strategies.NAME.smtp]`"""

    host: str = setting("host", text(0, 253), "", "Mail server that takes the letters.")
    port: int = setting(
        "port", whole(0, 65535), 0, "0: 587 with starttls, 465 with tls, 25 without either."
    )
    tls: str = setting(
        "tls",
        choice("starttls", "tls", "none"),
        "starttls",
        "How it is spoken to; its certificate must be good for `host`.",
    )
    username: str = setting("username", text(), "", "Name to log in to it with; none: no login.")
    password: str | None = setting(
        "password", secret_text(1), None, "Password to log in to it with.", secret=True
    )
    sender: str = setting(
        "from", _LINE, "", "Sender of the letters, like `Acme <login@acme.test>`."
    )
    subject: str = setting(
        "subject",
        _LINE,
        "Your login code",
        "Subject of a letter, with {code} or {minutes} if you like.",
    )
    text: str = setting(
        "text", _TEXT, "", "Its text, with {code}, {link}, {minutes}; unless set, an English one."
    )
    proof_subject: str = setting(
        "proofSubject",
        _LINE,
        "Confirm your address",
        "Subject of a letter to an address that somebody adds.",
    )
    proof_text: str = setting(
        "proofText", _TEXT, "", "Its text, with {code}, {minutes}; unless set, an English one."
    )


@dataclass(frozen=True, slots=True)
class MagicSettings:
    """`[strategies.NAME]` with `use = "magic"`; one of `command`, `url` and `smtp.host` is set."""

    command: tuple[str, ...] = setting(
        "command",
        texts(1),
        (),
        "Program that delivers letters, and its arguments; JSON on its standard input.",
    )
    url: str = setting(
        "url", text(), "", "Service that is sent the same in a POST, to deliver it.", secret=True
    )
    smtp: SmtpSettings = table("smtp", SmtpSettings)
    timeout_ms: Milliseconds = setting(
        "timeout", duration(100), 10_000, "How long a delivery may take."
    )
    link_url: str = setting(
        "linkUrl",
        text(),
        "",
        "Page of yours that logs in with the `state` and `code` of its query; letters link to it.",
    )
    digits: int = setting("digits", whole(6, 12), 6, "Length of a code.")
    most_codes: int = setting(
        "mostCodes",
        whole(1, 1000),
        5,
        "Letters to one address, as many by one user who adds addresses, and ten times as many for "
        "one client, before the next must wait.",
    )
    is_portable: bool = setting(
        "portable", YES_NO, False, "Take a code from clients that keep no cookies, too."
    )
