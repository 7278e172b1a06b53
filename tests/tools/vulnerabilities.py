"""Check of all dependencies for known vulnerabilities, in PyPI's security advisories.

`python -m tests.tools.vulnerabilities` exits with 1 if a dependency has a known vulnerability
that a later version fixes. What cannot be looked up, because the service does not respond or does
not know a package, is printed and is not a failure: a network that is down must not stop
development. It runs pip-audit, whose options may follow.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.tools import sbom as parts

MOST_S = 30
"""Time for all look-ups together."""
_ANSWER_S = 5
IGNORED: Mapping[str, str] = MappingProxyType({})
"""Ignored vulnerabilities by id or alias, each with the reason why it does no harm here and an end
date."""


@dataclass(slots=True)
class Findings:
    """Results of an audit, as lines to print: `faults` fail CI, nothing else does. `looked_up` is
    the number of packages that the service knew."""

    looked_up: int = 0
    faults: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    trouble: str = ""


def ask(pinned: Sequence[str], options: Sequence[str] = (), most_s: float = MOST_S) -> Findings:
    """Look up packages, each as `name==version`."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pinned))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "-r", file.name, "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--timeout", str(_ANSWER_S)]
        try:
            ended = subprocess.run(
                [*command, *options], capture_output=True, text=True, timeout=most_s, check=False
            )
        except subprocess.TimeoutExpired:
            return Findings(trouble=f"no answer within {most_s:g} s")
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        words = ended.stderr.strip().splitlines() or ["it said nothing"]
        return Findings(trouble=words[-1])
    return read(found["dependencies"])


def read(answers: Sequence[Mapping[str, object]], ignored: Mapping[str, str] = IGNORED) -> Findings:
    """Read what pip-audit reports of each package."""
    findings = Findings()
    for one in answers:
        if "skip_reason" in one:
            findings.unknown.append(str(one["name"]))
            continue
        findings.looked_up += 1
        faults: list[dict[str, list[str]]] = one["vulns"]  # type: ignore[assignment]
        for fault in faults:
            names = [str(fault["id"]), *fault["aliases"]]
            line = f"{one['name']} {one['version']}: {' = '.join(names)}"
            reasons = [ignored[name] for name in names if name in ignored]
            if reasons:
                findings.others.append(f"{line}: ignored, {reasons[0]}")
            elif not fault["fix_versions"]:
                findings.others.append(f"{line}: no fix yet")
            else:
                findings.faults.append(f"{line}: fixed in {', '.join(fault['fix_versions'])}")
    return findings


def tell(findings: Findings) -> str:
    """Return the findings as text."""
    if not findings.looked_up:
        why = findings.trouble or "the service knows none of these versions"
        return f"NOT AUDITED: known vulnerabilities could not be looked up: {why}"
    lines = [f"audited: {findings.looked_up} packages, {len(findings.faults)} to be updated"]
    lines += [f"FAULT {line}" for line in findings.faults]
    lines += [f"known {line}" for line in findings.others]
    if findings.unknown:
        lines.append(f"NOT AUDITED, unknown to the service: {', '.join(findings.unknown)}")
    return "\n".join(lines)


def main(options: Sequence[str]) -> int:
    """Audit the installed packages and return the exit code."""
    found = parts.find()
    if found.missing:
        print(f"NOT AUDITED, not installed here: {', '.join(sorted(found.missing))}")
    findings = ask([f"{one.name}=={one.version}" for one in found.parts.values()], options)
    print(tell(findings))
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
