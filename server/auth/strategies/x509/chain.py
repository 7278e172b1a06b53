"""Client certificate validation: chain, time, purpose, revocation (RFC 5280 §6; security check D5),
for the kind `x509`.

Chains are built and verified by `cryptography`. It is configured to require less than the Web PKI,
whose rules private authorities do not follow, but never less than RFC 5280.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from server.auth.strategies.x509.trust_store import (
    Revocations,
    Watched,
    read_certificates,
    read_revocations,
)

_LOG = logging.getLogger("manykeys.x509")
MOST_CERTIFICATE_BYTES = 16_384
MOST_DEPTH = 8
"""Maximum number of certificates intermediates a client's own and a trusted authority."""
_MIN_RSA_BITS = 2048
# Exceptions for malformed certificates.
_FAULTS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

E = TypeVar("E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of files with trusted authorities, intermediate certificates and revocation lists."""

    authorities: Sequence[str]
    intermediates: Sequence[str] = ()
    revocations: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Good:
    """A certificate that is valid now."""

    certificate: x509.Certificate


class Chains:
    """Validates certificates, from any thread. With `takes_old_lists` expired revocation lists are
    accepted."""

    def __init__(self, files: Files, *, takes_old_lists: bool = False) -> None:
        """Raise LocalError for a file that cannot be used."""
        self._authorities = [Watched(path, read_certificates) for path in files.authorities]
        self._intermediates = [Watched(path, read_certificates) for path in files.intermediates]
        self._revocations = [Watched(path, read_revocations) for path in files.revocations]
        self._takes_old_lists = takes_old_lists
        self._policies = _authority_policy(), _client_policy()
        self._lock = Lock()

    def judge(self, own: bytes, others: Sequence[bytes], now_ms: int) -> Good | str:
        """Return the certificate if it is valid at this time, otherwise the reason why it is not,
        for the audit log; `others` are those that the client sent along."""
        if len(own) > MOST_CERTIFICATE_BYTES:
            return "oversized certificate"
        try:
            certificate = x509.load_der_x509_certificate(own)
            now = datetime.fromtimestamp(now_ms / 1000, UTC)
            refusal = _refusal(certificate, now) or self._why_untrusted(certificate, others, now)
        except _FAULTS:
            return "unreadable certificate"
        return refusal or Good(certificate)

    def _why_untrusted(
        self, certificate: x509.Certificate, others: Sequence[bytes], now: datetime
    ) -> str | None:
        """Return why no trusted authority has issued a certificate, None if one has."""
        with self._lock:
            trusted = [one for file in self._authorities for one in file.current()]
            intermediates = [one for file in self._intermediates for one in file.current()]
            lists = [one for file in self._revocations for one in file.current()]
        authority_policy, client_policy = self._policies
        verifier = (
            PolicyBuilder()
            .store(Store(trusted))
            .time(now.replace(tzinfo=None))
            .max_chain_depth(MOST_DEPTH)
            .extension_policies(ca_policy=authority_policy, ee_policy=client_policy)
            .build_client_verifier()
        )
        try:
            chain = verifier.verify(certificate, [*intermediates, *_readable(others)]).chain
        except VerificationError as reason:
            _LOG.debug("no chain: %s", reason)
            return "no chain to a trusted authority"
        if not self._revocations:
            return None
        return self._revoked(chain, lists, now)

    def _revoked(
        self, chain: Sequence[x509.Certificate], lists: Sequence[Revocations], now: datetime
    ) -> str | None:
        """Check each certificate of a chain against the lists of its issuer: one that no list
        covers may be revoked."""
        for at, (certificate, issuer) in enumerate(zip(chain, chain[1:], strict=False)):
            known = [one for one in lists if one.covers(certificate, at > 0) and one.is_of(issuer)]
            if any(certificate.serial_number in one.serials for one in known):
                return "revoked" if at == 0 else "authority revoked"
            if not known:
                return "no revocation list of its issuer"
            if not self._takes_old_lists and not any(one.is_current(now) for one in known):
                return "expired revocation list"
        return None


def _refusal(certificate: x509.Certificate, now: datetime) -> str | None:
    """Return what is wrong with a certificate by itself, None if nothing is."""
    if now < certificate.not_valid_before_utc:
        return "not yet valid"
    if now > certificate.not_valid_after_utc:
        return "expired"
    key = certificate.public_key()
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return "weak key"
    extensions = certificate.extensions
    constraints = _value(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        return "certificate of an authority"
    usage = _value(extensions, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return "not for signatures"
    purposes = _value(extensions, x509.ExtendedKeyUsage)
    # Stricter than RFC 5280 §4.2.1.12: a certificate without purposes was not issued for logins.
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        return "not for clients"
    return None


def _value(extensions: x509.Extensions, kind: type[E]) -> E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _readable(others: Sequence[bytes]) -> list[x509.Certificate]:
    """Return those that are certificates: what a client sends along is optional."""
    found = []
    for one in others[:MOST_DEPTH]:
        try:
            if len(one) <= MOST_CERTIFICATE_BYTES:
                found.append(x509.load_der_x509_certificate(one))
        except ValueError:
            continue
    return found


def _authority_policy() -> ExtensionPolicy:
    """Return the rules for authorities: key identifiers are optional; a key usage is enforced if
    present (RFC 5280 §4.2.1.3)."""
    either = Criticality.AGNOSTIC
    return (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.AuthorityKeyIdentifier, either, None)
        .may_be_present(x509.SubjectKeyIdentifier, either, None)
        .may_be_present(x509.KeyUsage, either, _check_signs_certificates)
    )


def _client_policy() -> ExtensionPolicy:
    """Return the rules for client certificates: a name besides the subject is optional."""
    either = Criticality.AGNOSTIC
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.AuthorityKeyIdentifier, either, None)
        .may_be_present(x509.SubjectAlternativeName, either, None)
    )


def _check_signs_certificates(
    policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None
) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("this authority may not sign certificates")
