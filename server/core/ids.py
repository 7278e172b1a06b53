"""User, role and profile IDs: validation, and generation of user IDs (`kuid`)."""

import re
import secrets
import uuid

from protocol.errors import error

ADMIN, DEFAULT, ANONYMOUS = "admin", "default", "anonymous"


ANONYMOUS_ID = "-1"
ANONYMOUS_IDS = frozenset({ANONYMOUS_ID, "anonymous"})
"""IDs of the anonymous user, who always exists."""
MOST_ID_BYTES = 512

# Dot segments, plain or escaped: clients resolve them before they send a request (RFC 3986 §5.2.4,
# WHATWG URL "double-dot path segment"), so no path can contain such an ID.
_PATH_STEP = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NUMBERS = 100_000

_ADJECTIVES = (
    "agile amber ample azure bold brave bright brisk calm candid cheerful clever cosmic crisp "
    "curious dapper daring eager early earnest fair famous fancy fearless fond frank gentle "
    "glad golden grand happy hardy honest humble jolly keen kind lively loyal lucid lucky "
    "mellow merry mighty modest neat noble nimble patient placid plucky polite proud quick "
    "quiet rapid sincere snug steady sunny tidy upbeat witty zesty"
).split()
_NAMES = (
    "abel ada agnes alan alma amos anna arne basil bela bruno cecil clara cyril dag dora edgar "
    "edith elsa emil emma ernst fanny felix flora frida gerda gus hanna hedy hugo ida igor ines "
    "iris ivan jonas josef judith karl kira leo lena linus lotte mabel max mina nadia nils nora "
    "olaf otto paula petra rosa rufus sven tilda ulla vera viktor wanda zeno"
).split()


def is_id(value: str) -> bool:
    """Return whether a string can be an ID: not empty, not too long, without control characters and
    lone surrogates."""
    if value.isascii() and value.isprintable():  # nearly all; a fast path
        return 0 < len(value) <= MOST_ID_BYTES
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        return False
    return 0 < length <= MOST_ID_BYTES and _CONTROL.search(value) is None


def is_path_step(value: str) -> bool:
    """Return whether clients treat a string as a dot segment: `.`, `..`, or either escaped."""
    return _PATH_STEP.fullmatch(value) is not None


def check_id(value: str, argument: str = "_id", *, is_new: bool = True) -> str:
    """Return a valid ID, or with `is_new` one that may be created; ApiError 400 for any other."""
    if not value:
        raise error("api.assert.empty_argument", argument)
    if not is_id(value):
        limit = f"a string of at most {MOST_ID_BYTES} bytes without control characters"
        raise error("api.assert.invalid_argument", argument, limit)
    if is_new and is_path_step(value):
        limit = 'an id other than "." and "..", which URLs cannot contain'
        raise error("api.assert.invalid_argument", argument, limit)
    return value


def check_kuid(value: str, argument: str = "_id", *, is_new: bool = True) -> str:
    """Return a valid user ID, or one that may be created. ApiError 400 for an invalid one, 412 for
    the anonymous user's."""
    if check_id(value, argument, is_new=is_new) in ANONYMOUS_IDS:
        raise error("security.user.already_exists", value)
    return value


def make_kuid(kind: str) -> str:
    """Generate a user ID: `kuid-<uuid>` for the kind `uuid`, otherwise a pronounceable one."""
    if kind == "uuid":
        return f"kuid-{uuid.uuid4()}"
    words = secrets.choice(_ADJECTIVES), secrets.choice(_NAMES)
    return f"kuid-{words[0]}-{words[1]}-{secrets.randbelow(_NUMBERS)}"
