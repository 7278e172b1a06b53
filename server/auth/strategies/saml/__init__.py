"""The kind `saml`: an identity provider of a company or a university says who somebody is (SAML 2.0
Web Browser SSO; docs/strategies/saml.md).

social-auth-core knows the way, python3-saml the messages, xmlsec the signatures; `[saml]` brings
them. What they are given is checked before they see it, and what they accept is checked again.
"""
