"""Rows of checkToken, refreshToken and createToken."""

from server.auth.strategies.base import Refused
from tests.server.api.auth_table.errors import (
    INVALID_EXPIRATION,
    INVALID_TOKEN,
    INVALID_TYPE,
    REFRESH_FORBIDDEN,
    TTL_EXCEEDED,
)
from tests.server.api.auth_table.logins import HOUR_MS, logged_in
from tests.server.api.auth_table.made import (
    admin,
    ann,
    anns_key,
    anns_other,
    badge_that_says,
    badges,
    deleted_key,
    deleted_user,
    deleted_users_key,
    disabled_user,
    endless,
    expired,
    expired_key,
    key,
    logged_out,
    refreshed,
    refreshed_before,
    single_use,
    used_up,
)
from tests.server.api.auth_table.rows import (
    OPEN,
    TEXT,
    TYPED,
    Expected,
    Gives,
    Maker,
    Row,
    token_of,
    token_setting,
)
from tests.support.clock import START_MS
from tests.support.sample_strategy import RenewedBadge

NOTHING_TO_CHECK = Gives({"expiresAt": None, "kuid": "-1", "valid": True})
WORTHLESS = Gives({"state": TEXT, "valid": False})
ENDED = (
    expired,
    logged_out,
    refreshed_before,
    used_up,
    deleted_user,
    disabled_user,
    deleted_users_key,
    deleted_key,
    expired_key,
)
"""Makers of tokens that were good once."""


def checked(line: str, comes: Expected, body: object = None, **row: object) -> Row:
    """Give a row in which nobody in particular checks a token."""
    made = {"by": None} | row
    return Row(f"02 §4 checkToken, {line}", "checkToken", comes=comes, body=body, **made)


def good(token: Maker, kuid: str, ends_ms: int = START_MS + HOUR_MS, **row: object) -> Row:
    """Give a row in which this token is found to be good."""
    found = Gives({"expiresAt": ends_ms, "kuid": kuid, "valid": True})
    return checked("valid", found, {"token": token}, **row)


CHECK_TOKEN = [
    good(ann, "ann", lives=(ann,)),
    good(admin, "admin"),
    good(endless, "ann", -1),
    good(anns_key, "ann", -1),
    good(key, "admin", -1, by=ann),
    good(ann, "ann", by=admin),
    good(ann, "ann", args={"cookieAuth": False}),
    good(refreshed, "admin", START_MS + 1000),
    good(single_use, "admin", ends=(single_use,)),
    *(checked("nothing to check", NOTHING_TO_CHECK, body) for body in (None, {}, {"token": ""})),
    checked("nothing to check, by whom it may be", NOTHING_TO_CHECK, by=ann),
    checked("invalid; other ones: badtokens", WORTHLESS, {"token": logged_out}),
    *(
        checked("non-string; 09", INVALID_TYPE.of("body.token", "string"), {"token": value})
        for value in (12, ["x"], {}, True, None)
    ),
    checked("a body that is no object", INVALID_TYPE.of("body", "object"), [{"token": "x"}]),
    checked(
        "the request's own token is checked first", INVALID_TOKEN, {"token": ann}, by=logged_out
    ),
]


def refresh(line: str, comes: Expected, **row: object) -> Row:
    """Give a row in which Ann refreshes her token, unless told otherwise."""
    made = {"by": ann} | row
    return Row(f"02 §4 refreshToken, {line}", "refreshToken", comes=comes, **made)


def badge_refresh(line: str, outcome: object, comes: Expected) -> Row:
    """Give a row in which a strategy of somebody else's answers with this."""
    registers = badge_that_says(outcome, RenewedBadge)
    return refresh(line, comes, args=BADGE, before=(registers,))


AN_HOUR_AT_MOST = token_setting(max_ttl_ms=HOUR_MS)
BADGE = {"strategy": "badge"}
NO_OBJECT = Refused("not an answer to this")

REFRESH_TOKEN = [
    refresh("row 1", logged_in(), lives=(ann, anns_other)),
    refresh("row 1", logged_in(10_800_000), args={"expiresIn": "3h"}),
    refresh("row 1; security check S7", logged_in(kuid="admin"), by=refreshed, lives=(refreshed,)),
    refresh("cookieAuth false", logged_in(), args={"cookieAuth": False}),
    refresh("by the strategy local", logged_in(), args={"strategy": "local"}),
    refresh("row 2", INVALID_TOKEN, by=refreshed_before),
    refresh("row 3, API key", REFRESH_FORBIDDEN, by=anns_key, lives=(anns_key,)),
    refresh("row 3, infinite token", REFRESH_FORBIDDEN, by=endless, lives=(endless,)),
    refresh("a token for one request; 02 §1.5 row 5", INVALID_TOKEN, by=single_use),
    badge_refresh("row 4, nothing returned", None, logged_in()),
    badge_refresh("row 4, expiresIn returned", {"expiresIn": "2h"}, logged_in(7_200_000)),
    badge_refresh("row 4, no expiresIn returned", {}, logged_in()),
    badge_refresh("row 4, an exception", ValueError("secret"), REFRESH_FORBIDDEN),
    badge_refresh("row 4, another outcome", NO_OBJECT, REFRESH_FORBIDDEN),
    badge_refresh("row 4, a bad lifetime returned", {"expiresIn": "soon"}, REFRESH_FORBIDDEN),
    refresh("row 4, missing method", REFRESH_FORBIDDEN, args=BADGE, before=(badges,)),
    refresh("row 4, missing strategy", REFRESH_FORBIDDEN, args={"strategy": "pigeon"}),
    refresh(
        "strategy of another type; 01 §2.1",
        INVALID_TYPE.of("strategy", "string"),
        args={"strategy": 5},
        ways=TYPED,
    ),
    refresh(
        "row 1; 02 §1.4",
        TTL_EXCEEDED,
        args={"expiresIn": "2h"},
        on=AN_HOUR_AT_MOST,
    ),
    refresh(
        "row 1; 02 §1.4",
        TTL_EXCEEDED,
        args={"expiresIn": "-1"},
        on=AN_HOUR_AT_MOST,
    ),
]


def created(ttl_ms: int = HOUR_MS, *, single: bool = False, kuid: str = "admin") -> Gives:
    """Give what createToken comes to."""
    return Gives(
        {
            "expiresAt": START_MS + ttl_ms,
            "singleUse": single,
            "token": token_of(kuid, ttl_ms),
            "ttl": ttl_ms,
        }
    )


def create(line: str, comes: Expected, **row: object) -> Row:
    """Give a row in which the administrator makes a further token, unless told otherwise."""
    made = {"by": admin} | row
    return Row(f"02 §4 createToken, {line}", "createToken", comes=comes, **made)


CREATE_TOKEN = [
    create("result", created(), lives=(admin,)),
    create("with an API key", created(), by=key),
    create("expiresIn", created(7_200_000), args={"expiresIn": "2h"}),
    create("singleUse", created(single=True), args={"singleUse": True}),
    create("no authentication required", created(kuid="-1"), by=None, on=OPEN),
    create("-1", INVALID_EXPIRATION.of("expiresIn", TEXT), args={"expiresIn": "-1"}),
    create("-1", INVALID_EXPIRATION.of("expiresIn", TEXT), args={"expiresIn": -1}, ways=TYPED),
    create(
        "-1, before 02 §1.4",
        INVALID_EXPIRATION.of("expiresIn", TEXT),
        args={"expiresIn": "-1"},
        on=AN_HOUR_AT_MOST,
    ),
    create(
        "singleUse of another type; 01 §2.1",
        INVALID_TYPE.of("singleUse", "boolean"),
        args={"singleUse": "maybe"},
    ),
    create(
        "lifetime; 02 §1.4",
        TTL_EXCEEDED,
        args={"expiresIn": "3600001"},
        on=AN_HOUR_AT_MOST,
    ),
]
ROWS = [*CHECK_TOKEN, *REFRESH_TOKEN, *CREATE_TOKEN]
