"""Reasons for which a login is rejected."""

WRONG = "wrong user or password"
"""What everybody is told who may not log in, whatever is wrong."""
DISABLED = "disabled user"
"""What the audit trail is told of him, like other reasons: by `server.auth.audit.events.tell`."""
