"""What every clause of a query is read with: its shapes, its bounds, and how it is refused
(contract/03 §7.7)."""

import re
from collections.abc import Callable, Sequence

from protocol.errors import ApiError, error
from server.core.limit_counters import Limit
from server.storage.automata import Item
from server.storage.query import Bound

MOST_LEVELS = 8
"""Clauses inside of one another."""
MOST_NAMES = 20
"""Names in one field."""
MOST_PARTS = 1000
"""Clauses, values, words and further names of fields in one query, together."""
MOST_LEAVES = 200
"""Questions about one field that a query comes to: clauses, with each word and each field."""
MOST_CHARACTERS = 65_536
"""Of the values and fields of one query, together."""
MOST_FIELD_CHARACTERS = 512
MOST_PATTERNS = 64
"""Patterns in one query that texts are held against character by character."""
MOST_PATTERN_WEIGHT = 1024
"""Of all of them, together: characters, and the members of classes."""

# Options that change the order of hits, never which ones there are.
_NO_MATTER = frozenset({"boost", "_name"})
_SHARE = re.compile(r"(-?[0-9]{1,4})(%?)")


class Budget:
    """Counts what a query is made of; ApiError 400 once it is too much. `on_limit` hears of
    patterns that are too much."""

    def __init__(self, on_limit: Callable[[Limit], None] = lambda limit: None) -> None:
        self._parts = 0
        self._characters = 0
        self._patterns = 0
        self._pattern_weight = 0
        self._on_limit = on_limit

    def count(self, parts: int) -> None:
        """Count clauses, values or words."""
        self._parts += parts
        if self._parts > MOST_PARTS:
            raise error("api.assert.too_many_arguments", "body", MOST_PARTS)

    def weigh(self, text: str) -> str:
        """Count the characters of a text, and give it."""
        self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            accepted = f"a query with at most {MOST_CHARACTERS} characters"
            raise error("api.assert.invalid_argument", "body", accepted)
        return text

    def pattern(self, items: Sequence[Item]) -> None:
        """Count a pattern that texts are held against."""
        self._patterns += 1
        self._pattern_weight += sum(item.weight for item in items)
        if self._patterns > MOST_PATTERNS or self._pattern_weight > MOST_PATTERN_WEIGHT:
            self._on_limit(Limit.SEARCH_PATTERNS)
            accepted = (
                f"at most {MOST_PATTERNS} patterns in a query, of {MOST_PATTERN_WEIGHT} "
                "characters and members of classes together"
            )
            raise error("api.assert.invalid_argument", "body", accepted)

    def field(self, name: object) -> str:
        """Count and give the name of a field."""
        if not isinstance(name, str) or not name or len(name) > MOST_FIELD_CHARACTERS:
            limit = f"a field has a name of at most {MOST_FIELD_CHARACTERS} characters"
            raise malformed(limit)
        further = name.count(".")
        if further >= MOST_NAMES:
            raise malformed(f"a field is at most {MOST_NAMES} names with dots between them")
        self.count(further)
        return self.weigh(name)

    def scalar(self, given: object) -> str:
        """Count and give a value as text, as JSON has it."""
        if not isinstance(given, str | int | float):
            raise malformed("a value is a text, a number, true or false")
        return self.weigh(as_text(given))

    def bound(self, given: object) -> Bound:
        """Count and give an end of a range."""
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise malformed("a bound is a number or a text")
        if isinstance(given, str):
            self.weigh(given)
        return given


def as_text(value: str | int | float | bool) -> str:
    """Give a value as its JSON has it, a text without its quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def object_of(name: str, given: object) -> dict[str, object]:
    """Give an object."""
    if not isinstance(given, dict):
        raise malformed(f"{name} is an object")
    return given


def array_of(name: str, given: object) -> list[object]:
    """Give an array."""
    if not isinstance(given, list):
        raise malformed(f"{name} wants an array")
    return given


def text_of(name: str, given: object) -> str:
    """Give a text."""
    if not isinstance(given, str):
        raise malformed(f"{name} wants a text")
    return given


def only_member(name: str, given: object) -> tuple[str, object]:
    """Give the one field a clause is about, with what is asked of it."""
    members = object_of(name, given).items()
    fields = [member for member in members if member[0] not in _NO_MATTER]
    if len(fields) != 1:
        raise malformed(f"{name} wants one field")
    return fields[0]


def options_of(name: str, given: object, accepted: tuple[str, ...]) -> dict[str, object]:
    """Give an object without other members than are accepted."""
    options = object_of(name, given)
    for option in options:
        if option not in accepted and option not in _NO_MATTER:
            raise malformed(f"{name} has no option {option}")
    return options


def option_of(name: str, given: object, *options: str) -> object:
    """Give what stands alone, or the first of these members of an object of options."""
    if not isinstance(given, dict):
        return given
    found = options_of(name, given, options)
    return next((found[option] for option in options if option in found), None)


def read_least(given: object, parts: int, default: int) -> int:
    """Read how many of some clauses must match: a number, or text such as "2", "-1" or "75%"; a
    negative one counts those that need not."""
    if given is None:
        return default
    is_number = isinstance(given, int) and not isinstance(given, bool)
    found = _SHARE.fullmatch(str(given)) if is_number or isinstance(given, str) else None
    if found is None:
        raise malformed('minimum_should_match is a number, or text such as "75%"')
    count = int(found[1])
    wanted = parts * count / 100 if found[2] else count
    return max(parts + int(wanted), 0) if wanted < 0 else int(wanted)


def malformed(reason: str) -> ApiError:
    """Give the error for a query that can't be read."""
    return error("services.storage.unexpected_bad_request", reason)
