"""Settings of the kind `totp`, apart from what needs its extra."""

from dataclasses import dataclass

from server.settings import YES_NO, secret_text, setting, text, whole


@dataclass(frozen=True, slots=True)
class TotpSettings:
    """`[strategies.NAME]` with `use = "totp"`."""

    issuer: str = setting(
        "issuer", text(1, 64), "manykeys", "Name of this service in the user's application."
    )
    digits: int = setting("digits", whole(6, 8), 6, "Length of a code, for who enrols from now on.")
    period_s: int = setting(
        "period", whole(15, 120), 30, "Seconds until the next code, for who enrols from now on."
    )
    key: str | None = setting(
        "key",
        secret_text(32),
        None,
        "Encrypts the seeds. Without it one is made and kept in the database.",
        secret=True,
    )
    is_portable: bool = setting(
        "portable", YES_NO, False, "Let clients enrol that keep no cookies, too."
    )
