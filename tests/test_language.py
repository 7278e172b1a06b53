"""Language check: words that have no place in documentation, messages, docstrings and names.

The documentation is written in plain, standard technical English (CONTRIBUTING.md, "Language").
Pages, `--help`, settings and errors are checked as text; `server/` and `protocol/` are checked by
package: docstrings, comments, names and string literals with a space in them (messages).
"""

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import ERRORS
from server.cli.config_docs import write_docs
from server.cli.main import make_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "bench").glob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ]
)
PACKAGES = sorted(
    folder.relative_to(ROOT)
    for top in ("server", "protocol")
    for folder in (ROOT / top, *(ROOT / top).rglob("*"))
    if folder.is_dir() and any(folder.glob("*.py"))
)
WORDS = re.compile(
    r"""\b(?:
        he | his | him | himself
        | somebody | nobody | everybody | anybody | whoever
        | letters?
        | farewells?
        | put(?:s|ting)?\s+aside
        | let(?:s|ting)?\s+in
        | ways?\s+in
        | (?<!there\s)(?:is|are)\s+no(?!\s+(?:longer|more|less|later|earlier|greater|smaller)\b)
    )\b(?!\s+which)""",
    re.IGNORECASE | re.VERBOSE,
)
ALLOWED = re.compile(
    r"""
    ``?[^`]*``?                     # quoted code
    | "nobody"                      # a value of security.mfa.requiredFor
    | \b(?:ASCII|capital|small)[ ]letters?\b | \bletters?[ ]case\b
    | \bletters?(?:,|[ ]and|[ ]or)[ ](?:and[ ])?(?:digits?|marks)\b
    | \bdigits?(?:,|[ ]and|[ ]or)[ ]letters?\b
    | \b(?:drive|first|last|upper-case|lower-case)[ ]letters?\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def find_words(text: str) -> list[str]:
    """Return each unwanted word of a text with the words around it."""
    clean = ALLOWED.sub(lambda found: " " * len(found[0]), text)
    return [
        " ".join(text[max(0, found.start() - 30) : found.end() + 30].split())
        for found in WORDS.finditer(clean)
    ]


def read_page(path: Path) -> str:
    """Return the text of a page without its links' targets; examples are kept."""
    return re.sub(r"\]\([^)]*\)", "]", path.read_text())


def find_help(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield the `--help` of a command and of all commands below it, by the command's name."""
    yield parser.prog, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from find_help(below)


def find_comments(source: str) -> Iterator[str]:
    """Yield the comments of a module; those of consecutive lines are one text."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1 and block:
                yield " ".join(block)
                block = []
            block.append(token.string.lstrip("# "))
            last = token.start[0]
    yield " ".join(block)


def find_names(source: str) -> Iterator[str]:
    """Yield the names of a module as words: `let_in`, `LetIn` and `letIn` are `let in`."""
    names = {
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NAME
    }
    for name in sorted(names):
        parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).split("_")
        yield " ".join(part for part in parts if part)


def find_strings(source: str) -> Iterator[str]:
    """Yield docstrings and other string literals with a space in them, with what an f-string
    inserts as `{}`."""
    inner = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            parts = (str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if " " in node.value and id(node) not in inner:
                yield node.value


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_language_of_a_page_is_plain(page: Path) -> None:
    assert find_words(read_page(page)) == []


def test_language_of_help_is_plain() -> None:
    found = [(name, words) for name, text in find_help(make_parser()) for words in find_words(text)]
    assert found == []


def test_language_of_settings_is_plain() -> None:
    assert find_words(write_docs()) == []


def test_language_of_errors_is_plain() -> None:
    found = [(name, words) for name, kind in ERRORS.items() for words in find_words(kind.text)]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_language_of_a_package_is_plain(package: Path) -> None:
    """Docstrings, messages, comments and names of the modules of one package."""
    found = []
    for file in sorted((ROOT / package).glob("*.py")):
        source = file.read_text()
        for kind, texts in (
            ("string", find_strings(source)),
            ("comment", find_comments(source)),
            ("name", find_names(source)),
        ):
            found += [f"{file.name}: {kind}: {w}" for text in texts for w in find_words(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "nobody logs in",
        "it is no token",
        "is\nno token",
        "lets in",
        "a way\nin",
        "put aside",
        "His key",
        "a letter",
    ],
)
def test_find_words_of_the_list_are_found(text: str) -> None:
    assert len(find_words(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "there is no token",
        "it is no longer valid",
        "the way in which",
        "ASCII letters and digits",
        "`nobody`",
        "the theme of this",
    ],
)
def test_find_words_of_plain_text_are_none(text: str) -> None:
    assert find_words(text) == []


def test_find_names_are_split_into_words() -> None:
    assert find_words(" ".join(find_names("def let_in(whoKnows, isNobody): pass\n"))) != []
    assert list(find_names("isNobody")) == ["is Nobody"]
