"""Rows of login and logout."""

from dataclasses import replace

from protocol.errors import error
from server.auth.strategies.base import Authenticated, Redirect, Refused
from server.config.model import Config
from tests.server.api.auth_table.errors import (
    EXPIRED_PASSWORD,
    FORBIDDEN,
    INVALID_KUID,
    INVALID_TYPE,
    INVALID_VERIFY,
    MISSING_ARGUMENT,
    MISSING_USER,
    MUST_CHANGE_PASSWORD,
    NOT_FOUND,
    TOO_MANY_LOGINS,
    TTL_EXCEEDED,
    UNEXPECTED,
    UNKNOWN_KUID,
    UNKNOWN_STRATEGY,
)
from tests.server.api.auth_table.made import (
    ANNS,
    a_login_before,
    admin,
    ann,
    anns_key,
    anns_other,
    badge_that_says,
    disabled_user,
    endless,
    key,
    passwordless,
    single_use,
    two_days_later,
    unlogged_ann,
)
from tests.server.api.auth_table.rows import (
    HTTP,
    OPEN,
    SOCKET,
    TYPED,
    Expected,
    Gives,
    Row,
    Setting,
    token_of,
    token_setting,
)
from tests.support.clock import START_MS
from tests.support.server import PASSWORD, cheap_config

LOCAL = {"strategy": "local"}
BADGE = {"strategy": "badge"}
HOUR_MS = 3_600_000
ACKNOWLEDGED = Gives({"acknowledged": True})


def logged_in(ttl_ms: int = HOUR_MS, kuid: str = "ann", prefix: str = "") -> Gives:
    """Give what a login comes to (docs/api/auth.md#login; the token by
    docs/api/differences.md#session-token)."""
    return Gives(
        {
            "_id": kuid,
            "expiresAt": -1 if ttl_ms == -1 else START_MS + ttl_ms,
            "jwt": token_of(kuid, ttl_ms, prefix),
            "ttl": ttl_ms,
        }
    )


def with_policy(**policy: object) -> Setting:
    """Give a setting with a password policy for everybody."""
    config = cheap_config()
    local = replace(config.plugins.local, password_policies=({"appliesTo": "*", **policy},))
    return Setting(replace(config, plugins=replace(config.plugins, local=local)))


ONCE = Setting(cheap_config(limits=replace(Config().limits, logins_per_second=1)))
"""One login a second on a connection."""


def login(line: str, comes: Expected, body: object = ANNS, **row: object) -> Row:
    """Give a row in which somebody logs in as Ann, unless told otherwise."""
    made = {"by": None, "args": LOCAL, "before": (ann,)} | row
    return Row(f"02 §4 login, {line}", "login", comes=comes, body=body, **made)


def badge_login(line: str, outcome: object, comes: Expected) -> Row:
    """Give a row in which a strategy of somebody else's answers a login with this."""
    before = (ann, badge_that_says(outcome))
    return login(f"{line}; 05 §3", comes, {}, args=BADGE, before=before)


ELSEWHERE = {"headers": {"Location": "https://a.test", "Content-Length": "0"}, "statusCode": 302}
PARTS_OF_CREDENTIALS = (None, {}, {"username": "ann"}, {"password": PASSWORD}, [])
WRONG = (
    {"username": "ann", "password": "wrong"},
    {"username": "nobody", "password": PASSWORD},
    {"username": "ann\0", "password": PASSWORD},
    {"username": "ANN", "password": PASSWORD},
    {"username": "x" * 600, "password": PASSWORD},
)
NO_TEXTS = (12, ["x"], {"a": 1}, True)

LOGIN = [
    login("result", logged_in()),
    login("credentials among the arguments", logged_in(), {}, args=LOCAL | ANNS),
    login("arguments, no body", logged_in(), None, args=LOCAL | ANNS),
    login(
        "credentials in both", logged_in(), {"username": "ann"}, args=LOCAL | {"password": PASSWORD}
    ),
    login("cookieAuth false", logged_in(), args=LOCAL | {"cookieAuth": False}),
    login("with the token of who may log in; 09 Tokens", logged_in(), by=admin),
    login("unknown arguments; 01 §2, 07 §1.1", logged_in(), args=LOCAL | {"verb": "POST"}),
    login(
        "a new token each time; docs/api/differences.md#login-on-a-socket",
        logged_in(),
        lives=(ann, anns_other),
    ),
    login(
        "jwt; docs/api/differences.md#session-token prefix",
        logged_in(prefix="kauth-"),
        on=token_setting(prefix="kauth-"),
    ),
    login(
        "linked to an endless token; security check A10",
        logged_in(),
        by=endless,
        on=OPEN,
        lives=(endless,),
    ),
    badge_login("redirecting strategy", Redirect("https://a.test"), Gives(ELSEWHERE, status=302)),
    badge_login("another strategy", Authenticated("ann"), logged_in()),
    login("strategy required", MISSING_ARGUMENT.of("strategy"), args={}, ways=TYPED),
    login(
        "strategy of another type; 01 §2.1",
        INVALID_TYPE.of("strategy", "string"),
        args={"strategy": 5},
        ways=TYPED,
    ),
    login("failures row 1", UNKNOWN_STRATEGY.of("pigeon"), args={"strategy": "pigeon"}),
    *(login("failures row 2; security check A1", MISSING_USER, body) for body in WRONG),
    login(
        "failures row 2; docs/api/differences.md#equal-answers no credentials",
        MISSING_USER,
        before=(passwordless,),
    ),
    login(
        "failures row 2; docs/api/differences.md#equal-answers disabled",
        MISSING_USER,
        before=(disabled_user,),
    ),
    *(login("failures row 3", MISSING_USER, body) for body in PARTS_OF_CREDENTIALS),
    *(
        login(
            "docs/api/differences.md#wrong-types, password of a wrong type",
            INVALID_TYPE.of("password", "string"),
            {"username": "ann", "password": value},
        )
        for value in NO_TEXTS
    ),
    *(
        login(
            "docs/api/differences.md#wrong-types, name of a wrong type",
            INVALID_TYPE.of("username", "string"),
            {"username": value, "password": PASSWORD},
        )
        for value in NO_TEXTS
    ),
    login(
        "failures row 4; 05 §1.6",
        MUST_CHANGE_PASSWORD,
        on=with_policy(mustChangePasswordIfSetByAdmin=True),
        before=(unlogged_ann,),
    ),
    login(
        "failures row 4; 05 §1.6",
        EXPIRED_PASSWORD,
        on=with_policy(expiresAfter="1d"),
        before=(two_days_later,),
    ),
    badge_login("failures row 5", ValueError("secret"), UNEXPECTED),
    badge_login("a strategy's own refusal", error("services.storage.not_found"), NOT_FOUND),
    badge_login("a strategy refuses", Refused("no such badge"), MISSING_USER.of("no such badge")),
    badge_login("unknown kuid", Authenticated("nobody"), UNKNOWN_KUID),
    badge_login("a kuid that is no text", Authenticated(5), INVALID_KUID),  # type: ignore[arg-type]
    badge_login("no outcome", "ann", INVALID_VERIFY),
    login("failures row 6; 02 §1.4", TTL_EXCEEDED, before=(), on=token_setting(max_ttl_ms=1)),
    login("0 forbids all; 02 §1.4", TTL_EXCEEDED, before=(), on=token_setting(max_ttl_ms=0)),
    login("the longest; 02 §1.4", logged_in(), on=token_setting(max_ttl_ms=HOUR_MS)),
    login("failures row 7", TOO_MANY_LOGINS, before=(a_login_before,), ways=SOCKET, on=ONCE),
    login(
        "failures row 7, another connection",
        logged_in(),
        before=(ann, a_login_before),
        ways=("http", "query"),
        on=ONCE,
    ),
    login("rights of the token; 09 Tokens", FORBIDDEN.of("auth", "login", "ann"), by=ann),
]


def logout(line: str, comes: Expected = ACKNOWLEDGED, **row: object) -> Row:
    """Give a row in which Ann logs out, unless told otherwise."""
    made = {"by": ann} | row
    return Row(f"02 §4 logout, {line}", "logout", comes=comes, **made)


GLOBAL = {"global": True}

LOGOUT = [
    logout("only this token", ends=(ann,), lives=(anns_other, admin)),
    logout("a token without end", by=endless, ends=(endless,), lives=(ann,)),
    logout("global", args=GLOBAL, ends=(ann, anns_other), lives=(admin, anns_key)),
    logout("global false", args={"global": False}, ends=(ann,), lives=(anns_other,)),
    *(
        logout(
            f"global as {text!r}; docs/api/differences.md#booleans HTTP booleans",
            args={"global": text},
            **row,
        )
        for texts, row in (
            (("", "true", "1"), {"ends": (ann, anns_other), "ways": HTTP}),
            (("false", "0"), {"ends": (ann,), "lives": (anns_other,), "ways": HTTP}),
        )
        for text in texts
    ),
    logout("cookieAuth false", args={"cookieAuth": False}, ends=(ann,)),
    logout("with an API key; 09 Tokens", by=key, lives=(key, admin)),
    logout("global with an API key; 09 Tokens", by=key, args=GLOBAL, lives=(key,), ends=(admin,)),
    logout("with a token for one request", by=single_use, ends=(single_use,), lives=(admin,)),
    logout(
        "global of another type; 01 §2.1",
        INVALID_TYPE.of("global", "boolean"),
        args={"global": "maybe"},
        lives=(ann,),
    ),
    logout(
        "global of another type; 01 §2.1",
        INVALID_TYPE.of("global", "boolean"),
        args={"global": 5},
        ways=TYPED,
        lives=(ann,),
    ),
]
ROWS = [*LOGIN, *LOGOUT]
