"""The security checks, and the page that says which tests meet them.

A test names the checks it shows in its docstring, a file whose tests all do in its own.
`python -m tests.tools.security_checks` prints docs/security-checks.md.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROUPS = {
    "P": "Passwords",
    "A": "Proving who one is",
    "T": "Tokens",
    "S": "Sessions",
    "O": "OAuth and OpenID Connect",
    "H": "HTTP and WebSocket",
    "D": "Directories and certificates",
    "X": "Operation",
    "M": "Memory",
    "F": "First administrator and assurance",
    "N": "Several processes",
}
CHECKS = {
    "P1": "a least length, 8 in strict mode, to be configured",
    "P2": "64, 128 and 256 characters are verified exactly",
    "P3": "the last of 73 or 200 bytes counts",
    "P4": "case, blanks at the ends, NUL and emoji count; no normalisation",
    "P5": "no rule of composition; any Unicode",
    "P6": "common passwords refused",
    "P7": "breached passwords refused, by a file or by a range query that fails open",
    "P8": "the user's name and the product's refused in a password",
    "P9": "a change needs the present password by option; a wrong one changes nothing",
    "P10": "no forced change after some time",
    "P11": "bcrypt with a salt for each; no password in the database, in logs or errors",
    "P12": "weaker and imported hashes are replaced at the next login",
    "P13": "hashes of unknown form or absurd cost are refused without delay",
    "P14": "an oversized password is refused before it is hashed",
    "A1": "unknown user, wrong password, no password, disabled: one answer",
    "A2": "and after the same time",
    "A3": "who exists is not told to strangers",
    "A4": "failed logins are throttled by account and by address, with Retry-After",
    "A5": "nobody is locked out for good",
    "A6": "guessing spread over many addresses or accounts is limited",
    "A7": "no default account; the first administrator once, whoever races",
    "A8": "the same limits on every way in",
    "A9": "credentials in a query string are never logged",
    "A10": "a login gives a new token, also to who has one",
    "A11": "one-time codes: once, in their time, throttled",
    "A12": "recovery codes: once, hashed",
    "A13": "reset tokens: random, once, dead after a change of password",
    "A14": "passkeys: origin, challenge, user verification, counter",
    "A15": "adding or removing a key asks for a recent login; the last one stays",
    "A16": "the operator's systems hear of changes and attacks",
    "T1": "only the algorithm of the key; `none` and confusions refused",
    "T2": "every changed, cut or padded token refused with the API's id",
    "T3": "`jku`, `x5u`, `jwk`, `crit`, unknown `kid`: refused, nothing fetched",
    "T4": "`exp`, `nbf`, `iat` to the second",
    "T5": "absent, huge, fractional, textual times",
    "T6": "session, API key, reset, single-use: none is taken for another",
    "T7": "issuer and audience where configured",
    "T8": "a secret has 256 bits or the server does not start",
    "T9": "rotation with overlap; the key set shows public keys only",
    "T10": "well signed but never given out: refused",
    "T11": "only SHA-256 of tokens and keys is stored",
    "T12": "secrets are compared in constant time",
    "T13": "double members, deep nesting, tokens of a megabyte are refused quickly",
    "T14": "encrypted or compressed tokens are not processed",
    "S1": "after logout a token is refused everywhere",
    "S2": "a deleted or disabled user's tokens and keys are refused at once, his sockets told",
    "S3": "a change of password can end the other sessions",
    "S4": "an administrator ends one session, all of a user, or everybody's",
    "S5": "a user sees and ends his sessions",
    "S6": "a greatest age through any chain of refreshes; an idle timeout",
    "S7": "a refreshed token lives for its grace only, and is not refreshed again",
    "S8": "one that comes back later ends its family; those at once agree",
    "S9": "changed rights count from the next request on",
    "S10": "the cookie: HttpOnly, Secure, SameSite, Path, cleared at logout",
    "S11": "a changing request by cookie proves where it comes from",
    "S12": "how many sessions at once",
    "O1": "`state` bound to the browser, once, for a while",
    "O2": "PKCE always",
    "O3": "the issuer of an answer is checked",
    "O4": "ID tokens: nonce, audience, issuer, signature",
    "O5": "no open redirect",
    "O6": "identity is the provider's id, never an address",
    "O7": "a provider's troubles become our errors, without detail",
    "O8": "the provider's own tokens stay with the server",
    "H1": "401 says `WWW-Authenticate: Bearer`",
    "H2": "two tokens at once are refused or ordered",
    "H3": "malformed Authorization fields",
    "H4": "answers with tokens say `no-store`",
    "H5": "a socket opened by a foreign page has no cookie's rights",
    "H6": "no request is read in two ways",
    "H7": "limits of everything that comes in, also of time",
    "H8": "the word of untrusted proxies does not count",
    "H9": "never any origin with credentials",
    "H10": "TLS from 1.2 on",
    "D1": "no filter or name is injected into a directory's question",
    "D2": "an empty password never reaches a directory",
    "D3": "certificates of directories are verified",
    "D4": "a directory's reasons all answer alike",
    "D5": "client certificates: chain, time, use, revocation",
    "X1": "audit lines without secrets, safe from line breaks",
    "X2": "no secret in any log of a whole run",
    "X3": "floods of logins and of refused requests leave the rest quick, logins too; the queue is "
    "bounded, and no account or address takes all of it",
    "X4": "secrets from files or the environment; shown masked",
    "X5": "a crash leaves no half-made user",
    "X6": "revoked stays revoked after kill -9",
    "X7": "dependencies audited, parts listed",
    "M1": "floods by a stranger leave memory at its level + 30 MiB, nothing forced",
    "M2": "no reference cycle survives a request or a connection",
    "M3": "values, ratios, unfinished bodies, unsent answers, connections per address are limited",
    "M4": "deadlines hold while others are set",
    "F1": "the first administrator: no foreign page, rebound name or proxied client",
    "F2": "assurance holds on every way to administrate or to change authentication methods",
    "F3": "a requirement for a second factor takes effect on live sessions at once",
    "F4": "linking by address: only addresses proved here",
    "F5": "keys and sessions made with a token end with it where they must",
    "F6": "`--open` refuses foreign origins, sites and host names",
    "N1": "two processes on one file: nothing lost, nothing revoked honoured for long",
}
EXPLAINED = {
    "A2": "as a statistic: `python -m bench --only timing`",
    "X7": "`make parts` and `make audit`, in `.ci/run`: docs/supply.md",
}
"""What is to be said of checks that no test shows, or not wholly."""

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_NAME = re.compile(r"\b[PATSOHDXMFN][1-9][0-9]?\b")
_HEADING = """\
# Security checks

Made by `python -m tests.tools.security_checks` from what the tests name: what each check asks
for, and the tests that fail where it is not met. What no test shows is explained.
"""


def named() -> dict[str, list[str]]:
    """Give the tests of each check, as `folder/file.py::test`, or the file where all of it are."""
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
    """Give docs/security-checks.md."""
    tests = named()
    parts = [_HEADING]
    for letter, title in GROUPS.items():
        parts.append(f"\n## {title}\n\n| Check | Asks for | Shown by |\n|---|---|---|\n")
        for check, text in CHECKS.items():
            if check[0] == letter:
                parts.append(f"| {check} | {text} | {_shown(check, tests.get(check, []))} |\n")
    return "".join(parts)


def _shown(check: str, tests: list[str]) -> str:
    """Say how a check stands; a reason beside tests says what they leave open."""
    told = {test.partition("::")[0] for test in tests if "::" in test}
    lines = [f"`{test}`" for test in sorted(set(tests)) if test not in told]
    if check in EXPLAINED:
        lines.append(EXPLAINED[check])
    return "<br>".join(lines)


if __name__ == "__main__":
    print(page(), end="")
