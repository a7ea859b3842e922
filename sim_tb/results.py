"""What verification found: checks, one report a unit, the line it prints, and JUnit XML."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from sw.run_dir import write_text

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, and what came of it."""

    name: str
    status: Status
    message: str = ""
    """Why it failed or was skipped."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitReport:
    """What verification found about one unit; a figure is 0 where its check did not run."""

    site: str
    name: str
    lanes: int
    latency_cycles: int
    codes_checked: int
    """Input codes that every lane was given."""
    mismatches: int
    """Codes for which the hardware differs from the interpreter or the PyTorch module."""
    stall_beats: int
    replay_beats: int
    float_path_ties: int
    """Codes at which the float path may differ, because the exact value is a tie."""
    float_path_differences: int
    """Codes at which it differs without such an excuse."""
    seconds: float
    checks: tuple[Check, ...]
    max_ulp: int | None = None
    """Largest distance of the stored table from the correctly rounded formula, measured."""
    codes_compared: int = 0
    """Codes at which it was measured."""

    @property
    def passed(self) -> bool:
        return all(check.status != "failed" for check in self.checks)

    def failures(self) -> list[Check]:
        return [check for check in self.checks if check.status == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        return dataclasses.asdict(self) | {"passed": self.passed}

    def line(self, width: int = 0) -> str:
        """The summary line of the unit, its name padded to ``width``."""
        status = {check.name: check.status for check in self.checks}
        parts = [
            f"{self.site:<{width}}",
            f"codes checked {self.codes_checked}",
            f"mismatches {self.mismatches}",
            _counted("stalls", self.stall_beats, status.get("random_stalls")),
            _counted("replay", self.replay_beats, status.get("replay")),
            f"latency {self.latency_cycles}{'' if status.get('stated_latency') == 'passed' else ' FAILED'}",
        ]
        if status.get("float_path") == "skipped":
            parts.append("float path skipped")
        else:
            ties = f"{self.float_path_ties} {'tie' if self.float_path_ties == 1 else 'ties'}"
            parts.append(f"float path {self.float_path_differences} differences ({ties})")
        return "  ".join(parts) + ("" if self.passed else "  FAILED")


def _counted(what: str, beats: int, status: str | None) -> str:
    if status == "skipped":
        return f"{what} skipped"
    return f"{what} {beats} beats {'ok' if status == 'passed' else 'FAILED'}"


def read_cocotb_results(path: Path) -> list[Check]:
    """The tests in the JUnit XML that cocotb wrote; none where the simulation did not get so far."""
    if not path.exists():
        return []
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError:
        return []
    return [_check_of(case) for case in root.iter("testcase")]


def _check_of(case: ElementTree.Element) -> Check:
    status: Status = "passed"
    message = ""
    for tag in ("failure", "error"):
        found = case.find(tag)
        if found is not None:
            status = "failed"
            message = " ".join((found.get("message") or found.text or "no reason given").split())
    return Check(case.get("name", ""), status, message, float(case.get("time", 0)))


def write_junit(path: Path, reports: Sequence[UnitReport]) -> None:
    """One JUnit XML file: a test suite a unit, a test case a check."""
    root = ElementTree.Element("testsuites", name="normforge verify")
    for report in reports:
        counts: dict[str, str] = {
            "tests": str(len(report.checks)),
            "failures": str(len(report.failures())),
            "errors": "0",
            "skipped": str(sum(check.status == "skipped" for check in report.checks)),
            "time": f"{report.seconds:.3f}",
        }
        suite = ElementTree.SubElement(root, "testsuite", {"name": report.site} | counts)
        for check in report.checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname=report.site, name=check.name, time=f"{check.seconds:.3f}"
            )
            if check.status != "passed":
                tag = "failure" if check.status == "failed" else "skipped"
                ElementTree.SubElement(case, tag, message=check.message)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')
