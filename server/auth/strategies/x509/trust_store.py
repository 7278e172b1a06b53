"""Trust store: files with CA certificates and revocation lists, reloaded when they change, for the
kind `x509`."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from protocol.errors import LocalError

_LOG = logging.getLogger("manykeys.x509")
MOST_FILE_BYTES = 16 * 2**20
MOST_AUTHORITIES = 1000
_MAX_ISSUERS = 16  # keys that the signature of one list was verified with
_LISTS = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

T = TypeVar("T")


class Watched(Generic[T]):
    """Parsed contents of a file, reloaded when it changes; `parse` raises ValueError if they are
    not valid."""

    def __init__(self, path: str, parse: Callable[[bytes], T]) -> None:
        """Raise LocalError for a file that cannot be used."""
        self._path = Path(path)
        self._parse = parse
        try:
            self._seen = self._stamp()
            self._value = self._read()
        except (OSError, ValueError) as reason:
            raise LocalError(f"{path}: {_text_of(reason)}") from None

    def current(self) -> T:
        """Return the current contents. If the file is no longer valid, the last valid contents are
        used, which is logged once per change."""
        stamp: tuple[int, ...] = ()
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._value = self._read()
                _LOG.info("%s: reloaded", self._path)
        except (OSError, ValueError) as reason:
            if stamp != self._seen:
                _LOG.error(
                    "%s: reload failed, keeping the old contents: %s", self._path, _text_of(reason)
                )
        self._seen = stamp
        return self._value

    def _stamp(self) -> tuple[int, ...]:
        found = os.stat(self._path)
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self) -> T:
        with self._path.open("rb") as file:
            data = file.read(MOST_FILE_BYTES + 1)
        if len(data) > MOST_FILE_BYTES:
            raise ValueError(f"more than {MOST_FILE_BYTES:,} bytes")
        return self._parse(data)


def read_certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    """Parse PEM certificates."""
    try:
        found = tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        raise ValueError("expected PEM certificates") from None
    if len(found) > MOST_AUTHORITIES:
        raise ValueError(f"more than {MOST_AUTHORITIES} certificates")
    return found


@dataclass(slots=True, eq=False)
class Revocations:
    """One certificate revocation list (RFC 5280 §5). `points` are the distribution points that
    certificates must name, None if that does not matter."""

    issued: x509.CertificateRevocationList = field(repr=False)
    serials: frozenset[int] = field(repr=False)
    covers_users: bool
    covers_authorities: bool
    points: frozenset[x509.GeneralName] | None
    _signed_by: dict[bytes, bool] = field(default_factory=dict, repr=False)

    def covers(self, certificate: x509.Certificate, is_authority: bool) -> bool:
        """Return whether it covers such a certificate at all."""
        if self.issued.issuer != certificate.issuer:
            return False
        if not (self.covers_authorities if is_authority else self.covers_users):
            return False
        return self.points is None or bool(self.points & _points_of(certificate))

    def is_of(self, authority: x509.Certificate) -> bool:
        """Return whether an authority has signed it, and may sign it."""
        try:
            usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
            if not usage.crl_sign:
                return False
        except x509.ExtensionNotFound:
            pass
        key = authority.public_key()
        name = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if name not in self._signed_by:
            if len(self._signed_by) >= _MAX_ISSUERS:
                self._signed_by.clear()
            self._signed_by[name] = _is_signed(self.issued, authority)
        return self._signed_by[name]

    def is_current(self, now: datetime) -> bool:
        """Return whether it is valid now; one without an expiry date never is."""
        begins, ends = self.issued.last_update_utc, self.issued.next_update_utc
        return begins is not None and ends is not None and begins <= now < ends


def read_revocations(data: bytes) -> tuple[Revocations, ...]:
    """Parse PEM revocation lists, or one in DER."""
    found = _LISTS.findall(data)
    try:
        if found:
            return tuple(_read_list(x509.load_pem_x509_crl(one)) for one in found)
        return (_read_list(x509.load_der_x509_crl(data)),)
    except x509.DuplicateExtension:
        raise ValueError("duplicate extension") from None


def _read_list(issued: x509.CertificateRevocationList) -> Revocations:
    """Return a parsed list. ValueError for a delta CRL, one that covers other authorities, or one
    with an unknown critical extension."""
    covers_users = covers_authorities = True
    points: frozenset[x509.GeneralName] | None = None
    for extension in issued.extensions:
        if extension.oid == ExtensionOID.ISSUING_DISTRIBUTION_POINT:
            scope = extension.value
            if not isinstance(scope, x509.IssuingDistributionPoint) or _is_narrow(scope):
                raise ValueError("unsupported kind of revocation list")
            covers_users = not scope.only_contains_ca_certs
            covers_authorities = not scope.only_contains_user_certs
            points = frozenset(scope.full_name) if scope.full_name else None
        elif extension.critical:
            raise ValueError("revocation list with an unknown critical extension")
    serials = frozenset(entry.serial_number for entry in issued)
    return Revocations(issued, serials, covers_users, covers_authorities, points)


def _is_narrow(scope: x509.IssuingDistributionPoint) -> bool:
    return bool(
        scope.indirect_crl
        or scope.only_contains_attribute_certs
        or scope.only_some_reasons
        or scope.relative_name
    )


def _points_of(certificate: x509.Certificate) -> frozenset[x509.GeneralName]:
    try:
        kind = x509.CRLDistributionPoints
        points = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name for point in points for name in point.full_name or ())


def _is_signed(issued: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return issued.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except TypeError:  # a type of key that cannot sign
        return False


def _text_of(reason: Exception) -> str:
    return (reason.strerror or "cannot be read") if isinstance(reason, OSError) else str(reason)
