"""The rules of the map: who may import whom, and what no module does (CONTRIBUTING.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path.relative_to(ROOT) for top in ("protocol", "server") for path in (ROOT / top).rglob("*.py")
)
# What `protocol/` may use: nothing that reads, waits, tells the time or rolls dice.
PURE = {
    "base64",
    "binascii",
    "codecs",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "http",
    "ipaddress",
    "math",
    "orjson",
    "protocol",
    "re",
    "struct",
    "types",
    "typing",
    "urllib",
    "zlib",
}
# What must not be compared byte by byte with what somebody sent (CWE-208). Hashes of tokens may be:
# who could guess one from the time it takes has no use for it.
SECRET = re.compile(r"(.*_)?(secret|password|digest|token|hashed)")
SQL = ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM", "CREATE TABLE", "PRAGMA ")


def imports(path: Path) -> Iterator[str]:
    """Give the modules a file imports, outside of `if TYPE_CHECKING`."""
    tree = ast.parse((ROOT / path).read_text())
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def under(path: Path, *parts: str) -> bool:
    """Tell whether a file lies in a folder."""
    return path.parts[: len(parts)] == parts


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_protocol_imports_nothing_impure(path: Path) -> None:
    """`protocol/` reads no clock, rolls no dice, waits for nothing; the rest of who may import whom
    is checked by import-linter (pyproject.toml)."""
    if under(path, "protocol"):
        tops = {name.partition(".")[0] for name in imports(path)}
        assert tops <= PURE, tops - PURE


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_keep_to_the_style(path: Path) -> None:
    """CONTRIBUTING.md and §4: a docstring, no import inside a function, SQL in the store alone."""
    text = (ROOT / path).read_text()
    tree = ast.parse(text)
    assert not text.strip() or ast.get_docstring(tree), "a module says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = {type(part) for part in ast.walk(node)}
            assert not inner & {ast.Import, ast.ImportFrom}, f"{node.name} imports"
            last = node.end_lineno or node.lineno
            assert last - node.lineno < 70, f"{node.name} is too long"
    if not under(path, "server", "storage"):
        assert not any(word in text for word in SQL)


@pytest.mark.parametrize(
    "path",
    # Who types a password twice at his own terminal learns nothing from the time it takes.
    [path for path in MODULES if under(path, "server") and path.name != "prompt.py"],
    ids=str,
)
def test_secrets_are_compared_in_constant_time(path: Path) -> None:
    """security check T12: `hmac.compare_digest`, never `==`, `!=` or `in`; constants are no
    secrets."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In):
            sides = [node.left, *node.comparators]
            names = [ast.unparse(side).rpartition(".")[2] for side in sides]
            is_constant = any(isinstance(side, ast.Constant) for side in sides)
            assert is_constant or not any(map(SECRET.fullmatch, names)), ast.unparse(node)
