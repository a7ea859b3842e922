"""One task of an evolution: one site, one seed, from pairs to a priced front of hardware functions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gp.baselines import estimate_ceiling, fit_baselines
from gp.cost import Pricer, flops, guess_expr, nodes
from gp.fitness import CodeStats, Split, bin_pairs, r2, split_pairs
from gp.front import Archive, significant
from gp.normalise import Normaliser, input_exponent
from gp.primitives import to_expr
from gp.search import Found, SearchSettings, search
from sw.config import EvolveConfig
from sw.ir.errors import InputError
from sw.ir.expr import Expr, evaluate
from sw.ir.formats import FixedFormat
from sw.ir.interpret import table
from sw.ir.realize.target import NotApplicableError
from sw.stage import code_digest

MAX_PRICED = 16
"""Formulas that get an exact price in one task."""
MIN_GAIN = 2e-4
"""R^2 that a formula must gain over the next cheaper one to be worth an exact price."""
MIN_CORE_GAIN = 1e-4
"""R^2 that a core must gain to be worth turning into hardware formulas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What one worker needs to know; everything but ``pairs`` and ``index`` decides the result."""

    site: str
    index: int
    """Which of the site's seeds."""
    run_seed: int
    pairs: str
    """Path of the npz with ``<site>_x`` and ``<site>_y``."""
    pairs_sha256: str
    """Of this site's x and y."""
    input: str
    output: str
    kind: str
    max_ulp: int
    settings: EvolveConfig

    def digest(self) -> str:
        """sha256 of what decides the result, the code included."""
        settings = dataclasses.asdict(self.settings)
        for irrelevant in ("jobs", "seeds", "choose"):
            del settings[irrelevant]
        body = dataclasses.asdict(self) | {"settings": settings, "pairs": code_digest("gp", "sw.ir")}
        if self.settings.budget_s:
            body["seeds"] = self.settings.seeds
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    @property
    def seed(self) -> int:
        """The seed of the search, its own for every site, index and run seed."""
        text = f"{self.site}/{self.index}/{self.run_seed}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def run_task(task: Task) -> dict[str, Any]:
    """Search, turn the front into hardware functions, price them exactly.

    Returns:
        JSON: ``front`` in rising price (the keys of ``functions.json``'s entries and ``train_r2``),
        ``generations``, ``evaluations``, ``stopped_by``, ``digest``; the site's first task also gives
        ``ceiling`` and ``baselines``.
    """
    with np.load(Path(task.pairs)) as arrays:
        x, y = arrays[f"{task.site}_x"], arrays[f"{task.site}_y"]
    split = split_pairs(x, y, share=task.settings.held_out, seed=task.run_seed)
    found = _search(task, split)
    result: dict[str, Any] = {
        "digest": task.digest(),
        "front": _priced(task, split, _forms(task, split, found)),
        "generations": found.generations,
        "evaluations": found.evaluations,
        "stopped_by": found.stopped_by,
    }
    if task.index == 0:
        result |= {"ceiling": estimate_ceiling(split), "baselines": fit_baselines(split)}
    return result


def _search(task: Task, split: Split) -> Found:
    """The search sees u = x * 2^-exponent, whose mean magnitude is about 1."""
    unit = 2.0 ** -input_exponent(split.x)
    target = bin_pairs(split.x * unit, split.y, growth_penalty=task.settings.growth_penalty)
    settings = SearchSettings(
        population=task.settings.population,
        generations=task.settings.generations,
        max_nodes=task.settings.max_nodes,
        tournament=task.settings.tournament,
        budget_s=task.settings.budget_s / task.settings.seeds,
    )
    return search(target, settings, task.seed)


def _forms(task: Task, split: Split, found: Found) -> list[Expr]:
    """The hardware functions that look worth an exact price, by their error and a guess at their price."""
    input, output = FixedFormat.parse(task.input), FixedFormat.parse(task.output)
    target = bin_pairs(split.x, split.y, growth_penalty=0.0)
    normaliser = Normaliser(input, output, target)
    stats = CodeStats.of(split.x, split.y, input)
    reals = input.to_real(input.codes())
    archive: Archive[Expr] = Archive()
    exponent = input_exponent(split.x)
    points = [(c.price, c.fit.loss / target.variance) for c in found.front]
    for candidate in (found.front[i] for i in significant(points, MIN_CORE_GAIN)):
        for form in normaliser.forms(to_expr(candidate.tree), exponent, task.settings.csd_digits):
            codes = output.to_real(output.quantize(evaluate(form, reals)))
            archive.add(guess_expr(form), 1.0 - stats.r2(codes, *stats.fit(codes)), form)
    return _thinned(archive)


def _thinned(archive: Archive[Expr]) -> list[Expr]:
    """At most ``MAX_PRICED`` of a front's items: the ends, and evenly between them what gains enough."""
    kept = [archive.items[i] for i in significant(archive.points, MIN_GAIN)]
    if len(kept) <= MAX_PRICED:
        return kept
    return [kept[round(i)] for i in np.linspace(0, len(kept) - 1, MAX_PRICED)]


def _priced(task: Task, split: Split, forms: Sequence[Expr]) -> list[dict[str, Any]]:
    """The front of the realised maps: exact price against the error on the learning pairs."""
    input, output = FixedFormat.parse(task.input), FixedFormat.parse(task.output)
    pricer = Pricer(input, output, task.kind, task.max_ulp)
    train = CodeStats.of(split.x, split.y, input)
    held = CodeStats.of(split.held_x, split.held_y, input)
    archive: Archive[dict[str, Any]] = Archive()
    for form in forms:
        try:
            realized = pricer.realize(form)
        except NotApplicableError:
            continue  # a forced kind that cannot do this map
        codes = output.to_real(table(realized.program))
        scale, offset = train.fit(codes)
        train_r2 = train.r2(codes, scale, offset)
        entry = {
            "expression": str(form),
            "scale": scale,
            "offset": offset,
            "train_r2": train_r2,
            "r2": r2(split.held_y, scale * evaluate(form, split.held_x) + offset),
            "r2_fixed": held.r2(codes, scale, offset),
            "price_lut6": realized.lut6,
            "realization": realized.kind,
            "max_ulp": realized.max_ulp,
            "nodes": nodes(form),
            "flops": flops(form),
            "seed": task.index,
        }
        archive.add(realized.lut6, 1.0 - train_r2, entry)
    if not len(archive):
        raise InputError(
            f"site '{task.site}' must have a function from {input} to {output} that kind '{task.kind}' "
            f"can realise, not none of {len(forms)}"
        )
    return archive.items
