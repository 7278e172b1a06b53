"""The Cookie field read, the Set-Cookie field written (docs/api/auth.md#token-sources, RFC
6265)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ApiError, LocalError
from protocol.http11.cookies import read_cookie, write_cookie

NAME = "authToken"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJfaWQiOiJhbm4ifQ.c2lnbmF0dXJl-_"
ENDS = "Tue, 24 Nov 2026 08:00:00 GMT"

# What the values of cookies are made of (RFC 6265 §4.1.1).
OCTETS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '",;\\')
# What a header field may hold at all (RFC 9110 §5.5).
FIELD = st.text([chr(code) for code in (9, *range(0x20, 0x7F), *range(0x80, 0x100))])


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (f"authToken={TOKEN}", TOKEN),
        (f"a=b; authToken={TOKEN}; c=d", TOKEN),
        (f"a=b;authToken={TOKEN}", TOKEN),
        (f" \tauthToken \t=\t {TOKEN} ", TOKEN),
        (f'authToken="{TOKEN}"', TOKEN),
        ("authToken=", ""),
        ('authToken=""', ""),
        ("authToken=null", "null"),
        ("authToken=a=b=", "a=b="),
        # Percent escapes are undone once; what is none stays.
        ("authToken=a%2Eb%3B", "a.b;"),
        ("authToken=%C3%A9", "é"),
        ("authToken=%252E", "%2E"),
        ("authToken=%zz%", "%zz%"),
        # Others' cookies are nobody's business, however they look.
        (f'a="b;c; \x80=\\,; =; ;;; authToken={TOKEN};', TOKEN),
        (f"a=1; a=2; authToken={TOKEN}", TOKEN),
        # Names are told apart by case, and are not looked for within others.
        ("authtoken=a", None),
        ("xauthToken=a; authTokenx=a; __Host-authToken=a", None),
        ("a=authToken=b", None),
        ("authToken", None),
        ("", None),
        (";", None),
    ],
)
def test_cookies_that_can_be_read(header: str, value: str | None) -> None:
    assert read_cookie(header, NAME) == value


@pytest.mark.parametrize(
    "header",
    [
        # Two readers could choose differently.
        "authToken=a; authToken=b",
        "authToken=a; authToken=a",
        "authToken=a; b=c; authToken=",
        # What no cookie holds.
        "authToken=a b",
        "authToken=a,b",
        "authToken=a\\b",
        'authToken=a"b',
        'authToken="a',
        'authToken=a"',
        'authToken="',
        'authToken=""""',
        "authToken=\x80",
        "authToken=a\tb",
        # Escapes of what is no text.
        "authToken=%FF",
        "authToken=%C3",
        "authToken=%ED%A0%80",
    ],
)
def test_cookies_that_are_refused(header: str) -> None:
    """docs/api/auth.md#token-sources."""
    with pytest.raises(ApiError) as refused:
        read_cookie(header, NAME)
    assert (refused.value.id, refused.value.status) == ("security.cookie.invalid", 401)


@given(FIELD)
def test_any_field_has_a_value_or_is_refused(header: str) -> None:
    for tried in (header, f"{NAME}={header}"):
        try:
            value = read_cookie(tried, NAME)
        except ApiError as refused:
            assert refused.id == "security.cookie.invalid"
        else:
            assert value is None or value.encode() is not None


@given(
    st.text(OCTETS.replace("%", "")),
    st.lists(FIELD.filter(lambda text: ";" not in text and NAME not in text)),
    st.data(),
)
def test_other_cookies_change_nothing(value: str, others: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(others)))
    pairs = [*others[:at], f"{NAME}={value}", *others[at:]]
    assert read_cookie("; ".join(pairs), NAME) == value


@pytest.mark.parametrize(
    ("expires", "is_secure", "written"),
    [
        (ENDS, False, f"n=v; Path=/; Expires={ENDS}; HttpOnly; SameSite=Strict"),
        (None, False, "n=v; Path=/; HttpOnly; SameSite=Strict"),
        (ENDS, True, f"n=v; Path=/; Expires={ENDS}; HttpOnly; SameSite=Strict; Secure"),
        (None, True, "n=v; Path=/; HttpOnly; SameSite=Strict; Secure"),
    ],
)
def test_cookies_are_written(expires: str | None, is_secure: bool, written: str) -> None:
    """docs/api/auth.md#cookies; docs/api/differences.md#cookie-attributes adds `Secure`."""
    assert write_cookie("n", "v", expires=expires, is_secure=is_secure) == written


@pytest.mark.parametrize("value", ["a;b", "a b", "a\r\nb", "é", '"', "a,b", "a\n"])
def test_a_value_that_would_break_the_field(value: str) -> None:
    with pytest.raises(LocalError):
        write_cookie("n", value, expires=None, is_secure=False)
