"""`manykeys user` command: list, create, change and delete users, also while servers run."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator
from typing import cast

import orjson

from protocol.errors import LocalError
from server.admin.importing.records import LOCAL
from server.admin.operations import BY_OPERATOR, OPERATOR, Operations
from server.auth.identity.user import User, read_user
from server.auth.login.mfa import factors_of, take_away
from server.auth.sessions.sessions import end_all
from server.cli.output import Work, write_table
from server.cli.prompt import add_password_flag, take_password
from server.core.ids import DEFAULT, is_id
from server.core.timestamps import write_time
from server.storage.rows import Row, Table

_PAGE = 500
_HEADINGS = ("KUID", "STATE", "PROFILES", "USERNAME", "CREATED")


def declare(command: ArgumentParser, settings: ArgumentParser) -> None:
    """Declare `manykeys user` and its commands."""
    tasks = command.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def task(name: str, text: str, work: Work) -> ArgumentParser:
        made = tasks.add_parser(
            name, help=text, description=text, parents=[settings], allow_abbrev=False
        )
        made.set_defaults(work=work)
        return made

    _add_list(task("list", "print users, sorted by ID", _list))
    _add_create(task("create", "create a user, with a password by default", _create))
    texts = {
        "disable": (
            "disable a user: their tokens, API keys and logins are rejected, sessions revoked",
            _disable,
        ),
        "enable": ("re-enable a user; revoked sessions stay revoked", _enable),
        "unlock": (
            "reset the failed login counters of a user, so that the next attempt need not wait",
            _unlock,
        ),
        "delete": ("delete a user and their credentials, sessions and API keys", _delete),
        "set-password": (
            "set a user's password; sessions and reset tokens are revoked, API keys stay valid",
            _set_password,
        ),
        "reset-mfa": (
            "delete a user's second factors and recovery codes; if a second factor is required, "
            "they enroll again at the next login",
            _reset_mfa,
        ),
    }
    for name, (text, work) in texts.items():
        made = task(name, text, work)
        made.add_argument("user", metavar="USER", help="ID of the user")
        made.add_argument(
            "--by-username", action="store_true", help="USER is a username, not an ID"
        )
        if name == "set-password":
            add_password_flag(made)
            made.add_argument("--keep-sessions", action="store_true", help="keep sessions")
        if name == "reset-mfa":
            made.add_argument("--factor", metavar="NAME", help="only the factor of this strategy")
            made.add_argument("--end-sessions", action="store_true", help="also revoke sessions")


def _add_list(made: ArgumentParser) -> None:
    made.add_argument("--profile", metavar="ID", help="only users with this profile")
    made.add_argument("--disabled", action="store_true", help="only disabled users")
    made.add_argument("--json", action="store_true", help="one JSON object per line, as for import")


def _add_create(made: ArgumentParser) -> None:
    made.add_argument("user", metavar="KUID", help="ID of the user")
    made.add_argument(
        "--profile", action="append", metavar="ID", help=f"profile, repeatable ({DEFAULT})"
    )
    made.add_argument("--username", metavar="NAME", help="username (the user's ID)")
    made.add_argument("--content", metavar="JSON", help="further content of the user, an object")
    made.add_argument("--no-password", action="store_true", help="create no password credentials")
    add_password_flag(made)


async def _list(operations: Operations, given: Namespace) -> None:
    """Print users page by page: there may be millions."""
    is_first = True
    async for users in _pages(operations, given.profile, is_disabled=given.disabled):
        if given.json:
            for user in users:
                sys.stdout.write(orjson.dumps(_shown(user)).decode() + "\n")
            continue
        table = write_table(_HEADINGS, [await _row(operations, user) for user in users])
        print(table if is_first else table.partition("\n")[2])
        is_first = False
    if is_first and not given.json:
        print(write_table(_HEADINGS, ()))


async def _pages(
    operations: Operations, profile_id: str | None, *, is_disabled: bool
) -> AsyncIterator[list[User]]:
    if profile_id is not None and not is_id(profile_id):
        raise LocalError("--profile: expected a profile ID")
    storage, after = operations.storage, cast("Row | None", None)
    where: Row = {} if profile_id is None else {"profile_id": profile_id}
    table = Table.USERS if profile_id is None else Table.USER_PROFILES
    while rows := await storage.find_after(table, after, where, limit=_PAGE):
        last = rows[-1]["kuid"]
        after = {"kuid": last} if profile_id is None else {"kuid": last, "profile_id": profile_id}
        if profile_id is None:
            users = [read_user(row) for row in rows]
        else:
            users = await operations.users.get_all([cast(str, row["kuid"]) for row in rows])
        if wanted := [user for user in users if user.is_disabled or not is_disabled]:
            yield wanted


async def _row(operations: Operations, user: User) -> tuple[str, ...]:
    held = await operations.storage.get(Table.CREDENTIALS, kuid=user.kuid, strategy=LOCAL)
    created_at_ms = user.info.get("createdAt")
    return (
        user.kuid,
        "disabled" if user.is_disabled else "enabled",
        ",".join(user.profile_ids),
        "-" if held is None else cast(str, held["id"]),
        write_time(created_at_ms) if isinstance(created_at_ms, int) else "-",
    )


def _shown(user: User) -> dict[str, object]:
    shown: dict[str, object] = {
        "collection": "users",
        "_id": user.kuid,
        "_source": user.source(),
    }
    return {**shown, "disabled": user.is_disabled}


async def _create(operations: Operations, given: Namespace) -> None:
    content = _read_content(given.content)
    credentials: dict[str, object] = {}
    if not given.no_password:
        username = given.username or given.user
        password = take_password(from_stdin=given.password_stdin)
        credentials[LOCAL] = {"username": username, "password": password}
    elif given.username is not None or given.password_stdin:
        raise LocalError("--no-password: cannot be used with --username or --password-stdin")
    making = operations.users.create(
        kuid=given.user,
        kind="",
        profile_ids=given.profile or [DEFAULT],
        content=content,
        credentials=credentials,
        author=OPERATOR,
    )
    await operations.change("user create", given.user, making)
    print(f"user {given.user} created")


def _read_content(written: str | None) -> dict[str, object]:
    try:
        content: object = {} if written is None else orjson.loads(written)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise LocalError("--content: expected a JSON object")
    if "profileIds" in content:
        raise LocalError("--content: profileIds is not accepted; use --profile")
    return content


async def _disable(operations: Operations, given: Namespace) -> None:
    kuid = await _find(operations, given)
    await operations.change(
        "user disable", kuid, operations.user_changes.disable(kuid, BY_OPERATOR)
    )
    print(f"user {kuid} is disabled: their tokens and API keys are rejected from now on")


async def _enable(operations: Operations, given: Namespace) -> None:
    kuid = await _find(operations, given)
    await operations.change("user enable", kuid, operations.user_changes.enable(kuid, BY_OPERATOR))
    print(f"user {kuid} is enabled")


async def _unlock(operations: Operations, given: Namespace) -> None:
    kuid = await _find(operations, given)
    await operations.change("user unlock", kuid, operations.user_changes.unlock(kuid))
    print(f"user {kuid} is unlocked: failed login counters are reset")


async def _delete(operations: Operations, given: Namespace) -> None:
    kuid = await _find(operations, given)
    await operations.change("user delete", kuid, operations.users.delete(kuid))
    print(f"user {kuid} is deleted")


async def _set_password(operations: Operations, given: Namespace) -> None:
    kuid = await _find(operations, given)
    password = take_password(from_stdin=given.password_stdin)
    credentials, revokes = {"password": password}, not given.keep_sessions
    setting = operations.credentials.update(LOCAL, kuid, credentials, BY_OPERATOR, revokes=revokes)
    await operations.change("user set-password", kuid, setting, strategy=LOCAL)
    print(f"user {kuid} has a new password")


async def _reset_mfa(operations: Operations, given: Namespace) -> None:
    """Delete each factor in its own transaction, with its own audit event."""
    kuid, named, factors = await _find(operations, given), given.factor, operations.factors
    if named is not None and named not in factors:
        known = ", ".join(factors) or "(security.mfa.factors names none)"
        raise LocalError(f"--factor: {named} is not a second factor; expected one of: {known}")
    asked = factors if named is None else (named,)
    held = await factors_of(operations.storage, kuid, asked)
    if not held:
        raise LocalError(f"user {kuid} has no second factor of: {', '.join(asked)}")
    ends = end_all(kuid, operations.clock_ms()) if given.end_sessions else []
    for name in held:
        removal = take_away(operations.storage, kuid, name, ends)
        await operations.change("user reset-mfa", kuid, removal, strategy=name)
        print(f"user {kuid}: {name} deleted")
    if not await operations.storage.exists(Table.CREDENTIALS, kuid=kuid):
        print(f"user {kuid} has no credentials left and cannot log in")


async def _hint(operations: Operations, given: Namespace) -> str:
    """Return a hint for a name that is not a user ID."""
    name: str = given.user
    if not given.by_username:
        if await operations.storage.exists(Table.CREDENTIALS, strategy=LOCAL, id=name):
            return "but there is a user with this username: add --by-username"
    return "see manykeys user list"


async def _find(operations: Operations, given: Namespace) -> str:
    """Return the ID of the user a command is about; LocalError if there is no such user."""
    kuid: str = given.user
    if given.by_username:
        row = await operations.storage.get(Table.CREDENTIALS, strategy=LOCAL, id=kuid)
        kuid = "" if row is None else cast(str, row["kuid"])
    if not kuid or await operations.users.get(kuid) is None:
        hint = await _hint(operations, given)
        raise LocalError(f"{given.user}: user not found, {hint}")
    return kuid
