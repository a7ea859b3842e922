"""One search: DEAP trees evolved against the binned pairs of one site, from one seed.

Starting point is the paper's method (arXiv 2605.14047: primitives, soft tournament on non-dominated
ranks, archive, growth penalty). Different are the free outer affine, the price (a guess at LUTs), the
tuning of every new tree's constants, the seeding with known forms, islands, and that nothing is evaluated
twice.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gp.cost import SKELETON_PRICES
from gp.evaluator import compile_skeleton
from gp.fitness import UNUSABLE, Scaled, Target
from gp.front import Archive, ranks
from gp.grid import snap_float
from gp.primitives import Tree, build, constants, seeded, skeleton
from gp.trees import crossed, known_trees, mutated, random_tree, simplify
from gp.tuning import tune

TUNE_STEPS = 3
"""Steps for every new tree."""
FINAL_STEPS = 30
"""Steps for what is in the archive at the end."""
CROSSOVER_SHARE = 0.6
MUTATION_SHARE = 0.5
"""Of the children of a crossover, and of what was not crossed, this share is mutated."""
MIGRATION_EVERY, MIGRANTS = 5, 10
"""Generations between two migrations, and how many of an island's best visit the next island then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """See ``sw.config.EvolveConfig``."""

    population: int
    generations: int
    max_nodes: int
    tournament: int
    islands: int = 1
    csd_digits: int = 0
    """Non-zero signed digits of every constant; 0: any double."""
    price: str = "lut6"
    budget_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A tree with tuned constants."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    fit: Scaled
    price: float
    """A guess at its LUT6, or the paper's price."""

    @property
    def tree(self) -> Tree:
        return build(self.names, self.values)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search leaves: its front in rising price, and why it stopped."""

    front: tuple[Candidate, ...]
    generations: int
    evaluations: int
    """Distinct trees that were tuned and scored."""
    repeats: int
    """Trees that had been seen before and cost nothing."""
    stopped_by: str
    """``generations``, ``budget``, or what ``watch`` said."""


Watch = Callable[[Sequence[Candidate]], str]
"""Sees the front after every generation; what it returns, if not '', stops the search."""


def search(target: Target, settings: SearchSettings, seed: int, watch: Watch = lambda front: "") -> Found:
    """Evolve scalar functions that fit the target, cheap ones and accurate ones.

    The result depends on the arguments alone unless the time budget ended it; the global ``random``
    is left as it was.
    """
    with seeded(seed), np.errstate(all="ignore"):
        return _Search(target, settings).run(watch)


class _Search:
    def __init__(self, target: Target, settings: SearchSettings) -> None:
        self.target = target
        self.settings = settings
        self.archive: Archive[Candidate] = Archive()
        self.repeats = 0
        self._price = SKELETON_PRICES[settings.price]
        self._seen: set[tuple[tuple[str, ...], tuple[float, ...]]] = set()
        self._scored: set[tuple[float, float]] = set()

    def run(self, watch: Watch) -> Found:
        settings = self.settings
        deadline = time.monotonic() + settings.budget_s if settings.budget_s else math.inf
        islands = self._settled()
        generation, stopped_by = 0, watch(self.archive.items)
        while not stopped_by:
            if generation >= settings.generations:
                stopped_by = "generations"
            elif time.monotonic() >= deadline:
                stopped_by = "budget"
            else:
                generation += 1
                islands = [self._next(island) for island in islands]
                if generation % MIGRATION_EVERY == 0:
                    islands = _migrated(islands)
                stopped_by = watch(self.archive.items)
        return Found(self._polished(), generation, len(self._seen), self.repeats, stopped_by)

    def _settled(self) -> list[list[Candidate]]:
        """The first population of every island; the known forms are dealt out over them."""
        num = self.settings.islands
        known = known_trees()
        return [
            self._evaluated([*known[i::num], *(random_tree() for _ in range(self._size))]) for i in range(num)
        ]

    @property
    def _size(self) -> int:
        """Candidates on one island."""
        return max(4, self.settings.population // self.settings.islands)

    def _next(self, population: list[Candidate]) -> list[Candidate]:
        """The front stays, the rest are children of soft tournaments."""
        size = self._size
        rank = ranks([(c.price, c.fit.loss) for c in population])
        kept = [c for c, r in zip(population, rank, strict=True) if r == 0][: size // 2]
        children: list[Tree] = []
        while len(children) < size - len(kept) and population:
            first, second = (self._pick(population, rank).tree for _ in range(2))
            pair = [first, second]
            if random.random() < CROSSOVER_SHARE:
                pair = crossed(first, second, self.settings.max_nodes)
                children += [self._maybe_mutated(t) for t in pair]
            else:
                children += [mutated(t, self.settings.max_nodes) for t in pair]
        new = self._evaluated(children)
        fresh = [random_tree() for _ in range(size - len(kept) - len(new))]
        return [*kept, *new, *self._evaluated(fresh)] or population

    def _maybe_mutated(self, tree: Tree) -> Tree:
        return mutated(tree, self.settings.max_nodes) if random.random() < MUTATION_SHARE else tree

    def _pick(self, population: Sequence[Candidate], rank: Sequence[int]) -> Candidate:
        """A tournament whose winner is drawn with probability proportional to 1 / (rank + 1)."""
        entrants = random.sample(range(len(population)), min(self.settings.tournament, len(population)))
        return population[random.choices(entrants, [1.0 / (rank[i] + 1) for i in entrants])[0]]

    def _evaluated(self, trees: Sequence[Tree]) -> list[Candidate]:
        """The usable ones among new trees, tuned, each one once; the archive gets to see them."""
        result = []
        for tree in trees:
            candidate = self._evaluate(simplify(tree))
            if candidate is not None:
                result.append(candidate)
                self.archive.add(candidate.price, candidate.fit.loss, candidate)
        return result

    def _evaluate(self, tree: Tree) -> Candidate | None:
        if len(tree) > self.settings.max_nodes:
            return None
        names, values = skeleton(tree), constants(tree)
        if "x" not in names:
            return None
        if (names, values) in self._seen:
            self.repeats += 1
            return None
        self._seen.add((names, values))
        candidate = self._tuned(names, values, TUNE_STEPS)
        if candidate.fit is UNUSABLE or not math.isfinite(candidate.fit.loss):
            return None
        score = (candidate.price, candidate.fit.loss)
        if score in self._scored:
            return None
        self._scored.add(score)
        return candidate

    def _tuned(self, names: tuple[str, ...], values: tuple[float, ...], steps: int) -> Candidate:
        """Constants tuned by least squares, then put back on their grid, and scored there."""
        code = compile_skeleton(names)
        tuned, fit = tune(code, values, self.target, steps)
        if self.settings.csd_digits and tuned:
            tuned = tuple(snap_float(v, self.settings.csd_digits) for v in tuned)
            fit = self.target.fit(code.value(self.target.x, tuned))
        return Candidate(names, tuned, fit, self._price(names))

    def _polished(self) -> tuple[Candidate, ...]:
        """The archive after many more tuning steps."""
        final: Archive[Candidate] = Archive()
        for candidate in self.archive.items:
            final.add(candidate.price, candidate.fit.loss, candidate)
            better = self._tuned(candidate.names, candidate.values, FINAL_STEPS)
            final.add(better.price, better.fit.loss, better)
        return tuple(final.items)


def _migrated(islands: list[list[Candidate]]) -> list[list[Candidate]]:
    """Every island's best in a ring to the next one."""
    best = [sorted(island, key=lambda c: (c.fit.loss, c.price))[:MIGRANTS] for island in islands]
    return [[*island, *best[i - 1]] if len(islands) > 1 else island for i, island in enumerate(islands)]
