"""Security settings: tokens, API keys, passwords, audit log, MFA and the strategy `local`."""

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
        "Signature algorithm of session tokens.",
    )
    secret: str | None = setting(
        "secret",
        secret_text(LEAST_SECRET_BYTES),
        None,
        "Signing secret of tokens. If not set, a key is generated at the first start and stored in "
        "the database.",
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
        "Prefix of session tokens; `kauth-` is the form of newer Kuzzle versions.",
    )
    expires_in_ms: Milliseconds = setting(
        "expiresIn", duration(1, unlimited=True), 3_600_000, "Lifetime of a session token."
    )
    max_ttl_ms: Milliseconds = setting(
        "maxTTL",
        duration(unlimited=True),
        -1,
        "Maximum token lifetime a login may request; 0 forbids all.",
    )
    grace_period_ms: Milliseconds = setting(
        "gracePeriod",
        duration(),
        1000,
        "How long a refreshed token stays valid. Later it is rejected with 401; only a further "
        "auth:refreshToken with it, as by a second client that shares it, then revokes the whole "
        "session.",
        also="security.jwt.gracePeriod",
    )
    max_age_ms: Milliseconds = setting(
        "maxAge", duration(1, unlimited=True), -1, "Maximum session lifetime over all refreshes."
    )
    idle_ms: Milliseconds = setting(
        "idle",
        duration(300_000, unlimited=True),  # the store hears of a use a minute or two late
        -1,
        "Session idle timeout.",
    )
    max_sessions: int = setting(
        "maxSessions",
        whole(0, 500),
        0,
        "Maximum sessions per user; a further login revokes the oldest one. 0 for no limit.",
    )
    warn_before_ms: Milliseconds = setting(
        "warnBefore",
        duration(),
        0,
        "How long before its token expires a WebSocket is notified; 0 to disable.",
    )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`[security.apiKey]`"""

    max_ttl_ms: Milliseconds = setting(
        "maxTTL",
        duration(unlimited=True),
        -1,
        "Maximum lifetime of an API key that users create for themselves.",
    )
    credential_changes: str = setting(
        "credentialChanges",
        choice("none", "others", "all"),
        "none",
        "Whose authentication methods API keys may change where a user needs a recent login:"
        " those of other users (`others`), or also their own user's (`all`). See"
        " docs/strategies/totp.md.",
    )


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """`[security.passwords]`"""

    cost: int = setting("cost", whole(4, 16), 12, "bcrypt cost factor: each step doubles the work.")
    threads: int = setting(
        "threads", whole(0, 256), 0, "Password hashing threads; 0 for one per usable core."
    )
    queue: int = setting(
        "queue",
        whole(1, 10_000),
        128,
        "Password hashing queue length, at most half of it for one account or address; beyond it"
        " the response is 503.",
    )
    min_length: int = setting(
        "minLength",
        whole(0, 256),
        0,
        "Minimum password length; at least 8 with security.strict.",
    )
    forbid_common: bool = setting(
        "forbidCommon",
        YES_NO,
        False,
        "Reject common passwords; always with security.strict.",
    )
    forbid_context: bool = setting(
        "forbidContext",
        YES_NO,
        False,
        "Reject new passwords that contain the name of the user or of this server.",
    )
    breach_url: str = setting(
        "breachUrl",
        matching(r"(?:https?://[!-~]+/)?", "a URL that ends in /, or an empty string"),
        "",
        "Breached password service: new passwords whose SHA-1 it lists are rejected. Only the first"
        " five digits of the hash are sent.",
    )
    breach_file: str = setting(
        "breachFile",
        matching(r"[^\x00-\x1f]{0,4096}", "a file name, or an empty string"),
        "",
        "Breached password file: sorted lines `SHA-1:count`. Used instead of the service.",
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """`[security.audit]`"""

    enabled: bool = setting(
        "enabled", YES_NO, True, "Record logins, refusals and changes in the audit log."
    )
    retention_ms: Milliseconds = setting(
        "retention", duration(1000, unlimited=True), 90 * DAY_MS, "How long audit events are kept."
    )
    max_events: int = setting(
        "maxEvents",
        whole(1000, 100_000_000),
        500_000,
        "Maximum number of audit events, some 600 bytes each; beyond it the oldest of the most"
        " frequent kind are deleted.",
    )


@dataclass(frozen=True, slots=True)
class Mfa:
    """`[security.mfa]`"""

    required_for: object = setting(
        "requiredFor",
        WHOM,
        "nobody",
        "Users for whom a second factor is required. Users who have one are always asked for it.",
    )
    factors: tuple[str, ...] = setting(
        "factors",
        texts(),
        ("totp",),
        "Names of the configured strategies that are second factors.",
    )
    exempt: tuple[str, ...] = setting(
        "exempt",
        texts(),
        (),
        "Strategies after which no second factor is required: they are two factors already.",
    )
    recent_login_ms: Milliseconds | None = setting(
        "recentLogin",
        unset_or(duration(1000)),
        None,
        "How long after a login its session may change authentication methods. If not set: 15m"
        " for second factors, and with security.strict for every authentication method.",
    )
    api_keys: str = setting(
        "apiKeys",
        choice("require", "exempt"),
        "require",
        "Whether users who need a second factor need it to create API keys (`require`).",
    )
    portable: bool = setting(
        "portable", YES_NO, False, "Accept a second factor from clients without cookies too."
    )


@dataclass(frozen=True, slots=True)
class Notify:
    """`[security.notify]`"""

    command: tuple[str, ...] = setting(
        "command",
        texts(),
        (),
        "Command run on security events (changed credentials, attacks); gets JSON on standard"
        " input.",
    )
    url: str = setting("url", text(), "", "Webhook URL: gets the same JSON by POST.", secret=True)
    timeout_ms: Milliseconds = setting(
        "timeout", duration(100), 10_000, "Timeout of the command or the webhook."
    )


@dataclass(frozen=True, slots=True)
class Security:
    """`[security]`"""

    restricted_profile_ids: tuple[str, ...] = setting(
        "restrictedProfileIds", texts(1), ("default",), "Profiles of users who sign up themselves."
    )
    strict: bool = setting(
        "strict",
        YES_NO,
        False,
        "Strict mode: reject short, common and breached passwords, require the current password"
        " and a recent login for changes, warn about weak settings.",
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
        "requirePassword", YES_NO, False, "Require the current password to change it."
    )
    password_policies: tuple[dict[str, object], ...] = setting(
        "passwordPolicies",
        TABLES,
        (),
        "Password rules, each for some users; see docs/strategies/local.md.",
    )
    reset_password_expires_in_ms: Milliseconds = setting(
        "resetPasswordExpiresIn",
        duration(1, unlimited=True),
        -1,
        "Lifetime of a password reset token; with security.strict 1h if not set.",
    )


@dataclass(frozen=True, slots=True)
class Plugins:
    """`[plugins]`"""

    local: LocalStrategy = table("kuzzle-plugin-auth-passport-local", LocalStrategy)
