"""Certificates in header fields, as each kind of proxy writes them (RFC 9440; check D5)."""

import base64
from urllib.parse import quote

import pytest

from server.auth.strategies.x509.proxy_header import (
    MOST_CERTIFICATES,
    MOST_FIELD_CHARACTERS,
    read_field,
)
from tests.support.pki import Authority

ROOT = Authority("root")
ANN, BOB = ROOT.sign("ann"), ROOT.sign("bob")
DER = base64.b64encode(ANN.der).decode()
PEM = quote(ANN.pem, safe="")
ITEM = f":{DER}:"
MORE = f":{base64.b64encode(BOB.der).decode()}:"


def read(form: str, value: str, **more: str) -> list[bytes] | None:
    return read_field({"x-cert": value, **more}, "x-cert", form)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("pem", PEM),
        ("pem", quote(ANN.pem)),
        ("pem", quote(ANN.pem.replace("\n", "\r\n"), safe="")),
        ("pem", PEM.removesuffix("%0A")),
        ("rfc9440", ITEM),
        ("rfc9440", f" {ITEM} "),
        ("base64", DER),
        ("xfcc", f'By=spiffe://a;Hash=ab;Cert="{PEM}";Subject="CN=a,O=\\"b\\";c";URI='),
        ("xfcc", f'Cert="{PEM}"'),
        ("xfcc", f"cert={quote(ANN.pem, safe='')}"),
    ],
)
def test_one_certificate(form: str, value: str) -> None:
    assert read(form, value) == [ANN.der]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("pem", ""),
        ("pem", f"{PEM}, {PEM}"),
        ("pem", PEM + PEM),
        ("pem", ITEM),
        ("pem", DER),
        ("pem", ANN.pem.replace("\n", " ") + "x"),
        ("pem", quote(ANN.pem.replace("CERTIFICATE", "PUBLIC KEY"), safe="")),
        ("pem", PEM.replace("MII", "M%00I", 1)),
        ("pem", PEM.replace("MII", "M-I", 1)),
        ("pem", f"\xe4{PEM}"),
        ("pem", "x" * (MOST_FIELD_CHARACTERS + 1)),
        ("rfc9440", DER),
        ("rfc9440", f"{ITEM}, {ITEM}"),
        ("rfc9440", f"{ITEM};a=1"),
        ("rfc9440", "::"),
        ("rfc9440", f":{DER[:-1]}:"),
        ("rfc9440", f":{DER}"),
        ("base64", f"{DER},{DER}"),
        ("base64", f"{DER} {DER}"),
        ("base64", "\u0660"),
        ("xfcc", ""),
        ("xfcc", PEM),
        ("xfcc", "Hash=ab"),
        ("xfcc", f'Cert="{PEM}";Cert="{PEM}"'),
        ("xfcc", f'Cert="{PEM}",Cert="{PEM}"'),
        ("xfcc", f'Hash=ab,Cert="{PEM}"'),
        ("xfcc", f'Cert="{PEM}'),
        ("xfcc", f'Cert="{PEM}";'),
        ("xfcc", f'Subject="a\\";Cert="{PEM}"'),
    ],
)
def test_what_is_not_exactly_one(form: str, value: str) -> None:
    """Two may be a client's own and a proxy's."""
    assert read(form, value) is None


def test_the_chain_beside() -> None:
    """RFC 9440 §2.3: only with the field it belongs to, and bounded."""
    chain = {"client-cert-chain": f"{MORE}, rubbish, {MORE}"}
    assert read("rfc9440", ITEM, **chain) == [ANN.der, BOB.der, BOB.der]
    assert read("pem", PEM, **chain) == [ANN.der]
    many = ", ".join([":QUJD:"] * 50)
    found = read("rfc9440", ITEM, **{"client-cert-chain": many})
    assert found is not None
    assert len(found) == MOST_CERTIFICATES
    assert read("rfc9440", ITEM, **{"client-cert-chain": "x" * 100_000}) == [ANN.der]


@pytest.mark.parametrize("piece", ["-----BEGIN CERTIFICATE-----", 'a="', "\\", "a=;", "%0A", " "])
@pytest.mark.parametrize("form", ["pem", "rfc9440", "xfcc", "base64"])
def test_a_long_field_that_says_nothing(form: str, piece: str) -> None:
    """Whatever stands in it, reading it takes no more than its length."""
    assert read(form, piece * (MOST_FIELD_CHARACTERS // len(piece))) is None
