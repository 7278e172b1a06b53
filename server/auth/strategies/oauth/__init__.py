"""The kind `oauth`: other sites say who somebody is, by OpenID Connect, OAuth or OpenID
(contract/05 §4, §5; docs/strategies/oauth.md).

social-auth-core knows the sites; `[oauth]` brings it, and nothing but `kind` and what that imports
needs it. What it would keep in a browser's session lies with the pending login, what it would keep
in a database does not exist, and its answers count only after the checks in `kind`.
"""
