"""What may be done to a response of SAML before or after it is signed."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lxml import etree

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
DS = "http://www.w3.org/2000/09/xmldsig#"


@dataclass(frozen=True, slots=True)
class Bad:
    """What is done to a response, before or after it is signed, and why it is refused then."""

    reason: str
    changes: Callable[[Any], None] = lambda response: None
    tampers: Callable[[str], str] = lambda text: text
    more: tuple[tuple[str, object], ...] = ()


def time(**ago: float) -> str:
    """Give a time some time ago; of a run of tests that takes its time."""
    return f"{datetime.now(UTC) - timedelta(**ago):%Y-%m-%dT%H:%M:%SZ}"


def confirmation(**given: str | None) -> Callable[[Any], None]:
    """Change who may bring it, where, when and for what."""

    def change(response: Any) -> None:
        for one in response.assertion.subject.subject_confirmation:
            for name, value in given.items():
                setattr(one.subject_confirmation_data, name, value)

    return change


def on(path: str, value: object) -> Callable[[Any], None]:
    """Change what is at a path of a response."""

    def change(response: Any) -> None:
        *above, last = path.split(".")
        target = response
        for name in above:
            target = target[int(name)] if name.isdecimal() else getattr(target, name)
        setattr(target, last, value)

    return change


def both(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make several changes."""

    def change(response: Any) -> None:
        for one in changes:
            one(response)

    return change


def swap(old: str, new: str) -> Callable[[str], str]:
    """Put a text in the place of another one, which is there."""

    def tamper(text: str) -> str:
        assert re.search(old, text), text
        return re.sub(old, lambda _: new, text)

    return tamper


def before(more: str) -> Callable[[str], str]:
    """Put something before the root, in the place of the declaration."""
    return lambda text: more + text.partition("?>")[2]


def wrapped(form: str) -> Callable[[str], str]:
    """Have the signature verify one assertion, and another one read."""

    def tamper(text: str) -> str:
        root = etree.fromstring(text.encode())
        (good,) = root.findall(f"{{{SAML}}}Assertion")
        evil = copy.deepcopy(good)
        (name,) = evil.iter(f"{{{SAML}}}NameID")
        name.text = "2f6c-bob"
        (signature,) = evil.findall(f"{{{DS}}}Signature")
        if form == "same id":
            root.insert(root.index(good), evil)
            evil.remove(signature)
            return etree.tostring(root).decode()
        evil.set("ID", "id-of-another")
        if form == "keeps the signature":  # which names the good one
            hidden = etree.SubElement(signature, f"{{{DS}}}Object")
        elif form in ("in extensions", "renamed", "by xml:id"):
            hidden = etree.Element(f"{{{SAMLP}}}Extensions")
            root.insert(1, hidden)
        elif form == "beside":
            hidden = root
        else:
            hidden = evil.find(f"{{{SAML}}}Subject")
        if form != "keeps the signature":
            evil.remove(signature)
        root.replace(good, evil)
        if form == "renamed":
            good.tag = f"{{{SAML}}}Advice"
        if form == "by xml:id":
            good.tag = f"{{{SAML}}}Advice"
            good.set("{http://www.w3.org/XML/1998/namespace}id", "id-of-another")
        hidden.append(good)
        return etree.tostring(root).decode()

    return tamper


def with_prefixes(count: int) -> Callable[[str], str]:
    """Have the signature name namespaces, each of which is looked for at each element."""
    algorithm = "http://www.w3.org/2001/10/xml-exc-c14n#"
    prefixes = " ".join(f"p{x}" for x in range(count))
    named = f'<e:InclusiveNamespaces xmlns:e="{algorithm}" PrefixList="{prefixes}"/>'
    transform = f'<ns2:Transform Algorithm="{algorithm}"'
    return swap(f"{transform}/>", f"{transform}>{named}</ns2:Transform>")


def deep(text: str) -> str:
    """Nest elements deeper than anybody needs."""
    return "<a>" * 3000 + "</a>" * 3000


def bomb() -> str:
    """Give a document type whose entities grow beyond any memory."""
    entities = ['<!ENTITY a0 "aaaaaaaaaa">']
    entities += [f'<!ENTITY a{x} "{f"&a{x - 1};" * 10}">' for x in range(1, 12)]
    return f"<!DOCTYPE r [{''.join(entities)}]>"


def unsigned_with(**more: object) -> tuple[tuple[str, object], ...]:
    """Have the assertion go unsigned."""
    return (("signs_assertion", False), *more.items())
