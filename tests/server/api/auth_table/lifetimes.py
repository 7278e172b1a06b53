"""Rows of `expiresIn`, for each action that has it (docs/api/auth.md#expiresin)."""

from collections.abc import Callable

from tests.server.api.auth_table import keys, logins, tokens
from tests.server.api.auth_table.errors import INVALID_ARGUMENT
from tests.server.api.auth_table.made import ann
from tests.server.api.auth_table.rows import TEXT, TYPED, Expected, Gives, Row
from tests.support.server import TRANSPORTS

HOUR_MS = 3_600_000
YEAR_MS = 31_557_600_000
REFUSED = INVALID_ARGUMENT.of("expiresIn", TEXT)


def login(line: str, comes: Expected, expires_in: object, ways: tuple[str, ...]) -> Row:
    """Give a row in which Ann logs in for this long; for what is refused nobody needs to be
    there."""
    args = logins.LOCAL | {"expiresIn": expires_in}
    before = () if comes is REFUSED else (ann,)
    return logins.login(f"02 §1.3 {line}", comes, args=args, ways=ways, before=before)


def refresh(line: str, comes: Expected, expires_in: object, ways: tuple[str, ...]) -> Row:
    """Give a row in which Ann refreshes her token for this long."""
    return tokens.refresh(f"02 §1.3 {line}", comes, args={"expiresIn": expires_in}, ways=ways)


def create(line: str, comes: Expected, expires_in: object, ways: tuple[str, ...]) -> Row:
    """Give a row in which the administrator makes a further token for this long."""
    return tokens.create(f"02 §1.3 {line}", comes, args={"expiresIn": expires_in}, ways=ways)


def create_key(line: str, comes: Expected, expires_in: object, ways: tuple[str, ...]) -> Row:
    """Give a row in which the administrator makes a key for this long."""
    return keys.create(f"02 §1.3 {line}", comes, args={"expiresIn": expires_in}, ways=ways)


def new_key(ttl_ms: int) -> Gives:
    """Give a key of this lifetime."""
    return keys.made(ttl_ms=ttl_ms)


AskFor = Callable[[str, Expected, object, tuple[str, ...]], Row]
ACTIONS: dict[AskFor, Callable[[int], Gives]] = {
    login: logins.logged_in,
    refresh: logins.logged_in,
    create: tokens.created,
    create_key: new_key,
}
"""Who asks for a lifetime, and what comes when it is granted."""

GRANTED = (
    ("number", 10_000, 10_000, TYPED),
    ("string", "60", 60, TRANSPORTS),
    ("string", "2h", 2 * HOUR_MS, TRANSPORTS),
    ("string", "1.5h", HOUR_MS * 3 // 2, TRANSPORTS),
    ("string", "2 days", 48 * HOUR_MS, TRANSPORTS),
    ("string", ".5s", 500, TRANSPORTS),
    ("string, any case", "90 SECS", 90_000, TRANSPORTS),
    ("string; 09 Tokens", "1y", YEAR_MS, TRANSPORTS),
    ("less than a second", "500", 500, TRANSPORTS),
    ("fractions; docs/api/differences.md#lifetimes whole ms instead of a 500", 10.7, 10, TYPED),
)
# The reader of all of them is one; the actions other than login are asked every fourth.
REFUSED_BY_ALL = (
    *(
        ("no lifetime", text, TRANSPORTS)
        for text in ("0", "0h", "abc", "1mo", "1e3", " 1h", "1h ", "9" * 101, "1" * 40, "٣h", "ſ")
    ),
    *(
        ("negative; docs/api/differences.md#lifetimes", text, TRANSPORTS)
        for text in ("-2", "-5", "-1h")
    ),
    *(("another type", value, TYPED) for value in (True, {}, [], ["1h"])),
    *(("a number too far off", value, TYPED) for value in (-2, 0.5, 1e300, 2**63)),
)
INFINITE = (("-1", TRANSPORTS), (-1, TYPED))
FALSY = ((0, TYPED), (False, TYPED), (None, TYPED), ("", TRANSPORTS))

ROWS = [
    *(
        ask(line, granted(ttl_ms), written, ways)
        for ask, granted in ACTIONS.items()
        for line, written, ttl_ms, ways in GRANTED
    ),
    *(
        ask(line, REFUSED, written, ways)
        for ask in ACTIONS
        for line, written, ways in REFUSED_BY_ALL[:: 1 if ask is login else 4]
    ),
    *(
        ask("infinite", ACTIONS[ask](-1), written, ways)
        for ask in (login, refresh, create_key)
        for written, ways in INFINITE
    ),
    *(
        login("falsy: the default; 09 Tokens", logins.logged_in(), written, ways)
        for written, ways in FALSY
    ),
    *(
        ask("falsy: no lifetime where it is not a login", REFUSED, written, ways)
        for ask in (refresh, create)
        for written, ways in FALSY
    ),
    *(create_key("falsy: without end; §5", keys.made(), written, ways) for written, ways in FALSY),
]
