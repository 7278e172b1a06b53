"""What `server.auth.audit.tell` may say as a `notice`, for the operator's systems (security check
A16).

The first two count once their action went well; everything else is a suspicion, and always counts.
Strategies may have words of their own.
"""

ENROLLED = "credentialsAdded"
RECOVERED = "recoveryCodeUsed"
REUSED = "reusedCode"
THROTTLED = "throttled"
CLONED = "possibleClone"
"""A passkey whose counter went back."""
