"""The pages of docs/: those that are generated are up to date, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.tools import action_docs, error_docs

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made of their text."""
    found: set[str] = set()
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(words)
    return found


@pytest.mark.parametrize(
    ("name", "made"),
    [("errors.md", error_docs.page), ("actions.md", action_docs.page)],
    ids=["errors", "actions"],
)
def test_generated_page_is_up_to_date(name: str, made: object) -> None:
    """Made anew, it is the same."""
    assert callable(made)
    assert (ROOT / "docs" / "api" / name).read_text() == made()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_resolve(page: Path) -> None:
    """A relative link names a file that is there, and a heading in it."""
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_sources_cite_only_what_is_here() -> None:
    """Code, tests and pages name pages of this repository or public standards."""
    foreign = re.compile(r"contract/0[0-9]|design §|house style §")
    cited = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("server", "protocol", "tests", "bench", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md") and path != Path(__file__)
        for line in path.read_text().splitlines()
        if foreign.search(line)
    ]
    assert cited == []
