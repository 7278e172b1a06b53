"""What `server.auth.audit.tell` may say as a `notice`, for the operator's systems (security check
A16).

The first three count unless their action is refused; everything else is a suspicion, and always
counts.
Strategies may have words of their own.
"""

ENROLLED = "credentialsAdded"
CHANGED = "credentialsChanged"
RECOVERED = "recoveryCodeUsed"
REUSED = "reusedCode"
THROTTLED = "throttled"
CLONED = "possibleClone"
"""A passkey whose counter went back."""
