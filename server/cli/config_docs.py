"""docs/configuration.md out of the declarations."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from server.auth.strategies.ldap.settings import LdapSettings
from server.auth.strategies.magic.settings import MagicSettings
from server.auth.strategies.oauth.settings import OAuthSettings
from server.auth.strategies.passkey.settings import PasskeySettings
from server.auth.strategies.saml.settings import ProviderSettings, SamlSettings
from server.auth.strategies.totp_settings import TotpSettings
from server.auth.strategies.x509.settings import X509Settings
from server.config.ignored import IGNORED
from server.config.model import Config
from server.core.config_file import walk, write_value
from server.core.settings import Declared, Inner, declared_in

_INTRODUCTION = """# Configuration

This page is made by `manykeys config --docs`; a test fails when it is out of date.

Settings come from four places. The later one wins, key by key; a list replaces the whole list.

| Place | For example |
|---|---|
| defaults | the tables below |
| a TOML file, `--config FILE` | `[security.authToken]` and under it `expiresIn = "2h"` |
| the environment | `MANYKEYS_security__authToken__expiresIn=2h`, with the prefix `kuzzle_` too |
| flags | `--port 7513`, or any setting by `--set security.authToken.expiresIn=2h` |

Where both prefixes set the same key, `MANYKEYS_` wins. Variables without `__` are no settings.
A key that is not on this page, or a value that is not accepted, refuses to start and says why.
`manykeys config` prints what is in effect, and `manykeys config --check` only looks for mistakes.

| Values | |
|---|---|
| durations | milliseconds as a number, or a text with a unit: `ms`, `s`, `m`, `h`, `d`, `w`, `y` |
| sizes | bytes as a number, or a text with `kb`, `mb`, `gb` or `tb`; a kilobyte is 1024 bytes |
| lists in variables and flags | `a,b`, or JSON after `*json:`, like `*json:["a", "b"]` |
| secrets | always text, also where they look like a number or begin with `*json:` |
| secrets in files | `secret = {file = "/run/secrets/key"}`, or `__file` after a variable's name |

A file with a secret holds nothing else; its last line end does not count. For example
`MANYKEYS_security__authToken__secret__file=/run/secrets/key`.

Other users of the machine can read command lines (`ps`), so a secret given with `--set` is warned
of. So is a file with secrets that others can read: the database, the configuration file, private
keys and files of secrets need mode 0600, or 0640 where root owns them. With `security.strict` the
server refuses to start instead. `manykeys config --check` reports both.
"""

_STRATEGIES = """
## strategies

{help} For example:

```toml
[strategies.card]
use = "badge"
key = "…"
```

`use` names a kind of ours, below, or what an installed package brings;
[strategies.md](strategies.md) says how to write one.

In variables and flags all values are text; numbers and lists go after `*json:`.
`manykeys config` shows `use`, `backend` and numbers only.
"""

_IGNORED = """
## Settings of Kuzzle without effect

These are accepted, so that an existing configuration can be used. The server names those it was
given in a warning. `*` stands for anything that is not in a table above.

"""

_OURS: Mapping[str, type] = MappingProxyType(
    {
        "ldap": LdapSettings,
        "magic": MagicSettings,
        "oauth": OAuthSettings,
        "passkey": PasskeySettings,
        "saml": SamlSettings,
        "totp": TotpSettings,
        "x509": X509Settings,
    }
)
_INNER: Mapping[str, tuple[str, type]] = MappingProxyType(
    {"saml": ("Each table under `providers`:", ProviderSettings)}
)
_HEADINGS = "| Key | Default | Accepted | |\n|---|---|---|---|\n"


def write_docs() -> str:
    """Give the page as Markdown."""
    written = [_INTRODUCTION, *_write_tables(Config, "")]
    written.append(_IGNORED + "".join(f"- `{name}`\n" for name in IGNORED))
    return "".join(written)


def _write_tables(of: type, path: str) -> Iterator[str]:
    declared = declared_in(of)
    settings = [one for one in declared if isinstance(one, Declared)]
    if path and settings:
        yield f"\n## {path.removesuffix('.')}\n\n" + _HEADINGS
        yield from map(_write_row, settings)
    for one in declared:
        if isinstance(one, Inner):
            yield from _write_tables(one.type, f"{path}{one.name}.")
    if not path:
        yield from (_STRATEGIES.format(help=one.help) for one in settings)
        for name, kind in _OURS.items():
            yield f'\n### use = "{name}"\n\n' + _HEADINGS
            yield from _write_rows(kind)
            if name in _INNER:
                text, inner = _INNER[name]
                yield f"\n{text}\n\n{_HEADINGS}"
                yield from _write_rows(inner)


def _write_rows(of: type) -> Iterator[str]:
    yield from (_write_row(one, name) for name, one in walk(of))


def _write_row(one: Declared, name: str = "") -> str:
    default = "not set" if one.default is None else f"`{write_value(one.kind.write(one.default))}`"
    older = f" Older name: `{one.also}`." if one.also else ""
    return f"| `{name or one.name}` | {default} | {one.kind.accepted} | {one.help}{older} |\n"
