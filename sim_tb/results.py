"""What verification found: checks, one report a unit, the line it prints, and JUnit XML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal
from xml.etree import ElementTree

from sw.files import write_text

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, and what came of it."""

    name: str
    status: Status
    message: str = ""
    """Why it failed or was skipped."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What verification found about a unit or a norm; a figure is 0 where its check did not run."""

    things: ClassVar[str]
    """What there are several of."""
    checked_things: ClassVar[str]
    """What of each is checked."""
    site: str
    name: str
    lanes: int
    latency_cycles: int
    mismatches: int
    """Codes for which the hardware differs from a model of it; of a norm, rows."""
    stall_beats: int
    replay_beats: int
    seconds: float
    checks: tuple[Check, ...]
    moved: dict[str, dict[str, int]] = field(default_factory=dict)
    """By simulated test ``beats_in beats_out bytes_in bytes_out``, counted at the ports, and ``cycles``, from
    the one in which the first beat was accepted to the one in which the last left."""

    @property
    def num_checked(self) -> int:
        """How many ``checked_things``."""
        raise NotImplementedError

    @property
    def passed(self) -> bool:
        return all(check.status != "failed" for check in self.checks)

    def failures(self) -> list[Check]:
        return [check for check in self.checks if check.status == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        return dataclasses.asdict(self) | {"passed": self.passed}

    def line(self, width: int = 0) -> str:
        """The summary line, the name padded to ``width``."""
        parts = [f"{self.site:<{width}}", *self._parts({check.name: check.status for check in self.checks})]
        return "  ".join(parts) + ("" if self.passed else "  FAILED")

    def _parts(self, status: Mapping[str, Status]) -> list[str]:
        """What the line says, by the status of every check."""
        return [
            f"mismatches {self.mismatches}",
            _counted("stalls", self.stall_beats, status.get("random_stalls")),
            _counted("replay", self.replay_beats, status.get("replay")),
            f"latency {self.latency_cycles}{'' if status.get('stated_latency') == 'passed' else ' FAILED'}",
        ]


@dataclass(frozen=True, kw_only=True)
class UnitReport(Report):
    """What verification found about one unit."""

    things = "units"
    checked_things = "codes"
    codes_checked: int
    """Input codes that every lane was given."""
    float_path_ties: int
    """Codes at which the float path may differ, because the exact value is a tie."""
    float_path_differences: int
    """Codes at which it differs without such an excuse."""
    max_ulp: int | None = None
    """Largest distance of the stored table from the correctly rounded formula, measured."""
    codes_compared: int = 0
    """Codes at which it was measured."""

    @property
    def num_checked(self) -> int:
        return self.codes_checked

    def _parts(self, status: Mapping[str, Status]) -> list[str]:
        parts = [f"codes checked {self.codes_checked}", *super()._parts(status)]
        if status.get("float_path") == "skipped":
            return [*parts, "float path skipped"]
        ties = f"{self.float_path_ties} {'tie' if self.float_path_ties == 1 else 'ties'}"
        return [*parts, f"float path {self.float_path_differences} differences ({ties})"]


@dataclass(frozen=True, kw_only=True)
class NormReport(Report):
    """What verification found about one norm."""

    things = "norms"
    checked_things = "rows"
    channels: int
    rows_checked: int
    interval_cycles: int
    """From a row to the next."""
    error_lsb: float
    """Largest error of the checked rows against the norm in float64, in steps of the output."""
    bound_lsb: float
    """What no row's error exceeds."""

    @property
    def num_checked(self) -> int:
        return self.rows_checked

    def _parts(self, status: Mapping[str, Status]) -> list[str]:
        error = f"error against float64 {self.error_lsb:.3f} LSB (bound {self.bound_lsb:.3f})"
        replayed = [f"replay took {self.moved['replay']['cycles']} cycles"] if "replay" in self.moved else []
        return [
            f"rows checked {self.rows_checked} ({self.channels} channels)",
            *super()._parts(status),
            f"interval {self.interval_cycles} cycles a row",
            *replayed,
            f"{error}{'' if status.get('error_bound') == 'passed' else ' FAILED'}",
        ]


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
    for tag in ("failure", "error", "skipped"):  # a test with nothing to do is not started
        found = case.find(tag)
        if found is not None:
            status = "failed"
            message = " ".join((found.get("message") or found.text or f"{tag}, no reason given").split())
    return Check(case.get("name", ""), status, message, float(case.get("time", 0)))


def write_junit(path: Path, reports: Sequence[Report]) -> None:
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
