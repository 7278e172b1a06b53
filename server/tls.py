"""TLS of the server's own port: certificates from files, read again on demand."""

import ssl

from protocol.errors import LocalError

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Tls:
    """Certificate and key of one server. `context` is what new connections use."""

    __slots__ = ("_cert", "_key", "context")

    def __init__(self, cert: str, key: str, least_version: str = "1.2") -> None:
        """LocalError for files that are no certificate and its key."""
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = VERSIONS[least_version]
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(["http/1.1"])
        _load(self.context, cert, key)

    def reload(self) -> None:
        """Read the files again, for connections from now on. LocalError, and all stays as it was,
        if they are no longer good."""
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._cert, self._key)
        _load(self.context, self._cert, self._key)


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    def refuse() -> str:
        raise LocalError(f"{key or cert} is encrypted; expected a key without a password")

    try:
        context.load_cert_chain(cert, key or None, refuse)
    except ssl.SSLError as reason:
        text = (reason.reason or "no certificate").replace("_", " ").lower()
    except OSError as reason:
        text = reason.strerror or "not to be read"
    else:
        return
    raise LocalError(f"{cert}, {key or cert}: {text}")
