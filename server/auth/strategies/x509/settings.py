"""Settings of the kind `x509`, apart from what it takes to use them: who only lists them needs
none of that."""

from dataclasses import dataclass

from server.auth.strategies.x509.proxy_header import FORMS
from server.core.settings import YES_NO, choice, matching, setting, texts

WAYS = ("fingerprint", "subject", "cn", "san:email", "san:dns", "san:uri", "san:upn")
"""What of a certificate may name its owner."""


@dataclass(frozen=True, slots=True)
class X509Settings:
    """`[strategies.NAME]` with `use = "x509"`."""

    authorities: tuple[str, ...] = setting(
        "ca", texts(1), (), "Files with the authorities that are trusted, in PEM."
    )
    intermediates: tuple[str, ...] = setting(
        "intermediates",
        texts(),
        (),
        "Files with certificates between, in PEM, for clients and proxies that send none along.",
    )
    revocations: tuple[str, ...] = setting(
        "crl",
        texts(),
        (),
        "Files with revocation lists; with any, each certificate needs a list of who issued it.",
    )
    takes_old_lists: bool = setting(
        "acceptOldCrl", YES_NO, False, "Believe a revocation list after its time, too."
    )
    way: str = setting("map", choice(*WAYS), "fingerprint", "What of a certificate names its user.")
    header: str = setting(
        "header",
        matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{0,64}", "the name of a header field"),
        "",
        "Field in which a trusted proxy passes on the certificate; none: it comes by our own TLS.",
    )
    form: str = setting("headerFormat", choice(*FORMS), "pem", "How that field holds it.")
    creates_users: bool = setting(
        "createUsers", YES_NO, False, "Make a user of who shows a certificate nobody has."
    )
    profile_ids: tuple[str, ...] = setting(
        "defaultProfiles", texts(1), ("default",), "Profiles of such users."
    )
