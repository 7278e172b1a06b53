"""Settings about who gets in: tokens, keys, passwords, the audit trail, the strategy `local`."""

from dataclasses import dataclass

from server.auth.passwords.policies import WHOM
from server.core.durations import DAY_MS
from server.core.settings import (
    TABLES,
    YES_NO,
    Milliseconds,
    choice,
    duration,
    matching,
    secret_text,
    setting,
    table,
    text,
    texts,
    unset_or,
    whole,
)

LEAST_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class AuthToken:
    """`[security.authToken]`"""

    algorithm: str = setting(
        "algorithm",
        choice("HS256", "HS384", "HS512", "ES256", "RS256", "EdDSA"),
        "HS256",
        "How session tokens are signed.",
    )
    secret: str | None = setting(
        "secret",
        secret_text(LEAST_SECRET_BYTES),
        None,
        "Signs tokens. Without it one is made at the first start and kept in the database.",
        secret=True,
        also="security.jwt.secret",
    )
    issuer: str = setting(
        "issuer",
        text(),
        "",
        "Claim `iss` of tokens; those without it are refused. Empty for no such claim.",
    )
    audience: str = setting(
        "audience",
        text(),
        "",
        "Claim `aud` of tokens; those without it are refused. Empty for no such claim.",
    )
    prefix: str = setting(
        "prefix",
        matching(r"[A-Za-z0-9_-]{0,32}", "letters, digits, _ and -"),
        "",
        "Put in front of session tokens; kauth- gives the reference's newer form.",
    )
    expires_in_ms: Milliseconds = setting(
        "expiresIn", duration(1, unlimited=True), 3_600_000, "Life of a session token."
    )
    max_ttl_ms: Milliseconds = setting(
        "maxTTL", duration(unlimited=True), -1, "Longest life a login may ask for; 0 forbids all."
    )
    grace_period_ms: Milliseconds = setting(
        "gracePeriod",
        duration(),
        1000,
        "How long a refreshed token stays usable. Later it is refused with 401; only a "
        "further auth:refreshToken with it, as by a second client that shares it, then ends the "
        "whole session.",
        also="security.jwt.gracePeriod",
    )
    max_age_ms: Milliseconds = setting(
        "maxAge", duration(1, unlimited=True), -1, "Longest life of a session over all refreshes."
    )
    idle_ms: Milliseconds = setting(
        "idle",
        duration(300_000, unlimited=True),  # the store hears of a use a minute or two late
        -1,
        "Life of a session nobody uses.",
    )
    max_sessions: int = setting(
        "maxSessions",
        whole(0, 500),
        0,
        "Sessions of one user; a further login ends his oldest one. 0 for any number.",
    )
    warn_before_ms: Milliseconds = setting(
        "warnBefore", duration(), 0, "How long before its end a socket is told of it; 0 for not."
    )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`[security.apiKey]`"""

    max_ttl_ms: Milliseconds = setting(
        "maxTTL", duration(unlimited=True), -1, "Longest life of an API key made by its own user."
    )
    credential_changes: str = setting(
        "credentialChanges",
        choice("none", "others", "all"),
        "none",
        "Whose authentication methods API keys may change where a user needs a recent login:"
        " those of other users, or also of their own one. See docs/strategies/totp.md.",
    )


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """`[security.passwords]`"""

    cost: int = setting("cost", whole(4, 16), 12, "Cost of bcrypt: one more doubles the work.")
    threads: int = setting(
        "threads", whole(0, 256), 0, "Threads that hash; 0 for one per usable core."
    )
    queue: int = setting(
        "queue",
        whole(1, 10_000),
        128,
        "Passwords that may wait, half of them of one account or address; beyond it: 503.",
    )
    min_length: int = setting(
        "minLength",
        whole(0, 256),
        0,
        "Fewest characters of a new password; at least 8 with security.strict.",
    )
    forbid_common: bool = setting(
        "forbidCommon",
        YES_NO,
        False,
        "Refuse new passwords that many people use; always with security.strict.",
    )
    forbid_context: bool = setting(
        "forbidContext",
        YES_NO,
        False,
        "Refuse new passwords that contain the name of the user or of this server.",
    )
    breach_url: str = setting(
        "breachUrl",
        matching(r"(?:https?://[!-~]+/)?", "a URL that ends in /, or nothing"),
        "",
        "Refuse new passwords whose SHA-1 this service knows; it is sent the first five digits.",
    )
    breach_file: str = setting(
        "breachFile",
        matching(r"[^\x00-\x1f]{0,4096}", "the name of a file, or nothing"),
        "",
        "The same out of a sorted file of lines `SHA-1:count`, which wins over the service.",
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """`[security.audit]`"""

    enabled: bool = setting(
        "enabled", YES_NO, True, "Keep who logged in, was refused, or changed what, from where."
    )
    retention_ms: Milliseconds = setting(
        "retention", duration(1000, unlimited=True), 90 * DAY_MS, "How long it is kept."
    )
    max_events: int = setting(
        "maxEvents",
        whole(1000, 100_000_000),
        500_000,
        "Most events kept, some 600 bytes each; the most frequent kind gives way.",
    )


@dataclass(frozen=True, slots=True)
class Mfa:
    """`[security.mfa]`"""

    required_for: object = setting(
        "requiredFor",
        WHOM,
        "nobody",
        "Who must have a second factor. Who has one is asked for it in any case.",
    )
    factors: tuple[str, ...] = setting(
        "factors",
        texts(),
        ("totp",),
        "Names of the strategies that are second factors, where there are such strategies.",
    )
    exempt: tuple[str, ...] = setting(
        "exempt",
        texts(),
        (),
        "Strategies after which none is asked for: they are two factors already.",
    )
    recent_login_ms: Milliseconds | None = setting(
        "recentLogin",
        unset_or(duration(1000)),
        None,
        "How long after a login its session may change how users log in. If it is not set: 15m,"
        " for second factors, and with security.strict for every authentication method.",
    )
    api_keys: str = setting(
        "apiKeys",
        choice("require", "exempt"),
        "require",
        "Whether who must give a second factor has to have given it to make an API key.",
    )
    portable: bool = setting(
        "portable", YES_NO, False, "Take a second factor from clients that keep no cookies, too."
    )


@dataclass(frozen=True, slots=True)
class Notify:
    """`[security.notify]`"""

    command: tuple[str, ...] = setting(
        "command",
        texts(),
        (),
        "Program that hears of changed credentials and of attacks; JSON on its standard input.",
    )
    url: str = setting("url", text(), "", "Service that is sent the same in a POST.", secret=True)
    timeout_ms: Milliseconds = setting(
        "timeout", duration(100), 10_000, "How long the program or the service may take."
    )


@dataclass(frozen=True, slots=True)
class Security:
    """`[security]`"""

    restricted_profile_ids: tuple[str, ...] = setting(
        "restrictedProfileIds", texts(1), ("default",), "Profiles of users who register themselves."
    )
    strict: bool = setting(
        "strict",
        YES_NO,
        False,
        "Refuse short, common and breached passwords, ask for the old one and for a recent login,"
        " warn of weak settings.",
    )
    auth_token: AuthToken = table("authToken", AuthToken)
    api_key: ApiKey = table("apiKey", ApiKey)
    passwords: PasswordSettings = table("passwords", PasswordSettings)
    audit: Audit = table("audit", Audit)
    mfa: Mfa = table("mfa", Mfa)
    notify: Notify = table("notify", Notify)


@dataclass(frozen=True, slots=True)
class LocalStrategy:
    """`[plugins.kuzzle-plugin-auth-passport-local]`"""

    require_password: bool = setting(
        "requirePassword", YES_NO, False, "Ask for the old password before it is changed."
    )
    password_policies: tuple[dict[str, object], ...] = setting(
        "passwordPolicies",
        TABLES,
        (),
        "Rules for passwords, each for some users (contract of the API).",
    )
    reset_password_expires_in_ms: Milliseconds = setting(
        "resetPasswordExpiresIn",
        duration(1, unlimited=True),
        -1,
        "Life of a reset token; with security.strict an hour where none is given.",
    )


@dataclass(frozen=True, slots=True)
class Plugins:
    """`[plugins]`"""

    local: LocalStrategy = table("kuzzle-plugin-auth-passport-local", LocalStrategy)
