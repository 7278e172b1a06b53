"""Kind `saml`: login with a SAML identity provider (SAML 2.0 Web Browser SSO;
docs/strategies/saml.md).

social-auth-core implements the flow, python3-saml the messages, xmlsec the signatures; the extra
`[saml]` installs them. Their input is checked before they see it, and their results are checked
again.
"""
