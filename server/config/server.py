"""Settings about what is spoken, where and to whom: `[server]` and `[http]`."""

from dataclasses import dataclass

from server.core.settings import (
    NETWORKS,
    YES_NO,
    Milliseconds,
    choice,
    duration,
    matching,
    setting,
    size,
    table,
    text,
    texts,
    whole,
)

_MEBIBYTE = 2**20
_METHODS = "GET,POST,PUT,PATCH,DELETE,OPTIONS,HEAD"
_HEADERS = (
    "Content-Type, Access-Control-Allow-Headers, Authorization, X-Requested-With, "
    "Content-Encoding, Content-Length, X-Kuzzle-Volatile"
)


@dataclass(frozen=True, slots=True)
class HttpProtocol:
    """`[server.protocols.http]`"""

    allow_compression: bool = setting("allowCompression", YES_NO, True, "Read compressed bodies.")
    max_encoding_layers: int = setting(
        "maxEncodingLayers", whole(1, 10), 1, "Layers of Content-Encoding a body may have."
    )
    max_ratio: int = setting(
        "maxRatio",
        whole(1, 1100),
        100,
        "How many times its compressed size a body may have, beyond 64 KiB.",
    )
    max_inflated_size_bytes: int = setting(
        "maxInflatedSize", size(1024), _MEBIBYTE // 2, "Largest body that was compressed, inflated."
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
        "maxFrames", whole(1, 1_000_000), 128, "Frames one message may be cut into."
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
    key: str = setting(
        "key", text(), "", "File with its key, unless that is in `cert` too.", secret_file=True
    )
    client_ca: str = setting(
        "clientCa",
        text(),
        "",
        "File with the authorities, in PEM, of certificates clients may show; asks for them.",
    )
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
        "trustedProxies",
        NETWORKS,
        (),
        "Whose X-Forwarded-For, -Host and -Proto are believed; `unix`: of who comes by `uds`.",
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
