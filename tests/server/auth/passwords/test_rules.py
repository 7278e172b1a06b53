"""Rules for new passwords: none by default, and those of strict mode
(docs/api/differences.md#password-rules; security checks P1 to P10, P14)."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from protocol.errors import ApiError
from server.app.build import make_password_rules
from server.auth.passwords.rules import PasswordRules, read_common_passwords
from server.config.model import Config
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

WEAK = "plugin.kuzzle-plugin-auth-passport-local.weak_password"
STRONG = "Tr0ub4dor"


async def refusal(rules: PasswordRules, password: str, username: str = "alice") -> str | None:
    """Give what a password is told, None if it is accepted."""
    try:
        await rules.check(password, username)
    except ApiError as refused:
        assert (refused.id, refused.status) == (WEAK, 400)
        return refused.message
    return None


class Leaked:
    """Knows one password."""

    async def is_breached(self, password: str) -> bool:
        return password == "leaked by somebody"


@pytest.mark.parametrize("password", ["x", "password", "alice", "manykeys", "        "])
async def test_by_default_everything_goes(password: str) -> None:
    """docs/api/differences.md#password-rules: the published guide logs in with `password`; security
    check P5."""
    assert await refusal(PasswordRules(), password) is None
    assert await refusal(make_password_rules(Config(), None), password) is None


@pytest.mark.parametrize(
    ("password", "is_accepted"),
    [("1234567", False), ("12345678", True), ("ééééééé", False), ("🔑" * 8, True), (" " * 8, True)],
)
async def test_length_counts_characters(password: str, is_accepted: bool) -> None:
    """security check P1."""
    told_ = await refusal(PasswordRules(least_characters=8), password)
    assert (told_ is None) == is_accepted
    assert is_accepted or "8" in str(told_)


@pytest.mark.parametrize("password", ["password", "PASSWORD", "123456789", "Qwerty", "iloveyou"])
async def test_common_passwords(password: str) -> None:
    """security check P6, whatever the case."""
    rules = PasswordRules(common=read_common_passwords())
    assert await refusal(rules, password) is not None
    assert await refusal(rules, password + " and then some") is None


def test_the_list_of_common_passwords() -> None:
    """security check P6: the top 3000 at the least, compared in small letters."""
    common = read_common_passwords()
    assert len(common) >= 3000
    assert all(one == one.casefold() and one == one.strip() for one in common)
    assert sum(len(one) >= 8 for one in common) >= 1000
    assert not any(one.startswith("#") for one in common)


@pytest.mark.parametrize(
    ("password", "username", "is_accepted"),
    [
        ("ALICE and the hatter", "alice", False),
        ("alice", "Alice", False),
        ("my manykeys password", "bob", False),
        ("kuzzle1234", "bob", False),
        ("bob the builder", "bob", True),
        ("bob", "bob", False),
        ("something else", "alice", True),
        ("something else", "", True),
        ("straße 12", "STRASSE", False),
    ],
)
async def test_context_words(password: str, username: str, is_accepted: bool) -> None:
    """security check P8: by option; a short name may be part of a word."""
    rules = PasswordRules(forbids_context=True)
    assert (await refusal(rules, password, username) is None) == is_accepted


async def test_breached_passwords() -> None:
    """security check P7."""
    rules = PasswordRules(breaches=Leaked())
    assert await refusal(rules, "leaked by somebody") is not None
    assert await refusal(rules, "not leaked") is None


@pytest.mark.parametrize(
    ("is_strict", "least", "expected"),
    [(False, 0, 0), (False, 5, 5), (True, 0, 8), (True, 5, 8), (True, 15, 15)],
)
def test_strict_mode_asks_for_more(is_strict: bool, least: int, expected: int) -> None:
    """docs/api/differences.md#password-rules, password rules: `security.strict`; security check
    P1."""
    config = Config()
    given = replace(config.security.passwords, min_length=least)
    security = replace(config.security, strict=is_strict, passwords=given)
    rules = make_password_rules(replace(config, security=security), None)
    assert rules.least_characters == expected
    assert bool(rules.common) == is_strict


@pytest.fixture
async def strict() -> AsyncIterator[Running]:
    """A server in strict mode."""
    config = cheap_config()
    async with running(replace(config, security=replace(config.security, strict=True))) as server:
        yield server


BAD = ["short", "password123", "Iloveyou1"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_strict_mode_at_creation(strict: Running, transport: str) -> None:
    """security checks P1, P6 at create; nobody is made with a weak password."""
    admin = await strict.create_admin()
    for password in BAD:
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "user", "password": password}},
        }
        answer = await strict.call(
            transport, "security:createUser", token=admin, body=body, _id="user"
        )
        assert told(answer) == {"id": WEAK, "code": 67108871, "status": 400}
    answer = await strict.call(transport, "security:getUser", token=admin, _id="user")
    assert answer["status"] == 404


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_strict_mode_at_change(strict: Running, transport: str) -> None:
    """security checks P1, P6, P9: the rules and the present password."""
    user = await strict.create_admin()
    present = {"currentPassword": PASSWORD}

    async def change(body: dict) -> dict:
        return await strict.call(
            transport, "auth:updateMyCredentials", token=user, strategy="local", body=body
        )

    for password in BAD:
        answer = await change({"password": password, **present})
        assert told(answer) == {"id": WEAK, "code": 67108871, "status": 400}
    assert (await change({"password": STRONG}))["status"] == 400
    assert (await change({"password": STRONG, "currentPassword": "wrong"}))["status"] == 403
    assert await strict.login("admin")
    assert (await change({"password": STRONG, **present}))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_strict_mode_lets_old_passwords_log_in(strict: Running, transport: str) -> None:
    """Rules are for new passwords; security check P10: nobody must change his by date."""
    await strict.create_admin()
    services = strict.app.services
    prepared = await services.strategies.get("local").update(
        {"password": "short"}, "admin", "admin"
    )
    await services.storage.apply(prepared.changes)
    answer = await strict.call(
        transport,
        "auth:login",
        strategy="local",
        body={"username": "admin", "password": "short"},
    )
    assert answer["status"] == 200


EXACT = [
    "x" * 64,
    "x" * 128,
    "x" * 256,
    "x" * 72 + "y",
    "x" * 199 + "y",
    "Case Matters",
    " around ",
    "nul\0inside",
    "🔑🔑🔑",
    "e\u0301t\u00e9",
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("password", EXACT)
async def test_passwords_are_kept_exactly(server: Running, transport: str, password: str) -> None:
    """security checks P2 to P5: the last byte, case, spaces, NUL and both forms of é count."""
    token = await server.create_admin()
    answer = await server.call(
        transport,
        "auth:updateMyCredentials",
        token=token,
        strategy="local",
        body={"password": password},
    )
    assert answer["status"] == 200
    others = {password[:-1], password + " ", password.swapcase(), password.strip(), password[1:]}
    others |= {password.replace("e\u0301", "\u00e9"), password.partition("\0")[0]}
    tries = [(password, 200), *((other, 401) for other in others - {password})]
    for tried, status in tries:
        body = {"username": "admin", "password": tried}
        answer = await server.call(transport, "auth:login", strategy="local", body=body)
        assert answer["status"] == status, tried
