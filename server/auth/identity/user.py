"""User model: a user as stored and as shown by the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from protocol.errors import error
from server.storage.base import Change, Insert, Present
from server.storage.rows import Row, Table

MOST_PROFILES = 100
# Never part of the content: the ID is shown beside the document, and the other two have their own
# columns.
_NOT_CONTENT = frozenset({"_id", "profileIds", "_kuzzle_info"})


@dataclass(frozen=True, slots=True)
class User:
    """A user without their credentials; `info` is `_kuzzle_info`, which the anonymous user does not
    have."""

    kuid: str
    profile_ids: tuple[str, ...]
    content: dict[str, object] = field(default_factory=dict)
    info: dict[str, object] = field(default_factory=dict)
    is_disabled: bool = False

    def source(self) -> dict[str, object]:
        """Return the document the API shows as `_source`."""
        shown: dict[str, object] = {"profileIds": list(self.profile_ids), **self.content}
        if self.info:
            shown["_kuzzle_info"] = self.info
        return shown


def check_profile_ids(profile_ids: Sequence[str], argument: str) -> tuple[str, ...]:
    """Return the IDs without duplicates; a client may have sent a member of any type."""
    if set(map(type, profile_ids)) - {str}:
        raise error("api.assert.invalid_type", argument, "array of strings")
    if not profile_ids:
        raise error("api.assert.empty_argument", argument)
    if len(profile_ids) > MOST_PROFILES:
        raise error("api.assert.too_many_arguments", argument, MOST_PROFILES)
    return tuple(dict.fromkeys(profile_ids))


def content_of(given: Mapping[str, object]) -> dict[str, object]:
    """Return the members of a user's content that a client may write."""
    return {name: value for name, value in given.items() if name not in _NOT_CONTENT}


def row_of(user: User) -> Row:
    """Return a user as stored."""
    return {
        "kuid": user.kuid,
        "profile_ids": list(user.profile_ids),
        "content": user.content,
        "info": user.info,
        "disabled": int(user.is_disabled),
    }


def profile_rows_of(user: User) -> list[Change]:
    """Return the changes that add a user's profiles, as long as the profiles still exist."""
    changes: list[Change] = []
    for profile_id in user.profile_ids:
        changes.append(Present(Table.PROFILES, {"id": profile_id}))
        row: Row = {"kuid": user.kuid, "profile_id": profile_id}
        changes.append(Insert(Table.USER_PROFILES, row))
    return changes


def read_user(row: Row) -> User:
    """Return a stored user."""
    return User(
        kuid=cast(str, row["kuid"]),
        profile_ids=tuple(cast(list[str], row["profile_ids"])),
        content=cast(dict[str, object], row["content"]),
        info=cast(dict[str, object], row["info"]),
        is_disabled=bool(row["disabled"]),
    )
