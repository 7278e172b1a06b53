"""The sample package of `tests/sample_strategy`, as an installer would leave it in a folder."""

import shutil
import tomllib
from pathlib import Path

HERE = Path(__file__).parents[1] / "sample_strategy"


def install_sample(folder: Path) -> None:
    """Put its modules into a folder, with the metadata its `pyproject.toml` asks for."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    for module in HERE.glob("*.py"):
        shutil.copy(module, folder)
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    name, version = project["name"], project["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    write_entry_points(info, project["entry-points"])


def write_entry_points(info: Path, groups: dict[str, dict[str, str]]) -> None:
    """Write the file by which an installed package says what it brings."""
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))
