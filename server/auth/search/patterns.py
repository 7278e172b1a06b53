"""Patterns in queries, parsed for the automata that match them: wildcards, and the part of regular
expressions that needs no backtracking."""

from dataclasses import replace

from server.auth.search.terms import malformed
from server.storage.automata import MANY, MOST_ITEMS, ONE, Item, Times, literal

Pattern = tuple[Item, ...]

_REPEATED = {"?": Times.MAYBE, "*": Times.ANY}
_UNSUPPORTED = frozenset('(){}~<>&@#"^$')


def read_wildcard(written: str) -> Pattern:
    """Parse a pattern in which `*` is any characters, `?` is one, and a backslash escapes the next
    one."""
    items: list[Item] = []
    characters = iter(written)
    for character in characters:
        if character == "*":
            if not items or items[-1] is not MANY:
                items.append(MANY)
        elif character == "?":
            items.append(ONE)
        else:
            items.append(literal(next(characters, "\\") if character == "\\" else character))
    return _checked(items)


def plain_text(pattern: Pattern) -> str | None:
    """Return the one string that matches this pattern; None if others match it too."""
    if any(item.times is not Times.ONCE or item.is_negated for item in pattern):
        return None
    return "".join(item.ranges[0][0] for item in pattern)


def read_expressions(written: str) -> list[Pattern]:
    """Parse a regular expression into its alternatives. Literals, `.`, classes, `*`, `+`, `?`, `|`
    and backslashes are supported; 400 for anything else."""
    return _Expression(written).alternatives()


class _Expression:
    """A regular expression that is parsed from left to right."""

    def __init__(self, written: str) -> None:
        self._characters = iter(written)

    def alternatives(self) -> list[Pattern]:
        """Return the patterns between the bars."""
        done: list[Pattern] = []
        items: list[Item] = []
        for character in self._characters:
            if character == "|":
                done.append(_checked(items))
                items = []
            elif character in "*+?":
                _repeat(items, character)
            elif character in _UNSUPPORTED:
                raise malformed(f"regexp does not support {character}; escape it with a backslash")
            else:
                items.append(self._item(character))
        return [*done, _checked(items)]

    def _item(self, character: str) -> Item:
        if character == ".":
            return ONE
        if character == "[":
            return self._class()
        return literal(self._escaped() if character == "\\" else character)

    def _class(self) -> Item:
        """Parse a class, after its opening bracket."""
        members: list[str] = []
        ranges: list[tuple[str, str]] = []
        is_negated, is_range = False, False
        for at, character in enumerate(self._characters):
            if character == "]":
                if is_range:
                    members.append("-")
                if not members and not ranges:
                    break
                ranges += [(member, member) for member in members]
                return Item(tuple(ranges), is_negated)
            if character == "^" and at == 0:
                is_negated = True
            elif character == "-" and members and not is_range:
                is_range = True
            else:
                last = self._escaped() if character == "\\" else character
                if is_range:
                    first = members.pop()
                    if first > last:
                        raise malformed("regexp contains a range whose end is before its start")
                    ranges.append((first, last))
                else:
                    members.append(last)
                is_range = False
        raise malformed("regexp contains a class that is empty or not closed")

    def _escaped(self) -> str:
        character = next(self._characters, None)
        if character is None or (character.isascii() and character.isalnum()):
            raise malformed("regexp contains an unsupported escape")
        return character


def _repeat(items: list[Item], sign: str) -> None:
    """Let the last item be repeated."""
    if not items or items[-1].times is not Times.ONCE:
        raise malformed(f"regexp contains a {sign} with nothing before it")
    if sign == "+":
        items.append(replace(items[-1], times=Times.ANY))
    else:
        items[-1] = replace(items[-1], times=_REPEATED[sign])


def _checked(items: list[Item]) -> Pattern:
    if len(items) > MOST_ITEMS:
        raise malformed(f"a pattern must have at most {MOST_ITEMS} characters")
    return tuple(items)
