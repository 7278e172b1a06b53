"""Database schema: columns, primary keys, unique groups and indexes of the tables.

Times are milliseconds since 1970. Independent of SQL.
"""

from dataclasses import dataclass
from enum import Enum

from server.storage.rows import Table


class Kind(Enum):
    """Column type."""

    TEXT = "text"
    INTEGER = "integer"
    BYTES = "bytes"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Shape:
    """Columns of one table: the first `key` names are the primary key; `unique` and `indexed` are
    column groups.

    A column named in `optional` may be None.
    """

    columns: dict[str, Kind]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    indexed: tuple[tuple[str, ...], ...] = ()
    optional: frozenset[str] = frozenset()


_T, _I, _B, _J = Kind.TEXT, Kind.INTEGER, Kind.BYTES, Kind.JSON

SHAPES: dict[Table, Shape] = {
    Table.SETTINGS: Shape({"name": _T, "value": _J}, key=("name",)),
    # `body` is the document as the API shows it, without `_id` and `_kuzzle_info`; `info` is
    # `_kuzzle_info`.
    Table.ROLES: Shape({"id": _T, "body": _J, "info": _J}, key=("id",)),
    Table.PROFILES: Shape({"id": _T, "body": _J, "info": _J}, key=("id",)),
    # One row for each role of each profile, for "which profile has this role".
    Table.PROFILE_ROLES: Shape(
        {"profile_id": _T, "role_id": _T}, key=("profile_id", "role_id"), indexed=(("role_id",),)
    ),
    Table.USERS: Shape(
        {"kuid": _T, "profile_ids": _J, "content": _J, "info": _J, "disabled": _I}, key=("kuid",)
    ),
    # One row for each profile of each user, so that the users of a profile are one indexed lookup.
    Table.USER_PROFILES: Shape(
        {"kuid": _T, "profile_id": _T}, key=("kuid", "profile_id"), indexed=(("profile_id",),)
    ),
    # `id` is the strategy's own identifier (a user name, a provider's subject); `data` is the
    # strategy's business.
    Table.CREDENTIALS: Shape(
        {"strategy": _T, "id": _T, "kuid": _T, "data": _J, "created_at": _I, "updated_at": _I},
        key=("strategy", "id"),
        unique=(("kuid", "strategy"),),
        optional=frozenset({"updated_at"}),
    ),
    # One row for each key of a user with credentials of a strategy with several keys. `id` is the
    # key's credential ID, in base64url, of the authenticator's length; `public_key` is a COSE key.
    Table.PASSKEYS: Shape(
        {
            "strategy": _T,
            "id": _T,
            "kuid": _T,
            "name": _T,
            "public_key": _B,
            "sign_count": _I,
            "backed_up": _I,
            "transports": _J,
            "created_at": _I,
            "used_at": _I,
        },
        key=("strategy", "id"),
        indexed=(("kuid", "strategy"),),
        optional=frozenset({"used_at"}),
    ),
    # `token_hash` is the SHA-256 of the token; `expires_at` None means never; `family` identifies a
    # chain of refreshes, which began at `started_at`; `used_at` is a recent use, not the last one
    # to the millisecond; `data` contains what the session list shows (address, user agent,
    # strategy). `parent` is what the token was created with by `auth:createToken`: the family of a
    # session, or "key:" and the hash of an API key; None for a login.
    # `amr` lists the strategies that proved who the user is, None for none; `authenticated_at` is
    # the time of that login, None for a session that began without one.
    Table.SESSIONS: Shape(
        {
            "token_hash": _B,
            "id": _T,
            "kuid": _T,
            "created_at": _I,
            "expires_at": _I,
            "ttl": _I,
            "single_use": _I,
            "refreshed_at": _I,
            "family": _T,
            "started_at": _I,
            "used_at": _I,
            "data": _J,
            "amr": _J,
            "authenticated_at": _I,
            "parent": _T,
        },
        key=("token_hash",),
        unique=(("id",),),
        indexed=(("kuid",), ("expires_at",), ("family",), ("parent",)),
        optional=frozenset({"refreshed_at", "expires_at", "parent", "amr", "authenticated_at"}),
    ),
    # `amr` is that of the session the key was created with, None if unknown.
    Table.API_KEYS: Shape(
        {
            "id": _T,
            "token_hash": _B,
            "kuid": _T,
            "description": _T,
            "expires_at": _I,
            "ttl": _I,
            "info": _J,
            "amr": _J,
        },
        key=("id",),
        unique=(("token_hash",),),
        indexed=(("kuid",),),
        optional=frozenset({"expires_at", "amr"}),
    ),
    # `secret` is an HMAC secret in hexadecimal, or a private key in PEM; a retired key verifies no
    # more.
    Table.SIGNING_KEYS: Shape(
        {"kid": _T, "algorithm": _T, "secret": _T, "created_at": _I, "retired_at": _I},
        key=("kid",),
        optional=frozenset({"retired_at"}),
    ),
    # Tokens valid for one use of one `kind` (a password reset, a login's next step), by their
    # SHA-256.
    Table.ONE_TIME: Shape(
        {"token_hash": _B, "kind": _T, "kuid": _T, "expires_at": _I, "data": _J},
        key=("token_hash",),
        indexed=(("kuid", "kind"), ("expires_at",)),
        optional=frozenset({"kuid", "expires_at"}),
    ),
    # One row for each `server.auth.audit.events.Event`; ids sort as times do.
    Table.AUDIT: Shape(
        {
            "id": _T,
            "at": _I,
            "kind": _T,
            "outcome": _T,
            "subject": _T,
            "target": _T,
            "actor": _T,
            "address": _T,
            "user_agent": _T,
            "strategy": _T,
            "reason": _T,
            "count": _I,
        },
        key=("id",),
        indexed=(
            ("subject",),
            ("actor",),
            ("address",),
            ("kind",),
            ("outcome",),
            ("kind", "outcome"),
        ),
    ),
}
