"""The strategy `local`: a user name and a password kept here (contract/05 §1).

Whoever can't log in gets the same answer after the same work, whether it is the name, the password
or the user's state that is wrong. Errors without an id are the reference's.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from protocol.errors import ApiError, error, plain_error
from server.auth.names import MOST_ID_BYTES, is_id
from server.auth.passwords import Passwords, check_password
from server.auth.strategies import Authenticated, LoginAttempt, Outcome, Prepared, Refused
from server.storage.base import (
    Change,
    Delete,
    DeleteAll,
    Exists,
    Insert,
    Missing,
    Present,
    Row,
    Storage,
    Table,
    Unavailable,
    Update,
)

_NAME = "local"
_WRONG = Refused("wrong user or password")
_INCOMPLETE = Refused("username and password are required")


class Local:
    """Logs in with a user name and a password; the name identifies the credentials, and is unique.

    With `require_password`, whoever changes or removes his own credentials must give his present
    password.
    """

    name = _NAME
    fields = ("username", "password")

    def __init__(
        self,
        storage: Storage,
        passwords: Passwords,
        *,
        clock_ms: Callable[[], int],
        require_password: bool = False,
    ) -> None:
        self._storage = storage
        self._passwords = passwords
        self._clock_ms = clock_ms
        self._require_password = require_password

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Compare the password of the body, else of the arguments, with the stored one."""
        username = attempt.body.get("username") or attempt.args.get("username")
        password = attempt.body.get("password") or attempt.args.get("password")
        if not username or not password:
            return _INCOMPLETE
        if not isinstance(username, str):
            raise error("api.assert.invalid_type", "username", "string")
        password = check_password(password, "password")
        row = await self._find(username) if is_id(username) else None
        # Looked up in vain for unknown names, so that these are not answered sooner.
        kuid = "" if row is None else str(row["kuid"])
        owner = await self._storage.get(Table.USERS, kuid=kuid)
        hashed = _hash_of(row)
        is_same = await self._passwords.verify(password, hashed)
        if row is None or owner is None or owner["disabled"] or not is_same:
            return _WRONG
        if hashed is not None and not self._passwords.is_current(hashed):
            await self._renew(row, password)
        return Authenticated(kuid)

    async def exists(self, kuid: str) -> bool:
        """See `Strategy`."""
        return await self._storage.exists(Table.CREDENTIALS, kuid=kuid, strategy=_NAME)

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`."""
        if "kuid" in credentials:
            raise plain_error(400, "credentials may not contain a kuid")
        username, password = credentials.get("username"), credentials.get("password")
        if is_update:
            if _is_blank(username) and _is_blank(password):
                raise plain_error(400, "username or password is required")
            await self._get(kuid)
        elif _is_blank(username) or _is_blank(password):
            raise plain_error(400, "username and password are required")
        if not _is_blank(password):
            check_password(password, "password")
        if not _is_blank(username):
            row = await self._find(_check_username(username))
            if row is not None and row["kuid"] != kuid:
                raise plain_error(412, "the username is taken")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`; ApiError 412 for who has local credentials."""
        if await self.exists(kuid):
            raise plain_error(412, "the user has local credentials already")
        username = _check_username(credentials.get("username"))
        password = check_password(credentials.get("password"), "password")
        row: Row = {
            "strategy": _NAME,
            "id": username,
            "kuid": kuid,
            "data": {"hash": await self._passwords.hash(password), "updater": by},
            "created_at": self._clock_ms(),
            "updated_at": None,
        }
        owner = Present(Table.USERS, {"kuid": kuid})
        return Prepared(_shown(row), [owner, Insert(Table.CREDENTIALS, row)])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`; a new name takes the place of the old one. ApiError 412 for who has no
        local credentials."""
        old = await self._get(kuid)
        new = {**old, "updated_at": self._clock_ms()}
        if not _is_blank(credentials.get("username")):
            new["id"] = _check_username(credentials["username"])
        if not _is_blank(credentials.get("password")):
            password = check_password(credentials["password"], "password")
            new["data"] = {"hash": await self._passwords.hash(password), "updater": by}
        key = _key(old)
        if new["id"] == old["id"]:
            values = {"data": new["data"], "updated_at": new["updated_at"]}
            changes: list[Change] = [Update(Table.CREDENTIALS, key, values)]
        else:
            changes = [Delete(Table.CREDENTIALS, key), Insert(Table.CREDENTIALS, new)]
        return Prepared(_shown(new), changes)

    async def delete(self, kuid: str) -> Prepared:
        """See `Strategy`."""
        row = await self._get(kuid)
        removal = DeleteAll(Table.CREDENTIALS, {"kuid": kuid, "strategy": _NAME})
        return Prepared(_shown(row), [removal])

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Give what may be shown of a user's credentials; ApiError 412 if he has none."""
        return _shown(await self._get(kuid))

    async def get_by_id(self, username: str) -> dict[str, object]:
        """Give what may be shown of the credentials with this name; ApiError 412 if there are
        none."""
        row = await self._find(username) if is_id(username) else None
        if row is None:
            raise plain_error(412, "no such username")
        return _shown(row)

    async def check_present_password(self, kuid: str, password: object) -> None:
        """Raise ApiError unless this is the user's password (400 if it is absent, 403 if it is
        wrong), where that is required; asked before he changes or removes his own credentials."""
        if not self._require_password:
            return
        if _is_blank(password):
            raise plain_error(400, "currentPassword is required")
        checked = check_password(password, "currentPassword")
        row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=_NAME)
        if not await self._passwords.verify(checked, _hash_of(row)):
            raise plain_error(403, "currentPassword is wrong")

    async def _find(self, username: str) -> Row | None:
        return await self._storage.get(Table.CREDENTIALS, strategy=_NAME, id=username)

    async def _get(self, kuid: str | None) -> Row:
        row = None
        if kuid is not None:
            row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=_NAME)
        if row is None:
            raise plain_error(412, "the user has no local credentials")
        return row

    async def _renew(self, row: Row, password: str) -> None:
        """Replace an outdated hash, as long as nobody has changed the credentials since; a failure
        is no reason to refuse the login."""
        same = {name: row[name] for name in ("strategy", "id", "kuid", "updated_at")}
        with suppress(ApiError, Exists, Missing, Unavailable):
            data = {**_data_of(row), "hash": await self._passwords.hash(password)}
            guard = Present(Table.CREDENTIALS, same)
            await self._storage.apply([guard, Update(Table.CREDENTIALS, _key(row), {"data": data})])


def _is_blank(value: object) -> bool:
    return value is None or value == ""


def _check_username(value: object) -> str:
    if not isinstance(value, str):
        raise error("api.assert.invalid_type", "username", "string")
    if not is_id(value):
        limit = f"1 to {MOST_ID_BYTES} bytes of text without control characters"
        raise error("api.assert.invalid_argument", "username", limit)
    return value


def _key(row: Row) -> Row:
    return {"strategy": row["strategy"], "id": row["id"]}


def _data_of(row: Row) -> dict[str, object]:
    data = row["data"]
    return data if isinstance(data, dict) else {}


def _hash_of(row: Row | None) -> str | None:
    hashed = None if row is None else _data_of(row).get("hash")
    return hashed if isinstance(hashed, str) else None


def _shown(row: Row) -> dict[str, object]:
    return {"username": row["id"], "kuid": row["kuid"]}
