"""Network settings: listeners, TLS, HTTP, WebSocket, proxies and CORS (`[server]`, `[http]`)."""

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

    allow_compression: bool = setting("allowCompression", YES_NO, True, "Accept compressed bodies.")
    max_encoding_layers: int = setting(
        "maxEncodingLayers", whole(1, 10), 1, "Maximum number of Content-Encoding layers."
    )
    max_ratio: int = setting(
        "maxRatio",
        whole(1, 1100),
        100,
        "Maximum compression ratio of a body, beyond 64 KiB.",
    )
    max_inflated_size_bytes: int = setting(
        "maxInflatedSize", size(1024), _MEBIBYTE // 2, "Maximum decompressed size of a body."
    )
    max_form_file_size_bytes: int = setting(
        "maxFormFileSize", size(), _MEBIBYTE, "Maximum size of a file in a form."
    )
    additional_content_types: tuple[str, ...] = setting(
        "additionalContentTypes", texts(), (), "Additional content types parsed as JSON."
    )
    max_header_size_bytes: int = setting(
        "maxHeaderSize",
        size(1024, _MEBIBYTE),
        16_384,
        "Maximum size of the request line and headers.",
    )
    max_headers: int = setting(
        "maxHeaders", whole(1, 10_000), 100, "Maximum number of header fields."
    )
    max_url_length: int = setting(
        "maxUrlLength", whole(64, _MEBIBYTE), 8192, "Maximum length of path and query, in bytes."
    )


@dataclass(frozen=True, slots=True)
class WebSocketProtocol:
    """`[server.protocols.websocket]`"""

    enabled: bool = setting("enabled", YES_NO, True, "Accept WebSocket connections.")
    idle_timeout_ms: Milliseconds = setting(
        "idleTimeout", duration(1000), 60_000, "Idle timeout of a WebSocket."
    )
    rate_limit: int = setting(
        "rateLimit",
        whole(0, 1_000_000),
        0,
        "Maximum messages per second on a WebSocket; 0 for no limit.",
    )
    control_rate_limit: int = setting(
        "controlRateLimit",
        whole(0, 1_000_000),
        100,
        "Maximum pings and pongs per second on a WebSocket; beyond it, it is closed. 0 for no"
        " limit.",
    )
    send_pings_automatically: bool = setting(
        "sendPingsAutomatically",
        YES_NO,
        False,
        "Ping a WebSocket that has been idle for half of `idleTimeout`.",
    )
    reset_idle_timeout_on_send: bool = setting(
        "resetIdleTimeoutOnSend",
        YES_NO,
        False,
        "Notifications sent to a WebSocket reset its idle timeout too.",
    )
    max_unsent_bytes: int = setting(
        "maxUnsent",
        size(),
        _MEBIBYTE,
        "Maximum unsent notifications of a WebSocket, in bytes; beyond it, it is disconnected.",
    )
    compression: bool = setting("compression", YES_NO, False, "Compress messages (RFC 7692).")
    max_ratio: int = setting(
        "maxRatio",
        whole(1, 1100),
        100,
        "Maximum compression ratio of a message, beyond 64 KiB.",
    )
    max_frames: int = setting(
        "maxFrames", whole(1, 1_000_000), 128, "Maximum number of frames in a message."
    )


@dataclass(frozen=True, slots=True)
class Protocols:
    """`[server.protocols]`"""

    http: HttpProtocol = table("http", HttpProtocol)
    websocket: WebSocketProtocol = table("websocket", WebSocketProtocol)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """`[server.tls]`"""

    cert: str = setting("cert", text(), "", "File with the certificate chain, in PEM; enables TLS.")
    key: str = setting(
        "key", text(), "", "File with the private key, unless it is in `cert`.", secret_file=True
    )
    client_ca: str = setting(
        "clientCa",
        text(),
        "",
        "File with the CA certificates for client certificates, in PEM; requests client"
        " certificates.",
    )
    min_version: str = setting("minVersion", choice("1.2", "1.3"), "1.2", "Minimum TLS version.")


@dataclass(frozen=True, slots=True)
class Server:
    """`[server]`"""

    host: str = setting("host", text(1), "127.0.0.1", "Address to listen on.")
    port: int = setting("port", whole(0, 65_535), 7512, "Port to listen on; 0 picks a free one.")
    uds: str = setting("uds", text(), "", "Unix socket to listen on instead of a port.")
    fd: int = setting(
        "fd",
        whole(-1, 65_535),
        -1,
        "File descriptor of an open socket to listen on; -1 for systemd's, if any.",
    )
    tls: TlsSettings = table("tls", TlsSettings)
    node: str = setting("node", text(1, 128), "manykeys", "Name sent as `node` in every response.")
    data: str = setting(
        "data",
        matching(r"[^\x00-\x1f]{1,4096}", "a file name, or :memory:"),
        "manykeys.db",
        "Database file; with `:memory:` nothing is stored.",
    )
    max_request_size_bytes: int = setting(
        "maxRequestSize",
        size(1024),
        _MEBIBYTE,
        "Maximum size of an HTTP body or WebSocket message.",
    )
    strict_sdk_version: bool = setting(
        "strictSdkVersion", YES_NO, True, "Reject SDKs too old for this API."
    )
    trusted_proxies: tuple[str, ...] = setting(
        "trustedProxies",
        NETWORKS,
        (),
        "Trusted proxies: addresses or networks whose X-Forwarded-For, -Host and -Proto headers"
        " are used; `unix` for connections by `uds`.",
    )
    proxy_protocol: bool = setting(
        "proxyProtocol",
        YES_NO,
        False,
        "Expect a PROXY protocol header on each connection; only trusted proxies may connect then.",
    )
    protocols: Protocols = table("protocols", Protocols)


@dataclass(frozen=True, slots=True)
class Http:
    """`[http]`"""

    access_control_allow_origin: tuple[str, ...] = setting(
        "accessControlAllowOrigin",
        texts(),
        ("*",),
        "CORS: allowed origins; * for all. Only origins named here may use the session cookie.",
    )
    access_control_allow_origin_use_reg_exp: bool = setting(
        "accessControlAllowOriginUseRegExp",
        YES_NO,
        False,
        "Treat the origins as regular expressions.",
    )
    strict_transport_security_ms: Milliseconds = setting(
        "strictTransportSecurity",
        duration(),
        0,
        "HSTS: how long browsers must use TLS only (RFC 6797); 0 to disable. Needs `server.tls`.",
    )
    access_control_allow_methods: str = setting(
        "accessControlAllowMethods", text(), _METHODS, "CORS: Access-Control-Allow-Methods header."
    )
    access_control_allow_headers: str = setting(
        "accessControlAllowHeaders", text(), _HEADERS, "CORS: Access-Control-Allow-Headers header."
    )
    cookie_authentication: bool = setting(
        "cookieAuthentication", YES_NO, True, "Allow browsers to keep the token in a cookie."
    )
