"""The strategies of the configuration, made (docs/strategies.md).

`use` names a kind: one of ours, or an entry point of an installed package. A package is imported
only where the configuration asks for it.
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
"""Kinds of our own: module and attribute by name. One that needs an extra is named as it is."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED = "local"
_FACTORS = "security.mfa.factors"


async def add_configured(config: Config, strategies: Strategies, parts: Parts) -> None:
    """Enter every strategy of the configuration. LocalError names what is wrong with one."""
    _check_linking(config)
    for name, given in config.strategies.items():
        strategies.start(name, _make(name, given, parts))
    await strategies.announce()
    for name in _factors(config):
        if not isinstance(strategies.get(name), SecondFactor):
            raise LocalError(f"{_FACTORS}: {name} is no second factor")


def check(config: Config) -> None:
    """Look for mistakes in the tables of the strategies, without making any. LocalError names
    one."""
    for name, given in config.strategies.items():
        _read(name, given)
    _check_linking(config)
    _factors(config)


def tables(config: Config) -> Iterator[tuple[str, object]]:
    """Give the settings of every strategy, filled, with their full name and a dot at its end.
    LocalError for one that can't be read."""
    for name, given in config.strategies.items():
        yield f"strategies.{name}.", _read(name, given)[1]


def _check_linking(config: Config) -> None:
    """Refuse (ConfigError) to link users by addresses that were not proved here."""
    for name, given in config.strategies.items():
        if given.get("use") != "oauth" or not given.get("linkByVerifiedEmail"):
            continue
        proving = config.strategies.get(str(given.get("emailStrategy", "magic")), {})
        if proving.get("use") != "magic":
            raise ConfigError(
                f"strategies.{name}.emailStrategy: expected the name of a strategy of kind magic, "
                "whose addresses are proved; linkByVerifiedEmail needs one"
            )


def _factors(config: Config) -> list[str]:
    """Give the second factors that must be there. ConfigError for one that is not, and for a
    strategy that would be of no use."""
    given = config.security.mfa
    missing = [name for name in given.factors if name not in (*config.strategies, _RESERVED)]
    if missing and (given.factors != Mfa().factors or given.required_for != Mfa().required_for):
        raise ConfigError(f"{_FACTORS}: there is no strategy {missing[0]}")
    for name, table in config.strategies.items():
        if table.get("use") == "totp" and name not in given.factors:
            raise ConfigError(f"{_FACTORS}: expected {name} in it, whose codes alone let nobody in")
    return [name for name in given.factors if name not in missing]


def offers() -> dict[str, list[str]]:
    """Give the kinds that can be used, each with what it offers: providers, say. One that lacks a
    package offers how to get it."""
    found = {}
    for name in sorted({point.name for point in _points()}):
        try:
            kind = _find(name, name)
        except LocalError as reason:
            found[name] = [str(reason).partition(": ")[2]]
        else:
            found[name] = kind.offers() if kind.offers is not None else []
    return found


def examine(config: Config, name: str, *, is_online: bool) -> Examined:
    """Say what the table of a strategy comes to, and what it lacks. LocalError for a table that
    can't be read."""
    kind, settings = _read(name, config.strategies[name])
    if kind.examine is None:
        return Examined((f"kind: {config.strategies[name]['use']}",))
    return kind.examine(name, settings, is_online)


def describe(config: Config, name: str) -> str:
    """Give what a strategy says of itself to providers. LocalError for one that says nothing."""
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
        # Not its text: it may hold one of the settings.
        raise LocalError(f"strategies.{name}: can't be made: {type(fault).__name__}") from None


def _read(name: str, given: Mapping[str, object]) -> tuple[StrategyKind[object], object]:
    """Give the kind of a strategy and its settings."""
    path = f"strategies.{name}"
    if not _NAME.fullmatch(name) or name == _RESERVED:
        raise ConfigError(
            f"{path}: expected a name of 1 to 64 letters, digits, _ and -, other than local"
        )
    kind = _find(path, given.get("use"))
    values = {key: value for key, value in given.items() if key != "use"}
    known = [one.name for one in declared_in(kind.settings)]
    for key in values.keys() - set(known):
        raise ConfigError(f"{path}.{key}: there is no such setting; accepted: {', '.join(known)}")
    settings, _ = fill(kind.settings, values, (), path=f"{path}.")
    return kind, settings


def _find(path: str, use: object) -> StrategyKind[object]:
    points = {point.name: point for point in _points()} if isinstance(use, str) else {}
    point = points.get(str(use))
    if point is None:
        shown = "not set" if use is None else write_value(use)
        known = ", ".join(sorted({*OURS, *(found.name for found in _points())}))
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
            f"{path}.use: {point.value} can't be loaded: {type(fault).__name__}"
        ) from fault
    if not isinstance(kind, StrategyKind):
        raise LocalError(f"{path}.use: {point.value} is no StrategyKind")
    return kind


def _points() -> Iterator[EntryPoint]:
    """Give the kinds that can be used; the later one of a name wins, which is ours."""
    yield from entry_points(group=GROUP)
    yield from (EntryPoint(name, value, GROUP) for name, value in OURS.items())
