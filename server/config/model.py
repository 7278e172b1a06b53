"""Configuration model: every setting with its name, type, default and description.

Names are Kuzzle's where Kuzzle has the setting. Attributes are the names in snake
case; durations end in `_ms`, sizes in `_bytes`. Parsing and formatting is in
`server.core.config_file`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from protocol.http11.body import JSON_VALUES
from server.auth.passwords.policies import read_policies
from server.config.ignored import IGNORED
from server.config.security import Plugins, Security
from server.config.server import Http, Server
from server.core.config_file import (
    FILE,
    ConfigError,
    fill,
    leaves,
    merge,
    read_environment,
    read_file,
    read_overrides,
    value_at,
    write_toml,
)
from server.core.settings import (
    NAMED_TABLES,
    YES_NO,
    Milliseconds,
    choice,
    duration,
    setting,
    size,
    table,
    whole,
)
from server.messaging.delivery import read_url

MOST_FRAMES = 3600
"""Maximum number of statistics frames kept, whatever is configured: about 2 MB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`[limits]`"""

    logins_per_second: int = setting(
        "loginsPerSecond",
        whole(0, 1_000_000),
        0,
        "Maximum logins per second on one connection; 0 for no limit.",
    )
    failed_logins: int = setting(
        "failedLogins",
        whole(0, 1000),
        10,
        "Failed logins of an account from one address or known device, and ten times as many of an "
        "account or of an address in total, before further attempts must wait; 0 for no limit. "
        "Behind a proxy, list it in `server.trustedProxies`.",
    )
    anonymous_writes: int = setting(
        "anonymousWrites",
        whole(0, 1_000_000),
        300,
        "Login steps started and users registered by unauthenticated clients of one address per "
        "minute, before further ones must wait; 0 for no limit.",
    )
    documents_fetch_count: int = setting(
        "documentsFetchCount", whole(1, 1_000_000), 10_000, "Maximum items in one response."
    )
    documents_write_count: int = setting(
        "documentsWriteCount", whole(1, 1_000_000), 200, "Maximum items one request may change."
    )
    live_sessions: int = setting(
        "liveSessions",
        whole(1, 100_000_000),
        100_000,
        "Sessions cached in memory, 7 to 8 KB each.",
    )
    pipelined: int = setting(
        "pipelined", whole(1, 10_000), 64, "Maximum concurrent requests of one connection."
    )
    connections: int = setting(
        "connections",
        whole(1, 1_000_000),
        20_000,
        "Maximum open connections; further ones are closed.",
    )
    connections_per_address: int = setting(
        "connectionsPerAddress",
        whole(0, 1_000_000),
        0,
        "Maximum open connections of one client address (IPv6: of one /64); 0 for a quarter of "
        "`connections`. Loopback, Unix sockets and trusted proxies have no such limit; WebSockets "
        "behind a trusted proxy count for the client it names.",
    )
    unfinished_size_bytes: int = setting(
        "unfinishedSize",
        size(1024 * 1024, 2**40),
        256 * 1024 * 1024,
        "Maximum bytes of unanswered requests and messages, complete or not, of all connections; a "
        "client address may use at most a quarter. Beyond it the response is 503, or a WebSocket "
        "close with 1013, but never for bodies up to 16 KiB.",
    )
    unsent_size_bytes: int = setting(
        "unsentSize",
        size(1024 * 1024, 2**40),
        256 * 1024 * 1024,
        "Maximum bytes of unsent responses of all connections; a client address may use at most a "
        "quarter. Beyond it the connections that have waited longest are disconnected.",
    )
    unsent_size_per_connection_bytes: int = setting(
        "unsentSizePerConnection",
        size(1024),
        64 * 1024,
        "Maximum bytes of unsent responses of one connection before its next requests are run.",
    )
    in_flight: int = setting(
        "inFlight",
        whole(1, 1_000_000),
        10_000,
        "Maximum concurrent requests; beyond it the response is 503.",
    )
    json_values: int = setting(
        "jsonValues",
        whole(100, 100_000_000),
        JSON_VALUES,
        "Maximum number of brackets, braces and commas in the JSON of one request.",
    )


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`[timeouts]`"""

    head_ms: Milliseconds = setting(
        "head", duration(100), 10_000, "Header read timeout, and TLS handshake timeout."
    )
    body_ms: Milliseconds = setting("body", duration(100), 30_000, "Body read timeout.")
    idle_ms: Milliseconds = setting(
        "idle", duration(100), 60_000, "Keep-alive timeout between two requests of a connection."
    )
    write_ms: Milliseconds = setting("write", duration(100), 30_000, "Write timeout.")
    strategy_ms: Milliseconds = setting(
        "strategy", duration(100), 30_000, "Timeout of a third-party strategy."
    )
    login_ms: Milliseconds = setting(
        "login", duration(1000), 600_000, "Timeout between two steps of a login."
    )
    grace_ms: Milliseconds = setting(
        "grace", duration(), 10_000, "Graceful shutdown timeout: time to finish requests."
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`[logs]`"""

    format: str = setting("format", choice("plain", "json"), "plain", "Log format.")
    level: str = setting(
        "level", choice("debug", "info", "warning", "error"), "info", "Minimum log level."
    )
    requests: str = setting(
        "requests",
        choice("none", "notable", "all"),
        "notable",
        "Which requests to log; `notable` are logins, changes, refusals and failures.",
    )
    max_per_second: int = setting(
        "maxPerSecond",
        whole(0, 100_000),
        50,
        "Maximum number of lines of one kind per second, a fifth of them from one address; the "
        "rest is counted in one line. Successful requests are not limited. 0 for no limit.",
    )
    audit: bool = setting(
        "audit", YES_NO, False, "Also write each audit event to the log, as manykeys.audit."
    )


@dataclass(frozen=True, slots=True)
class ScrollDefaults:
    """`[services.storageEngine.defaults]`"""

    scroll_ttl_ms: Milliseconds = setting(
        "scrollTTL", duration(1), 15_000, "Default lifetime of a scroll (a search with pages)."
    )


@dataclass(frozen=True, slots=True)
class StorageEngine:
    """`[services.storageEngine]`"""

    max_scroll_duration_ms: Milliseconds = setting(
        "maxScrollDuration", duration(1), 60_000, "Maximum scroll lifetime a client may request."
    )
    defaults: ScrollDefaults = table("defaults", ScrollDefaults)


@dataclass(frozen=True, slots=True)
class StorageServices:
    """`[services]`"""

    storage_engine: StorageEngine = table("storageEngine", StorageEngine)


@dataclass(frozen=True, slots=True)
class Statistics:
    """`[stats]`"""

    enabled: bool = setting("enabled", YES_NO, True, "Collect statistics frames.")
    stats_interval_s: int = setting(
        "statsInterval", whole(1, 86_400), 10, "Length of a statistics frame, in s."
    )
    ttl_s: int = setting(
        "ttl",
        whole(1, 2_592_000),
        3600,
        f"How long statistics frames are kept, in s; at most {MOST_FRAMES} frames.",
    )


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings came from, as far as other users of the machine might read them there: the
    configuration file and the names in it, the names given on the command line, and the files of
    secrets by name."""

    file: str = ""
    in_file: frozenset[str] = frozenset()
    on_command_line: frozenset[str] = frozenset()
    secret_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a server. `ignored` lists the given keys that have no effect."""

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
        "One table for each further strategy: `use`, and the settings of that strategy.",
        secret=True,
    )
    ignored: tuple[str, ...] = ()
    sources: Sources = field(default=Sources(), compare=False)


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Return the settings: the overrides win over the environment, the file and the defaults.

    Overrides are values by full name, like `server.port`. ConfigError names the setting at fault.
    """
    in_file, flags = read_file(file) if file else {}, read_overrides(overrides or {})
    tree = merge(merge(in_file, read_environment(environment or {})), flags)
    config, ignored = fill(Config, tree, IGNORED)
    files = {name: value_at(tree, name) for name in leaves(tree) if name.endswith(f".{FILE}")}
    sources = Sources(
        str(file or ""),
        frozenset(leaves(in_file)),
        frozenset(leaves(flags)),
        {name: path for name, path in files.items() if isinstance(path, str)},
    )
    config = replace(config, ignored=ignored, sources=sources)
    _check_origins(config.http)
    if config.server.proxy_protocol and not config.server.trusted_proxies:
        raise ConfigError("server.proxyProtocol: needs server.trustedProxies")
    read_policies(config.plugins.local.password_policies)
    if config.security.notify.url:
        read_url("security.notify.url", config.security.notify.url)
    return config


def dump(config: Config) -> str:
    """Return the settings as TOML, without secrets."""
    return write_toml(config)


def _check_origins(http: Http) -> None:
    uses_patterns = http.access_control_allow_origin_use_reg_exp
    try:
        for pattern in http.access_control_allow_origin if uses_patterns else ():
            re.compile(pattern if pattern != "*" else "")
    except re.error as reason:
        name = "http.accessControlAllowOrigin"
        raise ConfigError(f"{name}: not a regular expression: {reason}") from None
