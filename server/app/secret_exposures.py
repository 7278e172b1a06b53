"""Check for secrets that other users of the machine can read, on the command line and in files.

As in PostgreSQL, a file with a secret must belong to its user alone (0600), or be root's and
readable for a group (0640).
"""

import os
import stat
from collections.abc import Iterator

from server.app.strategies import tables
from server.config.model import Config
from server.core.config_file import FILE, ConfigError, walk
from server.core.settings import NAMED_TABLES, Inner, declared_in

_IN_MEMORY = ":memory:"
_ROOT = 0
_ROOTS_GROUP = stat.S_IRGRP
_FILE = f".{FILE}"


def check_exposures(config: Config) -> list[str]:
    """Return a message for each secret that other users can read. With `security.strict`
    ConfigError for the first one; LocalError for a strategy whose settings cannot be read."""
    found = [*find_on_command_line(config), *_find_in_files(config)]
    if found and config.security.strict:
        raise ConfigError(f"{found[0]} (not allowed with security.strict)")
    return found


def find_on_command_line(config: Config) -> list[str]:
    """Return a message for each secret that was given with `--set`."""
    given = config.sources.on_command_line
    # In most cases no strategy needs to be loaded to know its secrets.
    is_about_strategies = any(name.startswith("strategies.") for name in given)
    secrets = _secret_names(config if is_about_strategies else Config())
    return [
        f"--set {name}: other users can read secrets on the command line; expected {name}{_FILE}, "
        "or the environment"
        for name in sorted(given)
        if _is_secret(name, secrets)
    ]


def _find_in_files(config: Config) -> Iterator[str]:
    """Yield a message for each file with secrets that other users may read or write."""
    for what, path in _secret_paths(config):
        mode = _mode_for_others(path)
        if mode is not None:
            yield (
                f"{path} ({what}) has mode {mode:04o}: other users can access the secrets in it; "
                f"expected chmod 600 {path}"
            )


def _secret_paths(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the description of a file, and its path."""
    if config.server.data != _IN_MEMORY:
        yield "database", config.server.data  # its log and index get its mode when it is opened
    if config.server.tls.cert and not config.server.tls.key:
        yield "server.tls.cert", config.server.tls.cert
    for prefix, table in (("", config), *tables(config)):
        yield from _named_files(table, prefix)
    secrets, sources = _secret_names(config), config.sources
    for name, path in sources.secret_files.items():
        if _is_secret(name.removesuffix(_FILE), secrets):
            yield name, path
    if any(_is_secret(name, secrets) for name in sources.in_file):
        yield "configuration", sources.file


def _named_files(table: object, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the settings that name a file with a secret, and those files."""
    for one in declared_in(type(table)):
        value = getattr(table, one.attribute)
        if isinstance(one, Inner):
            yield from _named_files(value, f"{prefix}{one.name}.")
        elif one.names_secret and value:
            yield prefix + one.name, value


def _secret_names(config: Config) -> frozenset[str]:
    """Return the full names of the settings that are secrets, former names included."""
    found: set[str] = set()
    for prefix, of in [("", Config), *((name, type(table)) for name, table in tables(config))]:
        for name, declared in walk(of, prefix):
            if declared.is_secret and declared.kind is not NAMED_TABLES:
                found |= {name, declared.also or name}
    return frozenset(found)


def _is_secret(name: str, secrets: frozenset[str]) -> bool:
    """Return whether a name is that of a secret, or is inside a table of secrets."""
    if name.endswith(_FILE):
        return False
    steps = name.split(".")
    return any(".".join(steps[:end]) in secrets for end in range(1, len(steps) + 1))


def _mode_for_others(path: str) -> int | None:
    """Return the mode of a file that users other than its owner may read or write; None if they may
    not, or if the file does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    mode = stat.S_IMODE(found.st_mode)
    open_to = mode & (stat.S_IRWXG | stat.S_IRWXO) & ~(stat.S_IXGRP | stat.S_IXOTH)
    is_roots = found.st_uid == _ROOT and open_to == _ROOTS_GROUP
    return None if not open_to or is_roots or not stat.S_ISREG(found.st_mode) else mode
