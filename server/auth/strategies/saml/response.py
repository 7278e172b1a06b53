"""SAML response checks before any of it is trusted, and checks of its assertion (SAML 2.0 core §2,
§5; profiles §4.1.4; bindings §3.5; XML Signature §4).

Does not verify signatures: python3-saml does, on the same bytes. Where that is laxer than the
profile, the profile is enforced here: exact URLs, nothing optional that a login depends on, and no
XML that can be read in two ways.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree  # type: ignore[import-untyped]

from server.auth.strategies.federated import DENIED, Declined
from server.auth.strategies.saml.decryption import decrypt

MOST_RESPONSE_CHARACTERS = 65_536
"""Maximum length of a response in base64."""
MOST_PREFIXES = 16
"""Maximum number of namespace prefixes that a signature lists (exclusive canonicalization §2.1):
each costs time for each element, before the signer is known."""
_SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
_SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_ENCRYPTED = tuple(f"{_SAML}{name}" for name in ("EncryptedAssertion", "EncryptedID"))
_CONDITIONS = tuple(
    f"{_SAML}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction")
)
_BLANKS = re.compile(r"[ \t\r\n]+")
_DECLARATION = re.compile(
    r"""<\?xml[ \t]+version=["']1\.0["']([ \t]+encoding=["']utf-8["'])?"""
    r"""([ \t]+standalone=["'](yes|no)["'])?[ \t]*\?>""",
    re.IGNORECASE,
)
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?Z")
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_PREFIXES = f"{{{_EXCLUSIVE}}}InclusiveNamespaces"
_CANONICAL = (_EXCLUSIVE, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")
_TRANSFORMS = (_EXCLUSIVE, "http://www.w3.org/2000/09/xmldsig#enveloped-signature")
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
# Only asymmetric algorithms, no HMAC: a verifier's key cannot sign. No SHA-1.
_SIGNATURES = tuple(
    f"{_MORE}{kind}-sha{bits}" for kind in ("rsa", "ecdsa") for bits in (256, 384, 512)
)
_DIGESTS = (
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512",
)


@dataclass(frozen=True, slots=True)
class Message:
    """A response: its `text` in base64 as it is passed on, and its only assertion."""

    text: str
    response: Any
    assertion: Any


@dataclass(frozen=True, slots=True)
class Expected:
    """What an assertion must be for: this server, this URL, this request."""

    entity_id: str
    callback_url: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Opening:
    """How encrypted assertions are decrypted: with `key`, None if they are refused; all others are
    refused if they are `required`. `is_signed` returns whether the signature of a response, as it
    was received, is the provider's."""

    key: rsa.RSAPrivateKey | None = field(default=None, repr=False)
    is_required: bool = False
    is_signed: Callable[[bytes], bool] = lambda body: False


_NO_DECRYPTION = Opening()


def read(text: str, opening: Opening = _NO_DECRYPTION) -> Message:
    """Parse a response whose structure leaves no doubt what is signed; Declined for any other. If
    the assertion was encrypted, it is replaced by the decrypted one."""
    if len(text) > MOST_RESPONSE_CHARACTERS:
        raise Declined("response too large")
    try:
        body = _plain(base64.b64decode(_BLANKS.sub("", text), validate=True))
        root = _parse(body)
    except (binascii.Error, UnicodeError, ValueError):
        raise Declined("response is not XML in base64") from None
    if root.tag != f"{_SAMLP}Response":
        raise Declined("not a SAML response")
    _check_status(root)
    _check_ids(root)
    encrypted = root.findall(f"{_SAML}EncryptedAssertion")
    if len(encrypted) == 1 and opening.key is not None:
        body = _decrypted(root, encrypted[0], body, opening, opening.key)
        root = _parse_decrypted(body)
        _check_ids(root)
    elif opening.is_required and not encrypted:
        raise Declined("assertion not encrypted")
    assertion = _only_assertion(root)
    _check_signatures(root, assertion)
    return Message(base64.b64encode(body).decode(), root, assertion)


def check(message: Message, expected: Expected, now: datetime) -> None:
    """Check that the assertion is for this server, this request and this time; Declined if it is
    not."""
    destination = message.response.get("Destination")
    if destination is not None and destination != expected.callback_url:
        raise Declined("wrong destination")
    conditions = message.assertion.findall(f"{_SAML}Conditions")
    if len(conditions) != 1 or any(one.tag not in _CONDITIONS for one in conditions[0]):
        raise Declined("unknown conditions")
    audiences = conditions[0].findall(f"{_SAML}AudienceRestriction")
    # Each of several must hold (core §2.5.1.4).
    if not audiences or not all(expected.entity_id in set(_audiences(one)) for one in audiences):
        raise Declined("wrong audience")
    confirmed = f"{_SAML}Subject/{_SAML}SubjectConfirmation[@Method='{_BEARER}']"
    found = message.assertion.findall(f"{confirmed}/{_SAML}SubjectConfirmationData")
    reasons = [_why_not(one, expected, now) for one in found]
    if "" not in reasons:
        raise Declined((reasons or ["no subject confirmation"])[0])


def _plain(data: bytes) -> bytes:
    """Return XML in UTF-8 without its declaration, and without anything else that begins with `<!`
    or `<?`: no document types and no entities, no comments and no CDATA, whose text programs read
    in different ways."""
    text = data.decode("utf-8-sig")
    declaration = _DECLARATION.match(text)
    body = text[declaration.end() :] if declaration else text
    if "<!" in body or "<?" in body:
        raise Declined("XML with a document type, comment, CDATA or processing instruction")
    return body.encode()


def _parse(body: bytes) -> Any:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        return etree.fromstring(body, parser)
    except etree.XMLSyntaxError:
        raise ValueError("not XML") from None


def _parse_decrypted(body: bytes) -> Any:
    try:
        return _parse(body)
    except ValueError:
        raise Declined("decrypted content is not an assertion") from None


def _decrypted(
    root: Any, encrypted: Any, body: bytes, opening: Opening, key: rsa.RSAPrivateKey
) -> bytes:
    """Return a response with its assertion decrypted. A signature of the response signs it as it
    was received, and is verified before anything is decrypted."""
    for signature in list(root.iter(f"{_DS}Signature")):
        if signature.getparent() is not root:
            raise Declined("signature at an unexpected place")
        _check_signature(signature, str(root.get("ID")))
        if not opening.is_signed(body):
            raise Declined("invalid signature")
        root.remove(signature)
    try:
        # Parsed in the context of the encrypted one, so that namespace prefixes keep their meaning.
        holder = etree.Element("holder", nsmap=encrypted.nsmap)
        around = etree.tostring(holder).decode()
        start = around.removesuffix("/>") + ">"
        inner = _plain(decrypt(encrypted, key)).decode()
        found = _parse(f"{start}{inner}</holder>".encode())
    except (UnicodeError, ValueError):
        raise Declined("decrypted content is not an assertion") from None
    if len(found) != 1 or found[0].tag != f"{_SAML}Assertion":
        raise Declined("decrypted content is not an assertion")
    found[0].tail = None
    root.replace(encrypted, found[0])
    decrypted: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=False)
    return decrypted


def _check_status(root: Any) -> None:
    codes = root.findall(f"{_SAMLP}Status/{_SAMLP}StatusCode")
    if len(codes) != 1 or codes[0].get("Value") is None:
        raise Declined("no status")
    if codes[0].get("Value") != _SUCCESS:
        raise Declined(DENIED, is_denied=True)


def _check_ids(root: Any) -> None:
    """Check that IDs are unique, whatever the attribute is called: signatures refer to the signed
    element by its ID (signature wrapping)."""
    found = [
        element.get(name)
        for element in root.iter()
        for name in ("ID", "Id", "id", _XML_ID)
        if name in element.attrib
    ]
    if len(set(found)) < len(found) or any(_XML_ID in one.attrib for one in root.iter()):
        raise Declined("duplicate ID")


def _only_assertion(root: Any) -> Any:
    """Return the only assertion, which must be a child of the response: a second one hidden
    elsewhere could be read instead of the signed one (signature wrapping)."""
    if next(root.iter(*_ENCRYPTED), None) is not None:
        raise Declined("unexpected encrypted assertion")
    found = list(root.iter(f"{_SAML}Assertion"))
    if len(found) != 1 or found[0].getparent() is not root:
        raise Declined("not exactly one assertion")
    return found[0]


def _check_signatures(root: Any, assertion: Any) -> None:
    """Check that the assertion is signed, and that each signature signs its parent element."""
    signed: list[Any] = []
    for signature in root.iter(f"{_DS}Signature"):
        parent = signature.getparent()
        if not (parent is root or parent is assertion) or any(parent is one for one in signed):
            raise Declined("signature at an unexpected place")
        signed.append(parent)
        _check_signature(signature, str(parent.get("ID")))
    if not any(one is assertion for one in signed):
        raise Declined("no signed assertion")


def _check_signature(signature: Any, name: str) -> None:
    """Check a signature before it is verified: its transforms are chosen by the sender."""
    parts = [one.tag for one in signature if one.tag != f"{_DS}KeyInfo"]
    if parts != [f"{_DS}SignedInfo", f"{_DS}SignatureValue"]:
        raise Declined("malformed signature")
    (method,) = _algorithms(signature, "SignedInfo/CanonicalizationMethod")
    (signer,) = _algorithms(signature, "SignedInfo/SignatureMethod")
    references = signature.findall(f"{_DS}SignedInfo/{_DS}Reference")
    if len(references) != 1 or references[0].get("URI") != f"#{name}":
        raise Declined("signature of another element")
    (digest,) = _algorithms(references[0], "DigestMethod")
    transforms = _algorithms(references[0], "Transforms/Transform", limit=2)
    if not set(transforms) <= set(_TRANSFORMS) or method not in _CANONICAL:
        raise Declined("signature with a transform that is not allowed")
    prefixes = [one.get("PrefixList", "") for one in signature.iter(_PREFIXES)]
    if len(" ".join(prefixes).split()) > MOST_PREFIXES:
        raise Declined("signature with too many prefixes")
    if signer not in _SIGNATURES or digest not in _DIGESTS:
        raise Declined("signature with an algorithm that is not allowed")


def _algorithms(element: Any, path: str, limit: int = 1) -> list[str]:
    found = element.findall("/".join(_DS + step for step in path.split("/")))
    if not 1 <= len(found) <= limit:
        raise Declined("malformed signature")
    return [str(one.get("Algorithm")) for one in found]


def _audiences(restriction: Any) -> Iterator[str]:
    for audience in restriction.findall(f"{_SAML}Audience"):
        yield (audience.text or "").strip()


def _why_not(confirmation: Any, expected: Expected, now: datetime) -> str:
    """Return why a bearer confirmation is not valid (profiles §4.1.4.2), "" if it is."""
    if confirmation.get("Recipient") != expected.callback_url:
        return "wrong recipient"
    given = (confirmation.get("InResponseTo") or "").encode()
    if not hmac.compare_digest(given, expected.request_id.encode()):
        return "assertion of another request"
    ends, begins = confirmation.get("NotOnOrAfter"), confirmation.get("NotBefore")
    if ends is None or _read_time(ends) <= now:
        return "assertion expired"
    if begins is not None and _read_time(begins) > now:
        return "assertion too early"
    return ""


def _read_time(text: str) -> datetime:
    found = _TIME.fullmatch(text)
    if found is None:
        raise Declined("malformed time")
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    except ValueError:
        raise Declined("malformed time") from None
