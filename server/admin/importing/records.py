"""Import records: users and local credentials of other programs, converted to rows.

Nothing is looked up, hashed or stored here. Missing values stay open: `info` {} and `created_at`
None are filled in for new documents, and keep the values of existing ones.
"""

from collections.abc import Mapping
from typing import cast

import orjson

from protocol.errors import error
from server.admin.importing.bulk_writer import Arrival, Held
from server.auth.accounts.user_updates import check_size
from server.auth.identity.user import check_profile_ids, content_of
from server.auth.passwords.hasher import can_verify
from server.auth.passwords.policies import MOST_REUSED
from server.auth.strategies.local import check_username
from server.core.ids import ANONYMOUS_ID, check_kuid

LOCAL = "local"
_KUZZLE = ("userPassword", "userSalt", "algorithm", "stretching", "encryption", "pepper", "digest")
_READABLE = "a password hash with a supported algorithm and cost"
_MAX_MS = 253_402_300_799_999  # the last moment of the year 9999
_INFO: Mapping[str, type] = {"author": str, "createdAt": int, "updatedAt": int, "updater": str}


def read_imported_user(
    kuid: str,
    source: Mapping[str, object],
    is_disabled: bool | None,
    credentials: tuple[Held, ...] = (),
) -> Arrival:
    """Return the user of a document, with these credentials; ApiError for an invalid document."""
    check_kuid(kuid)
    profile_ids = source.get("profileIds")
    if not isinstance(profile_ids, list):
        raise error("api.assert.invalid_type", "profileIds", "array of strings")
    content = orjson.dumps(content_of(source))
    check_size(content)
    info = _read_info(source.get("_kuzzle_info"))
    return Arrival(
        kuid,
        check_profile_ids(profile_ids, "profileIds"),
        content.decode(),
        orjson.dumps(info).decode() if info else "",
        is_disabled,
        credentials,
    )


def read_imported_local(username: str, source: Mapping[str, object], digest: str) -> Held:
    """Return credentials with a hashed password: `hash` in a notation that names its algorithm, or
    the members of Kuzzle's record, with the encoding `digest` unless it names one."""
    record = _read_record(source, digest)
    if not can_verify(record):
        raise error("api.assert.invalid_argument", _name_of(source), _READABLE)
    info, updater = _read_info(source.get("_kuzzle_info")), source.get("updater")
    history = _read_history(source.get("passwordHistory"), digest)
    data = {**record, "updater": updater if isinstance(updater, str) else ANONYMOUS_ID}
    if history:
        data["history"] = history
    return Held(
        LOCAL,
        check_username(username),
        orjson.dumps(data).decode(),
        cast("int | None", info.get("createdAt")),
        cast("int | None", info.get("updatedAt")),
    )


def has_hash(source: Mapping[str, object]) -> bool:
    """Return whether credentials contain a hashed password."""
    return "hash" in source or "userPassword" in source


def _name_of(source: Mapping[str, object]) -> str:
    return "hash" if "hash" in source else "userPassword"


def _read_record(source: Mapping[str, object], digest: str) -> dict[str, object]:
    if "hash" in source:
        return {"hash": source["hash"]}
    members = {name: source[name] for name in _KUZZLE if name in source}
    return {"kuzzle": {"digest": digest, **members}}


def _read_history(given: object, digest: str) -> list[dict[str, object]]:
    """Return the password history, newest first, without hashes that cannot be verified."""
    earlier = given[:MOST_REUSED] if isinstance(given, list) else []
    records = [_read_record(one, digest) for one in earlier if isinstance(one, dict)]
    return [record for record in records if can_verify(record)]


def _read_info(given: object) -> dict[str, object]:
    """Return `_kuzzle_info`; {} if the file does not contain the time of creation."""
    if not isinstance(given, dict):
        return {}
    info = {name: _checked(given.get(name), kind) for name, kind in _INFO.items()}
    return info if info["createdAt"] is not None else {}


def _checked(value: object, kind: type) -> object:
    is_fine = isinstance(value, kind) and not isinstance(value, bool)
    if is_fine and kind is int:
        return value if 0 <= cast(int, value) <= _MAX_MS else None
    return value if is_fine else None
