"""``accuracy.md``: figures of ``Results`` as Markdown."""

from __future__ import annotations

import math
import statistics

from benchmarks.accuracy.measure import REFITS, Results
from benchmarks.accuracy.plan import BENCHMARKS, LAYERNORM, OURS, Arm
from benchmarks.accuracy.summary import (
    OWN_REGIME,
    Spread,
    arrival,
    checks,
    lut6_of_ours,
    of_arms,
    of_integers,
    of_runs,
    spread,
)
from benchmarks.markdown import table


def document(results: Results) -> str:
    """The whole file."""
    parts = ["# Accuracy: functions, regimes, integers", introduction(results), "## Claims", claims(results)]
    for name in results.plan.benchmarks:
        parts += [f"## {name}", setting(results, name), zero_shot(results, name), trained(results, name)]
        parts += [arrivals(results, name), integers(results, name)]
    return "\n\n".join(parts) + "\n"


def introduction(results: Results) -> str:
    hours = sum(found["seconds"] for found in (*results.runs.values(), *results.arms.values())) / 3600
    return (
        f"Written by `make bench-accuracy`: {len(results.runs)} runs and {len(results.arms)} trainings, "
        f"{hours:.1f} hours of one process, {results.plan.jobs} at a time (a run that was stopped counts "
        "from where it went on). Accuracies are % of the test "
        "split, mean ± standard deviation over seeds (of training, capture, search and re-alignment); "
        "differences are paired by seed, ± their standard error, and their 95 % interval by Student's t, "
        "which with few seeds is wide. *Within* is judged by the mean, *better* and *worse* by two standard "
        "errors.\n\n"
        "A, F and D are the regimes of arXiv 2605.14047 (affine alone, full, distilled) with its losses and "
        "schedules, but with batches, epochs and learning rates for small models, and without its "
        "augmentation. D+ is ours: the closed-form refit, then distillation, as the configuration says. "
        "Every function set and the fine-tuned LayerNorm model are trained by the same code for as many "
        "epochs. Fitted forms have constants fitted at each site. Where all weights are trained (F, D, D+), "
        "so are the constants of DyT, Derf and clip, as alpha of DyT was where it was published; LUTs are of "
        "the constants before. Ours stay as they were found, where the configuration does not say that they "
        "get an inner scale (glyphs does); then they are realised and priced again with it, and the last "
        "accuracy is theirs. Where a benchmark names two commits, one measured some arms again, from the "
        "same original models and functions."
    )


def claims(results: Results) -> str:
    verdict = {True: "yes", False: "**no**", None: "undecided"}
    rows = [(claim, text, verdict[holds]) for claim, text, holds in checks(results)]
    return table(("claim", "measured", "holds"), rows)


def setting(results: Results, name: str) -> str:
    original = spread(of_runs(results, name, "original"))
    config = results.plan.config(name, results.plan.seeds_of(name)[0])
    own = {OWN_REGIME: config.align.lr}
    rates = ", ".join(f"{regime} {rate:g}" for regime, rate in {**BENCHMARKS[name].rates, **own}.items())
    changed = " ".join((BENCHMARKS[name].config, *BENCHMARKS[name].overrides, *results.plan.overrides))
    return (
        f"`{changed}`, {len(results.plan.seeds_of(name))} seeds, "
        f"{results.plan.epochs_of(name)} epochs, learning rates {rates}. Original: {percent(original)} %. "
        f"Measured at {origin(results, name)}."
    )


def origin(results: Results, name: str) -> str:
    """The commits and versions that a benchmark's figures come from."""
    bodies = [body for (of, _), body in results.runs.items() if of == name]
    bodies += [body for arm, body in results.arms.items() if arm.benchmark == name]
    commits = sorted({(body.get("commit") or "unknown")[:7] for body in bodies})
    versions = sorted({f"{key} {v}" for body in bodies for key, v in body.get("versions", {}).items()})
    return f"commit {', '.join(commits)}, {', '.join(versions)}"


def zero_shot(results: Results, name: str) -> str:
    """No epoch: right after the swap, affines refitted, their readers, too, their writers, too."""
    rows = []
    for functions in results.plan.functions:
        if functions != LAYERNORM:
            reached = [spread(of_runs(results, name, "zero_shot", functions, refit)) for refit in REFITS]
            luts = spread(of_runs(results, name, "lut6", functions))
            rows.append(
                (functions, *map(percent, reached), "-" if math.isnan(luts.mean) else f"{luts.mean:.0f}")
            )
    return table(
        ("no epoch", "swapped", "(a) affines", "(a) + (b) readers", "and (c) writers", "LUT6, all sites"),
        rows,
    )


def trained(results: Results, name: str) -> str:
    rows = [
        (functions, *(percent(spread(of_arms(results, name, functions, r))) for r in results.plan.regimes))
        for functions in results.plan.functions
    ]
    text = table(("trained", *results.plan.regimes), rows)
    if OURS not in results.plan.functions:
        return text
    luts = (f"{regime} {lut6_of_ours(results, name, regime):.0f}" for regime in results.plan.regimes)
    return f"{text}\n\nLUT6 of all our functions after training: {', '.join(luts)}."


def arrivals(results: Results, name: str) -> str:
    """The median epoch that comes within a point of the original."""

    def text(functions: str, regime: str) -> str:
        seeds = results.plan.seeds_of(name)
        arms = [Arm(benchmark=name, seed=s, functions=functions, regime=regime) for s in seeds]
        epochs = [arrival(results, arm) for arm in arms]
        middle = statistics.median(math.inf if e is None else e for e in epochs)
        return "-" if middle == math.inf else f"{middle:g}"

    rows = [(f, *(text(f, regime) for regime in results.plan.regimes)) for f in results.plan.functions]
    return table(("epochs to within a point (median)", *results.plan.regimes), rows)


def integers(results: Results, name: str) -> str:
    plan = results.plan
    rows = [("LayerNorm, original", of_runs(results, name, "quantized_layernorm"))]
    if LAYERNORM in plan.functions and OWN_REGIME in plan.regimes:
        rows.append((f"LayerNorm, {OWN_REGIME}", of_integers(results, name)))
    rows.append((f"ours, {OWN_REGIME}, with units", of_runs(results, name, "quantized")))
    rows.append(("the same in integers alone, softmax and GELU, too", of_runs(results, name, "integer")))
    return table(
        ("int8 weights and inputs of layers", "accuracy"),
        [(what, percent(spread(values))) for what, values in rows],
    )


def percent(value: Spread) -> str:
    return f"{100 * value.mean:.2f} ± {100 * value.std:.2f}"
