"""Kind `oauth`: login with an identity provider, by OpenID Connect, OAuth or OpenID
(docs/strategies/oauth.md).

social-auth-core implements the providers; the extra `[oauth]` installs it, and only `strategy` and
what that imports needs it. What it would keep in a browser session is stored with the login in
progress, what it would keep in a database is not kept at all, and its results are only used after
the checks in `provider`.
"""
