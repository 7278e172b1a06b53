"""Settings of the reference (contract/08) that mean nothing here.

They are taken so that an existing configuration can be used, and named in a warning.
A `.*` stands for all below it that no table declares.
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
