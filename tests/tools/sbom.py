"""Software bill of materials: the product and all its dependencies, as installed.

`python -m tests.tools.sbom` prints it as CycloneDX 1.6. It is collected from pyproject.toml, not
from all installed packages, so that dependencies of tests and benchmarks are not listed; the
format's own library writes it.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = "manykeys"
FOR_DEVELOPERS = frozenset({"test", "check", "bench", "conformance", "fuzz"})
"""Extras that are not part of the product."""
_LICENSE = "License :: "
_MOST_LICENSE_CHARACTERS = 80  # some write the whole text where its name should be


@dataclass(frozen=True, slots=True)
class Part:
    """An installed package and the names of its dependencies."""

    name: str
    version: str
    licence: str
    needs: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Parts:
    """The product, its dependencies by name, and those that are not installed."""

    product: Part
    parts: dict[str, Part]
    missing: set[str]


def project() -> dict[str, object]:
    """Return the table `project` of pyproject.toml."""
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def extras() -> dict[str, list[str]]:
    """Return the requirements of the product's extras, by name."""
    declared: dict[str, list[str]] = project()["optional-dependencies"]  # type: ignore[assignment]
    return {name: needed for name, needed in declared.items() if name not in FOR_DEVELOPERS}


def find() -> Parts:
    """Find all dependencies, from the declared ones through the installed packages."""
    declared = project()
    product = Part(OURS, str(declared["version"]), str(declared["license"]))
    wanted = [*declared["dependencies"], *(one for more in extras().values() for one in more)]  # type: ignore[misc]
    parts: dict[str, Part] = {}
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(product, Requirement(text)) for text in wanted]
    while waiting:
        asking, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == OURS or not _counts(requirement, ""):
            continue  # one extra of ours that needs another, or nothing on this system
        try:
            found = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        asking.needs.add(name)
        part = parts.setdefault(name, Part(name, found.version, licence_of(found)))
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                needed = map(Requirement, found.requires or ())
                waiting += [(part, one) for one in needed if _counts(one, extra)]
    return Parts(product, parts, missing)


def licence_of(found: Distribution) -> str:
    """Return a package's declared licence: an expression, classifiers, or text; "" without one."""
    told = found.metadata.get("License-Expression")
    if told:
        return str(told)
    classifiers: Iterable[str] = found.metadata.get_all("Classifier") or ()
    named = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith(_LICENSE)]
    words = str(found.metadata.get("License") or "").strip()
    is_name = len(words) <= _MOST_LICENSE_CHARACTERS and "\n" not in words and words != "UNKNOWN"
    return words if words and is_name else " or ".join(named)


def write(parts: Parts) -> str:
    """Return the list as CycloneDX 1.6 in JSON."""
    bom = Bom()
    bom.metadata.component = _component(parts.product, ComponentType.APPLICATION)
    listed = {name: _component(part) for name, part in sorted(parts.parts.items())}
    for component in listed.values():
        bom.components.add(component)
    for part in (parts.product, *parts.parts.values()):
        one = listed.get(part.name, bom.metadata.component)
        bom.register_dependency(one, [listed[name] for name in sorted(part.needs)])
    outputter = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return str(outputter.output_as_string(indent=2))


def _counts(requirement: Requirement, extra: str) -> bool:
    """Return whether a requirement applies on this system, for an extra or without one ("")."""
    marker = requirement.marker
    if marker is None:
        return extra == ""
    is_of_extra = re.search(r"\bextra\b", str(marker)) is not None
    return is_of_extra == bool(extra) and marker.evaluate({"extra": extra})


def _component(part: Part, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    return Component(
        type=kind,
        name=part.name,
        version=part.version,
        bom_ref=f"{part.name}=={part.version}",
        purl=PackageURL("pypi", name=part.name, version=part.version),
        licenses=[LicenseFactory().make_from_string(part.licence)] if part.licence else (),
    )


if __name__ == "__main__":
    found_here = find()
    print(write(found_here))
    if found_here.missing:
        sys.exit(f"not installed here, so not listed: {', '.join(sorted(found_here.missing))}")
