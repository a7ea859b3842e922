"""One search: DEAP trees evolved against the binned pairs of one site, from one seed.

Starting point is the paper's method (arXiv 2605.14047: primitives, soft tournament on non-dominated
ranks, archive, growth penalty). Different are the free outer affine, the price (a guess at LUTs), the
tuning of every new tree's constants, the seeding with known forms, and that nothing is evaluated twice.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gp.cost import guess
from gp.evaluator import compile_skeleton
from gp.fitness import UNUSABLE, Scaled, Target
from gp.front import Archive, ranks
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


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """See ``sw.config.EvolveConfig``."""

    population: int
    generations: int
    max_nodes: int
    tournament: int
    budget_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A tree with tuned constants."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    fit: Scaled
    price: float
    """A guess at its LUT6."""

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
    stopped_by: str
    """``generations`` or ``budget``."""


def search(target: Target, settings: SearchSettings, seed: int) -> Found:
    """Evolve scalar functions that fit the target, cheap ones and accurate ones.

    The result depends on the arguments alone unless the time budget ended it; the global ``random``
    is left as it was.
    """
    with seeded(seed), np.errstate(all="ignore"):
        return _Search(target, settings).run()


class _Search:
    def __init__(self, target: Target, settings: SearchSettings) -> None:
        self.target = target
        self.settings = settings
        self.archive: Archive[Candidate] = Archive()
        self._seen: set[tuple[tuple[str, ...], tuple[float, ...]]] = set()
        self._scored: set[tuple[float, float]] = set()

    def run(self) -> Found:
        settings = self.settings
        deadline = time.monotonic() + settings.budget_s if settings.budget_s else math.inf
        population = self._evaluated([*known_trees(), *(random_tree() for _ in range(settings.population))])
        generation, stopped_by = 0, "generations"
        while generation < settings.generations:
            if time.monotonic() >= deadline:
                stopped_by = "budget"
                break
            generation += 1
            population = self._next(population)
        front = self._polished()
        return Found(front, generation, len(self._seen), stopped_by)

    def _next(self, population: list[Candidate]) -> list[Candidate]:
        """The front stays, the rest are children of soft tournaments."""
        size = self.settings.population
        rank = ranks([(c.price, c.fit.loss) for c in population])
        kept = [c for c, r in zip(population, rank, strict=True) if r == 0][: size // 2]
        children: list[Tree] = []
        while len(children) < size - len(kept):
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
        if (names, values) in self._seen or "x" not in names:
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
        tuned, fit = tune(compile_skeleton(names), values, self.target, steps)
        return Candidate(names, tuned, fit, guess(names))

    def _polished(self) -> tuple[Candidate, ...]:
        """The archive after many more tuning steps."""
        final: Archive[Candidate] = Archive()
        for candidate in self.archive.items:
            better = self._tuned(candidate.names, candidate.values, FINAL_STEPS)
            final.add(better.price, better.fit.loss, better)
        return tuple(final.items)
