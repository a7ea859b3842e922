"""One task of an evolution: one site, one seed, from pairs to a priced front of hardware functions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

from gp.baselines import BASELINES, Fitted, fit_forms
from gp.ceiling import estimate_ceiling
from gp.cost import Pricer, flops, nodes
from gp.exceptions import ceiling_beside, count_exceptions
from gp.fitness import CodeStats, Split, bin_pairs, r2, split_pairs
from gp.front import significant
from gp.lowering import Lowering, Priced
from gp.normalise import input_exponent
from gp.pairs import load_pairs
from gp.primitives import to_expr
from gp.rewrite import substitute
from gp.search import Candidate, Found, SearchSettings, search
from sw.config import EvolveConfig
from sw.ir.errors import InputError
from sw.ir.expr import Expr, X, const, evaluate, node
from sw.ir.formats import FixedFormat
from sw.ir.interpret import table
from sw.stage import code_digest

MIN_CORE_GAIN = 1e-4
"""R^2 that a core must gain over cheaper ones to be worth turning into hardware functions."""
MIN_MOVE = 1e-5
"""The front moves as long as its mean error falls by this within ``patience`` generations."""
IRRELEVANT = ("jobs", "scheduler", "seeds", "choose", "price_budget", "ratio")
"""Settings that decide nothing within a task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What one worker needs to know; everything but where ``pairs`` lie decides the result."""

    site: str
    index: int
    """Which of the site's seeds."""
    run_seed: int
    pairs: str
    """Path of the npz with ``<site>_x`` and ``<site>_y``."""
    pairs_sha256: str
    """Of this site's x, y and weights."""
    input: str
    output: str
    kind: str
    max_ulp: int
    settings: EvolveConfig

    def digest(self) -> str:
        """sha256 of what decides the result, the code included."""
        settings = dataclasses.asdict(self.settings)
        for irrelevant in IRRELEVANT:
            del settings[irrelevant]
        body = dataclasses.asdict(self) | {"settings": settings, "code": code_digest("gp", "sw.ir")}
        del body["pairs"]  # a path; what it holds is in pairs_sha256
        body["versions"] = [platform.python_version(), *map(metadata.version, ("numpy", "mpmath", "deap"))]
        if self.settings.budget_s:
            body["seeds"] = self.settings.seeds
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    @property
    def seed(self) -> int:
        """The seed of the search, its own for every site, index and run seed."""
        text = f"{self.site}/{self.index}/{self.run_seed}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def pricer(self) -> Pricer:
        """What realises and prices functions of this site."""
        formats = FixedFormat.parse(self.input), FixedFormat.parse(self.output)
        return Pricer(*formats, self.kind, self.max_ulp, self.settings.price)

    def lowering(self, split: Split, affine: str | None = None) -> Lowering:
        """An empty front for these pairs; what folds is as the settings say, or ``affine``."""
        settings = self.settings
        return Lowering(
            self.pricer(), split, csd_digits=settings.csd_digits, affine=affine or settings.affine
        )


def read_split(task: Task) -> Split:
    """The task's pairs; without weights where the settings do not ask for them."""
    x, y, w = load_pairs(Path(task.pairs), task.site)
    weights = w if task.settings.weights == "sensitivity" else None
    split = split_pairs(x, y, weights, share=task.settings.held_out, seed=task.run_seed)
    if split.y.min() == split.y.max():
        raise InputError(
            f"'{task.site}_y' must vary among the pairs that are not held out, not be {split.y[0]:g}"
        )
    return split


def run_task(task: Task) -> dict[str, Any]:
    """Search, turn what is found into hardware functions, price them exactly.

    Returns:
        JSON: ``front`` in rising price (the keys of ``functions.json``'s entries and ``train_r2``),
        ``generations``, ``evaluations``, ``repeats``, ``stopped_by``, ``digest``; the site's first task
        also gives ``ceiling`` and ``baselines``.
    """
    split = read_split(task)
    lowering = task.lowering(split)
    result: dict[str, Any] = {"digest": task.digest()}
    lowering.offer_clamps()
    known = fit_forms(split) if task.index == 0 else {}
    found = evolve_site(task, split, lowering, [form.expr for form in known.values()])
    if task.index == 0:
        ceilings = estimate_ceiling(split), ceiling_beside(split, FixedFormat.parse(task.input))
        result["ceiling"] = max(*ceilings, *(form.r2 for form in known.values()))
        result["baselines"] = {name: describe_form(task, split, known[name]) for name in BASELINES}
    front = [_entry(task, split, priced) for priced in lowering.front()]
    if not front:
        raise InputError(
            f"site '{task.site}' must have a function from {task.input} to {task.output} that kind "
            f"'{task.kind}' can realise, and none was found"
        )
    return result | {
        "front": front,
        "generations": found.generations,
        "evaluations": found.evaluations,
        "repeats": found.repeats,
        "stopped_by": found.stopped_by,
    }


def evolve_site(task: Task, split: Split, lowering: Lowering, known: Sequence[Expr]) -> Found:
    """Everything that a task does to fill a front of bare clamps: known forms, then the search.

    The search sees u = x * 2^-exponent, whose mean magnitude is about 1. A core that improves its front is
    lowered at once, so that the front of hardware functions decides when to stop.
    """
    settings = task.settings
    exponent = input_exponent(split.x)
    unit = node("mul", const(Fraction(2) ** -exponent), X)
    scale = 2.0**-exponent
    regular = lowering.exceptions.is_regular(split.x)
    x, y, w = (values[regular] for values in (split.x, split.y, split.w))
    target = bin_pairs(x * scale, y, w, growth_penalty=settings.growth_penalty)
    for expr in known:
        lowering.offer(expr)
    lowering.offer_whole(known)
    explained = 1.0 - target.noise * w.sum() / split.w.sum() / lowering.variance
    watch = _Watch(lowering, settings, target.variance, explained, unit)
    found = search(
        target,
        SearchSettings(
            population=settings.population,
            generations=settings.generations,
            max_nodes=settings.max_nodes,
            tournament=settings.tournament,
            islands=settings.islands,
            csd_digits=settings.csd_digits,
            price=settings.price,
            budget_s=settings.budget_s / settings.seeds,
        ),
        task.seed,
        watch,
    )
    points = [(c.price, c.fit.loss / target.variance) for c in found.front]
    cores = [substitute(to_expr(found.front[i].tree), unit) for i in significant(points, MIN_CORE_GAIN)]
    for core in cores:
        lowering.offer(core)
    lowering.offer_whole(cores)
    return found


class _Watch:
    """Lowers what is new on a search's front, and says when the hardware front is done."""

    def __init__(
        self, lowering: Lowering, settings: EvolveConfig, variance: float, explained: float, unit: Expr
    ) -> None:
        self._lowering, self._settings = lowering, settings
        self._variance, self._explained, self._unit = variance, explained, unit
        self._offered: set[Candidate] = set()
        self._areas: list[float] = []

    def __call__(self, front: Sequence[Candidate]) -> str:
        points = [(c.price, c.fit.loss / self._variance) for c in front]
        for index in significant(points, MIN_CORE_GAIN):
            candidate = front[index]
            if candidate not in self._offered:
                self._offered.add(candidate)
                self._lowering.offer(substitute(to_expr(candidate.tree), self._unit))
        self._areas.append(self._lowering.area)
        if 1.0 - self._lowering.best_error >= self._settings.stop_ratio * self._explained:
            return "ratio"
        patience = self._settings.patience
        moved = [old - self._areas[-1] for old in self._areas[-1 - patience :][:1]]
        return "stalled" if 0 < patience < len(self._areas) and moved[0] < MIN_MOVE else ""


def _entry(task: Task, split: Split, priced: Priced) -> dict[str, Any]:
    """A function of a front as ``functions.json`` has it."""
    predicted = priced.scale * evaluate(priced.expr, split.held_x) + priced.offset
    return {
        "expression": str(priced.expr),
        "scale": priced.scale,
        "offset": priced.offset,
        "train_r2": 1.0 - priced.error,
        "r2": r2(split.held_y, predicted, split.held_w),
        "r2_fixed": _r2_fixed(task, split, priced),
        "price": priced.price,
        "price_lut6": priced.realization.lut6,
        "realization": priced.realization.kind,
        "max_ulp": priced.realization.max_ulp,
        "exceptions": count_exceptions(priced.expr, FixedFormat.parse(task.input)),
        "nodes": nodes(priced.expr),
        "flops": flops(priced.expr),
        "seed": task.index,
    }


def _r2_fixed(task: Task, split: Split, priced: Priced) -> float:
    """R^2 of the integer map on the held-out pairs."""
    held = CodeStats.of(split.held_x, split.held_y, FixedFormat.parse(task.input), split.held_w)
    codes = FixedFormat.parse(task.output).to_real(table(priced.realization.program))
    return held.r2(codes, priced.scale, priced.offset)


def form_json(form: Fitted) -> dict[str, Any]:
    """A fitted known form as ``functions.json`` has it: in float64, its affine beside it."""
    body = dataclasses.asdict(form) | {"expression": str(form.expr), "parameters": list(form.parameters)}
    return {key: body[key] for key in ("expression", "scale", "offset", "r2", "parameters")}


def describe_form(task: Task, split: Split, form: Fitted) -> dict[str, Any]:
    """A fitted known form: in float64, and the most accurate hardware of it, on all bits of x.

    ``fixed`` is the function that this hardware computes: the form with its outer affine as the output's
    format has it.
    """
    lowering = task.lowering(split, affine="none" if form.name == "dyt" else None)
    lowering.offer_whole([form.expr])
    body = form_json(form)
    front = lowering.front()
    if not front:
        return body
    best = min(front, key=lambda p: (p.error, p.price))
    return body | {
        "fixed": str(best.expr),
        "price_lut6": best.realization.lut6,
        "realization": best.realization.kind,
        "r2_fixed": _r2_fixed(task, split, best),
    }
