"""Settings of the kind `x509`; importable without loading cryptography."""

from dataclasses import dataclass

from server.auth.strategies.x509.proxy_header import FORMS
from server.core.settings import YES_NO, choice, matching, setting, texts

WAYS = ("fingerprint", "subject", "cn", "san:email", "san:dns", "san:uri", "san:upn")
"""Fields of a certificate that may identify its user."""


@dataclass(frozen=True, slots=True)
class X509Settings:
    """`[strategies.NAME]` with `use = "x509"`."""

    authorities: tuple[str, ...] = setting(
        "ca", texts(1), (), "Files with trusted CA certificates, in PEM."
    )
    intermediates: tuple[str, ...] = setting(
        "intermediates",
        texts(),
        (),
        "Files with intermediate certificates, in PEM, for clients and proxies that send none.",
    )
    revocations: tuple[str, ...] = setting(
        "crl",
        texts(),
        (),
        "Files with revocation lists (CRLs); if set, each issuer must have one.",
    )
    takes_old_lists: bool = setting(
        "acceptOldCrl", YES_NO, False, "Accept expired revocation lists."
    )
    way: str = setting(
        "map", choice(*WAYS), "fingerprint", "Field of the certificate that identifies the user."
    )
    header: str = setting(
        "header",
        matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{0,64}", "the name of a header field"),
        "",
        "Header in which a trusted proxy sends the certificate; if empty, TLS client certificates.",
    )
    form: str = setting("headerFormat", choice(*FORMS), "pem", "Format of that header.")
    creates_users: bool = setting(
        "createUsers", YES_NO, False, "Create a user at the first login with a certificate."
    )
    profile_ids: tuple[str, ...] = setting(
        "defaultProfiles", texts(1), ("default",), "Profiles of users created by `createUsers`."
    )
