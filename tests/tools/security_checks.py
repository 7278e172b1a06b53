"""Table of the security checks, and the writer of docs/security-checks.md.

A test names the checks it shows in its docstring; a file whose tests all show one names it in its
own.
`python -m tests.tools.security_checks` prints docs/security-checks.md.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROUPS = {
    "P": "PasswordHasher",
    "A": "Authentication",
    "T": "Tokens",
    "S": "Sessions",
    "O": "OAuth and OpenID Connect",
    "H": "HTTP and WebSocket",
    "D": "LDAP and certificates",
    "X": "Operation",
    "M": "Memory",
    "F": "First administrator and assurance",
    "N": "Several processes",
}
CHECKS = {
    "P1": "a configurable minimum length, 8 in strict mode",
    "P2": "64, 128 and 256 characters are verified exactly",
    "P3": "the last of 73 or 200 bytes counts",
    "P4": "case, blanks at the ends, NUL and emoji count; no normalisation",
    "P5": "no composition rules; any Unicode",
    "P6": "common passwords refused",
    "P7": "breached passwords refused, by a file or by a range query that fails open",
    "P8": "passwords that contain the username or the product's name refused",
    "P9": "optionally, a change needs the current password; a wrong one changes nothing",
    "P10": "no forced periodic change",
    "P11": "salted bcrypt; no password in the database, in logs or errors",
    "P12": "weaker and imported hashes are replaced at the next login",
    "P13": "hashes of an unknown format or absurd cost are refused without delay",
    "P14": "an oversized password is refused before it is hashed",
    "A1": "unknown user, wrong password, no password, disabled: the same response",
    "A2": "and in the same time",
    "A3": "unauthenticated clients cannot find out which users exist",
    "A4": "failed logins are throttled by account and by address, with Retry-After",
    "A5": "no account is locked permanently",
    "A6": "guessing spread over many addresses or accounts is limited",
    "A7": "no default account; the first administrator is created once, also in a race",
    "A8": "the same limits on every transport and authentication method",
    "A9": "credentials in a query string are never logged",
    "A10": "a login creates a new token, also for clients that have one",
    "A11": "one-time codes: valid once, within their time, throttled",
    "A12": "recovery codes: valid once, hashed",
    "A13": "reset tokens: random, valid once, revoked by a change of the password",
    "A14": "passkeys: origin, challenge, user verification, counter",
    "A15": "adding or removing an authentication method needs a recent login; the last one stays",
    "A16": "the operator's systems are notified of changes and attacks",
    "T1": "only the algorithm of the key; `none` and confusions refused",
    "T2": "every changed, cut or padded token refused with the API's id",
    "T3": "`jku`, `x5u`, `jwk`, `crit`, unknown `kid`: refused, nothing fetched",
    "T4": "`exp`, `nbf`, `iat` to the second",
    "T5": "missing, huge, fractional times, and times that are strings",
    "T6": "session, API key, reset, single-use: none is accepted as another",
    "T7": "issuer and audience, if configured",
    "T8": "a secret below 256 bits refuses to start",
    "T9": "rotation with overlap; the key set shows public keys only",
    "T10": "correctly signed but never issued: refused",
    "T11": "only SHA-256 of tokens and keys is stored",
    "T12": "secrets are compared in constant time",
    "T13": "duplicate members, deep nesting, tokens of a megabyte are refused quickly",
    "T14": "encrypted or compressed tokens are not processed",
    "S1": "after logout a token is refused everywhere",
    "S2": "a deleted or disabled user's tokens and keys are refused at once, sockets notified",
    "S3": "a change of the password can revoke the other sessions",
    "S4": "an administrator can revoke one session, all of a user, or those of all users",
    "S5": "users can list and revoke their sessions",
    "S6": "a maximum age over any chain of refreshes; an idle timeout",
    "S7": "a refreshed token is valid for its grace period only, and is not refreshed again",
    "S8": "one that is used again later revokes its family; concurrent refreshes agree",
    "S9": "changed permissions apply from the next request on",
    "S10": "the cookie: HttpOnly, Secure, SameSite, Path, cleared at logout",
    "S11": "a request by cookie that changes something proves its origin",
    "S12": "a maximum number of concurrent sessions",
    "O1": "`state` bound to the browser, valid once, expires",
    "O2": "PKCE always",
    "O3": "the issuer of a response is checked",
    "O4": "ID tokens: nonce, audience, issuer, signature",
    "O5": "no open redirect",
    "O6": "identity is the provider's user ID, never an email address",
    "O7": "a provider's failures become our errors, without details",
    "O8": "the provider's tokens never leave the server",
    "H1": "401 has `WWW-Authenticate: Bearer`",
    "H2": "two tokens at once are refused or ordered",
    "H3": "malformed Authorization fields",
    "H4": "responses with tokens have `no-store`",
    "H5": "a socket opened by a foreign page cannot use the cookie",
    "H6": "no request can be parsed in two ways",
    "H7": "limits for all input, also of time",
    "H8": "fields from untrusted proxies are ignored",
    "H9": "credentials never for any origin (`*`)",
    "H10": "TLS from 1.2 on",
    "D1": "no injection into LDAP filters or names",
    "D2": "an empty password never reaches a directory",
    "D3": "certificates of directories are verified",
    "D4": "all of a directory's reasons give the same response",
    "D5": "client certificates: chain, validity, key usage, revocation",
    "X1": "audit lines without secrets, safe against line breaks",
    "X2": "no secret in any log of a whole run",
    "X3": "floods of logins and of refused requests do not slow down other requests, also logins; "
    "the queue is limited, and no account or address fills all of it",
    "X4": "secrets from files or the environment; shown masked",
    "X5": "a crash leaves no incomplete user",
    "X6": "revoked stays revoked after kill -9",
    "X7": "dependencies audited and listed",
    "M1": "floods by unauthenticated clients: memory grows by at most 30 MiB, nothing forced",
    "M2": "no reference cycle survives a request or a connection",
    "M3": "values, ratios, unfinished bodies, unsent answers, connections per address are limited",
    "M4": "deadlines hold while others are set",
    "F1": "the first administrator: no foreign page, rebound name or proxied client",
    "F2": "assurance is required on every path to administration and to authentication methods",
    "F3": "a requirement for a second factor takes effect on live sessions at once",
    "F4": "linking by email: only addresses proved here",
    "F5": "keys and sessions created with a token are revoked with it where they must be",
    "F6": "`--open` refuses foreign origins, sites and host names",
    "N1": "two processes on one file: nothing lost, nothing revoked accepted for long",
}
EXPLAINED = {
    "A2": "as a statistic: `python -m bench --only timing`",
    "X7": "`make sbom` and `make audit`, in `.ci/run`: docs/supply.md",
}
"""Explanation of checks that no test shows, or not completely."""

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_NAME = re.compile(r"\b[PATSOHDXMFN][1-9][0-9]?\b")
_HEADING = """\
# Security checks

Generated by `python -m tests.tools.security_checks` from the tests' docstrings: the requirement of
each check, and the tests that fail if it is not met. Checks without a test are explained.
"""


def named() -> dict[str, list[str]]:
    """Return the tests of each check, as `folder/file.py::test`, or a file for all its tests."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = path.relative_to(ROOT / "tests").as_posix()
        tree = ast.parse(path.read_text())
        tests = [node for node in tree.body if isinstance(node, _FUNCTIONS)]
        for node in (tree, *tests):
            shown = name if isinstance(node, ast.Module) else f"{name}::{node.name}"
            for check in set(_NAME.findall(ast.get_docstring(node) or "")):
                found[check].append(shown)
    return found


def page() -> str:
    """Return docs/security-checks.md."""
    tests = named()
    parts = [_HEADING]
    for letter, title in GROUPS.items():
        parts.append(f"\n## {title}\n\n| Check | Requirement | Shown by |\n|---|---|---|\n")
        for check, text in CHECKS.items():
            if check[0] == letter:
                parts.append(f"| {check} | {text} | {_shown(check, tests.get(check, []))} |\n")
    return "".join(parts)


def _shown(check: str, tests: list[str]) -> str:
    """Return how a check is shown; a reason beside tests says what they leave open."""
    told = {test.partition("::")[0] for test in tests if "::" in test}
    lines = [f"`{test}`" for test in sorted(set(tests)) if test not in told]
    if check in EXPLAINED:
        lines.append(EXPLAINED[check])
    return "<br>".join(lines)


if __name__ == "__main__":
    print(page(), end="")
