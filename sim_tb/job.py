"""What the launcher hands to the testbench, through files: numbers that need nothing heavy to read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sw.files import read_json, write_json, write_npz
from sw.ir.formats import FixedFormat, IntArray

FOLDER_VARIABLE = "NORMFORGE_JOB"
"""Environment variable by which the simulator finds the folder of its job."""

UNIT_TESTS = ("every_code", "stated_latency", "random_stalls", "replay")
"""The tests of ``sim_tb.testbench``, in order."""
NORM_TESTS = ("every_row", "stated_latency", "random_stalls", "replay")
"""The tests of ``sim_tb.norm_testbench``, in order."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a unit or a norm must give.

    Args:
        codes_raw: int64 (n,), the input codes to check; all of them where the input has at most 16 bits.
            Of a norm rows of codes (n, channels).
        models_raw: What each reader of the program says for those codes, int64 of the same shape, by its
            name (``interpreter``, ``PyTorch module``; of a norm ``integer model``).
        replay_raw: Codes of real activations, int64 (rows, channels), or no rows at all.
        replay_out_raw: What the model computed from them, same shape.
    """

    codes_raw: IntArray
    models_raw: dict[str, IntArray]
    replay_raw: IntArray
    replay_out_raw: IntArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One unit or norm to simulate."""

    name: str
    verilog: str
    """Absolute path."""
    top: str
    input: str
    output: str
    lanes: int
    latency_cycles: int
    stall_beats: int
    seed: int
    waves: bool = False
    channels: int = 0
    """Of a norm's rows; 0: a unit, to which rows mean nothing."""
    interval_cycles: int = 1
    """From a row of a norm to the next, or from a beat of a unit to the next."""

    @property
    def tests(self) -> tuple[str, ...]:
        """What ``testbench`` holds."""
        return NORM_TESTS if self.channels else UNIT_TESTS

    @property
    def testbench(self) -> str:
        """The module of cocotb tests."""
        return "sim_tb.norm_testbench" if self.channels else "sim_tb.testbench"

    @property
    def row_beats(self) -> int:
        """Beats of a norm's row; 1 of a unit."""
        return max(-(-self.channels // self.lanes), 1)

    @property
    def input_format(self) -> FixedFormat:
        return FixedFormat.parse(self.input)

    @property
    def output_format(self) -> FixedFormat:
        return FixedFormat.parse(self.output)


def write_job(folder: Path, job: Job) -> None:
    """Leave a job in a folder."""
    write_json(folder / "job.json", asdict(job))


def write_expected(folder: Path, expected: Expected) -> None:
    """Leave the expected codes of a job beside it."""
    arrays: dict[str, Any] = {f"model_{name}": table for name, table in expected.models_raw.items()}
    arrays |= {
        "codes_raw": expected.codes_raw,
        "replay_raw": expected.replay_raw,
        "replay_out_raw": expected.replay_out_raw,
    }
    write_npz(folder / "expected.npz", arrays)


def read_job(folder: Path) -> Job:
    """The job in a folder."""
    return Job(**read_json(folder / "job.json"))


def read_expected(folder: Path) -> Expected:
    """The expected codes of the job in a folder."""
    with np.load(folder / "expected.npz") as stored:
        models = {key.removeprefix("model_"): stored[key] for key in stored if key.startswith("model_")}
        return Expected(stored["codes_raw"], models, stored["replay_raw"], stored["replay_out_raw"])


def figures_path(folder: Path) -> Path:
    """Where the testbench leaves what it counted, ``{test: {figure: number}}``."""
    return folder / "figures.json"


def results_path(folder: Path) -> Path:
    """Where cocotb leaves its JUnit XML."""
    return folder / "results.xml"


def waves_path(folder: Path) -> Path:
    """Where Verilator leaves the waveform, if one is asked for."""
    return folder / "dump.vcd"
