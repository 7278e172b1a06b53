"""Settings of the kind `totp`; importable without its extra."""

from dataclasses import dataclass

from server.core.settings import YES_NO, secret_texts, setting, text, whole


@dataclass(frozen=True, slots=True)
class TotpSettings:
    """`[strategies.NAME]` with `use = "totp"`."""

    issuer: str = setting(
        "issuer", text(1, 64), "manykeys", "Name of this service in the authenticator app."
    )
    digits: int = setting("digits", whole(6, 8), 6, "Length of a code, for new enrollments.")
    period_s: int = setting(
        "period", whole(15, 120), 30, "Seconds until the next code, for new enrollments."
    )
    keys: tuple[str, ...] = setting(
        "key",
        secret_texts(32),
        (),
        "Key that encrypts the secrets; of several keys the first encrypts, and all decrypt. "
        "Without one, a key is generated and stored in the database.",
        secret=True,
    )
    opens_stored: bool = setting(
        "storedKey",
        YES_NO,
        False,
        "Also decrypt with the key in the database, after `key` was set.",
    )
    is_portable: bool = setting(
        "portable", YES_NO, False, "Also allow clients without cookies to enroll."
    )
