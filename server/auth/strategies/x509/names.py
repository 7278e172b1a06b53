"""User identifiers in a client certificate, for the kind `x509`."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")  # userPrincipalName of Active Directory
_DIGITS = re.compile(r"(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}")
_UTF8_STRING, _LONG_FORM, _ONE_BYTE, _TWO_BYTES = 0x0C, 0x80, 0x81, 0x82
_OF_SAN: Mapping[str, type[x509.RFC822Name | x509.DNSName | x509.UniformResourceIdentifier]] = (
    MappingProxyType(
        {
            "san:email": x509.RFC822Name,
            "san:dns": x509.DNSName,
            "san:uri": x509.UniformResourceIdentifier,
        }
    )
)


def names_in(certificate: x509.Certificate, way: str) -> list[str]:
    """Return the names that a certificate has in one of `settings.WAYS`, normalized: none, one or
    several. ValueError if they cannot be read."""
    found = [normalized(name, way) for name in _named(certificate, way)]
    return list(dict.fromkeys(name for name in found if name is not None))


def normalized(name: str, way: str) -> str | None:
    """Return a name in the form that is stored; None if it is not valid for this field.

    Only ASCII letters are lower-cased, as the rules of each field say: with others, one user's name
    might become another's.
    """
    if way == "fingerprint":
        lower = name.lower()
        return lower.replace(":", "") if name.isascii() and _DIGITS.fullmatch(lower) else None
    if way in ("san:dns", "san:upn"):
        return _lower_ascii(name)
    if way == "san:email":
        local, at, domain = name.rpartition("@")
        return f"{local}{at}{_lower_ascii(domain)}"
    return name


def _named(certificate: x509.Certificate, way: str) -> Iterator[str]:
    if way == "fingerprint":
        yield certificate.fingerprint(hashes.SHA256()).hex()
    elif way == "subject":
        if certificate.subject.rdns:
            yield certificate.subject.rfc4514_string()
    elif way == "cn":
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            yield str(attribute.value)
    else:
        yield from _alternatives(certificate, way)


def _alternatives(certificate: x509.Certificate, way: str) -> Iterator[str]:
    try:
        kind = x509.SubjectAlternativeName
        names = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return
    if way != "san:upn":
        yield from names.get_values_for_type(_OF_SAN[way])
        return
    for other in names.get_values_for_type(x509.OtherName):
        if other.type_id == _UPN:
            yield _read_utf8_string(other.value)


def _read_utf8_string(der: bytes) -> str:
    """Parse the only valid encoding of such a name (X.690 §8.14, §10.1); ValueError for any
    other."""
    if len(der) < 2 or der[0] != _UTF8_STRING:
        raise ValueError("not a UTF8String")
    size_bytes = {_ONE_BYTE: 1, _TWO_BYTES: 2}.get(der[1], 0)
    at = 2 + size_bytes
    length = int.from_bytes(der[2:at], "big") if size_bytes else der[1]
    if (not size_bytes and length >= _LONG_FORM) or len(der) != at + length:
        raise ValueError("wrong length")
    return der[at:].decode()


def _lower_ascii(text: str) -> str:
    return text.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")
