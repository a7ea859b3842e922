"""What the tables show, as plain numbers: from ``Results`` to the body of ``gp.json``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.gp_bench.figures import (
    RATIOS,
    ROUND_TO,
    TIME_RATIO,
    best,
    first_time,
    median,
    over_sites,
    race,
    to_points,
    worth,
)
from benchmarks.gp_bench.plan import DEAP, LIBRARY, OURS, ROUTES, Plan, Results
from benchmarks.gp_bench.variants import PATCHES

NUM_SITES, NUM_SEEDS, NUM_CORES = 49, 5, 16
"""ViT-L, as the scale arithmetic takes it."""
STANDARD_ERRORS = 2.0


def summarise(results: Results) -> dict[str, Any]:
    """Everything that ``gp.md`` shows."""
    plan = results.plan
    worths = results.worths()
    body: dict[str, Any] = {
        "ceilings": results.ceilings,
        "lines": {site: results.line(site) for site in plan.sites},
        "worths": worths,
        "means": {
            group: {row: over_sites({s: by_site[s] for s in sites}) for row, by_site in worths.items()}
            for group, sites in plan.groups.items()
        },
        "runs": engine_runs(results),
        "compared": verdicts(results),
        "given_up": sum(found.get("given_up", 0) for found in results.of.values() if isinstance(found, dict)),
    }
    if "pyoperon" in plan.engines:
        body["against_pyoperon"] = {g: against(results, "pyoperon", s) for g, s in plan.groups.items()}
    if DEAP in plan.engines:
        body["races"] = races(results)
    if "ablation" in plan.parts:
        body["ablation"] = ablation(results)
    if "published" in plan.parts:
        body["published"] = [results.of[job] for job in plan.published()]
    if "scale" in plan.parts and "captured" in plan.groups:
        body["scale"] = scale([results.of[plan.default(s)]["seconds"] for s in plan.groups["captured"]])
    return body


def engine_runs(results: Results) -> dict[str, dict[str, Any]]:
    """Medians over all runs of each engine: seconds, and evaluations a second."""
    plan = results.plan
    found = {}
    for engine in (OURS, *plan.engines):
        made = [results.of[_run(plan, engine, site, s)] for site in plan.sites for s in range(plan.seeds)]
        found[engine] = {
            "seconds": statistics.median(r["seconds"] for r in made),
            "most_seconds": max(r["seconds"] for r in made),
            "cpu_s": statistics.median(r["cpu_s"] for r in made),
            "evaluations_per_s": _rate(made, "evaluations"),
            "distinct_per_s": _rate(made, "distinct"),
            "hits_per_s": _rate(made, "repeats"),
        }
    return found


def _run(plan: Plan, engine: str, site: str, seed: int) -> Any:
    return plan.ours(site, seed) if engine == OURS else plan.compete(engine, site, seed)


def _rate(made: Sequence[dict[str, Any]], what: str) -> float | None:
    rates = [r[what] / r["seconds"] for r in made if r.get(what) is not None]
    return statistics.median(rates) if rates else None


def verdicts(results: Results) -> dict[str, Any]:
    """Ours against each baseline at equal or lower price: how often not lower by more than 2 errors."""
    counts: dict[str, dict[str, int]] = {}
    cases = []
    for (site, name, seed), case in results.compared.items():
        holds = "gain" in case and case["gain"] >= -STANDARD_ERRORS * case["error"]
        own = counts.setdefault(name, {"holds": 0, "of": 0})
        own["holds"] += holds
        own["of"] += 1
        cases.append({"site": site, "baseline": name, "seed": seed, "holds": holds, **case})
    judged = [c for c in cases if "gain" in c]
    worst = {
        name: min((c for c in judged if c["baseline"] == name), key=_shortfall, default=None)
        for name in counts
    }
    return {"counts": counts, "worst": worst, "cases": cases}


def _not_lower(cases: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    """How many comparisons hold, and of how many others the learning pairs, which choose, say nothing."""
    lower = [c for c in cases if not c["holds"]]
    text = f"{len(cases) - len(lower)} of {len(cases)}"
    if lower:
        equal = sum(c.get("learning_gain", -1.0) > -ROUND_TO for c in lower)
        text += f"; on the learning pairs {equal} of the other {len(lower)} are equal"
    return text, not lower


def _shortfall(case: dict[str, Any]) -> float:
    """The gain in standard errors."""
    gain, error = case["gain"], case["error"]
    return gain / error if error > 0 else math.copysign(math.inf, gain) if gain else 0.0


def against(results: Results, engine: str, sites: Sequence[str]) -> dict[str, dict[str, float]]:
    """Ours, cheaper than the other's best at every site and seed: mean difference of ratios, mean prices.

    Where nothing of ours is cheaper, its ratio is 0.
    """
    plan = results.plan
    found = {}
    for route in ROUTES:
        differences, own_prices, prices = [], [], []
        for site in sites:
            for seed in range(plan.seeds):
                points = results.engine(engine, site, seed, route)
                if not points:
                    continue
                other = best(points)
                cheaper = [p for p in results.ours(site, seed) if p.price < other.price]
                own = best(cheaper) if cheaper else None
                differences.append(((own.r2 if own else 0.0) - other.r2) / results.ceilings[site])
                prices.append(other.price)
                own_prices += [own.price] if own else []
        found[route] = {
            "difference": _mean(differences),
            "ours_lut6": _mean(own_prices),
            "lut6": _mean(prices),
        }
    return found


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def races(results: Results) -> dict[str, Any]:
    """Seconds to ``TIME_RATIO`` of the ceiling at the same price, ours and plain DEAP's."""
    plan = results.plan
    found: dict[str, list[dict[str, Any]]] = {}
    for site in plan.sites:
        for seed in range(plan.seeds):
            ours = results.of[plan.ours(site, seed)]["marks"]
            theirs = results.of[plan.score(DEAP, site, seed)]["marks"]
            for name, run in race(ours, theirs, TIME_RATIO * results.ceilings[site], plan.seconds).items():
                entry = {"site": site, "seed": seed, "price": run.price, "ours": run.ours, "other": run.other}
                found.setdefault(name, []).append(entry | {"factor": run.factor(plan.seconds)})
    return {name: {"runs": runs, **_medians(runs, plan.seconds)} for name, runs in found.items()}


def _medians(runs: Sequence[dict[str, Any]], limit: float) -> dict[str, Any]:
    decided = [r for r in runs if r["factor"] is not None]
    if not decided:
        return {"factor": None, "ours": None, "other": None, "decided": 0}
    return {
        "factor": statistics.median(r["factor"] for r in decided),
        "ours": statistics.median(limit if r["ours"] is None else r["ours"] for r in decided),
        "other": statistics.median(limit if r["other"] is None else r["other"] for r in decided),
        "decided": len(decided),
    }


def ablation(results: Results) -> dict[str, dict[str, Any]]:
    """Each variant of our search: means over sites of medians over seeds."""
    plan = results.plan
    found = {}
    for variant in PATCHES if plan.ablation_sites else ():
        by_site, times, rates = {}, [], []
        for site in plan.ablation_sites:
            ceiling = results.ceilings[site]
            runs = [results.of[plan.ablation(variant, site, seed)] for seed in range(plan.seeds)]
            fronts = [to_points(run["front"]) for run in runs]
            by_site[site] = median([worth(points, ceiling, results.line(site)) for points in fronts])
            for run in runs:
                hit = first_time(run["marks"], TIME_RATIO * ceiling, math.inf)
                times.append(math.inf if hit is None else hit[0])
                rates.append(run["distinct"] / run["search_s"])
        found[variant] = {
            "mean": over_sites(by_site),
            "seconds": statistics.median(times),
            "arrived": sum(t < math.inf for t in times),
            "runs": len(times),
            "distinct_per_s": statistics.median(rates),
        }
    return found


def scale(seconds: Sequence[float]) -> dict[str, float]:
    """Minutes of a large model's run, from the seconds of a task."""
    task = statistics.median(seconds)
    return {
        "seconds": task,
        "most_seconds": max(seconds),
        "minutes": NUM_SITES * NUM_SEEDS * task / NUM_CORES / 60,
    }


def checks(body: dict[str, Any]) -> list[tuple[str, str, bool | None]]:
    """The claims that this benchmark decides: the claim, what was measured, whether it holds."""
    rows: list[tuple[str, str, bool | None]] = []
    means = {group: found[OURS, ""] for group, found in body["means"].items()}
    everywhere = over_sites(body["worths"][OURS, ""])
    harder = " (beyond the goal)" if len(means) > 1 else ""
    for name, own, note in (("all sites", everywhere, ""), *((g, m, harder) for g, m in means.items())):
        claim = f"{name}: mean ratio at least 0.995{note}"
        rows.append((claim, f"{own.ratio:.4f}", own.ratio >= 0.995))
        worst = f"{own.worst:.4f} ({own.worst_site})"
        rows.append((f"{name}: ratio at least 0.98 at every site{note}", worst, own.worst >= 0.98))
    for group, routes in body.get("against_pyoperon", {}).items():
        for route, got in routes.items():
            text = f"{got['difference']:+.4f} at {got['ours_lut6']:.1f} against {got['lut6']:.1f} LUT6"
            claim = f"{group}: not more than 0.002 below pyoperon's best ({route}), cheaper, on average"
            holds = got["difference"] >= -0.002 and got["ours_lut6"] < got["lut6"]
            rows.append((claim, text, holds))
    for names, claim in (
        ([n for n in body["compared"]["counts"] if n != LIBRARY], "each fitted baseline"),
        ([LIBRARY], "the best of all fitted forms (beyond the goal)"),
    ):
        cases = [c for c in body["compared"]["cases"] if c["baseline"] in names]
        if cases:
            what = f"at equal or lower price than {claim}, R^2 not lower by over 2 standard errors"
            rows.append((what, *_not_lower(cases)))
    if "captured" in body["means"]:
        own = body["means"]["captured"][OURS, ""]
        text = f"{own.prices[0]:.1f} LUT6 at {own.reached[0]} of {own.num_sites} sites"
        holds = own.reached[0] == own.num_sites and own.prices[0] <= 25
        rows.append((f"captured: mean price at ratio {RATIOS[0]} at most 25 LUT6", text, holds))
    for name, price in (("last", "the least"), ("first", "our first (beyond the goal)")):
        got = body["races"][name] if "races" in body else None
        if got is None:
            continue
        text = "never reached" if got["factor"] is None else f"{got['factor']:.1f} times"
        holds = got["factor"] is not None and got["factor"] >= 5
        claim = f"time to ratio {TIME_RATIO} at the same price, {price}: 5 times shorter than plain DEAP"
        rows.append((claim, text, holds))
    if "published" in body:
        stated = [p for p in body["published"] if p["stated_flops"] is not None]
        right = sum(p["flops"] == p["stated_flops"] for p in stated)
        rows.append(
            ("published FLOP counts are ours, too", f"{right} of {len(stated)}", right == len(stated))
        )
    if "scale" in body:
        minutes = body["scale"]["minutes"]
        claim = f"{NUM_SITES} sites x {NUM_SEEDS} seeds on {NUM_CORES} cores are minutes (at most 10)"
        rows.append((claim, f"{minutes:.1f} minutes", minutes <= 10))
    return rows
