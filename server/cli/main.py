"""Command line interface: `manykeys serve`, `create-admin`, `keys`, `config`, and the operator
commands, which declare their flags in their own modules.

A usage error prints one line on stderr and exits with code 2, never with a stack trace.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from protocol.errors import ApiError, LocalError
from server.api.public_api import program_version
from server.app import application as app
from server.app import strategies as configured
from server.app.operator import opened
from server.app.secret_exposures import check_exposures, find_on_command_line
from server.auth.audit.events import Line, carry
from server.auth.audit.storage import AuditedStorage
from server.auth.sessions.keyring import Signing
from server.cli import import_data as importcommand
from server.cli import keys as keycommands
from server.cli import roles as rolecommands
from server.cli import strategies as strategycommands
from server.cli import users as usercommands
from server.cli.config_docs import write_docs
from server.cli.output import Work
from server.cli.prompt import add_password_flag, take_password
from server.config.model import Config, dump, load
from server.core.addresses import is_loopback
from server.core.config_file import ConfigError
from server.storage.base import Unavailable
from server.system.logs import Writer, start_logs, stop_logs

try:
    import uvloop
except ImportError:  # no wheel for this platform
    uvloop = None  # type: ignore[assignment]

DONE, FAILED, MISTAKE = 0, 1, 2
_LOG = logging.getLogger("manykeys")
_FLAGS = {
    "host": "server.host",
    "port": "server.port",
    "uds": "server.uds",
    "fd": "server.fd",
    "tls_cert": "server.tls.cert",
    "tls_key": "server.tls.key",
    "data": "server.data",
    "log_format": "logs.format",
    "grace": "timeouts.grace",
}

_EPILOG = """\
examples:
  manykeys serve
  manykeys serve --port 0 --data :memory: --open
  manykeys serve --config manykeys.toml --set security.authToken.expiresIn=2h
  manykeys create-admin ann
  manykeys create-admin ann --password-stdin < password.txt
  manykeys keys rotate
  manykeys user disable ann
  manykeys role export editor > editor.jsonl
  manykeys import users.jsonl --errors refused.txt
  manykeys strategies check google
  manykeys config --config manykeys.toml --check

Every setting can also be set in the environment: MANYKEYS_server__port=7513.
The settings are listed in docs/configuration.md.

exit codes:
  0  success; for serve: stopped by SIGTERM or SIGINT, every request answered
  1  internal failure; see the log
  2  usage error: a flag, a setting, a file, a port that is in use
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    given = make_parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], int] = given.run
        return run(given)
    except ApiError as refused:
        return _complain(refused.message)
    except BrokenPipeError:  # the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as reason:
        place = f"{reason.filename}: " if reason.filename else ""
        return _complain(f"{place}{reason.strerror or reason}")
    except (LocalError, Unavailable) as mistake:
        return _complain(str(mistake))
    except KeyboardInterrupt:
        return FAILED


class _ShowVersion(argparse.Action):
    """Looks up the version only on request: that takes longer than all other flags."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        print(f"manykeys {program_version()}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="manykeys",
        description="An authentication server: one user, many keys.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    settings, server = _settings_flags(), _server_flags()

    def command(name: str, text: str, *flags: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, parents=flags, allow_abbrev=False
        )

    _add_serve(command("serve", "run the server", settings, server))
    _add_create_admin(command("create-admin", "create an administrator", settings))
    _add_keys(command("keys", "list, add or retire the keys that sign tokens"), settings)
    operating = {
        "user": ("list, create, change and delete users", usercommands.declare),
        "role": ("list, show, export and import roles", rolecommands.declare_role),
        "profile": ("list, show, export and import profiles", rolecommands.declare_profile),
    }
    for name, (text, declare) in operating.items():
        group = command(name, text)
        declare(group, settings)
        group.set_defaults(run=_operate)
    strategies = command("strategies", "list authentication strategies, check one")
    strategycommands.declare(strategies, settings)
    strategies.set_defaults(run=_look_at_strategies)
    importing = command("import", "import users, profiles, roles and credentials", settings)
    importcommand.declare(importing)
    importing.set_defaults(run=_operate)
    _add_config(command("config", "print the settings in effect, no secrets", settings, server))
    return parser


def _settings_flags() -> argparse.ArgumentParser:
    """Return the flags of all commands."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    flags.add_argument("--data", metavar="FILE", help="database file (manykeys.db), or :memory:")
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any setting, repeatable; not for secrets: other users can read command lines",
    )
    return flags


def _server_flags() -> argparse.ArgumentParser:
    """Return the flags about a running server."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--host", help="address to listen on (127.0.0.1)")
    flags.add_argument("--port", help="port to listen on (7512); 0 picks a free one")
    flags.add_argument("--uds", metavar="PATH", help="Unix socket to listen on instead of a port")
    flags.add_argument("--fd", metavar="N", help="file descriptor of an open socket to listen on")
    flags.add_argument("--tls-cert", metavar="FILE", help="certificate in PEM; enables TLS")
    flags.add_argument(
        "--tls-key", metavar="FILE", help="private key, if not in the certificate file"
    )
    flags.add_argument("--log-format", metavar="FORMAT", help="plain or json (plain)")
    flags.add_argument("--grace", metavar="TIME", help="graceful shutdown timeout (10s)")
    return flags


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--workers", default="1", metavar="N", help="number of processes; only 1 is supported"
    )
    serve.add_argument(
        "--loop", choices=("uvloop", "asyncio"), help="event loop (uvloop if installed)"
    )
    serve.add_argument(
        "--open",
        action="store_true",
        help="allow every request without login; for development, loopback only",
    )
    serve.set_defaults(run=_serve)


def _add_create_admin(admin: argparse.ArgumentParser) -> None:
    admin.add_argument("name", metavar="NAME", help="username of the administrator")
    add_password_flag(admin)
    admin.set_defaults(run=_create_admin)


def _add_keys(keys: argparse.ArgumentParser, settings: argparse.ArgumentParser) -> None:
    tasks = keys.add_subparsers(title="commands", metavar="COMMAND", dest="task", required=True)
    texts = {
        "list": "print all keys, no secrets",
        "rotate": "add a key that signs from now on; older keys verify until they are retired",
        "retire": "retire a key: tokens signed with it are rejected from now on",
    }
    for name, text in texts.items():
        task = tasks.add_parser(
            name, help=text, description=text, parents=[settings], allow_abbrev=False
        )
        task.set_defaults(run=_work_on_keys)
        if name == "retire":
            task.add_argument("kid", metavar="KID", help="key ID, as list prints it")


def _add_config(config: argparse.ArgumentParser) -> None:
    config.add_argument("--check", action="store_true", help="only validate the settings")
    config.add_argument("--docs", action="store_true", help="print docs/configuration.md")
    config.set_defaults(run=_print_config)


def read_config(given: argparse.Namespace) -> Config:
    """Return the settings; a dedicated flag wins over `--set`."""
    overrides: dict[str, object] = {}
    for assignment in given.set:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise ConfigError("--set: expected KEY=VALUE, like --set server.port=7513")
        overrides[name] = value
    for flag, name in _FLAGS.items():
        if (value := getattr(given, flag, None)) is not None:
            overrides[name] = value
    return load(given.config, os.environ, overrides)


def _serve(given: argparse.Namespace) -> int:
    _survive_hangup()
    config = read_config(given)
    host = config.server.host
    is_local = bool(config.server.uds) or host == "localhost" or is_loopback(host)
    if given.workers != "1":
        raise ConfigError(
            f"--workers: {given.workers} is not accepted; expected 1, the only supported value"
        )
    if given.open and not is_local:
        raise ConfigError(f"--open: cannot be used with --host {host}; expected a loopback address")
    loop = _choose_loop(given.loop)
    logs = config.logs
    writer = start_logs(logs.format, logs.level, sys.stderr, logs.max_per_second)
    try:
        _warn(config, open_mode=given.open, is_local=is_local)
        return _run_server(config, loop, writer, open_mode=given.open)
    finally:
        stop_logs(writer)


def _survive_hangup() -> None:
    """Ignore SIGHUP for the whole life of the process; `app.serve` defines its meaning while the
    server runs. A handler, because child processes inherit SIG_IGN."""
    signal.signal(signal.SIGHUP, lambda number, frame: None)


def _run_server(
    config: Config,
    loop: Callable[[], asyncio.AbstractEventLoop] | None,
    writer: Writer,
    *,
    open_mode: bool,
) -> int:
    """Serve until a signal. A failure before the server listens is the operator's to correct."""
    is_answering = False

    def on_ready(address: str) -> None:
        nonlocal is_answering
        is_answering = True
        print(f"manykeys listens on {address}", flush=True)

    data = config.server.data
    try:
        serving = app.serve(
            config,
            data=data,
            open_mode=open_mode,
            on_ready=on_ready,
            on_code=_show_setup_code,
            count_left_out_lines=lambda: writer.limiter.left_out,
        )
        _run(serving, loop)
    except (LocalError, Unavailable, OSError) as reason:
        if is_answering:
            _LOG.exception("the server failed")
            return FAILED
        if isinstance(reason, OSError) and reason.filename is None:
            where = f"{config.server.host} port {config.server.port}"
            raise LocalError(f"cannot listen on {where}: {reason.strerror or reason}") from None
        raise
    return DONE


def _show_setup_code(code: str) -> None:
    """Print the setup code for the operator; it is never logged."""
    print(
        "first admin: manykeys create-admin NAME, or security:createFirstAdmin "
        f"with setupCode {code}",
        flush=True,
    )


def _run(
    work: Coroutine[object, object, None],
    loop: Callable[[], asyncio.AbstractEventLoop] | None,
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work)


def _choose_loop(name: str | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of the requested event loop; None for the standard library's."""
    if name == "uvloop" and uvloop is None:
        raise ConfigError("--loop: uvloop is not installed; expected asyncio")
    return None if name == "asyncio" or uvloop is None else uvloop.new_event_loop


def _warn(config: Config, *, open_mode: bool, is_local: bool) -> None:
    if open_mode:
        _LOG.warning("--open: all requests are allowed without login; never use with real users")
    if not is_local and not config.security.strict:
        _LOG.warning("other machines can reach this server: consider security.strict = true")
    if config.ignored:
        _LOG.warning("settings without effect: %s", ", ".join(config.ignored))
    for exposure in check_exposures(config):
        _LOG.warning("%s", exposure)


def _read_config_of_command(given: argparse.Namespace) -> Config:
    """Return the settings of a command other than `serve`; print a warning for a secret on the
    command line."""
    config = read_config(given)
    for exposure in find_on_command_line(config):
        print(f"manykeys: warning: {exposure}", file=sys.stderr)
    return config


def _create_admin(given: argparse.Namespace) -> int:
    config = _read_config_of_command(given)
    password = take_password(from_stdin=given.password_stdin)
    _run(app.create_admin(config, name=given.name, password=password), None)
    print(f"administrator {given.name} created")
    return DONE


def _operate(given: argparse.Namespace) -> int:
    """Run one of the commands that work on the database while servers run."""
    config = _read_config_of_command(given)
    given.data = config.server.data
    work: Work = given.work

    async def run() -> None:
        async with app.operating(config) as operations:
            await work(operations, given)

    _run(run(), None)
    return DONE


def _look_at_strategies(given: argparse.Namespace) -> int:
    strategycommands.run(_read_config_of_command(given), given)
    return DONE


def _work_on_keys(given: argparse.Namespace) -> int:
    config = _read_config_of_command(given)
    token, clock_ms = config.security.auth_token, app.clock_ms
    signing = Signing(token.algorithm, token.secret)

    async def work() -> None:
        line = Line(clock_ms(), f"command:keys {given.task}", actor="")
        async with opened(config.server.data, clock_ms=clock_ms) as store:
            storage = AuditedStorage(store, is_on=config.security.audit.enabled)
            match given.task:
                case "list":
                    print(await keycommands.list_keys(storage, signing))
                case "rotate":
                    rotation = keycommands.rotate(storage, signing, clock_ms())
                    print(await carry(line, rotation))
                case "retire":
                    retirement = keycommands.retire(storage, signing, given.kid, clock_ms())
                    print(await carry(line, retirement))

    _run(work(), None)
    return DONE


def _print_config(given: argparse.Namespace) -> int:
    config = read_config(given)
    if given.docs:
        print(write_docs(), end="")
    elif given.check:
        configured.check(config)
        for exposure in check_exposures(config):
            print(f"warning: {exposure}", file=sys.stderr)
    else:
        print(dump(config), end="")
    for name in config.ignored:
        print(f"{name}: this setting has no effect", file=sys.stderr)
    return DONE


def _complain(text: str) -> int:
    print(f"manykeys: {' '.join(text.split())}", file=sys.stderr)
    return MISTAKE
