"""The reference pages of the API: made from the tables, and every link and citation resolves."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import ERRORS
from tests.tools import action_docs, error_docs

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/**/*.md")])
MODULES = sorted(
    path
    for top in ("protocol", "server", "tests", "bench")
    for path in (ROOT / top).rglob("*.py")
    if path != Path(__file__)  # its examples cite pages that do not exist
)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?\)")
_ID = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")
# `docs/page.md#one, #two`; a citation may go on behind a line break.
_CITATION = re.compile(r"\b(docs/[\w/.-]+\.md)((?:#[\w-]+)(?:,\s+(?:# )?#[\w-]+)*)?")


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading: lower case, no punctuation, hyphens."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return all anchors of a page; the second of two equal headings has `-1` behind it."""
    text = _FENCE.sub("", page.read_text())
    found: set[str] = set(_ID.findall(text))
    for heading in _HEADING.findall(text):
        name, further = slug(heading), 0
        while (name if not further else f"{name}-{further}") in found:
            further += 1
        found.add(name if not further else f"{name}-{further}")
    return found


def links(page: Path) -> Iterator[str]:
    """Return the relative links of a page."""
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            yield target


def citations(text: str) -> Iterator[str]:
    """Return each page that a text cites, with each of its anchors."""
    for name, cited in _CITATION.findall(text):
        yield from (f"{name}#{anchor}" for anchor in re.findall(r"#([\w-]+)", cited))
        if not cited:
            yield name


def find_broken(page: Path, targets: Iterator[str]) -> list[str]:
    """Return the targets whose file or heading does not exist."""
    broken = []
    for target in targets:
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        is_found = file.exists() and (not anchor or anchor in anchors(file))
        if not is_found:
            broken.append(target)
    return broken


def test_error_page_is_made_from_the_error_table() -> None:
    """docs/api/errors.md: run `python -m tests.tools.error_docs` to renew it."""
    assert (ROOT / "docs/api/errors.md").read_text() == error_docs.page()


def test_action_page_is_made_from_the_action_table() -> None:
    """docs/api/actions.md: run `python -m tests.tools.action_docs` to renew it."""
    assert (ROOT / "docs/api/actions.md").read_text() == action_docs.page()


def test_error_page_own_ids_exist_and_are_raised() -> None:
    assert ERRORS.keys() >= error_docs.OWN
    assert [error_id for error_id in error_docs.OWN if not error_docs.is_raised(error_id)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_links_resolve_to_files_and_headings(page: Path) -> None:
    assert find_broken(page, links(page)) == []


def test_citations_in_code_resolve_to_files_and_headings() -> None:
    """Every `docs/….md#anchor` in a docstring or comment."""
    broken = {}
    for module in MODULES:
        missing = find_broken(ROOT / "README.md", citations(module.read_text()))
        if missing:
            broken[str(module.relative_to(ROOT))] = missing
    assert broken == {}


def test_sources_cite_only_what_is_here() -> None:
    """Code, tests and pages name pages of this repository or public standards."""
    foreign = re.compile(r"contract/0[0-9]|design §|house style|\b[Ii]ssue [0-9]")
    pages = [path for path in PAGES if ROOT / "docs" in path.parents]
    cited = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in [*MODULES, *pages]
        for line in path.read_text().splitlines()
        if foreign.search(line)
    ]
    assert cited == []


def test_index_names_every_page() -> None:
    """docs/README.md links to all pages of docs/, once at least."""
    index = ROOT / "docs/README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    wanted = {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - {index.resolve()}
    assert {str(page.relative_to(ROOT)) for page in wanted - listed} == set()


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        # Seen on pages that GitHub shows.
        ("Errors with several causes", "errors-with-several-causes"),
        ("`expiresIn`", "expiresin"),
        ('use = "ldap"', "use--ldap"),
        ("security.token", "securitytoken"),
        ("What, and [why](x.md)?", "what-and-why"),
    ],
)
def test_slug_of_a_heading_is_githubs(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_citations_are_read_with_each_anchor() -> None:
    text = "see docs/a.md#one, #two (docs/b.md). Not x_docs/c.md; docs/d.md#three,\n    #four"
    wanted = ["docs/a.md#one", "docs/a.md#two", "docs/b.md", "docs/d.md#three", "docs/d.md#four"]
    assert list(citations(text)) == wanted


def test_find_broken_names_missing_files_and_headings(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One\n\n## Two\n\n## Two\n\n```\n## Three\n```\n")
    given = iter(["#one", "#two-1", "a.md#two", "#three", "b.md", "a.md#four"])
    assert find_broken(page, given) == ["#three", "b.md", "a.md#four"]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_in_prose_exist(name: str) -> None:
    """Every file and folder of the repository that a page for contributors names in backticks."""
    named = re.findall(
        r"`((?:protocol|server|tests|docs|bench)/[\w./-]*)`", (ROOT / name).read_text()
    )
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_layers_on_the_architecture_page_are_import_linters() -> None:
    """In the same order; sub-packages that import-linter tells apart may be one line here."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    checked = contracts["contracts"][0]["layers"]
    page = (ROOT / "docs/architecture.md").read_text()
    shown = [line.split() for line in page.partition("## Layers")[2].splitlines() if "    " in line]
    order = [
        layer for line in shown if line[0].startswith(("server", "protocol")) for layer in line
    ]
    wanted = [layer.strip() for line in checked for layer in line.split("|")]
    folded = [
        re.sub(r"^server\.admin\..*", "server.admin", layer)
        for layer in wanted
        if layer != "server.__main__"
    ]
    assert order[: order.index("protocol") + 1] == list(dict.fromkeys(folded))
