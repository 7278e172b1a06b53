"""Every setting, once: name, kind, default and meaning.

Names are the reference's where it has the setting (contract/08). Attributes are the names in snake
case; durations end in `_ms`, sizes in `_bytes`. Reading and writing is in `server.configtree`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from server.auth.policies import read_policies
from server.configtree import (
    ConfigError,
    fill,
    merge,
    read_environment,
    read_file,
    read_overrides,
    write_toml,
)
from server.counting import MOST_FRAMES
from server.durations import DAY_MS
from server.ignored import IGNORED
from server.settings import (
    NAMED_TABLES,
    NETWORKS,
    TABLES,
    YES_NO,
    Milliseconds,
    choice,
    duration,
    matching,
    secret_text,
    setting,
    size,
    table,
    text,
    texts,
    whole,
)

LEAST_SECRET_BYTES = 32
_MEBIBYTE = 2**20
_METHODS = "GET,POST,PUT,PATCH,DELETE,OPTIONS,HEAD"
_HEADERS = (
    "Content-Type, Access-Control-Allow-Headers, Authorization, X-Requested-With, "
    "Content-Encoding, Content-Length, X-Kuzzle-Volatile"
)


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
        "How long a refreshed token stays usable.",
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


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """`[security.passwords]`"""

    cost: int = setting("cost", whole(4, 16), 12, "Cost of bcrypt: one more doubles the work.")
    threads: int = setting("threads", whole(0, 256), 0, "Threads that hash; 0 for one per core.")
    queue: int = setting(
        "queue", whole(1, 100_000), 64, "Passwords that may wait; beyond it the answer is 503."
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
class Security:
    """`[security]`"""

    restricted_profile_ids: tuple[str, ...] = setting(
        "restrictedProfileIds", texts(1), ("default",), "Profiles of users who register themselves."
    )
    strict: bool = setting(
        "strict",
        YES_NO,
        False,
        "Refuse short, common and breached passwords, ask for the old one, warn of weak settings.",
    )
    auth_token: AuthToken = table("authToken", AuthToken)
    api_key: ApiKey = table("apiKey", ApiKey)
    passwords: PasswordSettings = table("passwords", PasswordSettings)
    audit: Audit = table("audit", Audit)


@dataclass(frozen=True, slots=True)
class HttpProtocol:
    """`[server.protocols.http]`"""

    allow_compression: bool = setting("allowCompression", YES_NO, True, "Read compressed bodies.")
    max_encoding_layers: int = setting(
        "maxEncodingLayers", whole(1, 10), 3, "Layers of Content-Encoding a body may have."
    )
    max_form_file_size_bytes: int = setting(
        "maxFormFileSize", size(), _MEBIBYTE, "Largest file in a form."
    )
    additional_content_types: tuple[str, ...] = setting(
        "additionalContentTypes", texts(), (), "Further types of content read as JSON."
    )
    max_header_size_bytes: int = setting(
        "maxHeaderSize", size(1024, _MEBIBYTE), 16_384, "Largest head of a request."
    )
    max_headers: int = setting("maxHeaders", whole(1, 10_000), 100, "Most fields in a head.")
    max_url_length: int = setting(
        "maxUrlLength", whole(64, _MEBIBYTE), 8192, "Longest path with its query, in bytes."
    )


@dataclass(frozen=True, slots=True)
class WebSocketProtocol:
    """`[server.protocols.websocket]`"""

    enabled: bool = setting("enabled", YES_NO, True, "Speak WebSocket too.")
    idle_timeout_ms: Milliseconds = setting(
        "idleTimeout", duration(1000), 60_000, "A socket that says nothing for so long is closed."
    )
    rate_limit: int = setting(
        "rateLimit", whole(0, 1_000_000), 0, "Messages a second on one socket; 0 for no limit."
    )
    control_rate_limit: int = setting(
        "controlRateLimit",
        whole(0, 1_000_000),
        100,
        "Pings and pongs a second on one socket, beyond which it is closed; 0 for no limit.",
    )
    send_pings_automatically: bool = setting(
        "sendPingsAutomatically",
        YES_NO,
        False,
        "Ping a socket that said nothing for half of `idleTimeout`.",
    )
    reset_idle_timeout_on_send: bool = setting(
        "resetIdleTimeoutOnSend",
        YES_NO,
        False,
        "What is sent to a socket unasked counts for `idleTimeout` like what it says.",
    )
    max_unsent_bytes: int = setting(
        "maxUnsent",
        size(),
        _MEBIBYTE,
        "Notifications that may wait for a socket that takes none; beyond it, it is dropped.",
    )
    compression: bool = setting("compression", YES_NO, False, "Compress messages (RFC 7692).")
    max_ratio: int = setting(
        "maxRatio",
        whole(1, 1100),
        100,
        "How many times its compressed size a message may have, beyond 64 KiB.",
    )
    max_frames: int = setting(
        "maxFrames", whole(1, 1_000_000), 1024, "Frames one message may be cut into."
    )


@dataclass(frozen=True, slots=True)
class Protocols:
    """`[server.protocols]`"""

    http: HttpProtocol = table("http", HttpProtocol)
    websocket: WebSocketProtocol = table("websocket", WebSocketProtocol)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """`[server.tls]`"""

    cert: str = setting(
        "cert", text(), "", "File with the certificate and its chain, in PEM; turns TLS on."
    )
    key: str = setting("key", text(), "", "File with its key, unless that is in `cert` too.")
    min_version: str = setting("minVersion", choice("1.2", "1.3"), "1.2", "Oldest TLS spoken.")


@dataclass(frozen=True, slots=True)
class Server:
    """`[server]`"""

    host: str = setting("host", text(1), "127.0.0.1", "Address to listen on.")
    port: int = setting("port", whole(0, 65_535), 7512, "Port to listen on; 0 picks a free one.")
    uds: str = setting("uds", text(), "", "Unix socket to listen on instead of a port.")
    fd: int = setting(
        "fd", whole(-1, 65_535), -1, "Open socket to listen on instead; -1 for systemd's, if any."
    )
    tls: TlsSettings = table("tls", TlsSettings)
    node: str = setting("node", text(1, 128), "manykeys", "Name sent as `node` in every answer.")
    data: str = setting(
        "data",
        matching(r"[^\x00-\x1f]{1,4096}", "the name of a file, or :memory:"),
        "manykeys.db",
        "The database; `:memory:` keeps nothing.",
    )
    max_request_size_bytes: int = setting(
        "maxRequestSize", size(1024), _MEBIBYTE, "Largest HTTP body and WebSocket message."
    )
    strict_sdk_version: bool = setting(
        "strictSdkVersion", YES_NO, True, "Refuse clients too old for this API."
    )
    trusted_proxies: tuple[str, ...] = setting(
        "trustedProxies", NETWORKS, (), "Whose X-Forwarded-For, -Host and -Proto are believed."
    )
    proxy_protocol: bool = setting(
        "proxyProtocol",
        YES_NO,
        False,
        "Begin each connection with a PROXY header; only trusted proxies may connect then.",
    )
    protocols: Protocols = table("protocols", Protocols)


@dataclass(frozen=True, slots=True)
class Http:
    """`[http]`"""

    access_control_allow_origin: tuple[str, ...] = setting(
        "accessControlAllowOrigin",
        texts(),
        ("*",),
        "Origins whose pages may call; * for all, but only those named here may use the cookie.",
    )
    access_control_allow_origin_use_reg_exp: bool = setting(
        "accessControlAllowOriginUseRegExp",
        YES_NO,
        False,
        "Read the origins as regular expressions.",
    )
    strict_transport_security_ms: Milliseconds = setting(
        "strictTransportSecurity",
        duration(),
        0,
        "How long browsers must use TLS only (RFC 6797); 0 says nothing. Needs `server.tls`.",
    )
    access_control_allow_methods: str = setting(
        "accessControlAllowMethods", text(), _METHODS, "Sent to browsers as it is."
    )
    access_control_allow_headers: str = setting(
        "accessControlAllowHeaders", text(), _HEADERS, "Sent to browsers as it is."
    )
    cookie_authentication: bool = setting(
        "cookieAuthentication", YES_NO, True, "Let browsers keep the token in a cookie."
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """`[limits]`"""

    logins_per_second: int = setting(
        "loginsPerSecond", whole(0, 1_000_000), 0, "Logins a second on one connection; 0 for all."
    )
    failed_logins: int = setting(
        "failedLogins",
        whole(0, 1000),
        10,
        "Failed logins of an account, and ten times as many of an address, before the next ones "
        "must wait; 0 for no limit. A proxy in front belongs into `server.trustedProxies`.",
    )
    documents_fetch_count: int = setting(
        "documentsFetchCount", whole(1, 1_000_000), 10_000, "Items one search may give."
    )
    documents_write_count: int = setting(
        "documentsWriteCount", whole(1, 1_000_000), 200, "Items one request may change."
    )
    live_sessions: int = setting(
        "liveSessions", whole(1, 100_000_000), 100_000, "Sessions kept in memory for speed."
    )
    pipelined: int = setting(
        "pipelined", whole(1, 10_000), 64, "Requests of one connection in progress at a time."
    )
    connections: int = setting(
        "connections", whole(1, 1_000_000), 20_000, "Open connections; further ones are closed."
    )
    in_flight: int = setting(
        "inFlight",
        whole(1, 1_000_000),
        10_000,
        "Requests in progress; beyond it the answer is 503.",
    )


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`[timeouts]`"""

    head_ms: Milliseconds = setting("head", duration(100), 10_000, "To send a request's head.")
    body_ms: Milliseconds = setting("body", duration(100), 30_000, "To send a request's body.")
    idle_ms: Milliseconds = setting(
        "idle", duration(100), 60_000, "Between two requests of a connection."
    )
    write_ms: Milliseconds = setting("write", duration(100), 30_000, "To take an answer.")
    grace_ms: Milliseconds = setting(
        "grace", duration(), 10_000, "To finish requests when the server is told to stop."
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`[logs]`"""

    format: str = setting("format", choice("plain", "json"), "plain", "How a log line looks.")
    level: str = setting(
        "level", choice("debug", "info", "warning", "error"), "info", "The least that is logged."
    )
    requests: str = setting(
        "requests",
        choice("none", "notable", "all"),
        "notable",
        "Requests to log; notable are logins, changes, refusals and failures.",
    )
    audit: bool = setting(
        "audit", YES_NO, False, "Log each event of the audit trail too, as manykeys.audit."
    )


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


@dataclass(frozen=True, slots=True)
class ScrollDefaults:
    """`[services.storageEngine.defaults]`"""

    scroll_ttl_ms: Milliseconds = setting(
        "scrollTTL", duration(1), 15_000, "Life of a search that can be continued."
    )


@dataclass(frozen=True, slots=True)
class StorageEngine:
    """`[services.storageEngine]`"""

    max_scroll_duration_ms: Milliseconds = setting(
        "maxScrollDuration", duration(1), 60_000, "Longest such life a client may ask for."
    )
    defaults: ScrollDefaults = table("defaults", ScrollDefaults)


@dataclass(frozen=True, slots=True)
class StorageServices:
    """`[services]`"""

    storage_engine: StorageEngine = table("storageEngine", StorageEngine)


@dataclass(frozen=True, slots=True)
class Statistics:
    """`[stats]`"""

    enabled: bool = setting("enabled", YES_NO, True, "Keep frames of statistics.")
    stats_interval_s: int = setting(
        "statsInterval", whole(1, 86_400), 10, "Length of a frame, in s."
    )
    ttl_s: int = setting(
        "ttl",
        whole(1, 2_592_000),
        3600,
        f"How long frames are kept, in s; {MOST_FRAMES} of them at most.",
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a server. `ignored` names the given keys that have no effect here."""

    server: Server = table("server", Server)
    security: Security = table("security", Security)
    http: Http = table("http", Http)
    limits: Limits = table("limits", Limits)
    timeouts: Timeouts = table("timeouts", Timeouts)
    logs: LogSettings = table("logs", LogSettings)
    plugins: Plugins = table("plugins", Plugins)
    services: StorageServices = table("services", StorageServices)
    stats: Statistics = table("stats", Statistics)
    strategies: dict[str, dict[str, object]] = setting(
        "strategies",
        NAMED_TABLES,
        {},
        "One table for each further strategy: `use`, and what that strategy asks for.",
        secret=True,
    )
    ignored: tuple[str, ...] = ()


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Give the settings: defaults under the file, under the environment, under the overrides.

    Overrides are values by full name, like `server.port`. ConfigError names what is wrong.
    """
    tree = merge(read_file(file) if file else {}, read_environment(environment or {}))
    tree = merge(tree, read_overrides(overrides or {}))
    config, ignored = fill(Config, tree, IGNORED)
    config = replace(config, ignored=ignored)
    _check_origins(config.http)
    if config.server.proxy_protocol and not config.server.trusted_proxies:
        raise ConfigError("server.proxyProtocol: needs server.trustedProxies")
    read_policies(config.plugins.local.password_policies)
    return config


def dump(config: Config) -> str:
    """Give the settings as TOML, secrets left out."""
    return write_toml(config)


def _check_origins(http: Http) -> None:
    uses_patterns = http.access_control_allow_origin_use_reg_exp
    try:
        for pattern in http.access_control_allow_origin if uses_patterns else ():
            re.compile(pattern if pattern != "*" else "")
    except re.error as reason:
        name = "http.accessControlAllowOrigin"
        raise ConfigError(f"{name}: not a regular expression: {reason}") from None
