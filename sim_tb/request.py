"""What is to be verified, and how: requests for units and norms, settings for all of them."""

from __future__ import annotations

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim_tb.contract import Contract, Replay, examine
from sim_tb.job import Job
from sim_tb.norm import NormFiles, examine_norm
from sim_tb.results import Check, NormReport, Report, UnitReport
from sim_tb.unit import UnitFiles
from sw.ir.formats import IntArray
from sw.ir.program import Program

RANDOM_ROWS = 1000
Figures = Mapping[str, Mapping[str, Any]]
"""What the simulated tests counted, by test."""


def waves_asked() -> bool:
    """Whether the environment asks for waveforms, ``WAVES=1``."""
    return os.environ.get("WAVES", "0") not in ("", "0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How units and norms are verified."""

    folder: Path
    """Where builds, logs and results go, a sub-folder a unit."""
    stall_beats: int = 4096
    rows: int = RANDOM_ROWS
    """Random rows of a norm, beside those that are hard on it."""
    seed: int = 0
    jobs: int = 0
    """Simulations at a time; 0: one a core."""
    waves: bool = field(default_factory=waves_asked)
    """Record ``dump.vcd`` beside each unit's results; the environment's ``WAVES=1`` asks for it."""


class Request(ABC):
    """Something to verify."""

    @property
    @abstractmethod
    def files(self) -> UnitFiles | NormFiles:
        """The files of what is verified."""

    @property
    def site(self) -> str:
        return self.files.site

    @property
    def name(self) -> str:
        return self.files.name

    @abstractmethod
    def job(self, settings: Settings) -> Job:
        """What the simulator is told."""

    @abstractmethod
    def examine(self, settings: Settings) -> Contract:
        """What the hardware must give, checked without it.

        Raises:
            InputError: A file cannot be read.
        """

    @abstractmethod
    def report(
        self, contract: Contract, checks: tuple[Check, ...], figures: Figures, seconds: float
    ) -> Report:
        """Everything that was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitRequest(Request):
    """A unit to verify, and what is known about it beside its own files."""

    unit: UnitFiles
    program: Program | None = None
    program_path: Path | None = None
    """Where the program comes from."""
    replay: Replay | None = None
    replay_path: Path | None = None
    """Where the activations come from, under the site's name."""

    @property
    def files(self) -> UnitFiles:
        return self.unit

    def job(self, settings: Settings) -> Job:
        return Job(**_shared_job(self.unit, settings))

    def examine(self, settings: Settings) -> Contract:
        return examine(self.unit, self.program, self.replay, seed=settings.seed)

    def report(
        self, contract: Contract, checks: tuple[Check, ...], figures: Figures, seconds: float
    ) -> UnitReport:
        counted = figures.get("every_code", {})
        return UnitReport(
            **_shared_report(self.unit, figures),
            codes_checked=counted.get("codes", 0),
            mismatches=counted.get("mismatches", 0),
            float_path_ties=contract.float_path_ties,
            float_path_differences=contract.float_path_differences,
            max_ulp=contract.max_ulp,
            codes_compared=contract.codes_compared,
            seconds=seconds,
            checks=checks,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NormRequest(Request):
    """A norm to verify, perhaps on real tokens, int64 (tokens, channels)."""

    norm: NormFiles
    tokens_raw: IntArray | None = None

    @property
    def files(self) -> NormFiles:
        return self.norm

    def job(self, settings: Settings) -> Job:
        return Job(
            **_shared_job(self.norm, settings),
            channels=self.norm.model.channels,
            interval_cycles=self.norm.interval_cycles,
        )

    def examine(self, settings: Settings) -> Contract:
        return examine_norm(self.norm, self.tokens_raw, rows=settings.rows, seed=settings.seed)

    def report(
        self, contract: Contract, checks: tuple[Check, ...], figures: Figures, seconds: float
    ) -> NormReport:
        counted = figures.get("every_row", {})
        return NormReport(
            **_shared_report(self.norm, figures),
            channels=self.norm.model.channels,
            rows_checked=counted.get("rows", 0),
            mismatches=counted.get("mismatches", 0),
            interval_cycles=self.norm.interval_cycles,
            error_lsb=contract.error_lsb,
            bound_lsb=self.norm.model.bound_lsb,
            seconds=seconds,
            checks=checks,
        )


def _shared_job(files: UnitFiles | NormFiles, settings: Settings) -> dict[str, Any]:
    return {
        "name": files.name,
        "verilog": str(files.verilog.resolve()),
        "top": files.top,
        "input": str(files.input),
        "output": str(files.output),
        "lanes": files.lanes,
        "latency_cycles": files.latency_cycles,
        "stall_beats": settings.stall_beats,
        "seed": zlib.crc32(f"{settings.seed} {files.name}".encode()),
        "waves": settings.waves,
    }


def _shared_report(files: UnitFiles | NormFiles, figures: Figures) -> dict[str, Any]:
    return {
        "site": files.site,
        "name": files.name,
        "lanes": files.lanes,
        "latency_cycles": files.latency_cycles,
        "stall_beats": figures.get("random_stalls", {}).get("beats", 0),
        "replay_beats": figures.get("replay", {}).get("beats", 0),
        "moved": {test: counted["moved"] for test, counted in figures.items()},
    }
