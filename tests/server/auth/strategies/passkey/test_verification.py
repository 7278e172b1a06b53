"""Answers of authenticators that prove nothing: each refused alike, with the reason in the audit
trail alone, and nothing made (security checks A14, X1)."""

import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from copy import deepcopy

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.auth.strategies.passkey import cbor as ctap
from server.auth.strategies.passkey.verification import (
    Expected,
    Rejected,
    read_assertion,
    read_bytes,
    verify_assertion,
    verify_registration,
    write_bytes,
)
from tests.server.auth.audit.test_events import ends, events
from tests.support.authenticator import (
    ATTESTED,
    EXTENDED,
    GOOD,
    ORIGIN,
    PRESENT,
    RP_ID,
    VERIFIED,
    Answers,
    Authenticator,
    Json,
    decode,
    encode,
)
from tests.support.errors import told
from tests.support.passkeys import CREATE, Place, place_of

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
BAD_FORM, BAD_DATA = "malformed attestationObject", "malformed authenticatorData"
UNVERIFIED = "not verified: InvalidRegistrationResponse"
ALGORITHMS = ("ES256", "EdDSA", "RS256")
# Each shares the one before it twice: written down, the last one takes 2 ** 16 entries; 24 more
# levels would need all memory.
LAUGHS = (
    b"\xa1\x61a\x98\x11\xd8\x1c\x80"
    + b"".join(
        b"\xd8\x1c\x82" + 2 * (b"\xd8\x1d" + cbor2.dumps(number)) for number in range(16)
    )
)  # fmt: skip

# What is wrong in both kinds of answer, and what the trail says.
WRONG: dict[str, tuple[Answers, str]] = {
    "another origin": (Answers(origin="https://evil.test"), "another origin"),
    "a sub-domain": (Answers(origin="https://www.app.keys.test"), "another origin"),
    "another scheme": (Answers(origin="http://app.keys.test"), "another origin"),
    "another port": (Answers(origin=f"{ORIGIN}:8443"), "another origin"),
    "a slash": (Answers(origin=f"{ORIGIN}/"), "another origin"),
    "an origin in capitals": (Answers(origin=ORIGIN.upper()), "another origin"),
    "a list of origins": (Answers(origin=[ORIGIN]), "another origin"),
    "no origin": (Answers(origin=None), "another origin"),
    "another challenge": (Answers(challenge=encode(os.urandom(32))), "another challenge"),
    "no challenge": (Answers(challenge=""), "another challenge"),
    "a padded challenge": (Answers(challenge="A" * 43 + "="), "another challenge"),
    "another domain": (Answers(rp_id="evil.test"), "another rpId"),
    "the domain above": (Answers(rp_id="test"), "another rpId"),
    "nobody present": (Answers(flags=VERIFIED), "no user was present"),
    "nobody verified": (Answers(flags=PRESENT), "the user was not verified"),
    "another type": (Answers(kind="payment.get"), "a response to another kind of request"),
    "no type": (Answers(kind=[]), "a response to another kind of request"),
    "in a frame": (Answers(more={"crossOrigin": True}), "a page in a frame of another site"),
    "in a named frame": (
        Answers(more={"crossOrigin": True, "topOrigin": ORIGIN}),
        "a page in a frame of another site",
    ),
    "in a frame that is none": (
        Answers(more={"topOrigin": "https://evil.test"}),
        "a page in a frame of another site",
    ),
    "more behind": (Answers(behind=b"\x00"), BAD_DATA),
    "extensions that are not there": (
        Answers(flags=GOOD | EXTENDED),
        BAD_DATA,
    ),
    "a bomb of CBOR": (
        Answers(flags=GOOD | EXTENDED, behind=LAUGHS),
        BAD_DATA,
    ),
    "deep CBOR": (
        Answers(flags=GOOD | EXTENDED, behind=b"\x81" * 2000 + b"\xa0"),
        BAD_DATA,
    ),
    "much client data": (Answers(more={"x": "y" * 5000}), "malformed clientDataJSON"),
}
ONLY_OF_LOGINS: dict[str, tuple[Answers, str]] = {
    "registered again": (Answers(kind="webauthn.create"), "a response to another kind of request"),
    "a foreign handle": (Answers(handle=encode(b"somebody")), "the key is another user's"),
    "an empty handle": (Answers(handle=""), "malformed userHandle"),
    "a long handle": (Answers(handle=encode(bytes(65))), "malformed userHandle"),
    "an attested key": (Answers(flags=GOOD | ATTESTED), BAD_DATA),
}
Change = Callable[[dict], object]


def member(name: str, value: object) -> Change:
    """Give what sets a member of the response, or takes it away."""

    def change(credential: dict) -> None:
        if value is None:
            credential["response"].pop(name)
        else:
            credential["response"][name] = value

    return change


def flip(name: str, at: int) -> Change:
    """Give what changes one bit of a member."""

    def change(credential: dict) -> None:
        raw = bytearray(decode(credential["response"][name]))
        raw[at] ^= 1
        credential["response"][name] = encode(bytes(raw))

    return change


CHANGED: dict[str, tuple[Change, str]] = {
    "no id": (lambda one: one.pop("id"), "malformed credential"),
    "an id of text": (lambda one: one.update(id="not base64!"), "malformed credential"),
    "a padded id": (lambda one: one.update(id=one["id"] + "="), "malformed credential"),
    "two ids": (lambda one: one.update(rawId=encode(b"other")), "malformed credential"),
    "a long id": (lambda one: one.update(id="A" * 1400, rawId="A" * 1400), "malformed credential"),
    "another type": (lambda one: one.update(type="password"), "malformed credential"),
    "no response": (lambda one: one.pop("response"), "malformed credential"),
    "a response of text": (lambda one: one.update(response="{}"), "malformed credential"),
    "client data that is no JSON": (
        member("clientDataJSON", encode(b"{]")), "malformed clientDataJSON",
    ),
    "client data that is no object": (
        member("clientDataJSON", encode(b"[]")), "malformed clientDataJSON",
    ),
    "deep client data": (
        member("clientDataJSON", encode(b"[" * 3000)), "malformed clientDataJSON",
    ),
    "client data that is no text": (
        member("clientDataJSON", encode(b"\xff\xfe{}")), "malformed clientDataJSON",
    ),
    "no client data": (member("clientDataJSON", None), "malformed clientDataJSON"),
}  # fmt: skip
ONLY_IN_LOGINS: dict[str, tuple[Change, str]] = {
    "an unknown key": (
        lambda one: one.update(id=encode(b"who"), rawId=encode(b"who")),
        "unknown key",
    ),
    "a number for a handle": (member("userHandle", 7), "malformed userHandle"),
    "no handle": (member("userHandle", None), "the key is another user's"),
    "no data": (member("authenticatorData", None), BAD_DATA),
    "short data": (member("authenticatorData", "AAAA"), BAD_DATA),
    "much data": (member("authenticatorData", "A" * 6000), BAD_DATA),
    "no signature": (member("signature", ""), "malformed signature"),
    "a long signature": (member("signature", "A" * 2000), "malformed signature"),
    "a signature that is none": (
        member("signature", "AAAA"), "not verified: InvalidAuthenticationResponse",
    ),
    "a changed signature": (
        flip("signature", -1), "not verified: InvalidAuthenticationResponse",
    ),
    "a changed counter": (
        flip("authenticatorData", 36), "not verified: InvalidAuthenticationResponse",
    ),
    "a changed domain": (flip("authenticatorData", 0), "another rpId"),
    "changed client data": (
        lambda one: one["response"].update(
            clientDataJSON=encode(decode(one["response"]["clientDataJSON"]) + b" ")
        ),
        "not verified: InvalidAuthenticationResponse",
    ),
}  # fmt: skip


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with place_of() as made:
        yield made


async def check_refused(place: Place, answer: dict, before: list[int], reason: str) -> None:
    """One answer for all of them, nothing made, and one line with the reason."""
    assert told(answer) == REFUSED
    assert answer["error"]["message"] in (
        "wrong user or password",
        "the authenticator's response is not valid: create the passkey again",
    )
    assert await place.counts() == before
    kind = f"{answer['controller']}:{answer['action']}"
    outcome, told_reason, _, actor = ends(await events(place.server, place.admin, kind=kind))[-1]
    assert (outcome, told_reason) == ("refused", reason)
    assert actor == ("-1" if kind == "auth:login" else "ann")


@pytest.mark.parametrize("name", [*WRONG, *ONLY_OF_LOGINS])
async def test_a_login_that_proves_nothing(place: Place, name: str) -> None:
    """A14: signed by the right key, but not what was asked for."""
    wrong, reason = (WRONG | ONLY_OF_LOGINS)[name]
    before = await place.counts()
    answer = await place.page().log_in(place.key, wrong)
    await check_refused(place, answer, before, reason)


@pytest.mark.parametrize("name", [*CHANGED, *ONLY_IN_LOGINS])
async def test_a_changed_login(place: Place, name: str) -> None:
    """A14: or it is not what the key has signed."""
    change, reason = (CHANGED | ONLY_IN_LOGINS)[name]
    before = await place.counts()
    page = place.page()
    asked, state = await page.begin()
    credential = place.key.get(asked)
    change(credential)
    await check_refused(place, await page.finish(state, credential), before, reason)


@pytest.mark.parametrize("name", WRONG)
async def test_a_registration_that_proves_nothing(place: Place, name: str) -> None:
    """A14."""
    wrong, reason = WRONG[name]
    before = await place.counts()
    answer = await place.page(token=place.ann).register(Authenticator(), "", wrong)
    await check_refused(place, answer, before, reason)


def attested(change: Callable[[dict], object]) -> Change:
    """Give what changes an attestation."""

    def change_it(credential: dict) -> None:
        found = cbor2.loads(decode(credential["response"]["attestationObject"]))
        given = change(found)
        raw = given if isinstance(given, bytes) else cbor2.dumps(found)
        credential["response"]["attestationObject"] = encode(raw)

    return change_it


def with_key(public_key: object) -> Change:
    """Give what puts another public key into an attestation."""

    def change(found: dict) -> None:
        raw = public_key if isinstance(public_key, bytes) else cbor2.dumps(public_key)
        found["authData"] = found["authData"][: 37 + 18 + 32] + raw

    return attested(change)


NEW: dict[str, tuple[Change, str]] = {
    "no attestation": (member("attestationObject", None), BAD_FORM),
    "a long one": (member("attestationObject", "A" * 30_000), BAD_FORM),
    "no CBOR": (member("attestationObject", encode(b"\xff")), BAD_FORM),
    "a bomb": (member("attestationObject", encode(LAUGHS)), BAD_FORM),
    "no map": (attested(lambda found: b"\x80"), BAD_FORM),
    "more behind": (attested(lambda found: cbor2.dumps(found) + b"\x00"), BAD_FORM),
    "no data": (attested(lambda found: found.pop("authData")), BAD_FORM),
    "data of text": (attested(lambda found: found.update(authData="x" * 80)), BAD_FORM),
    "short data": (attested(lambda found: found.update(authData=b"x" * 36)), BAD_DATA),
    "no key": (attested(lambda found: found.update(authData=found["authData"][:37])), BAD_DATA),
    "an unknown format": (
        attested(lambda found: found.update(fmt="mine")), UNVERIFIED,
    ),
    "a statement where none is": (
        attested(lambda found: found.update(attStmt={"sig": b"x"})),
        UNVERIFIED,
    ),
    "a statement of another type": (
        attested(lambda found: found.update(attStmt=7)), UNVERIFIED,
    ),
    "a point that is on no curve": (
        with_key({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)}), "not verified: ValueError",
    ),
    "a key of no type": (with_key({3: -7}), "not verified: KeyError"),
    "a key of another algorithm": (
        with_key({1: 2, 3: -36, -1: 1, -2: bytes(32), -3: bytes(32)}),
        UNVERIFIED,
    ),
    "a bomb for a key": (with_key(LAUGHS), BAD_DATA),
    "a key of endless length": (with_key(b"\x5b" + b"\xff" * 8), BAD_DATA),
    "a key that never ends": (with_key(b"\xbf\x01\x02\xff"), BAD_DATA),
}  # fmt: skip


@pytest.mark.parametrize("name", [*CHANGED, *NEW, "another id"])
async def test_a_changed_registration(place: Place, name: str) -> None:
    """A14."""
    before = await place.counts()
    page = place.page(token=place.ann)
    asked, state = await page.begin(CREATE)
    credential = Authenticator().create(asked)
    if name == "another id":
        credential["id"] = credential["rawId"] = encode(os.urandom(32))
        reason = "different ids of the key"
    else:
        change, reason = (CHANGED | NEW)[name]
        change(credential)
    answer = await page.ask(CREATE, {"state": state, "credential": credential})
    await check_refused(place, answer, before, reason)


async def test_one_kind_of_answer_is_not_the_other(place: Place) -> None:
    """A14: what was made at a registration is no login, nor the reverse, whoever asks."""
    before = await place.counts()
    page = place.page()
    asked, state = await page.begin()
    made = place.key.create({**asked, "user": {"id": place.key.handle}})
    answer = await page.finish(state, made)
    await check_refused(place, answer, before, BAD_DATA)
    page = place.page(token=place.ann)
    asked, state = await page.begin(CREATE)
    signed = place.key.get(asked)
    answer = await page.ask(CREATE, {"state": state, "credential": signed})
    await check_refused(place, answer, before, BAD_FORM)


async def test_a_key_signs_for_its_own_user(place: Place) -> None:
    """A14: another user's key with Ann's handle or id lets nobody in."""
    bob = await place.server.create_user(place.admin, "bob")
    other = Authenticator()
    await place.page(token=bob).register(other)
    before = await place.counts()
    answer = await place.page().log_in(other, Answers(handle=place.key.handle))
    await check_refused(place, answer, before, "the key is another user's")
    other.id, other.handle = place.key.id, place.key.handle
    answer = await place.page().log_in(other)
    await check_refused(place, answer, before, "not verified: InvalidAuthenticationResponse")


@pytest.mark.parametrize("credential", [7, "{}", [], True, {"id": {}}, "x" * 100_000])
async def test_what_is_no_credential(place: Place, credential: object) -> None:
    before = await place.counts()
    page = place.page()
    _, state = await page.begin()
    answer = await page.finish(state, credential)
    await check_refused(place, answer, before, "malformed credential")


# Without a server: everything that can come in either is the key's own word, or is rejected.

KEY = Authenticator(count=1)
ASKED: Json = {"challenge": encode(bytes(range(32))), "user": {"id": encode(b"ann")}}
EXPECTED = Expected(str(ASKED["challenge"]), RP_ID, (ORIGIN,), (), True)
MADE = KEY.create(ASKED)
SIGNED = KEY.get(ASKED)


def check_login(credential: object) -> None:
    """Verify a login by the key."""
    public_key = cbor2.dumps(KEY.key.cose())
    verify_assertion(read_assertion(credential), EXPECTED, public_key=public_key, sign_count=0)


def check_new(credential: object) -> None:
    """Verify a registration."""
    verify_registration(credential, EXPECTED, algorithms=ALGORITHMS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary().map(encode),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_changed_login_is_taken(data: st.DataObject) -> None:
    """A14: a byte changed, cut out or put in, anywhere in what counts."""
    check_login(SIGNED)
    names = ("authenticatorData", "clientDataJSON", "signature")
    with pytest.raises(Rejected):
        check_login(mutated(data, SIGNED, names))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_registration_is_rejected_or_another_key(data: st.DataObject) -> None:
    """A14: nothing but `Rejected` is raised; without attestation the key itself is anybody's
    word."""
    check_new(MADE)
    try:
        check_new(mutated(data, MADE, ("attestationObject", "clientDataJSON")))
    except Rejected:
        return


def mutated(data: st.DataObject, credential: Json, names: tuple[str, ...]) -> Json:
    """Give a credential with some bytes changed."""
    changed = deepcopy(credential)
    response = changed["response"]
    assert isinstance(response, dict)
    name = data.draw(st.sampled_from(names))
    raw = decode(response[name])
    start = data.draw(st.integers(0, len(raw) - 1))
    end = data.draw(st.integers(start, min(start + 8, len(raw))))
    new = raw[:start] + data.draw(st.binary(max_size=8)) + raw[end:]
    response[name] = encode(raw[:-1] if new == raw else new)
    return changed


@settings(max_examples=200, deadline=None)
@given(JSON, JSON, st.sampled_from([*MADE["response"], *SIGNED["response"], "id", "rawId"]))  # type: ignore[misc]
def test_any_json_is_rejected(whole: object, value: object, name: str) -> None:
    """A14: in the place of everything, or of one member."""
    for check, credential in ((check_new, MADE), (check_login, SIGNED)):
        with pytest.raises(Rejected):
            check(whole)
        changed = deepcopy(credential)
        inner = changed["response"] if name in credential["response"] else changed  # type: ignore[operator]
        if name in ("transports", "userHandle") or name not in inner or value == inner[name]:  # type: ignore[operator]
            continue
        inner[name] = value  # type: ignore[index]
        with pytest.raises(Rejected):
            check(changed)


def test_duplicate_members_are_read_in_one_way() -> None:
    """A14: whichever reader looks, the origin is the same one."""
    asked = f'"type":"webauthn.get","challenge":"{ASKED["challenge"]}"'
    twice = f'{{{asked},"origin":"https://evil.test","origin":"{ORIGIN}"}}'
    for text, is_fine in ((twice, True), (twice.replace(ORIGIN, "https://x.test"), False)):
        raw = text.encode()
        data = hashlib.sha256(RP_ID.encode()).digest() + bytes([GOOD]) + (9).to_bytes(4, "big")
        signature = KEY.key.sign(data + hashlib.sha256(raw).digest())
        signed = deepcopy(SIGNED)
        signed["response"] = {
            "clientDataJSON": encode(raw),
            "authenticatorData": encode(data),
            "signature": encode(signature),
        }
        assert json.loads(raw)["origin"] in (ORIGIN, "https://x.test")
        if is_fine:
            check_login(signed)
        else:
            with pytest.raises(Rejected):
                check_login(signed)


@given(st.binary(max_size=40))
def test_base64url_is_read_in_one_way(raw: bytes) -> None:
    assert read_bytes(write_bytes(raw), 40) == raw
    assert read_bytes(write_bytes(raw) + "=", 40) is None
    assert read_bytes(write_bytes(raw + b"x"), len(raw)) is None


NUMBERS = st.integers(-(2**64), 2**64 - 1)  # beyond them it takes a tag
ITEMS = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NUMBERS, inner, max_size=4),
    max_leaves=8,
).filter(lambda item: depth_of(item) <= ctap.MOST_LEVELS - 1)


def depth_of(item: object) -> int:
    """Give how deep a structure is."""
    inner = list(item.values()) if isinstance(item, dict) else item
    return 1 + max(map(depth_of, inner), default=0) if isinstance(inner, list) else 0


@given(ITEMS, st.binary(max_size=8))
def test_plain_cbor_ends_where_it_ends(item: object, behind: bytes) -> None:
    raw = cbor2.dumps(item)
    assert ctap.end_of_item(raw + behind) == len(raw)
    assert ctap.is_sequence(raw + raw, 0, 2)
    for cut in range(len(raw)):
        assert ctap.end_of_item(raw[:cut]) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_plain_cbor_or_not(raw: bytes) -> None:
    """What is taken is what the library reads; nothing is raised, nothing read beyond the end."""
    end = ctap.end_of_item(raw)
    if end is not None:
        assert 0 < end <= len(raw)


@pytest.mark.parametrize("levels", [ctap.MOST_LEVELS - 1, ctap.MOST_LEVELS])
def test_cbor_is_as_deep_as_it_may_be(levels: int) -> None:
    raw = b"\x81" * levels + b"\x00"
    assert (ctap.end_of_item(raw) is None) is (levels == ctap.MOST_LEVELS)


@pytest.mark.parametrize("head", [*range(0xC0, 0xE0), 0x5F, 0x7F, 0x9F, 0xBF, 0xFF, 0x1C])
def test_no_tags_and_nothing_without_an_end(head: int) -> None:
    """What they could stand for is more than what is there."""
    assert ctap.end_of_item(bytes([head]) + bytes(20)) is None
