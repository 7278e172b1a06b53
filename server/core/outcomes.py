"""Reasons why a login is rejected."""

WRONG = "wrong user or password"
"""The message of every rejected login, whatever the cause: it must not reveal which accounts
exist."""
DISABLED = "disabled user"
"""Recorded in the audit log, like other reasons, with `server.auth.audit.events.tell`."""
