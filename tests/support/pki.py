"""Authorities, client certificates and revocation lists for tests, each as wrong as a test asks
for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGINS, ENDS = datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def named(name: str) -> x509.Name:
    """Give a name of two parts."""
    parts = [(NameOID.ORGANIZATION_NAME, "Tests"), (NameOID.COMMON_NAME, name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def usage(*uses: str) -> x509.KeyUsage:
    """Give what a key may be used for."""
    return x509.KeyUsage(**{use: use in uses for use in USES})


def upn(name: str) -> x509.OtherName:
    """Give Active Directory's name of a user."""
    return x509.OtherName(UPN, bytes([0x0C, len(name)]) + name.encode())


@dataclass
class Shown:
    """A certificate with its key; `between` are those a client sends along."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    between: Sequence["Shown"] = field(default=(), repr=False)

    @property
    def der(self) -> bytes:
        """What goes over the wire."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        """The same in text."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """What it is called unless configured otherwise."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, path: Path) -> Path:
        """Write certificate, those between, and key into one file."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_text(self.pem + "".join(one.pem for one in self.between) + key.decode())
        return path


def make(
    name: str,
    issuer: "Authority | None",
    *extensions: tuple[x509.ExtensionType, bool],
    begins: datetime = BEGINS,
    ends: datetime = ENDS,
    key: CertificateIssuerPrivateKeyTypes | None = None,
) -> Shown:
    """Give a certificate, signed by itself without an issuer."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    signer = own if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(name) if issuer is None else issuer.certificate.subject)
        .public_key(own.public_key())  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    return Shown(builder.sign(signer, hashes.SHA256()), own)


class Authority(Shown):
    """One that signs: a root, or with `issuer` one between a root and others."""

    def __init__(self, name: str, issuer: "Authority | None" = None, **more: datetime) -> None:
        constraints = (x509.BasicConstraints(True, None), True)
        uses = (usage("key_cert_sign", "crl_sign"), True)
        made = make(name, issuer, constraints, uses, **more)
        super().__init__(made.certificate, made.key)
        self.issuer = issuer

    def sign(
        self,
        name: str = "ann",
        *alternatives: x509.GeneralName,
        purposes: Sequence[x509.ObjectIdentifier] = (CLIENT,),
        uses: x509.KeyUsage | None = None,
        is_authority: bool = False,
        **more: object,
    ) -> Shown:
        """Give a client's certificate."""
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(is_authority, None), True)
        ]
        if purposes:
            extensions.append((x509.ExtendedKeyUsage(purposes), False))
        if uses is not None:
            extensions.append((uses, True))
        if alternatives:
            extensions.append((x509.SubjectAlternativeName(alternatives), False))
        made = make(name, self, *extensions, **more)  # type: ignore[arg-type]
        between, at = list[Shown](), self
        while at.issuer is not None:
            between.append(at)
            at = at.issuer
        return Shown(made.certificate, made.key, between)

    def revoke(
        self,
        *revoked: Shown,
        begins: datetime = BEGINS,
        ends: datetime = ENDS,
        scope: x509.ExtensionType | None = None,
        signer: "Authority | None" = None,
    ) -> str:
        """Give a revocation list of this authority in PEM."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(begins).next_update(ends)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().revocation_date(begins)
            serial = one.certificate.serial_number
            builder = builder.add_revoked_certificate(entry.serial_number(serial).build())
        if scope is not None:
            builder = builder.add_extension(scope, critical=True)
        key = (signer or self).key
        signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
        return signed.public_bytes(Encoding.PEM).decode()


def weak_key() -> rsa.RSAPrivateKey:
    """Give a key that is too short."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
