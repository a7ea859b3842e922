"""Which jobs the benchmark consists of, and what their results are together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gp_bench.figures import Worth, median, opponents, to_points, worth
from benchmarks.gp_bench.jobs import Job, do_all, result_file
from benchmarks.gp_bench.published import FUNCTIONS
from benchmarks.gp_bench.scoring import Point
from benchmarks.gp_bench.sites import FAMILIES
from benchmarks.gp_bench.variants import PATCHES
from benchmarks.gp_engines.engines import ENGINES
from gp.baselines import BASELINES

OURS = "ours"
DEAP = "plain DEAP"
LIBRARY = "best of the library"
ROUTES = ("as written", "our lowering")
PARTS = ("ablation", "published", "scale")
"""What is measured beside engines and baselines."""
ABLATION_SITES = ("blocks.1.norm1", "norm", "tokens_0.5", "tokens_1.0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is measured."""

    sites: tuple[str, ...]
    run: str = "runs/digits"
    seconds: float = 20.0
    seeds: int = 3
    workers: int = 2
    engines: tuple[str, ...] = tuple(ENGINES)
    forms: tuple[str, ...] = ()
    """Of ``gp.baselines.FORMS``; none: all."""
    parts: tuple[str, ...] = PARTS
    ablation_seconds: float = 5.0
    cache: Path = Path("build/gp_bench")

    def job(self, kind: str, **fields: Any) -> Job:
        return Job(kind=kind, run=self.run, **fields)

    def ours(self, site: str, seed: int) -> Job:
        return self.job("ours", site=site, seed=seed, seconds=self.seconds)

    def compete(self, engine: str, site: str, seed: int) -> Job:
        return self.job("compete", engine=engine, site=site, seed=seed, seconds=self.seconds)

    def score(self, engine: str, site: str, seed: int) -> Job:
        made = str(result_file(self.compete(engine, site, seed), self.cache))
        variant = "in time" if engine == DEAP else ""
        return self.job("score", engine=engine, site=site, seed=seed, variant=variant, detail=(made,))

    def baselines(self, site: str) -> Job:
        return self.job("baselines", site=site, detail=self.forms)

    def ablation(self, variant: str, site: str, seed: int) -> Job:
        return self.job("ours", site=site, variant=variant, seed=seed, seconds=self.ablation_seconds)

    def published(self) -> list[Job]:
        return [Job(kind="published", run=self.run, detail=(formula,)) for formula in FUNCTIONS]

    def default(self, site: str) -> Job:
        return self.job("default", site=site)

    @property
    def ablation_sites(self) -> tuple[str, ...]:
        return tuple(site for site in ABLATION_SITES if site in self.sites)

    @property
    def groups(self) -> dict[str, list[str]]:
        """Captured sites and families."""
        groups = {
            "captured": [s for s in self.sites if s not in FAMILIES],
            "families": [s for s in self.sites if s in FAMILIES],
        }
        return {name: sites for name, sites in groups.items() if sites}


@dataclass(slots=True)
class Results:
    """All that was measured, by job, and the sites' ceilings."""

    plan: Plan
    of: dict[Job, Any]
    ceilings: dict[str, float] = field(default_factory=dict)
    compared: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    """(site, baseline, seed) -> ours, other, gain, error; no gain where we have nothing at that price."""

    def ours(self, site: str, seed: int) -> list[Point]:
        """Our front when the seconds were over."""
        return to_points(self.of[self.plan.ours(site, seed)]["front"])

    def form(self, site: str, name: str, route: str) -> list[Point]:
        """Hardware of a fitted form, or of all of them."""
        forms = self.of[self.plan.baselines(site)]["forms"]
        names = list(forms) if name == LIBRARY else [name]
        return [p for n in names for p in to_points(forms[n][route])]

    def engine(self, engine: str, site: str, seed: int, route: str) -> list[Point]:
        """Hardware of another engine's formulas."""
        return to_points(self.of[self.plan.score(engine, site, seed)][route])

    def line(self, site: str) -> float:
        return float(self.of[self.plan.baselines(site)]["forms"]["linear"]["r2"])

    @property
    def form_names(self) -> list[str]:
        """The reported baselines among the forms that were fitted, and all of them together."""
        return [n for n in BASELINES if not self.plan.forms or n in self.plan.forms] + [LIBRARY]

    def worths(self) -> dict[tuple[str, str], dict[str, Worth]]:
        """(engine or baseline, route) -> site -> what it is worth, the median over seeds."""
        seeds = range(self.plan.seeds)
        rows: dict[tuple[str, str], dict[str, Worth]] = {(OURS, ""): {}}
        for site in self.plan.sites:
            fronts: dict[tuple[str, str], list[list[Point]]] = {
                (OURS, ""): [self.ours(site, s) for s in seeds]
            }
            for route in ROUTES:
                for name in self.form_names:
                    fronts[name, route] = [self.form(site, name, route)]
                for engine in self.plan.engines:
                    fronts[engine, route] = [self.engine(engine, site, s, route) for s in seeds]
            for row, found in fronts.items():
                judged = [worth(points, self.ceilings[site], self.line(site)) for points in found]
                rows.setdefault(row, {})[site] = median(judged)
        return rows


def measure(plan: Plan) -> Results:
    """Do all jobs of a plan."""
    seeds = range(plan.seeds)
    runs = [plan.ours(site, seed) for site in plan.sites for seed in seeds]
    pairs = [(engine, site, seed) for engine in plan.engines for site in plan.sites for seed in seeds]
    runs += [plan.compete(*pair) for pair in pairs]
    rest = [plan.baselines(site) for site in plan.sites]
    if "ablation" in plan.parts:
        runs += [plan.ablation(v, site, s) for v in PATCHES for site in plan.ablation_sites for s in seeds]
    if "published" in plan.parts:
        rest += plan.published()
    if "scale" in plan.parts:
        runs += [plan.default(site) for site in plan.groups.get("captured", [])]
    results = Results(plan, do_all(runs, plan.cache, workers=plan.workers, label="gp bench: runs"))
    rest += [plan.score(*pair) for pair in pairs]
    results.of |= do_all(rest, plan.cache, workers=plan.workers, label="gp bench: scores")
    results.ceilings = {site: _ceiling(results, site) for site in plan.sites}
    _compare(results)
    return results


def _ceiling(results: Results, site: str) -> float:
    """The best that anything reached on the site's held-out pairs, smoothers included."""
    plan = results.plan
    base = results.of[plan.baselines(site)]
    reached = [base["ceiling"], *(form["r2"] for form in base["forms"].values())]
    for route in ROUTES:
        reached += [p.r2 for p in results.form(site, LIBRARY, route)]
    for seed in range(plan.seeds):
        reached += _reached(results.of[plan.ours(site, seed)])
        for engine in plan.engines:
            scored: Mapping[str, Any] = results.of[plan.score(engine, site, seed)]
            reached += [*scored["float_r2"], *(p["r2"] for route in ROUTES for p in scored[route])]
            reached += [mark["r2"] for mark in scored["marks"]]
        for variant in PATCHES if "ablation" in plan.parts and site in plan.ablation_sites else ():
            reached += _reached(results.of[plan.ablation(variant, site, seed)])
    return max(reached)


def _reached(run: Mapping[str, Any]) -> list[float]:
    return [found["r2"] for found in (*run["marks"], *run["front"])]


def _compare(results: Results) -> None:
    """Fill ``compared``."""
    plan = results.plan
    jobs: list[Job] = []
    found: dict[Job, list[tuple[tuple[str, str, int], Point, Point]]] = {}
    for site in plan.sites:
        entries = []
        for name in results.form_names:
            others = [p for route in ROUTES for p in results.form(site, name, route)]
            for seed in range(plan.seeds):
                ours, other = opponents(results.ours(site, seed), others)
                if ours is None:
                    results.compared[site, name, seed] = {"price": other.price, "r2": other.r2}
                else:
                    entries.append(((site, name, seed), ours, other))
        detail = tuple(text for _, ours, other in entries for text in (ours.expr, other.expr))
        job = plan.job("compare", site=site, detail=detail)
        jobs.append(job)
        found[job] = entries
    done = do_all(jobs, plan.cache, workers=plan.workers, label="gp bench: comparisons")
    for job, entries in found.items():
        for (key, ours, other), (gain, error) in zip(entries, done[job], strict=True):
            results.compared[key] = {
                "ours_price": ours.price,
                "price": other.price,
                "r2": other.r2,
                "gain": gain,
                "error": error,
                "learning_gain": ours.train_r2 - other.train_r2,
            }
