"""Decryption of encrypted SAML assertions (XML Encryption 1.1 §4, §5).

A decrypted assertion is trusted no more than a clear-text one: `response` checks it likewise. Only
authenticated ciphers are accepted (AES-GCM under RSA-OAEP): with others, responses would be a
padding oracle that reveals a stolen assertion piece by piece. Whatever fails, the reason is the
same.
"""

import base64
import binascii
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lxml import etree  # type: ignore[import-untyped]

from server.auth.strategies.federated import Declined

XENC = "{http://www.w3.org/2001/04/xmlenc#}"
_XENC11 = "{http://www.w3.org/2009/xmlenc11#}"
_DS = "{http://www.w3.org/2000/09/xmldsig#}"
CIPHERS = {f"http://www.w3.org/2009/xmlenc11#aes{bits}-gcm": bits // 8 for bits in (256, 192, 128)}
"""Key sizes in bytes, by the ciphers' names in XML."""
_MGF1P = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
TRANSPORTS = (_MGF1P, "http://www.w3.org/2009/xmlenc11#rsa-oaep")
"""Supported key transports."""
_DIGESTS: dict[str, type[hashes.HashAlgorithm]] = {
    "http://www.w3.org/2000/09/xmldsig#sha1": hashes.SHA1,
    "http://www.w3.org/2001/04/xmlenc#sha256": hashes.SHA256,
    "http://www.w3.org/2001/04/xmldsig-more#sha384": hashes.SHA384,
    "http://www.w3.org/2001/04/xmlenc#sha512": hashes.SHA512,
}
_MASKS: dict[str, type[hashes.HashAlgorithm]] = {
    f"http://www.w3.org/2009/xmlenc11#mgf1{name}": kind
    for name, kind in (
        *(("sha1", hashes.SHA1), ("sha256", hashes.SHA256)),
        *(("sha384", hashes.SHA384), ("sha512", hashes.SHA512)),
    )
}
_MD = "{urn:oasis:names:tc:SAML:2.0:metadata}"
_ELEMENT = "http://www.w3.org/2001/04/xmlenc#Element"
_NONCE_BYTES, _TAG_BYTES = 12, 16


def decrypt(encrypted: Any, key: rsa.RSAPrivateKey) -> bytes:
    """Return the XML in an EncryptedAssertion; Declined for one that is not for this key, was
    changed, or uses an unsupported algorithm."""
    data = _only(encrypted.findall(f"{XENC}EncryptedData"))
    if data.get("Type") not in (None, _ELEMENT):
        raise _refusal()
    size = CIPHERS.get(_method(data))
    wrapped = _only(encrypted.findall(f".//{XENC}EncryptedKey"))
    cipher_key, sealed = _unwrap(wrapped, key), _value(data)
    if size is None or len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise _refusal()
    if len(cipher_key) != size:
        cipher_key = secrets.token_bytes(size)  # the same work, and decryption fails
    try:
        return AESGCM(cipher_key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
    except InvalidTag:
        raise _refusal() from None


def with_methods(metadata: str) -> str:
    """Return metadata whose encryption key lists the supported algorithms (metadata §2.4.1.1):
    without that, providers use older ones."""
    root = etree.fromstring(metadata.encode())
    for described in root.iter(f"{_MD}KeyDescriptor"):
        if described.get("use") == "encryption":
            for algorithm in (*CIPHERS, *TRANSPORTS):
                etree.SubElement(described, f"{_MD}EncryptionMethod", Algorithm=algorithm)
    return str(etree.tostring(root, encoding="unicode"))


def _unwrap(wrapped: Any, key: rsa.RSAPrivateKey) -> bytes:
    """Return the key of the cipher, b"" if it cannot be decrypted."""
    transport = _method(wrapped)
    method = wrapped.find(f"{XENC}EncryptionMethod")
    if transport not in TRANSPORTS or method.find(f"{XENC}OAEPparams") is not None:
        raise _refusal()
    digest = _DIGESTS.get(_chosen(method, f"{_DS}DigestMethod", next(iter(_DIGESTS))))
    mask = _MASKS.get(_chosen(method, f"{_XENC11}MGF", next(iter(_MASKS))))
    if digest is None or mask is None:
        raise _refusal()
    if transport == _MGF1P:
        mask = hashes.SHA1
    try:
        return key.decrypt(_value(wrapped), padding.OAEP(padding.MGF1(mask()), digest(), None))
    except ValueError:
        return b""


def _method(element: Any) -> str:
    return str(_only(element.findall(f"{XENC}EncryptionMethod")).get("Algorithm"))


def _chosen(method: Any, tag: str, usual: str) -> str:
    found = method.find(tag)
    return usual if found is None else str(found.get("Algorithm"))


def _value(element: Any) -> bytes:
    text = _only(element.findall(f"{XENC}CipherData/{XENC}CipherValue")).text or ""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _refusal() from None


def _only(found: list[Any]) -> Any:
    if len(found) != 1:
        raise _refusal()
    return found[0]


def _refusal() -> Declined:
    return Declined("the assertion cannot be decrypted")
