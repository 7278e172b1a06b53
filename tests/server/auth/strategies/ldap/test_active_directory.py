"""Users of an Active Directory: Samba, provisioned for these tests as the controller of a domain
(security checks D1, D4)."""

from dataclasses import replace

import pytest

from protocol.errors import LocalError
from server.storage.rows import Table
from tests.server.auth.audit.test_events import events
from tests.server.auth.strategies.ldap.test_strategy import (
    REFUSED,
    WRONG,
    config_of,
    count,
    example,
    kuid_of,
    login,
    source_of,
)
from tests.support.errors import told
from tests.support.providers.ldap import AD_BASE, SECRET, ActiveDirectory, python_ldap
from tests.support.server import running

ADMINS = f"CN=admins,CN=Users,{AD_BASE}"
INNER = f"cn=inner, cn=users,{AD_BASE.lower()}"


def table_of(domain: ActiveDirectory, mode: str, **more: object) -> dict[str, object]:
    """Give the table of a strategy with a service account, or of one that binds directly."""
    table = domain.settings(**more)
    if mode == "direct":
        del table["bindDn"], table["bindPassword"]
    return table


@pytest.mark.parametrize("mode", ["service", "direct"])
async def test_all_forms_of_a_name_are_one_user(domain: ActiveDirectory, mode: str) -> None:
    """Plain, `name@domain`, `DOMAIN\\name`, in whatever case; known by `objectGUID`."""
    table = table_of(domain, mode, persist=["mail"])
    async with running(config_of(**table)) as server:
        kuid = await kuid_of(server)
        for name in ("ANN", "ann@corp.example.test", "Ann@CORP.example.TEST", "corp\\ann"):
            assert await kuid_of(server, name) == kuid, name
        assert await count(server) == [1, 1]
        row = await server.app.services.storage.get(Table.CREDENTIALS, kuid=kuid, strategy="ldap")
        assert row is not None
        assert row["data"] == {
            "dn": f"CN=ann,CN=Users,{AD_BASE}",
            "username": "ann",
            "attributes": {"mail": "ann@example.test"},
        }
        assert (await source_of(server))["mail"] == "ann@example.test"
        bob = await kuid_of(server, "robert@other.test")
        assert bob == await kuid_of(server, "bob")
        token = (await login(server))["result"]["jwt"]
        answer = await server.call("query", "auth:refreshToken", token=token, strategy="ldap")
        assert answer["status"] == (200 if mode == "service" else 401), answer


@pytest.mark.parametrize("mode", ["service", "direct"])
@pytest.mark.parametrize("name", ["dave", "CORP\\dave"])
async def test_the_principal_name_of_another_is_not_his_account(
    domain: ActiveDirectory, mode: str, name: str
) -> None:
    """Where `domain` is what principal names end with, `dave` is Mallory for the controller, who
    binds with a password of his own, and Dave for who looks for the account."""
    table = table_of(domain, mode) | {"domain": "other.test"}
    async with running(config_of(**table)) as server:
        admin = await server.create_admin()
        before = await count(server)
        answer = await login(server, name, f"{SECRET}-of-mallory")
        assert told(answer) == REFUSED
        assert await count(server) == before
        assert len(await events(server, admin, kind="auth:login", outcome="refused")) == 1


@pytest.mark.parametrize("mode", ["service", "direct"])
async def test_reasons_are_for_the_audit_trail(domain: ActiveDirectory, mode: str) -> None:
    """D4, A1: one answer to wrong passwords, unknown, disabled, expired and locked accounts, and to
    passwords that must be changed."""
    config = config_of(**table_of(domain, mode))
    config = replace(config, limits=replace(config.limits, failed_logins=0))
    async with running(config) as server:
        admin = await server.create_admin()
        before = await count(server)
        tried = ["disabled", "expired", "mustchange", "hours"]
        answers = [await login(server, name) for name in tried]
        answers += [await login(server, name, "wrong") for name in ("gone", "disabled", "nobody")]
        for _ in range(3):
            answers.append(await login(server, "locked", "wrong"))
        answers.append(await login(server, "locked"))
        errors = [{**told(answer), "m": answer["error"]["message"]} for answer in answers]
        assert errors == [{**REFUSED, "m": WRONG}] * len(answers)
        assert await count(server) == before
        lines = await events(server, admin, kind="auth:login", outcome="refused")
        assert {line["reason"] for line in lines} >= {
            "disabled account (AD 533)",
            "expired account (AD 701)",
            "password must be changed (AD 773)",
            "not at this time (AD 530)",
            "wrong password (AD 52e)",
            "locked account (AD 775)",
        }
        assert ("unknown user" in {line["reason"] for line in lines}) is (mode == "service")


@pytest.mark.parametrize("mode", ["service", "direct"])
@pytest.mark.parametrize(
    "name",
    [
        *(
            "*",
            "an*",
            "ann)(objectClass=*",
            "OTHER\\ann",
            "\\ann",
            "corp\\",
            "corp\\*",
            "@",
            "ann@",
        ),
        *("@corp.example.test", "*@corp.example.test", "ann@other.test", "corp\\ann@x", "\\61nn"),
        *(f"CN=ann,CN=Users,{AD_BASE}", "DC1$", "admins", "x" * 400, "\u0430nn"),
    ],
)
async def test_nothing_typed_becomes_a_question(
    domain: ActiveDirectory, mode: str, name: str
) -> None:
    """D1: nor a name of another domain, a machine or a group."""
    async with running(config_of(**table_of(domain, mode))) as server:
        answer = await login(server, name)
        assert (told(answer), answer["error"]["message"]) == (REFUSED, WRONG)
        assert await count(server) == [0, 0]


async def test_members_of_members(domain: ActiveDirectory) -> None:
    """By option; else only those `memberOf` names."""
    groups = {ADMINS: "admin"}
    nested = domain.settings(groupProfiles=groups, nestedGroups=True)
    async with running(config_of(**nested)) as server:
        assert (await source_of(server))["profileIds"] == ["default", "admin"]
        assert (await source_of(server, "carol"))["profileIds"] == ["default"]
    flat = domain.settings(
        groupProfiles={**groups, INNER: "default"}, defaultProfiles=["anonymous"]
    )
    async with running(config_of(**flat)) as server:
        assert (await source_of(server))["profileIds"] == ["anonymous", "default"]
        assert (await source_of(server, "bob"))["profileIds"] == ["anonymous", "admin"]


async def test_the_example_of_the_page(domain: ActiveDirectory) -> None:
    """docs/strategies/ldap.md shows what works."""
    table = example("Active Directory")
    table |= {"servers": [f"ldaps://{domain.host}"], "caFile": str(domain.ca)}
    async with running(config_of(**table)) as server:
        assert (await source_of(server, "CORP\\ann"))["profileIds"] == ["default", "admin"]


async def test_what_else_must_hold(domain: ActiveDirectory) -> None:
    """`filter` lets in only some."""
    table = domain.settings(filter=f"(memberOf={ADMINS})")
    async with running(config_of(**table)) as server:
        assert (await login(server, "bob"))["status"] == 200
        assert told(await login(server, "ann")) == REFUSED


async def test_passwords_are_not_sent_in_clear(domain: ActiveDirectory) -> None:
    """D3: the domain itself wants TLS, StartTLS will do; a service account it refuses is an error
    of the operator's, and no user's."""
    plain = domain.settings(servers=[f"ldap://{domain.host}"])
    async with running(config_of(**plain)) as server:
        assert (await login(server))["status"] == 500
    async with running(config_of(**plain, startTls=True)) as server:
        assert (await login(server))["status"] == 200
    async with running(config_of(**domain.settings(bindPassword="wrong"))) as server:
        assert told(await login(server), "id") == {"id": "core.fatal.service_unavailable"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"userDn": "x={username}"}, "userDn"),
        (
            {"nestedGroups": True, "groupFilter": "(member={dn})"},
            "groupFilter: cannot be combined with",
        ),
        ({"base": ""}, "base"),
    ],
)
async def test_what_refuses_to_start(more: dict[str, object], said: str) -> None:
    python_ldap()
    domain = {"use": "ldap", "activeDirectory": True, "servers": ["ldaps://dc.test"]}
    domain |= {"base": AD_BASE, "domain": "corp.example.test"}
    with pytest.raises(LocalError, match=f"strategies.ldap: {said}"):
        async with running(config_of(**{**domain, **more})):
            pass
