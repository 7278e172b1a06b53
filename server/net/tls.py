"""TLS of the listener: server certificates from files, reloaded on demand, and client
certificates."""

import ssl
from pathlib import Path

from protocol.errors import LocalError

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
MOST_SHOWN = 10
"""Maximum certificates read from one client: its own and the intermediates."""
_DER = 2


class Tls:
    """Certificate and key of one server, and with `client_ca` the CA certificates for client
    certificates. `context` is for new connections."""

    __slots__ = ("_cert", "_client_ca", "_key", "_least_version", "context")

    def __init__(
        self, cert: str, key: str, least_version: str = "1.2", client_ca: str = ""
    ) -> None:
        """LocalError for files that are not a certificate and its key, or not CA certificates."""
        self._cert = cert
        self._key = key
        self._least_version = VERSIONS[least_version]
        self._client_ca = client_ca
        self.context = self._read()

    def reload(self) -> None:
        """Reload the files, for new connections. LocalError, without any change, if they are not
        valid."""
        self.context = self._read()

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._least_version
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        _load(context, self._cert, self._key)
        if self._client_ca:
            _ask_for_certificates(context, self._client_ca)
        return context


def client_certificates(secured: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the DER of the verified certificate of a client, then of the unverified intermediates
    it sent; nothing without a client certificate."""
    own = secured.getpeercert(binary_form=True)
    if own is None:
        return ()
    shown = [one for one in _chain(secured) if one != own]
    return (own, *shown[: MOST_SHOWN - 1])


def _chain(secured: ssl.SSLObject) -> list[bytes]:
    """Return the certificates a client sent. Before Python 3.13 only the inner object has them."""
    given = getattr(secured, "get_unverified_chain", None)
    if given is not None:
        return list(given())
    given = getattr(getattr(secured, "_sslobj", None), "get_unverified_chain", None)
    return [] if given is None else [one.public_bytes(_DER) for one in given() or ()]


def _ask_for_certificates(context: ssl.SSLContext, client_ca: str) -> None:
    """Request a client certificate, which is optional."""
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as reason:
        text = (reason.reason or "no certificate").replace("_", " ").lower()
        raise LocalError(f"{client_ca}: {text}") from None
    except OSError as reason:
        raise LocalError(f"{client_ca}: {reason.strerror or 'cannot be read'}") from None
    context.verify_mode = ssl.CERT_OPTIONAL
    # A configured CA is trusted, even if it is not a root.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    # A resumed session is not verified again, and has the client's own certificate only.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    def refuse() -> str:
        raise LocalError(f"{key or cert} is encrypted; expected a key without a password")

    try:
        context.load_cert_chain(cert, key or None, refuse)
    except ssl.SSLError as reason:
        text = (reason.reason or "no certificate").replace("_", " ").lower()
    except OSError as reason:
        text = reason.strerror or "cannot be read"
    else:
        return
    raise LocalError(_what_is_missing(cert, key) or f"{cert}, {key or cert}: {text}")


def _what_is_missing(cert: str, key: str) -> str | None:
    """Return which file lacks a certificate or a key, as OpenSSL's error does not; None if none."""
    wanted = ((cert, b"CERTIFICATE-----", "certificate"), (key or cert, b"PRIVATE KEY-----", "key"))
    for file, mark, kind in wanted:
        try:
            content = Path(file).read_bytes()
        except OSError as reason:
            return f"{file}: {reason.strerror or 'cannot be read'}"
        if mark not in content:
            return f"{file}: expected a {kind} in PEM"
    return None
