"""Names of security notices that `server.auth.audit.events.tell` may send to the operator's systems
(security check A16).

Those of changes count unless their action is refused; everything else is a suspicion, and always
counts. Strategies may add their own.
"""

ENROLLED = "credentialsAdded"
CHANGED = "credentialsChanged"
REMOVED = "credentialsRemoved"
KEY_ADDED = "apiKeyAdded"
KEY_REMOVED = "apiKeyRemoved"
RESET_MADE = "resetTokenMade"
RECOVERED = "recoveryCodeUsed"
REUSED = "reusedCode"
THROTTLED = "throttled"
CLONED = "possibleClone"
"""A passkey whose signature counter decreased (a sign of a cloned authenticator)."""
