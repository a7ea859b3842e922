"""From ``Results`` to the figures of ``accuracy.json``, and the claims that they decide."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.accuracy.measure import Results, align_config
from benchmarks.accuracy.plan import BENCHMARKS, LAYERNORM, OURS, PUBLISHED_DYT, Arm

OWN_REGIME = "D+"
JUDGED = ("DyT, fitted", "Derf, fitted")
"""Of the fitted rivals those that a claim names."""
NEAR = 0.01
"""Within so much of the original an arm has arrived."""
JUDGED_REFIT = "readers"
"""How far the refit goes whose recovery is judged: affines and readers, without their writers."""
STANDARD_ERRORS = 2.0
LEAST_LOSS = 0.05
"""What a swap must lose before its recovery is judged."""
RECOVERED = {"digits": 0.8, "glyphs": 0.6}
MOST_LOST = {"re-aligned": 0.003, "int8": 0.005}
"""Of accuracy, against the LayerNorm model of the same treatment, on glyphs."""

Check = tuple[str, str, bool | None]
"""A claim, what was measured, whether it holds; None where it cannot be judged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds."""

    mean: float
    std: float
    """Sample standard deviation; 0 for one seed, of which nothing is judged that needs an error."""
    num: int

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.std / math.sqrt(self.num)

    @property
    def reach(self) -> float:
        """Half of the mean's 95 % interval, by Student's t."""
        return self.error * float(stats.t.ppf(0.975, self.num - 1))


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Spread(float(np.mean(values)), std, len(values))


def of_runs(results: Results, benchmark: str, *keys: str) -> list[float]:
    """One figure of every seed's run, such as ``zero_shot``, set, refit."""
    found: list[float] = []
    for seed in results.plan.seeds_of(benchmark):
        value: Any = results.runs[benchmark, seed]
        for key in keys:
            value = value[key]
        found.append(float("nan") if value is None else float(value))
    return found


def of_arms(results: Results, benchmark: str, functions: str, regime: str) -> list[float]:
    """The accuracy after the last epoch of every seed's arm."""
    return [arm["epochs"][-1] for arm in _arms(results, benchmark, functions, regime)]


def lut6_of_ours(results: Results, benchmark: str, regime: str) -> float:
    """The mean predicted LUT6 of all our functions after training; where it changed none, before."""
    arms = _arms(results, benchmark, OURS, regime)
    before = of_runs(results, benchmark, "lut6", OURS)
    return spread([arm.get("lut6", luts) for arm, luts in zip(arms, before, strict=True)]).mean


def of_integers(results: Results, benchmark: str) -> list[float]:
    """The accuracy as int8 of every seed's LayerNorm model, fine-tuned under our own regime."""
    return [arm["quantized"] for arm in _arms(results, benchmark, LAYERNORM, OWN_REGIME)]


def _arms(results: Results, benchmark: str, functions: str, regime: str) -> list[dict[str, Any]]:
    seeds = results.plan.seeds_of(benchmark)
    arms = [Arm(benchmark=benchmark, seed=s, functions=functions, regime=regime) for s in seeds]
    return [results.arms[arm] for arm in arms]


def arrival(results: Results, arm: Arm) -> int | None:
    """The first epoch after which an arm is within ``NEAR`` of its original; 0: at once; None: never."""
    run = results.runs[arm.benchmark, arm.seed]
    config = align_config(results.plan.config(arm.benchmark, arm.seed).align, arm)
    start = run["original"] if arm.functions == LAYERNORM else run["zero_shot"][arm.functions][config.refit]
    reached = [start, *results.arms[arm]["epochs"]]
    return next((e for e, share in enumerate(reached) if share >= run["original"] - NEAR), None)


def recovered(results: Results, benchmark: str, functions: str, refit: str) -> Spread | None:
    """The share of what the swap lost that a refit brought back, over the seeds where it lost enough."""
    shares = []
    for seed in results.plan.seeds_of(benchmark):
        run = results.runs[benchmark, seed]
        after = run["zero_shot"][functions]
        lost = run["original"] - after["none"]
        if lost >= LEAST_LOSS:
            shares.append((after[refit] - after["none"]) / lost)
    return spread(shares) if shares else None


def differences(ours: Sequence[float], others: Sequence[float]) -> Spread:
    """Ours less the others', paired by seed."""
    return spread([a - b for a, b in zip(ours, others, strict=True)])


def checks(results: Results) -> list[Check]:
    """The claims that this benchmark decides."""
    plan, rows = results.plan, list[Check]()
    for name in plan.benchmarks:
        rows += _recovery(results, name)
        if OURS in plan.functions:
            rows += [row for regime in plan.regimes for row in _rivals(results, name, regime)]
            rows += _prices(results, name)
        if name == "glyphs" and {OURS, LAYERNORM} <= set(plan.functions) and OWN_REGIME in plan.regimes:
            rows += _against_layernorm(results, name)
    return rows


def _recovery(results: Results, name: str) -> list[Check]:
    if OURS not in results.plan.functions:
        return []
    least = RECOVERED[name]
    found = recovered(results, name, OURS, JUDGED_REFIT)
    claim = f"{name}: no epoch at all, (a) + (b), brings back {100 * least:.0f} % of what the swap lost"
    if found is None:
        text = f"no swap lost {100 * LEAST_LOSS:.0f} points"
        return [(claim, text, None)]
    text = f"{100 * found.mean:.1f} ± {100 * found.error:.1f} % ({found.num} seeds)"
    return [(claim, text, found.mean >= least)]


def _rivals(results: Results, name: str, regime: str) -> list[Check]:
    """Accuracy under a regime against the rivals that a claim names."""
    rows: list[Check] = []
    ours = of_arms(results, name, OURS, regime)
    for rival in (r for r in (*JUDGED, PUBLISHED_DYT) if r in results.plan.functions):
        gain = differences(ours, of_arms(results, name, rival, regime))
        if rival == PUBLISHED_DYT:
            rows.append((f"{name}, {regime}: better than {rival}", _points(gain), _is_better(gain)))
        else:
            claim = f"{name}, {regime}: not worse than {rival} by 2 standard errors"
            holds = None if gain.num < 2 else gain.mean >= -STANDARD_ERRORS * gain.error
            rows.append((claim, _points(gain), holds))
    return rows


def _is_better(gain: Spread) -> bool | None:
    """None while the difference is within its error, or none is known."""
    if gain.num < 2 or abs(gain.mean) <= STANDARD_ERRORS * gain.error:
        return None
    return gain.mean > 0


def _prices(results: Results, name: str) -> list[Check]:
    rows: list[Check] = []
    for rival in (r for r in JUDGED if r in results.plan.functions):
        own = max(lut6_of_ours(results, name, regime) for regime in results.plan.regimes)
        other = spread(of_runs(results, name, "lut6", rival)).mean
        rows.append((f"{name}: fewer LUT6 than {rival}", f"{own:.0f} against {other:.0f}", own < other))
    return rows


def _against_layernorm(results: Results, name: str) -> list[Check]:
    trained = differences(*(of_arms(results, name, f, OWN_REGIME) for f in (OURS, LAYERNORM)))
    integer = differences(of_runs(results, name, "quantized"), of_integers(results, name))
    return [
        (
            f"{name}: {what} within {100 * MOST_LOST[what]:.1f} points of LayerNorm, {how}",
            _points(gain),
            None if gain.num < 2 else gain.mean >= -MOST_LOST[what],
        )
        for what, how, gain in (
            ("re-aligned", "fine-tuned as long", trained),
            ("int8", "fine-tuned as long, as int8", integer),
        )
    ]


def _points(gain: Spread) -> str:
    if gain.num < 2:
        return f"{100 * gain.mean:+.2f} points"
    low, high = (100 * (gain.mean + side * gain.reach) for side in (-1, 1))
    return f"{100 * gain.mean:+.2f} ± {100 * gain.error:.2f} points ({low:+.2f} to {high:+.2f})"


def identity(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a run's or an arm's entry is of."""
    named = (entry.get(key) for key in ("benchmark", "seed", "functions", "regime"))
    return (*named, tuple(entry.get("overrides", ())))


def is_current(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is of a seed that its benchmark still has."""
    known = BENCHMARKS.get(entry["benchmark"])
    return known is not None and entry["seed"] >= known.first_seed


def summarise(results: Results) -> dict[str, Any]:
    """Every figure behind ``accuracy.md``."""
    return {
        "plan": {"benchmarks": results.plan.benchmarks, "functions": results.plan.functions},
        "runs": [{"benchmark": b, "seed": s, **found} for (b, s), found in results.runs.items()],
        "arms": [dataclasses.asdict(arm) | found for arm, found in results.arms.items()],
        "epochs": {name: results.plan.epochs_of(name) for name in results.plan.benchmarks},
        "configs": {name: BENCHMARKS[name].config for name in results.plan.benchmarks},
        "wall_s": results.wall_s,
    }
