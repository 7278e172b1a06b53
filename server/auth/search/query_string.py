"""Parser of simple query_string clauses: words, "phrases" and wildcards, with `field:` before them
and AND, OR and NOT between them."""

import re
from dataclasses import dataclass, replace

from server.auth.search.terms import malformed

_PIECE = re.compile(r'([+-]?)(?:((?:[^\s":\\()\[\]{}]|\\.)+):)?(?:"([^"]*)"|([^\s"]+))(?=\s|$)')
_RESERVED = frozenset("()[]{}^~/<>=!&|")


@dataclass(frozen=True, slots=True)
class Term:
    """One word, phrase or wildcard; without a field any field matches. `is_needed` ones must match,
    `is_refused` ones must not."""

    text: str
    field: str = ""
    is_phrase: bool = False
    is_refused: bool = False
    is_needed: bool = False


def read_terms(written: str, *, is_all: bool) -> tuple[list[Term], bool]:
    """Return the terms, and whether all of them must match: as AND or OR between them say, else as
    given. 400 for both of them in one string, and for unsupported syntax."""
    terms: list[Term] = []
    operators: set[str] = set()
    is_refused, at = False, 0
    while at < len(written):
        if written[at].isspace():
            at += 1
            continue
        piece = _PIECE.match(written, at)
        if piece is None:
            raise malformed(f"query_string cannot be parsed from {written[at : at + 20]!r} on")
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
        raise malformed("query_string cannot contain both AND and OR")
    return terms, "AND" in operators or (is_all and not operators)


def _term(piece: re.Match[str], is_refused: bool) -> Term:
    sign, field, phrase, word = piece.groups()
    is_refused = is_refused or sign == "-"
    term = Term(phrase or "", field or "", True, is_refused, is_refused or sign == "+")
    if phrase is not None:
        return term
    if set(word) & _RESERVED:
        raise malformed(f"query_string does not support {word!r}; use a bool clause")
    return replace(term, text=word, is_phrase=False)
