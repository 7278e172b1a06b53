"""Takes a password from who sits at the terminal, or from stdin; never from the command line,
which others can read."""

import getpass
import sys
import warnings
from argparse import ArgumentParser

from protocol.errors import LocalError

_MOST_CHARACTERS = 8192  # above what the server takes


def add_password_flag(command: ArgumentParser) -> None:
    """Let a command take a password from stdin."""
    command.add_argument(
        "--password-stdin", action="store_true", help="read the password from stdin, do not ask"
    )


def take_password(*, from_stdin: bool) -> str:
    """Give a password; LocalError if it is empty, too long, not the same twice, or if there is
    nobody to ask."""
    password = _read() if from_stdin else _ask()
    if not password:
        raise LocalError("the password must not be empty")
    return password


def _read() -> str:
    line = sys.stdin.readline(_MOST_CHARACTERS)
    if len(line) == _MOST_CHARACTERS:
        raise LocalError("the password is too long")
    return line.removesuffix("\n").removesuffix("\r")


def _ask() -> str:
    try:
        with warnings.catch_warnings():
            # Without a terminal it would read on, and show what is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            password, again = getpass.getpass("Password: "), getpass.getpass("Again: ")
    except (EOFError, getpass.GetPassWarning):
        raise LocalError("nobody typed a password; expected --password-stdin") from None
    if again != password:
        raise LocalError("the two passwords differ")
    return password
