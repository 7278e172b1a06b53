"""Creation of the configured strategies (docs/strategies.md).

`use` names a kind: a built-in one, or an entry point of an installed package. A package is imported
only if the configuration uses it.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from protocol.errors import LocalError
from server.auth.strategies.base import Examined, Parts, SecondFactor, Strategy, StrategyKind
from server.auth.strategies.registry import Strategies
from server.config.model import Config
from server.config.security import Mfa
from server.core.config_file import ConfigError, fill, write_value
from server.core.settings import declared_in

GROUP = "manykeys.strategies"
OURS: Mapping[str, str] = MappingProxyType(
    {
        "ldap": "server.auth.strategies.ldap.strategy:KIND",
        "magic": "server.auth.strategies.magic.strategy:KIND",
        "oauth": "server.auth.strategies.oauth.strategy:KIND",
        "passkey": "server.auth.strategies.passkey.strategy:KIND",
        "saml": "server.auth.strategies.saml.strategy:KIND",
        "totp": "server.auth.strategies.totp:KIND",
        "x509": "server.auth.strategies.x509.strategy:KIND",
    }
)
"""Built-in kinds: module and attribute by name. A kind that needs an extra has the extra's name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED = "local"
_FACTORS = "security.mfa.factors"


async def add_configured(config: Config, strategies: Strategies, parts: Parts) -> None:
    """Register every configured strategy. LocalError names the mistake in an invalid one."""
    _check_linking(config)
    for name, given in config.strategies.items():
        strategies.start(name, _make(name, given, parts))
    await strategies.announce()
    for name in _factors(config):
        if not isinstance(strategies.get(name), SecondFactor):
            raise LocalError(f"{_FACTORS}: {name} is not a second factor")


def check(config: Config) -> None:
    """Validate the tables of the strategies, without creating any. LocalError names a mistake."""
    for name, given in config.strategies.items():
        _read(name, given)
    _check_linking(config)
    _factors(config)


def tables(config: Config) -> Iterator[tuple[str, object]]:
    """Yield the filled settings of every strategy, with their full name and a final dot. LocalError
    for invalid ones."""
    for name, given in config.strategies.items():
        yield f"strategies.{name}.", _read(name, given)[1]


def _check_linking(config: Config) -> None:
    """Reject (ConfigError) linking of users by email addresses that were not verified here."""
    for name, given in config.strategies.items():
        if given.get("use") != "oauth" or not given.get("linkByVerifiedEmail"):
            continue
        proving = config.strategies.get(str(given.get("emailStrategy", "magic")), {})
        if proving.get("use") != "magic":
            raise ConfigError(
                f"strategies.{name}.emailStrategy: expected the name of a strategy of kind magic, "
                "whose addresses are verified; linkByVerifiedEmail needs one"
            )


def _factors(config: Config) -> list[str]:
    """Return the required second factors. ConfigError for a missing one, and for a TOTP strategy
    that is not listed as a factor."""
    given = config.security.mfa
    missing = [name for name in given.factors if name not in (*config.strategies, _RESERVED)]
    if missing and (given.factors != Mfa().factors or given.required_for != Mfa().required_for):
        raise ConfigError(f"{_FACTORS}: unknown strategy {missing[0]}")
    for name, table in config.strategies.items():
        if table.get("use") == "totp" and name not in given.factors:
            raise ConfigError(
                f'{_FACTORS}: must list "{name}": TOTP can only be used as a second factor'
            )
    return [name for name in given.factors if name not in missing]


def offers() -> dict[str, list[str]]:
    """Return the available kinds, each with its backends or providers; for one with a missing
    package, how to install it."""
    found = {}
    for name in sorted({point.name for point in _entry_points()}):
        try:
            kind = _find(name, name)
        except LocalError as reason:
            found[name] = [str(reason).partition(": ")[2]]
        else:
            found[name] = kind.offers() if kind.offers is not None else []
    return found


def examine(config: Config, name: str, *, is_online: bool) -> Examined:
    """Return the facts about a configured strategy, and what is missing. LocalError for an invalid
    table."""
    kind, settings = _read(name, config.strategies[name])
    if kind.examine is None:
        return Examined((f"kind: {config.strategies[name]['use']}",))
    return kind.examine(name, settings, is_online)


def describe(config: Config, name: str) -> str:
    """Return the metadata of a strategy for identity providers. LocalError for one without."""
    kind, settings = _read(name, config.strategies[name])
    if kind.describe is None:
        raise LocalError(f"{name}: a strategy of this kind has no metadata")
    return kind.describe(settings)


def _make(name: str, given: Mapping[str, object], parts: Parts) -> Strategy:
    kind, settings = _read(name, given)
    try:
        return kind.make(name, settings, parts)
    except LocalError as reason:
        raise LocalError(f"strategies.{name}: {reason}") from None
    except Exception as fault:
        # Without its message, which may contain one of the settings.
        raise LocalError(f"strategies.{name}: cannot be created: {type(fault).__name__}") from None


def _read(name: str, given: Mapping[str, object]) -> tuple[StrategyKind[object], object]:
    """Return the kind of a strategy and its settings."""
    path = f"strategies.{name}"
    if not _NAME.fullmatch(name) or name == _RESERVED:
        raise ConfigError(
            f"{path}: expected a name of 1 to 64 letters, digits, _ and -, other than local"
        )
    kind = _find(path, given.get("use"))
    values = {key: value for key, value in given.items() if key != "use"}
    known = [one.name for one in declared_in(kind.settings)]
    for key in values.keys() - set(known):
        raise ConfigError(f"{path}.{key}: unknown setting; accepted: {', '.join(known)}")
    settings, _ = fill(kind.settings, values, (), path=f"{path}.")
    return kind, settings


def _find(path: str, use: object) -> StrategyKind[object]:
    points = {point.name: point for point in _entry_points()} if isinstance(use, str) else {}
    point = points.get(str(use))
    if point is None:
        shown = "not set" if use is None else write_value(use)
        known = ", ".join(sorted({*OURS, *(found.name for found in _entry_points())}))
        raise ConfigError(f"{path}.use: {shown}; expected one of: {known or '(none is installed)'}")
    try:
        kind = point.load()
    except LocalError as reason:
        raise LocalError(f'{path}.use: "{point.name}" {reason}') from None
    except Exception as fault:
        if isinstance(fault, ModuleNotFoundError) and use in OURS:
            extra = f"pip install 'manykeys[{use}]'"
            raise LocalError(f"{path}.use: {use} needs {fault.name}: {extra}") from None
        raise LocalError(
            f"{path}.use: {point.value} cannot be loaded: {type(fault).__name__}"
        ) from fault
    if not isinstance(kind, StrategyKind):
        raise LocalError(f"{path}.use: {point.value} is not a StrategyKind")
    return kind


def _entry_points() -> Iterator[EntryPoint]:
    """Yield the available kinds; of two with one name the later one wins, the built-in one."""
    yield from entry_points(group=GROUP)
    yield from (EntryPoint(name, value, GROUP) for name, value in OURS.items())
