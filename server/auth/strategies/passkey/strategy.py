"""Strategy `passkey`: login with passkeys of authenticators and password managers (WebAuthn level
3; security check A14).

A login does not name a user: the response says which key it is by, and the key's row says whose
that is. So it does not reveal which users exist. Every challenge is random, stored on the server as
part of a login step, and valid for one response.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from protocol.errors import ApiError, error, plain_error
from server.auth.audit.events import tell
from server.auth.audit.notices import CLONED
from server.auth.strategies.base import (
    Authenticated,
    Challenge,
    LoginAttempt,
    Outcome,
    Parts,
    Prepared,
    Proof,
    Proven,
    Refused,
    StrategyKind,
)
from server.auth.strategies.passkey.options import (
    ask_for_new,
    ask_for_one,
    make_challenge,
    make_handle,
)
from server.auth.strategies.passkey.rows import PasskeyRows, shown
from server.auth.strategies.passkey.settings import PasskeySettings, check_settings
from server.auth.strategies.passkey.verification import (
    MOST_HANDLE_BYTES,
    MOST_ID_BYTES,
    MOST_PUBLIC_KEY_BYTES,
    Cloned,
    Expected,
    NewKey,
    Rejected,
    check_public_key,
    read_assertion,
    read_bytes,
    transports_in,
    verify_assertion,
    verify_registration,
    write_bytes,
)
from server.core.ids import is_id
from server.core.outcomes import WRONG
from server.storage.rows import Row

MOST_NAME_CHARACTERS = 64
_MAX_COUNT = 2**32 - 1
_NOT_CREATED = "the authenticator's response is not valid: create the passkey again"


class Passkey(PasskeyRows):
    """Logs in users who have one of a user's keys."""

    fields = ("credential", "name")

    def __init__(self, name: str, settings: PasskeySettings, parts: Parts) -> None:
        check_settings(settings)
        super().__init__(name, parts)
        self._settings = settings

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Return the same challenge in any case: to sign with any key of this domain."""
        if _credential_in(attempt) is not None:
            raise error("api.assert.missing_argument", "state")
        return self._question((), {})

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """See `Resumes`."""
        return await self._check(attempt, kept, None)

    async def second_factor(self, kuid: str, state: str) -> Challenge | None:
        """Ask for one of this user's keys, in addition to a first factor; None if they have none.

        Called by name by a strategy that requires two proofs. It passes `kept` to
        `check_second_factor`, together with the attempt that contains the response; `state` names
        that step.
        """
        keys = (await self.holder(kuid)).keys
        return self._question(keys, {"kuid": kuid}) if keys else None

    async def check_second_factor(
        self, kuid: str, attempt: LoginAttempt, kept: Mapping[str, object]
    ) -> Authenticated | Refused:
        """Verify the response, `credential` in the body or the arguments. The guards of the result
        must become part of the transaction that stores the token."""
        if kept.get("kuid") != kuid:
            tell(reason="another user's challenge")
            return Refused(WRONG)
        return await self._check(attempt, kept, kuid)

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Ask for a new key; with the `id` of an existing key, accept another `name` for it."""
        if "id" in attempt.body:
            return Proven({"id": attempt.body["id"], "name": attempt.body.get("name")})
        if _credential_in(attempt) is not None:
            raise error("api.assert.missing_argument", "body.state")
        holder = await self.holder(kuid)
        self._check_room(len(holder.keys))
        challenge, handle = make_challenge(), holder.handle or make_handle()
        asked = ask_for_new(
            self._settings, challenge=challenge, handle=handle, kuid=kuid, keys=holder.keys
        )
        kept = {"challenge": challenge, "handle": handle}
        return Challenge(asked, kept, self._settings.is_portable)

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """Verify the new key."""
        credential = _needed_credential(attempt)
        try:
            key = verify_registration(
                credential, self._expected(kept), algorithms=self._settings.algorithms
            )
        except Rejected as reason:
            tell(reason=str(reason))
            return Refused(_NOT_CREATED)
        return Proven(
            {
                "id": key.id,
                "publicKey": write_bytes(key.public_key),
                "userHandle": kept["handle"],
                "signCount": key.sign_count,
                "backedUp": key.is_backed_up,
                "transports": list(key.transports),
                "name": attempt.body.get("name", ""),
            }
        )

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`. A new key is in the form that `resume_proof` returns; an update names one
        by its `id`."""
        _read_name(credentials)
        if is_update:
            await self.own_key(kuid, credentials.get("id"))
            return
        key, handle = self._read_key(credentials)
        await self.check_free(handle, kuid, "userHandle")
        self._check_room(len((await self.holder(kuid)).keys))
        if await self.key(key.id) is not None:
            raise plain_error(412, "the key is already registered")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`; a user may have several."""
        key, handle = self._read_key(credentials)
        holder = await self.holder(kuid)
        return self.entered(holder, handle, kuid, key, _read_name(credentials))

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """Prepare another name of one of the user's keys."""
        row = await self.own_key(kuid, credentials.get("id"))
        return self.renamed(row, _read_name(credentials))

    async def delete(self, kuid: str) -> Prepared:
        """See `Strategy`; deletes all keys of the user."""
        return self.all_removed(await self.of(kuid))

    async def delete_one(self, kuid: str, identifier: str) -> Prepared:
        """Prepare the deletion of one of the user's keys; ApiError 412 if it is not theirs."""
        return self.removed(await self.holder(kuid), await self.own_key(kuid, identifier))

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Return a user's keys, oldest first; ApiError 412 if they have none."""
        await self.of(kuid)
        return {"keys": [shown(key) for key in (await self.holder(kuid)).keys]}

    async def get_by_id(self, identifier: str) -> dict[str, object]:
        """Return the key with this id and its user; ApiError 412 if there is none."""
        row = await self.key(identifier)
        if row is None:
            raise plain_error(412, f"there is no such key of {self.name}")
        return {**shown(row), "kuid": row["kuid"]}

    def _question(self, keys: Sequence[Row], kept: Mapping[str, object]) -> Challenge:
        challenge = make_challenge()
        asked = ask_for_one(self._settings, challenge=challenge, keys=keys)
        return Challenge(asked, {**kept, "challenge": challenge}, self._settings.is_portable)

    async def _check(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str | None
    ) -> Authenticated | Refused:
        """Find the key that signed a response, and its user, which must be `kuid` if that is
        given."""
        credential = _needed_credential(attempt)
        try:
            assertion = read_assertion(credential)
            row = await self.key(assertion.id)
            if row is None:
                raise Rejected("unknown key")
            owner = str(row["kuid"])
            tell(subject=owner)
            handle = (await self.holder(owner)).handle
            # A response to a challenge for any key must contain the user handle (§7.2, step 6).
            if assertion.handle != handle and (kuid is None or assertion.handle is not None):
                raise Rejected("the key is another user's")
            if kuid is not None and owner != kuid:
                raise Rejected("the key is another user's")
            used = verify_assertion(
                assertion,
                self._expected(kept),
                public_key=cast(bytes, row["public_key"]),
                sign_count=cast(int, row["sign_count"]),
            )
        except Rejected as reason:
            tell(reason=str(reason), notice=CLONED if isinstance(reason, Cloned) else None)
            return Refused(WRONG)
        return Authenticated(owner, self.used(row, used))

    def _expected(self, kept: Mapping[str, object]) -> Expected:
        return Expected(
            str(kept["challenge"]),
            self._settings.rp_id,
            self._settings.origins,
            self._settings.top_origins,
            self._settings.user_verification == "required",
        )

    def _check_room(self, count: int) -> None:
        if count >= self._settings.most_keys:
            raise plain_error(412, f"a user has at most {self._settings.most_keys} keys")

    def _read_key(self, given: Mapping[str, object]) -> tuple[NewKey, str]:
        """Return a key and its user handle, from the result of `resume_proof` or an administrator's
        input; ApiError 400 names what is wrong."""
        handle, count = given.get("userHandle"), given.get("signCount", 0)
        if not read_bytes(given.get("id"), MOST_ID_BYTES):
            raise _invalid("id", f"1 to {MOST_ID_BYTES} bytes in base64url")
        if not read_bytes(handle, MOST_HANDLE_BYTES):
            raise _invalid("userHandle", f"1 to {MOST_HANDLE_BYTES} bytes in base64url")
        public_key = read_bytes(given.get("publicKey"), MOST_PUBLIC_KEY_BYTES)
        try:
            check_public_key(public_key or b"", self._settings.algorithms)
        except Rejected:
            names = ", ".join(self._settings.algorithms)
            raise _invalid("publicKey", f"a COSE key of {names} in base64url") from None
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MAX_COUNT:
            raise _invalid("signCount", f"a whole number from 0 to {_MAX_COUNT}")
        key = NewKey(
            str(given["id"]),
            public_key or b"",
            count,
            given.get("backedUp") is True,
            transports_in(given.get("transports")),
        )
        return key, str(handle)


def _credential_in(attempt: LoginAttempt) -> object:
    found = attempt.body.get("credential")
    return attempt.args.get("credential") if found is None else found


def _needed_credential(attempt: LoginAttempt) -> object:
    """Return the result of the browser's `toJSON`; ApiError 400 if it is missing."""
    credential = _credential_in(attempt)
    if credential is None:
        raise error("api.assert.missing_argument", "body.credential")
    return credential


def _read_name(given: Mapping[str, object]) -> str:
    """Return the name of a key, "" if it has none."""
    name = given.get("name", "")
    if not isinstance(name, str) or len(name) > MOST_NAME_CHARACTERS or (name and not is_id(name)):
        limit = f"at most {MOST_NAME_CHARACTERS} characters without control characters"
        raise _invalid("name", limit)
    return name


def _invalid(argument: str, accepted: str) -> ApiError:
    return error("api.assert.invalid_argument", argument, accepted)


KIND = StrategyKind(PasskeySettings, Passkey)
