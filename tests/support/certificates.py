"""Certificates for tests: an authority, and what it signs for 127.0.0.1 or another address."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate and its key in PEM, and the serial number clients see."""

    cert: Path
    key: Path
    serial: int


class Authority:
    """Signs certificates; `cert` is the file clients trust."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self._folder = folder
        self._address = address
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("tests")
        made = self._build(self._name, self._key.public_key(), is_authority=True)
        self.cert = folder / "authority.pem"
        self.cert.write_bytes(made.public_bytes(Encoding.PEM))

    def sign(self, name: str, password: bytes | None = None) -> Files:
        """Give a new certificate for the address in files of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._build(_named(self._address), key.public_key(), is_authority=False)
        files = Files(
            self._folder / f"{name}.pem", self._folder / f"{name}.key", made.serial_number
        )
        locked: KeySerializationEncryption = NoEncryption()
        if password is not None:
            locked = BestAvailableEncryption(password)
        files.cert.write_bytes(made.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        files.key.chmod(0o600)
        return files

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(self._address))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
