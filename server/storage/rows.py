"""Tables of the store, and what a row of one is."""

from enum import Enum

Value = object
"""A column's value: str, int, bytes, None, or (JSON columns) anything JSON can say."""
Row = dict[str, Value]


class Table(Enum):
    """Every collection of rows the product keeps; the value is its name in the database."""

    # Each member is there once. Enum's own hash is written in Python, and shows in every look-up.
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
