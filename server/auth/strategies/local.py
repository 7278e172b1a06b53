"""Strategy `local`: login with a username and a password stored here.

A failed login gets the same response after the same work, whether the username, the password or the
state of the user is the cause. Errors without an id are those of Kuzzle's plugin.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from protocol.errors import ApiError, error, plain_error
from server.auth.audit.events import tell
from server.auth.passwords.hasher import PasswordHasher, check_password
from server.auth.passwords.patterns import Matcher
from server.auth.passwords.policies import Demands, Policies, Policy
from server.auth.passwords.rules import PasswordRules
from server.auth.passwords.work_owner import WorkOwner
from server.auth.sessions.one_time import Resets, end_all, use_up
from server.auth.sessions.token_forms import owner_guard
from server.auth.strategies.base import Authenticated, LoginAttempt, Outcome, Prepared, Refused
from server.auth.strategies.local_search import search_usernames
from server.core.durations import NEVER
from server.core.ids import MOST_ID_BYTES, is_id, is_path_step
from server.core.outcomes import DISABLED, WRONG
from server.storage.base import (
    Change,
    Delete,
    DeleteAll,
    Exists,
    Insert,
    Missing,
    Present,
    Storage,
    Unavailable,
    Update,
)
from server.storage.query import Query
from server.storage.rows import Row, Table
from server.storage.search import Order

_NAME = "local"
_ERRORS = "plugin.kuzzle-plugin-auth-passport-local."
_NO_RULES = PasswordRules()
_WRONG = Refused(WRONG)
_INCOMPLETE = Refused("username and password are required")
_WRONG_PASSWORD = "wrong password"  # noqa: S105 (a reason for the audit log)


class Local:
    """Logs in with a username and a password; the username identifies the credentials, and is
    unique.

    With `require_password`, users who change or delete their own credentials must confirm with
    their current password. `reset_ttl_ms` is the lifetime of a password reset token, -1 for no
    expiry.
    """

    name = _NAME
    fields = ("username", "password")

    def __init__(
        self,
        storage: Storage,
        passwords: PasswordHasher,
        *,
        clock_ms: Callable[[], int],
        require_password: bool = False,
        rules: PasswordRules = _NO_RULES,
        policies: Sequence[Policy] = (),
        reset_ttl_ms: float = NEVER,
    ) -> None:
        self._storage = storage
        self._passwords = passwords
        self._clock_ms = clock_ms
        self._require_password = require_password
        self._rules = rules
        self._policies = Policies(storage, policies)
        self._matcher = Matcher()
        self._resets = Resets(storage, clock_ms=clock_ms, ttl_ms=reset_ttl_ms)

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Compare the password of the body, else of the arguments, with the stored one."""
        username = attempt.body.get("username") or attempt.args.get("username")
        password = attempt.body.get("password") or attempt.args.get("password")
        if not username or not password:
            tell(reason="no username or no password")
            return _INCOMPLETE
        if not isinstance(username, str):
            raise error("api.assert.invalid_type", "username", "string")
        password = check_password(password, "password")
        row = await self._find(username) if is_id(username) else None
        # Also looked up for unknown usernames, so that these are not answered sooner.
        kuid = "" if row is None else str(row["kuid"])
        owner = await self._storage.get(Table.USERS, kuid=kuid)
        # The username as it was sent: it must not matter here whether it exists.
        by = WorkOwner(f"{_NAME}\0{username}", attempt.address)
        is_same = await self._passwords.verify(password, _data_of(row), owner=by)
        tell(subject=kuid)
        if row is None or owner is None or owner["disabled"] or not is_same:
            tell(reason=_reason(row, owner))
            return _WRONG
        if not self._is_current(row):
            await self._renew(row, password, by)
        await self._check_may_log_in(row, kuid)
        same: Row = {**_key(row), "kuid": kuid, "updated_at": row["updated_at"]}
        return Authenticated(kuid, (Present(Table.CREDENTIALS, same),))

    def account_of(self, attempt: LoginAttempt) -> str | None:
        """Return the username of the attempt; None without a password, as nothing is tried then."""
        username = attempt.body.get("username") or attempt.args.get("username")
        password = attempt.body.get("password") or attempt.args.get("password")
        return username if isinstance(username, str) and password else None

    async def exists(self, kuid: str) -> bool:
        """See `Strategy`."""
        return await self._storage.exists(Table.CREDENTIALS, kuid=kuid, strategy=_NAME)

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`; new passwords are checked against the rules and the user's password
        policies."""
        await self._validate(credentials, kuid, is_update, None)

    async def validate_new(
        self, credentials: Mapping[str, object], kuid: str, profile_ids: Iterable[str]
    ) -> None:
        """See `Strategy`."""
        await self._validate(credentials, kuid, False, profile_ids)

    async def _validate(
        self,
        credentials: Mapping[str, object],
        kuid: str | None,
        is_update: bool,
        profile_ids: Iterable[str] | None,
    ) -> None:
        if "kuid" in credentials:
            raise plain_error(400, "credentials must not contain kuid")
        username, password = credentials.get("username"), credentials.get("password")
        old: Row | None = None
        if is_update:
            if _is_blank(username) and _is_blank(password):
                raise plain_error(400, "username or password is required")
            old = await self._get(kuid)
        elif _is_blank(username) or _is_blank(password):
            raise plain_error(400, "username and password are required")
        if not _is_blank(password):
            check_password(password, "password")
        if not _is_blank(username):
            row = await self._find(check_username(username, old))
            if row is not None and row["kuid"] != kuid:
                raise plain_error(412, "the username is already taken")
        if not _is_blank(password):
            name = old["id"] if old is not None and _is_blank(username) else username
            demands = await self._policies.demands_of(kuid, profile_ids)
            await self._check_new_password(str(password), str(name), demands, old)

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`; ApiError 412 if the user has local credentials."""
        if await self.exists(kuid):
            raise plain_error(412, "the user already has local credentials")
        username = check_username(credentials.get("username"))
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
        """See `Strategy`; a new username replaces the old one. ApiError 412 if the user has no
        local credentials.

        Applying the changes raises `Missing` if another request has changed the credentials.
        """
        old = await self._get(kuid)
        # Never the same twice: it shows whether a row is still the one that was read.
        changed_at_ms = max(self._clock_ms(), _set_at_ms(old) + 1)
        new = {**old, "updated_at": changed_at_ms}
        if not _is_blank(credentials.get("username")):
            new["id"] = check_username(credentials["username"], old)
        if not _is_blank(credentials.get("password")):
            password = check_password(credentials["password"], "password")
            demands = await self._policies.demands_of(kuid)
            history = _known_passwords(old)[: max(demands.remembered - 1, 0)]
            new["data"] = {
                "hash": await self._passwords.hash(password),
                "updater": by,
                **({"history": history} if history else {}),
            }
        key, changes = _key(old), [_unchanged(old)]
        if new["id"] == old["id"]:
            values = {"data": new["data"], "updated_at": new["updated_at"]}
            changes.append(Update(Table.CREDENTIALS, key, values))
        else:
            changes += [Delete(Table.CREDENTIALS, key), Insert(Table.CREDENTIALS, new)]
        if new["data"] is not old["data"]:
            changes.append(end_all(kuid))
        return Prepared(_shown(new), changes)

    async def delete(self, kuid: str) -> Prepared:
        """See `Strategy`."""
        row = await self._get(kuid)
        removal = DeleteAll(Table.CREDENTIALS, {"kuid": kuid, "strategy": _NAME})
        return Prepared(_shown(row), [removal, end_all(kuid)])

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Return the public part of a user's credentials; ApiError 412 if they have none."""
        return _shown(await self._get(kuid))

    async def search(
        self, query: Query, sort: tuple[Order, ...], start: int, size: int
    ) -> dict[str, object]:
        """Return a page of usernames with their kuids; see `search_usernames`."""
        return await search_usernames(self._storage, _NAME, query, sort, start, size)

    async def get_by_id(self, username: str) -> dict[str, object]:
        """Return the public part of the credentials with this username; ApiError 412 if there are
        none."""
        row = await self._find(username) if is_id(username) else None
        if row is None:
            raise plain_error(412, "no such username")
        return _shown(row)

    async def check_present_password(self, kuid: str, password: object) -> None:
        """Raise ApiError unless this is the user's password (400 if it is missing, 403 if it is
        wrong), if that is required; called before users change or delete their own credentials."""
        if not self._require_password:
            return
        await self.confirm_password(kuid, password)

    async def confirm_password(self, kuid: str, password: object) -> None:
        """Raise ApiError unless this is the user's password: 400 if it is missing, 403 if it is
        wrong."""
        if _is_blank(password):
            raise plain_error(400, "currentPassword is required")
        checked = check_password(password, "currentPassword")
        row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=_NAME)
        if not await self._passwords.verify(checked, _data_of(row)):
            tell(reason=_WRONG_PASSWORD)
            raise plain_error(403, "currentPassword is wrong")

    async def make_reset_token(self, kuid: str) -> str:
        """Return a token with which this user can set a new password, once. ApiError 400, without
        an id, if they have none."""
        try:
            return await self._resets.issue(kuid, {"kuid": kuid, "strategy": _NAME})
        except Missing:
            raise plain_error(400, "_id must be the id of a user with a password") from None

    async def reset(self, token: str, password: str) -> Prepared:
        """Prepare the new password of the user of this reset token, and the invalidation of the
        token.

        ApiError for a token or a password that is not valid. Applying the changes raises `Missing`
        if the token was used, or its user was changed or disabled, in the meantime.
        """
        kuid = await self.find_reset(token)
        credentials = {"password": password}
        await self.validate(credentials, kuid, True)
        prepared = await self.update(credentials, kuid, kuid)
        return Prepared(prepared.shown, [*owner_guard(kuid), use_up(token), *prepared.changes])

    async def find_reset(self, token: str) -> str:
        """Return the user who can set a new password with this reset token. ApiError if it is not
        valid; the same error for the token of a disabled user, to whom nothing of their password is
        revealed."""
        kuid = await self._resets.find(token)
        if not await self._storage.exists(Table.USERS, kuid=kuid, disabled=0):
            tell(subject=kuid, reason=DISABLED)
            raise error(_ERRORS + "invalid_token")
        return kuid

    async def _check_new_password(
        self, password: str, username: str, demands: Demands, old: Row | None
    ) -> None:
        await self._rules.check(password, username)
        if demands.forbids_login and username.casefold() in password.casefold():
            raise error(_ERRORS + "login_in_password")
        for pattern in demands.patterns:
            if not await self._matcher.is_found(pattern, password):
                raise error(_ERRORS + "weak_password")
        for known in _known_passwords(old)[: demands.remembered]:
            if await self._passwords.verify(password, known):
                raise error(_ERRORS + "reused_password")

    async def _check_may_log_in(self, row: Row, kuid: str) -> None:
        """Raise ApiError, with a reset token, if the user must choose another password first."""
        demands = await self._policies.demands_of(kuid)
        if demands.must_be_set_by_user and _data_of(row).get("updater") != kuid:
            refused = "must_change_password"
        elif self._clock_ms() > _set_at_ms(row) + demands.expires_after_ms:
            refused = "expired_password"
        else:
            return
        try:
            # A password that has just been changed yields no reset token.
            token = await self._resets.issue(kuid, _identity(row))
        except Missing:
            raise error("plugin.strategy.missing_user", WRONG) from None
        raise error(_ERRORS + refused, more={"resetToken": token})

    def _is_current(self, row: Row) -> bool:
        hashed = _data_of(row).get("hash")
        return isinstance(hashed, str) and self._passwords.is_current(hashed)

    async def _find(self, username: str) -> Row | None:
        return await self._storage.get(Table.CREDENTIALS, strategy=_NAME, id=username)

    async def _get(self, kuid: str | None) -> Row:
        row = None
        if kuid is not None:
            row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=_NAME)
        if row is None:
            raise plain_error(412, "the user has no local credentials")
        return row

    async def _renew(self, row: Row, password: str, by: WorkOwner) -> None:
        """Replace an outdated hash, unless the credentials were changed since; a failure does not
        fail the login."""
        with suppress(ApiError, Exists, Missing, Unavailable):
            hashed = await self._passwords.hash(password, owner=by)
            data = {**_data_of(row), "hash": hashed}
            data.pop("kuzzle", None)
            renewed = Update(Table.CREDENTIALS, _key(row), {"data": data})
            await self._storage.apply([_unchanged(row), renewed])


def _reason(row: Row | None, owner: Row | None) -> str:
    """Return why a login failed, for the audit log only."""
    if row is None or owner is None:
        return "unknown user"
    return DISABLED if owner["disabled"] else _WRONG_PASSWORD


def _is_blank(value: object) -> bool:
    return value is None or value == ""


def check_username(value: object, old: Row | None = None) -> str:
    """Return a username that credentials can have, or that the `old` ones have; ApiError 400 for
    any other."""
    if not isinstance(value, str):
        raise error("api.assert.invalid_type", "username", "string")
    if not is_id(value):
        limit = f"a string of 1 to {MOST_ID_BYTES} bytes without control characters"
        raise error("api.assert.invalid_argument", "username", limit)
    if is_path_step(value) and (old is None or value != old["id"]):
        # getCredentialsById has it in its path.
        limit = 'a name other than "." and "..", which URLs cannot contain'
        raise error("api.assert.invalid_argument", "username", limit)
    return value


def _key(row: Row) -> Row:
    return {"strategy": row["strategy"], "id": row["id"]}


def _identity(row: Row) -> Row:
    """Return the columns that distinguish these credentials from all others, their own earlier and
    later states included."""
    return {name: row[name] for name in ("strategy", "id", "kuid", "updated_at")}


def _unchanged(row: Row) -> Change:
    return Present(Table.CREDENTIALS, _identity(row))


def _set_at_ms(row: Row) -> int:
    return cast(int, row["updated_at"] or row["created_at"])


def _data_of(row: Row | None) -> dict[str, object]:
    """Return what is stored of a password: `hash`, or another program's record under `kuzzle`,
    `updater`, the user who set it, and `history` of earlier ones in the same forms, newest
    first."""
    data = None if row is None else row["data"]
    return data if isinstance(data, dict) else {}


def _known_passwords(row: Row | None) -> list[dict[str, object]]:
    """Return the current password and the earlier ones, newest first, in their stored forms."""
    data = _data_of(row)
    present: dict[str, object] = {name: data[name] for name in ("hash", "kuzzle") if name in data}
    history = data.get("history", [])
    return [present, *(cast("list[dict[str, object]]", history))] if present else []


def _shown(row: Row) -> dict[str, object]:
    return {"username": row["id"], "kuid": row["kuid"]}
