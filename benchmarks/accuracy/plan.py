"""What ``make bench-accuracy`` measures: function sets under training regimes, on runs of several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw.config import REGIMES, RunConfig, load
from sw.ir.errors import InputError

ROOT = Path(__file__).parents[2]
OURS, LAYERNORM, PUBLISHED_DYT = "evolved", "LayerNorm", "DyT, alpha 0.5"
FITTED = {"DyT, fitted": "scaled_dyt", "Derf, fitted": "derf", "clip, fitted": "clip"}
"""Rivals, and which fitted form of ``gp.baselines`` they are."""
FUNCTION_SETS = (OURS, *FITTED, PUBLISHED_DYT, LAYERNORM)
REGIME_NAMES = tuple(REGIMES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """A configuration, how many seeds it is run with, and how long every arm is trained."""

    config: str
    seeds: int
    epochs: int
    first_seed: int = 0
    overrides: tuple[str, ...] = ()
    """Of the configuration, as ``--set`` takes them."""
    rates: Mapping[str, float]
    """Largest learning rates of the published regimes for models this small, the same for every function
    set; as published (1e-3 and 1e-5, for ViT-B) they hardly move them in so few epochs."""

    @property
    def name(self) -> str:
        return Path(self.config).stem


BENCHMARKS = {
    "digits": Benchmark(
        config="configs/digits.toml", seeds=5, epochs=20, rates={"A": 1e-2, "F": 3e-4, "D": 3e-4}
    ),
    "glyphs": Benchmark(
        config="configs/glyphs.toml",
        seeds=3,
        first_seed=10,
        overrides=("data.split_seed=1",),
        epochs=4,
        rates={"A": 1e-2, "F": 1e-3, "D": 1e-3},
    ),
}
"""How fine the functions of glyphs are and how D+ trains was chosen on seeds 0 and 1 and images of split
seed 0 (docs/realign.md); what is claimed is measured on others. How fast inner scales learn was chosen on
seed 10 and images of variants.py."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One training: a run's model with a set of functions, or its LayerNorms, under a regime."""

    benchmark: str
    seed: int
    functions: str
    regime: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Arm:
        """The arm that an entry of ``accuracy.json`` is of."""
        return cls(**{field.name: body[field.name] for field in dataclasses.fields(cls)})

    def __str__(self) -> str:
        return f"{self.benchmark} seed {self.seed}: {self.functions}, {self.regime}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is measured.

    Raises:
        InputError: An unknown benchmark, function set or regime, or seeds or jobs below 1.
    """

    benchmarks: tuple[str, ...] = tuple(BENCHMARKS)
    functions: tuple[str, ...] = FUNCTION_SETS
    regimes: tuple[str, ...] = REGIME_NAMES
    seeds: int = 0
    """0: as many as each benchmark says."""
    jobs: int = 2
    cache: Path = Path("build/accuracy_bench")
    kept: Path | None = None
    """The ``accuracy.json`` of earlier calls."""
    overrides: tuple[str, ...] = ()
    """Of the configurations, as ``--set`` takes them."""
    epochs: int = 0
    """0: as many as each benchmark says."""

    def __post_init__(self) -> None:
        for what, names, known in (
            ("benchmark", self.benchmarks, BENCHMARKS),
            ("function set", self.functions, FUNCTION_SETS),
            ("regime", self.regimes, REGIME_NAMES),
        ):
            for name in names:
                if name not in known:
                    raise InputError(f"{what} must be one of {'; '.join(known)}, not '{name}'")
        if self.jobs < 1 or self.seeds < 0:
            raise InputError(f"jobs must be at least 1 and seeds 0, not {self.jobs} and {self.seeds}")

    def seeds_of(self, benchmark: str) -> range:
        first = BENCHMARKS[benchmark].first_seed
        return range(first, first + (self.seeds or BENCHMARKS[benchmark].seeds))

    def epochs_of(self, benchmark: str) -> int:
        return self.epochs or BENCHMARKS[benchmark].epochs

    def runs(self) -> list[tuple[str, int]]:
        """(benchmark, seed) of every run that arms start from."""
        return [(name, seed) for name in self.benchmarks for seed in self.seeds_of(name)]

    def arms(self) -> list[Arm]:
        """Every training of a plan, the function sets of one regime side by side."""
        return [
            Arm(benchmark=name, seed=seed, functions=functions, regime=regime)
            for name, seed in self.runs()
            for regime in self.regimes
            for functions in self.functions
        ]

    def config(self, benchmark: str, seed: int) -> RunConfig:
        """The configuration of a run: one worker, for runs are done side by side, and our regime's epochs."""
        known = BENCHMARKS[benchmark]
        loaded = load(ROOT / known.config, (*known.overrides, *self.overrides))
        epochs = self.epochs_of(benchmark)
        return dataclasses.replace(
            loaded,
            seed=seed,
            name=f"seed{seed}",
            runs_dir=str(self.cache / benchmark),
            evolve=dataclasses.replace(loaded.evolve, jobs=1),
            align=dataclasses.replace(loaded.align, epochs=epochs),
        )
