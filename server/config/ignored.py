"""Kuzzle settings that are accepted but have no effect.

They are accepted so that an existing configuration can be used; the server logs a warning that
names them. `.*` matches every undeclared name below it.
"""

IGNORED = (
    "cluster.enabled",
    "http.routes",
    "limits.concurrentRequests",
    "limits.requestsBufferSize",
    "limits.requestsBufferWarningThreshold",
    "limits.subscriptionConditionsCount",
    "limits.subscriptionDocumentTTL",
    "limits.subscriptionMinterms",
    "limits.subscriptionRooms",
    "plugins.*",
    "plugins.kuzzle-plugin-auth-passport-local.algorithm",
    "plugins.kuzzle-plugin-auth-passport-local.digest",
    "plugins.kuzzle-plugin-auth-passport-local.encryption",
    "plugins.kuzzle-plugin-auth-passport-local.stretching",
    "repositories.common.cacheTTL",
    "security.debug.*",
    "security.default.role",
    "security.jwt.algorithm",
    "security.jwt.expiresIn",
    "security.jwt.maxTTL",
    "security.standard.*",
    "server.appLogs.*",
    "server.logs.*",
    "server.protocols.http.enabled",
    "server.protocols.mqtt.*",
    "server.protocols.websocket.realtimeNotifications",
    "services.storageEngine.internalIndex.*",
)
