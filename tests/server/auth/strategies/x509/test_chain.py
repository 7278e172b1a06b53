"""Chains, revocation lists and the files they come from (security check D5; RFC 5280)."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from protocol.errors import LocalError
from server.auth.strategies.x509 import chain as x509chains
from server.auth.strategies.x509 import trust_store as x509files
from server.auth.strategies.x509.chain import Chains, Files, Good
from tests.support.clock import START_MS
from tests.support.pki import CLIENT, Authority, Shown, make, usage

NOW = datetime.fromtimestamp(START_MS / 1000, UTC)
LATE = {"ends": NOW - timedelta(seconds=1)}
ROOT = Authority("root")
BETWEEN = Authority("between", ROOT)
PURPOSE = (x509.ExtendedKeyUsage([CLIENT]), False)
NO_CHAIN = "no chain to a trusted authority"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


Write = Callable[[str, str], str]


def judge(chains: Chains, shown: Shown, *others: Shown) -> str | None:
    """Give why a certificate is no good, None for a good one."""
    found = chains.judge(shown.der, [one.der for one in others], START_MS)
    return None if isinstance(found, Good) else found


def test_what_a_client_sends_along(write: Write) -> None:
    """Certificates between come with the client or from a file; alone each is not enough."""
    root, between = write("root.pem", ROOT.pem), write("between.pem", BETWEEN.pem)
    deep = Authority("deep", BETWEEN)
    chains = Chains(Files([root]))
    assert judge(chains, BETWEEN.sign()) == NO_CHAIN
    assert judge(chains, BETWEEN.sign(), BETWEEN) is None
    assert judge(chains, deep.sign(), BETWEEN, deep) is None
    assert judge(chains, deep.sign(), deep, BETWEEN) is None
    assert judge(chains, deep.sign(), deep) == NO_CHAIN
    assert judge(Chains(Files([root], [between])), deep.sign(), deep) is None
    # One that is trusted by itself needs nobody above it, and does not make its root trusted.
    only = Chains(Files([between]))
    assert judge(only, BETWEEN.sign()) is None
    assert judge(only, ROOT.sign(), ROOT) == NO_CHAIN


def limited(*extensions: tuple[x509.ExtensionType, bool], **more: datetime) -> Authority:
    """Give something between with other extensions."""
    made = Authority("limited", ROOT)
    shown = make("limited", ROOT, *extensions, key=made.key, **more)
    made.certificate = shown.certificate
    return made


IS_CA = (x509.BasicConstraints(True, None), True)


@pytest.mark.parametrize(
    "between",
    [
        limited((x509.BasicConstraints(False, None), True)),
        limited(),
        limited(IS_CA, (usage("digital_signature"), True)),
        limited(IS_CA, **LATE),
        limited(IS_CA, begins=NOW + timedelta(seconds=1)),
        limited(IS_CA, (x509.NameConstraints([x509.DNSName("other.test")], None), True)),
        limited(IS_CA, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)),
    ],
    ids=["a client", "nothing said", "other use", "expired", "not yet", "names", "critical"],
)
def test_what_may_not_stand_between(write: Write, between: Authority) -> None:
    """Whoever may not sign this certificate signs it for nothing."""
    chains = Chains(Files([write("root.pem", ROOT.pem)]))
    shown = between.sign("ann", x509.DNSName("ann.test"))
    assert judge(chains, shown, between) == NO_CHAIN
    assert judge(chains, limited(IS_CA).sign(), limited(IS_CA)) == NO_CHAIN  # another key
    sound = limited(IS_CA)
    assert judge(chains, sound.sign("ann", x509.DNSName("ann.test")), sound) is None


def test_a_chain_has_an_end(write: Write) -> None:
    """As deep as allowed, and one deeper."""
    chain = [ROOT]
    for number in range(x509chains.MOST_DEPTH + 1):
        chain.append(Authority(f"a{number}", chain[-1]))
    chains = Chains(
        Files([write("root.pem", ROOT.pem)], [write("b", "".join(one.pem for one in chain))])
    )
    assert judge(chains, chain[-2].sign()) is None
    assert judge(chains, chain[-1].sign()) == NO_CHAIN


def test_oversized_certificates(write: Write) -> None:
    """Not even looked at."""
    chains = Chains(Files([write("root.pem", ROOT.pem)]))
    names = [x509.DNSName(f"{'x' * 50}{number}.test") for number in range(400)]
    assert judge(chains, ROOT.sign("ann", *names)) == "oversized certificate"


def test_certificates_along_that_are_none(write: Write) -> None:
    """They help nobody, and hurt nobody."""
    chains = Chains(Files([write("root.pem", ROOT.pem)]))
    rubbish = [b"", b"\x30\x82", b"x" * 20_000]
    assert isinstance(chains.judge(ROOT.sign().der, rubbish, START_MS), Good)
    found = chains.judge(BETWEEN.sign().der, [*rubbish, BETWEEN.der], START_MS)
    assert isinstance(found, Good)


# Revocation


ANN, BOB = ROOT.sign("ann"), ROOT.sign("bob")
OLD = "expired revocation list"
NONE = "no revocation list of its issuer"


def scope(**said: object) -> x509.IssuingDistributionPoint:
    """Give what a list says it is about."""
    nothing = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**nothing, **said})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lists", "of_ann", "of_bob"),
    [
        ([lambda: ROOT.revoke(ANN)], "revoked", None),
        ([lambda: ROOT.revoke()], None, None),
        ([lambda: ROOT.revoke(ANN, **LATE)], "revoked", OLD),
        ([lambda: ROOT.revoke(begins=NOW + timedelta(seconds=1))], OLD, OLD),
        ([lambda: ROOT.revoke(ANN, **LATE), lambda: ROOT.revoke()], "revoked", None),
        ([lambda: BETWEEN.revoke(ANN)], NONE, NONE),
        ([lambda: Authority("root").revoke(ANN)], NONE, NONE),
        ([lambda: ROOT.revoke(ANN, signer=BETWEEN)], NONE, NONE),
        ([lambda: ROOT.revoke(ANN, scope=scope(only_contains_user_certs=True))], "revoked", None),
        ([lambda: ROOT.revoke(ANN, scope=scope(only_contains_ca_certs=True))], NONE, NONE),
        (
            [
                lambda: ROOT.revoke(
                    ANN, scope=scope(full_name=[x509.UniformResourceIdentifier("http://a.test/1")])
                )
            ],
            NONE,
            NONE,
        ),
    ],
)
def test_revoked(
    write: Write, lists: list[Callable[[], str]], of_ann: str | None, of_bob: str | None
) -> None:
    """A certificate of which no list speaks in its time may be revoked, so it is no good."""
    files = [write(f"{number}.crl", made()) for number, made in enumerate(lists)]
    chains = Chains(Files([write("root.pem", ROOT.pem)], (), files))
    assert (judge(chains, ANN), judge(chains, BOB)) == (of_ann, of_bob)


def test_old_lists_by_option(write: Write) -> None:
    """`acceptOldCrl`: what it names is revoked for good, others are believed."""
    files = Files([write("root.pem", ROOT.pem)], (), [write("a.crl", ROOT.revoke(ANN, **LATE))])
    chains = Chains(files, takes_old_lists=True)
    assert (judge(chains, ANN), judge(chains, BOB)) == ("revoked", None)


def test_authorities_are_revoked_too(write: Write) -> None:
    """Each of a chain needs a list, but for the one that is trusted; several may share a file."""
    shown, root = BETWEEN.sign(), write("root.pem", ROOT.pem)

    def told(text: str) -> str | None:
        return judge(Chains(Files([root], (), [write("all.crl", text)])), shown, BETWEEN)

    assert told(BETWEEN.revoke()) == NONE
    assert told(BETWEEN.revoke() + ROOT.revoke()) is None
    assert told(BETWEEN.revoke() + ROOT.revoke(BETWEEN)) == "authority revoked"
    assert told(BETWEEN.revoke(shown) + ROOT.revoke()) == "revoked"


@pytest.mark.parametrize(
    ("uses", "found"), [(["key_cert_sign"], NONE), (["key_cert_sign", "crl_sign"], None)]
)
def test_who_may_sign_lists(write: Write, uses: list[str], found: str | None) -> None:
    """RFC 5280 §4.2.1.3: the list of an authority that may not sign any says nothing."""
    between = limited(IS_CA, (usage(*uses), True))
    lists = write("all.crl", between.revoke() + ROOT.revoke())
    chains = Chains(Files([write("root.pem", ROOT.pem)], (), [lists]))
    assert judge(chains, between.sign(), between) == found


def test_a_list_with_a_point(write: Write) -> None:
    """A part of an authority's lists speaks of those that name it."""
    place = x509.UniformResourceIdentifier("http://a.test/1")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([place], None, None, None)])
    shown = make("ann", ROOT, PURPOSE, (points, False))
    text = ROOT.revoke(scope=scope(full_name=[place]))
    chains = Chains(Files([write("root.pem", ROOT.pem)], (), [write("a.crl", text)]))
    assert (judge(chains, shown), judge(chains, ANN)) == (None, NONE)


@pytest.mark.parametrize(
    "extension",
    [
        scope(indirect_crl=True),
        scope(only_contains_attribute_certs=True),
        scope(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])),
        x509.DeltaCRLIndicator(1),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"),
    ],
)
def test_lists_that_can_not_be_used(write: Write, extension: x509.ExtensionType) -> None:
    """RFC 5280 §5.2: of what is critical and not known nothing follows. It is said at the start."""
    file = write("a.crl", ROOT.revoke(scope=extension))
    with pytest.raises(LocalError, match="revocation list"):
        Chains(Files([write("root.pem", ROOT.pem)], (), [file]))


# Files that change


def test_files_are_read_again(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """Once they have changed; one that is no good any more counts as it was, and is told once."""
    caplog.set_level(logging.INFO)
    root, crl = write("root.pem", ROOT.pem), write("a.crl", ROOT.revoke())
    chains = Chains(Files([root], (), [crl]))
    assert judge(chains, ANN) is None
    write("new", ROOT.revoke(ANN))
    os.replace(f"{crl.removesuffix('a.crl')}new", crl)
    assert judge(chains, ANN) == "revoked"
    for spoil in (lambda: write("a.crl", "rubbish"), lambda: os.unlink(crl)):
        caplog.clear()
        spoil()
        for _ in range(3):
            assert judge(chains, ANN) == "revoked"
        assert caplog.text.count("keeping the old contents") == 1
    write("a.crl", ROOT.revoke())
    assert judge(chains, ANN) is None
    write("root.pem", Authority("another").pem)
    assert judge(chains, ANN) == NO_CHAIN


def test_files_are_bounded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """As large as allowed, and one byte more; as many authorities, and one more."""
    text = ROOT.pem
    monkeypatch.setattr(x509files, "MOST_FILE_BYTES", len(text))
    Chains(Files([write("root.pem", text)]))
    with pytest.raises(LocalError, match="more than [0-9,]+ bytes"):
        Chains(Files([write("root.pem", text + "\n")]))
    monkeypatch.setattr(x509files, "MOST_FILE_BYTES", 2 * len(text))
    monkeypatch.setattr(x509files, "MOST_AUTHORITIES", 1)
    with pytest.raises(LocalError, match="more than 1 certificates"):
        Chains(Files([write("root.pem", text + text)]))


def test_a_list_in_der(tmp_path: Path, write: Write) -> None:
    crl = x509.load_pem_x509_crl(ROOT.revoke(ANN).encode())
    (tmp_path / "a.crl").write_bytes(crl.public_bytes(x509files.Encoding.DER))
    files = Files([write("root.pem", ROOT.pem)], (), [str(tmp_path / "a.crl")])
    assert judge(Chains(files), ANN) == "revoked"
