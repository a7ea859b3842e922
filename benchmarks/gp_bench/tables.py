"""``gp.md`` from the summary."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gp_bench.figures import RATIOS, TIME_RATIO, Mean, Worth
from benchmarks.gp_bench.plan import LIBRARY, OURS, Plan
from benchmarks.gp_bench.published import INPUT
from benchmarks.gp_bench.scoring import PATIENCE_S
from benchmarks.gp_bench.summary import NUM_CORES, NUM_SEEDS, NUM_SITES, checks
from benchmarks.gp_bench.variants import FULL
from benchmarks.markdown import table

PACKAGES = ("numpy", "deap", "pyoperon", "gplearn")
Row = tuple[str, str]


def document(body: Mapping[str, Any], plan: Plan) -> str:
    """The whole text."""
    parts = [
        "# The evolution engine against others",
        introduction(plan) + f" {body['given_up']} formulas or forms were given up on the way.",
        "## Claims\n\n" + claims(body, plan),
        "## 1. Engines and fitted baselines\n\n" + engines(body, plan),
        "## 2. Site by site\n\n" + sites(body),
        "## 3. Against each fitted baseline\n\n" + head_to_head(body),
    ]
    if "races" in body:
        parts.append(f"## 4. Time to ratio {TIME_RATIO}\n\n" + time_to_ratio(body, plan))
    if "ablation" in body:
        parts.append("## 5. What each trick gives\n\n" + tricks(body, plan))
    if "published" in body:
        parts.append("## 6. Published functions\n\n" + published_functions(body))
    if "scale" in body:
        parts.append("## 7. Scale\n\n" + scale(body))
    return "\n\n".join(parts) + "\n"


def introduction(plan: Plan) -> str:
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return (
        f"Written by `make bench-gp` on {_cpu()} ({os.cpu_count()} cores), Python "
        f"{platform.python_version()}, "
        f"{packages}. Every run has its own process on one core, with one thread, {plan.workers} at a time, "
        "and "
        f"{plan.seconds:g} s of wall-clock; {plan.seeds} seeds. Our seconds hold the fitting of the known "
        "forms, "
        "the clamps and all lowering; what came later does not count (what was there is then priced "
        "exactly). Other engines' seconds do not hold the "
        "lowering of their formulas.\n\n"
        "*Ratio* is R^2 of the 16 to 8 bit integer map on held-out pairs, outer scale and offset fitted to "
        "the "
        "learning pairs, divided by the site's ceiling: the best of smoothers, fitted forms, and all that "
        "any "
        "engine reached. The *best* function is the best on the learning pairs. *Gap closed* is 0 for the "
        "fitted "
        "line and 1 for the ceiling. *LUT6* are predicted ones of one lane. Formulas become hardware by our "
        "compiler in two ways: *as written* (each whole formula compiled, outer affine free), and by *our "
        "lowering* (all of a run's formulas also in few cells of x), which shows the search alone; "
        f"a formula that has no realisation, or none within {PATIENCE_S:g} s, is given up."
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(absent)"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def claims(body: Mapping[str, Any], plan: Plan) -> str:
    rows = [(claim, text, _yes(holds)) for claim, text, holds in checks(dict(body))]
    return table(("claim", "measured", "holds"), rows)


def _yes(holds: bool | None) -> str:
    return "undecided" if holds is None else "yes" if holds else "**no**"


def engines(body: Mapping[str, Any], plan: Plan) -> str:
    """Table 1."""
    prices = [f"LUT6 at {ratio:g}" for ratio in RATIOS]
    head = ("median of seeds, mean over sites", "ratio", "worst", "LUT6", "gap closed", *prices)
    parts = []
    for group, means in body["means"].items():
        title = (
            f"The {len(plan.groups[group])} captured sites" if group == "captured" else "Synthetic families"
        )
        rows = [[_row_name(row), *_mean_cells(mean)] for row, mean in means.items()]
        parts.append(f"{title}; in brackets, how many sites get there (the mean is over those).\n")
        parts.append(table(head, rows) + "\n")
    head = ("one run, median", "wall-clock s", "longest s", "CPU s", "evaluations/s")
    rows = [
        [
            name,
            f"{run['seconds']:.1f}",
            f"{run['most_seconds']:.1f}",
            f"{run['cpu_s']:.1f}",
            _number(run["evaluations_per_s"], 0),
        ]
        for name, run in body["runs"].items()
    ]
    return "\n".join([*parts, table(head, rows)])


def _row_name(row: Row) -> str:
    return f"**{OURS}**" if row[0] == OURS else ", ".join(row)


def _mean_cells(mean: Mean) -> list[str]:
    prices = [f"{_number(p, 1)} ({n})" for p, n in zip(mean.prices, mean.reached, strict=True)]
    return [f"{mean.ratio:.4f}", f"{mean.worst:.4f}", _number(mean.lut6, 1), _number(mean.gap, 3), *prices]


def _number(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "-"


def sites(body: Mapping[str, Any]) -> str:
    """Table 2."""
    worths: Mapping[Row, Mapping[str, Worth]] = body["worths"]
    head = ("site", "ceiling", "engine", "ratio", "LUT6", *(f"LUT6 at {ratio:g}" for ratio in RATIOS))
    wanted = [row for row in worths if row[0] in (OURS, "pyoperon", LIBRARY)]
    rows = []
    for site, ceiling in body["ceilings"].items():
        for i, row in enumerate(wanted):
            w = worths[row][site]
            prices = [_number(p, 1) for p in w.prices]
            name = (site, f"{ceiling:.4f}") if i == 0 else ("", "")
            rows.append([*name, _row_name(row), f"{w.ratio:.4f}", _number(w.lut6, 1), *prices])
    return table(head, rows)


def head_to_head(body: Mapping[str, Any]) -> str:
    """Table 3."""
    compared = body["compared"]
    text = (
        "A baseline stands here with the cheapest hardware of its best R^2, of both ways; ours with its best "
        "function at no higher price. Difference of R^2 on the same held-out pairs and its standard error, "
        "the "
        "median seed; **bold**: lower by more than 2 errors; -: nothing at that price.\n\n"
    )
    names = list(compared["counts"])
    rows = []
    for site in body["ceilings"]:
        cells = [
            _median_case([c for c in compared["cases"] if (c["site"], c["baseline"]) == (site, n)])
            for n in names
        ]
        rows.append([site, *cells])
    rows.append(
        ["not lower by 2 errors", *(f"{c['holds']} of {c['of']}" for c in compared["counts"].values())]
    )
    worst = [w for w in compared["worst"].values() if w]
    if worst:
        w = min(worst, key=lambda c: c["gain"] + 2 * c["error"])
        after = (
            f"\n\nWorst: {w['baseline']} at {w['site']}, seed {w['seed']}: {w['gain']:+.5f} +- "
            f"{w['error']:.5f}, "
            f"ours {w['ours_price']:.1f} LUT6, the baseline {w['price']:.1f}."
        )
    else:
        after = ""
    return text + table(("site", *names), rows) + after


def _median_case(cases: Sequence[Mapping[str, Any]]) -> str:
    judged = sorted((c for c in cases if "gain" in c), key=lambda c: c["gain"])
    if not judged:
        return "-"
    case = judged[len(judged) // 2]
    text = f"{1e4 * case['gain']:+.1f} +- {1e4 * case['error']:.1f} e-4"
    return text if case["holds"] else f"**{text}**"


def time_to_ratio(body: Mapping[str, Any], plan: Plan) -> str:
    """Table 4."""
    races, runs = body["races"], body["runs"]
    text = (
        "Seconds to a hardware function of that ratio, ours with all lowering, plain DEAP's without (every "
        "formula that it found on the way was lowered by us as soon as it was there). Same price: at most "
        "what "
        "ours cost when it first got there, or what the cheapest of ours costs at the end. Median over "
        "seeds; "
        f"> {plan.seconds:g}: not within the time, which is then taken as it.\n\n"
    )
    head = ("site", "first: LUT6", "ours s", "plain DEAP s", "last: LUT6", "ours s", "plain DEAP s")
    rows = []
    for site in body["ceilings"]:
        cells = [site]
        for name in ("first", "last"):
            own = [r for r in races[name]["runs"] if r["site"] == site]
            cells.append(_number(statistics.median(r["price"] for r in own), 1))
            cells += [_seconds([r[who] for r in own], plan.seconds) for who in ("ours", "other")]
        rows.append(cells)
    for name in ("first", "last"):
        got = races[name]
        factor = "-" if got["factor"] is None else f"{got['factor']:.1f}"
        text += (
            f"- {name} price: median {_number(got['ours'], 2)} s against {_number(got['other'], 2)} s; "
            "median of "
            f"the ratios {factor}, over the {got['decided']} of {len(got['runs'])} runs in which one got "
            "there.\n"
        )
    speeds = ("evaluations/s", "distinct/s", "cache hits/s")
    keys = ("evaluations_per_s", "distinct_per_s", "hits_per_s")
    rates = [[n, *(_number(run[k], 0) for k in keys)] for n, run in runs.items()]
    return text + "\n" + table(head, rows) + "\n\n" + table(("of all seconds", *speeds), rates)


def _seconds(values: Sequence[float | None], limit: float) -> str:
    middle = statistics.median(math.inf if v is None else v for v in values)
    return f"> {limit:g}" if middle == math.inf else f"{middle:.2f}"


def tricks(body: Mapping[str, Any], plan: Plan) -> str:
    """Table 5."""
    text = (
        f"{', '.join(plan.ablation_sites)}; {plan.seeds} seeds, {plan.ablation_seconds:g} s of search beside "
        "forms and lowering. Seconds are from the start, the median of all runs, and in brackets how many "
        f"of them get to ratio {TIME_RATIO}.\n\n"
    )
    head = (
        "variant",
        "ratio",
        "worst",
        "gap closed",
        "LUT6",
        f"LUT6 at {RATIOS[-1]:g}",
        "s",
        "distinct/s of search",
    )
    rows = []
    for variant, got in body["ablation"].items():
        mean: Mean = got["mean"]
        rows.append([
            f"**{variant}**" if variant == FULL else variant,
            *(f"{mean.ratio:.4f}", f"{mean.worst:.4f}", _number(mean.gap, 3), _number(mean.lut6, 1)),
            f"{_number(mean.prices[-1], 1)} ({mean.reached[-1]})",
            f"{_number(got['seconds'], 2)} ({got['arrived']} of {got['runs']})",
            f"{got['distinct_per_s']:.0f}",
        ])  # fmt: skip
    return text + table(head, rows)


def published_functions(body: Mapping[str, Any]) -> str:
    """Table 6."""
    text = (
        f"Exact realisations from {INPUT} to 8 bits; folded: the same function, its outer scale and offset "
        "free, "
        "and R^2 between the two on x ~ N(0, 4).\n\n"
    )
    head = (
        "function",
        "FLOPs stated",
        "counted",
        "nodes",
        "output",
        "LUT6",
        "kind",
        "folded LUT6",
        "kind",
        "R^2",
    )
    rows = []
    for p in body["published"]:
        stated = "-" if p["stated_flops"] is None else str(p["stated_flops"])
        counted = str(p["flops"]) if p["stated_flops"] in (None, p["flops"]) else f"**{p['flops']}**"
        rows.append([
            *(f"`{p['formula']}`", stated, counted, str(p["nodes"])),
            *(p["output"], f"{p['price']:.1f}", p["kind"]),
            *(f"{p['folded_price']:.1f}", p["folded_kind"], f"{p['folded_r2']:.4f}"),
        ])  # fmt: skip
    return text + table(head, rows)


def scale(body: Mapping[str, Any]) -> str:
    """Paragraph 7."""
    got = body["scale"]
    return (
        "A task (one captured site, one seed, the settings of `configs/digits.toml`, baselines included) "
        "takes "
        f"{got['seconds']:.1f} s, the median over sites, and {got['most_seconds']:.1f} s at most, in one "
        "process on "
        f"one core. {NUM_SITES} sites x {NUM_SEEDS} seeds x {got['seconds']:.1f} s / {NUM_CORES} cores = "
        f"{got['minutes']:.1f} minutes."
    )
