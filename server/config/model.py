"""Every setting, once: name, kind, default and meaning.

Names are the reference's where it has the setting (contract/08). Attributes are the names in snake
case; durations end in `_ms`, sizes in `_bytes`. Reading and writing is in
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
"""Frames kept at most, whatever is configured: about 2 MB of them."""


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
        "Failed logins of an account from one address or known device, and ten times as many of an "
        "account or of an address in all, before the next ones must wait; 0 for no limit. A proxy "
        "in front belongs into `server.trustedProxies`.",
    )
    anonymous_writes: int = setting(
        "anonymousWrites",
        whole(0, 1_000_000),
        300,
        "Login steps begun and users registered by unauthenticated clients of one address, each "
        "minute, before the next ones must wait; 0 for no limit.",
    )
    documents_fetch_count: int = setting(
        "documentsFetchCount", whole(1, 1_000_000), 10_000, "Items one answer may give."
    )
    documents_write_count: int = setting(
        "documentsWriteCount", whole(1, 1_000_000), 200, "Items one request may change."
    )
    live_sessions: int = setting(
        "liveSessions",
        whole(1, 100_000_000),
        100_000,
        "Sessions kept in memory for speed, 7 to 8 KB each.",
    )
    pipelined: int = setting(
        "pipelined", whole(1, 10_000), 64, "Requests of one connection in progress at a time."
    )
    connections: int = setting(
        "connections", whole(1, 1_000_000), 20_000, "Open connections; further ones are closed."
    )
    connections_per_address: int = setting(
        "connectionsPerAddress",
        whole(0, 1_000_000),
        0,
        "Open connections of one client address (IPv6: of one /64); 0 for a quarter of "
        "`connections`. Loopback, Unix sockets and trusted proxies have no such limit; WebSockets "
        "behind a trusted proxy count for the client it names.",
    )
    unfinished_size_bytes: int = setting(
        "unfinishedSize",
        size(1024 * 1024, 2**40),
        256 * 1024 * 1024,
        "Bytes of requests and messages that all connections together hold before they are "
        "answered, whole or not; a client address holds at most a quarter. Beyond it 503 or a "
        "WebSocket close with 1013, but never for bodies up to 16 KiB.",
    )
    unsent_size_bytes: int = setting(
        "unsentSize",
        size(1024 * 1024, 2**40),
        256 * 1024 * 1024,
        "Bytes of answers that wait for clients that do not read, of all connections; a client "
        "address has at most a quarter. Beyond it the connections that waited longest are dropped.",
    )
    unsent_size_per_connection_bytes: int = setting(
        "unsentSizePerConnection",
        size(1024),
        64 * 1024,
        "Bytes of answers that may wait for one connection before further requests of it are run.",
    )
    in_flight: int = setting(
        "inFlight",
        whole(1, 1_000_000),
        10_000,
        "Requests in progress; beyond it the answer is 503.",
    )
    json_values: int = setting(
        "jsonValues",
        whole(100, 100_000_000),
        JSON_VALUES,
        "Brackets, braces and commas in the JSON of one request.",
    )


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`[timeouts]`"""

    head_ms: Milliseconds = setting(
        "head", duration(100), 10_000, "To send a request's head, and for a TLS handshake."
    )
    body_ms: Milliseconds = setting("body", duration(100), 30_000, "To send a request's body.")
    idle_ms: Milliseconds = setting(
        "idle", duration(100), 60_000, "Between two requests of a connection."
    )
    write_ms: Milliseconds = setting("write", duration(100), 30_000, "To take an answer.")
    strategy_ms: Milliseconds = setting(
        "strategy", duration(100), 30_000, "A strategy of somebody else's has to answer."
    )
    login_ms: Milliseconds = setting(
        "login", duration(1000), 600_000, "Between two steps of a login."
    )
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
    max_per_second: int = setting(
        "maxPerSecond",
        whole(0, 100_000),
        50,
        "Maximum number of lines of one kind per second, a fifth of them from one address; the "
        "rest is counted in one line. Successful requests are not limited. 0 for no limit.",
    )
    audit: bool = setting(
        "audit", YES_NO, False, "Log each event of the audit trail too, as manykeys.audit."
    )


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
class Sources:
    """Where settings came from, as far as others might read them there: the configuration file and
    the names in it, the names given on the command line, and the files of secrets by name."""

    file: str = ""
    in_file: frozenset[str] = frozenset()
    on_command_line: frozenset[str] = frozenset()
    secret_files: Mapping[str, str] = field(default_factory=dict)


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
    sources: Sources = field(default=Sources(), compare=False)


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Give the settings: defaults under the file, under the environment, under the overrides.

    Overrides are values by full name, like `server.port`. ConfigError names what is wrong.
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
