"""Password prompt: reads a password from the terminal or from stdin; never from the command line,
which other users can read."""

import getpass
import sys
import warnings
from argparse import ArgumentParser

from protocol.errors import LocalError

_MAX_CHARACTERS = 8192  # above what the server accepts


def add_password_flag(command: ArgumentParser) -> None:
    """Add the flag that reads a password from stdin."""
    command.add_argument(
        "--password-stdin", action="store_true", help="read the password from stdin"
    )


def take_password(*, from_stdin: bool) -> str:
    """Return a password; LocalError if it is empty, too long, not the same twice, or if there is no
    terminal to ask."""
    password = _read() if from_stdin else _ask()
    if not password:
        raise LocalError("the password must not be empty")
    return password


def _read() -> str:
    line = sys.stdin.readline(_MAX_CHARACTERS)
    if len(line) == _MAX_CHARACTERS:
        raise LocalError("the password is too long")
    return line.removesuffix("\n").removesuffix("\r")


def _ask() -> str:
    try:
        with warnings.catch_warnings():
            # Without a terminal it would continue, and echo the password.
            warnings.simplefilter("error", getpass.GetPassWarning)
            password, again = getpass.getpass("Password: "), getpass.getpass("Again: ")
    except (EOFError, getpass.GetPassWarning):
        raise LocalError("no terminal to ask for a password: use --password-stdin") from None
    if again != password:
        raise LocalError("the two passwords differ")
    return password
