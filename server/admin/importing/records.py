"""Users and local credentials as another program wrote them down, read into what is stored
(contract/03 §1, contract/05 §1.3, §1.4).

Nothing is looked up, hashed or stored here. Whatever a file leaves out stays open: `info` {} and
`created_at` None are filled in when something new is stored, and say nothing against what is.
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
_READABLE = "a hash in a notation, and at a cost, that can be verified here"
_MOST_MS = 253_402_300_799_999  # the last moment of the year 9999
_INFO: Mapping[str, type] = {"author": str, "createdAt": int, "updatedAt": int, "updater": str}


def read_imported_user(
    kuid: str,
    source: Mapping[str, object],
    is_disabled: bool | None,
    credentials: tuple[Held, ...] = (),
) -> Arrival:
    """Give the user a document describes, with these credentials; ApiError for one that can't
    be."""
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
    """Give the credentials of a user with a hashed password: `hash` in a notation that names its
    algorithm, or the members of Kuzzle's record, encoded by `digest` where it does not say."""
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
    """Tell whether credentials bring a hashed password along."""
    return "hash" in source or "userPassword" in source


def _name_of(source: Mapping[str, object]) -> str:
    return "hash" if "hash" in source else "userPassword"


def _read_record(source: Mapping[str, object], digest: str) -> dict[str, object]:
    if "hash" in source:
        return {"hash": source["hash"]}
    members = {name: source[name] for name in _KUZZLE if name in source}
    return {"kuzzle": {"digest": digest, **members}}


def _read_history(given: object, digest: str) -> list[dict[str, object]]:
    """Give earlier passwords, newest first; those nothing can be held against are left out."""
    earlier = given[:MOST_REUSED] if isinstance(given, list) else []
    records = [_read_record(one, digest) for one in earlier if isinstance(one, dict)]
    return [record for record in records if can_verify(record)]


def _read_info(given: object) -> dict[str, object]:
    """Give who made and changed something when; {} where the file does not say when it was made."""
    if not isinstance(given, dict):
        return {}
    info = {name: _checked(given.get(name), kind) for name, kind in _INFO.items()}
    return info if info["createdAt"] is not None else {}


def _checked(value: object, kind: type) -> object:
    is_fine = isinstance(value, kind) and not isinstance(value, bool)
    if is_fine and kind is int:
        return value if 0 <= cast(int, value) <= _MOST_MS else None
    return value if is_fine else None
