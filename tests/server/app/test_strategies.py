"""Strategies by configuration alone, out of installed packages (docs/architecture.md;
docs/strategies.md; security check X4)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import LocalError
from server.app import strategies as configured
from server.cli.main import main
from server.config.model import Config, load
from tests.support.sample_package import install_sample, write_entry_points
from tests.support.server import TRANSPORTS, cheap_config, running

KEY = "k" * 31 + "!"
BADGE = {"use": "badge", "key": KEY}
CODE = "A1B2C3D4E5F6"
MODULES = ("badges", "detours", "broken_kinds")

BROKEN = """
from dataclasses import dataclass
from protocol.errors import LocalError
from server.auth.strategies.base import StrategyKind
from server.core.settings import setting, text

@dataclass(frozen=True, slots=True)
class Settings:
    host: str = setting("host", text(1), "id.test", "Where to ask.")

def refuses(name, settings, parts):
    raise LocalError(f"{settings.host} is not known")

def fails(name, settings, parts):
    raise ValueError(settings.host)

REFUSES, FAILS, OTHER = StrategyKind(Settings, refuses), StrategyKind(Settings, fails), object()
"""


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two packages are installed: the sample, and one with nothing but faults."""
    install_sample(tmp_path)
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (tmp_path / "broken_kinds.py").write_text(BROKEN)
    names = {"refuses": "REFUSES", "fails": "FAILS", "other": "OTHER", "absent": "ABSENT"}
    points = {name: f"broken_kinds:{attribute}" for name, attribute in names.items()}
    points["missing"] = "no_such_module:KIND"
    write_entry_points(info, {configured.GROUP: points})
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for module in MODULES:
        sys.modules.pop(module, None)


def given_in(name: str, **table: object) -> Config:
    """Give a configuration with one strategy."""
    return cheap_config(strategies={name: table})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_package_and_a_table_are_enough(sample: None, transport: str) -> None:
    """docs/architecture.md: the operator writes four lines, and users have a further key."""
    config = cheap_config(strategies={"card": BADGE, "away": {"use": "detour"}})
    async with running(config) as server:
        admin = await server.create_admin()
        names = await server.call(transport, "auth:getStrategies", token=admin)
        assert names["result"] == ["local", "card", "away"]
        body = {"number": "b-7", "code": CODE}
        create = "auth:createMyCredentials"
        made = await server.call(transport, create, token=admin, strategy="card", body=body)
        assert made["result"] == {"number": "b-7"}
        login = await server.call("query", "auth:login", strategy="card", body=body)
        assert login["result"]["_id"] == "admin"
        away = await server.call(transport, "auth:login", strategy="away")
        location = away["result"]["headers"]["Location"]
        assert location.startswith("https://id.test/authorize?state=")
        fields = await server.call(
            "query", "security:getCredentialFields", token=admin, strategy="card"
        )
        assert fields["result"] == ["number", "code"]


async def test_what_nobody_asks_for_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/architecture.md: a start costs no look through all packages."""

    def looks(group: str) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(configured, "entry_points", looks)
    async with running() as server:
        assert server.app.services.strategies.names() == ["local"]


async def test_what_is_not_used_is_not_imported(sample: None) -> None:
    async with running(given_in("card", **BADGE)):
        assert "badges" in sys.modules
        assert "detours" not in sys.modules


MISTAKES = [
    ("card", {}, "strategies.card.use: not set; expected one of: ", "badge, detour"),
    ("card", {"use": "oauth9"}, 'strategies.card.use: "oauth9"; expected one of: ', "badge"),
    ("card", {"use": 7}, "strategies.card.use: 7; expected one of: ", "detour"),
    (
        "card",
        {"use": "badge", "colour": "red"},
        "strategies.card.colour: unknown setting",
        "accepted: key",
    ),
    ("card", {"use": "badge", "key": "short"}, "strategies.card.key: ", "32 bytes or more"),
    ("card", {"use": "badge", "key": 12}, "strategies.card.key: ", "32 bytes or more"),
    ("away", {"use": "detour", "url": ""}, 'strategies.away.url: "" is not', "not empty"),
    ("away", {"use": "detour", "url": {"a": 1}}, "strategies.away.url: ", "not empty"),
    ("local", BADGE, "strategies.local: expected a name", "other than local"),
    ("a/b", BADGE, "strategies.a/b: expected a name", "letters"),
    ("x" * 65, BADGE, "expected a name of 1 to 64", "letters"),
    ("bad", {"use": "missing"}, "strategies.bad.use: no_such_module:KIND cannot be", "NotFound"),
    ("bad", {"use": "absent"}, "strategies.bad.use: broken_kinds:ABSENT cannot be", "Attribute"),
    ("bad", {"use": "other"}, "strategies.bad.use: broken_kinds:OTHER is not a StrategyKind", ""),
]


@pytest.mark.parametrize(("name", "table", "begins", "holds"), MISTAKES)
async def test_mistakes_refuse_to_start(
    sample: None, name: str, table: dict[str, object], begins: str, holds: str
) -> None:
    """docs/architecture.md: naming key, value and what is accepted; a check finds them too."""
    config = given_in(name, **table)
    with pytest.raises(LocalError) as checked:
        configured.check(config)
    with pytest.raises(LocalError) as started:
        async with running(config):
            pass
    for raised in (checked, started):
        assert begins in str(raised.value)
        assert holds in str(raised.value)
        assert "short" not in str(raised.value)
        assert "red" not in str(raised.value)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("refuses", "strategies.bad: id.secret is not known"),
        ("fails", "strategies.bad: cannot be created: ValueError"),
    ],
)
async def test_one_that_can_not_be_made_refuses_to_start(sample: None, use: str, said: str) -> None:
    """What it says itself is shown, what it did not mean to say is not."""
    with pytest.raises(LocalError) as raised:
        async with running(given_in("bad", use=use, host="id.secret")):
            pass
    assert str(raised.value) == said


def test_the_check_of_the_command_line(
    sample: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`manykeys config --check`; neither it nor the settings in effect show a secret."""
    file = tmp_path / "manykeys.toml"
    file.write_text(f'[strategies.card]\nuse = "badge"\nkey = "{KEY}"\n')
    assert main(["config", "--config", str(file), "--check"]) == 0
    assert main(["config", "--config", str(file)]) == 0
    shown = capsys.readouterr()
    assert 'use = "badge"' in shown.out
    assert KEY not in shown.out + shown.err
    file.write_text('[strategies.card]\nuse = "badge"\nkez = "x"\n')
    assert main(["config", "--config", str(file), "--check"]) != 0
    assert "strategies.card.kez: unknown setting" in capsys.readouterr().err


def test_variables_reach_a_strategy(sample: None) -> None:
    environment = {
        "MANYKEYS_strategies__card__use": "badge",
        "MANYKEYS_strategies__card__key": KEY,
    }
    configured.check(load(None, environment))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_secrets_are_in_no_answer(sample: None, transport: str) -> None:
    """X4: `getConfig` names the kind."""
    async with running(given_in("card", **BADGE)) as server:
        admin = await server.create_admin()
        answer = await server.call(transport, "server:getConfig", token=admin)
        assert answer["result"]["strategies"] == {"card": {"use": "badge"}}
        assert KEY not in repr(answer)
