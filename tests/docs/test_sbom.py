"""What the product is made of, and its known faults (security check X7)."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools import sbom as parts
from tests.tools import vulnerabilities as audit

FAULTY, ALIAS = "CVE-0000-0001", "TEST-1"
ORJSON = f"orjson=={version('orjson')}"


class Advisories(ThreadingHTTPServer):
    """A service that knows a fault of orjson, mended in the versions `mended`."""

    mended: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """How pip-audit is told to ask here."""
        return ["-s", "osv", "--osv-url", f"http://127.0.0.1:{self.server_port}/"]


class Answer(BaseHTTPRequestHandler):
    """Answers in the form of the advisories' database."""

    server: Advisories

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found: dict[str, object] = {}
        if asked["package"]["name"] == "orjson":
            events = [{"introduced": "0"}, *({"fixed": one} for one in self.server.mended)]
            where = {
                "package": asked["package"],
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
            }
            found["vulns"] = [{"id": FAULTY, "aliases": [ALIAS], "affected": [where]}]
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with Advisories(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_every_part_is_listed() -> None:
    """With its version and its licence, and with what needs it."""
    found = parts.find()
    told = parts.write(found)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(told) is None
    bom = json.loads(told)
    listed = {one["name"]: one for one in bom["components"]}
    declared = parts.project()["dependencies"]
    for text in [*declared, *(one for needed in parts.extras().values() for one in needed)]:  # type: ignore[misc]
        name = canonicalize_name(Requirement(text).name)
        assert name in listed or name in found.missing or name == parts.OURS, name
    for name, one in listed.items():
        assert one["version"] == version(name)
        assert one["purl"] == f"pkg:pypi/{name}@{one['version']}"
        (licence,) = one["licenses"]
        assert licence.get("expression") or set(licence["license"].values()) - {"UNKNOWN", ""}, name
    needs = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    assert f"cffi=={version('cffi')}" in needs[f"cryptography=={version('cryptography')}"]
    assert bom["metadata"]["component"]["name"] == parts.OURS


def test_tools_are_no_parts() -> None:
    """Nor what only they need."""
    listed = parts.find().parts.keys()
    assert not listed & {"pytest", "ruff", "mypy", "pip-audit", "hypothesis", "flask"}
    assert {"pyjwt", "cryptography", "lxml", "pyotp"} <= listed
    known = parts.FOR_DEVELOPERS | parts.extras().keys()
    assert known == parts.project()["optional-dependencies"].keys()  # type: ignore[attr-defined]


def test_a_fault_that_is_mended_stops_ci(
    advisories: Advisories, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real program asks of every part that is installed here."""
    advisories.mended = ("999.1",)
    assert audit.main(advisories.options) == 1
    told = capsys.readouterr().out
    assert f"FAULT orjson {version('orjson')}: {FAULTY} = {ALIAS}: fixed in 999.1" in told
    assert told.count("FAULT") == 1


def test_a_fault_that_nothing_mends_is_only_told(advisories: Advisories) -> None:
    findings = audit.ask([ORJSON, f"idna=={version('idna')}"], advisories.options)
    assert (findings.looked_up, findings.faults) == (2, [])
    assert findings.others == [f"orjson {version('orjson')}: {FAULTY} = {ALIAS}: no fix yet"]


@pytest.mark.parametrize("name", [FAULTY, ALIAS])
def test_a_fault_can_be_ignored_for_a_reason(name: str) -> None:
    vulns = [{"id": FAULTY, "aliases": [ALIAS], "fix_versions": ["2"]}]
    answers = [{"name": "thing", "version": "1", "vulns": vulns}]
    assert len(audit.read(answers, {}).faults) == 1
    findings = audit.read(answers, {name: "never called"})
    assert findings.faults == []
    assert findings.others == [f"thing 1: {FAULTY} = {ALIAS}: ignored, never called"]


def test_every_ignored_fault_has_its_reason() -> None:
    assert all(len(reason) > 20 for reason in audit.IGNORED.values())
    page = (parts.ROOT / "docs/supply.md").read_text()
    assert [name for name in audit.IGNORED if name not in page] == []


def test_a_service_that_is_not_there_stops_nothing(
    advisories: Advisories, capsys: pytest.CaptureFixture[str]
) -> None:
    """But nobody takes silence for an audit."""
    options = advisories.options
    options[-1] = "http://127.0.0.1:1/"
    assert audit.main(options) == 0
    assert "NOT AUDITED: known vulnerabilities could not be looked up:" in capsys.readouterr().out


def test_a_service_that_does_not_answer_is_not_waited_for(advisories: Advisories) -> None:
    findings = audit.ask([ORJSON], advisories.options, most_s=0.001)
    assert findings.trouble == "no answer within 0.001 s"


def test_parts_the_service_does_not_know_are_named() -> None:
    known = {"name": "one", "version": "1", "vulns": []}
    findings = audit.read([known, {"name": "other", "skip_reason": "not found"}])
    assert audit.tell(findings).splitlines() == [
        "audited: 1 packages, 0 to be updated",
        "NOT AUDITED, unknown to the service: other",
    ]
    findings = audit.read([{"name": "other", "skip_reason": "not found"}])
    assert audit.tell(findings).startswith(
        "NOT AUDITED: known vulnerabilities could not be looked up"
    )
