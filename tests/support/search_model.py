"""What a query means, said as simply as can be: the model that searches in SQL are held against."""

from collections.abc import Iterator, Mapping

from server.storage.automata import Item, Times
from server.storage.query import (
    AllOf,
    Bound,
    Everything,
    Fits,
    Has,
    Holds,
    InRange,
    InWords,
    IsIn,
    Not,
    Position,
    Query,
    SomeOf,
    number_of,
    words_of,
)

Value = str | int | float


def matches(query: Query, document: Mapping[str, object]) -> bool:
    """Tell whether a document is one that a query asks for."""
    match query:
        case Everything():
            return True
        case AllOf(parts):
            return all(matches(part, document) for part in parts)
        case SomeOf(parts, least):
            return sum(matches(part, document) for part in parts) >= least
        case Not(part):
            return not matches(part, document)
        case Has(field):
            return any(held != {} and held is not None for held in found_in(document, field))
        case _:
            return any(is_met(query, value) for value in values_of(document, query.field))


def found_in(document: Mapping[str, object], field: str) -> Iterator[object]:
    """Give what a path leads to, arrays opened at each of its names."""
    places: list[object] = [document]
    for name in field.split("."):
        held = [place[name] for place in places if isinstance(place, dict) and name in place]
        places = []
        for value in held:
            places += value if isinstance(value, list) else [value]
    yield from (place for place in places if not isinstance(place, list))


def values_of(document: Mapping[str, object], field: str) -> list[Value]:
    """Give the values of a field."""
    values: list[Value] = []
    for held in found_in(document, field):
        if isinstance(held, bool):
            values.append("true" if held else "false")
        elif isinstance(held, int) and abs(held) >= 2**63:
            values.append(float(held))
        elif isinstance(held, str | int | float):
            values.append(held)
    return values


def is_met(query: Query, value: Value) -> bool:
    """Tell whether one value is what a leaf asks for."""
    match query:
        case IsIn(_, wanted):
            if isinstance(value, str):
                return value in wanted
            return any(number_of(text) == value for text in wanted)
        case InRange(_, gt, gte, lt, lte):
            bounds = {">": gt, ">=": gte, "<": lt, "<=": lte}
            return all(
                bound is None or stands(value, sign, bound) for sign, bound in bounds.items()
            )
    if not isinstance(value, str):
        return False
    match query:
        case Holds(_, text, Position.START):
            return value.startswith(text)
        case Holds(_, text, Position.END):
            return value.endswith(text)
        case Holds(_, text, Position.ANYWHERE):
            return text in value
        case InWords(_, words, last_is_start):
            return has_row(words_of(value), list(words), last_is_start)
        case Fits(_, pattern, by_word):
            texts = [value, *words_of(value)] if by_word else [value]
            return any(fits(pattern, text) for text in texts)
    raise AssertionError(query)


def stands(value: Value, sign: str, bound: Bound) -> bool:
    """Tell whether a value stands in a relation to a bound."""
    if isinstance(value, str):
        if not isinstance(bound, str):
            return False
        pair: tuple = (value, bound)
    else:
        pair = (value, number_of(bound))
        if pair[1] is None:
            return False
    left, right = pair
    return {
        ">": left > right,
        ">=": left >= right,
        "<": left < right,
        "<=": left <= right,
    }[sign]


def has_row(words: list[str], wanted: list[str], last_is_start: bool) -> bool:
    """Tell whether words are somewhere in a row."""
    for at in range(len(words) - len(wanted) + 1):
        row = words[at : at + len(wanted)]
        is_end = row[-1:] == wanted[-1:]
        if last_is_start and row:
            is_end = row[-1].startswith(wanted[-1])
        if wanted and row[:-1] == wanted[:-1] and is_end:
            return True
    return False


def fits(pattern: tuple[Item, ...], text: str) -> bool:
    """Tell whether a text has a pattern, by trying every way."""
    if not pattern:
        return not text
    item, rest = pattern[0], pattern[1:]
    is_one = bool(text) and item.has(text[0])
    if item.times is Times.ONCE:
        return is_one and fits(rest, text[1:])
    if item.times is Times.MAYBE:
        return fits(rest, text) or (is_one and fits(rest, text[1:]))
    return fits(rest, text) or (is_one and fits(pattern, text[1:]))
