"""The simple form of query_string (contract/03 §7.7): words, "phrases" and wildcards, `field:`
before them, AND, OR and NOT between them."""

import re
from dataclasses import dataclass, replace

from server.auth.search.terms import malformed

_PIECE = re.compile(r'([+-]?)(?:((?:[^\s":\\()\[\]{}]|\\.)+):)?(?:"([^"]*)"|([^\s"]+))(?=\s|$)')
_RESERVED = frozenset("()[]{}^~/<>=!&|")


@dataclass(frozen=True, slots=True)
class Term:
    """One word, phrase or wildcard; without a field it may be in any. `is_needed` ones must match,
    of `is_refused` ones none may."""

    text: str
    field: str = ""
    is_phrase: bool = False
    is_refused: bool = False
    is_needed: bool = False


def read_terms(written: str, *, is_all: bool) -> tuple[list[Term], bool]:
    """Read the terms, and whether all of them must match: as AND or OR between them say, else as
    given. 400 for both of them in one, and for what else the language has."""
    terms: list[Term] = []
    operators: set[str] = set()
    is_refused, at = False, 0
    while at < len(written):
        if written[at].isspace():
            at += 1
            continue
        piece = _PIECE.match(written, at)
        if piece is None:
            raise malformed(f"query_string can't be read from {written[at : at + 20]!r} on")
        at = piece.end()
        word = piece[0]
        if word in ("AND", "OR"):
            operators.add(word)
        elif word == "NOT":
            is_refused = True
        else:
            terms.append(_term(piece, is_refused))
            is_refused = False
    if len(operators) > 1:
        raise malformed("query_string can't have both AND and OR")
    return terms, "AND" in operators or (is_all and not operators)


def _term(piece: re.Match[str], is_refused: bool) -> Term:
    sign, field, phrase, word = piece.groups()
    is_refused = is_refused or sign == "-"
    term = Term(phrase or "", field or "", True, is_refused, is_refused or sign == "+")
    if phrase is not None:
        return term
    if set(word) & _RESERVED:
        raise malformed(f"query_string does not know what {word!r} means; use a bool clause")
    return replace(term, text=word, is_phrase=False)
