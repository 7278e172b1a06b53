"""Secrets that other users of the machine can read: what is warned of, and refused when strict."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from server.app.secret_exposures import check_exposures
from server.app.strategies import tables
from server.auth.strategies.totp_settings import TotpSettings
from server.cli.main import main
from server.config.model import Config, load
from server.core.config_file import MAX_SECRET_BYTES, ConfigError
from tests.server.app.test_serve import create_admin, serving
from tests.support.certificates import Authority

SECRET = "s" * 40


def given(tmp_path: Path, toml: str = "", **overrides: str) -> Config:
    """Return settings with a database that is not there yet, out of a file only its user reads."""
    file = tmp_path / "manykeys.toml"
    file.write_text(toml)
    file.chmod(0o600)
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return load(file, {}, {"server.data": str(tmp_path / "keys.db"), **named})


def write(path: Path, text: str, mode: int) -> Path:
    """Write a file with a mode, whatever the umask."""
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, 0), (0o400, 0), (0o644, 1), (0o606, 1)])
def test_exposures_database_others_can_read_is_found(
    tmp_path: Path, mode: int, is_warned: bool
) -> None:
    """A copy that was restored has the mode its maker's umask gave it."""
    write(tmp_path / "keys.db", "", mode)
    found = check_exposures(given(tmp_path))
    assert len(found) == is_warned
    if is_warned:
        assert found[0].startswith(f"{tmp_path}/keys.db (database) has mode {mode:04o}: ")
        assert found[0].endswith(f"chmod 600 {tmp_path}/keys.db")
        with pytest.raises(ConfigError, match="not allowed with security.strict"):
            check_exposures(given(tmp_path, security__strict="true"))


@pytest.mark.parametrize(("mode", "is_found"), [(0o640, False), (0o660, True), (0o644, True)])
def test_exposures_file_of_root_may_be_read_by_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_found: bool
) -> None:
    """As PostgreSQL has it, so that a group of those who may use a key works (ssl-cert)."""
    key = write(tmp_path / "key.pem", "", mode)
    config = given(tmp_path, server__tls__key=str(key))
    owned = _as_if_owned_by(monkeypatch, 0)
    assert bool(check_exposures(config)) is is_found
    owned(1000)
    assert check_exposures(config)


def _as_if_owned_by(monkeypatch: pytest.MonkeyPatch, uid: int) -> Callable[[int], None]:
    """Let every file belong to a user: only root could give files away."""
    stat, owner = os.stat, uid

    def stat_of(path: str) -> os.stat_result:
        values = list(stat(path))
        values[4] = owner
        return os.stat_result(values)

    def change(uid: int) -> None:
        nonlocal owner
        owner = uid

    monkeypatch.setattr("server.app.secret_exposures.os.stat", stat_of)
    return change


TOTP = '[strategies.totp]\nuse = "totp"\n'
LDAP = '[strategies.office]\nuse = "ldap"\nservers = ["ldaps://ldap.test"]\n'
OAUTH = '[strategies.google]\nuse = "oauth"\nbackend = "google-oauth2"\nkey = "id"\n'
MAGIC = '[strategies.mail]\nuse = "magic"\n[strategies.mail.smtp]\nhost = "mail.test"\n'
KINDS = [
    ("", "security.authToken.secret"),
    ("", "security.jwt.secret"),
    (TOTP, "strategies.totp.key"),
    (LDAP, "strategies.office.bindPassword"),
    (OAUTH, "strategies.google.secret"),
    (OAUTH, "strategies.google.settings.KEY"),
    (MAGIC, "strategies.mail.smtp.password"),
]


@pytest.mark.parametrize(("toml", "name"), KINDS)
def test_exposures_secret_of_every_kind_on_the_command_line_is_found(
    tmp_path: Path, toml: str, name: str
) -> None:
    """The line names the key, not the value; a file's name is no secret."""
    config = given(tmp_path, toml, **{name.replace(".", "__"): SECRET})
    (found,) = check_exposures(config)
    assert found.startswith(f"--set {name}: ")
    assert f"expected {name}.file" in found
    assert SECRET not in found
    file = write(tmp_path / "secret", SECRET, 0o600)
    named = {f"{name}.file".replace(".", "__"): str(file)}
    assert check_exposures(given(tmp_path, toml, **named)) == []


@pytest.mark.parametrize(("toml", "name"), KINDS)
def test_exposures_secret_of_every_kind_in_a_readable_file_is_found(
    tmp_path: Path, toml: str, name: str
) -> None:
    file = write(tmp_path / "secret", SECRET, 0o644)
    overrides = {f"{name}.file".replace(".", "__"): str(file)}
    (found,) = check_exposures(given(tmp_path, toml, **overrides))
    assert found.startswith(f"{file} ({name}.file) has mode 0644")


@pytest.mark.parametrize(("toml", "name"), KINDS)
def test_exposures_readable_configuration_with_a_secret_is_found(
    tmp_path: Path, toml: str, name: str
) -> None:
    *tables, key = name.split(".")
    table = f"[{'.'.join(tables)}]\n"
    line = f'{key} = "{SECRET}"\n'
    config = given(tmp_path, toml + line if table in toml else toml + table + line)
    assert check_exposures(config) == []
    (tmp_path / "manykeys.toml").chmod(0o644)
    (found,) = check_exposures(config)
    assert found.startswith(f"{tmp_path}/manykeys.toml (configuration) has mode 0644")


def test_exposures_readable_configuration_without_secrets_is_fine(tmp_path: Path) -> None:
    file = write(tmp_path / "secret", SECRET, 0o600)
    toml = f'[server]\nport = 1\n[security.authToken]\nsecret.file = "{file}"\n'
    config = given(tmp_path, toml)
    (tmp_path / "manykeys.toml").chmod(0o644)
    assert check_exposures(config) == []


def test_exposures_key_inside_of_the_certificate_is_found(tmp_path: Path) -> None:
    both = write(tmp_path / "both.pem", "", 0o644)
    (found,) = check_exposures(given(tmp_path, server__tls__cert=str(both)))
    assert found.startswith(f"{both} (server.tls.cert) ")


def test_secret_in_a_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = write(tmp_path / "secret", SECRET + "\n", 0o600)
    in_toml = given(tmp_path, f'[security.authToken]\nsecret = {{file = "{file}"}}\n')
    variables = {"MANYKEYS_security__authToken__secret__file": str(file)}
    for config in (in_toml, load(None, variables)):
        assert config.security.auth_token.secret == SECRET
        assert SECRET not in repr(config.sources)
    list_of = given(tmp_path, f'{TOTP}key = [{{file = "{file}"}}, "{"t" * 32}"]\n')
    ((_, totp),) = tables(list_of)
    assert isinstance(totp, TotpSettings)
    assert totp.keys == (SECRET, "t" * 32)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "security.authToken.secret.file: {}: cannot be read: No such file or directory"),
        (b"\xff" * 40, "security.authToken.secret.file: {}: expected UTF-8"),
        (b"s" * (MAX_SECRET_BYTES + 1), f"{{}}: expected at most {MAX_SECRET_BYTES} bytes"),
        (b"short\n", "security.authToken.secret: (not shown) is not accepted"),
    ],
)
def test_secret_in_a_file_that_is_no_good_is_refused(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load(None, {}, {"security.authToken.secret.file": str(file)})
    assert text.format(file) in str(refused.value)


def test_secret_file_of_the_greatest_size_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "secret", "s" * MAX_SECRET_BYTES, 0o600)
    config = load(None, {}, {"security.authToken.secret.file": str(file)})
    assert config.security.auth_token.secret == "s" * MAX_SECRET_BYTES


def test_config_check_reports_exposures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "keys.db", "", 0o644)
    command = ["config", "--check", "--data", str(data)]
    assert main(command) == 0
    assert "has mode 0644" in capsys.readouterr().err
    assert main([*command, "--set", "security.strict=true"]) == 2
    assert "not allowed with security.strict" in capsys.readouterr().err


def test_command_with_a_secret_on_its_command_line_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(tmp_path / "keys.db"), "--set", f"security.authToken.secret={SECRET}"]
    assert main(["keys", "list", *given]) == 2  # there is no database
    errors = capsys.readouterr().err
    assert "warning: --set security.authToken.secret: other users" in errors
    assert SECRET not in errors


async def test_server_warns_of_a_restored_database_and_closes_its_log(tmp_path: Path) -> None:
    """A copy with mode 0644 is served with a warning; once its mode is right, the
    log and its index, which were made with the old one, get it, too."""
    data = tmp_path / "keys.db"
    async with serving(data) as server:
        http = await server.connect()
        await create_admin(http)
        http.close()
        await server.stop()
    data.chmod(0o644)
    held = sqlite3.connect(data)  # keeps the log and its index
    held.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    try:
        async with serving(data) as server:
            errors = await server.stop()
        assert "has mode 0644: other users can access the secrets in it" in errors
        assert (tmp_path / "keys.db-wal").stat().st_mode & 0o777 == 0o644
        data.chmod(0o600)
        async with serving(data, "--set", "security.strict=true") as server:
            for suffix in ("-wal", "-shm"):
                assert (tmp_path / f"keys.db{suffix}").stat().st_mode & 0o777 == 0o600
            await server.stop()
    finally:
        held.close()


def test_server_strict_refuses_a_tls_key_others_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line, before anything listens."""
    files = Authority(tmp_path).sign("server")
    files.key.chmod(0o644)
    tls = ["--tls-cert", str(files.cert), "--tls-key", str(files.key)]
    strict = ["--data", str(tmp_path / "keys.db"), "--set", "security.strict=true"]
    assert main(["serve", "--port", "0", *tls, *strict]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"manykeys: {files.key} (server.tls.key) has mode 0644: ")
