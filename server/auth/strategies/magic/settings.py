"""Settings of the kind `magic`: login codes and magic links by email."""

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
_MAX_CHARACTERS = 10_000


def _prose(accepted: str, *, allowing: str = "") -> Kind[str]:
    """Accept text for people, without control characters other than those in `allowing`."""

    def read(value: object) -> str | None:
        if not isinstance(value, str) or len(value) > _MAX_CHARACTERS:
            return None
        is_clean = not any(one not in allowing for one in _CONTROL.findall(value))
        return value if is_clean else None

    return Kind(accepted, read)


_LINE = _prose("one line of text")
_TEXT = _prose(f"a string of at most {_MAX_CHARACTERS} characters", allowing="\n")


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """`[strategies.NAME.smtp]`"""

    host: str = setting("host", text(0, 253), "", "Mail server that sends the emails.")
    port: int = setting(
        "port", whole(0, 65535), 0, "0: 587 with starttls, 465 with tls, 25 without either."
    )
    tls: str = setting(
        "tls",
        choice("starttls", "tls", "none"),
        "starttls",
        "How the connection is encrypted; the certificate must be valid for `host`.",
    )
    username: str = setting(
        "username", text(), "", "Username for the mail server; no login if empty."
    )
    password: str | None = setting(
        "password", secret_text(1), None, "Password for the mail server.", secret=True
    )
    sender: str = setting("from", _LINE, "", "Sender of the emails, like `Acme <login@acme.test>`.")
    subject: str = setting(
        "subject",
        _LINE,
        "Your login code",
        "Subject of a login email; {code} and {minutes} are optional.",
    )
    text: str = setting(
        "text", _TEXT, "", "Body, with {code}, {link}, {minutes}; an English default if empty."
    )
    proof_subject: str = setting(
        "proofSubject",
        _LINE,
        "Confirm your address",
        "Subject of the email that confirms an address a user adds.",
    )
    proof_text: str = setting(
        "proofText", _TEXT, "", "Its body, with {code}, {minutes}; an English default if empty."
    )


@dataclass(frozen=True, slots=True)
class MagicSettings:
    """`[strategies.NAME]` with `use = "magic"`; exactly one of `command`, `url` and `smtp.host`
    must be set."""

    command: tuple[str, ...] = setting(
        "command",
        texts(1),
        (),
        "Command that sends email, and its arguments; it reads JSON on its standard input.",
    )
    url: str = setting(
        "url",
        text(),
        "",
        "Webhook that sends email; it receives the same JSON in a POST.",
        secret=True,
    )
    smtp: SmtpSettings = table("smtp", SmtpSettings)
    timeout_ms: Milliseconds = setting("timeout", duration(100), 10_000, "Timeout of a delivery.")
    link_url: str = setting(
        "linkUrl",
        text(),
        "",
        "URL of your page that logs in with `state` and `code` of its query; emails link to it.",
    )
    digits: int = setting("digits", whole(6, 12), 6, "Length of a code.")
    most_codes: int = setting(
        "mostCodes",
        whole(1, 1000),
        5,
        "Maximum number of emails before the next one is delayed: per address, per user who adds "
        "addresses, and ten times as many per client.",
    )
    is_portable: bool = setting(
        "portable", YES_NO, False, "Also accept codes from clients without cookies."
    )
