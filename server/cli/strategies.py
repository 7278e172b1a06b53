"""`manykeys strategies` command: list the authentication strategies, check the settings of one."""

import textwrap
from argparse import ArgumentParser, Namespace

from protocol.errors import LocalError
from server.app import strategies as configured
from server.auth.strategies.base import Examined
from server.cli.output import write_table
from server.config.model import Config

_WIDTH = 100
_HEADINGS = ("NAME", "KIND", "BACKEND")


def declare(command: ArgumentParser, settings: ArgumentParser) -> None:
    """Declare `manykeys strategies` and its commands."""
    tasks = command.add_subparsers(title="commands", metavar="COMMAND", dest="task", required=True)
    text = "print the configured strategies, and the available types with their backends"
    tasks.add_parser("list", help=text, description=text, parents=[settings], allow_abbrev=False)
    text = "check a configured strategy and print its problems; offline without --online"
    check = tasks.add_parser(
        "check", help=text, description=text, parents=[settings], allow_abbrev=False
    )
    check.add_argument("name", metavar="NAME", help="name of the strategy in the configuration")
    check.add_argument(
        "--online", action="store_true", help="also contact its provider or mail server"
    )
    text = "print the metadata of this server for the strategy's identity providers, as XML"
    metadata = tasks.add_parser(
        "metadata", help=text, description=text, parents=[settings], allow_abbrev=False
    )
    metadata.add_argument("name", metavar="NAME", help="name of the strategy in the configuration")


def run(config: Config, given: Namespace) -> None:
    """Run the command; LocalError for a strategy with problems."""
    if given.task == "list":
        _list(config)
    elif given.task == "metadata":
        _check_known(config, given.name)
        print(configured.describe(config, given.name).rstrip())
    else:
        _check(config, given.name, is_online=given.online)


def _list(config: Config) -> None:
    rows = [
        (name, str(table.get("use", "-")), str(table.get("backend", "-")))
        for name, table in config.strategies.items()
    ]
    print(write_table(_HEADINGS, [("local", "local", "-"), *rows]))
    for name, offered in configured.offers().items():
        print(f"\nkind {name}{':' if offered else ''}")
        if offered:
            lines = textwrap.wrap(", ".join(offered), _WIDTH - 2, break_on_hyphens=False)
            print(textwrap.indent("\n".join(lines), "  "))


def _check(config: Config, name: str, *, is_online: bool) -> None:
    _check_known(config, name)
    found: Examined = configured.examine(config, name, is_online=is_online)
    for fact in found.facts:
        print(fact)
    for one in found.lacking:
        print(f"missing: {one}")
    if found.lacking:
        raise LocalError(f"{name}: {len(found.lacking)} required items are missing")
    print(f"{name}: OK ({'online' if is_online else 'offline'} checks)")


def _check_known(config: Config, name: str) -> None:
    if name not in config.strategies:
        known = ", ".join(config.strategies)
        expected = f"expected one of: {known}" if known else "none is configured, see --config"
        raise LocalError(f"{name}: unknown strategy; {expected}")
