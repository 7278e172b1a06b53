"""Settings of the kind `totp`, apart from what needs its extra."""

from dataclasses import dataclass

from server.core.settings import YES_NO, secret_texts, setting, text, whole


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
    keys: tuple[str, ...] = setting(
        "key",
        secret_texts(32),
        (),
        "Encrypts the seeds; of several the first, while all decrypt. Without it one is made and "
        "kept in the database.",
        secret=True,
    )
    opens_stored: bool = setting(
        "storedKey",
        YES_NO,
        False,
        "Decrypt with the key in the database, too, after a key of one's own was configured.",
    )
    is_portable: bool = setting(
        "portable", YES_NO, False, "Let clients enrol that keep no cookies, too."
    )
