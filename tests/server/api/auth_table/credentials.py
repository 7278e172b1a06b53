"""Rows of the actions on the caller's own credentials."""

from dataclasses import replace

from tests.server.api.auth_table.errors import (
    API_KEY_FORBIDDEN,
    BAD_CREDENTIALS,
    BODY_REQUIRED,
    CREDENTIALS_CONFLICT,
    INVALID_ARGUMENT,
    INVALID_TYPE,
    LOGIN_IN_PASSWORD,
    MISSING_ARGUMENT,
    REUSED_PASSWORD,
    UNKNOWN_STRATEGY,
    WEAK_PASSWORD,
    WRONG_PRESENT_PASSWORD,
)
from tests.server.api.auth_table.logins import with_policy
from tests.server.api.auth_table.made import (
    NEW,
    ann,
    anns_badge,
    anns_key,
    anns_other,
    badges,
    passwordless,
)
from tests.server.api.auth_table.rows import KEYS_MAY, TEXT, TYPED, Expected, Gives, Row, Setting
from tests.support.server import PASSWORD, cheap_config

CREATE, UPDATE = "createMyCredentials", "updateMyCredentials"
VALIDATE, DELETE = "validateMyCredentials", "deleteMyCredentials"
GET, EXIST = "getMyCredentials", "credentialsExist"
BODIES = {
    CREATE: {"username": "someone", "password": NEW},
    UPDATE: {"password": NEW},
    VALIDATE: {"username": "someone", "password": NEW},
}
"""Sound credentials, for the actions that take some."""
ACTIONS = (CREATE, UPDATE, VALIDATE, DELETE, GET, EXIST)
LOCAL, BADGE = {"strategy": "local"}, {"strategy": "badge"}
NUMBER = {"number": "b-7"}
TRUE, FALSE, ACKNOWLEDGED = Gives(True), Gives(False), Gives({"acknowledged": True})


def mine(action: str, line: str, comes: Expected, body: object = None, **row: object) -> Row:
    """Give a row in which Ann asks for something about her local credentials."""
    made = {"by": ann, "args": LOCAL} | row
    return Row(f"02 §4 credentials, {line}", action, comes=comes, body=body, **made)


def with_password_required() -> Setting:
    """Give a setting that asks for the present password."""
    config = cheap_config()
    local = replace(config.plugins.local, require_password=True)
    return Setting(replace(config, plugins=replace(config.plugins, local=local)))


def hers(username: str = "ann") -> Gives:
    """Give what is shown of Ann's local credentials (docs/api/strategies.md#local-credentials)."""
    return Gives({"username": username, "kuid": "ann"})


HAPPY = [
    mine(GET, "getInfo", hers()),
    mine(GET, "{} if the strategy has none", Gives({}), args=BADGE, before=(anns_badge,)),
    mine(EXIST, "boolean", TRUE),
    mine(EXIST, "boolean", FALSE, args=BADGE, before=(badges,)),
    mine(CREATE, "the strategy's", Gives(NUMBER), NUMBER, args=BADGE, before=(badges,)),
    mine(
        CREATE,
        "the strategy's",
        hers("someone"),
        BODIES[CREATE],
        by=anns_key,
        before=(passwordless,),
        on=KEYS_MAY,
    ),
    mine(UPDATE, "the strategy's", hers(), BODIES[UPDATE], lives=(ann, anns_other)),
    mine(UPDATE, "a new name; 05 §1.5", hers("anna"), {"username": "anna"}),
    mine(UPDATE, "both; 05 §1.5", hers("anna"), {"username": "anna", "password": NEW}),
    mine(
        UPDATE,
        "docs/api/differences.md#revoking-other-sessions revokeTokens",
        Gives({"username": "ann", "kuid": "ann", "strategies": ["local"], "apiKeys": 1}),
        BODIES[UPDATE],
        args=LOCAL | {"revokeTokens": True},
        ends=(anns_other,),
        lives=(ann, anns_key),
    ),
    mine(VALIDATE, "true", TRUE, BODIES[VALIDATE]),
    mine(VALIDATE, "true", TRUE, {"username": "ann", "password": NEW}),
    mine(DELETE, "acknowledged", ACKNOWLEDGED, args=BADGE, before=(anns_badge,)),
    mine(DELETE, "acknowledged", ACKNOWLEDGED, before=(anns_badge,), lives=(ann,)),
]


def of_strategy(action: str) -> list[Row]:
    """Give the rows of an action about its argument `strategy`."""
    body = BODIES.get(action)
    return [
        mine(
            action, "strategy required", MISSING_ARGUMENT.of("strategy"), body, args={}, ways=TYPED
        ),
        mine(
            action,
            "strategy of another type; 01 §2.1",
            INVALID_TYPE.of("strategy", "string"),
            body,
            args={"strategy": ["local"]},
            ways=TYPED,
        ),
        mine(
            action,
            "unknown strategy, before the body",
            UNKNOWN_STRATEGY.of("pigeon"),
            args={"strategy": "pigeon"},
        ),
    ]


def of_body(action: str) -> list[Row]:
    """Give the rows of an action about what its body is."""
    body = BODIES[action]
    return [
        mine(action, "body required", BODY_REQUIRED),
        mine(action, "body of another type", INVALID_TYPE.of("body", "object"), [body]),
        *(
            mine(
                action,
                "docs/api/differences.md#wrong-types, password of a wrong type",
                INVALID_TYPE.of("password", "string"),
                {"username": "ann", "password": value},
            )
            for value in (5, ["x"], {}, True)
        ),
        mine(
            action,
            "docs/api/differences.md#password-hashing, a longer password; security check P14",
            INVALID_ARGUMENT.of("password", TEXT),
            {"username": "ann", "password": "x" * 4097},
        ),
        mine(
            action,
            "docs/api/differences.md#wrong-types, name of a wrong type",
            INVALID_TYPE.of("username", "string"),
            {"username": 5, "password": NEW},
        ),
    ]


def refused(action: str, line: str, comes: Expected, body: object, **row: object) -> Row:
    """Give a row in which the local strategy refuses Ann's credentials."""
    return mine(action, f"05 §1.5 {line}", comes, body, **row)


GIVEN_KUID = {"kuid": "ann", "username": "someone", "password": NEW}
ADMINS_NAME = {"username": "admin", "password": NEW}
NONE_LEFT = {"by": anns_key, "before": (passwordless,), "on": KEYS_MAY}

REFUSED = [
    *(
        mine(action, "with an API key", API_KEY_FORBIDDEN, BODIES.get(action), by=anns_key)
        for action in (CREATE, UPDATE, DELETE)
    ),
    *(
        refused(action, "validate row 1", BAD_CREDENTIALS, GIVEN_KUID)
        for action in (CREATE, UPDATE, VALIDATE)
    ),
    *(
        refused(action, "validate row 2", CREDENTIALS_CONFLICT, ADMINS_NAME)
        for action in (CREATE, UPDATE, VALIDATE)
    ),
    *(
        refused(action, "validate row 3", BAD_CREDENTIALS, part)
        for action in (CREATE, VALIDATE)
        for part in ({}, {"username": "x"}, {"password": NEW}, {"username": "", "password": NEW})
    ),
    refused(UPDATE, "validate row 4", BAD_CREDENTIALS, {}),
    refused(UPDATE, "validate row 4", BAD_CREDENTIALS, {"username": "", "password": None}),
    refused(UPDATE, "validate row 5", CREDENTIALS_CONFLICT, {"password": NEW}, **NONE_LEFT),
    refused(CREATE, "create", CREDENTIALS_CONFLICT, BODIES[CREATE]),
    refused(DELETE, "delete", CREDENTIALS_CONFLICT, None, **NONE_LEFT),
    refused(GET, "getInfo", CREDENTIALS_CONFLICT, None, **NONE_LEFT),
    mine(EXIST, "boolean", FALSE, **NONE_LEFT),
    mine(DELETE, "the last way in stays; docs/architecture.md", CREDENTIALS_CONFLICT),
    mine(
        UPDATE,
        "revokeTokens of another type; 01 §2.1",
        INVALID_TYPE.of("revokeTokens", "boolean"),
        BODIES[UPDATE],
        args=LOCAL | {"revokeTokens": "maybe"},
        lives=(anns_other,),
    ),
]


def under_policy(action: str, comes: Expected, password: str, **policy: object) -> Row:
    """Give the row of a password that a policy refuses
    (docs/api/strategies.md#password-policies)."""
    body, setting = {"username": "ann", "password": password}, with_policy(**policy)
    return refused(action, "validate row 6; §1.6", comes, body, on=setting)


POLICIES = [
    *(
        row
        for action in (UPDATE, VALIDATE)
        for row in (
            under_policy(action, LOGIN_IN_PASSWORD, "I am ANN", forbidLoginInPassword=True),
            under_policy(action, WEAK_PASSWORD, NEW, passwordRegex="horse"),
        )
    ),
    under_policy(UPDATE, REUSED_PASSWORD, PASSWORD, forbidReusedPasswordCount=1),
]


def guarded(action: str, line: str, comes: Expected, body: object = None, **row: object) -> Row:
    """Give a row on a server that asks for the present password; Ann has a badge too."""
    setting = with_password_required()
    return refused(action, f"requirePassword: {line}", comes, body, on=setting, **row)


WITH_BADGE = {"before": (anns_badge,)}
WRONG, RIGHT = {"currentPassword": "wrong"}, {"currentPassword": PASSWORD}

GUARDED = [
    guarded(UPDATE, "absent", BAD_CREDENTIALS, {"password": NEW}),
    guarded(UPDATE, "wrong", WRONG_PRESENT_PASSWORD, {"password": NEW} | WRONG),
    guarded(UPDATE, "right", hers(), {"password": NEW} | RIGHT),
    guarded(DELETE, "absent", BAD_CREDENTIALS, **WITH_BADGE),
    guarded(DELETE, "wrong", WRONG_PRESENT_PASSWORD, args=LOCAL | {"password": "x"}, **WITH_BADGE),
    guarded(DELETE, "right", ACKNOWLEDGED, args=LOCAL | {"password": PASSWORD}, **WITH_BADGE),
    guarded(DELETE, "right", ACKNOWLEDGED, RIGHT, **WITH_BADGE),
]
ROWS = [
    *HAPPY,
    *(row for action in ACTIONS for row in of_strategy(action)),
    *(row for action in BODIES for row in of_body(action)),
    *REFUSED,
    *POLICIES,
    *GUARDED,
]
