"""Files of authorities and revocations, read again once they have changed, for the kind `x509`."""

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
_MOST_ISSUERS = 16  # keys one list was held against
_LISTS = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

T = TypeVar("T")


class Watched(Generic[T]):
    """What a file says, by `parse`, which raises ValueError for what it can't read."""

    def __init__(self, path: str, parse: Callable[[bytes], T]) -> None:
        """LocalError for a file that can't be used."""
        self._path = Path(path)
        self._parse = parse
        try:
            self._seen = self._stamp()
            self._value = self._read()
        except (OSError, ValueError) as reason:
            raise LocalError(f"{path}: {_told(reason)}") from None

    def current(self) -> T:
        """Give what it says by now. One that is no longer good counts as it was, which is told once
        for each time it changes."""
        stamp: tuple[int, ...] = ()
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._value = self._read()
                _LOG.info("%s: read again", self._path)
        except (OSError, ValueError) as reason:
            if stamp != self._seen:
                _LOG.error("%s: stays as it was: %s", self._path, _told(reason))
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
    """Read certificates in PEM."""
    try:
        found = tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        raise ValueError("no certificates in PEM") from None
    if len(found) > MOST_AUTHORITIES:
        raise ValueError(f"more than {MOST_AUTHORITIES} certificates")
    return found


@dataclass(slots=True, eq=False)
class Revocations:
    """One list of an authority (RFC 5280 §5). `points` are where certificates must say that it is
    published, None where that does not matter."""

    issued: x509.CertificateRevocationList = field(repr=False)
    serials: frozenset[int] = field(repr=False)
    covers_users: bool
    covers_authorities: bool
    points: frozenset[x509.GeneralName] | None
    _signed_by: dict[bytes, bool] = field(default_factory=dict, repr=False)

    def covers(self, certificate: x509.Certificate, is_authority: bool) -> bool:
        """Tell whether it speaks of such a certificate at all."""
        if self.issued.issuer != certificate.issuer:
            return False
        if not (self.covers_authorities if is_authority else self.covers_users):
            return False
        return self.points is None or bool(self.points & _points_of(certificate))

    def is_of(self, authority: x509.Certificate) -> bool:
        """Tell whether an authority has signed it, and may."""
        try:
            usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
            if not usage.crl_sign:
                return False
        except x509.ExtensionNotFound:
            pass
        key = authority.public_key()
        name = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if name not in self._signed_by:
            if len(self._signed_by) >= _MOST_ISSUERS:
                self._signed_by.clear()
            self._signed_by[name] = _is_signed(self.issued, authority)
        return self._signed_by[name]

    def is_current(self, now: datetime) -> bool:
        """Tell whether it is of this time; one without an end never is."""
        begins, ends = self.issued.last_update_utc, self.issued.next_update_utc
        return begins is not None and ends is not None and begins <= now < ends


def read_revocations(data: bytes) -> tuple[Revocations, ...]:
    """Read lists in PEM, or one in DER."""
    found = _LISTS.findall(data)
    try:
        if found:
            return tuple(_read_list(x509.load_pem_x509_crl(one)) for one in found)
        return (_read_list(x509.load_der_x509_crl(data)),)
    except x509.DuplicateExtension:
        raise ValueError("an extension stands there twice") from None


def _read_list(issued: x509.CertificateRevocationList) -> Revocations:
    """Give what a list says. ValueError for one that says only what has changed, that speaks for
    other authorities, or that has something critical of which nothing is known here."""
    covers_users = covers_authorities = True
    points: frozenset[x509.GeneralName] | None = None
    for extension in issued.extensions:
        if extension.oid == ExtensionOID.ISSUING_DISTRIBUTION_POINT:
            scope = extension.value
            if not isinstance(scope, x509.IssuingDistributionPoint) or _is_narrow(scope):
                raise ValueError("a revocation list of a kind that can't be used")
            covers_users = not scope.only_contains_ca_certs
            covers_authorities = not scope.only_contains_user_certs
            points = frozenset(scope.full_name) if scope.full_name else None
        elif extension.critical:
            raise ValueError("a revocation list with something critical that is not known")
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
    except TypeError:  # a key that signs nothing
        return False


def _told(reason: Exception) -> str:
    return (reason.strerror or "not to be read") if isinstance(reason, OSError) else str(reason)
