"""docs/limits.md says what is so, and leaves no setting that bounds something without a word."""

import re

import pytest

from server.config.model import Config
from tests.tools import limits as bounds
from tests.tools.limits import GROUPS, ROOT, Bound, defaults

# Bounds by their names, and what else has such a name.
BOUNDING = re.compile(r"(limits|timeouts)\..*|.*\.(max|queue|idleTimeout|rateLimit|controlRate).*")
ELSEWHERE = {
    # Of what a caller may ask for: docs/configuration.md says it.
    "services.storageEngine.maxScrollDuration",
    "security.apiKey.maxTTL",
    "security.authToken.maxAge",
    "security.authToken.maxTTL",
}
ALL = [bound for group in GROUPS.values() for bound in group]


def test_the_page_is_made_of_the_table() -> None:
    assert (ROOT / "docs/limits.md").read_text() == bounds.page()


def test_every_setting_that_bounds_is_named() -> None:
    bounding = {name for name in defaults(Config) if BOUNDING.fullmatch(name)}
    assert bounding - {bound.where for bound in ALL} == ELSEWHERE


@pytest.mark.parametrize("bound", ALL, ids=lambda bound: bound.what)
def test_every_bound_has_a_test(bound: Bound) -> None:
    file, _, name = bound.test.rpartition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)
