"""The sites that engines compete on: those of a run's captures, and the synthetic families."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gp_engines.families import SIGMAS, family
from gp.fitness import Split, split_pairs
from gp.pairs import load_pairs
from gp.task import Task
from sw.config import EvolveConfig
from sw.files import read_json
from sw.ir.formats import FixedFormat

OUTPUT = FixedFormat(8, 5)
FAMILIES = tuple(SIGMAS)
FAMILY_LEARN, FAMILY_JUDGE = 400_000, 200_000
"""Pairs of a family. With fewer to learn from than to judge on, the judge tells functions apart that are
equal by what chose them: with 45,000 two clips of tokens_0.2 were 1e-6 apart, and 3e-4 on the judge's.
"""
HELD_OUT = 0.1
ROOM = 2.0
"""The input format of a family holds so many times its largest |x|; capture leaves as much."""


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Pairs and input format; the output is ``OUTPUT`` everywhere."""

    name: str
    input: FixedFormat
    split: Split

    def task(self, settings: EvolveConfig, *, index: int, run: Path) -> Task:
        """The task of this site for one seed."""
        return Task(
            site=self.name,
            index=index,
            run_seed=0,
            pairs=str(run / "captures.npz"),
            pairs_sha256="",
            input=str(self.input),
            output=str(OUTPUT),
            kind="auto",
            max_ulp=0,
            settings=settings,
        )


def captured_sites(run: Path) -> list[str]:
    """The sites of a run's captures, in their order."""
    return list(read_json(run / "captures.json")["sites"])


def load_site(name: str, run: Path) -> Site:
    """A family, or a site of the run's captures."""
    if name in FAMILIES:
        return _family_site(name)
    x, y, _ = load_pairs(run / "captures.npz", name)
    input = FixedFormat.parse(read_json(run / "captures.json")["sites"][name]["input"])
    return Site(name, input, split_pairs(x, y, share=HELD_OUT, seed=0))


def _family_site(name: str) -> Site:
    num = FAMILY_LEARN + FAMILY_JUDGE
    x, y = (v.astype(np.float64) for v in family(name, num, seed=0))
    learn, judge = slice(FAMILY_LEARN), slice(FAMILY_LEARN, num)
    ones = np.ones(num)
    split = Split(x[learn], y[learn], x[judge], y[judge], ones[learn], ones[judge])
    return Site(name, FixedFormat.covering(ROOM * float(np.abs(x).max()), 16), split)
