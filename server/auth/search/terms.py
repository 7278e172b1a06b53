"""Common helpers of the query parser: shapes of values, limits, and errors."""

import re
from collections.abc import Callable, Sequence

from protocol.errors import ApiError, error
from server.core.limit_counters import Limit
from server.storage.automata import Item
from server.storage.query import Bound

MOST_LEVELS = 8
"""Nested clauses."""
MOST_NAMES = 20
"""Names in the path of one field."""
MOST_PARTS = 1000
"""Clauses, values, words and further names of fields in one query, together."""
MOST_LEAVES = 200
"""Leaves of a query: comparisons with one field; clauses, with each word and each field."""
MOST_CHARACTERS = 65_536
"""Of the values and fields of one query, together."""
MOST_FIELD_CHARACTERS = 512
MOST_PATTERNS = 64
"""Patterns in one query that strings are matched with character by character."""
MOST_PATTERN_WEIGHT = 1024
"""Of all of them, together: characters, and the members of classes."""

# Options that change the order of hits, never the hits themselves.
_NO_MATTER = frozenset({"boost", "_name"})
_SHARE = re.compile(r"(-?[0-9]{1,4})(%?)")


class Budget:
    """Counts the parts of a query; ApiError 400 once there are too many. `on_limit` is called for
    patterns beyond their limit."""

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
        """Count the characters of a string, and return it."""
        self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            accepted = f"a query of at most {MOST_CHARACTERS} characters"
            raise error("api.assert.invalid_argument", "body", accepted)
        return text

    def pattern(self, items: Sequence[Item]) -> None:
        """Count a pattern that strings are matched with."""
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
        """Count and return the name of a field."""
        if not isinstance(name, str) or not name or len(name) > MOST_FIELD_CHARACTERS:
            limit = f"the name of a field must have 1 to {MOST_FIELD_CHARACTERS} characters"
            raise malformed(limit)
        further = name.count(".")
        if further >= MOST_NAMES:
            raise malformed(f"the path of a field must have at most {MOST_NAMES} names")
        self.count(further)
        return self.weigh(name)

    def scalar(self, given: object) -> str:
        """Count and return a value as a string, as in JSON."""
        if not isinstance(given, str | int | float):
            raise malformed("a value must be a string, a number, true or false")
        return self.weigh(as_text(given))

    def bound(self, given: object) -> Bound:
        """Count and return a limit of a range."""
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise malformed("a limit of a range must be a number or a string")
        if isinstance(given, str):
            self.weigh(given)
        return given


def as_text(value: str | int | float | bool) -> str:
    """Return a value as in JSON, a string without its quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def object_of(name: str, given: object) -> dict[str, object]:
    """Return an object; ApiError 400 for any other type."""
    if not isinstance(given, dict):
        raise malformed(f"{name} must be an object")
    return given


def array_of(name: str, given: object) -> list[object]:
    """Return an array; ApiError 400 for any other type."""
    if not isinstance(given, list):
        raise malformed(f"{name} must be an array")
    return given


def text_of(name: str, given: object) -> str:
    """Return a string; ApiError 400 for any other type."""
    if not isinstance(given, str):
        raise malformed(f"{name} must be a string")
    return given


def only_member(name: str, given: object) -> tuple[str, object]:
    """Return the one field a clause is about, with its value."""
    members = object_of(name, given).items()
    fields = [member for member in members if member[0] not in _NO_MATTER]
    if len(fields) != 1:
        raise malformed(f"{name} must have exactly one field")
    return fields[0]


def options_of(name: str, given: object, accepted: tuple[str, ...]) -> dict[str, object]:
    """Return an object without other members than are accepted."""
    options = object_of(name, given)
    for option in options:
        if option not in accepted and option not in _NO_MATTER:
            raise malformed(f"{name} has an unknown option {option}")
    return options


def option_of(name: str, given: object, *options: str) -> object:
    """Return a value given alone, or the first of these members of an object of options."""
    if not isinstance(given, dict):
        return given
    found = options_of(name, given, options)
    return next((found[option] for option in options if option in found), None)


def read_least(given: object, parts: int, default: int) -> int:
    """Return how many of some clauses must match: a number, or a string such as "2", "-1" or "75%";
    a negative one counts those that need not."""
    if given is None:
        return default
    is_number = isinstance(given, int) and not isinstance(given, bool)
    found = _SHARE.fullmatch(str(given)) if is_number or isinstance(given, str) else None
    if found is None:
        raise malformed('minimum_should_match must be a number, or a string such as "75%"')
    count = int(found[1])
    wanted = parts * count / 100 if found[2] else count
    return max(parts + int(wanted), 0) if wanted < 0 else int(wanted)


def malformed(reason: str) -> ApiError:
    """Return the error for a query that is not valid."""
    return error("services.storage.unexpected_bad_request", reason)
