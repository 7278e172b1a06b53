"""Database tables and row types."""

from enum import Enum

Value = object
"""A column's value: str, int, bytes, None, or (JSON columns) any JSON value."""
Row = dict[str, Value]


class Table(Enum):
    """All tables; the value is the name in the database."""

    # Members are singletons. Enum's own hash is written in Python, and slows down every lookup.
    __hash__ = object.__hash__

    SETTINGS = "settings"
    ROLES = "roles"
    PROFILES = "profiles"
    PROFILE_ROLES = "profile_roles"
    USERS = "users"
    USER_PROFILES = "user_profiles"
    CREDENTIALS = "credentials"
    PASSKEYS = "passkeys"
    SESSIONS = "sessions"
    API_KEYS = "api_keys"
    SIGNING_KEYS = "signing_keys"
    ONE_TIME = "one_time"
    AUDIT = "audit"
